//! ffmpeg, which decodes.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;

use crate::Res;

/// ffmpeg's name for the format of a stream.
pub fn format(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::Hevc => "hevc",
        Codec::Mjpeg => "mjpeg",
        _ => "ivf",
    }
}

/// Arguments that make ffmpeg write a checksum for each frame. A frame keeps its size.
pub const SUMS: [&str; 7] = ["-fps_mode", "passthrough", "-autoscale", "0", "-f", "framemd5", "-"];

/// Runs a program that must succeed. Returns its standard output.
pub fn output(command: &mut Command, input: &[u8]) -> Res<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{name}: {e}"))?;
    let stdin = child.stdin.take();
    let out = thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let out = out.map_err(|e| format!("{name}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(format!("{name}: {}: {}", out.status, said.lines().last().unwrap_or_default())),
    }
}

/// The checksums in what ffmpeg wrote.
pub fn sums(text: &str) -> Vec<String> {
    let sum = |line: &str| line.rsplit(", ").next().map(str::to_owned);
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sum).collect()
}

/// A checksum for each frame of a file.
pub fn of_file(path: &Path) -> Res<Vec<String>> {
    output(Command::new("ffmpeg").args(["-v", "quiet", "-i"]).arg(path).args(SUMS), &[]).map(|text| sums(&text))
}

/// A checksum for each frame of a stream.
pub fn of_bytes(codec: Codec, bytes: &[u8]) -> Res<Vec<String>> {
    let input = ["-v", "quiet", "-f", format(codec), "-i", "-"];
    output(Command::new("ffmpeg").args(input).args(SUMS), bytes).map(|text| sums(&text))
}

/// A running ffmpeg that receives a stream.
pub struct Receiver(Child);

pub fn receive(args: &[&str]) -> Res<Receiver> {
    let child = Command::new("ffmpeg")
        .args(["-v", "quiet", "-nostdin"])
        .args(args)
        .args(SUMS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    child.map(Receiver).map_err(|e| format!("ffmpeg: {e}"))
}

impl Receiver {
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until it ends. Returns the checksums of its frames.
    pub fn finish(mut self, limit: Duration) -> Res<Vec<String>> {
        let mut stdout = self.0.stdout.take().ok_or("ffmpeg has no output")?;
        let end = Instant::now() + limit;
        let read = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        while self.is_running() {
            if Instant::now() > end {
                return Err("ffmpeg does not end".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let text = read.join().map_err(|_| "reading panicked".to_string())?;
        text.map(|text| sums(&text)).map_err(|e| e.to_string())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
