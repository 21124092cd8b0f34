//! The cost of a frame of a `unixfdsink`, as counts. The only test in its process, because it looks at the whole
//! process.

#[path = "kernel/allocations.rs"]
mod allocations;

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use framelease::share::{Policy, SubscriberEvent, UnixfdSubscriber};
use framelease::stats::cpu_bytes;
use framelease::stats::syscalls;
use framelease::{Received, Station};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags};

const BYTES: u64 = 64 * 48 * 3 / 2;

fn descriptors_and_mappings() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), maps.lines().count())
}

fn send(sink: &UnixStream, kind: u32, payload: &[u8], fds: &[RawFd]) {
    let header = [kind.to_ne_bytes(), (payload.len() as u32).to_ne_bytes()].concat();
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    let iov = [IoSlice::new(&header), IoSlice::new(payload)];
    sendmsg::<()>(sink.as_raw_fd(), &iov, control, MsgFlags::empty(), None).unwrap();
}

#[test]
fn frame_costs_no_allocation_mapping_or_descriptor() {
    const FRAMES: u64 = 1_000;
    let folder = std::env::temp_dir().join(format!("framelease-unixfd-budget-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let memories = [(); 3].map(|()| {
        let memory = File::from(memfd_create(c"sink", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        memory.set_len(BYTES).unwrap();
        memory
    });
    // Read the header, read the payload, check for more, look at the descriptor, release. A wait adds a read that finds
    // nothing, and the poll.
    for (policy, most) in [(Policy::Latest, 5), (Policy::Fifo(4), 5), (Policy::Block, 4)] {
        let builder = UnixfdSubscriber::builder(&path).hold(2).policy(policy);
        let subscriber = std::thread::spawn(move || builder.connect(Duration::from_secs(10)).unwrap());
        let (mut sink, _) = listener.accept().unwrap();
        send(&sink, 2, b"video/x-raw, format=NV12, width=64, height=48\0", &[]);
        let mut subscriber = subscriber.join().unwrap();
        let mut held = None;
        // System calls and allocations of a frame.
        let mut round = |n: u64| {
            let mut payload: Vec<u8> =
                [n, n, u64::MAX, u64::MAX, n, n + 1, 0, BYTES, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
            // One memory.
            payload[53] = 1;
            send(&sink, 0, &payload, &[memories[n as usize % 3].as_raw_fd()]);
            let before = (syscalls(), allocations::of_this_thread());
            let frame = loop {
                match subscriber.recv(Duration::from_secs(10)).unwrap() {
                    Received::Item(SubscriberEvent::Frame(frame)) => break frame,
                    Received::Item(SubscriberEvent::Format(_)) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(frame.meta().sequence, n);
            // The previous frame is released.
            let has_released = held.replace(frame).is_some();
            let costs = (syscalls() - before.0, allocations::of_this_thread() - before.1);
            if has_released {
                sink.read_exact(&mut [0; 16]).unwrap();
            }
            costs
        };
        for n in 0..10 {
            round(n);
        }
        let before = (descriptors_and_mappings(), cpu_bytes());
        let (mut calls, mut allocated) = (0, 0);
        for n in 10..10 + FRAMES {
            let costs = round(n);
            (calls, allocated) = (calls + costs.0, allocated + costs.1);
        }
        assert_eq!((descriptors_and_mappings(), cpu_bytes()), before);
        println!("{policy}: {:.2} system calls a frame, beside close", calls as f64 / FRAMES as f64);
        assert_eq!(allocated, 0, "{policy}: allocations");
        assert!(calls <= most * FRAMES, "{policy}: {calls} system calls for {FRAMES} frames");
    }
    let _ = std::fs::remove_dir_all(&folder);
}
