//! Finds the steps that make a pipeline give pictures as they are wished. Trials use the drivers' TRY states, so that
//! planning changes nothing.

use std::cell::Cell;
use std::collections::HashSet;

use super::bus_format::BusFormat;
use super::drivers::{Drivers, Target, Which};
use super::graph::{needs_route, End, Entity, Graph, Hop, Pad, ACTIVE, MULTIPLEXER};
use super::steps::Step;
use crate::format::{FormatInfo, FourCc, FrameInterval, Rect, Size};
use crate::sys::media::Route;
use crate::v4l2::rate::{is_same_rate, nearest_rate};

/// Formats of a pad that are tried.
const MOST_CODES: usize = 24;
/// Sizes of a sensor that are tried for a code.
const MOST_SIZES: usize = 12;
/// Pads that are tried in all, so that a large graph ends.
pub(super) const MOST_TRIALS: u32 = 4000;
/// The largest difference of two shapes that is not cropped, in thousandths.
const SAME_SHAPE: u64 = 20;

/// What a camera is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish<'a> {
    /// The acceptable formats, best first. If empty: the present one, then those that have rows, then the others.
    pub(crate) formats: &'a [FourCc],
    /// `None` for the size that the pipeline has.
    pub(crate) size: Option<Size>,
    /// Refuses other sizes, instead of taking the nearest.
    pub(crate) exact_size: bool,
    pub(crate) interval: Option<FrameInterval>,
    /// The name of the sensor. `None` for the one that needs the fewest changes.
    pub(crate) sensor: Option<&'a str>,
}

/// What a pipeline will give, and the steps to it.
#[derive(Clone, Debug)]
pub(super) struct Plan<'a> {
    pub(super) sensor: &'a Entity,
    pub(super) fourcc: FourCc,
    pub(super) size: Size,
    /// Empty if the pipeline is set up already.
    pub(super) steps: Vec<Step<'a>>,
    /// The change of the video node itself.
    pub(super) own: Option<Step<'a>>,
}

/// How far a candidate is from the wish. What comes first weighs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Misfit {
    /// Columns and rows.
    size: u32,
    /// Thousandths.
    rate: u32,
    /// The place in the list of acceptable formats.
    format: usize,
    /// Whether the size is made by scaling.
    scaled: bool,
}

#[derive(Clone, Debug)]
struct Candidate<'a> {
    misfit: Misfit,
    fourcc: FourCc,
    size: Size,
    pads: Vec<Step<'a>>,
}

impl Candidate<'_> {
    /// Returns `true` if the whole wish is met.
    fn fits(&self) -> bool {
        (self.misfit.size, self.misfit.rate, self.misfit.format) == (0, 0, 0)
    }
}

/// Finds the steps for a video node. Paths that need fewer changes come first, and of a path the candidate that fits
/// the wish best.
///
/// # Errors
/// A text that says why the pipeline cannot give pictures.
pub(super) fn plan<'a>(
    graph: &'a Graph,
    node: (u32, u32),
    wish: &Wish<'_>,
    drivers: &dyn Drivers,
) -> Result<Plan<'a>, String> {
    let all = graph.possible_paths(node);
    let sensor = |path: &[Hop<'a>]| path[0].from.0;
    let paths: Vec<_> = match wish.sensor {
        Some(name) => all.iter().filter(|path| sensor(path).name == name).collect(),
        None => all.iter().collect(),
    };
    if paths.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|path| sensor(path).name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        return Err(match (wish.sensor, &names[..]) {
            (_, []) => "no sensor can reach the node".into(),
            (None, _) => "the node has no path".into(),
            (Some(name), _) => format!("asked the sensor '{name}'; the node can have '{}'", names.join("', '")),
        });
    }
    let search = Search { graph, drivers, wish, locked: locked(graph, node, drivers), trials: Cell::new(0) };
    for path in &paths {
        if let Some(plan) = search.plan(path) {
            return Ok(plan);
        }
    }
    let names: Vec<String> = paths.iter().map(|path| format!("'{}'", sensor(path).name)).collect();
    Err(format!("no format of {} goes through every pad to the node", names.join(", ")))
}

pub(super) struct Search<'s, 'a> {
    pub(super) graph: &'a Graph,
    pub(super) drivers: &'s dyn Drivers,
    wish: &'s Wish<'s>,
    /// The entities that give pictures to another node now. They stay as they are: few drivers refuse a change.
    pub(super) locked: HashSet<u32>,
    pub(super) trials: Cell<u32>,
}

/// Returns the entities upstream of every other node that is busy.
pub(super) fn locked(graph: &Graph, node: (u32, u32), drivers: &dyn Drivers) -> HashSet<u32> {
    let is_other = |entity: &&Entity| entity.is_video_node() && entity.node != Some(node) && drivers.is_busy(entity);
    let mut all: Vec<u32> = graph.entities.iter().filter(is_other).map(|entity| entity.id).collect();
    let mut at = 0;
    while let Some(&entity) = all.get(at) {
        at += 1;
        for hop in graph.hops().filter(|hop| hop.enabled && hop.to.0.id == entity) {
            if !all.contains(&hop.from.0.id) {
                all.push(hop.from.0.id);
            }
        }
    }
    all.into_iter().collect()
}

impl<'a> Search<'_, 'a> {
    fn plan(&self, path: &[Hop<'a>]) -> Option<Plan<'a>> {
        let links = self.links(path)?;
        let sources = self.sources(&path[0]);
        let mut found: Vec<Candidate<'a>> = self.present(path).into_iter().collect();
        if !found.iter().any(Candidate::fits) {
            for source in &sources {
                self.walk(path, 0, *source, None, &mut Vec::new(), &mut |c| found.push(c));
            }
        }
        let whole = self.first(path, &links, found);
        let Some(size) = self.wish.size else { return whole.map(|(plan, _)| plan) };
        if whole.as_ref().is_some_and(|(_, misfit)| misfit.size == 0) {
            return whole.map(|(plan, _)| plan);
        }
        let mut found = Vec::new();
        // The last block that scales is nearest to the node, and leaves the others as they are.
        for scaler in (0..path.len().saturating_sub(1)).rev() {
            for source in sources.iter().filter(|source| covers(source.size, size)) {
                self.walk(path, 0, *source, Some((scaler, size)), &mut Vec::new(), &mut |c| found.push(c));
            }
        }
        self.first(path, &links, found).or(whole).map(|(plan, _)| plan)
    }

    /// Returns the plan of the best candidate that the branches of the path allow.
    fn first(&self, path: &[Hop<'a>], links: &[Step<'a>], mut found: Vec<Candidate<'a>>) -> Option<(Plan<'a>, Misfit)> {
        // A stable sort: of equals, the pipeline as it is comes first, then the present format of the sensor.
        found.sort_by_key(|candidate| candidate.misfit);
        found.into_iter().find_map(|candidate| {
            let misfit = candidate.misfit;
            self.finished(path, links, candidate).map(|plan| (plan, misfit))
        })
    }

    /// Returns all steps of a candidate. `None` if a branch of the path does not allow it.
    fn finished(&self, path: &[Hop<'a>], links: &[Step<'a>], candidate: Candidate<'a>) -> Option<Plan<'a>> {
        let (sensor, node) = (path.first()?.from, path.last()?.to.0);
        let pads = self.only_changes(candidate.pads, links);
        let branches = self.branches(path, &pads)?;
        let (mut steps, branches): (Vec<_>, Vec<_>) =
            branches.into_iter().partition(|step| matches!(step, Step::Link { .. }));
        steps.extend(links.iter().cloned());
        steps.extend(pads);
        steps.extend(branches);
        steps.extend(self.interval(sensor));
        let Candidate { fourcc, size, .. } = candidate;
        let is_other = self.drivers.node(node) != Some((fourcc, size));
        let own = is_other.then_some(Step::Node { entity: node, fourcc, size });
        Some(Plan { sensor: sensor.0, fourcc, size, steps, own })
    }

    /// Returns the steps that enable the links and routes of a path. `None` if a fixed link is in the way.
    fn links(&self, path: &[Hop<'a>]) -> Option<Vec<Step<'a>>> {
        let mut steps = Vec::new();
        let mut on = Vec::new();
        for hop in path.iter().filter(|hop| !hop.enabled) {
            let (entity, sink) = hop.to;
            // A pad takes pictures from one link, and a multiplexer from one pad.
            let excludes =
                |other: &Hop<'a>| other.to.0.id == entity.id && (other.to.1 == sink || entity.function == MULTIPLEXER);
            for other in self.graph.hops().filter(|other| other.enabled && excludes(other)) {
                if other.immutable || self.locked.contains(&other.to.0.id) {
                    return None;
                }
                steps.push(Step::Link { hop: other, enabled: false });
            }
            on.push(Step::Link { hop: *hop, enabled: true });
        }
        steps.append(&mut on);
        for pair in path.windows(2) {
            let ((entity, sink), source) = (pair[0].to, pair[1].from.1);
            if needs_route(entity, sink, source) {
                if self.locked.contains(&entity.id) {
                    return None;
                }
                let routes = routes(entity, sink.index, source.index);
                steps.push(Step::Routes { entity, routes: routes.clone() });
                steps.extend(self.kept(entity, &routes));
            }
        }
        Some(steps)
    }

    /// Returns the formats of the pads that an entity has now. New routes replace them by defaults.
    fn kept(&self, entity: &'a Entity, routes: &[Route]) -> Vec<Step<'a>> {
        let is_routed = |pad: &Pad| {
            routes
                .iter()
                .any(|r| r.flags & ACTIVE != 0 && pad.index == if pad.sink { r.sink_pad } else { r.source_pad })
        };
        let mut pads: Vec<Pad> = self.graph.pads_of(entity.id).filter(is_routed).collect();
        pads.sort_by_key(|pad| !pad.sink);
        let format = |pad: Pad| {
            let at = (entity, pad);
            // The source pad of the new route has the format of another sink: a later step sets it.
            let is_old =
                pad.sink || entity.routes.iter().flatten().any(|r| routes.contains(r) && r.source_pad == pad.index);
            self.drivers.format(Which::Active, at).filter(|_| is_old).map(|format| Step::Format { at, format })
        };
        pads.into_iter().filter_map(format).collect()
    }

    /// Returns what the pipeline gives as it is set up, if all its pads agree.
    fn present(&self, path: &[Hop<'a>]) -> Option<Candidate<'a>> {
        let inside = path.windows(2).map(|pair| (pair[0].to, pair[1].from.1));
        let is_routed = inside.into_iter().all(|((entity, sink), source)| !needs_route(entity, sink, source));
        if !is_routed || path.iter().any(|hop| !hop.enabled) {
            return None;
        }
        let format = |end| self.drivers.format(Which::Active, end);
        let agrees = |hop: &Hop<'a>| match (format(hop.from), format(hop.to)) {
            (Some(source), Some(sink)) => sink.takes(source),
            _ => true,
        };
        if !path.iter().all(agrees) {
            return None;
        }
        let mut known = path.iter().flat_map(|hop| [format(hop.from), format(hop.to)]).flatten();
        let first = known.next()?;
        self.candidate(path, first, known.last().unwrap_or(first), false, Vec::new())
    }

    fn candidate(
        &self,
        path: &[Hop<'a>],
        first: BusFormat,
        last: BusFormat,
        scaled: bool,
        pads: Vec<Step<'a>>,
    ) -> Option<Candidate<'a>> {
        let node = path.last()?.to.0;
        let (format, fourcc) = self.choose(node, last.code)?;
        let size = self.wish.size.map_or(0, |size| distance(size, last.size));
        let rate =
            self.wish.interval.map_or(0, |wanted| nearest_rate(&self.drivers.intervals(path[0].from, first), wanted).1);
        let misfit = Misfit { size, rate, format, scaled };
        Some(Candidate { misfit, fourcc, size: last.size, pads })
    }

    /// Returns the best format that a node has for a code, and its place among those that are wished.
    fn choose(&self, node: &Entity, code: u32) -> Option<(usize, FourCc)> {
        let offers = self.drivers.offers(node, code);
        if !self.wish.formats.is_empty() {
            let mut wished = self.wish.formats.iter().enumerate();
            return wished.find(|(_, fourcc)| offers.contains(fourcc)).map(|(place, fourcc)| (place, *fourcc));
        }
        let present = self.drivers.node(node).map(|(fourcc, _)| fourcc);
        let rank = |fourcc: &FourCc| match fourcc.info() {
            _ if Some(*fourcc) == present => 0,
            Some(info) if FormatInfo::has_rows(info) => 1,
            _ => 2,
        };
        let best = offers.into_iter().min_by_key(rank)?;
        Some((rank(&best), best))
    }

    /// Returns the formats of a sensor. Of its codes, the present one comes first, then the one that the next block
    /// has. Of its sizes, those come first that fit the wish better.
    fn sources(&self, first: &Hop<'a>) -> Vec<BusFormat> {
        let sensor = first.from;
        let Some(present) = self.drivers.format(Which::Active, sensor) else { return Vec::new() };
        if self.locked.contains(&sensor.0.id) {
            return vec![present];
        }
        let mut codes = self.drivers.codes(sensor);
        let next = self.drivers.format(Which::Active, first.to).map(|format| format.code);
        codes.sort_by_key(|code| (*code != present.code, Some(*code) != next));
        codes.truncate(MOST_CODES);
        if codes.is_empty() {
            codes.push(present.code);
        }
        let mut sources = Vec::new();
        for code in codes {
            let wanted = self.wish.size.unwrap_or(present.size);
            let listed = self.drivers.sizes(sensor, code);
            let mut sizes: Vec<Size> = listed.iter().map(|(min, max)| clamp(wanted, *min, *max)).collect();
            sizes.sort_by_key(|size| unsuitability(*size, wanted));
            sizes.dedup();
            sizes.truncate(MOST_SIZES);
            if sizes.is_empty() {
                sizes.push(present.size);
            }
            for size in sizes {
                let given = self.drivers.set_format(Which::Try, sensor, BusFormat { code, size, ..present });
                let given = given.ok().filter(|given| given.code == code && !sources.contains(given));
                sources.extend(given);
            }
        }
        sources
    }

    /// Follows a format from a hop to the node, through every code that the blocks between may give.
    fn walk(
        &self,
        path: &[Hop<'a>],
        at: usize,
        incoming: BusFormat,
        scale: Option<(usize, Size)>,
        pads: &mut Vec<Step<'a>>,
        found: &mut dyn FnMut(Candidate<'a>),
    ) {
        let hop = &path[at];
        if at == 0 && !self.locked.contains(&hop.from.0.id) {
            pads.push(Step::Format { at: hop.from, format: incoming });
        }
        let Some(next) = path.get(at + 1) else {
            let first = match pads.first() {
                Some(Step::Format { at, format }) if at.1 == path[0].from.1 => *format,
                _ => self.drivers.format(Which::Active, path[0].from).unwrap_or(incoming),
            };
            let is_wished = scale.map_or(true, |(_, size)| incoming.size == size);
            let candidate = self.candidate(path, first, incoming, scale.is_some(), pads.clone());
            if let Some(candidate) = candidate.filter(|_| is_wished) {
                found(candidate);
            }
            return;
        };
        let ((entity, sink), source) = (hop.to, next.from);
        if !entity.subdev {
            // Its driver follows its neighbors.
            return self.walk(path, at + 1, incoming, scale, pads, found);
        }
        if self.locked.contains(&entity.id) {
            let format = |end| self.drivers.format(Which::Active, end);
            if let Some(given) = format(hop.to).filter(|sink| sink.takes(incoming)).and_then(|_| format(source)) {
                self.walk(path, at + 1, given, scale, pads, found);
            }
            return;
        }
        if entity.routes.is_some() {
            let routes = routes(entity, sink.index, source.1.index);
            if self.drivers.set_routes(Which::Try, entity, &routes).is_err() {
                return;
            }
        }
        let start = pads.len();
        let Some(codes) = self.enter(hop.to, incoming).map(|taken| self.codes(source, taken.code)) else { return };
        for code in codes {
            if self.trials.replace(self.trials.get() + 1) >= MOST_TRIALS {
                return;
            }
            pads.truncate(start);
            let Some(taken) = self.enter(hop.to, incoming) else { return };
            pads.push(Step::Format { at: hop.to, format: taken });
            let given = match scale {
                Some((scaler, size)) if scaler == at => self.scale(hop.to, source, code, incoming.size, size, pads),
                _ => self.keep_size(hop.to, source, code, incoming.size, pads),
            };
            let Some(given) = given else { continue };
            pads.push(Step::Format { at: source, format: given });
            self.walk(path, at + 1, given, scale, pads, found);
        }
        pads.truncate(start);
        if self.drivers.format(Which::Try, source).is_none() {
            // Drivers of Rockchip's kernels have formats for sinks only.
            pads.extend(self.enter(hop.to, incoming).map(|format| Step::Format { at: hop.to, format }));
            self.walk(path, at + 1, incoming, scale, pads, found);
            pads.truncate(start);
        }
    }

    /// Tries a format at a sink. Returns `None` if the driver does not take it.
    pub(super) fn enter(&self, sink: End<'a>, incoming: BusFormat) -> Option<BusFormat> {
        let taken = self.drivers.set_format(Which::Try, sink, incoming).ok()?;
        taken.takes(incoming).then_some(taken)
    }

    /// Returns the codes of a source pad. The one that arrives comes first, then the one that the driver chose.
    pub(super) fn codes(&self, source: End<'a>, incoming: u32) -> Vec<u32> {
        let chosen = self.drivers.format(Which::Try, source).map(|format| format.code);
        let listed = self.drivers.codes(source);
        let mut codes: Vec<u32> = listed.iter().copied().filter(|code| *code == incoming).collect();
        for code in chosen.into_iter().chain(listed) {
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        codes.truncate(MOST_CODES);
        codes
    }

    fn try_source(&self, source: End<'a>, code: u32, size: Size) -> Option<BusFormat> {
        let present = self.drivers.format(Which::Try, source)?;
        let given = self.drivers.set_format(Which::Try, source, BusFormat { code, size, ..present }).ok()?;
        (given.code == code).then_some(given)
    }

    fn try_rect(&self, at: End<'a>, target: Target, rect: Rect, pads: &mut Vec<Step<'a>>) -> Option<Rect> {
        let given = self.drivers.set_rect(Which::Try, at, target, rect).ok()?;
        pads.push(Step::Rect { at, target, rect: given });
        Some(given)
    }

    /// Makes a block give the whole picture, and in the size that arrives if it can.
    fn keep_size(
        &self,
        sink: End<'a>,
        source: End<'a>,
        code: u32,
        size: Size,
        pads: &mut Vec<Step<'a>>,
    ) -> Option<BusFormat> {
        let full = Rect { left: 0, top: 0, size };
        for (at, target) in [(sink, Target::Crop), (sink, Target::Compose), (source, Target::Crop)] {
            let [tried, active] = [Which::Try, Which::Active].map(|which| self.drivers.rect(which, at, target));
            match tried {
                Some(tried) if tried != full => drop(self.try_rect(at, target, full, pads)),
                Some(tried) if active != Some(tried) => pads.push(Step::Rect { at, target, rect: tried }),
                _ => {}
            }
        }
        self.try_source(source, code, size)
    }

    /// Makes a block give a smaller picture of the same scene: cropped to the shape of `wanted`, then scaled.
    fn scale(
        &self,
        sink: End<'a>,
        source: End<'a>,
        code: u32,
        size: Size,
        wanted: Size,
        pads: &mut Vec<Step<'a>>,
    ) -> Option<BusFormat> {
        let start = pads.len();
        let crop = centered(shaped(size, wanted), size);
        let is_shaped = crop.size == size
            || self.try_rect(sink, Target::Crop, crop, pads).is_some_and(|given| given.size == crop.size);
        if is_shaped {
            if let Some(given) = self.try_source(source, code, wanted).filter(|given| given.size == wanted) {
                return Some(given);
            }
        } else {
            pads.truncate(start);
        }
        // mxc-isi scales into a rectangle of its sink and then crops at its source.
        let inner = if is_shaped { wanted } else { covering(size, wanted) };
        self.try_rect(sink, Target::Compose, Rect { left: 0, top: 0, size: inner }, pads)
            .filter(|given| given.size == inner)?;
        if inner != wanted {
            self.try_rect(source, Target::Crop, centered(wanted, inner), pads).filter(|given| given.size == wanted)?;
        }
        self.try_source(source, code, wanted).filter(|given| given.size == wanted)
    }

    /// Leaves out the entities that are set up already. A step for one pad changes others of the entity, so that all
    /// steps of an entity are kept together.
    fn only_changes(&self, pads: Vec<Step<'a>>, links: &[Step<'a>]) -> Vec<Step<'a>> {
        let same = |a: &Step<'a>, b: &Step<'a>| a.entity().map(|e| e.id) == b.entity().map(|e| e.id);
        // New routes replace all formats of an entity.
        let is_rerouted = |step: &Step<'a>| {
            let of_it = |e: &Entity| step.entity().is_some_and(|own| own.id == e.id);
            links.iter().any(|link| matches!(link, Step::Routes { entity, .. } if of_it(entity)))
        };
        let is_changed = |step: &Step<'a>| is_rerouted(step) || !step.is_done(self.drivers);
        let is_kept = |step: &Step<'a>| pads.iter().any(|other| same(step, other) && is_changed(other));
        pads.iter().filter(|step| is_kept(step)).cloned().collect()
    }

    fn interval(&self, sensor: End<'a>) -> Option<Step<'a>> {
        let interval = self.wish.interval.filter(|_| !self.locked.contains(&sensor.0.id))?;
        let present = self.drivers.interval(sensor)?;
        (!is_same_rate(present, interval)).then_some(Step::Interval { at: sensor, interval })
    }
}

/// Returns the routes of an entity with one more, from a sink to a source pad. Others into the source pad end.
fn routes(entity: &Entity, sink: u32, source: u32) -> Vec<Route> {
    let all = entity.routes.as_deref().unwrap_or_default();
    if entity.has_route(sink, source) {
        return all.to_vec();
    }
    let others = all.iter().filter(|route| route.source_pad != source);
    let new = Route { sink_pad: sink, source_pad: source, flags: ACTIVE, ..Route::default() };
    others.copied().chain([new]).collect()
}

fn distance(a: Size, b: Size) -> u32 {
    a.width.abs_diff(b.width).saturating_add(a.height.abs_diff(b.height))
}

fn clamp(size: Size, min: Size, max: Size) -> Size {
    // A driver may list a maximum below its minimum.
    Size::new(size.width.min(max.width).max(min.width), size.height.min(max.height).max(min.height))
}

fn covers(size: Size, wanted: Size) -> bool {
    size.width >= wanted.width && size.height >= wanted.height
}

/// Orders the sizes of a sensor: the wanted one, then larger ones of the same shape, other larger ones, smaller ones.
/// Of each kind, the nearest comes first.
fn unsuitability(size: Size, wanted: Size) -> (bool, bool, u32) {
    (!covers(size, wanted), shaped(size, wanted) != size, distance(size, wanted))
}

/// Returns the largest part of a picture that has the shape of `wanted`. A small difference does not count.
fn shaped(size: Size, wanted: Size) -> Size {
    let [w, h, ww, wh] = [size.width, size.height, wanted.width, wanted.height].map(u64::from);
    let (left, right) = (w * wh, h * ww);
    if left.abs_diff(right).saturating_mul(1000) <= left.max(right).saturating_mul(SAME_SHAPE) {
        return size;
    }
    // Even numbers, for formats with half the chroma.
    let even = |n: u64| u32::try_from(n & !1).unwrap_or(u32::MAX).max(2);
    match left > right {
        true => Size::new(even(right / wh.max(1)), size.height),
        false => Size::new(size.width, even(left / ww.max(1))),
    }
}

/// Returns the smallest size with the shape of a picture that covers `wanted`.
fn covering(size: Size, wanted: Size) -> Size {
    let [w, h, ww, wh] = [size.width, size.height, wanted.width, wanted.height].map(u64::from);
    let even = |n: u64| u32::try_from(n.saturating_add(1) & !1).unwrap_or(u32::MAX);
    match w * wh > h * ww {
        true => Size::new(even((wh * w).div_ceil(h.max(1))), wanted.height),
        false => Size::new(wanted.width, even((ww * h).div_ceil(w.max(1)))),
    }
}

fn centered(size: Size, within: Size) -> Rect {
    let even = |n: u32| i32::try_from((n / 2) & !1).unwrap_or(0);
    let left = even(within.width.saturating_sub(size.width));
    Rect { left, top: even(within.height.saturating_sub(size.height)), size }
}

#[cfg(test)]
#[path = "plan_boards.rs"]
mod boards;
#[cfg(test)]
#[path = "plan_random.rs"]
mod random;
