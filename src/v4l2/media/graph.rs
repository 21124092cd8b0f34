//! The topology of a media device: entities, pads, links and routes, and the paths through them. It does not use a
//! descriptor.

use crate::sys::media::Route;

/// `V4L2_SUBDEV_ROUTE_FL_ACTIVE`.
pub(super) const ACTIVE: u32 = 1;
/// `MEDIA_ENT_F_VID_MUX`.
pub(super) const MULTIPLEXER: u32 = 0x5001;
/// `MEDIA_ENT_F_CAM_SENSOR`, `_ATV_DECODER` and `_DV_DECODER`: pictures begin here, also if the entity has sinks.
const SOURCES: [u32; 3] = [0x2_0001, 0x2_0004, 0x6001];
/// A limit above the paths to a node of any driver. Graphs of broken drivers may have more.
const MOST_PATHS: usize = 64;
/// A limit above the links of a path.
const LONGEST: usize = 32;
/// A limit above the links that are followed to find all paths.
const MOST_HOPS: usize = 2000;

/// A processing block or a device node of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) id: u32,
    pub(super) name: String,
    /// `MEDIA_ENT_F_*`.
    pub(super) function: u32,
    /// Major and minor number of its device node.
    pub(super) node: Option<(u32, u32)>,
    /// The path of its device node.
    pub(super) device: Option<String>,
    /// `true` for a `/dev/v4l-subdev*`, whose pads have formats.
    pub(super) subdev: bool,
    /// Its routes. `None` if the kernel does not report them.
    pub(super) routes: Option<Vec<Route>>,
}

impl Entity {
    /// Returns `true` if a picture goes from a sink to a source pad by an active route.
    pub(super) fn has_route(&self, sink: u32, source: u32) -> bool {
        let is_it = |r: &Route| (r.sink_pad, r.source_pad) == (sink, source) && r.flags & ACTIVE != 0;
        self.routes.iter().flatten().any(is_it)
    }

    /// Returns `true` for a video node.
    pub(super) fn is_video_node(&self) -> bool {
        self.node.is_some() && !self.subdev
    }
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
    pub(super) immutable: bool,
    /// Whether the link may change during streaming. The kernel wants this bit back.
    pub(super) dynamic: bool,
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

/// A pad with its entity.
pub(super) type End<'a> = (&'a Entity, Pad);

/// A link with the entities at its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'a> {
    pub(super) from: End<'a>,
    pub(super) to: End<'a>,
    pub(super) enabled: bool,
    pub(super) immutable: bool,
    pub(super) dynamic: bool,
    /// The kernel does not report which of the enabled links into `to` leads to the node. It may be another one.
    pub(super) assumed: bool,
}

/// The path to a video node as it is set up, the link nearest to the node first.
#[derive(Debug, Default)]
pub(super) struct MediaPath<'a> {
    pub(super) hops: Vec<Hop<'a>>,
    /// The pad at which the path ends, because no active route leads to it, and a link that could.
    pub(super) unrouted: Option<(End<'a>, Option<Hop<'a>>)>,
}

impl Graph {
    pub(super) fn end(&self, pad: u32) -> Option<End<'_>> {
        let pad = self.pads.iter().find(|p| p.id == pad)?;
        Some((self.entities.iter().find(|e| e.id == pad.entity)?, *pad))
    }

    /// Returns the links with their ends. Links of pads that do not exist are left out.
    pub(super) fn hops(&self) -> impl Iterator<Item = Hop<'_>> {
        self.links.iter().filter_map(|l| {
            let (from, to) = (self.end(l.source)?, self.end(l.sink)?);
            let Link { enabled, immutable, dynamic, .. } = *l;
            Some(Hop { from, to, enabled, immutable, dynamic, assumed: false })
        })
    }

    fn hops_into(&self, entity: u32) -> impl Iterator<Item = Hop<'_>> {
        self.hops().filter(move |h| h.to.0.id == entity)
    }

    /// Returns the pads of an entity.
    pub(super) fn pads_of(&self, entity: u32) -> impl Iterator<Item = Pad> + '_ {
        self.pads.iter().filter(move |p| p.entity == entity).copied()
    }

    /// Returns the entity of a video node into which links lead. A mem-to-mem device has another one with the same
    /// node, for the pictures that it reads.
    pub(super) fn node(&self, node: (u32, u32)) -> Option<&Entity> {
        self.entities.iter().find(|e| e.node == Some(node) && self.hops_into(e.id).next().is_some())
    }

    /// Returns the place of a pad among the sinks, or among the sources, of its entity.
    fn place(&self, pad: Pad) -> usize {
        self.pads_of(pad.entity).filter(|p| p.sink == pad.sink && p.index < pad.index).count()
    }

    /// Returns the path to a video node as it is set up. If no link into an entity is enabled, the path ends with its
    /// first disabled link.
    ///
    /// Within an entity the path follows the active route. If the kernel does not report routes, it follows the link
    /// into the sink pad that has the same place as the source pad: the crossbar of mxc-isi begins with these routes,
    /// and such kernels cannot change them.
    pub(super) fn path(&self, node: (u32, u32)) -> MediaPath<'_> {
        let mut path = MediaPath::default();
        let mut at: Option<(&Entity, Option<Pad>)> = self.node(node).map(|e| (e, None));
        while let Some((entity, source)) = at.take() {
            let mut into: Vec<Hop<'_>> = self.hops_into(entity.id).collect();
            into.sort_by_key(|h| !h.enabled);
            match (source, &entity.routes) {
                (Some(source), Some(_)) if !into.is_empty() => {
                    let possible = into.first().copied();
                    into.retain(|h| entity.has_route(h.to.1.index, source.index));
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
                let goes_on = hop.enabled && !SOURCES.contains(&hop.from.0.function);
                at = goes_on.then_some((hop.from.0, Some(hop.from.1)));
            }
        }
        path
    }

    /// Returns every path that could lead from a sensor to a video node, the sensor's link first. Paths that need fewer
    /// changes come first.
    pub(super) fn possible_paths(&self, node: (u32, u32)) -> Vec<Vec<Hop<'_>>> {
        let mut found = Vec::new();
        if let Some(entity) = self.node(node) {
            self.extend(entity, None, &mut Vec::new(), &mut found, &mut 0);
        }
        found.sort_by_key(|path: &Vec<Hop<'_>>| self.changes(path));
        found
    }

    fn extend<'a>(
        &'a self,
        entity: &'a Entity,
        source: Option<Pad>,
        after: &mut Vec<Hop<'a>>,
        found: &mut Vec<Vec<Hop<'a>>>,
        followed: &mut usize,
    ) {
        if found.len() == MOST_PATHS || after.len() == LONGEST {
            return;
        }
        // Neither video nodes from which the pipeline reads, nor receivers without a sensor, nor the connectors of a
        // decoder.
        let is_source = SOURCES.contains(&entity.function) || self.pads_of(entity.id).all(|pad| !pad.sink);
        if is_source {
            if !entity.is_video_node() && !after.is_empty() {
                found.push(after.iter().rev().copied().collect());
            }
            return;
        }
        for hop in self.hops_into(entity.id) {
            let is_seen = hop.from.0.id == entity.id || after.iter().any(|h| h.to.0.id == hop.from.0.id);
            let leads = source.map_or(true, |source| self.may_lead(entity, hop.to.1, source));
            *followed += 1;
            // A fixed link that is off stays off.
            if is_seen || !leads || hop.immutable && !hop.enabled || *followed > MOST_HOPS {
                continue;
            }
            after.push(hop);
            self.extend(hop.from.0, Some(hop.from.1), after, found, followed);
            after.pop();
        }
    }

    /// Returns `true` if a picture may go from a sink to a source pad of an entity. Routes can be set if the kernel
    /// reports them. Otherwise those of a crossbar are fixed.
    pub(super) fn may_lead(&self, entity: &Entity, sink: Pad, source: Pad) -> bool {
        let sources = || self.pads_of(entity.id).filter(|p| !p.sink).count();
        let is_fixed = entity.routes.is_none() && entity.function == MULTIPLEXER && sources() > 1;
        !is_fixed || self.place(sink) == self.place(source)
    }

    /// Returns how much has to change for a path: links, then routes, then pads at other places.
    fn changes(&self, path: &[Hop<'_>]) -> (usize, usize, usize) {
        let inside = || path.windows(2).map(|pair| (pair[0].to, pair[1].from.1));
        let links = path.iter().filter(|h| !h.enabled).count();
        let routes = inside().filter(|((e, sink), source)| needs_route(e, *sink, *source)).count();
        let places = inside().filter(|((_, sink), source)| self.place(*sink) != self.place(*source)).count();
        (links, routes, places)
    }
}

/// Returns `true` if an entity with routes does not have the one from a sink to a source pad.
pub(super) fn needs_route(entity: &Entity, sink: Pad, source: Pad) -> bool {
    entity.routes.is_some() && !entity.has_route(sink.index, source.index)
}
