//! Tests of the example `node`, the complete setup in one process. The host decodes the output of each consumer with
//! ffmpeg and compares it frame by frame.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::share::{Policy, Subscriber, SubscriberEvent};
use framelease::{Received, Station};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::client::Client;
use crate::coding::*;
use crate::devices::*;
use crate::receive::{packet, units, Received as Packet};
use crate::share::example;

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 42, 44);
/// The least number of frames for a consumer.
pub const MANY: usize = 20;

/// A UDP receiver in a thread, until it is stopped.
struct Receiver {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Packet>>,
}

impl Receiver {
    fn start(group: Option<Ipv4Addr>) -> Self {
        let from = if group.is_some() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let socket = UdpSocket::bind((from, 0)).unwrap();
        if let Some(group) = group {
            socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        }
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (port, stopped) = (socket.local_addr().unwrap().port(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), [0; 2000]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(n) => all.push(packet(&buffer[..n])),
                    Err(_) if stopped.load(Ordering::Relaxed) => return all,
                    Err(_) => {}
                }
            }
        });
        Self { port, stop, thread }
    }

    fn finish(self) -> Vec<Packet> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Writes the packets as a byte stream and returns the number of frames. No packet may be missing.
pub fn write_stream(path: &Path, packets: &[Packet]) -> usize {
    let gaps = packets.windows(2).filter(|w| w[1].0 != w[0].0.wrapping_add(1)).count();
    assert_eq!(gaps, 0, "{}: of {} packets", path.display(), packets.len());
    let whole = packets.iter().rposition(|p| p.3).map_or(0, |last| last + 1);
    let payloads: Vec<Vec<u8>> = packets[..whole].iter().map(|p| p.4.clone()).collect();
    let mut file = File::create(path).unwrap();
    for unit in units(&payloads) {
        file.write_all(&[0, 0, 0, 1]).unwrap();
        file.write_all(&unit).unwrap();
    }
    packets.iter().filter(|p| p.3).count()
}

/// A subscriber that writes the pixels of its frames.
pub fn peer(socket: &Path, to: &Path) -> JoinHandle<usize> {
    let (socket, mut file) = (socket.to_owned(), File::create(to).unwrap());
    std::thread::spawn(move || {
        let (builder, start) = (Subscriber::builder(socket).policy(Policy::Fifo(2)).hold(1), Instant::now());
        let mut subscriber = loop {
            // The program may not listen yet.
            match builder.clone().connect(Duration::from_secs(20)) {
                Ok(subscriber) => break subscriber,
                Err(e) => assert!(start.elapsed() < Duration::from_secs(20), "{e}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut frames = 0;
        while frames < MANY {
            match subscriber.recv(Duration::from_secs(20)).unwrap() {
                Received::Item(SubscriberEvent::Frame(frame)) => {
                    file.write_all(&pixels(&frame)).unwrap();
                    frames += 1;
                }
                Received::Item(SubscriberEvent::Format(_)) => {}
                other => panic!("{other:?} instead of a frame"),
            }
        }
        frames
    })
}

/// A node that is killed when its test ends.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The control socket.
struct Control {
    out: UnixStream,
    lines: std::io::Lines<BufReader<UnixStream>>,
}

impl Control {
    fn connect(path: &Path) -> Self {
        let start = Instant::now();
        let out = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(e) => assert!(start.elapsed() < Duration::from_secs(30), "{e}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        out.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { lines: BufReader::new(out.try_clone().unwrap()).lines(), out }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.out, "{line}").unwrap();
        self.lines.next().expect("an answer").unwrap()
    }
}

/// The body of an answer.
fn http(to: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Writes the first frames of the live picture to a file. Returns their number.
fn picture(from: SocketAddr, to: &Path, frames: usize) -> usize {
    let mut stream = TcpStream::connect(from).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /live.mp4 HTTP/1.1\r\n\r\n").unwrap();
    let (mut answer, mut line, mut file) = (BufReader::new(stream), String::new(), File::create(to).unwrap());
    while !line.ends_with("\r\n\r\n") {
        assert!(answer.read_line(&mut line).unwrap() > 0, "{line}");
    }
    // A chunk for each frame.
    for _ in 0..frames {
        let mut length = String::new();
        answer.read_line(&mut length).unwrap();
        let mut chunk = vec![0; usize::from_str_radix(length.trim(), 16).unwrap() + 2];
        answer.read_exact(&mut chunk).unwrap();
        file.write_all(&chunk[..chunk.len() - 2]).unwrap();
    }
    frames
}

/// The number after a name in JSON.
fn number(json: &str, name: &str) -> u64 {
    let rest = json.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name} in {json}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// Watches by RTSP, until enough frames have come. The client goes on.
pub fn watch(address: SocketAddr) -> (Client, Vec<Packet>) {
    let mut client = Client::connect(address);
    let session = client.setup("RTP/AVP/TCP;unicast;interleaved=0-1").session();
    assert_eq!(client.ask("PLAY", "/live", &format!("Session: {session}\r\n")).status, 200);
    let mut watched = Vec::new();
    while watched.iter().filter(|p: &&Packet| p.3).count() < MANY {
        watched.extend(client.read_packets(50).iter().map(|p| packet(p)));
    }
    (client, watched)
}

/// A port that is free now.
pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The RTSPS of a node, if this test has the feature `tls`.
#[cfg(feature = "tls")]
struct Secure {
    address: SocketAddr,
    files: [String; 2],
}

#[cfg(feature = "tls")]
impl Secure {
    fn new(folder: &Path) -> Self {
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let files = [
            file("certificate.pem", include_bytes!("../sink/tls/p256.pem")),
            file("key.pem", include_bytes!("../sink/tls/p256-key.pem")),
        ];
        Self { address: free_port(), files }
    }

    fn args(&self) -> Vec<String> {
        let [certificate, key] = &self.files;
        let address = self.address.to_string();
        ["--rtsps", &address, "--certificate", certificate, "--key", key].map(str::to_owned).to_vec()
    }

    fn watch(&self) -> Vec<Packet> {
        watch(crate::tls_relay::relay(self.address, &crate::tls_relay::TLS13)).1
    }
}

#[cfg(not(feature = "tls"))]
struct Secure;

#[cfg(not(feature = "tls"))]
impl Secure {
    fn new(_: &Path) -> Self {
        Self
    }

    fn args(&self) -> Vec<String> {
        Vec::new()
    }

    fn watch(&self) -> Vec<Packet> {
        Vec::new()
    }
}

#[test]
fn node_gives_every_consumer_the_same_pixels() {
    let (Some(camera), Some(encoder), Some(program)) = (vivid(Planar::Multi), h264(""), example("node")) else {
        return;
    };
    let (camera, encoder) = (camera.info().path.clone(), encoder.info().path.clone());
    let (folder, streams) = (std::env::temp_dir().join(format!("node-{}", std::process::id())), Judged::folder());
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, control) = (folder.join("share"), folder.join("control"));
    let (one, two, group) = (Receiver::start(None), Receiver::start(None), Receiver::start(Some(GROUP)));
    let (rtsp, web) = (free_port(), free_port());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = [
        ["--camera", &text(&camera)],
        ["--encoder", &text(&encoder)],
        ["--size", "320x180"],
        ["--fourcc", "NV12"],
        ["--fps", "15"],
        ["--gop", "5"],
        ["--record", &text(&streams.join("node.mkv"))],
        ["--events", &text(&streams.join("node-event.mp4"))],
        ["--before", "1"],
        ["--after", "1"],
        ["--rtp", &format!("127.0.0.1:{}", one.port)],
        ["--rtp", &format!("127.0.0.1:{}", two.port)],
        ["--multicast", &format!("{GROUP}:{}", group.port)],
        ["--interface", "lo"],
        ["--rtsp", &rtsp.to_string()],
        ["--web", &web.to_string()],
        ["--share", &text(&socket)],
        ["--control", &text(&control)],
    ];
    let mut node = Command::new(program);
    let secure = Secure::new(&folder);
    node.args(args.iter().flatten()).args(secure.args()).arg("--json").stdout(Stdio::piped());
    let mut node = Node(node.spawn().unwrap());
    let mut console = Control::connect(&control);
    let peers = [peer(&socket, &streams.join("node-peer1.raw")), peer(&socket, &streams.join("node-peer2.raw"))];

    let (_client, watched) = watch(rtsp);
    let securely = secure.watch();
    assert_eq!(console.ask("trigger"), "ok");
    // A browser asks for the page, and shows the picture.
    let page = http(web, "/");
    assert!(page.contains("live.mp4"), "{page}");
    let shown = picture(web, &streams.join("node-web.mp4"), 10);
    // One more consumer joins while the node runs, and leaves again.
    let late = Receiver::start(None);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, late.port));
    assert_eq!(console.ask(&format!("attach rtp {to}")), "ok");
    assert!(console.ask(&format!("attach rtp {to}")).starts_with("error: "), "twice");
    let second = streams.join("node-second.mp4");
    assert_eq!(console.ask(&format!("attach record {}", second.display())), "ok");
    assert_eq!(peers.map(|p| p.join().unwrap()), [MANY; 2]);
    let start = Instant::now();
    let status = loop {
        let status = console.ask("status");
        let frames = status.split(&format!("\"to\":\"{to}\",")).nth(1).map(|rest| number(rest, "frames"));
        if frames.is_some_and(|n| n >= 10) {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{status}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let table = http(web, "/status.json");
    assert!(table.contains("\"stage\":\"record\"") && number(&table, "cpu_bytes") == 0, "{table}");
    assert!(status.contains("\"stage\":\"client\"") && status.contains("by TCP"), "{status}");
    assert_eq!(console.ask(&format!("detach rtp {to}")), "ok");
    assert_eq!(console.ask(&format!("detach record {}", second.display())), "ok");
    for wrong in
        ["", "attach", "attach rtp nowhere", "attach multicast 10.0.0.1:1", "detach record no", "attach record "]
    {
        assert!(console.ask(wrong).starts_with("error: "), "'{wrong}'");
    }
    assert!(console.ask(&format!("attach record {}", "/nowhere/a.mkv")).contains("/nowhere/a.mkv"));

    // Ctrl-C.
    kill(Pid::from_raw(node.0.id() as i32), Signal::SIGINT).unwrap();
    let mut json = String::new();
    for line in BufReader::new(node.0.stdout.take().unwrap()).lines() {
        json.push_str(&line.unwrap());
    }
    assert!(node.0.wait().unwrap().success());
    assert!(!control.exists() && !socket.exists(), "its sockets are gone");
    assert_eq!(number(&json, "cpu_bytes"), 0, "{json}");
    let encoded = json.split("\"stage\":\"encoder\"").nth(1).map(|rest| number(rest, "frames")).unwrap();
    let recorded = json.split("\"stage\":\"record\"").nth(1).map(|rest| number(rest, "frames")).unwrap();
    assert!(encoded >= MANY as u64 && recorded == encoded, "{json}");

    // The first file must contain the frames of the others, in order. The numbers are the least counts of frames.
    let mut list = vec!["node.mkv".to_owned()];
    for (name, receiver) in [("rtp1", one), ("rtp2", two), ("group", group)] {
        let file = format!("node-{name}.h264");
        // A consumer that was there from the beginning has every frame.
        assert_eq!(write_stream(&streams.join(&file), &receiver.finish()) as u64, encoded, "{name}");
        list.push(format!("{file} {encoded}"));
    }
    for (name, packets) in [("rtsp", watched), ("rtsps", securely), ("late", late.finish())] {
        if packets.is_empty() {
            continue;
        }
        let file = format!("node-{name}.h264");
        let frames = write_stream(&streams.join(&file), &packets);
        list.push(format!("{file} {frames}"));
    }
    list.push("node-second.mp4 5".into());
    // A second before the trigger and a second after it. A guest may be slow.
    list.push("node-event-00001.mp4 3".into());
    list.push(format!("node-web.mp4 {shown}"));
    list.extend((1..=2).map(|i| format!("node-peer{i}.raw {MANY} nv12 320x180")));
    std::fs::write(streams.join("node.parts"), list.join("\n")).unwrap();
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn node_scales_on_a_device() {
    let (Some(camera), Some(encoder), Some(program)) = (vivid(Planar::Multi), h264(""), example("node")) else {
        return;
    };
    let (camera, encoder, streams) = (camera.info().path.clone(), encoder.info().path.clone(), Judged::folder());
    let receiver = Receiver::start(None);
    let folder = std::env::temp_dir().join(format!("node-scale-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // The node also runs as a service.
    let (notify, metrics) = (folder.join("notify"), folder.join("node.prom"));
    let manager = UnixDatagram::bind(&notify).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = [
        ["--camera", &text(&camera)],
        ["--encoder", &text(&encoder)],
        ["--camera-size", "640x360"],
        ["--size", "320x180"],
        ["--fps", "15"],
        ["--record", &text(&streams.join("scaled.mkv"))],
        ["--rtp", &format!("127.0.0.1:{}", receiver.port)],
        ["--metrics", &text(&metrics)],
        ["--duration", "2"],
    ];
    let mut command = Command::new(program);
    command.args(args.iter().flatten()).arg("--json").env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "400000");
    let out = command.output().unwrap();
    let (json, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    assert!(said.contains("NV12 320x180") && said.contains(" by m2m"), "{said}");
    assert_eq!(number(&json, "cpu_bytes"), 0, "{json}");
    let of =
        |stage: &str| json.split(&format!("\"stage\":\"{stage}\"")).nth(1).map(|rest| number(rest, "frames")).unwrap();
    let (scaled, encoded) = (of("convert"), of("encoder"));
    assert!(scaled >= 10 && encoded == scaled && of("record") == encoded, "{json}");
    assert_eq!(write_stream(&streams.join("scaled-rtp.h264"), &receiver.finish()) as u64, encoded);
    std::fs::write(streams.join("scaled.parts"), format!("scaled.mkv\nscaled-rtp.h264 {encoded}")).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut bytes = [0; 64];
    let mut told = Vec::new();
    while let Ok(n) = manager.recv(&mut bytes) {
        told.push(String::from_utf8_lossy(&bytes[..n]).into_owned());
    }

    assert!(told.len() > 4 && told[0] == "READY=1" && told.last().unwrap() == "STOPPING=1", "{told:?}");
    assert!(told[1..told.len() - 1].iter().all(|t| t == "WATCHDOG=1"), "{told:?}");
    let figures = std::fs::read_to_string(&metrics).unwrap();
    assert!(figures.contains("framelease_frames_total{stage=\"encoder\",to=\"\"} "), "{figures}");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn node_has_buffers_for_more_subscribers() {
    let (Some(camera), Some(encoder), Some(program)) = (vivid(Planar::Single), h264(""), example("node")) else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("node-subscribers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (socket, control) = (folder.join("share"), folder.join("control"));
    let mut command = Command::new(&program);
    command.arg("--control").arg(&control);
    command.arg("--camera").arg(&camera.info().path).arg("--encoder").arg(&encoder.info().path);
    command.args(["--size", "320x180", "--fps", "15", "--subscribers", "5"]);
    let refused = command.output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--subscribers is for --share"), "{refused:?}");
    let _node = Node(command.arg("--share").arg(&socket).spawn().unwrap());
    // The node opens this after the other socket.
    let _control = Control::connect(&control);
    let patience = Duration::from_secs(20);
    let mut all: Vec<Subscriber> = (0..5).map(|_| Subscriber::builder(&socket).connect(patience).unwrap()).collect();
    let sixth = Subscriber::builder(&socket).connect(Duration::from_secs(1)).unwrap_err();
    assert!(sixth.to_string().contains("this subscriber needs 2"), "{sixth}");
    for subscriber in &mut all {
        while !matches!(subscriber.recv(patience).unwrap(), Received::Item(SubscriberEvent::Frame(_))) {}
    }
    let _ = std::fs::remove_dir_all(&folder);
}
