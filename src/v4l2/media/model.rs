//! A model of the drivers of a graph, for tests: blocks that behave as real drivers do, and a check of the kernel's
//! rules at the start. `tests/graphs` has the graphs of real boards.
//!
//! A block begins with its kind and its name. What follows belongs to it, or is about links. `none` stands for a pad
//! without a format, and `any` for every code:
//!
//! ```text
//! sensor 'ov5640 1-003c'
//!   codes UYVY8_1X16 UYVY8_2X8
//!   sizes 640x480 1920x1080
//!   source 0 UYVY8_1X16 640x480
//! pass 'csis-32e40000.csi'
//!   sink 0 UYVY8_1X16 640x480
//!   source 1 UYVY8_1X16 640x480
//! node 'mxc_isi.0.capture' UYVY 1920x1080
//!   sink 0
//!   offers UYVY8_1X16 UYVY NV12
//! link 'ov5640 1-003c':0 -> 'csis-32e40000.csi':0 fixed
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use nix::errno::Errno;

use super::bus_format::{code, BusFormat};
use super::drivers::{Drivers, Target, Which};
use super::graph::{End, Entity, Graph, Hop, Link, Pad, ACTIVE, MULTIPLEXER};
use crate::format::{FourCc, FrameInterval, Rect, Size};
use crate::sys::media::Route;
use crate::v4l2::Intervals;

/// The first code of Bayer patterns.
const RAW: u32 = 0x3000;

/// What a block does with pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Makes pictures in its sizes.
    Sensor,
    /// Gives what it takes.
    Pass,
    /// Gives other codes than it takes, in the same size: an ISP, a debayer.
    Convert,
    /// Crops at its sink and scales down to the size of its source, as rkisp1's resizer does.
    Scale,
    /// Scales down into a rectangle of its sink and crops at its source, as mxc-isi does.
    Compose,
    /// Several sinks and sources.
    Crossbar,
    /// A video node.
    Node,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Abilities {
    /// The codes of sinks, or of a sensor.
    pub(super) codes: Vec<u32>,
    /// The codes of sources, if they differ.
    pub(super) gives: Vec<u32>,
    pub(super) sizes: Vec<Size>,
    pub(super) offers: Vec<(u32, Vec<FourCc>)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    formats: HashMap<(u32, u32), BusFormat>,
    rects: HashMap<(u32, u32, u32), Rect>,
    routes: HashMap<u32, Vec<Route>>,
}

/// A graph with its drivers.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) graph: Graph,
    kinds: HashMap<u32, (Kind, Abilities)>,
    /// The states for trials and of the device.
    states: [RefCell<State>; 2],
    nodes: RefCell<HashMap<u32, (FourCc, Size)>>,
    links: RefCell<Vec<bool>>,
    /// Pads that have no format.
    silent: Vec<u32>,
    /// The names of nodes that stream.
    pub(super) busy: RefCell<Vec<String>>,
    /// The number of changes after which the next one fails.
    pub(super) failing: Cell<Option<u32>>,
}

impl Model {
    pub(super) fn new(graph: Graph, kinds: HashMap<u32, (Kind, Abilities)>) -> Self {
        let links = graph.links.iter().map(|link| link.enabled).collect();
        let model = Self {
            graph,
            kinds,
            states: Default::default(),
            nodes: RefCell::default(),
            links: RefCell::new(links),
            silent: Vec::new(),
            busy: RefCell::default(),
            failing: Cell::default(),
        };
        for which in [Which::Try, Which::Active] {
            for entity in &model.graph.entities {
                let routes = entity.routes.clone().map(|routes| (entity.id, routes));
                model.states[which as usize].borrow_mut().routes.extend(routes);
                let mut pads: Vec<Pad> = model.graph.pads_of(entity.id).collect();
                pads.sort_by_key(|pad| !pad.sink);
                for pad in pads {
                    let any = BusFormat::new(0, Size::new(640, 480));
                    let _ = model.set(which, (entity, pad), any);
                }
            }
        }
        model
    }

    /// Reads a text as the module describes it.
    pub(super) fn parse(text: &str) -> Self {
        let mut graph = Graph { path: "/dev/media0".into(), ..Graph::default() };
        let mut kinds: HashMap<u32, (Kind, Abilities)> = HashMap::new();
        let (mut formats, mut nodes, mut silent) = (Vec::new(), HashMap::new(), Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let words: Vec<&str> = rest.split_whitespace().collect();
            let size = |text: &str| {
                let (width, height) = text.split_once('x').unwrap();
                Size::new(width.parse().unwrap(), height.parse().unwrap())
            };
            let code = |name: &&str| code(name).unwrap_or_else(|| panic!("no code {name}"));
            let fourcc = |name: &&str| name.parse::<FourCc>().unwrap();
            let last = graph.entities.len() as u32;
            match word {
                "sensor" | "pass" | "convert" | "scale" | "compose" | "crossbar" | "channels" | "node" => {
                    let kind = match word {
                        "sensor" => Kind::Sensor,
                        "pass" => Kind::Pass,
                        "convert" => Kind::Convert,
                        "scale" => Kind::Scale,
                        "compose" => Kind::Compose,
                        "crossbar" | "channels" => Kind::Crossbar,
                        _ => Kind::Node,
                    };
                    let (name, after) = rest.strip_prefix('\'').unwrap().split_once('\'').unwrap();
                    let id = last + 1;
                    if let [format, dimensions] = after.split_whitespace().collect::<Vec<_>>()[..] {
                        nodes.insert(id, (fourcc(&format), size(dimensions)));
                    }
                    graph.entities.push(Entity {
                        id,
                        name: name.into(),
                        function: if word == "crossbar" { MULTIPLEXER } else { 0 },
                        node: Some((81, id)),
                        device: Some(format!("/dev/{}{id}", if kind == Kind::Node { "video" } else { "v4l-subdev" })),
                        subdev: kind != Kind::Node,
                        routes: None,
                    });
                    kinds.insert(id, (kind, Abilities::default()));
                }
                "codes" => kinds.get_mut(&last).unwrap().1.codes = words.iter().map(code).collect(),
                "gives" => kinds.get_mut(&last).unwrap().1.gives = words.iter().map(code).collect(),
                "sizes" => kinds.get_mut(&last).unwrap().1.sizes = words.iter().map(|w| size(w)).collect(),
                "offers" => {
                    let offer =
                        (if words[0] == "any" { 0 } else { code(&words[0]) }, words[1..].iter().map(fourcc).collect());
                    kinds.get_mut(&last).unwrap().1.offers.push(offer);
                }
                "routes" => {
                    let route = |text: &&str| {
                        let (sink, source) = text.split_once("->").unwrap();
                        let (sink_pad, source_pad) = (sink.parse().unwrap(), source.parse().unwrap());
                        Route { sink_pad, source_pad, flags: ACTIVE, ..Route::default() }
                    };
                    graph.entities.last_mut().unwrap().routes = Some(words.iter().map(route).collect());
                }
                "sink" | "source" => {
                    let index: u32 = words[0].parse().unwrap();
                    graph.pads.push(Pad { id: last * 100 + index, entity: last, index, sink: word == "sink" });
                    if words[1..] == ["none"] {
                        silent.push(last * 100 + index);
                    }
                    if let [name, dimensions] = words[1..] {
                        formats.push(((last, index), BusFormat::new(code(&name), size(dimensions))));
                    }
                }
                "link" => {
                    let (from, to) = rest.split_once(" -> ").unwrap();
                    let (to, state) = to.rsplit_once(' ').unwrap();
                    let pad = |text: &str| {
                        let (name, index) = text.rsplit_once(':').unwrap();
                        let name = name.trim_matches('\'');
                        let entity = graph.entities.iter().find(|e| e.name == name).unwrap();
                        entity.id * 100 + index.parse::<u32>().unwrap()
                    };
                    let (source, sink) = (pad(from), pad(to));
                    let (enabled, immutable) = (state != "off", state == "fixed");
                    graph.links.push(Link { source, sink, enabled, immutable, dynamic: false });
                }
                other => panic!("unknown line: {other}"),
            }
        }
        let model = Self { silent, ..Self::new(graph, kinds) };
        for ((entity, pad), format) in formats {
            let entity = &model.graph.entities[entity as usize - 1];
            let at = (entity, model.pad(entity.id, pad));
            // Its sources follow.
            if at.1.sink {
                let _ = model.set(Which::Active, at, format);
            } else {
                model.states[1].borrow_mut().formats.insert((entity.id, pad), format);
            }
        }
        *model.nodes.borrow_mut() = nodes;
        model
    }

    /// Returns the model with its graph as the steps have left it.
    pub(super) fn reread(mut self) -> Self {
        for (link, enabled) in self.graph.links.iter_mut().zip(self.links.borrow().iter()) {
            link.enabled = *enabled;
        }
        for entity in &mut self.graph.entities {
            entity.routes = self.states[1].borrow().routes.get(&entity.id).cloned();
        }
        *self.states[0].borrow_mut() = Self::new(self.graph.clone(), self.kinds.clone()).states[0].take();
        self
    }

    pub(super) fn node_of(&self, name: &str) -> (u32, u32) {
        self.graph.entities.iter().find(|e| e.name == name).unwrap().node.unwrap()
    }

    /// Returns everything that the device keeps.
    pub(super) fn snapshot(&self) -> String {
        let state = self.states[1].borrow();
        let mut lines: Vec<String> = state.formats.iter().map(|(at, f)| format!("{at:?} {f}")).collect();
        lines.extend(state.rects.iter().map(|(at, r)| format!("{at:?} {r}")));
        lines.extend(state.routes.iter().map(|(at, r)| format!("{at:?} {r:?}")));
        lines.extend(self.nodes.borrow().iter().map(|(id, f)| format!("{id} {f:?}")));
        lines.extend(self.links.borrow().iter().enumerate().map(|(at, on)| format!("link {at} {on}")));
        lines.sort();
        lines.join("\n")
    }

    /// Checks the links that a node's pictures go through, and those that leave them, as the kernel does at STREAMON.
    /// Returns the sensors that are reached.
    pub(super) fn start(&self, node: (u32, u32)) -> Result<Vec<String>, String> {
        let is_on = |at: usize| self.links.borrow()[at];
        let ends = |link: &Link| {
            let pad = |id: u32| *self.graph.pads.iter().find(|p| p.id == id).unwrap();
            (pad(link.source), pad(link.sink))
        };
        let entity = |id: u32| self.graph.entities.iter().find(|e| e.id == id).unwrap();
        let mut pads: Vec<Pad> = self.graph.pads_of(node.1).collect();
        let (mut at, mut sensors) = (0, Vec::new());
        while let Some(&pad) = pads.get(at) {
            at += 1;
            let mut near: Vec<Pad> =
                self.graph.pads_of(pad.entity).filter(|other| self.is_connected(pad.entity, pad, *other)).collect();
            for (number, link) in self.graph.links.iter().enumerate().filter(|(number, _)| is_on(*number)) {
                let (source, sink) = ends(link);
                if source != pad && sink != pad {
                    continue;
                }
                near.extend([source, sink]);
                self.check(entity(source.entity), source, entity(sink.entity), sink)
                    .map_err(|text| format!("link {number}: {text}"))?;
            }
            for other in near {
                if !pads.contains(&other) {
                    pads.push(other);
                }
            }
            if self.kinds[&pad.entity].0 == Kind::Sensor {
                sensors.push(entity(pad.entity).name.clone());
            }
        }
        sensors.dedup();
        match sensors.is_empty() {
            true => Err("no sensor".into()),
            false => Ok(sensors),
        }
    }

    fn is_connected(&self, entity: u32, a: Pad, b: Pad) -> bool {
        let (sink, source) = match (a.sink, b.sink) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            // A scaler with two sources gives the same picture at both.
            _ => return self.kinds[&entity].0 != Kind::Crossbar,
        };
        match self.kinds[&entity].0 {
            Kind::Crossbar => self.source_of(Which::Active, entity, source) == Some(sink.index),
            _ => true,
        }
    }

    /// Returns the index of the sink that feeds a source of a crossbar.
    fn source_of(&self, which: Which, entity: u32, source: Pad) -> Option<u32> {
        match self.states[which as usize].borrow().routes.get(&entity) {
            Some(routes) => routes.iter().find(|r| r.source_pad == source.index).map(|r| r.sink_pad),
            None => {
                let place = self.graph.pads_of(entity).filter(|p| !p.sink && p.index < source.index).count();
                let mut sinks: Vec<u32> = self.graph.pads_of(entity).filter(|p| p.sink).map(|p| p.index).collect();
                sinks.sort_unstable();
                sinks.get(place).copied()
            }
        }
    }

    fn check(&self, from: &Entity, source: Pad, to: &Entity, sink: Pad) -> Result<(), String> {
        let Some(format) = self.format(Which::Active, (from, source)) else { return Ok(()) };
        if to.subdev {
            let own = self.format(Which::Active, (to, sink)).unwrap();
            return own.takes(format).then_some(()).ok_or(format!("{format} -> {own}"));
        }
        let Some((fourcc, size)) = self.node(to) else { return Ok(()) };
        let fits = size == format.size && self.offers(to, format.code).contains(&fourcc);
        fits.then_some(()).ok_or(format!("{format} -> {fourcc} {size}"))
    }

    fn count(&self) -> Result<(), Errno> {
        match self.failing.get() {
            Some(0) => {
                self.failing.set(None);
                Err(Errno::EIO)
            }
            Some(n) => {
                self.failing.set(Some(n - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn set(&self, which: Which, (entity, pad): End<'_>, wanted: BusFormat) -> Option<BusFormat> {
        let (kind, can) = &self.kinds[&entity.id];
        let one_of = |codes: &[u32], code: u32| {
            if codes.contains(&code) {
                code
            } else {
                codes.first().copied().unwrap_or(code)
            }
        };
        let get = |index: u32| self.states[which as usize].borrow().formats.get(&(entity.id, index)).copied();
        let put = |index: u32, format: BusFormat| {
            self.states[which as usize].borrow_mut().formats.insert((entity.id, index), format);
        };
        let full = |size: Size| Rect { left: 0, top: 0, size };
        let rect = |index: u32, target: Target, rect: Rect| {
            self.states[which as usize].borrow_mut().rects.insert((entity.id, index, target as u32), rect);
        };
        let of = |sink: bool| -> Vec<u32> {
            self.graph.pads_of(entity.id).filter(|p| p.sink == sink).map(|p| p.index).collect()
        };
        let outputs = if can.gives.is_empty() { &can.codes } else { &can.gives };
        if self.silent.contains(&pad.id) {
            return None;
        }
        let given = match (kind, pad.sink) {
            (Kind::Node, _) => return None,
            (Kind::Sensor, _) => {
                let distance = |s: &&Size| s.width.abs_diff(wanted.size.width) + s.height.abs_diff(wanted.size.height);
                let size = can.sizes.iter().min_by_key(distance).copied().unwrap_or(wanted.size);
                BusFormat { code: one_of(&can.codes, wanted.code), size, ..wanted }
            }
            (_, true) => BusFormat { code: one_of(&can.codes, wanted.code), ..wanted },
            (Kind::Crossbar, false) => get(self.source_of(which, entity.id, pad)?)?,
            (Kind::Pass, false) => get(of(true)[0])?,
            (Kind::Convert, false) => BusFormat { code: one_of(outputs, wanted.code), ..get(of(true)[0])? },
            (Kind::Scale, false) => {
                let sink = get(of(true)[0])?;
                let crop = self.rect(which, (entity, self.pad(entity.id, of(true)[0])), Target::Crop)?.size;
                let side = |wanted: u32, most: u32| wanted.clamp((most / 16).max(1), most);
                let size = Size::new(side(wanted.size.width, crop.width), side(wanted.size.height, crop.height));
                BusFormat { size, ..sink }
            }
            (Kind::Compose, false) if get(of(true)[0]).is_some_and(|sink| sink.code >= RAW) => {
                BusFormat { size: self.rect(which, (entity, pad), Target::Crop)?.size, ..get(of(true)[0])? }
            }
            (Kind::Compose, false) => {
                let crop = self.rect(which, (entity, pad), Target::Crop)?;
                BusFormat { code: one_of(outputs, wanted.code), size: crop.size, ..wanted }
            }
        };
        put(pad.index, given);
        if pad.sink {
            match kind {
                Kind::Scale => rect(pad.index, Target::Crop, full(given.size)),
                Kind::Compose => {
                    rect(pad.index, Target::Compose, full(given.size));
                    of(false).iter().for_each(|index| rect(*index, Target::Crop, full(given.size)));
                }
                _ => {}
            }
            for index in of(false) {
                let source = self.pad(entity.id, index);
                let is_fed = *kind != Kind::Crossbar || self.source_of(which, entity.id, source) == Some(pad.index);
                if is_fed {
                    let code = get(index).map_or(given.code, |format| format.code);
                    self.set(which, (entity, source), BusFormat { code, ..given });
                }
            }
        }
        Some(given)
    }

    fn pad(&self, entity: u32, index: u32) -> Pad {
        self.graph.pads_of(entity).find(|p| p.index == index).unwrap()
    }
}

impl Drivers for Model {
    fn codes(&self, (entity, pad): End<'_>) -> Vec<u32> {
        let (kind, can) = &self.kinds[&entity.id];
        match (kind, pad.sink, can.gives.is_empty()) {
            (Kind::Pass | Kind::Scale | Kind::Crossbar, false, _) => {
                self.format(Which::Try, (entity, pad)).map(|format| format.code).into_iter().collect()
            }
            // mxc-isi goes by its sink, too.
            (Kind::Compose, false, _) => {
                let sink = self.graph.pads_of(entity.id).find(|pad| pad.sink);
                match sink.and_then(|sink| self.format(Which::Try, (entity, sink))) {
                    Some(format) if format.code >= RAW => vec![format.code],
                    _ => can.gives.clone(),
                }
            }
            (_, false, false) => can.gives.clone(),
            _ => can.codes.clone(),
        }
    }

    fn sizes(&self, (entity, _): End<'_>, _: u32) -> Vec<(Size, Size)> {
        self.kinds[&entity.id].1.sizes.iter().map(|size| (*size, *size)).collect()
    }

    fn intervals(&self, _: End<'_>, _: BusFormat) -> Intervals {
        Intervals::Unknown
    }

    fn format(&self, which: Which, (entity, pad): End<'_>) -> Option<BusFormat> {
        let known = || self.states[which as usize].borrow().formats.get(&(entity.id, pad.index)).copied();
        if self.silent.contains(&pad.id) {
            None
        } else {
            known()
        }
    }

    fn set_format(&self, which: Which, at: End<'_>, format: BusFormat) -> Result<BusFormat, Errno> {
        if which == Which::Active {
            self.count()?;
        }
        self.set(which, at, format).ok_or(Errno::EINVAL)
    }

    fn rect(&self, which: Which, (entity, pad): End<'_>, target: Target) -> Option<Rect> {
        self.states[which as usize].borrow().rects.get(&(entity.id, pad.index, target as u32)).copied()
    }

    fn set_rect(&self, which: Which, at: End<'_>, target: Target, wanted: Rect) -> Result<Rect, Errno> {
        let (entity, pad) = at;
        let present = self.rect(which, at, target).ok_or(Errno::EINVAL)?;
        let sink = self.graph.pads_of(entity.id).find(|p| p.sink).ok_or(Errno::EINVAL)?;
        let within = match pad.sink {
            true => self.format(which, at).map(|format| format.size),
            false => self.rect(which, (entity, sink), Target::Compose).map(|rect| rect.size),
        };
        let within = within.unwrap_or(present.size);
        let size = Size::new(wanted.size.width.min(within.width), wanted.size.height.min(within.height));
        let edge = |at: i32, side: u32, most: u32| at.clamp(0, (most - side) as i32);
        let rect = Rect {
            left: edge(wanted.left, size.width, within.width),
            top: edge(wanted.top, size.height, within.height),
            size,
        };
        let put = |at: End<'_>, target: Target, rect: Rect| {
            self.states[which as usize].borrow_mut().rects.insert((at.0.id, at.1.index, target as u32), rect);
        };
        put(at, target, rect);
        for source in self.graph.pads_of(entity.id).filter(|p| !p.sink) {
            if target == Target::Compose {
                put((entity, source), Target::Crop, Rect { left: 0, top: 0, size });
            }
            if let Some(format) = self.format(which, (entity, source)) {
                self.set(which, (entity, source), BusFormat { size, ..format });
            }
        }
        Ok(rect)
    }

    fn interval(&self, _: End<'_>) -> Option<FrameInterval> {
        None
    }

    fn set_interval(&self, _: End<'_>, _: FrameInterval) -> Result<FrameInterval, Errno> {
        Err(Errno::ENOTTY)
    }

    fn is_busy(&self, entity: &Entity) -> bool {
        self.busy.borrow().contains(&entity.name)
    }

    fn node(&self, entity: &Entity) -> Option<(FourCc, Size)> {
        self.nodes.borrow().get(&entity.id).copied()
    }

    fn offers(&self, entity: &Entity, code: u32) -> Vec<FourCc> {
        let offers = &self.kinds[&entity.id].1.offers;
        offers.iter().filter(|(for_code, _)| [0, code].contains(for_code)).flat_map(|(_, list)| list.clone()).collect()
    }

    fn set_node(&self, entity: &Entity, fourcc: FourCc, size: Size) -> Result<(FourCc, Size), Errno> {
        self.count()?;
        self.nodes.borrow_mut().insert(entity.id, (fourcc, size));
        Ok((fourcc, size))
    }

    fn set_link(&self, hop: &Hop<'_>, enabled: bool) -> Result<(), Errno> {
        self.count()?;
        let at = self.graph.links.iter().position(|l| (l.source, l.sink) == (hop.from.1.id, hop.to.1.id));
        let at = at.ok_or(Errno::EINVAL)?;
        let is_taken =
            |(number, link): (usize, &Link)| number != at && link.sink == hop.to.1.id && self.links.borrow()[number];
        if self.graph.links[at].immutable {
            return Err(Errno::EINVAL);
        }
        if enabled && self.graph.links.iter().enumerate().any(is_taken) {
            return Err(Errno::EBUSY);
        }
        self.links.borrow_mut()[at] = enabled;
        Ok(())
    }

    fn set_routes(&self, which: Which, entity: &Entity, routes: &[Route]) -> Result<(), Errno> {
        if which == Which::Active {
            self.count()?;
        }
        self.states[which as usize].borrow_mut().routes.insert(entity.id, routes.to_vec());
        // The kernel's helper for new routes replaces all formats by the driver's own.
        let mut pads: Vec<Pad> = self.graph.pads_of(entity.id).collect();
        pads.sort_by_key(|pad| !pad.sink);
        for pad in pads {
            self.set(which, (entity, pad), BusFormat::new(0, Size::new(1920, 1080)));
        }
        Ok(())
    }
}
