//! The checks, for any station.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use framelease::stats::syscalls;
use framelease::{ErrorKind, Received, Station};
use nix::sys::signal::SaFlags;

use crate::forked_child::ForkedChild;
use crate::scene::{Description, Kind, Scene};
use crate::watch::{signaled, thread_cpu, Watch};

/// More calls than any check needs.
const SOON: Duration = Duration::from_secs(10);
/// How long a descriptor is watched to see that it stays quiet.
const QUIET: Duration = Duration::from_millis(100);
/// The most system calls of one call, however much waits for it: 32 connections, 32 messages, and the cost of each.
const MOST_SYSCALLS: u64 = 1000;
/// Calls after which a readable descriptor counts as readable forever.
const MOST_CALLS: usize = 2000;

/// The results of `try_recv` calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Got {
    items: usize,
    errors: usize,
    others: usize,
    ends: usize,
    /// Calls that found nothing although the descriptor was readable.
    nothings: usize,
}

impl Got {
    /// Returns `true` if the items explain the number of wake-ups without an event.
    fn has_few_nothings<S>(&self, description: &Description<S>) -> bool {
        self.nothings <= description.extra_wakes * self.items.max(1)
    }

    /// Calls `try_recv` once. `false` if there was nothing.
    fn add<S: Scene>(&mut self, scene: &mut S) -> bool {
        match scene.station().try_recv() {
            Ok(Received::Item(event)) => {
                match S::kind(&event) {
                    Kind::Item => self.items += 1,
                    Kind::Error => self.errors += 1,
                    Kind::Other => self.others += 1,
                }
                scene.keep(event);
                true
            }
            Ok(Received::Nothing) => false,
            Ok(Received::Ended) => {
                self.ends += 1;
                true
            }
            // After the end, or after an error that ends the stream.
            Err(e) if e.kind() == ErrorKind::State => false,
            Err(_) => {
                self.errors += 1;
                true
            }
        }
    }

    /// Receives like an event loop: while the descriptor is readable, until nothing has come for `quiet`.
    fn while_readable<S: Scene>(&mut self, scene: &mut S, watch: &Watch, quiet: Duration) {
        let mut calls = 0;
        while watch.is_readable_within(quiet) {
            if !self.add(scene) {
                self.nothings += 1;
            }
            calls += 1;
            assert!(calls < MOST_CALLS, "the descriptor stays readable: {self:?}");
        }
    }

    /// Receives while the descriptor is readable. Nothing may be left after that, because an item makes it readable.
    fn all_announced<S: Scene>(&mut self, scene: &mut S, watch: &Watch, quiet: Duration) {
        self.while_readable(scene, watch, quiet);
        let before = self.clone();
        self.until_nothing(scene);
        assert_eq!(*self, before, "an event was left, and the descriptor was not readable");
        self.while_readable(scene, watch, Duration::ZERO);
    }

    /// Receives until `done`, which must come soon.
    fn until<S: Scene>(&mut self, scene: &mut S, watch: &Watch, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < SOON, "only {self:?}");
            assert!(watch.is_readable_within(SOON), "not readable, after {self:?}");
            if !self.add(scene) {
                self.nothings += 1;
            }
        }
    }

    /// Calls `try_recv` until it finds nothing.
    fn until_nothing<S: Scene>(&mut self, scene: &mut S) {
        let mut calls = 0;
        while self.add(scene) {
            calls += 1;
            assert!(calls < MOST_CALLS, "there is always something: {self:?}");
        }
    }
}

fn start<S: Scene>() -> (S, Watch) {
    let mut scene = S::new();
    let watch = Watch::new(scene.station());
    let got = scene.station().try_recv().unwrap();
    assert!(got.is_nothing(), "{got:?} at first");
    (scene, watch)
}

fn assert_nothing<T: Debug>(got: framelease::Result<Received<T>>) {
    assert!(matches!(got, Ok(Received::Nothing)), "{got:?}");
}

/// Checks that an idle station causes at most one wake-up in a second, and waits without spinning.
pub fn idle<S: Scene>() {
    let (mut scene, watch) = start::<S>();
    let mut got = Got::default();
    let deadline = Instant::now() + Duration::from_secs(1);
    while watch.is_readable_within(deadline.saturating_duration_since(Instant::now())) {
        got.nothings += usize::from(!got.add(&mut scene));
        assert!(got.nothings <= 1, "the descriptor stays readable: {got:?}");
    }
    assert!(got == Got { nothings: got.nothings, ..Got::default() }, "{got:?}");
    // An emulated processor on a busy machine also counts time that it did not get. One good result of three is enough.
    let spent = [0; 3].map(|_| {
        let (calls, cpu) = (syscalls(), thread_cpu());
        assert_nothing(scene.station().recv(Duration::from_millis(300)));
        let (calls, cpu) = (syscalls() - calls, thread_cpu() - cpu);
        assert!(calls <= 12, "{calls} system calls in 300 ms");
        cpu
    });
    assert!(spent.iter().any(|cpu| *cpu < Duration::from_millis(200)), "{spent:?} of CPU time in 300 ms each");
    watch.assert_has(scene.station());
}

/// Checks that one item makes the descriptor readable, comes once, and leaves nothing.
pub fn one_item<S: Scene>() {
    let (mut scene, watch) = start::<S>();
    assert!(!watch.is_readable());
    (S::DESCRIPTION.give)(&mut scene);
    let mut got = Got::default();
    got.until(&mut scene, &watch, |got| got.items == 1);
    got.all_announced(&mut scene, &watch, QUIET);
    let ends = usize::from(S::DESCRIPTION.many == 1);
    assert_eq!((got.items, got.errors, got.others, got.ends), (1, 0, 0, ends), "{got:?}");
    assert!(got.nothings <= S::DESCRIPTION.extra_wakes, "{got:?}");
    if ends > 0 {
        return;
    }
    // The same with a call that waits.
    (S::DESCRIPTION.give)(&mut scene);
    let event = scene.station().recv(SOON).unwrap().item().expect("an item");
    assert_eq!(S::kind(&event), Kind::Item, "{event:?}");
    scene.keep(event);
}

/// Checks that of many items, in groups of all sizes, none is lost and none comes twice.
pub fn many_items<S: Scene>() {
    let (mut scene, watch) = start::<S>();
    let description = S::DESCRIPTION;
    let (mut got, mut given, mut group) = (Got::default(), 0, 1);
    while given < description.many {
        for _ in 0..group {
            (description.give)(&mut scene);
        }
        given += group;
        group = group % description.most_waiting + 1;
        got.until(&mut scene, &watch, |got| got.items == given);
        got.until_nothing(&mut scene);
    }
    got.while_readable(&mut scene, &watch, QUIET);
    let ends = usize::from(description.many == 1);
    assert_eq!((got.items, got.errors, got.others, got.ends), (given, 0, 0, ends), "{got:?}");
    assert!(got.nothings <= given * description.extra_wakes, "{got:?}");
    watch.assert_has(scene.station());
}

/// Checks that an error is reported once, and that the station is quiet after it.
pub fn error<S: Scene>() {
    let Some(fail) = S::DESCRIPTION.fail else { return };
    let (mut scene, watch) = start::<S>();
    fail(&mut scene);
    let mut got = Got::default();
    got.until(&mut scene, &watch, |got| got.errors == 1);
    let before = got.nothings;
    got.all_announced(&mut scene, &watch, 3 * QUIET);
    assert_eq!(got.errors, 1, "{got:?}");
    // A station that recovers by itself may return an item that waited.
    assert!(got.nothings - before <= S::DESCRIPTION.extra_wakes * got.items.max(1), "{got:?}");
    watch.assert_has(scene.station());
}

/// Checks that the end comes once, that later calls are errors, and that the descriptor is not readable.
pub fn end<S: Scene>() {
    let Some(end) = S::DESCRIPTION.end else { return };
    let (mut scene, watch) = start::<S>();
    (S::DESCRIPTION.give)(&mut scene);
    end(&mut scene);
    let mut got = Got::default();
    got.until(&mut scene, &watch, |got| got.ends == 1);
    // A recorder that ends has finished another file.
    assert!(got.items >= usize::from(S::DESCRIPTION.gives_before_end) && got.errors == 0, "{got:?}");
    for _ in 0..3 {
        assert!(!watch.is_readable_within(QUIET), "readable after the end");
        let after = scene.station().try_recv().map_err(|e| e.kind());
        assert!(matches!(after, Err(ErrorKind::State)), "{after:?} after the end");
        let after = scene.station().recv(Duration::from_millis(1)).map_err(|e| e.kind());
        assert!(matches!(after, Err(ErrorKind::State)), "{after:?} after the end");
        let _ = scene.station().dispatch();
    }
    watch.assert_has(scene.station());
}

/// Calls only `dispatch`, while the descriptor is readable.
fn dispatch_only<S: Scene>(scene: &mut S, watch: &Watch) {
    let mut calls = 0;
    while watch.is_readable_within(QUIET) {
        scene.station().dispatch().unwrap();
        calls += 1;
        assert!(calls < 20, "the descriptor stays readable for a loop that only calls dispatch");
    }
}

/// Checks events that a program ignores. If a station takes items, they do not keep the descriptor readable after
/// `dispatch`, and are kept. If a station gives items, the items that wait keep it readable.
pub fn ignored<S: Scene>() {
    let (mut scene, watch) = start::<S>();
    let description = S::DESCRIPTION;
    (description.give)(&mut scene);
    let mut got = Got::default();
    if description.most_ignored.is_none() {
        for _ in 0..20 {
            assert!(watch.is_readable_within(SOON), "an item waits, but the descriptor is not readable");
            scene.station().dispatch().unwrap();
        }
        return got.until(&mut scene, &watch, |got| got.items == 1);
    }
    dispatch_only(&mut scene, &watch);
    (description.give)(&mut scene);
    dispatch_only(&mut scene, &watch);
    assert!(got.add(&mut scene) && got.items == 1, "the first event was not kept: {got:?}");
    let waits = description.most_waiting.min(2) - 1;
    assert_eq!(watch.is_readable(), waits > 0, "the descriptor must be readable if events are left");
    dispatch_only(&mut scene, &watch);
    got.until_nothing(&mut scene);
    assert_eq!((got.items, got.errors, got.others, got.ends), (1 + waits, 0, 0, 0), "{got:?}");
    assert!(!watch.is_readable(), "nothing is left");
    // A new item makes it readable again.
    (description.give)(&mut scene);
    got.until(&mut scene, &watch, |got| got.items == 2 + waits);
    if let Some(end) = description.end {
        end(&mut scene);
        assert!(watch.is_readable(), "the end is new");
        dispatch_only(&mut scene, &watch);
        got.until_nothing(&mut scene);
        assert_eq!((got.errors, got.ends), (0, 1), "{got:?}");
    }
    watch.assert_has(scene.station());
    drop((scene, watch));
    if let Some(fail) = description.fail {
        let (mut scene, watch) = start::<S>();
        fail(&mut scene);
        dispatch_only(&mut scene, &watch);
        let mut got = Got::default();
        got.until_nothing(&mut scene);
        assert_eq!((got.errors, got.ends), (1, 0), "{got:?}");
        assert!(!watch.is_readable(), "nothing is left");
    }
}

/// Checks that a loop that never receives keeps a bounded number of events.
pub fn ignored_for_long<S: Scene>() {
    let Some(most) = S::DESCRIPTION.most_ignored else { return };
    let (mut scene, watch) = start::<S>();
    for _ in 0..most + 20 {
        (S::DESCRIPTION.give)(&mut scene);
        scene.station().dispatch().unwrap();
    }
    dispatch_only(&mut scene, &watch);
    let mut got = Got::default();
    got.until_nothing(&mut scene);
    assert!((1..=most).contains(&(got.items + got.others)) && got.errors + got.ends == 0, "{got:?} of {most}");
    assert!(!watch.is_readable(), "nothing is left");
    // The station still works.
    (S::DESCRIPTION.give)(&mut scene);
    let items = got.items;
    got.until(&mut scene, &watch, |got| got.items == items + 1);
    watch.assert_has(scene.station());
}

/// Checks that a loop which hears of changes only, and receives until nothing is left, misses nothing.
pub fn edges<S: Scene>() {
    let description = S::DESCRIPTION;
    let start = || {
        let mut scene = S::new();
        let watch = Watch::edges(scene.station());
        (scene, watch)
    };
    let until = |got: &mut Got, scene: &mut S, watch: &Watch, done: &dyn Fn(&Got) -> bool| loop {
        got.until_nothing(scene);
        if done(got) {
            break;
        }
        assert!(watch.is_readable_within(SOON), "no change, after {got:?}");
    };
    let (mut scene, watch) = start();
    let (mut got, mut given, mut group) = (Got::default(), 0, 1);
    until(&mut got, &mut scene, &watch, &|_| true);
    while given < description.many {
        for _ in 0..group {
            (description.give)(&mut scene);
        }
        given += group;
        group = group % description.most_waiting + 1;
        until(&mut got, &mut scene, &watch, &|got| got.items == given);
    }
    assert_eq!((got.items, got.errors), (given, 0), "{got:?}");
    drop((scene, watch));
    if let Some(fail) = description.fail {
        let (mut scene, watch) = start();
        let mut got = Got::default();
        until(&mut got, &mut scene, &watch, &|_| true);
        fail(&mut scene);
        until(&mut got, &mut scene, &watch, &|got| got.errors == 1);
    }
    if let Some(end) = description.end {
        let (mut scene, watch) = start();
        let mut got = Got::default();
        until(&mut got, &mut scene, &watch, &|_| true);
        (description.give)(&mut scene);
        end(&mut scene);
        until(&mut got, &mut scene, &watch, &|got| got.ends == 1);
    }
}

/// Checks that an action of another thread wakes the waiter.
pub fn elsewhere<S: Scene>() {
    let Some(elsewhere) = S::DESCRIPTION.elsewhere else { return };
    let (mut scene, watch) = start::<S>();
    let task = elsewhere(&mut scene);
    let mut got = Got::default();
    got.until_nothing(&mut scene);
    got.while_readable(&mut scene, &watch, QUIET);
    let thread = std::thread::spawn(|| {
        std::thread::sleep(QUIET);
        task();
    });
    assert!(watch.is_readable_within(SOON), "another thread did not wake the waiter");
    thread.join().unwrap();
    got.all_announced(&mut scene, &watch, QUIET);
}

/// Checks that the descriptor is quiet after `Full` and the drop of the item, and that room makes it readable once.
pub fn full<S: Scene>() {
    let Some(fill) = S::DESCRIPTION.fill else { return };
    let (mut scene, watch) = start::<S>();
    for round in 0..3 {
        fill(&mut scene);
        let mut got = Got::default();
        got.until_nothing(&mut scene);
        got.while_readable(&mut scene, &watch, QUIET);
        assert_eq!((got.errors, got.ends), (0, 0), "round {round}: {got:?}");
        assert!(got.has_few_nothings(&S::DESCRIPTION), "round {round}: {got:?}");
        assert!(!watch.is_readable(), "round {round}: full");
        let Some(make_room) = S::DESCRIPTION.make_room else { continue };
        make_room(&mut scene);
        assert!(watch.is_readable_within(SOON), "round {round}: room did not make it readable");
        // The next call of any kind ends that, also one that does not submit. The reason for the room may be an event
        // too.
        let mut got = Got::default();
        match round {
            0 => scene.station().dispatch().unwrap(),
            _ => drop(got.add(&mut scene)),
        }
        got.while_readable(&mut scene, &watch, QUIET);
        assert_eq!((got.errors, got.ends), (0, 0), "round {round}: {got:?}");
        assert!(got.nothings <= S::DESCRIPTION.extra_wakes, "round {round}: room made it readable again: {got:?}");
    }
    watch.assert_has(scene.station());
}

/// Checks that a signal handler ends a wait, installed with SA_RESTART or without.
pub fn signal<S: Scene>() {
    let (mut scene, watch) = start::<S>();
    for flags in [SaFlags::empty(), SaFlags::SA_RESTART] {
        let start = Instant::now();
        let got = signaled(flags, || scene.station().recv(Duration::from_secs(60)));
        assert_nothing(got);
        assert!(start.elapsed() < Duration::from_secs(30), "{flags:?}");
    }
    assert!(!watch.is_readable());
}

/// Opens a thousand connections. Each call does a bounded amount of work, no connection is forgotten, and the station
/// is quiet after that.
pub fn crowd<S: Scene>() {
    let Some(crowd) = S::DESCRIPTION.crowd else { return };
    let (mut scene, watch) = start::<S>();
    let (mut knocked, mut calls) = (0, 0);
    let mut got = Got::default();
    let mut receive = |scene: &mut S| {
        let before = syscalls();
        got.add(scene);
        let made = syscalls() - before;
        assert!(made < MOST_SYSCALLS, "{made} system calls in one call");
        calls += 1;
        // A client may connect and disconnect, and both are events.
        assert!(calls < 2 * MOST_CALLS, "the descriptor stays readable: {got:?}");
    };
    while knocked < 1000 {
        let new = (crowd.knock)(&mut scene);
        knocked += new;
        // More connections than one call handles: the descriptor stays readable.
        assert!(watch.is_readable_within(SOON), "a backlog, and not readable");
        receive(&mut scene);
        if new > 40 {
            assert!(watch.is_readable(), "one call has accepted {new} connections");
        }
        while watch.is_readable() {
            receive(&mut scene);
        }
        (crowd.leave)(&mut scene);
        while watch.is_readable() {
            receive(&mut scene);
        }
    }
    got.until_nothing(&mut scene);
    got.while_readable(&mut scene, &watch, QUIET);
    let idle = got.nothings;
    // It still serves, and does not spin for closed connections.
    (S::DESCRIPTION.give)(&mut scene);
    let before = got.items;
    got.until(&mut scene, &watch, |got| got.items == before + 1);
    got.until_nothing(&mut scene);
    got.while_readable(&mut scene, &watch, QUIET);
    assert!(idle <= 4, "{idle} wake-ups for nothing");
    watch.assert_has(scene.station());
}

/// Checks that copies of all descriptors in another process keep the station neither readable nor alive. The caller is
/// the only test of its process.
pub fn forked_child<S: Scene>() {
    let description = S::DESCRIPTION;
    let (mut scene, watch) = start::<S>();
    (description.give)(&mut scene);
    let mut got = Got::default();
    got.until(&mut scene, &watch, |got| got.items == 1);
    let mut children = vec![ForkedChild::new()];
    let more = if description.many == 1 { 0 } else { 2 * description.most_waiting };
    for _ in 0..more {
        let items = got.items;
        (description.give)(&mut scene);
        got.until(&mut scene, &watch, |got| got.items == items + 1);
        got.until_nothing(&mut scene);
    }
    got.nothings = 0;
    got.while_readable(&mut scene, &watch, QUIET);
    let ends = usize::from(description.many == 1);
    assert!(got.nothings <= description.extra_wakes && (got.ends, got.errors) == (ends, 0), "{got:?}");
    if let Some(restart) = description.restart {
        restart(&mut scene);
        let mut got = Got::default();
        got.until_nothing(&mut scene);
        got.while_readable(&mut scene, &watch, QUIET);
        assert!(got.has_few_nothings(&description) && got.ends + got.errors == 0, "{got:?}");
    }
    watch.assert_has(scene.station());
    if let Some(drop_is_seen) = description.drop_is_seen {
        children.push(ForkedChild::new());
        drop_is_seen(scene);
    }
    if let Some(end) = description.end.filter(|_| ends == 0) {
        let (mut scene, watch) = start::<S>();
        (description.give)(&mut scene);
        let mut got = Got::default();
        got.until(&mut scene, &watch, |got| got.items == 1);
        children.push(ForkedChild::new());
        end(&mut scene);
        got.until(&mut scene, &watch, |got| got.ends == 1);
        assert!(!watch.is_readable_within(QUIET), "readable after the end");
    }
}

/// Checks that the descriptor stays the same when the station loses its connection and gets it again.
pub fn restart<S: Scene>() {
    let Some(restart) = S::DESCRIPTION.restart else { return };
    let (mut scene, watch) = start::<S>();
    for _ in 0..3 {
        restart(&mut scene);
        watch.assert_has(scene.station());
        let mut got = Got::default();
        got.until_nothing(&mut scene);
        got.while_readable(&mut scene, &watch, QUIET);
        assert!(got.ends + got.errors == 0 && got.has_few_nothings(&S::DESCRIPTION), "{got:?}");
        (S::DESCRIPTION.give)(&mut scene);
        let items = got.items;
        got.until(&mut scene, &watch, |got| got.items == items + 1);
    }
    watch.assert_has(scene.station());
}

/// Checks that a lease may outlive the station, on another thread.
pub fn last_lease<S: Scene>() {
    let Some(last_lease) = S::DESCRIPTION.last_lease else { return };
    let (mut scene, watch) = start::<S>();
    let task = last_lease(&mut scene);
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        told.recv().unwrap();
        task();
    });
    drop((scene, watch));
    tell.send(()).unwrap();
    thread.join().unwrap();
}

/// Runs a check if the machine has what the scene needs.
pub fn run<S: Scene>(check: fn()) {
    if S::is_here() {
        check();
    }
}

/// Makes a test of each check for one scene.
#[macro_export]
macro_rules! contract {
    ($scene:ty) => {
        use $crate::checks;

        #[test]
        fn station_idle_wakes_at_most_once() {
            checks::run::<$scene>(checks::idle::<$scene>);
        }

        #[test]
        fn item_is_announced_and_given_once() {
            checks::run::<$scene>(checks::one_item::<$scene>);
        }

        #[test]
        fn items_are_neither_lost_nor_spurious() {
            checks::run::<$scene>(checks::many_items::<$scene>);
        }

        #[test]
        fn error_is_reported_once() {
            checks::run::<$scene>(checks::error::<$scene>);
        }

        #[test]
        fn end_comes_once() {
            checks::run::<$scene>(checks::end::<$scene>);
        }

        #[test]
        fn dispatch_counts_as_a_look_at_events_and_not_at_items() {
            checks::run::<$scene>(checks::ignored::<$scene>);
        }

        #[test]
        fn events_that_are_ignored_are_bounded() {
            checks::run::<$scene>(checks::ignored_for_long::<$scene>);
        }

        #[test]
        fn edge_triggered_loop_misses_nothing() {
            checks::run::<$scene>(checks::edges::<$scene>);
        }

        #[test]
        fn wait_ends_when_another_thread_acts() {
            checks::run::<$scene>(checks::elsewhere::<$scene>);
        }

        #[test]
        fn full_station_is_quiet_and_room_is_announced_once() {
            checks::run::<$scene>(checks::full::<$scene>);
        }

        #[test]
        fn signal_ends_recv() {
            checks::run::<$scene>(checks::signal::<$scene>);
        }

        #[test]
        fn backlog_of_a_thousand_connections_is_bounded_work() {
            checks::run::<$scene>(checks::crowd::<$scene>);
        }

        #[test]
        fn fork_keeps_nothing_readable_or_alive() {
            let (_, module) = module_path!().split_once("::").unwrap();
            if $crate::forked_child::is_alone(&format!("{module}::fork_keeps_nothing_readable_or_alive")) {
                checks::run::<$scene>(checks::forked_child::<$scene>);
            }
        }

        #[test]
        fn descriptor_stays_the_same_over_a_restart() {
            checks::run::<$scene>(checks::restart::<$scene>);
        }

        #[test]
        fn lease_outlives_the_station() {
            checks::run::<$scene>(checks::last_lease::<$scene>);
        }
    };
}
