//! Tests of a publisher whose process ends while a child that it forked keeps its sockets.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::peer::python;
use crate::refusals::{consumer, LANGUAGES};
use crate::support::{Folder, SOON};

/// Admits one subscriber, forks a child, and ends.
const PUBLISHER: &str = r#"
import os, socket, struct, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen(4)
print("listens", flush=True)
peer, _ = listener.accept()
peer.recv(512)
peer.send(struct.pack("<HHIHHIQ", 16, 1, 0, 1, 2, 0, 7))
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(0.2)
os._exit(0)
"#;

#[test]
fn publisher_death_is_seen_in_every_language_although_a_child_keeps_its_sockets() {
    for language in LANGUAGES {
        let folder = Folder::new();
        let Some(mut consumer) = consumer(language, &folder.socket(), &["--timeout", "30"]) else { continue };
        let Some(python) = python() else { return };
        let mut publisher = Command::new(python);
        publisher.args(["-c", PUBLISHER]).arg(folder.socket()).stdout(Stdio::piped());
        let mut publisher = publisher.spawn().unwrap();
        let mut lines = BufReader::new(publisher.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert_eq!(lines.next().as_deref(), Some("listens"));
        let mut consumer = consumer.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let child: i32 = lines.next().expect("a child").parse().unwrap();
        publisher.wait().unwrap();
        let start = Instant::now();
        while consumer.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < SOON, "{language}: not seen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        kill(Pid::from_raw(child), Signal::SIGKILL).expect("the child has ended");
    }
}
