//! Tests of subscribers in other processes: stopped, killed, without descriptors, forked.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::share::{Policy, Reconnect, Subscriber, SubscriberEvent};
use framelease::{ErrorKind, Received, Station};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::hostile::admitted;
use crate::raw::{hello, Raw};
use crate::support::{self, borrowed, frame, pixels, publisher_at, source, Folder, Stage, SOON};

const ROLE: &str = "FRAMELEASE_TEST_PEER";

/// A subscriber process that follows orders, one word a line.
struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Peer {
    /// Starts this test program again, as a peer.
    fn spawn(socket: &Path, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::peer_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role} {}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test harness of the peer prints lines too.
                if let Some(answer) = line.split_once("PEER ").map(|(_, a)| a.to_owned()) {
                    let _ = send.send(answer);
                }
            }
        });
        Self { child, orders, answers }
    }

    /// Starts a peer and serves the publisher until frames are sent to it.
    fn join(s: &mut Stage, role: &str) -> Self {
        let active = s.publisher.active();
        let mut peer = Self::spawn(&s.folder.socket(), role);
        s.until("the peer is active", |p| {
            let ended = peer.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the peer ended before frames were sent to it: {ended:?}, {:?}",
                peer.answers.try_recv()
            );
            p.active() == active + 1
        });
        peer
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn answer(&self) -> String {
        self.answers.recv_timeout(SOON).expect("the peer answers")
    }

    fn signal(&self, signal: Signal) {
        support::signal(&self.child, signal);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the program of a peer process.
#[test]
#[ignore = "run by the other tests as a peer process"]
fn peer_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, path) = role.split_once(' ').unwrap();
    let say = |text: &str| println!("PEER {text}");
    if let Some(family) = role.strip_prefix("publisher") {
        return publish_until_killed(path, family == "+child", say);
    }
    if let Some((uid, gid)) = role.strip_prefix("user:").and_then(|ids| ids.split_once(':')) {
        nix::unistd::setgroups(&[]).unwrap();
        nix::unistd::setgid(gid.parse::<u32>().unwrap().into()).unwrap();
        nix::unistd::setuid(uid.parse::<u32>().unwrap().into()).unwrap();
        let result = Subscriber::builder(path).connect(SOON);
        return say(&format!("{:?}", result.map(drop).map_err(|e| e.kind())));
    }
    if let Some(uid) = role.strip_prefix("hog:") {
        nix::unistd::setuid(uid.parse::<u32>().unwrap().into()).unwrap();
        let connections: Vec<Raw> = (0..64).map(|_| Raw::connect(Path::new(path))).collect();
        say("connected");
        std::thread::sleep(SOON);
        return drop(connections);
    }
    if let Some(buffers) = role.strip_prefix("descriptors:") {
        // The descriptors of a connection: epoll, timer, event counter, socket, the publisher's process.
        leave_descriptors(5 + buffers.parse::<u64>().unwrap());
    }
    let mut subscriber = Subscriber::builder(path).policy(Policy::Latest).connect(SOON).unwrap();
    if role == "fork" {
        say(&child_with_sockets().to_string());
    }
    let mut held = Vec::new();
    let mut orders = BufReader::new(std::io::stdin()).lines().map_while(Result::ok);
    loop {
        match subscriber.recv(Duration::from_millis(20)) {
            Ok(Received::Item(SubscriberEvent::Frame(f))) => {
                say(&format!("frame {}", f.meta().sequence));
                held.push(f);
            }
            Ok(Received::Ended) => return say("ended"),
            Ok(_) => continue,
            Err(e) => return say(&format!("error {:?}", e.kind())),
        }
        match orders.next().as_deref() {
            Some("release") => held.clear(),
            Some("hold") => {}
            _ => return,
        }
    }
}

/// Lets this process open `count` more descriptors. The limit is one of numbers, so this first fills the gaps below
/// inherited descriptors with high numbers.
fn leave_descriptors(count: u64) {
    let null = std::fs::File::open("/dev/null").unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let highest = open.filter_map(|e| e.file_name().to_str()?.parse().ok()).max().unwrap_or(0);
    let mut filled = null.into_raw_fd();
    while (filled as u64) < highest {
        filled = nix::unistd::dup(borrowed(filled)).unwrap().into_raw_fd();
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, highest.max(filled as u64) + 1 + count, hard).unwrap();
}

/// Starts a child that keeps the sockets of this process open, so that their other ends see no hang-up. It outlives
/// this process, and the test ends it.
fn child_with_sockets() -> u32 {
    let fd = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|e| {
        let link = std::fs::read_link(e.path()).ok()?;
        let fd: i32 = e.file_name().to_str()?.parse().ok()?;
        (link.to_string_lossy().starts_with("socket:") && fd > 2).then_some(fd)
    });
    for fd in fd {
        nix::fcntl::fcntl(borrowed(fd), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    }
    #[allow(clippy::zombie_processes)]
    let child = Command::new("sleep").arg("30").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    child.id()
}

fn publish_until_killed(path: &str, has_child: bool, say: impl Fn(&str)) {
    let mut source = source(8);
    let mut publisher = publisher_at(path).bind().unwrap();
    publisher.announce(source.buffers().unwrap()).unwrap();
    say("ready");
    loop {
        drop(publisher.recv(Duration::from_millis(5)).unwrap());
        if has_child && publisher.active() > 0 {
            say(&child_with_sockets().to_string());
            loop {
                std::thread::sleep(SOON);
            }
        }
        assert!(publisher.publish(source.recv(SOON).unwrap().frame().unwrap(), SOON).unwrap().is_taken());
    }
}

#[test]
fn subscriber_that_is_stopped_costs_its_quota_and_no_other_a_frame() {
    let mut s = Stage::new(12);
    let mut sibling = s.join(s.subscriber());
    let stopped = Peer::join(&mut s, "plain");
    stopped.signal(Signal::SIGSTOP);
    for _ in 0..2_000 {
        let sequence = s.publish();
        assert_eq!(frame(&mut sibling).meta().sequence, sequence);
    }
    assert_eq!(sibling.stats().dropped, 0);
    let figures: Vec<_> = s.publisher.subscribers().collect();
    assert_eq!((figures[1].held, figures[1].quota), (1, 2));
    assert_eq!(figures[1].dropped, 2_000 - 2);
    // Its lease and the frame that waits for it (the newest) are the only ones.
    assert_eq!(s.source.buffers().unwrap().leased(), 2);
    // It continues with the current frame: the frame that it did not read is out of date.
    stopped.signal(Signal::SIGCONT);
    let mut answer = None;
    s.until("it has a frame", |_| {
        answer = answer.take().or_else(|| stopped.answers.try_recv().ok());
        answer.is_some()
    });
    assert_eq!(answer.unwrap(), "frame 1999");
}

#[test]
fn subscriber_that_is_killed_gives_back_its_leases() {
    let mut s = Stage::new(12);
    let mut sibling = s.join(s.subscriber());
    for round in 0..5 {
        let mut peer = Peer::join(&mut s, "plain");
        let sequence = s.publish();
        assert_eq!(frame(&mut sibling).meta().sequence, sequence);
        // The newest frame at the time it joined.
        assert!(peer.answer().starts_with("frame "));
        peer.order("hold");
        s.publish();
        drop(frame(&mut sibling));
        assert!(s.source.buffers().unwrap().leased() >= 2, "round {round}");
        peer.signal(Signal::SIGKILL);
        let start = Instant::now();
        s.until("the killed subscriber is removed", |p| p.subscribers().count() == 1);
        assert!(start.elapsed() < Duration::from_secs(2), "reclaimed after {:?}", start.elapsed());
        s.publish();
        drop(frame(&mut sibling));
        s.publish();
        // Only the newest frame and the sibling's are leased: none of the dead subscriber's.
        assert!(s.source.buffers().unwrap().leased() <= 2, "{:?}", s.source.buffers().unwrap());
        drop(frame(&mut sibling));
    }
    assert_eq!(sibling.stats().dropped, 0);
}

#[test]
fn subscriber_death_is_seen_although_a_forked_child_keeps_the_socket() {
    let mut s = Stage::new(12);
    let peer = Peer::join(&mut s, "fork");
    let child: i32 = peer.answer().parse().unwrap();
    peer.signal(Signal::SIGKILL);
    s.until("the dead subscriber is removed", |p| p.subscribers().count() == 0);
    kill(Pid::from_raw(child), None).expect("the child has ended");
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
}

#[test]
fn publisher_death_is_seen_although_a_forked_child_keeps_its_sockets() {
    let folder = Folder::new();
    let mut publisher = Peer::spawn(&folder.socket(), "publisher+child");
    assert_eq!(publisher.answer(), "ready");
    let builder = || Subscriber::builder(folder.socket());
    let mut waits = builder().connect(SOON).unwrap();
    let mut polls = builder().connect(SOON).unwrap();
    let child = loop {
        let _ = (waits.recv(Duration::from_millis(5)).unwrap(), polls.try_recv().unwrap());
        if let Ok(child) = publisher.answers.try_recv() {
            break child.parse().unwrap();
        }
    };
    assert!(waits.stats().watches_process && polls.stats().watches_process);
    publisher.child.kill().unwrap();
    publisher.child.wait().unwrap();
    assert!(waits.recv(SOON).unwrap().is_ended());
    // A wake may have another reason before.
    let start = Instant::now();
    while !polls.try_recv().unwrap().is_ended() {
        assert!(start.elapsed() < SOON && framelease::wait(&[&polls], SOON).unwrap());
    }
    // A subscriber does not take the child for a publisher, and a successor takes its place.
    let error = builder().connect(SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    let _successor = publisher_at(folder.socket()).bind().unwrap();
    kill(Pid::from_raw(child), None).expect("the child has ended");
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
}

#[test]
fn publisher_of_another_user_is_known_and_can_be_refused() {
    let mut s = Stage::new(12);
    let me = nix::unistd::Uid::effective().as_raw();
    let subscriber = s.join(s.subscriber().publisher_user(me));
    let publisher = subscriber.publisher().unwrap();
    assert_eq!((publisher.uid, publisher.pid), (me, std::process::id() as i32));
    let error = s.connect(s.subscriber().publisher_user(me + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&format!("only user {} is accepted", me + 1)), "{error}");
}

#[test]
fn fences_need_a_publisher_that_waits_for_them() {
    let mut s = Stage::new(12);
    let error = s.connect(s.subscriber().fences()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("fence_timeout"), "{error}");
    let mut s = Stage::with(12, |b| b.fence_timeout(SOON));
    let mut subscriber = s.join(s.subscriber().fences());
    for _ in 0..30 {
        let sequence = s.publish();
        assert_eq!(frame(&mut subscriber).meta().sequence, sequence, "memory without fences is released at once");
    }
}

#[test]
fn subscriber_without_descriptors_takes_the_buffers_it_can() {
    let mut s = Stage::new(12);
    let mut sibling = s.join(s.subscriber());
    let mut peer = Peer::join(&mut s, "descriptors:2");
    // It has two of twelve buffers. The publisher counts frames in the others as dropped, and its sibling misses none.
    let mut received = 0;
    for _ in 0..24 {
        let sequence = s.publish();
        assert_eq!(frame(&mut sibling).meta().sequence, sequence);
        s.publisher.dispatch().unwrap();
        while let Ok(answer) = peer.answers.recv_timeout(Duration::from_millis(20)) {
            assert!(answer.starts_with("frame "), "{answer}");
            received += 1;
            peer.order("release");
        }
    }
    let figures: Vec<_> = s.publisher.subscribers().collect();
    assert!(received > 0 && figures[1].dropped > 0, "{received} received, {} dropped", figures[1].dropped);
    assert_eq!(sibling.stats().dropped, 0);
}

#[test]
fn subscriber_without_any_descriptor_gets_an_error() {
    let mut s = Stage::new(12);
    let peer = Peer::spawn(&s.folder.socket(), "descriptors:0");
    let mut answer = None;
    s.until("the peer reports", |_| {
        answer = peer.answers.try_recv().ok();
        answer.is_some()
    });
    assert_eq!(answer.unwrap(), "error Exhausted");
}

#[test]
fn publisher_at_its_descriptor_limit_sleeps_and_recovers() {
    // The limit belongs to the process, so this runs in a child process.
    const NAME: &str = "FRAMELEASE_TEST_LIMIT";
    if std::env::var_os(NAME).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::publisher_at_its_descriptor_limit_sleeps_and_recovers"])
            .env(NAME, "1")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let mut s = Stage::new(12);
    let mut sibling = s.join(s.subscriber());
    let path = s.folder.socket();
    let mut peers: Vec<Raw> = (0..10).map(|_| Raw::connect(&path)).collect();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let highest = highest.filter_map(|e| e.file_name().to_str()?.parse::<u64>().ok()).max().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, highest + 1, hard).unwrap();
    let (start, calls) = (Instant::now(), framelease::stats::syscalls());
    while start.elapsed() < Duration::from_millis(500) {
        drop(s.publisher.recv(Duration::from_millis(500)).unwrap());
    }
    let calls = framelease::stats::syscalls() - calls;
    assert!(calls < 200, "{calls} system calls in half a second without descriptors");
    let sequence = s.publish();
    assert_eq!(frame(&mut sibling).meta().sequence, sequence);
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
    peers.iter().for_each(|p| p.send(&hello(1, 1, 1)));
    s.until("those within the limit are admitted", |p| p.stats().admitted >= 3);
    peers.clear();
    s.until("their connections have ended", |p| p.subscribers().count() == 1);
}

/// Runs a test of this program again in a child process, with few descriptors and, as root, as another user. Returns
/// `true` in that process.
fn alone_with_few_descriptors(test: &str, limit: u64, user: u32) -> bool {
    const NAME: &str = "FRAMELEASE_TEST_LIMIT";
    if std::env::var_os(NAME).is_none() {
        let args = ["--exact", test, "--nocapture"];
        let status =
            Command::new(std::env::current_exe().unwrap()).args(args).env(NAME, "1").stdout(Stdio::null()).status();
        assert!(status.unwrap().success());
        return false;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit.min(hard), hard).unwrap();
    if nix::unistd::geteuid().is_root() {
        // The limit on descriptors in flight belongs to a user, and does not apply to root.
        nix::unistd::setuid(nix::unistd::Uid::from_raw(user)).unwrap();
    }
    true
}

#[test]
fn format_changes_with_a_stopped_subscriber_starve_no_other() {
    if !alone_with_few_descriptors("processes::format_changes_with_a_stopped_subscriber_starve_no_other", 180, 65_534) {
        return;
    }
    let mut s = Stage::new(16);
    // A peer that was admitted and then stopped: it neither reads nor answers.
    let stopped = admitted(&mut s, 1);
    let mut sibling = s.join(s.subscriber());
    for change in 0..60 {
        let width = if change % 2 == 0 { 128 } else { 64 };
        let builder = TestPattern::builder(Size::new(width, 32)).allocator(Allocator::Memfd).unpaced().buffers(16);
        s.source = builder.start().unwrap();
        s.publish();
        s.until("the sibling gets the new format", |_| match sibling.try_recv().unwrap() {
            Received::Item(SubscriberEvent::Frame(f)) => f.layout().size().width == width,
            _ => false,
        });
    }
    let mut descriptors = 0;
    while let Some((_, fds)) = stopped.try_receive() {
        descriptors += fds.len();
    }
    assert!(descriptors <= 16, "{descriptors} descriptors wait in a stopped peer's socket");
    let quiet = (framelease::stats::syscalls(), Instant::now());
    while quiet.1.elapsed() < Duration::from_millis(300) {
        drop(s.publisher.recv(Duration::from_millis(300)).unwrap());
    }
    let calls = framelease::stats::syscalls() - quiet.0;
    assert!(calls < 40, "{calls} system calls in 300 ms because of a stopped peer");
}

#[test]
fn subscribers_that_stall_disconnect_no_other() {
    if !alone_with_few_descriptors("processes::subscribers_that_stall_disconnect_no_other", 1024, 65_533) {
        return;
    }
    // Buffers for 21 quotas, the newest frame and the reserve.
    let mut s = Stage::new(45);
    let mut sibling = s.join(s.subscriber());
    let stalled: Vec<_> = (0..20).map(|_| admitted(&mut s, 1)).collect();
    for _ in 0..1_000 {
        let sequence = s.publish();
        assert_eq!(frame(&mut sibling).meta().sequence, sequence);
    }
    assert_eq!((sibling.stats().dropped, s.publisher.stats().violations), (0, 0));
    let figures: Vec<_> = s.publisher.subscribers().collect();
    assert_eq!(figures.len(), 21);
    assert!(figures.iter().all(|f| f.held <= f.quota as usize), "{figures:?}");
    assert!(s.source.buffers().unwrap().leased() <= 20 * 2 + 1, "{:?}", s.source.buffers().unwrap());
    // Frames have no descriptors: none is in flight to a subscriber that does not read.
    for peer in stalled {
        while let Some((_, descriptors)) = peer.try_receive() {
            assert!(descriptors.is_empty());
        }
    }
}

#[test]
fn subscribers_that_read_nothing_keep_no_new_one_out() {
    if !alone_with_few_descriptors("processes::subscribers_that_read_nothing_keep_no_new_one_out", 1024, 65_532) {
        return;
    }
    // 20 times the pool is more descriptors than may be in flight.
    let mut s = Stage::with(64, |b| b.handshake_timeout(Duration::from_millis(300)));
    let mut sibling = s.join(s.subscriber());
    let mute: Vec<_> = (0..20)
        .map(|_| {
            let peer = Raw::connect(&s.folder.socket());
            peer.send(&hello(1, 1, 1));
            drop(s.publisher.recv(Duration::from_millis(1)).unwrap());
            peer
        })
        .collect();
    let mut newcomer = s.join(s.subscriber());
    for _ in 0..100 {
        let sequence = s.publish();
        for subscriber in [&mut sibling, &mut newcomer] {
            assert_eq!(frame(subscriber).meta().sequence, sequence);
        }
    }
    assert_eq!((sibling.stats().dropped, newcomer.stats().dropped), (0, 0));
    drop(mute);
}

#[test]
fn memory_and_pixels_are_the_same_in_every_process() {
    // The example checks this with three processes. Here, one frame is read through /proc and compared byte by byte.
    let mut s = Stage::new(8);
    let peer = Peer::join(&mut s, "plain");
    let published = s.source.recv(SOON).unwrap().frame().unwrap();
    let want = pixels(&published);
    let inode = nix::sys::stat::fstat(&published.memory()[0]).unwrap().st_ino;
    let own = published.memory()[0].clone();
    assert!(s.publisher.publish(published, SOON).unwrap().is_taken());
    assert_eq!(peer.answer(), "frame 0");
    let folder = format!("/proc/{}/fd", peer.child.id());
    let theirs = std::fs::read_dir(&folder).unwrap().flatten().find(|e| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(e.path()).is_ok_and(|m| m.ino() == inode)
    });
    let mut got = vec![0; want.len()];
    let mut file = std::fs::File::open(theirs.expect("the peer does not have the same memory open").path()).unwrap();
    std::io::Read::read_exact(&mut file, &mut got).unwrap();
    assert_eq!(got, want);
    assert!(std::os::fd::AsFd::as_fd(&own).as_raw_fd() >= 0);
}

#[test]
fn reconnect_finds_the_publisher_after_a_killed_one() {
    let folder = Folder::new();
    let mut publisher = Peer::spawn(&folder.socket(), "publisher");
    assert_eq!(publisher.answer(), "ready");
    let builder = Subscriber::builder(folder.socket()).reconnect(Reconnect::Always);
    let mut a = builder.connect(SOON).unwrap();
    let held = frame(&mut a);
    let want = pixels(&held);
    publisher.signal(Signal::SIGKILL);
    publisher.child.wait().unwrap();
    assert!(folder.socket().exists(), "the socket file is removed");
    loop {
        match a.recv(SOON).unwrap() {
            Received::Item(SubscriberEvent::Lost(_)) => break,
            Received::Item(SubscriberEvent::Frame(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    publisher = Peer::spawn(&folder.socket(), "publisher");
    assert_eq!(publisher.answer(), "ready");
    assert!(matches!(a.recv(SOON).unwrap(), Received::Item(SubscriberEvent::Returned)));
    for _ in 0..10 {
        frame(&mut a);
    }
    assert_eq!(a.stats().reconnects, 1);
    // The dead publisher's memory is still mapped, but no longer valid.
    assert_eq!((pixels(&held), held.is_valid()), (want, false));
}

/// Returns the result of a peer that connects with these ids.
fn connect_as(s: &mut Stage, uid: u32, gid: u32) -> String {
    let peer = Peer::spawn(&s.folder.socket(), &format!("user:{uid}:{gid}"));
    let start = Instant::now();
    loop {
        if let Ok(answer) = peer.answers.recv_timeout(Duration::from_millis(5)) {
            return answer;
        }
        assert!(start.elapsed() < SOON);
        drop(s.publisher.recv(Duration::from_millis(5)).unwrap());
    }
}

#[test]
fn connections_of_two_users_leave_some_for_a_third() {
    if !nix::unistd::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED users: only root can become others");
        return;
    }
    let mut s = Stage::with(12, |b| b.mode(0o666));
    let mut hogs = Vec::new();
    for (uid, refused) in [(65_534, 0), (65_533, 32), (65_532, 32 + 48)] {
        let hog = Peer::spawn(&s.folder.socket(), &format!("hog:{uid}"));
        let mut answer = None;
        s.until("the hog has connected", |_| {
            answer = answer.take().or_else(|| hog.answers.try_recv().ok());
            answer.is_some()
        });
        s.until("the others are refused", |p| p.stats().refused == refused);
        hogs.push(hog);
    }
    let mut me = s.join(s.subscriber());
    let sequence = s.publish();
    assert_eq!(frame(&mut me).meta().sequence, sequence);
}

#[test]
fn permissions_and_the_hook_say_which_users_may_connect() {
    if !nix::unistd::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED users: only root can become others");
        return;
    }
    const CAMERA: u32 = 4242;
    const GUEST: u32 = 4243;
    let mut s = Stage::with(8, |b| b.mode(0o600));
    assert_eq!(connect_as(&mut s, GUEST, CAMERA), "Err(PermissionDenied)");
    // The group may connect. Of its users, the hook accepts only one.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&seen);
    let mut s = Stage::with(8, |b| {
        b.mode(0o660).accept_if(move |peer| {
            log.lock().unwrap().push((peer.uid, peer.gid));
            peer.uid == CAMERA
        })
    });
    std::os::unix::fs::chown(s.folder.socket(), None, Some(CAMERA)).unwrap();
    assert_eq!(connect_as(&mut s, CAMERA, GUEST), "Err(PermissionDenied)", "another group");
    assert_eq!(connect_as(&mut s, GUEST, CAMERA), "Err(Refused)");
    assert_eq!(connect_as(&mut s, CAMERA, CAMERA), "Ok(())");
    assert_eq!(*seen.lock().unwrap(), [(GUEST, CAMERA), (CAMERA, CAMERA)]);
}

#[test]
fn bind_refuses_abstract_sockets() {
    let name = std::path::Path::new("\0framelease");
    assert!(publisher_at(name).bind().is_err());
    assert!(Subscriber::builder(name).connect(SOON).is_err());
}
