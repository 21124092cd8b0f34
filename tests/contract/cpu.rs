//! `convert::Cpu`.

use std::sync::Arc;

use framelease::convert::{Converter, ConverterEvent, Cpu, Layer, Plan, Request};
use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, FrameMut, Pool};
use framelease::Station;

use crate::scene::{Description, Kind, Scene};

/// A converter, what it draws, and where.
pub struct Jobs<C: Converter> {
    pub converter: C,
    pub plan: Arc<Plan>,
    pub source: Frame,
    targets: Vec<Pool>,
}

impl<C: Converter> Jobs<C> {
    pub fn new(converter: C) -> Self {
        let layout = Layout::aligned(FourCc::RGBA32, Size::new(16, 16), 64).unwrap();
        let pool = |count| Pool::new(&Allocator::Memfd, layout, count).unwrap();
        let mut source = pool(1).try_acquire().unwrap();
        drop(source.write(DEFAULT_WAIT).unwrap());
        let plan = Plan::new(&Request::convert(Layer::default()), &[layout], &layout).unwrap();
        Self { converter, plan: Arc::new(plan), source: source.freeze_full(1, 1), targets: vec![pool(60), pool(10)] }
    }

    fn target(&self) -> FrameMut {
        self.targets.iter().find_map(Pool::try_acquire).expect("a free target")
    }

    /// Begins a job. `false` if there was no room: the target is dropped.
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

impl Scene for Jobs<Cpu> {
    type Station = Cpu;

    const DESCRIPTION: Description<Self> = Description {
        give: |scene| assert!(scene.submit()),
        most_waiting: 20,
        many: 200,
        extra_wakes: 0,
        // It draws in `try_submit`, which returns the errors.
        fail: None,
        // It has no end.
        end: None,
        gives_before_end: false,
        fill: Some(|scene| while scene.submit() {}),
        // What makes room is `try_recv`.
        make_room: None,
        // No other thread can make something possible.
        elsewhere: None,
        // It has no device.
        restart: None,
        last_lease: Some(|scene| {
            assert!(scene.submit());
            let frame = scene.converter.try_recv().unwrap().frame().unwrap();
            Box::new(move || drop(frame.read(DEFAULT_WAIT).unwrap()))
        }),
        // It has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn new() -> Self {
        Self::new(Cpu::new().unwrap())
    }

    fn station(&mut self) -> &mut Cpu {
        &mut self.converter
    }

    fn kind(event: &ConverterEvent) -> Kind {
        kind(event)
    }
}

crate::contract!(Jobs<Cpu>);
