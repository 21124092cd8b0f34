//! The media graph of a video node: turns topology and formats into text. It does not use a descriptor.

use std::fmt::Write;

/// A processing block or a device node of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) id: u32,
    pub(super) name: String,
    /// Major and minor number of its device node.
    pub(super) node: Option<(u32, u32)>,
    /// `true` for a `/dev/v4l-subdev*`, whose pads have formats.
    pub(super) subdev: bool,
}

/// A pad of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pad {
    pub(super) id: u32,
    pub(super) entity: u32,
    pub(super) index: u32,
}

/// A data link from pad to pad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) source: u32,
    pub(super) sink: u32,
    pub(super) enabled: bool,
}

/// A media bus format on a pad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BusFormat {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) code: u32,
}

/// The topology of a media device.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    /// `/dev/media0`.
    pub(super) path: String,
    pub(super) entities: Vec<Entity>,
    pub(super) pads: Vec<Pad>,
    pub(super) links: Vec<Link>,
}

/// One link on the path to a video node.
#[derive(Clone, Copy, Debug)]
struct Hop<'a> {
    from: (&'a Entity, Pad),
    to: (&'a Entity, Pad),
    enabled: bool,
}

impl Graph {
    fn pad(&self, id: u32) -> Option<(&Entity, Pad)> {
        let pad = self.pads.iter().find(|p| p.id == id)?;
        Some((self.entities.iter().find(|e| e.id == pad.entity)?, *pad))
    }

    /// Returns the path to a video node, the link nearest to the node first. If no link into an entity is enabled,
    /// the path ends with its first disabled link.
    fn hops(&self, major: u32, minor: u32) -> Vec<Hop<'_>> {
        let mut hops: Vec<Hop<'_>> = Vec::new();
        // A mem-to-mem device has two entities with the same node. The picture arrives at the one that has a link
        // into it.
        let arrives = |e: &&Entity| {
            e.node == Some((major, minor))
                && self.links.iter().any(|l| self.pad(l.sink).is_some_and(|(to, _)| to.id == e.id))
        };
        let mut at = self.entities.iter().find(arrives).map(|e| e.id);
        while let Some(entity) = at.take() {
            let mut into: Vec<Hop<'_>> = self
                .links
                .iter()
                .filter_map(|l| Some(Hop { from: self.pad(l.source)?, to: self.pad(l.sink)?, enabled: l.enabled }))
                .filter(|h| h.to.0.id == entity)
                .collect();
            into.sort_by_key(|h| !h.enabled);
            // Graphs of mem-to-mem devices and of broken drivers contain cycles.
            if let Some(hop) = into.first().filter(|h| !hops.iter().any(|seen| seen.from.0.id == h.from.0.id)) {
                hops.push(*hop);
                at = hop.enabled.then_some(hop.from.0.id);
            }
        }
        hops
    }

    /// Returns the path to a video node in one line: `'sensor':0 [UYVY8_1X16 1920x1080] -> 'csi':0 …`. Returns `None`
    /// if no link leads to the node.
    pub(super) fn path_text(
        &self,
        major: u32,
        minor: u32,
        format: impl Fn(&Entity, u32) -> Option<BusFormat>,
    ) -> Option<String> {
        let hops = self.hops(major, minor);
        let mut text = String::new();
        for hop in hops.iter().rev() {
            if !text.is_empty() {
                text.push_str("; ");
            }
            let arrow = if hop.enabled { "->" } else { "-/-> (disabled)" };
            let _ = write!(text, "{} {arrow} {}", end(hop.from, &format), end(hop.to, &format));
        }
        (!text.is_empty()).then_some(text)
    }

    /// Returns the fault that keeps a pipeline from streaming, and the `media-ctl` line that corrects it. Returns
    /// `None` if the graph shows no path.
    pub(super) fn diagnosis(
        &self,
        major: u32,
        minor: u32,
        format: impl Fn(&Entity, u32) -> Option<BusFormat>,
    ) -> Option<String> {
        let hops = self.hops(major, minor);
        let path = &self.path;
        for hop in &hops {
            if !hop.enabled {
                let (from, to) = (hop.from, hop.to);
                return Some(format!(
                    "no link into '{}' is enabled; try: media-ctl -d {path} -l '\"{}\":{} -> \"{}\":{} [1]'",
                    to.0.name, from.0.name, from.1.index, to.0.name, to.1.index
                ));
            }
            let (Some(source), Some(sink)) = (format(hop.from.0, hop.from.1.index), format(hop.to.0, hop.to.1.index))
            else {
                continue;
            };
            if source != sink {
                return Some(format!(
                    "the pads differ: {} -> {}; try: media-ctl -d {path} -V '\"{}\":{} [fmt:{}/{}x{}]'",
                    end(hop.from, &format),
                    end(hop.to, &format),
                    hop.to.0.name,
                    hop.to.1.index,
                    code_name(source.code),
                    source.width,
                    source.height
                ));
            }
        }
        let last = hops.first().and_then(|h| Some((h.from, format(h.from.0, h.from.1.index)?)));
        let path = self.path_text(major, minor, &format)?;
        Some(match last {
            Some((_, bus)) => format!(
                "all pads agree ({path}); the node's own format does not fit {} {}x{}: set the same size",
                code_name(bus.code),
                bus.width,
                bus.height
            ),
            None => format!("the pads' formats cannot be read ({path})"),
        })
    }
}

fn end(at: (&Entity, Pad), format: &impl Fn(&Entity, u32) -> Option<BusFormat>) -> String {
    let (entity, pad) = at;
    match format(entity, pad.index) {
        Some(f) => format!("'{}':{} [{} {}x{}]", entity.name, pad.index, code_name(f.code), f.width, f.height),
        None => format!("'{}':{}", entity.name, pad.index),
    }
}

/// Returns the part after `MEDIA_BUS_FMT_` for the codes of cameras on i.MX, and the number for others.
fn code_name(code: u32) -> String {
    let name = match code {
        0x0001 => "FIXED",
        0x100a => "RGB888_1X24",
        0x1008 => "RGB565_1X16",
        0x2001 => "Y8_1X8",
        0x200a => "Y10_1X10",
        0x2006 => "UYVY8_2X8",
        0x2008 => "YUYV8_2X8",
        0x200f => "UYVY8_1X16",
        0x2011 => "YUYV8_1X16",
        0x2025 => "YUV8_1X24",
        0x3001 => "SBGGR8_1X8",
        0x3013 => "SGBRG8_1X8",
        0x3002 => "SGRBG8_1X8",
        0x3014 => "SRGGB8_1X8",
        0x3007 => "SBGGR10_1X10",
        0x300e => "SGBRG10_1X10",
        0x300a => "SGRBG10_1X10",
        0x300f => "SRGGB10_1X10",
        0x3008 => "SBGGR12_1X12",
        0x3010 => "SGBRG12_1X12",
        0x3011 => "SGRBG12_1X12",
        0x3012 => "SRGGB12_1X12",
        _ => return format!("{code:#06x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sensor:0 -> csi:0, csi:1 -> isi:0, isi:1 -> video (81:3)
    fn graph() -> Graph {
        let entity = |id, name: &str, node| Entity { id, name: name.into(), node, subdev: id != 4 };
        let pad = |id, entity, index| Pad { id, entity, index };
        let link = |source, sink| Link { source, sink, enabled: true };
        Graph {
            path: "/dev/media0".into(),
            entities: vec![
                entity(1, "ov5640 1-003c", Some((81, 10))),
                entity(2, "csis-32e40000.csi", Some((81, 11))),
                entity(3, "mxc_isi.0", Some((81, 12))),
                entity(4, "mxc_isi.0.capture", Some((81, 3))),
            ],
            pads: vec![pad(11, 1, 0), pad(20, 2, 0), pad(21, 2, 1), pad(30, 3, 0), pad(31, 3, 1), pad(40, 4, 0)],
            links: vec![link(11, 20), link(21, 30), link(31, 40)],
        }
    }

    fn formats(entity: &Entity, pad: u32) -> Option<BusFormat> {
        let height = if entity.id == 3 && pad == 0 { 720 } else { 1080 };
        entity.subdev.then_some(BusFormat { width: 1920, height, code: 0x200f })
    }

    #[test]
    fn path_text_reads_from_source_to_node() {
        let text = graph().path_text(81, 3, formats).unwrap();
        assert_eq!(
            text,
            "'ov5640 1-003c':0 [UYVY8_1X16 1920x1080] -> 'csis-32e40000.csi':0 [UYVY8_1X16 1920x1080]; \
             'csis-32e40000.csi':1 [UYVY8_1X16 1920x1080] -> 'mxc_isi.0':0 [UYVY8_1X16 1920x720]; \
             'mxc_isi.0':1 [UYVY8_1X16 1920x1080] -> 'mxc_isi.0.capture':0"
        );
        assert_eq!(graph().path_text(81, 99, formats), None);
    }

    #[test]
    fn diagnosis_names_pads_that_differ_and_the_media_ctl_line() {
        let text = graph().diagnosis(81, 3, formats).unwrap();
        assert!(text.starts_with("the pads differ: 'csis-32e40000.csi':1"), "{text}");
        assert!(text.ends_with("media-ctl -d /dev/media0 -V '\"mxc_isi.0\":0 [fmt:UYVY8_1X16/1920x1080]'"), "{text}");
        let agree = |e: &Entity, _| e.subdev.then_some(BusFormat { width: 640, height: 480, code: 0x3007 });
        let text = graph().diagnosis(81, 3, agree).unwrap();
        assert!(text.contains("does not fit SBGGR10_1X10 640x480"), "{text}");
        assert!(graph().diagnosis(81, 3, |_, _| None).unwrap().contains("cannot be read"));
    }

    #[test]
    fn diagnosis_names_a_disabled_link() {
        let mut g = graph();
        g.links[1].enabled = false;
        let text = g.diagnosis(81, 3, |_, _| None).unwrap();
        assert_eq!(
            text,
            "no link into 'mxc_isi.0' is enabled; try: media-ctl -d /dev/media0 -l '\"csis-32e40000.csi\":1 -> \"mxc_isi.0\":0 [1]'"
        );
    }

    #[test]
    fn hops_end_at_cycles_and_dangling_links() {
        let mut g = graph();
        g.links.push(Link { source: 31, sink: 11, enabled: true });
        g.links.push(Link { source: 999, sink: 998, enabled: true });
        assert_eq!(g.hops(81, 3).len(), 3);
        g.pads.clear();
        assert!(g.hops(81, 3).is_empty());
    }
}
