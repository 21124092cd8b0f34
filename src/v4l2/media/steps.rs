//! The steps that set a pipeline up: their text as commands, and applying them or none.

use nix::errno::Errno;

use super::bus_format::{code_name, BusFormat};
use super::drivers::{Drivers, Target, Which};
use super::graph::{End, Entity, Graph, Hop};
use crate::format::{FourCc, FrameInterval, Rect, Size};
use crate::sys::media::Route;

/// One change of the graph.
#[derive(Clone, Debug)]
pub(super) enum Step<'a> {
    Link { hop: Hop<'a>, enabled: bool },
    Routes { entity: &'a Entity, routes: Vec<Route> },
    Format { at: End<'a>, format: BusFormat },
    Rect { at: End<'a>, target: Target, rect: Rect },
    Interval { at: End<'a>, interval: FrameInterval },
    Node { entity: &'a Entity, fourcc: FourCc, size: Size },
}

/// A step without its graph, by the ids of pads and entities.
#[derive(Clone, Debug)]
pub(super) enum Saved {
    Link { source: u32, sink: u32, enabled: bool },
    Routes { entity: u32, routes: Vec<Route> },
    Format { pad: u32, format: BusFormat },
    Rect { pad: u32, target: Target, rect: Rect },
    Interval { pad: u32, interval: FrameInterval },
    Node { entity: u32, fourcc: FourCc, size: Size },
}

impl Saved {
    pub(super) fn of(step: &Step<'_>) -> Self {
        match step.clone() {
            Step::Link { hop, enabled } => Self::Link { source: hop.from.1.id, sink: hop.to.1.id, enabled },
            Step::Routes { entity, routes } => Self::Routes { entity: entity.id, routes },
            Step::Format { at, format } => Self::Format { pad: at.1.id, format },
            Step::Rect { at, target, rect } => Self::Rect { pad: at.1.id, target, rect },
            Step::Interval { at, interval } => Self::Interval { pad: at.1.id, interval },
            Step::Node { entity, fourcc, size } => Self::Node { entity: entity.id, fourcc, size },
        }
    }

    /// Returns the step in a graph that was read again. `None` if the graph no longer has its place.
    pub(super) fn step<'a>(&self, graph: &'a Graph) -> Option<Step<'a>> {
        let entity = |id: u32| graph.entities.iter().find(|e| e.id == id);
        Some(match self.clone() {
            Self::Link { source, sink, enabled } => {
                let hop = graph.hops().find(|h| (h.from.1.id, h.to.1.id) == (source, sink))?;
                Step::Link { hop, enabled }
            }
            Self::Routes { entity: id, routes } => Step::Routes { entity: entity(id)?, routes },
            Self::Format { pad, format } => Step::Format { at: graph.end(pad)?, format },
            Self::Rect { pad, target, rect } => Step::Rect { at: graph.end(pad)?, target, rect },
            Self::Interval { pad, interval } => Step::Interval { at: graph.end(pad)?, interval },
            Self::Node { entity: id, fourcc, size } => Step::Node { entity: entity(id)?, fourcc, size },
        })
    }
}

/// A step that failed. The steps before it are undone.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) errno: Option<Errno>,
    pub(super) text: String,
}

impl<'a> Step<'a> {
    /// Returns the entity whose pads the step sets.
    pub(super) fn entity(&self) -> Option<&'a Entity> {
        match self {
            Self::Format { at, .. } | Self::Rect { at, .. } => Some(at.0),
            _ => None,
        }
    }

    /// Returns `true` if nothing has to change for the step.
    pub(super) fn is_done(&self, drivers: &dyn Drivers) -> bool {
        match self {
            Self::Format { at, format } => drivers.format(Which::Active, *at) == Some(*format),
            Self::Rect { at, target, rect } => drivers.rect(Which::Active, *at, *target) == Some(*rect),
            _ => false,
        }
    }

    /// Carries the step out.
    ///
    /// # Errors
    /// The driver's error. `None` if the driver chose something else, with its answer.
    fn apply(&self, drivers: &dyn Drivers) -> Result<(), (Option<Errno>, String)> {
        let refused = |e: Errno| (Some(e), e.desc().to_owned());
        let given =
            |same: bool, text: String| if same { Ok(()) } else { Err((None, format!("the driver gives {text}"))) };
        match self {
            Self::Link { hop, enabled } => drivers.set_link(hop, *enabled).map_err(refused),
            Self::Routes { entity, routes } => drivers.set_routes(Which::Active, entity, routes).map_err(refused),
            Self::Format { at, format } => {
                let answer = drivers.set_format(Which::Active, *at, *format).map_err(refused)?;
                given(answer == *format, answer.to_string())
            }
            // The format that follows shows whether the rectangle was needed.
            Self::Rect { at, target, rect } => {
                let _ = drivers.set_rect(Which::Active, *at, *target, *rect);
                Ok(())
            }
            // The camera reads the interval that the sensor has then.
            Self::Interval { at, interval } => {
                let _ = drivers.set_interval(*at, *interval);
                Ok(())
            }
            Self::Node { entity, fourcc, size } => {
                let answer = drivers.set_node(entity, *fourcc, *size).map_err(refused)?;
                given(answer == (*fourcc, *size), format!("{} {}", answer.0, answer.1))
            }
        }
    }

    /// Returns the command that does the same.
    pub(super) fn command(&self, graph: &Graph) -> String {
        let media = &graph.path;
        let pad =
            |at: &End<'_>, what: String| format!("media-ctl -d {media} -V '\"{}\":{} [{what}]'", at.0.name, at.1.index);
        match self {
            Self::Link { hop, enabled } => {
                let ((from, source), (to, sink)) = (hop.from, hop.to);
                let (source, sink, on) = (source.index, sink.index, u8::from(*enabled));
                format!("media-ctl -d {media} -l '\"{}\":{source} -> \"{}\":{sink} [{on}]'", from.name, to.name)
            }
            Self::Routes { entity, routes } => {
                let route = |r: &Route| {
                    let Route { sink_pad, sink_stream, source_pad, source_stream, flags, .. } = r;
                    format!("{sink_pad}/{sink_stream}->{source_pad}/{source_stream} [{flags}]")
                };
                let routes: Vec<String> = routes.iter().map(route).collect();
                format!("media-ctl -d {media} -R '\"{}\" [{}]'", entity.name, routes.join(", "))
            }
            Self::Format { at, format } => {
                let (code, size, field) = (code_name(format.code), format.size, format.field_name());
                pad(at, format!("fmt:{code}/{size} field:{field}"))
            }
            Self::Rect { at, target, rect } => {
                let what = if *target == Target::Crop { "crop" } else { "compose" };
                pad(at, format!("{what}:({},{})/{}", rect.left, rect.top, rect.size))
            }
            Self::Interval { at, interval } => pad(at, format!("@{}/{}", interval.numerator, interval.denominator)),
            Self::Node { entity, fourcc, size } => {
                let node = entity.device.as_deref().unwrap_or("?");
                let Size { width, height } = size;
                // v4l2-ctl wants the spaces of a code, too.
                let code = u32::from(*fourcc).to_le_bytes();
                let code = match std::str::from_utf8(&code) {
                    Ok(code) if code.ends_with(' ') => format!("'{code}'"),
                    _ => fourcc.to_string(),
                };
                format!("v4l2-ctl -d {node} -v width={width},height={height},pixelformat={code}")
            }
        }
    }
}

/// Carries out every step, or undoes those before the one that fails. Returns the steps that undo all of them.
pub(super) fn apply<'a>(graph: &'a Graph, steps: &[Step<'a>], drivers: &dyn Drivers) -> Result<Vec<Step<'a>>, Failure> {
    let mut undo = Vec::new();
    for step in steps {
        remember(graph, step, drivers, &mut undo);
        if let Err((errno, text)) = step.apply(drivers) {
            let lost = undone(&in_order(undo), drivers);
            let lost = if lost > 0 { format!("; {lost} settings could not be undone") } else { String::new() };
            return Err(Failure { errno, text: format!("{text}; the step was: {}{lost}", step.command(graph)) });
        }
    }
    Ok(in_order(undo))
}

/// Carries out steps that undo others. Returns how many failed.
pub(super) fn undone(steps: &[Step<'_>], drivers: &dyn Drivers) -> usize {
    steps.iter().filter(|step| step.apply(drivers).is_err()).count()
}

/// Adds what a step replaces. A format also replaces what belongs to the other pads of its entity.
fn remember<'a>(graph: &'a Graph, step: &Step<'a>, drivers: &dyn Drivers, undo: &mut Vec<Step<'a>>) {
    match step {
        Step::Link { hop, .. } => undo.push(Step::Link { hop: *hop, enabled: hop.enabled }),
        Step::Routes { entity, .. } => {
            let routes = entity.routes.clone().unwrap_or_default();
            undo.push(Step::Routes { entity, routes });
            remember_pads(graph, entity, drivers, undo);
        }
        Step::Format { at, .. } | Step::Rect { at, .. } => remember_pads(graph, at.0, drivers, undo),
        Step::Interval { at, .. } => {
            undo.extend(drivers.interval(*at).map(|interval| Step::Interval { at: *at, interval }));
        }
        Step::Node { entity, .. } => {
            undo.extend(drivers.node(entity).map(|(fourcc, size)| Step::Node { entity, fourcc, size }));
        }
    }
}

fn remember_pads<'a>(graph: &'a Graph, entity: &'a Entity, drivers: &dyn Drivers, undo: &mut Vec<Step<'a>>) {
    if undo.iter().any(|step| step.entity().is_some_and(|e| e.id == entity.id)) {
        return;
    }
    let mut pads: Vec<_> = graph.pads_of(entity.id).collect();
    // The pads that pictures enter at decide what the others may have.
    pads.sort_by_key(|pad| !pad.sink);
    for pad in pads {
        let at = (entity, pad);
        undo.extend(drivers.format(Which::Active, at).map(|format| Step::Format { at, format }));
        for target in [Target::Crop, Target::Compose] {
            let rect = drivers.rect(Which::Active, at, target);
            undo.extend(rect.map(|rect| Step::Rect { at, target, rect }));
        }
    }
}

/// Orders what undoes: links and routes backwards, then pads and nodes forwards, as they were set.
fn in_order(undo: Vec<Step<'_>>) -> Vec<Step<'_>> {
    let is_link = |step: &Step<'_>| matches!(step, Step::Link { .. } | Step::Routes { .. });
    let (mut links, others): (Vec<_>, Vec<_>) = undo.into_iter().partition(is_link);
    links.reverse();
    links.extend(others);
    links
}
