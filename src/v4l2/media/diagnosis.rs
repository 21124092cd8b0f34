//! Explains why a pipeline does not stream, and which command would correct it.

use std::fmt::Write;

use super::bus_format::BusFormat;
use super::drivers::{Drivers, Which};
use super::graph::{End, Entity, Graph, Hop, MediaPath};
use super::steps::Step;
use crate::format::FourCc;
use crate::sys::media::Route;

/// A limit above the links that leave a path.
const MOST_BRANCHES: usize = 64;

/// The reason why a pipeline does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::v4l2) struct Diagnosis {
    /// `true` if the text names a fault, and `false` if it only describes the pipeline.
    pub(in crate::v4l2) is_fault: bool,
    pub(in crate::v4l2) text: String,
}

/// Returns the path to a video node in one line: `'sensor':0 [UYVY8_1X16 1920x1080] -> 'csi':0 …`. Returns `None` if no
/// link leads to the node.
pub(super) fn path_text(graph: &Graph, node: (u32, u32), drivers: &dyn Drivers) -> Option<String> {
    hops_text(&graph.path(node).hops, drivers)
}

/// Explains why a pipeline does not stream: the first fault of its links and routes, a format of the node that does
/// not fit its pad, and the commands that correct them. The branches that leave the path are looked at as well,
/// because the kernel checks them. Returns `None` if the graph shows no path.
pub(super) fn diagnosis(graph: &Graph, node: (u32, u32), drivers: &dyn Drivers) -> Option<Diagnosis> {
    let looked = Look { graph, drivers };
    let path = graph.path(node);
    let branches = looked.branches(&path);
    let whole = hops_text(&path.hops, drivers)?;
    let last = path.hops.first().filter(|h| h.enabled);
    let mut faults: Vec<String> = looked.path_fault(&path).into_iter().collect();
    faults.extend(last.and_then(|hop| looked.node_fault(hop, "the node")));
    if faults.is_empty() {
        let of_branch = |hop: &Hop<'_>| looked.pads_fault(hop).or_else(|| looked.node_fault(hop, node_name(hop.to.0)));
        faults.extend(branches.iter().find_map(of_branch));
    }
    let text = match last.map(|hop| drivers.format(Which::Active, hop.from)) {
        _ if !faults.is_empty() => faults.join("; "),
        Some(Some(bus)) => {
            let ends = |hop: &Hop<'_>| format!("{} -> {}", name(hop.from), name(hop.to));
            let also = match branches.is_empty() {
                true => String::new(),
                false => {
                    let all: Vec<String> = branches.iter().map(ends).collect();
                    let text = "Some drivers do not let two nodes stream from one sensor";
                    format!(". The kernel also checks {}. {text}", all.join(", "))
                }
            };
            format!("all pads agree ({whole}). Possibly the node's own format does not fit {bus}{also}")
        }
        _ => format!("the pads' formats cannot be read ({whole})"),
    };
    Some(Diagnosis { is_fault: !faults.is_empty(), text })
}

struct Look<'d, 'a> {
    graph: &'a Graph,
    drivers: &'d dyn Drivers,
}

impl<'a> Look<'_, 'a> {
    /// Returns the enabled links that leave the path, and those that follow them.
    fn branches(&self, path: &MediaPath<'a>) -> Vec<Hop<'a>> {
        let mut entities: Vec<u32> = path.hops.iter().map(|hop| hop.from.0.id).collect();
        let mut found: Vec<Hop<'a>> = Vec::new();
        let mut at = 0;
        while let Some(&entity) = entities.get(at) {
            at += 1;
            for hop in self.graph.hops().filter(|h| h.enabled && h.from.0.id == entity) {
                let is_same = |other: &Hop<'a>| (other.from.1, other.to.1) == (hop.from.1, hop.to.1);
                if found.len() == MOST_BRANCHES || path.hops.iter().any(is_same) || found.iter().any(is_same) {
                    continue;
                }
                if !entities.contains(&hop.to.0.id) {
                    entities.push(hop.to.0.id);
                }
                found.push(hop);
            }
        }
        found
    }

    /// Returns the first fault on the path, from the node on.
    fn path_fault(&self, path: &MediaPath<'a>) -> Option<String> {
        for hop in &path.hops {
            if !hop.enabled {
                let step = Step::Link { hop: *hop, enabled: true }.command(self.graph);
                return Some(format!("no link into '{}' is enabled; try: {step}", hop.to.0.name));
            }
            if let Some(fault) = self.pads_fault(hop) {
                return Some(fault);
            }
        }
        let ((entity, source), possible) = path.unrouted?;
        let mut text = format!("no active route leads to '{}':{}", entity.name, source.index);
        if let Some(hop) = possible {
            let (sink_pad, source_pad) = (hop.to.1.index, source.index);
            let routes = vec![Route { sink_pad, source_pad, flags: 1, ..Route::default() }];
            let _ = write!(text, "; try: {}", Step::Routes { entity, routes }.command(self.graph));
        }
        Some(text)
    }

    /// Compares the pads of a link.
    fn pads_fault(&self, hop: &Hop<'a>) -> Option<String> {
        let (from, to) = (hop.from, hop.to);
        let format = |end| self.drivers.format(Which::Active, end);
        let (source, sink) = (format(from)?, format(to)?);
        if sink.takes(source) {
            return None;
        }
        let assumed = if hop.assumed {
            format!(" (several links into '{}' are enabled; the kernel does not report its routes)", to.0.name)
        } else {
            String::new()
        };
        let correction = [(to, source), (from, sink)]
            .into_iter()
            .find(|(end, wanted)| self.takes(*end, *wanted))
            .map_or("neither takes the other's".to_owned(), |(at, format)| {
                format!("try: {}", Step::Format { at, format }.command(self.graph))
            });
        let (from, to) = (end_text(from, self.drivers), end_text(to, self.drivers));
        Some(format!("the pads differ: {from} -> {to}{assumed}; {correction}"))
    }

    /// Asks whether a pad would take a format, without changing it.
    fn takes(&self, at: End<'_>, format: BusFormat) -> bool {
        self.drivers.set_format(Which::Try, at, format) == Ok(format)
    }

    /// Compares the format of a video node with that of the pad before it.
    fn node_fault(&self, hop: &Hop<'a>, node: &str) -> Option<String> {
        let (pad, entity) = (hop.from, hop.to.0);
        let bus = self.drivers.format(Which::Active, pad).filter(|bus| bus.is_picture())?;
        let (fourcc, size) = self.drivers.node(entity)?;
        let offers = self.drivers.offers(entity, bus.code);
        let is_offered = offers.is_empty() || offers.contains(&fourcc);
        if is_offered && size == bus.size {
            return None;
        }
        let mut text = format!("{node}'s format {fourcc} {size} does not fit {} [{bus}]", name(pad));
        if !is_offered {
            let offers: Vec<String> = offers.iter().map(FourCc::to_string).collect();
            let _ = write!(text, "; for this pad {node} offers {}", offers.join(", "));
        }
        if size != bus.size {
            let _ = write!(text, "; request {}", bus.size);
            let wanted = BusFormat { size, ..bus };
            if self.takes(pad, wanted) {
                let _ = write!(text, ", or try: {}", Step::Format { at: pad, format: wanted }.command(self.graph));
            }
        }
        Some(text)
    }
}

fn node_name(entity: &Entity) -> &str {
    entity.device.as_deref().unwrap_or(&entity.name)
}

fn name((entity, pad): End<'_>) -> String {
    format!("'{}':{}", entity.name, pad.index)
}

fn end_text(end: End<'_>, drivers: &dyn Drivers) -> String {
    match drivers.format(Which::Active, end) {
        Some(format) => format!("{} [{format}]", name(end)),
        None => name(end),
    }
}

fn hops_text(hops: &[Hop<'_>], drivers: &dyn Drivers) -> Option<String> {
    let text = |hop: &Hop<'_>| {
        let arrow = if hop.enabled { "->" } else { "-/-> (disabled)" };
        format!("{} {arrow} {}", end_text(hop.from, drivers), end_text(hop.to, drivers))
    };
    let all: Vec<String> = hops.iter().rev().map(text).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
