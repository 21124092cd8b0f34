//! Kernels before 6.5, which do not name a peer's process: the process with the peer's pid must first prove that it is
//! the peer.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::share::{Publisher, Subscriber};
use framelease::Station;

use crate::calls::IS_OLD;
use crate::raw::{self, kind, Raw};
use crate::{Folder, ALONE, PATIENCE};

const ROLE: &str = "FRAMELEASE_FAULTS_SUBSCRIBER";

/// Lets the kernel count as old until it is dropped.
struct Old;

impl Old {
    fn new() -> Self {
        IS_OLD.store(true, Ordering::Relaxed);
        Self
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        IS_OLD.store(false, Ordering::Relaxed);
    }
}

/// A publisher, its source, and the folder of its socket.
fn publisher() -> (Publisher, TestPattern, Folder) {
    let folder = Folder::new();
    let builder = TestPattern::builder(Size::new(64, 48)).buffers(12).unpaced().allocator(Allocator::Memfd);
    let source = builder.start().unwrap();
    let mut publisher = Publisher::builder(folder.0.join("socket")).bind().unwrap();
    publisher.announce(source.buffers().unwrap()).unwrap();
    (publisher, source, folder)
}

fn until(publisher: &mut Publisher, what: &str, done: impl Fn(&Publisher) -> bool) {
    let start = Instant::now();
    while !done(publisher) {
        assert!(start.elapsed() < 2 * PATIENCE, "not in time: {what}");
        drop(publisher.recv(Duration::from_millis(5)).unwrap());
    }
}

fn watches(publisher: &Publisher) -> Vec<bool> {
    publisher.subscribers().map(|s| s.watches_process).collect()
}

/// Not a test: a subscriber with a child that keeps its socket.
#[test]
#[ignore = "run by the other test as a process of its own"]
fn subscriber_that_forks() {
    let Ok(path) = std::env::var(ROLE) else { return };
    let mut subscriber = Subscriber::builder(path).connect(PATIENCE).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let sockets =
        open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")));
    for fd in sockets {
        let fd: i32 = fd.file_name().to_str().unwrap().parse().unwrap();
        let inherited = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
        nix::fcntl::fcntl(borrowed(fd), inherited).unwrap();
    }
    #[allow(clippy::zombie_processes)] // It outlives this process.
    let child = Command::new("sleep").arg("30").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    println!("CHILD {}", child.id());
    loop {
        drop(subscriber.recv(PATIENCE).unwrap());
    }
}

#[allow(unsafe_code)]
fn borrowed<'a>(fd: i32) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: a descriptor of the library that stays open until this process ends.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

fn forking_subscriber(path: &Path) -> (Child, i32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "old_kernel::subscriber_that_forks", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ROLE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.filter_map(|line| line.split_once("CHILD ")?.1.trim().parse().ok());
    let pid = std::thread::scope(|scope| scope.spawn(|| lines.next()).join().unwrap());
    (child, pid.expect("a child"))
}

#[test]
fn peers_prove_who_they_are_and_both_sides_watch_them() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let _old = Old::new();
    let (mut publisher, mut source, folder) = publisher();
    let path = folder.0.join("socket");
    let thread = std::thread::spawn(move || Subscriber::builder(path).connect(PATIENCE).unwrap());
    until(&mut publisher, "admitted", |_| thread.is_finished());
    let mut subscriber = thread.join().unwrap();
    assert!(subscriber.stats().watches_process, "WELCOME answers HELLO");
    let _ = subscriber.try_recv().unwrap();
    until(&mut publisher, "BUFFER_OK answers BUFFER", |p| watches(p) == [true]);
    while publisher.active() == 0 {
        drop((publisher.recv(Duration::from_millis(5)).unwrap(), subscriber.try_recv().unwrap()));
    }
    assert!(publisher.publish(source.recv(PATIENCE).unwrap().frame().unwrap(), PATIENCE).unwrap().is_taken());
    let frame = subscriber.recv(PATIENCE).unwrap().item();
    assert!(frame.is_some());
}

#[test]
fn subscriber_death_is_seen_on_an_old_kernel_although_a_child_keeps_the_socket() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let _old = Old::new();
    let (mut publisher, _source, folder) = publisher();
    let path = folder.0.join("socket");
    let thread = std::thread::spawn(move || forking_subscriber(&path));
    until(&mut publisher, "the subscriber has a child", |_| thread.is_finished());
    let (mut subscriber, child) = thread.join().unwrap();
    until(&mut publisher, "watched", |p| watches(p) == [true]);
    subscriber.kill().unwrap();
    subscriber.wait().unwrap();
    until(&mut publisher, "removed", |p| p.subscribers().count() == 0);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).expect("lives");
}

#[test]
fn process_that_speaks_for_another_is_not_watched() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let _old = Old::new();
    let (mut publisher, _source, folder) = publisher();
    let peer = Raw::connect(&folder.0.join("socket"));
    peer.send(&raw::hello(1, 1, 1));
    until(&mut publisher, "admitted", |p| watches(p) == [false]);
    assert_eq!(kind(&peer.receive()), raw::WELCOME);
    assert_eq!(kind(&peer.receive()), raw::FORMAT);
    // Another process answers the first BUFFER: its pid is not the one that connected.
    let buffer_ok = raw::message(raw::BUFFER_OK, &[1, 0]);
    let escaped: String = buffer_ok.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let socket = peer.as_fd().try_clone_to_owned().unwrap();
    let status = Command::new("sh").args(["-c", &format!("printf '{escaped}' >&0")]).stdin(socket).status().unwrap();
    assert!(status.success());
    drop(publisher.recv(Duration::from_millis(50)).unwrap());
    assert_eq!(watches(&publisher), [false]);
    // This process answers the others. It is too late for a proof.
    let start = Instant::now();
    while publisher.active() == 0 {
        assert!(start.elapsed() < PATIENCE, "not active");
        drop(publisher.recv(Duration::from_millis(5)).unwrap());
        while let Some((message, _)) = peer.try_receive() {
            if kind(&message) == raw::BUFFER && raw::word(&message, 1) > 0 {
                peer.send(&raw::message(raw::BUFFER_OK, &[1, raw::word(&message, 1)]));
            }
        }
    }
    assert_eq!(watches(&publisher), [false]);
}
