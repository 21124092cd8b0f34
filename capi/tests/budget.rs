//! A frame costs the same through C as through Rust: no further system call, and one allocation for its
//! handle. The only test in its process, because it counts allocations.

#[path = "../../tests/kernel/allocations.rs"]
mod allocations;

use std::ffi::CString;
use std::mem::{size_of, MaybeUninit};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::format::{FrameInterval, Size};
use framelease::share::{Publisher, Subscriber};
use framelease::stats::syscalls;
use framelease::Station;
use framelease_capi::capture::{fl_pattern_open, fl_pattern_options};
use framelease_capi::frame::{fl_buffers, fl_buffers_close, fl_station_buffers};
use framelease_capi::share::{
    fl_publisher_announce, fl_publisher_open, fl_publisher_options, fl_subscriber_open, fl_subscriber_options,
};
use framelease_capi::station::{
    fl_event, fl_event_clear, fl_station, fl_station_close, fl_station_dispatch, fl_station_recv, fl_station_submit,
};
use framelease_capi::status::fl_status::{self, FL_OK};

const FRAMES: u64 = 300;
/// Until all buffers were mapped and announced.
const WARM: u64 = 30;
const A_MOMENT: Duration = Duration::from_millis(20);

/// What FL_INIT does.
fn init<T>() -> T {
    // SAFETY: options and events are `repr(C)` and may be all zeros. They begin with their size.
    #[allow(unsafe_code)]
    unsafe {
        let mut value = MaybeUninit::<T>::zeroed();
        value.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        value.assume_init()
    }
}

/// The costs of a loop's frames: system calls, allocations.
fn costs(mut frame: impl FnMut()) -> (u64, u64) {
    (0..WARM).for_each(|_| frame());
    let before = (syscalls(), allocations::of_this_thread());
    (0..FRAMES).for_each(|_| frame());
    (syscalls() - before.0, allocations::of_this_thread() - before.1)
}

fn shared_by_rust(path: &Path) -> (u64, u64) {
    let builder = TestPattern::builder(Size::new(64, 48)).interval(FrameInterval::from_fps(1_000_000));
    let mut pattern = builder.start().unwrap();
    let mut publisher = Publisher::builder(path).bind().unwrap();
    publisher.announce(pattern.buffers().unwrap()).unwrap();
    let to = path.to_owned();
    let connected = std::thread::spawn(move || Subscriber::builder(to).connect(Duration::from_secs(10)).unwrap());
    while !connected.is_finished() {
        publisher.dispatch().unwrap();
    }
    let mut subscriber = connected.join().unwrap();
    costs(|| {
        let frame = pattern.recv(A_MOMENT).unwrap().frame().expect("a free buffer");
        assert!(publisher.try_publish(frame).unwrap().is_taken());
        while subscriber.recv(A_MOMENT).unwrap().frame().is_none() {
            // It has not got the buffers yet.
            publisher.dispatch().unwrap();
        }
        publisher.dispatch().unwrap();
    })
}

fn expect_ok(status: fl_status) {
    assert_eq!(status, FL_OK);
}

fn shared_by_c(path: &Path) -> (u64, u64) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let mut stations: [*mut fl_station; 3] = [ptr::null_mut(); 3];
    let mut pattern: fl_pattern_options = init();
    (pattern.width, pattern.height) = (64, 48);
    (pattern.interval.numerator, pattern.interval.denominator) = (1, 1_000_000);
    expect_ok(fl_pattern_open(&pattern, &mut stations[0]));
    let mut options: fl_publisher_options = init();
    options.path = path.as_ptr();
    expect_ok(fl_publisher_open(&options, &mut stations[1]));
    // SAFETY: the calls gave live handles, which are closed at the end.
    #[allow(unsafe_code)]
    let [source, publisher, _] = stations.map(|station| unsafe { station.as_ref() });
    let mut buffers: *mut fl_buffers = ptr::null_mut();
    expect_ok(fl_station_buffers(source, &mut buffers));
    // SAFETY: as above.
    #[allow(unsafe_code)]
    expect_ok(fl_publisher_announce(publisher, unsafe { buffers.as_ref() }));
    fl_buffers_close(&mut buffers);
    let connected = std::thread::spawn(move || {
        let mut options: fl_subscriber_options = init();
        options.path = path.as_ptr();
        let mut station: *mut fl_station = ptr::null_mut();
        expect_ok(fl_subscriber_open(&options, 10_000, &mut station));
        station as usize
    });
    while !connected.is_finished() {
        expect_ok(fl_station_dispatch(publisher));
    }
    stations[2] = connected.join().unwrap() as *mut fl_station;
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let subscriber = unsafe { stations[2].as_ref() };
    let mut event: fl_event = init();
    let result = costs(|| {
        expect_ok(fl_station_recv(source, A_MOMENT.as_millis() as i32, &mut event));
        // SAFETY: the event holds a frame.
        #[allow(unsafe_code)]
        expect_ok(fl_station_submit(publisher, unsafe { event.frame.as_ref() }, 0));
        fl_event_clear(&mut event);
        while fl_station_recv(subscriber, A_MOMENT.as_millis() as i32, &mut event) != FL_OK || event.frame.is_null() {
            expect_ok(fl_station_dispatch(publisher));
        }
        fl_event_clear(&mut event);
        expect_ok(fl_station_dispatch(publisher));
    });
    stations.iter_mut().for_each(|station| fl_station_close(station));
    result
}

#[test]
fn frame_costs_one_allocation_for_each_handle() {
    let folder = std::env::temp_dir().join(format!("framelease-capi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let rust = shared_by_rust(&folder.join("rust"));
    let c = shared_by_c(&folder.join("c"));
    println!("{FRAMES} frames: Rust {rust:?}, C {c:?} system calls and allocations");
    std::fs::remove_dir_all(&folder).unwrap();
    // One handle for the source's frame, one for the subscriber's.
    assert_eq!(c, (rust.0, rust.1 + 2 * FRAMES));
}
