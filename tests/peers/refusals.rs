//! Tests of the error that a refused subscriber prints, in every language.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use framelease::capture::FrameSource;
use framelease::share::{Policy, Publisher, Subscriber};
use framelease::{ErrorKind, Station};

use crate::peer::{compiled, here, python};
use crate::support::{source, Folder, Stage, SOON};

pub const LANGUAGES: [&str; 2] = ["C", "Python"];

pub fn consumer(language: &str, socket: &Path, arguments: &[&str]) -> Option<Command> {
    let mut command = match language {
        "C" => Command::new(compiled("framelease-cat", "cc", "examples/peers/c/framelease-cat.c", &["-O2"])?),
        _ => {
            let mut command = Command::new(python()?);
            command.args(["-B", "-m", "framelease.view"]).env("PYTHONPATH", here("python/src"));
            command
        }
    };
    command.arg("--socket").arg(socket).arg("--hash").args(arguments);
    Some(command)
}

/// Serves the publisher until the program has ended.
fn run(publisher: &mut Publisher, mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !thread.is_finished() {
        drop(publisher.recv(std::time::Duration::from_millis(1)).unwrap());
    }
    thread.join().unwrap()
}

/// Asserts that the program fails, and prints the error of the library's own subscriber.
fn is_refused(publisher: &mut Publisher, command: Command, language: &str, sentence: &str) {
    let output = run(publisher, command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{language}: {errors}");
    assert!(errors.contains(sentence), "{language}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{language}: {errors}");
}

#[test]
fn quota_that_does_not_fit_is_refused_with_the_numbers() {
    let mut s = Stage::new(6);
    let _other = s.join(s.subscriber());
    let error = s.connect(s.subscriber().hold(3)).unwrap_err();
    let sentence = "the pool has no room for another subscriber: the pool has 6 buffers: 2 for the driver and the \
                    publisher's process, 1 for the newest frame, 2 for other subscribers; this subscriber needs 4";
    assert!(error.to_string().contains(sentence), "{error}");
    for language in LANGUAGES {
        let Some(command) = consumer(language, &s.folder.socket(), &["--hold", "3"]) else { continue };
        is_refused(&mut s.publisher, command, language, sentence);
    }
}

#[test]
fn policy_block_that_is_not_granted_is_explained_at_once() {
    let folder = Folder::new();
    let source = source(12);
    let mut publisher = Publisher::builder(folder.socket()).reserve(2).bind().unwrap();
    publisher.announce(source.buffers().unwrap()).unwrap();
    let builder = Subscriber::builder(folder.socket()).policy(Policy::Block);
    let thread = std::thread::spawn(move || builder.connect(SOON).unwrap_err());
    while !thread.is_finished() {
        drop(publisher.recv(std::time::Duration::from_millis(1)).unwrap());
    }
    let error = thread.join().unwrap();
    let sentence = "this publisher does not grant policy block";
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains(sentence), "{error}");
    for language in LANGUAGES {
        // This error is permanent: another attempt would fail as well.
        for arguments in [&["--policy", "block"][..], &["--policy", "block", "--reconnect", "--timeout", "600"]] {
            let Some(command) = consumer(language, &folder.socket(), arguments) else { continue };
            is_refused(&mut publisher, command, language, &format!("{sentence}; ask for latest or fifo"));
        }
    }
}

#[test]
fn pause_is_reported_on_standard_error_and_does_not_time_out() {
    for language in LANGUAGES {
        let mut s = Stage::new(12);
        let arguments = ["--frames", "2", "--timeout", "0.5"];
        let Some(mut command) = consumer(language, &s.folder.socket(), &arguments) else { continue };
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        s.until("it takes frames", |p| p.active() == 1);
        s.publish();
        s.publisher.pause(SOON).unwrap();
        let start = std::time::Instant::now();
        s.until("longer than the timeout", |_| start.elapsed().as_millis() > 1200);
        s.publish();
        let thread = std::thread::spawn(move || child.wait_with_output().unwrap());
        s.until("it has ended", |_| thread.is_finished());
        let output = thread.join().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{language}: {errors}");
        assert!(errors.contains("the publisher paused the stream; waiting for the next frame"), "{language}: {errors}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2, "{language}");
    }
}
