//! The media graph as a value, for users to look at.

use std::fmt;
use std::path::PathBuf;

use super::bus_format::BusFormat;
use super::drivers::{Drivers, Which};
use super::graph::Pad;
use super::subdevices::Subdevices;
use crate::v4l2::device::Device;

/// The media graph that a video node belongs to, at the time of the call. Displays as a line for each entity and pad.
///
/// ```no_run
/// use framelease::v4l2::{Device, MediaGraph};
///
/// let camera = Device::find(|info| info.is_capture())?;
/// if let Some(graph) = MediaGraph::of(&camera) {
///     print!("{graph}");
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaGraph {
    /// The path of the media device, such as `/dev/media0`.
    pub path: PathBuf,
    /// The blocks and nodes.
    pub entities: Vec<MediaEntity>,
    /// The links between pads.
    pub links: Vec<MediaLink>,
}

/// A block or a node of a media graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaEntity {
    /// The name of the entity, such as `ov5640 1-003c`.
    pub name: String,
    /// The path of its node: a video node, or a subdevice.
    pub node: Option<PathBuf>,
    /// The pads, by index.
    pub pads: Vec<MediaPad>,
}

/// A pad of an entity: a place at which pictures enter or leave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaPad {
    /// The index of the pad in its entity.
    pub index: u32,
    /// `true` if pictures enter at the pad.
    pub is_sink: bool,
    /// The format of the pad. `None` for the pads of video nodes, and if it cannot be read.
    pub format: Option<BusFormat>,
}

/// A link from a source pad to a sink pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaLink {
    /// The place of the source's entity in [`MediaGraph::entities`], and the index of its pad.
    pub source: (usize, u32),
    /// The place of the sink's entity in [`MediaGraph::entities`], and the index of its pad.
    pub sink: (usize, u32),
    /// `true` if pictures go through the link.
    pub is_enabled: bool,
    /// `true` if the link cannot change.
    pub is_immutable: bool,
}

impl MediaGraph {
    /// Reads the graph of the media device that a video node belongs to. Returns `None` if it does not belong to one,
    /// or if the media device cannot be opened. Ioctls: `MEDIA_IOC_G_TOPOLOGY`, `VIDIOC_SUBDEV_G_FMT`.
    #[doc(alias = "MEDIA_IOC_G_TOPOLOGY")]
    #[doc(alias = "VIDIOC_SUBDEV_G_FMT")]
    pub fn of(device: &Device) -> Option<Self> {
        let (node, graph) = super::read(device)?;
        let drivers = Subdevices::new(&graph, device, node);
        let place = |id: u32| graph.entities.iter().position(|e| e.id == id);
        let links = graph.hops().filter_map(|hop| {
            Some(MediaLink {
                source: (place(hop.from.0.id)?, hop.from.1.index),
                sink: (place(hop.to.0.id)?, hop.to.1.index),
                is_enabled: hop.enabled,
                is_immutable: hop.immutable,
            })
        });
        let entities = graph.entities.iter().map(|entity| {
            let pad = |pad: Pad| MediaPad {
                index: pad.index,
                is_sink: pad.sink,
                format: drivers.format(Which::Active, (entity, pad)),
            };
            let mut pads: Vec<MediaPad> = graph.pads_of(entity.id).map(pad).collect();
            pads.sort_by_key(|pad| pad.index);
            MediaEntity { name: entity.name.clone(), node: entity.device.as_deref().map(PathBuf::from), pads }
        });
        Some(Self { path: PathBuf::from(&graph.path), entities: entities.collect(), links: links.collect() })
    }
}

/// Displays as `'ov5640 1-003c' /dev/v4l-subdev0`, with a line for each pad and each of its links.
impl fmt::Display for MediaGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        for (place, entity) in self.entities.iter().enumerate() {
            write!(f, "  '{}'", entity.name)?;
            match &entity.node {
                Some(node) => writeln!(f, " {}", node.display())?,
                None => writeln!(f)?,
            }
            for pad in &entity.pads {
                write!(f, "    {} {}", if pad.is_sink { "sink" } else { "source" }, pad.index)?;
                match &pad.format {
                    Some(format) => writeln!(f, " [{format}]")?,
                    None => writeln!(f)?,
                }
                for link in self.links.iter().filter(|link| link.source == (place, pad.index)) {
                    let name = self.entities.get(link.sink.0).map_or("?", |entity| &entity.name);
                    let state = match (link.is_enabled, link.is_immutable) {
                        (true, true) => " (fixed)",
                        (true, false) => "",
                        (false, _) => " (off)",
                    };
                    writeln!(f, "      -> '{name}':{}{state}", link.sink.1)?;
                }
            }
        }
        Ok(())
    }
}
