//! A `unixfdsink` that sends anything.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use framelease::dmabuf::{Allocator, DmaBuf, DEFAULT_WAIT};
use framelease::share::{SubscriberEvent, Policy, UnixfdSubscriber};
use framelease::{Received, Station};
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags};

use crate::unixfd_client::{message, CAPS, EOS, NEW_BUFFER};
use crate::{socket, Steps};

const ALL_CAPS: [&str; 5] = [
    "video/x-raw, format=(string)GRAY8, width=(int)16, height=(int)16\0",
    "video/x-raw, format=(string)NV12, width=(int)16, height=(int)16, colorimetry=(string)bt709\0",
    "video/x-raw(memory:DMABuf), format=(string)DMA_DRM, drm-format=(string)NV12, width=(int)16, height=(int)16\0",
    "image/jpeg, width=(int)16, height=(int)16\0",
    "NULL\0",
];

pub fn sink(steps: &mut Steps<'_>) {
    let path = socket();
    let listener = UnixListener::bind(&path).expect("a free path");
    let memory: [DmaBuf; 3] = [4096, 4096, 300].map(|bytes| Allocator::Memfd.allocate(bytes, "fuzz").expect("memory"));
    let null = std::fs::File::open("/dev/null").expect("a system");
    let files = [0, 1, 2, 0].map(|i: usize| memory[i].as_fd().as_raw_fd());
    let files = [files[0], files[1], files[2], null.as_raw_fd()];
    let policy = [Policy::Latest, Policy::Fifo(2), Policy::Block][usize::from(steps.byte() % 3)];
    let mut script: Vec<(Vec<u8>, Vec<RawFd>)> = vec![(message(CAPS, ALL_CAPS[0].as_bytes()), Vec::new())];
    let mut id = 0;
    while let Some(step) = steps.next() {
        script.push(match step & 15 {
            0 | 1 => {
                let mut text = ALL_CAPS[usize::from(step >> 4) % ALL_CAPS.len()].as_bytes().to_vec();
                change(steps, &mut text);
                (message(CAPS, &text), Vec::new())
            }
            2 => (message(CAPS, &steps.bytes()), Vec::new()),
            3..=8 => {
                id += 1;
                let fds = fds(steps, &files);
                let mut bytes = buffer(steps, id, fds.len());
                change(steps, &mut bytes);
                (message(NEW_BUFFER, &bytes), fds)
            }
            9..=12 => {
                id += 1;
                (message(NEW_BUFFER, &buffer(steps, id, 1)), vec![files[usize::from(step >> 4) % 3]])
            }
            13 => (message(EOS, &[]), Vec::new()),
            14 => (message(steps.number(), &steps.bytes()), Vec::new()),
            _ => (steps.bytes(), fds(steps, &files)),
        });
    }
    std::thread::scope(|scope| {
        let sink = scope.spawn(move || {
            let (client, _) = listener.accept().expect("a client");
            for (bytes, fds) in script.iter().filter(|(bytes, _)| !bytes.is_empty()) {
                let control = [ControlMessage::ScmRights(fds)];
                let control = if fds.is_empty() { &[][..] } else { &control[..] };
                let bytes = [IoSlice::new(bytes)];
                if sendmsg::<()>(client.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None).is_err() {
                    return;
                }
            }
        });
        listen(UnixfdSubscriber::builder(&path).hold(2).slots(2).policy(policy));
        // A scope waits for the thread's work, not for its end.
        sink.join().expect("a sink made of bytes");
    });
}

fn fds(steps: &mut Steps<'_>, files: &[RawFd; 4]) -> Vec<RawFd> {
    (0..steps.byte() % 5).map(|_| files[usize::from(steps.byte()) % files.len()]).collect()
}

/// Bytes of which the input changes some, and perhaps the length.
fn change(steps: &mut Steps<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..steps.byte() % 4 {
        let at = usize::from(steps.byte()) % bytes.len();
        bytes[at] = steps.byte();
    }
    if steps.byte() % 8 == 0 {
        bytes.truncate(usize::from(steps.byte()));
        bytes.extend(steps.bytes());
        bytes.push(0);
    }
}

/// The payload of NEW_BUFFER, with usual numbers or with those of the input.
fn buffer(steps: &mut Steps<'_>, id: u64, memories: usize) -> Vec<u8> {
    let how = steps.byte();
    let mut number = |usual: u64, bit: u8| if how & bit != 0 { u64::from(steps.number()) } else { usual };
    let id = number(id, 1);
    // DISCONT, CORRUPTED, DELTA_UNIT.
    let (offset, flags) = match number(0, 128) {
        0 => (id, 0),
        n => (
            [u64::MAX, u64::MAX - 1, u64::MAX - 2, n][n as usize % 4],
            (n as u32 & 1) << 6 | (n as u32 & 2) << 7 | (n as u32 & 4) << 11,
        ),
    };
    let words = [id, 0, u64::MAX, u64::MAX, offset, offset.wrapping_add(1)];
    let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    out.extend(flags.to_ne_bytes());
    out.extend([0, memories as u8]);
    let has_meta = how & 2 != 0;
    out.extend(u16::from(has_meta).to_ne_bytes());
    for _ in 0..memories {
        out.extend([number(384, 4), number(0, 8)].iter().flat_map(|n| n.to_ne_bytes()));
    }
    if has_meta {
        let planes = number(1, 16) as u32;
        let mut meta: Vec<u8> = [0, 25, 16, 16, planes].iter().flat_map(|n: &u32| n.to_le_bytes()).collect();
        meta.extend((0..planes.min(5)).flat_map(|i| (u64::from(i) * number(256, 32)).to_le_bytes()));
        meta.extend((0..planes.min(5)).flat_map(|_| (number(16, 32) as u32).to_le_bytes()));
        meta.extend([0; 32]);
        let total = (4 + 4 + 12 + 2 + meta.len()) as u32;
        out.extend([&total.to_le_bytes()[..], &12u32.to_le_bytes(), b"GstVideoMeta\0\0", &meta].concat());
    }
    out
}

/// Takes what comes, until it is over.
fn listen(builder: framelease::share::UnixfdSubscriberBuilder) {
    let Ok(mut subscriber) = builder.connect(Duration::from_secs(5)) else { return };
    let mut held = None;
    for _ in 0..1000 {
        match subscriber.recv(Duration::from_secs(5)) {
            Ok(Received::Item(SubscriberEvent::Frame(frame))) => {
                if let Ok(pixels) = frame.read(DEFAULT_WAIT) {
                    let _ = pixels.write_to(&mut std::io::sink());
                }
                held = Some(frame);
            }
            Ok(Received::Item(SubscriberEvent::Format(_) | SubscriberEvent::Paused)) => {}
            Ok(Received::Nothing) => panic!("nothing, and no end"),
            _ => return drop(held),
        }
    }
    panic!("events without end");
}
