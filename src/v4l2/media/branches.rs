//! The branches of a path: what leaves it must take its pictures, too, or be disabled.

use super::bus_format::BusFormat;
use super::drivers::Which;
use super::graph::{Entity, Hop, Pad};
use super::plan::{Search, MOST_TRIALS};
use super::steps::Step;

/// The deepest branch that is followed.
const DEEPEST: usize = 16;

impl<'a> Search<'_, 'a> {
    /// Returns the steps for every enabled link that leaves the path: the kernel checks these links, too. A branch gets
    /// the new format if it takes it. Otherwise, or if it leads to no node, its link is disabled. `None` if a fixed
    /// link leads to a branch that does not take the format.
    pub(super) fn branches(&self, path: &[Hop<'a>], pads: &[Step<'a>]) -> Option<Vec<Step<'a>>> {
        for step in pads {
            // The trials of other candidates have left their traces.
            if let Step::Format { at, format } = step {
                let _ = self.drivers.set_format(Which::Try, *at, *format);
            }
        }
        let mut steps = Vec::new();
        for (index, hop) in path.iter().enumerate() {
            let entity = hop.from.0;
            let sink = index.checked_sub(1).map(|before| path[before].to.1);
            let is_changed = pads.iter().any(|step| step.entity().is_some_and(|e| e.id == entity.id));
            for branch in self.graph.hops().filter(|h| h.enabled && h.from.0.id == entity.id) {
                let is_on_path = path.iter().any(|h| (h.from.1, h.to.1) == (branch.from.1, branch.to.1));
                let is_fed = sink.map_or(true, |sink| self.feeds(entity, sink, branch.from.1));
                if is_on_path || !is_fed {
                    continue;
                }
                let planned = pads.iter().find_map(|step| match step {
                    Step::Format { at, format } if at.1 == branch.from.1 => Some(*format),
                    _ => None,
                });
                let which = if is_changed { Which::Try } else { Which::Active };
                let outgoing = planned.or_else(|| self.drivers.format(which, branch.from));
                if let Some(outgoing) = outgoing.filter(|format| format.is_picture()) {
                    self.adapt(&branch, outgoing, 0, &mut steps)?;
                }
            }
        }
        Some(steps)
    }

    /// Returns `true` if the pictures of a sink leave at a source pad.
    fn feeds(&self, entity: &Entity, sink: Pad, source: Pad) -> bool {
        match entity.routes {
            Some(_) => entity.has_route(sink.index, source.index),
            None => self.graph.may_lead(entity, sink, source),
        }
    }

    fn adapt(&self, branch: &Hop<'a>, outgoing: BusFormat, depth: usize, steps: &mut Vec<Step<'a>>) -> Option<()> {
        let (entity, drivers) = (branch.to.0, self.drivers);
        let disable = |steps: &mut Vec<Step<'a>>| {
            let step = (!branch.immutable && !self.locked.contains(&entity.id))
                .then_some(Step::Link { hop: *branch, enabled: false })?;
            steps.push(step);
            Some(())
        };
        if depth == DEEPEST {
            return Some(());
        }
        if !entity.subdev {
            let Some((present, size)) = drivers.node(entity) else { return Some(()) };
            let offers = drivers.offers(entity, outgoing.code);
            let fourcc = offers.iter().find(|fourcc| **fourcc == present).or(offers.first()).copied();
            let Some(fourcc) = fourcc else { return disable(steps) };
            if (fourcc, outgoing.size) != (present, size) {
                if self.locked.contains(&entity.id) {
                    return None;
                }
                steps.push(Step::Node { entity, fourcc, size: outgoing.size });
            }
            return Some(());
        }
        let start = steps.len();
        let fits = drivers.format(Which::Active, branch.to).is_some_and(|sink| sink.takes(outgoing));
        if self.locked.contains(&entity.id) {
            return fits.then_some(());
        }
        if !fits {
            let Some(taken) = self.enter(branch.to, outgoing) else { return disable(steps) };
            steps.push(Step::Format { at: branch.to, format: taken });
        }
        let mut leads_on = false;
        for next in self.graph.hops().filter(|h| h.enabled && h.from.0.id == entity.id) {
            if !self.feeds(entity, branch.to.1, next.from.1) {
                continue;
            }
            let before = steps.len();
            let chosen = steps[start..].iter().find_map(|step| match step {
                Step::Format { at, format } if at.1 == next.from.1 => Some(*format),
                _ => None,
            });
            let Some(given) = chosen.or(drivers.format(Which::Active, next.from)) else { continue };
            let stays = (fits || chosen.is_some())
                && (!given.is_picture() || self.adapt(&next, given, depth + 1, steps).is_some());
            if !stays {
                steps.truncate(before);
                if fits {
                    // All formats of an entity are set together.
                    let format = self.enter(branch.to, outgoing)?;
                    steps.push(Step::Format { at: branch.to, format });
                }
                self.adapt_source(&next, given, outgoing.code, depth, steps)?;
            }
            let is_off = |step: &Step<'a>| match step {
                Step::Link { hop, .. } => (hop.from.1, hop.to.1) == (next.from.1, next.to.1),
                _ => false,
            };
            leads_on |= !steps[before..].iter().any(is_off);
        }
        // A branch that fits stays, wherever it leads.
        if !leads_on && !fits && !branch.immutable {
            steps.truncate(start);
            return disable(steps);
        }
        Some(())
    }

    /// Gives a source pad of a branch, whose sink has changed, the first format that what follows takes. Its present
    /// code comes first.
    fn adapt_source(
        &self,
        next: &Hop<'a>,
        active: BusFormat,
        incoming: u32,
        depth: usize,
        steps: &mut Vec<Step<'a>>,
    ) -> Option<()> {
        let (start, mut tried) = (steps.len(), Vec::new());
        for code in [active.code].into_iter().chain(self.codes(next.from, incoming)) {
            if self.trials.replace(self.trials.get() + 1) >= MOST_TRIALS {
                return None;
            }
            let given = self.drivers.set_format(Which::Try, next.from, BusFormat { code, ..active });
            let Some(given) = given.ok().filter(|given| !tried.contains(given)) else { continue };
            if !given.is_picture() {
                return Some(());
            }
            tried.push(given);
            steps.push(Step::Format { at: next.from, format: given });
            if self.adapt(next, given, depth + 1, steps).is_some() {
                return Some(());
            }
            steps.truncate(start);
        }
        tried.is_empty().then_some(())
    }
}
