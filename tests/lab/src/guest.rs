//! One run of a guest: boots it, carries its output, minds its end.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::arch::Arch;
use crate::console::Console;
use crate::initramfs::{self, Job};
use crate::prepare::Machine;
use crate::qemu::escape;
use crate::{say, signals, Res};

/// A guest that boots and says nothing for so long will not say anything any more.
const BOOT: Duration = Duration::from_secs(60);
/// How long output may keep coming after the guest has reported its end.
const DRAIN: Duration = Duration::from_secs(10);

/// Takes the output of the guest's command. An error means that it cannot be written any more, and ends the guest.
pub trait Sink {
    fn out(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn err(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Keeps standard output, passes standard error on.
#[derive(Default)]
pub struct Lines(pub Vec<u8>);

impl Sink for Lines {
    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn err(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut io::stderr().lock(), bytes)
    }
}

#[derive(Debug, PartialEq)]
pub enum End {
    /// The command ended with this status (128 + n: by signal n).
    Exited(i32),
    /// No sign of life.
    NoBoot,
    TimedOut,
    /// The guest went down before the command ended.
    Died,
    /// QEMU itself ended by a signal before the command began.
    Crashed,
    /// By Ctrl-C or by a closed standard output.
    Interrupted,
}

pub struct Outcome {
    pub end: End,
    pub console: Console,
}

enum Event {
    Control(UnixStream),
    Word(String),
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// A folder that goes when the run ends.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(arch: Arch) -> Res<TempDir> {
        let name = format!("framelease-lab-{}-{arch}", std::process::id());
        // Short, because socket paths must be: not under the build folder.
        let path = std::env::temp_dir().join(name);
        crate::cache::remove_dir(&path)?;
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(TempDir(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// QEMU; never outlives us.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Limits {
    pub time: Option<Duration>,
    /// Ctrl-C goes to the command in the guest first; else it ends the guest at once.
    pub pass_interrupt: bool,
}

pub fn run(machine: &Machine, job: &Job, limits: &Limits, sink: &mut dyn Sink) -> Res<Outcome> {
    let outcome = boot(machine, job, limits, sink)?;
    if outcome.end != End::Crashed {
        return Ok(outcome);
    }
    // Seen once: an assertion of QEMU's about a write of the booting guest (msix_table_mmio_write). No word of ours.
    say!("QEMU was killed by a signal while the {} guest booted; starting it again", machine.arch);
    boot(machine, job, limits, sink)
}

fn boot(machine: &Machine, job: &Job, limits: &Limits, sink: &mut dyn Sink) -> Res<Outcome> {
    let temp = TempDir::new(machine.arch)?;
    let mut console = Console::new(&machine.console_log)?;
    let (send, events) = sync_channel(64);
    for port in ["control", "stdout", "stderr"] {
        let path = temp.path().join(port);
        let listener = UnixListener::bind(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let send = send.clone();
        thread::spawn(move || serve(port, &listener, &send));
    }
    drop(send);
    let mut emulator = start(machine, job, &temp, &console)?;
    signals::catch();
    let end = watch(&mut emulator, &events, limits, sink, &mut console)?;
    drop(emulator);
    console.read();
    Ok(Outcome { end, console })
}

fn start(machine: &Machine, job: &Job, temp: &TempDir, console: &Console) -> Res<Emulator> {
    let initrd = temp.path().join("initrd");
    initramfs::for_job(&machine.base, job, &initrd)?;
    let mut command = machine.command(&initrd, "loglevel=5");
    command.arg("-serial").arg(format!("file:{}", escape(console.path())));
    command.args(["-device", "virtio-serial-pci"]);
    for port in ["control", "stdout", "stderr"] {
        let path = escape(&temp.path().join(port));
        command.arg("-chardev").arg(format!("socket,id={port},path={path}"));
        command.arg("-device").arg(format!("virtserialport,chardev={port},name={port}"));
    }
    let log = machine.console_log.with_extension("qemu.log");
    let stderr = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    command.process_group(0); // the terminal's Ctrl-C is ours to handle
    signals::die_with_parent(&mut command);
    let child = command.spawn().map_err(|e| format!("cannot start {}: {e}", machine.arch.qemu()))?;
    Ok(Emulator(child))
}

/// Accepts QEMU's connection for one port and turns what arrives into events.
fn serve(port: &str, listener: &UnixListener, send: &SyncSender<Event>) {
    let Ok((mut stream, _)) = listener.accept() else {
        return;
    };
    if port == "control" {
        let Ok(writer) = stream.try_clone() else {
            return;
        };
        let _ = send.send(Event::Control(writer));
        for word in BufReader::new(stream).lines().map_while(Result::ok) {
            if send.send(Event::Word(word)).is_err() {
                return;
            }
        }
        return;
    }
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        let bytes = buffer[..n].to_vec();
        let event = if port == "stdout" { Event::Out(bytes) } else { Event::Err(bytes) };
        if send.send(event).is_err() {
            return;
        }
    }
}

/// What the guest's `exit` word says.
#[derive(Debug, PartialEq)]
struct Exit {
    status: i32,
    /// Bytes on both ports together, if the guest knows.
    bytes: Option<u64>,
}

fn parse_exit(word: &str) -> Option<Exit> {
    let mut numbers = word.strip_prefix("exit ")?.split(' ');
    let status = numbers.next()?.parse().ok()?;
    let mut count = || numbers.next()?.parse::<u64>().ok();
    let bytes = match (count(), count()) {
        (Some(out), Some(err)) => Some(out + err),
        _ => None,
    };
    Some(Exit { status, bytes })
}

fn watch(
    emulator: &mut Emulator,
    events: &Receiver<Event>,
    limits: &Limits,
    sink: &mut dyn Sink,
    console: &mut Console,
) -> Res<End> {
    let start = Instant::now();
    let mut control: Option<UnixStream> = None;
    let tell = |control: &mut Option<UnixStream>, word: &str| {
        if let Some(stream) = control {
            let _ = writeln!(stream, "{word}");
        }
    };
    let mut ready = false;
    let mut alive = start;
    let mut exit: Option<(Exit, Instant)> = None;
    let mut received = 0;
    let mut interrupts = 0;
    let mut quiet = Instant::now();
    loop {
        let mut gone = false;
        let written = match events.recv_timeout(Duration::from_millis(50)) {
            Ok(Event::Control(stream)) => {
                control = Some(stream);
                Ok(())
            }
            Ok(Event::Word(word)) => {
                ready |= word == "ready";
                if let Some(found) = parse_exit(&word) {
                    exit = Some((found, Instant::now()));
                }
                Ok(())
            }
            Ok(Event::Out(bytes)) => {
                received += bytes.len() as u64;
                quiet = Instant::now();
                sink.out(&bytes)
            }
            Ok(Event::Err(bytes)) => {
                received += bytes.len() as u64;
                quiet = Instant::now();
                sink.err(&bytes)
            }
            Err(RecvTimeoutError::Timeout) => {
                // Before QEMU has connected, its threads wait in accept and keep the channel open.
                gone = matches!(emulator.0.try_wait(), Ok(Some(_)));
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => {
                gone = true;
                Ok(())
            }
        };
        if written.is_err() {
            return Ok(End::Interrupted);
        }
        if let Some((exit, since)) = &exit {
            let complete = match exit.bytes {
                Some(bytes) => received >= bytes,
                None => quiet.elapsed() > Duration::from_millis(500),
            };
            let stuck = since.elapsed() > DRAIN && quiet.elapsed() > DRAIN;
            if complete || gone || stuck {
                tell(&mut control, "BYE");
                power_off(emulator);
                return Ok(End::Exited(exit.status));
            }
        } else if gone {
            power_off(emulator);
            let crashed = matches!(emulator.0.try_wait(), Ok(Some(status)) if status.signal().is_some());
            return Ok(if crashed && !ready { End::Crashed } else { End::Died });
        }
        if console.read() {
            alive = Instant::now();
        }
        let pressed = signals::interrupts();
        if pressed > interrupts {
            if pressed > 1 || !ready || !limits.pass_interrupt {
                return Ok(End::Interrupted);
            }
            interrupts = pressed;
            tell(&mut control, "INT");
        }
        if !ready && alive.elapsed() > BOOT {
            return Ok(End::NoBoot);
        }
        if exit.is_none() && limits.time.is_some_and(|limit| start.elapsed() > limit) {
            // What every blocked task waits for goes to the console first.
            tell(&mut control, "DUMP");
            thread::sleep(Duration::from_secs(2));
            return Ok(End::TimedOut);
        }
    }
}

/// Lets the guest go down by itself, so that the end of its console log is complete.
fn power_off(emulator: &mut Emulator) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if !matches!(emulator.0.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_words() {
        let both = Exit { status: 101, bytes: Some(12) };
        assert_eq!(parse_exit("exit 101 5 7"), Some(both));
        assert_eq!(parse_exit("exit 0  "), Some(Exit { status: 0, bytes: None }));
        assert_eq!(parse_exit("ready"), None);
    }
}
