//! RTSP clients of others on the library's server.

mod node;
mod programs;
mod storm;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::frame::Packet;

use crate::corpus::source;
use crate::decode;
use crate::Res;
use node::Node;
use programs::{Client, Visit, CLIENTS};
pub use storm::storm;

/// How many frames a client receives.
const FRAMES: usize = 50;
/// For a client that does not end.
const LIMIT: Duration = Duration::from_secs(25);
/// For a client with a wrong password, which may ask for it forever.
const WRONG_LIMIT: Duration = Duration::from_secs(5);
const LOGIN: (&str, &str) = ("eve", "s3cret");
const WRONG: (&str, &str) = ("eve", "secret");
const WAYS: [&str; 4] = ["UDP", "TCP", "Digest", "wrong password"];

/// A folder of this process, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Res<Self> {
        let path = std::env::temp_dir().join(format!("framelease-clients-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    /// A new folder in it, without spaces.
    fn with(&self, name: &str) -> Res<PathBuf> {
        let path = self.0.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The clients of this machine whose names contain one of `filters`. Names the others.
fn chosen(filters: &[String]) -> Vec<&'static Client> {
    let is_wanted = |client: &&Client| filters.is_empty() || filters.iter().any(|f| client.name.contains(f.as_str()));
    let (here, absent): (Vec<_>, Vec<_>) = CLIENTS.iter().filter(is_wanted).partition(|client| client.is_here());
    for client in absent {
        eprintln!("SKIPPED {}: not on this machine ({})", client.name, client.install);
    }
    here
}

/// The stream as packets and as a file.
fn stream(codec: Codec, folder: &Folder) -> Res<(Vec<Packet>, PathBuf)> {
    let made = source(codec)?;
    let path = folder.0.join(format!("source.{}", decode::format(codec)));
    fs::write(&path, made.file(codec)).map_err(|e| e.to_string())?;
    Ok((made.split(codec)?, path))
}

/// Prints the table. Returns how many cells are not good.
pub fn run(filters: &[String]) -> Res<usize> {
    let clients = chosen(filters);
    println!("| client | codec | {} |", WAYS.join(" | "));
    println!("|---|---{}|", "|---".repeat(WAYS.len()));
    let (folder, mut wrong) = (Folder::new()?, Vec::new());
    for client in clients {
        for (codec, name) in [(Codec::H264, "H.264"), (Codec::Hevc, "H.265")] {
            let (packets, file) = stream(codec, &folder)?;
            let cells = cells(client, codec, &packets, &file, &folder)
                .unwrap_or_else(|why| vec![Cell { text: why, is_good: false }]);
            let texts: Vec<&str> = cells.iter().map(|cell| cell.text.as_str()).collect();
            println!("| {} | {name} | {} |", client.name, texts.join(" | "));
            for (way, cell) in WAYS.iter().zip(&cells).filter(|(_, cell)| !cell.is_good) {
                wrong.push(format!("{}, {name}, {way}: {}", client.name, cell.text));
            }
        }
    }
    println!();
    wrong.iter().for_each(|line| println!("NOT GOOD: {line}"));
    Ok(wrong.len())
}

struct Cell {
    text: String,
    is_good: bool,
}

fn cells(client: &Client, codec: Codec, packets: &[Packet], file: &Path, folder: &Folder) -> Res<Vec<Cell>> {
    let nowhere = Visit {
        server: SocketAddr::from(([127, 0, 0, 1], 0)),
        login: None,
        transport: "tcp",
        codec,
        frames: usize::MAX,
        folder: folder.0.clone(),
    };
    let reference = client.reference(file, &nowhere)?;
    let (open, guarded) = (Node::start(packets.to_vec(), None)?, Node::start(packets.to_vec(), Some(LOGIN))?);
    let mut cells = Vec::new();
    for (way, transport, login) in
        [(WAYS[0], "udp", None), (WAYS[1], "tcp", None), (WAYS[2], "tcp", Some(LOGIN)), (WAYS[3], "tcp", Some(WRONG))]
    {
        let server = if login.is_none() { open.address } else { guarded.address };
        let folder = folder.with(&way.replace(' ', "-"))?;
        let visit = Visit { server, login, transport, codec, frames: FRAMES, folder };
        let is_wrong = login == Some(WRONG);
        let begun = Instant::now();
        let got = watch(client, &visit, if is_wrong { WRONG_LIMIT } else { LIMIT });
        let text = |got: Vec<String>| {
            let run = in_order(&got, &reference);
            match (is_wrong, got.len()) {
                (true, 0) => Cell { text: format!("refused in {:.1} s", begun.elapsed().as_secs_f32()), is_good: true },
                (true, n) => Cell { text: format!("{n} frames"), is_good: false },
                (false, n) if n == run => Cell { text: format!("{n}"), is_good: n >= FRAMES / 2 },
                (false, n) => Cell { text: format!("{run} of {n}"), is_good: run >= FRAMES / 2 },
            }
        };
        cells.push(got.map(text).unwrap_or_else(|why| Cell { text: why, is_good: false }));
    }
    open.stop()?;
    let stats = guarded.stop()?;
    // Without a request there is nothing to refuse.
    if stats.unauthorized < 2 {
        cells[3] = Cell { text: "it did not ask".into(), is_good: false };
    }
    Ok(cells)
}

/// Runs a client to its end. Returns the checksums of its frames.
fn watch(client: &Client, visit: &Visit, limit: Duration) -> Res<Vec<String>> {
    let limit = client.stop_after.map_or(limit, |seconds| limit.min(Duration::from_secs(seconds)));
    let mut child = spawn(&(client.command)(visit), limit, Stdio::piped())?;
    let stdout = child.stdout.take();
    let read = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.map(|mut stdout| stdout.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let end = Instant::now() + limit;
    while child.try_wait().map_err(|e| e.to_string())?.is_none() && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    stop(&mut child);
    let printed = read.join().map_err(|_| "reading panicked".to_string())?;
    client.sums(visit, &printed)
}

/// Starts a client in a process group of its own, which ends by itself after the time, whatever ends this process.
fn spawn(command: &Command, limit: Duration, stdout: Stdio) -> Res<Child> {
    let seconds = (limit.as_secs() + 5).to_string();
    let mut timed = Command::new("timeout");
    timed.args(["-k", "2", &seconds]).arg(command.get_program()).args(command.get_args());
    timed.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    timed.spawn().map_err(|e| format!("timeout: {e}"))
}

/// Asks a client to end, and kills its processes if it does not.
fn stop(child: &mut Child) {
    let is_running = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_none());
    if is_running(child) {
        // `timeout` passes it on.
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(3);
        while is_running(child) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }
    kill(child);
}

/// Kills the processes of a client.
fn kill(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.wait();
}

/// The longest run of frames in the order of the stream, which begins again after its end.
fn in_order(sums: &[String], of: &[String]) -> usize {
    let is_next = |pair: &[String]| (0..of.len()).any(|i| of[i] == pair[0] && of[(i + 1) % of.len()] == pair[1]);
    let mut longest = usize::from(sums.iter().any(|sum| of.contains(sum)));
    let mut now = longest;
    for pair in sums.windows(2) {
        now = if is_next(pair) { now + 1 } else { 1 };
        longest = longest.max(now);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn clients_frames_are_counted_in_the_order_of_the_stream() {
        let sums = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        for (got, run) in [("cdab", 4), ("abda", 2), ("", 0), ("x", 0), ("xabcx", 3), ("aa", 1)] {
            assert_eq!(in_order(&sums(got), &sums("abcd")), run, "{got}");
        }
    }
}
