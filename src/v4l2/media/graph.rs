//! The media graph of a video node: turns topology and formats into text. It does not use a descriptor.

use std::fmt::Write;

use crate::format::{FourCc, Size};
use crate::sys::v4l2::FIELD_NONE;

/// A processing block or a device node of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) id: u32,
    pub(super) name: String,
    /// Major and minor number of its device node.
    pub(super) node: Option<(u32, u32)>,
    /// `true` for a `/dev/v4l-subdev*`, whose pads have formats.
    pub(super) subdev: bool,
    /// Its active routes, from sink pad to source pad. `None` if the kernel does not report them.
    pub(super) routes: Option<Vec<(u32, u32)>>,
}

/// A pad of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pad {
    pub(super) id: u32,
    pub(super) entity: u32,
    pub(super) index: u32,
    pub(super) sink: bool,
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
    /// `enum v4l2_field`.
    pub(super) field: u32,
}

impl BusFormat {
    /// Returns `true` if a sink with this format takes pictures in the format `source`, by the kernel's rules.
    fn takes(self, source: Self) -> bool {
        let field = if self.field == FIELD_NONE { FIELD_NONE } else { source.field };
        self == Self { field, ..source }
    }
}

/// The names that `media-ctl` has for `enum v4l2_field`.
const FIELDS: [&str; 10] =
    ["any", "none", "top", "bottom", "interlaced", "seq-tb", "seq-bt", "alternate", "interlaced-tb", "interlaced-bt"];

/// The format of a capture node.
#[derive(Clone, Debug)]
pub(super) struct NodeFormat {
    pub(super) fourcc: FourCc,
    pub(super) size: Size,
    /// The formats that it offers for the bus format of its pad, if it lists them by bus format.
    pub(super) offers: Option<Vec<FourCc>>,
}

/// What drivers answer about the formats of a graph.
#[derive(Clone, Copy)]
pub(super) struct Drivers<'a> {
    /// Returns the format of a subdevice's pad.
    pub(super) format: &'a dyn Fn(&Entity, u32) -> Option<BusFormat>,
    /// Returns `true` if a pad would take a format.
    pub(super) takes: &'a dyn Fn(&Entity, u32, BusFormat) -> bool,
    /// Returns the format of the video node, with what it offers for the bus format of its pad.
    pub(super) node: &'a dyn Fn(u32) -> Option<NodeFormat>,
}

/// The reason why a pipeline does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::v4l2) struct Diagnosis {
    /// `true` if the text names a fault, and `false` if it only describes the pipeline.
    pub(in crate::v4l2) is_fault: bool,
    pub(in crate::v4l2) text: String,
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
    /// The kernel does not report which of the enabled links into `to` leads to the node. It may be another one.
    assumed: bool,
}

/// The path to a video node, the link nearest to the node first.
#[derive(Debug, Default)]
struct MediaPath<'a> {
    hops: Vec<Hop<'a>>,
    /// The pad at which the path ends, because no active route leads to it, and a link that could.
    unrouted: Option<((&'a Entity, Pad), Option<Hop<'a>>)>,
}

impl Graph {
    fn pad(&self, id: u32) -> Option<(&Entity, Pad)> {
        let pad = self.pads.iter().find(|p| p.id == id)?;
        Some((self.entities.iter().find(|e| e.id == pad.entity)?, *pad))
    }

    /// Returns the place of a pad among the sinks, or among the sources, of its entity.
    fn place(&self, pad: Pad) -> usize {
        self.pads.iter().filter(|p| (p.entity, p.sink) == (pad.entity, pad.sink) && p.index < pad.index).count()
    }

    /// Returns the path to a video node. If no link into an entity is enabled, the path ends with its first disabled
    /// link.
    ///
    /// Within an entity the path follows the active route. If the kernel does not report routes, it follows the link
    /// into the sink pad that has the same place as the source pad: the crossbar of mxc-isi begins with these routes,
    /// and such kernels cannot change them.
    fn path(&self, major: u32, minor: u32) -> MediaPath<'_> {
        let mut path = MediaPath::default();
        // A mem-to-mem device has two entities with the same node. The picture arrives at the one that has a link
        // into it.
        let arrives = |e: &&Entity| {
            e.node == Some((major, minor))
                && self.links.iter().any(|l| self.pad(l.sink).is_some_and(|(to, _)| to.id == e.id))
        };
        let mut at: Option<(&Entity, Option<Pad>)> = self.entities.iter().find(arrives).map(|e| (e, None));
        while let Some((entity, source)) = at.take() {
            let into = self.links.iter().filter_map(|l| {
                let (from, to) = (self.pad(l.source)?, self.pad(l.sink)?);
                Some(Hop { from, to, enabled: l.enabled, assumed: false })
            });
            let mut into: Vec<Hop<'_>> = into.filter(|h| h.to.0.id == entity.id).collect();
            into.sort_by_key(|h| !h.enabled);
            match (source, &entity.routes) {
                (Some(source), Some(routes)) if !into.is_empty() => {
                    let possible = into.first().copied();
                    into.retain(|h| routes.contains(&(h.to.1.index, source.index)));
                    if into.is_empty() {
                        path.unrouted = Some(((entity, source), possible));
                    }
                }
                (Some(source), None) if into.iter().filter(|h| h.enabled).count() > 1 => {
                    into.sort_by_key(|h| (!h.enabled, self.place(h.to.1) != self.place(source)));
                    into.iter_mut().for_each(|h| h.assumed = true);
                }
                _ => {}
            }
            // Graphs of mem-to-mem devices and of broken drivers contain cycles.
            if let Some(hop) = into.first().filter(|h| !path.hops.iter().any(|seen| seen.from.0.id == h.from.0.id)) {
                path.hops.push(*hop);
                at = hop.enabled.then_some((hop.from.0, Some(hop.from.1)));
            }
        }
        path
    }

    /// Returns the path to a video node in one line: `'sensor':0 [UYVY8_1X16 1920x1080] -> 'csi':0 …`. Returns `None`
    /// if no link leads to the node.
    pub(super) fn path_text(
        &self,
        major: u32,
        minor: u32,
        format: impl Fn(&Entity, u32) -> Option<BusFormat>,
    ) -> Option<String> {
        path_text(&self.path(major, minor).hops, &format)
    }

    /// Explains why a pipeline does not stream: the first fault of its links and routes, a format of the node that does
    /// not fit its pad, and the `media-ctl` lines that correct them. Returns `None` if the graph shows no path.
    pub(super) fn diagnosis(&self, major: u32, minor: u32, drivers: Drivers<'_>) -> Option<Diagnosis> {
        let path = self.path(major, minor);
        let format = drivers.format;
        let whole = path_text(&path.hops, &format)?;
        let last = path.hops.first().filter(|h| h.enabled).map(|h| (h.from, format(h.from.0, h.from.1.index)));
        let own = last.and_then(|(from, bus)| self.node_fault(from, bus?, drivers));
        let faults: Vec<String> = self.link_fault(&path, drivers).into_iter().chain(own).collect();
        let text = match last {
            _ if !faults.is_empty() => faults.join("; "),
            Some((_, Some(bus))) => format!(
                "all pads agree ({whole}). Possibly the node's own format does not fit {} {}x{}{}",
                code_name(bus.code),
                bus.width,
                bus.height,
                self.branches(&path)
            ),
            _ => format!("the pads' formats cannot be read ({whole})"),
        };
        Some(Diagnosis { is_fault: !faults.is_empty(), text })
    }

    /// Names the enabled links that leave the path. The kernel checks them, too.
    fn branches(&self, path: &MediaPath<'_>) -> String {
        let links = self.links.iter().filter(|l| l.enabled);
        let pads = links.filter_map(|l| Some((self.pad(l.source)?, self.pad(l.sink)?)));
        let leave = pads.filter(|(from, to)| {
            let is_on_path = path.hops.iter().any(|h| h.from.0.id == from.0.id);
            is_on_path && !path.hops.iter().any(|h| (h.from.1, h.to.1) == (from.1, to.1))
        });
        let texts: Vec<String> =
            leave.map(|(from, to)| format!("{} -> {}", end(from, &none), end(to, &none))).collect();
        if texts.is_empty() {
            String::new()
        } else {
            format!(". The kernel also checks {}", texts.join(", "))
        }
    }

    /// Returns the first fault on the path, from the node on.
    fn link_fault(&self, path: &MediaPath<'_>, drivers: Drivers<'_>) -> Option<String> {
        let (device, format) = (&self.path, drivers.format);
        for hop in &path.hops {
            let (from, to) = (hop.from, hop.to);
            if !hop.enabled {
                return Some(format!(
                    "no link into '{}' is enabled; try: media-ctl -d {device} -l '\"{}\":{} -> \"{}\":{} [1]'",
                    to.0.name, from.0.name, from.1.index, to.0.name, to.1.index
                ));
            }
            let (Some(source), Some(sink)) = (format(from.0, from.1.index), format(to.0, to.1.index)) else {
                continue;
            };
            if !sink.takes(source) {
                let assumed = if hop.assumed {
                    format!(" (several links into '{}' are enabled; the kernel does not report its routes)", to.0.name)
                } else {
                    String::new()
                };
                let correction = [(to, source), (from, sink)]
                    .into_iter()
                    .find(|((entity, pad), wanted)| (drivers.takes)(entity, pad.index, *wanted))
                    .map_or("neither takes the other's".to_owned(), |(pad, wanted)| {
                        format!("try: {}", self.set_pad(pad, wanted))
                    });
                let (from, to) = (end(from, &format), end(to, &format));
                return Some(format!("the pads differ: {from} -> {to}{assumed}; {correction}"));
            }
        }
        let ((entity, source), possible) = path.unrouted?;
        let mut text = format!("no active route leads to '{}':{}", entity.name, source.index);
        if let Some(hop) = possible {
            let (name, sink, source) = (&entity.name, hop.to.1.index, source.index);
            let _ = write!(text, "; try: media-ctl -d {device} -R '\"{name}\" [{sink}/0->{source}/0 [1]]'");
        }
        Some(text)
    }

    /// Compares the format of the node with that of the pad before it.
    fn node_fault(&self, pad: (&Entity, Pad), bus: BusFormat, drivers: Drivers<'_>) -> Option<String> {
        let node = (drivers.node)(bus.code)?;
        let is_offered = node.offers.as_ref().map_or(true, |offers| offers.contains(&node.fourcc));
        let size = Size::new(bus.width, bus.height);
        if is_offered && node.size == size {
            return None;
        }
        let mut text = format!(
            "the node's format {} {} does not fit '{}':{} [{} {size}]",
            node.fourcc,
            node.size,
            pad.0.name,
            pad.1.index,
            code_name(bus.code)
        );
        if let Some(offers) = node.offers.as_ref().filter(|_| !is_offered) {
            let offers: Vec<String> = offers.iter().map(FourCc::to_string).collect();
            let _ = write!(text, "; for this pad the node offers {}", offers.join(", "));
        }
        if node.size != size {
            let wanted = BusFormat { width: node.size.width, height: node.size.height, ..bus };
            let _ = write!(text, "; request {size}");
            if (drivers.takes)(pad.0, pad.1.index, wanted) {
                let _ = write!(text, ", or try: {}", self.set_pad(pad, wanted));
            }
        }
        Some(text)
    }

    fn set_pad(&self, (entity, pad): (&Entity, Pad), format: BusFormat) -> String {
        let BusFormat { width, height, code, field } = format;
        let (path, name, index, code) = (&self.path, &entity.name, pad.index, code_name(code));
        let field = FIELDS.get(field as usize).copied().unwrap_or("any");
        format!("media-ctl -d {path} -V '\"{name}\":{index} [fmt:{code}/{width}x{height} field:{field}]'")
    }
}

fn path_text(hops: &[Hop<'_>], format: &impl Fn(&Entity, u32) -> Option<BusFormat>) -> Option<String> {
    let mut text = String::new();
    for hop in hops.iter().rev() {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let arrow = if hop.enabled { "->" } else { "-/-> (disabled)" };
        let _ = write!(text, "{} {arrow} {}", end(hop.from, format), end(hop.to, format));
    }
    (!text.is_empty()).then_some(text)
}

fn end(at: (&Entity, Pad), format: &impl Fn(&Entity, u32) -> Option<BusFormat>) -> String {
    let (entity, pad) = at;
    match format(entity, pad.index) {
        Some(f) => {
            let field = match FIELDS.get(f.field as usize) {
                Some(name) if f.field != FIELD_NONE => format!(" field:{name}"),
                _ => String::new(),
            };
            format!("'{}':{} [{} {}x{}{field}]", entity.name, pad.index, code_name(f.code), f.width, f.height)
        }
        None => format!("'{}':{}", entity.name, pad.index),
    }
}

fn none(_: &Entity, _: u32) -> Option<BusFormat> {
    None
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
        let entity = |id, name: &str, node| Entity { id, name: name.into(), node, subdev: id != 4, routes: None };
        let pad = |id, entity, index| Pad { id, entity, index, sink: index == 0 && entity != 1 };
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

    /// mxc-isi with two cameras: 'csi 0':0 -> crossbar:0, 'csi 1':0 -> crossbar:1, crossbar:3 -> isi 0 (81:3),
    /// crossbar:4 -> isi 1 (81:4). Sink 2 of the crossbar is for memory.
    fn crossbar(routes: Option<Vec<(u32, u32)>>) -> Graph {
        let entity = |id, name: &str, node| Entity { id, name: name.into(), node, subdev: id < 5, routes: None };
        let pad = |id, entity, index, sink| Pad { id, entity, index, sink };
        let link = |source, sink| Link { source, sink, enabled: true };
        Graph {
            path: "/dev/media0".into(),
            entities: vec![
                entity(1, "csi 0", None),
                entity(2, "csi 1", None),
                Entity { routes, ..entity(3, "crossbar", None) },
                entity(5, "isi 0", Some((81, 3))),
                entity(6, "isi 1", Some((81, 4))),
            ],
            pads: vec![
                pad(10, 1, 0, false),
                pad(20, 2, 0, false),
                pad(30, 3, 0, true),
                pad(31, 3, 1, true),
                pad(32, 3, 2, true),
                pad(33, 3, 3, false),
                pad(34, 3, 4, false),
                pad(50, 5, 0, true),
                pad(60, 6, 0, true),
            ],
            links: vec![link(10, 30), link(20, 31), link(33, 50), link(34, 60)],
        }
    }

    fn formats(entity: &Entity, pad: u32) -> Option<BusFormat> {
        let height = if entity.id == 3 && pad == 0 { 720 } else { 1080 };
        entity.subdev.then_some(BusFormat { width: 1920, height, code: 0x200f, field: FIELD_NONE })
    }

    fn agree(entity: &Entity, _: u32) -> Option<BusFormat> {
        entity.subdev.then_some(BusFormat { width: 640, height: 480, code: 0x3007, field: FIELD_NONE })
    }

    /// Diagnoses with pads that take every format, and a node whose format is not known.
    fn diagnosed(graph: &Graph, minor: u32, format: impl Fn(&Entity, u32) -> Option<BusFormat>) -> Diagnosis {
        let drivers = Drivers { format: &format, takes: &|_, _, _| true, node: &|_| None };
        graph.diagnosis(81, minor, drivers).unwrap()
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
    fn path_follows_the_routes_of_a_crossbar() {
        let path = |graph: &Graph, minor| graph.path_text(81, minor, |_, _| None).unwrap();
        for (routes, first, second) in [
            (None, "'csi 0':0 -> 'crossbar':0; ", "'csi 1':0 -> 'crossbar':1; "),
            (Some(vec![(0, 3), (1, 4)]), "'csi 0':0 -> 'crossbar':0; ", "'csi 1':0 -> 'crossbar':1; "),
            (Some(vec![(1, 3), (0, 4)]), "'csi 1':0 -> 'crossbar':1; ", "'csi 0':0 -> 'crossbar':0; "),
            (Some(vec![(1, 3), (1, 4)]), "'csi 1':0 -> 'crossbar':1; ", "'csi 1':0 -> 'crossbar':1; "),
            (Some(vec![(0, 3)]), "'csi 0':0 -> 'crossbar':0; ", ""),
        ] {
            let graph = crossbar(routes);
            assert_eq!(path(&graph, 3), format!("{first}'crossbar':3 -> 'isi 0':0"), "{graph:?}");
            assert_eq!(path(&graph, 4), format!("{second}'crossbar':4 -> 'isi 1':0"), "{graph:?}");
        }
    }

    #[test]
    fn diagnosis_says_that_a_route_is_assumed_or_missing() {
        let wrong = |e: &Entity, pad: u32| {
            let width = if e.id == 3 && pad == 1 { 640 } else { 1280 };
            e.subdev.then_some(BusFormat { width, height: 480, code: 0x3007, field: FIELD_NONE })
        };
        let text = |routes, minor| diagnosed(&crossbar(routes), minor, wrong).text;
        let known = text(Some(vec![(0, 3), (1, 4)]), 4);
        assert!(known.starts_with("the pads differ: 'csi 1':0") && !known.contains("routes"), "{known}");
        assert!(text(None, 4).contains("the kernel does not report its routes"));
        assert!(text(None, 3).starts_with("all pads agree"));
        assert_eq!(
            text(Some(vec![(0, 3)]), 4),
            "no active route leads to 'crossbar':4; try: media-ctl -d /dev/media0 -R '\"crossbar\" [0/0->4/0 [1]]'"
        );
    }

    #[test]
    fn diagnosis_names_pads_that_differ_and_the_media_ctl_line() {
        let text = diagnosed(&graph(), 3, formats).text;
        assert!(text.starts_with("the pads differ: 'csis-32e40000.csi':1"), "{text}");
        assert!(
            text.ends_with("media-ctl -d /dev/media0 -V '\"mxc_isi.0\":0 [fmt:UYVY8_1X16/1920x1080 field:none]'"),
            "{text}"
        );
        let found = diagnosed(&graph(), 3, agree);
        assert!(!found.is_fault && found.text.contains("does not fit SBGGR10_1X10 640x480"), "{found:?}");
        assert!(diagnosed(&graph(), 3, |_, _| None).text.contains("cannot be read"));
    }

    #[test]
    fn diagnosis_corrects_the_pad_that_takes_the_other_s_format() {
        let corrected = |takes: &dyn Fn(&Entity, u32, BusFormat) -> bool| {
            let drivers = Drivers { format: &formats, takes, node: &|_| None };
            let text = graph().diagnosis(81, 3, drivers).unwrap().text;
            text.rsplit_once("; ").unwrap().1.to_owned()
        };
        let line = "try: media-ctl -d /dev/media0 -V ";
        let (sink, source) = (
            "'\"mxc_isi.0\":0 [fmt:UYVY8_1X16/1920x1080 field:none]'",
            "'\"csis-32e40000.csi\":1 [fmt:UYVY8_1X16/1920x720 field:none]'",
        );
        assert_eq!(corrected(&|_, _, _| true), format!("{line}{sink}"));
        assert_eq!(corrected(&|e, _, f| e.id == 2 && f.height == 720), format!("{line}{source}"));
        assert_eq!(corrected(&|_, _, _| false), "neither takes the other's");
    }

    #[test]
    fn diagnosis_compares_fields_as_the_kernel_does() {
        let interlaced = |wanted: u32| {
            move |e: &Entity, pad: u32| {
                let field = if (e.id, pad) == (wanted, 0) { 4 } else { FIELD_NONE };
                agree(e, pad).map(|f| BusFormat { field, ..f })
            }
        };
        // A sink without fields takes any, so that interlaced sensors work with plain bridges.
        assert!(!diagnosed(&graph(), 3, interlaced(1)).is_fault);
        let text = diagnosed(&graph(), 3, interlaced(3)).text;
        assert!(text.contains("-> 'mxc_isi.0':0 [SBGGR10_1X10 640x480 field:interlaced]"), "{text}");
        assert!(text.ends_with("'\"mxc_isi.0\":0 [fmt:SBGGR10_1X10/640x480 field:none]'"), "{text}");
    }

    #[test]
    fn diagnosis_compares_the_node_with_its_pad() {
        let found = |format: &dyn Fn(&Entity, u32) -> Option<BusFormat>, size, fourcc, offers: Option<&[FourCc]>| {
            let node = |_| Some(NodeFormat { fourcc, size, offers: offers.map(<[_]>::to_vec) });
            graph().diagnosis(81, 3, Drivers { format, takes: &|_, _, f| f.width > 100, node: &node }).unwrap()
        };
        let (small, other, tiny) = (Size::new(640, 480), Size::new(320, 240), Size::new(32, 32));
        let offers = Some(&[FourCc::YUYV, FourCc::NV12][..]);
        let fit = found(&agree, small, FourCc::NV12, offers);
        assert!(!fit.is_fault, "{fit:?}");
        for offers in [offers, None] {
            let size = found(&agree, other, FourCc::NV12, offers);
            assert!(size.is_fault);
            assert_eq!(
                size.text,
                "the node's format NV12 320x240 does not fit 'mxc_isi.0':1 [SBGGR10_1X10 640x480]; request 640x480, or \
                 try: media-ctl -d /dev/media0 -V '\"mxc_isi.0\":1 [fmt:SBGGR10_1X10/320x240 field:none]'"
            );
        }
        assert!(found(&agree, tiny, FourCc::NV12, offers).text.ends_with("; request 640x480"));
        let format = found(&agree, small, FourCc::RGB24, offers);
        assert!(format.text.ends_with("; for this pad the node offers YUYV, NV12"), "{format:?}");
        // After a fault of a link.
        let both = found(&formats, small, FourCc::NV12, offers);
        assert!(both.text.starts_with("the pads differ") && both.text.contains("; the node's format"), "{both:?}");
    }

    #[test]
    fn diagnosis_names_a_disabled_link() {
        let mut g = graph();
        g.links[1].enabled = false;
        let text = diagnosed(&g, 3, |_, _| None).text;
        assert_eq!(
            text,
            "no link into 'mxc_isi.0' is enabled; try: media-ctl -d /dev/media0 -l '\"csis-32e40000.csi\":1 -> \"mxc_isi.0\":0 [1]'"
        );
    }

    #[test]
    fn path_ends_at_cycles_and_dangling_links() {
        let mut g = graph();
        g.links.push(Link { source: 31, sink: 11, enabled: true });
        g.links.push(Link { source: 999, sink: 998, enabled: true });
        assert_eq!(g.path(81, 3).hops.len(), 3);
        g.pads.clear();
        assert!(g.path(81, 3).hops.is_empty());
    }
}
