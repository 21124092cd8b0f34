//! Binding a publisher: who can prevent it, what it leaves, which mode its socket has.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use framelease::share::{Publisher, Subscriber};
use framelease::{ErrorKind, Station};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{listen, socket, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{umask, Mode};

use crate::support::{Folder, SOON};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn mode_is_the_builders_whatever_the_umask_is() {
    // The umask is the process's: set it in a process of its own.
    const NAME: &str = "FRAMELEASE_TEST_UMASK";
    if std::env::var_os(NAME).is_none() {
        let args = ["--exact", "bind::mode_is_the_builders_whatever_the_umask_is"];
        let mut child = Command::new(std::env::current_exe().unwrap());
        assert!(child.args(args).env(NAME, "1").stdout(Stdio::null()).status().unwrap().success());
        return;
    }
    let folder = Folder::new();
    for mask in [0o077, 0o022, 0o000] {
        umask(Mode::from_bits_truncate(mask));
        let publisher = Publisher::builder(folder.socket()).bind().unwrap();
        assert_eq!(mode(&folder.socket()), 0o660, "the default, with umask {mask:o}");
        drop(publisher);
        let publisher = Publisher::builder(folder.socket()).mode(0o606).bind().unwrap();
        assert_eq!(mode(&folder.socket()), 0o606, "umask {mask:o}");
        drop(publisher);
    }
}

#[test]
fn bind_is_not_stopped_by_a_lock_on_the_folder() {
    let folder = Folder::new();
    let held = File::open(folder.socket().parent().unwrap()).unwrap();
    let _lock = Flock::lock(held, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
    drop(Publisher::builder(folder.socket()).bind().unwrap());
}

/// A socket as a service manager makes it.
fn made_elsewhere(path: &Path, kind: SockType, listens: bool) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, kind, SockFlag::empty(), None).unwrap();
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    if listens {
        listen(&socket, Backlog::new(4).unwrap()).unwrap();
    }
    socket
}

#[test]
fn listener_of_a_service_manager_serves_and_stays() {
    let folder = Folder::new();
    let kept = made_elsewhere(&folder.socket(), SockType::SeqPacket, true);
    for _ in 0..2 {
        let socket = kept.try_clone().unwrap();
        // Connects before a publisher runs.
        let early = std::thread::spawn({
            let path = folder.socket();
            move || Subscriber::builder(path).connect(SOON)
        });
        let mut publisher = Publisher::builder(folder.socket()).listener(socket).bind().unwrap();
        while !early.is_finished() {
            publisher.dispatch().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(early.join().unwrap().is_ok());
        drop(publisher);
        assert!(folder.socket().exists(), "the file belongs to the program that made it");
    }
}

#[test]
fn listener_that_cannot_serve_is_refused_with_what_it_must_be() {
    let folder = Folder::new();
    let at = |name: &str| folder.socket().with_file_name(name);
    let tcp = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let file = OwnedFd::from(File::open("/dev/null").unwrap());
    let stream = made_elsewhere(&at("stream"), SockType::Stream, true);
    let idle = made_elsewhere(&at("idle"), SockType::SeqPacket, false);
    for (fd, words) in [(tcp, "SOCK_SEQPACKET"), (stream, "SOCK_SEQPACKET"), (idle, "that listens"), (file, "ENOTSOCK")]
    {
        let e = Publisher::builder(folder.socket()).listener(fd).bind().unwrap_err();
        assert!(e.to_string().contains(words), "{e}");
    }
}

#[test]
fn bind_leaves_the_socket_and_nothing_else() {
    let folder = Folder::new();
    let names = || {
        let entries = std::fs::read_dir(folder.socket().parent().unwrap()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let publisher = Publisher::builder(folder.socket()).bind().unwrap();
    assert_eq!(names(), ["socket"]);
    let refused = Publisher::builder(folder.socket()).bind().unwrap_err();
    assert_eq!((refused.kind(), names()), (ErrorKind::Busy, vec!["socket".to_owned()]), "{refused}");
    drop(publisher);
    assert_eq!(names(), [""; 0]);
}

#[test]
fn bind_of_several_at_once_gives_the_path_to_one() {
    let folder = Folder::new();
    for _ in 0..50 {
        let barrier = Barrier::new(4);
        let bound = std::thread::scope(|scope| {
            let bind = || {
                barrier.wait();
                Publisher::builder(folder.socket()).bind()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let (ok, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        assert_eq!(ok.len(), 1, "{refused:?}");
        assert!(refused.iter().all(|error| error.as_ref().unwrap_err().kind() == ErrorKind::Busy), "{refused:?}");
        assert!(folder.socket().exists(), "the winner's socket");
    }
}

#[test]
fn bind_refuses_a_lock_file_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED users: only root can give a file away");
        return;
    }
    let folder = Folder::new();
    let lock = folder.file("socket.lock");
    std::fs::write(&lock, "").unwrap();
    std::os::unix::fs::chown(&lock, Some(4242), None).unwrap();
    let start = Instant::now();
    let error = Publisher::builder(folder.socket()).bind().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongFile, "{error}");
    assert!(error.to_string().contains("not a file of this user") && start.elapsed() < SOON, "{error}");
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &lock).unwrap();
    let error = Publisher::builder(folder.socket()).bind().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongFile, "a link is not followed: {error}");
    std::fs::remove_file(&lock).unwrap();
    nix::unistd::mkfifo(&lock, Mode::S_IRWXU).unwrap();
    let error = Publisher::builder(folder.socket()).bind().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongFile, "a FIFO without a reader does not block: {error}");
}
