//! A subscriber of GStreamer's `unixfdsink` whose system calls fail: it reports an error or gets every frame, and the
//! sink gets all buffers back.

use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;

use framelease::dmabuf::{Allocator, DmaBuf, DEFAULT_WAIT};
use framelease::share::{Policy, SubscriberEvent, UnixfdSubscriber};
use framelease::{Received, Station};
use nix::errno::Errno;
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags};

use crate::calls::{arm, Answer, Fault, CALLS};
use crate::unixfd_client::{message, CAPS, EOS, NEW_BUFFER, RELEASE};
use crate::{descriptors, faults, text, Counts, Folder, ALONE, FRAMES, HUNG, PATIENCE};

/// The result of a sink and its subscriber.
struct Run {
    counts: Counts,
    result: framelease::Result<u64>,
    /// Buffers that were released, each once.
    released: u64,
}

/// A sink of two memories. It sends its caps, `FRAMES` buffers and EOS, and reads releases until the subscriber leaves.
fn sink(listener: &UnixListener, memory: &[DmaBuf]) -> u64 {
    let (mut client, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let send = |bytes: &[u8], memory: Option<&DmaBuf>| {
        let fds: Vec<_> = memory.iter().map(|m| m.as_fd().as_raw_fd()).collect();
        let control = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &control[..] };
        let sent = sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
        sent.is_ok()
    };
    let caps = b"video/x-raw, format=(string)GRAY8, width=(int)64, height=(int)48\0";
    let buffer = |id: u64| {
        let words = [id, 1_000 * id, u64::MAX, u64::MAX, id, id + 1];
        let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        // No flags; memfd, one memory, no meta.
        out.extend([0, 0, 0, 0, 0, 1, 0, 0]);
        out.extend([64 * 48, 0u64].iter().flat_map(|n| n.to_ne_bytes()));
        message(NEW_BUFFER, &out)
    };
    let _ = send(&message(CAPS, caps), None)
        && (0..FRAMES).all(|id| send(&buffer(id), Some(&memory[id as usize % memory.len()])))
        && send(&message(EOS, &[]), None);
    released(&mut client)
}

fn released(client: &mut UnixStream) -> u64 {
    let mut ids = Vec::new();
    let mut bytes = [0; 16];
    while client.read_exact(&mut bytes).is_ok() {
        assert_eq!(bytes[..4], RELEASE.to_ne_bytes());
        ids.push(u64::from_ne_bytes(bytes[8..].try_into().unwrap()));
    }
    let count = ids.len() as u64;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len() as u64, count, "a buffer was released twice");
    count
}

/// Takes frames until the stream ends.
fn subscribe(path: &Path, fault: Option<Fault>) -> (Counts, framelease::Result<u64>) {
    let armed = arm(fault);
    let mut frames = 0;
    let result = (|| {
        let mut subscriber = UnixfdSubscriber::builder(path).policy(Policy::Block).connect(PATIENCE)?;
        loop {
            match subscriber.recv(PATIENCE)? {
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    // A frame in a buffer that could not be mapped is still a frame.
                    let read = frame.read(DEFAULT_WAIT).map(drop);
                    frames += 1;
                    drop(frame);
                    read?;
                }
                Received::Item(SubscriberEvent::Format(_)) => {}
                _ => return Ok(frames),
            }
        }
    })();
    (armed.counts(), result)
}

fn run(fault: Option<Fault>) -> Result<Run, &'static str> {
    let folder = Folder::new();
    let path = folder.0.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let memory = [4096, 4096].map(|bytes| Allocator::Memfd.allocate(bytes, "faults").unwrap());
    let (send, done) = mpsc::channel();
    std::thread::spawn(move || {
        let outcome = std::thread::scope(|scope| {
            let sink = scope.spawn(|| sink(&listener, &memory));
            let subscribed = scope.spawn(|| subscribe(&path, fault)).join();
            // The sink would wait for a subscriber that never connected.
            drop(UnixStream::connect(&path));
            (subscribed, sink.join())
        });
        drop((memory, listener, folder));
        let _ = send.send(outcome);
    });
    match done.recv_timeout(HUNG) {
        Ok((Ok((counts, result)), Ok(released))) => Ok(Run { counts, result, released }),
        Ok(_) => Err("a panic"),
        Err(_) => Err("a hang"),
    }
}

#[test]
fn unixfd_subscriber_whose_call_fails_reports_it_or_has_every_frame() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let whole = run(None).unwrap();
    assert_eq!((whole.result.unwrap(), whole.released), (FRAMES, FRAMES));
    let (mut wrong, mut told, mut tried) = (Vec::new(), 0, 0);
    for fault in faults(&whole.counts) {
        let before = descriptors();
        let run = match run(Some(fault)) {
            Ok(run) => run,
            Err(e) => {
                wrong.push(format!("{e}: {}", text(Some(fault))));
                continue;
            }
        };
        tried += 1;
        told += usize::from(run.result.is_err());
        let what = format!("{}: {:?}, {} released", text(Some(fault)), run.result, run.released);
        let mut check = |is_so: bool, rule: &str| {
            if !is_so {
                wrong.push(format!("{rule}: {what}"));
            }
        };
        check(descriptors() == before, "a descriptor stays open");
        let has_all = matches!(run.result, Ok(FRAMES));
        let is_again = matches!(fault.answer, Answer::Error(Errno::EINTR | Errno::EAGAIN));
        check(!is_again || has_all, "a call that may be repeated");
        // A release that fails for good ends the connection, and so the lease.
        let is_over = CALLS[fault.call].0.starts_with("send") || CALLS[fault.call].0.starts_with("recv");
        check(has_all || run.result.is_err() || is_over, "it ended early without an error");
        check(run.released <= FRAMES, "more buffers were released than were sent");
    }
    println!("{tried} calls failed, {told} reported");
    assert!(wrong.is_empty() && tried > 50 && told > 10, "{tried}, {told}: {}", wrong.join("\n"));
}
