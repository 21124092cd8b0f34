//! RTSP clients of others: their command lines, and where their frames are afterwards.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use framelease::bitstream::Codec;

use crate::decode::{self, SUMS};
use crate::Res;

/// What a client is to do.
#[derive(Clone)]
pub struct Visit {
    pub server: SocketAddr,
    pub login: Option<(&'static str, &'static str)>,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    pub codec: Codec,
    pub frames: usize,
    /// Its own.
    pub folder: PathBuf,
}

impl Visit {
    fn url(&self) -> String {
        match self.login {
            Some((user, password)) => format!("rtsp://{user}:{password}@{}/live", self.server),
            None => self.bare_url(),
        }
    }

    fn bare_url(&self) -> String {
        format!("rtsp://{}/live", self.server)
    }

    fn is_tcp(&self) -> bool {
        self.transport == "tcp"
    }
}

/// Where a client leaves its frames.
pub enum Frames {
    /// A checksum for each, on standard output.
    Sums,
    /// The same, but of pixels that only this client computes so: its sums of a file are the reference.
    OwnSums,
    /// In the files of its folder.
    Files,
}

pub struct Client {
    pub name: &'static str,
    /// On the path.
    pub program: &'static str,
    /// How to get it.
    pub install: &'static str,
    pub command: fn(&Visit) -> Command,
    pub frames: Frames,
    /// It does not end by itself. Seconds until it is stopped.
    pub stop_after: Option<u64>,
}

const DEBIAN_GSTREAMER: &str = "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad";
const LIVE555: &str = "cargo lab clients --live555 DIR, with a build of live555 in DIR";

pub const CLIENTS: [Client; 9] = [
    Client {
        name: "ffmpeg",
        program: "ffmpeg",
        install: "apt-get install ffmpeg",
        command: ffmpeg,
        frames: Frames::Sums,
        stop_after: None,
    },
    Client {
        name: "mpv",
        program: "mpv",
        install: "apt-get install mpv",
        command: mpv,
        frames: Frames::Sums,
        stop_after: None,
    },
    Client {
        name: "GStreamer",
        program: "gst-launch-1.0",
        install: DEBIAN_GSTREAMER,
        command: gstreamer,
        frames: Frames::Files,
        stop_after: None,
    },
    Client {
        name: "motion",
        program: "motion",
        install: "apt-get install motion",
        command: motion,
        frames: Frames::Files,
        stop_after: Some(8),
    },
    Client {
        name: "PyAV",
        program: "lab-python",
        install: "python3 -m pip install av",
        command: |visit| python("av", visit),
        frames: Frames::Sums,
        stop_after: None,
    },
    Client {
        name: "OpenCV",
        program: "lab-python",
        install: "python3 -m pip install opencv-python-headless",
        command: |visit| python("cv", visit),
        frames: Frames::OwnSums,
        stop_after: None,
    },
    Client {
        name: "retina",
        program: "lab-retina",
        install: "cargo build --manifest-path tests/retina/Cargo.toml --example client",
        command: retina,
        frames: Frames::Files,
        stop_after: None,
    },
    Client {
        name: "openRTSP (live555)",
        program: "openRTSP",
        install: LIVE555,
        command: open_rtsp,
        frames: Frames::Files,
        stop_after: None,
    },
    Client {
        name: "live555ProxyServer",
        program: "live555ProxyServer",
        install: LIVE555,
        command: proxy,
        frames: Frames::Sums,
        stop_after: None,
    },
];

impl Client {
    pub fn is_here(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(self.program).is_file())
    }

    /// Checksums of the frames that it has left.
    pub fn sums(&self, visit: &Visit, printed: &str) -> Res<Vec<String>> {
        match self.frames {
            Frames::Sums | Frames::OwnSums => Ok(decode::sums(printed)),
            Frames::Files => of_folder(&visit.folder),
        }
    }

    /// What this client computes of a file with the stream.
    pub fn reference(&self, file: &Path, visit: &Visit) -> Res<Vec<String>> {
        match self.frames {
            Frames::OwnSums => {
                let mut command = python("cv", visit);
                // Instead of the URL.
                command = with_word(&command, 3, &file.to_string_lossy());
                decode::output(&mut command, &[]).map(|text| decode::sums(&text))
            }
            _ => decode::of_file(file),
        }
    }
}

/// The same command with another word.
fn with_word(command: &Command, at: usize, word: &str) -> Command {
    let mut changed = Command::new(command.get_program());
    changed.args(command.get_args().enumerate().map(|(i, arg)| if i == at { word.as_ref() } else { arg }));
    changed
}

/// Checksums of the frames of all streams in a folder, in the order of their names.
fn of_folder(folder: &Path) -> Res<Vec<String>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|e| e != "conf"))
        .collect();
    paths.sort();
    let mut sums = Vec::new();
    for path in paths {
        // A file may have been begun without a frame.
        sums.extend(decode::of_file(&path).unwrap_or_default());
    }
    Ok(sums)
}

fn words(program: &str, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command
}

fn ffmpeg(visit: &Visit) -> Command {
    let Visit { transport, frames, .. } = visit;
    let mut command = words("ffmpeg", &format!("-v quiet -nostdin -rtsp_transport {transport} -i {}", visit.url()));
    command.args(["-frames:v", &frames.to_string()]).args(SUMS);
    command
}

fn mpv(visit: &Visit) -> Command {
    let Visit { transport, frames, .. } = visit;
    let line = format!("--no-config --no-terminal --no-audio --rtsp-transport={transport} --frames={frames}");
    let mut command = words("mpv", &line);
    command.args(["--o=-", "--of=framemd5", "--ovc=rawvideo", &visit.url()]);
    command
}

fn gstreamer(visit: &Visit) -> Command {
    let (depay, parse, caps) = match visit.codec {
        Codec::H264 => ("rtph264depay", "h264parse", "video/x-h264"),
        _ => ("rtph265depay", "h265parse", "video/x-h265"),
    };
    let line = format!(
        "-q rtspsrc location={} protocols={} latency=200 ! {depay} ! {parse} ! \
         {caps},stream-format=byte-stream,alignment=au ! identity eos-after={} ! filesink location={}",
        visit.url(),
        visit.transport,
        visit.frames + 1,
        visit.folder.join("received").display()
    );
    words("gst-launch-1.0", &line)
}

fn motion(visit: &Visit) -> Command {
    let path = visit.folder.join("motion.conf");
    let login = visit.login.map_or(String::new(), |(user, password)| format!("netcam_userpass {user}:{password}\n"));
    let text = format!(
        "daemon off\nsetup_mode off\nwebcontrol_port 0\nstream_port 0\nwidth 320\nheight 192\nframerate 50\n\
         netcam_url {}\n{login}netcam_use_tcp {}\ntarget_dir {}\npicture_output off\n\
         emulate_motion on\nmovie_output on\nmovie_passthrough on\nmovie_codec mkv\n",
        visit.bare_url(),
        if visit.is_tcp() { "on" } else { "off" },
        visit.folder.display()
    );
    let _ = fs::write(&path, text);
    words("motion", &format!("-c {}", path.display()))
}

fn python(library: &str, visit: &Visit) -> Command {
    let mut command = Command::new("lab-python");
    command.args(["-c", include_str!("client.py"), library, &visit.url(), visit.transport]);
    command.arg(visit.frames.to_string());
    command
}

fn retina(visit: &Visit) -> Command {
    let mut command = Command::new("lab-retina");
    command.args([&visit.bare_url(), visit.transport, &visit.frames.to_string()]);
    command.arg(visit.folder.join("received"));
    command.args(visit.login.iter().flat_map(|(user, password)| [user, password]));
    command
}

fn open_rtsp(visit: &Visit) -> Command {
    let seconds = visit.frames.div_ceil(50) + 1;
    // Without -V it prints every request.
    let mut command = words("openRTSP", &format!("-V -d {seconds} -b 300000 -F {}/", visit.folder.display()));
    if visit.is_tcp() {
        command.arg("-t");
    }
    if let Some((user, password)) = visit.login {
        command.args(["-u", user, password]);
    }
    command.arg(visit.bare_url());
    command
}

/// The proxy, and an ffmpeg that watches it. The proxy answers 404 until it has the description.
fn proxy(visit: &Visit) -> Command {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_or(8554, |a| a.port());
    let (tcp, user) = (if visit.is_tcp() { "-t" } else { "" }, visit.login);
    let user = user.map_or(String::new(), |(user, password)| format!("-u {user} {password}"));
    let script = format!(
        "live555ProxyServer -p {port} {tcp} {user} {} >/dev/null 2>&1 & proxy=$!
         trap 'kill $proxy' EXIT
         trap 'exit 1' TERM
         for turn in 1 2 3 4 5 6; do
             sleep 0.5
             ffmpeg -v quiet -nostdin -rtsp_transport tcp -i rtsp://127.0.0.1:{port}/proxyStream \
                 -frames:v {} {} && exit
         done",
        visit.bare_url(),
        visit.frames,
        SUMS.join(" "),
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command
}
