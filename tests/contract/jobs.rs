//! Jobs of a converter.

use std::sync::Arc;

use framelease::convert::{Converter, ConverterEvent, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::Layout;
use framelease::frame::{Frame, FrameMut, Pool};

use crate::scene::Kind;

/// A converter, its plan and source, and its targets.
pub struct Jobs<C: Converter> {
    pub converter: C,
    plan: Arc<Plan>,
    source: Frame,
    targets: Vec<Pool>,
}

impl<C: Converter> Jobs<C> {
    /// Draws pictures of one layout.
    pub fn new(converter: C, layout: Layout, allocator: &Allocator, targets: &[usize]) -> Self {
        let pool = |count| Pool::new(allocator, layout, count).unwrap();
        let mut source = pool(1).try_acquire().unwrap();
        drop(source.write(DEFAULT_WAIT).unwrap());
        let plan = Plan::new(&Request::convert(Layer::default()), &[layout], &layout).unwrap();
        let targets = targets.iter().map(|count| pool(*count)).collect();
        Self { converter, plan: Arc::new(plan), source: source.freeze_full(1, 1), targets }
    }

    fn target(&self) -> FrameMut {
        self.targets.iter().find_map(Pool::try_acquire).expect("a free target")
    }

    /// Begins a job. Returns `false` if there was no room, and drops the target.
    pub fn submit(&mut self) -> bool {
        let target = self.target();
        self.converter.try_submit(&self.plan, std::slice::from_ref(&self.source), target).unwrap().is_taken()
    }
}

pub fn kind(event: &ConverterEvent) -> Kind {
    match event {
        ConverterEvent::Frame(_) => Kind::Item,
        ConverterEvent::Failed { .. } => Kind::Error,
        _ => Kind::Other,
    }
}
