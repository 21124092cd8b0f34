//! Tests of the page of the example `node`: plain HTTP clients, and Chromium, which plays the picture.

#[path = "../kernel/allocations.rs"]
mod allocations;
mod browser;
#[path = "../sink/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../examples/node/web/mod.rs"]
#[allow(dead_code)]
mod web;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::format::Size;
use framelease::frame::{Packet, PacketMeta};
use framelease::sink::{mp4, WriterOptions, Written};
use nix::poll::{poll, PollFd, PollTimeout};

use support::{clean, frame_sums, program};
use web::{Viewer, Web};

const SIZE: Size = Size::new(640, 360);
const FPS: u64 = 30;
/// Frames from one key frame to the next.
const GOP: usize = 15;

/// A stream whose picture is easy to recognize: four colors, and a bar that moves.
fn stream(frames: usize) -> Option<Vec<u8>> {
    stream_with(frames, "")
}

fn stream_with(frames: usize, last: &str) -> Option<Vec<u8>> {
    let size = format!("{}x{}", SIZE.width, SIZE.height);
    let filter = "drawbox=w=320:h=180:color=0xc02020:t=fill,drawbox=x=320:w=320:h=180:color=0x20a020:t=fill,\
        drawbox=y=180:w=320:h=180:color=0x2020c0:t=fill,drawbox=x=320:y=180:w=320:h=180:color=0xd0d0d0:t=fill[b];\
        color=black:size=40x40:rate=30[m];[b][m]overlay=x=mod(n*8\\,600):y=160";
    let source = format!("color=black:size={size}:rate=30,{filter}{last}");
    let keys = format!("keyint={GOP}:min-keyint={GOP}:scenecut=0");
    let count = frames.to_string();
    let args = ["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", &count, "-pix_fmt", "yuv420p", "-bf", "0"];
    let coded = ["-c:v", "libx264", "-tune", "zerolatency", "-b:v", "8M", "-x264-params", &keys, "-f", "h264", "-"];
    clean("ffmpeg", &[&args[..], &coded].concat(), &[])
}

/// The page, served at the pace of a camera by a thread of its own.
struct Served {
    address: SocketAddr,
    pushed: Arc<AtomicU64>,
    viewers: Arc<Mutex<Vec<Viewer>>>,
    /// Frames are left out for a moment, as by a camera that stalls.
    stalls: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Repeats the stream. `copies` times its bytes are sent, to fill the buffers of a client.
    fn start(stream: &[u8], users: &[(String, String)]) -> Self {
        let mut web = Web::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), users).unwrap();
        let address = web.local_addr().unwrap();
        let packets = support::packets(Codec::H264, stream, SIZE);
        let (pushed, viewers) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (stalls, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (counted, seen) = (Arc::clone(&pushed), Arc::clone(&viewers));
        let (stalled, stopped) = (Arc::clone(&stalls), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut number = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let due = Duration::from_nanos(number * 1_000_000_000 / FPS);
                let left = due.saturating_sub(begun.elapsed());
                let mut fds: Vec<PollFd<'_>> = web.fds().map(|(fd, flags)| PollFd::new(fd, flags)).collect();
                let is_ready = poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() > 0;
                drop(fds);
                if is_ready || web.has_clients() {
                    web.dispatch(|| status(counted.load(Ordering::Relaxed)));
                }
                if begun.elapsed() < due {
                    continue;
                }
                let packet = &packets[number as usize % packets.len()];
                let meta = PacketMeta::new(Codec::H264, SIZE, number, 1_000_000_000 + due.as_nanos() as u64);
                let packet = Packet::new(meta, packet.bytes().to_vec(), packet.parameter_sets().cloned());
                number += 1;
                if !stalled.load(Ordering::Relaxed) {
                    web.push(&packet);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                *seen.lock().unwrap() = web.viewers().collect();
            }
        });
        Self { address, pushed, viewers, stalls, stop, thread: Some(thread) }
    }

    fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let done = self.thread.take().unwrap().join();
        assert!(done.is_ok() || std::thread::panicking());
    }
}

/// A table of a node that has coded this number of frames.
fn status(frames: u64) -> String {
    let seconds = frames as f64 / FPS as f64;
    format!(
        "{{\"seconds\":{seconds:.3},\"cpu_us\":{},\"packet_bytes_copied\":0,\"rows\":[\
         {{\"stage\":\"camera\",\"to\":\"\",\"frames\":{frames},\"dropped\":0,\"cpu_us\":{},\"cpu_bytes\":0}},\
         {{\"stage\":\"encoder\",\"to\":\"\",\"frames\":{frames},\"dropped\":2,\"bytes\":{},\"cpu_us\":{},\
         \"latency_us_p50\":8125,\"latency_us_p99\":21250}}]}}",
        frames * 900,
        frames * 300,
        frames * 8000,
        frames * 600
    )
}

/// An answer: its status, its headers in lower case, and a reader of its body.
struct Answer {
    status: u16,
    headers: String,
    body: BufReader<TcpStream>,
}

impl Answer {
    fn to(address: SocketAddr, request: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut body = BufReader::new(stream);
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            assert!(body.read_line(&mut headers).unwrap() > 0, "the answer ends in its headers: {headers}");
        }
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, headers: headers.to_lowercase(), body }
    }

    fn get(address: SocketAddr, path: &str) -> Self {
        Self::to(address, &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"))
    }

    fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).unwrap();
        text
    }

    /// The next chunk of an answer that has them.
    fn chunk(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.body.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("a chunk begins with {line:?}"));
        let mut bytes = vec![0; length + 2];
        self.body.read_exact(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"\r\n"));
        bytes.truncate(length);
        bytes
    }
}

#[test]
fn page_and_table_are_served_to_those_who_may_see_them() {
    let Some(stream) = stream(GOP) else { return };
    let users = [("eve".to_owned(), "s3cret".to_owned())];
    let (open, closed) = (Served::start(&stream, &[]), Served::start(&stream, &users));
    let page = Answer::get(open.address, "/");
    assert!(page.status == 200 && page.headers.contains("content-type: text/html"), "{}", page.headers);
    assert!(page.text().contains("live.mp4"));
    let table = Answer::get(open.address, "/status.json?x=1").text();
    assert!(table.starts_with("{\"seconds\":"), "{table}");
    let head = Answer::to(open.address, "HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.headers.contains("content-length: ") && head.text().is_empty());
    for (request, status) in [
        ("GET /etc/passwd HTTP/1.1\r\n\r\n", 404),
        ("POST / HTTP/1.1\r\n\r\n", 405),
        ("GET / RTSP/1.0\r\n\r\n", 400),
        (&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9000)), 431),
    ] {
        assert_eq!(Answer::to(open.address, request).status, status, "{request}");
    }
    let answer = Answer::get(closed.address, "/live.mp4");
    assert!(answer.status == 401 && answer.headers.contains("www-authenticate: basic"), "{}", answer.headers);
    let login = |text: &str| format!("GET / HTTP/1.1\r\nAuthorization: Basic {text}\r\n\r\n");
    assert_eq!(Answer::to(closed.address, &login("ZXZlOnMzY3JldA==")).status, 200);
    assert_eq!(Answer::to(closed.address, &login("ZXZlOnMzY3JldB==")).status, 401);
    // A connection that says nothing takes no place for long.
    let mut silent = TcpStream::connect(open.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn live_picture_is_the_stream_from_a_key_frame_on() {
    let Some(stream) = stream(4 * GOP) else { return };
    let Some(whole) = frame_sums("-", Some("h264"), &stream) else { return };
    let served = Served::start(&stream, &[]);
    for version in ["1.1", "1.0"] {
        let request = format!("GET /live.mp4 HTTP/{version}\r\n\r\n");
        let mut answer = Answer::to(served.address, &request);
        assert_eq!(answer.status, 200);
        assert!(answer.headers.contains("content-type: video/mp4; codecs=\"avc1."), "{}", answer.headers);
        let bytes = match version {
            "1.1" => (0..40).flat_map(|_| answer.chunk()).collect(),
            _ => {
                let mut bytes = vec![0; 100_000];
                answer.body.read_exact(&mut bytes).unwrap();
                bytes
            }
        };
        let args = ["-v", "quiet", "-i", "-", "-fps_mode", "passthrough", "-f", "framemd5", "-"];
        let Some(out) = program("ffmpeg", &args, &bytes) else { return };
        let sums = String::from_utf8(out.stdout).unwrap();
        let mut sums: Vec<&str> =
            sums.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit(", ").next().unwrap()).collect();
        if version == "1.0" {
            sums.pop(); // It may be cut.
        }
        assert!(version == "1.0" || sums.len() == 40, "{}", sums.len());
        let keys = (0..4).map(|i| i * GOP);
        let is_from = |key: usize| sums.iter().enumerate().all(|(i, sum)| whole[(key + i) % whole.len()] == **sum);
        assert!(keys.into_iter().any(is_from), "version {version}: frames differ from the stream");
    }
}

#[test]
fn live_picture_of_a_stopped_client_costs_the_others_nothing() {
    // Noise, which fills the buffers of the connection soon.
    let Some(stream) = stream_with(4 * GOP, ",noise=alls=60:allf=t") else { return };
    let served = Served::start(&stream, &[]);
    let stopped = Answer::get(served.address, "/live.mp4");
    let of_stopped = stopped.body.get_ref().local_addr().unwrap();
    let others: Vec<_> = (0..9)
        .map(|_| {
            let mut answer = Answer::get(served.address, "/live.mp4");
            std::thread::spawn(move || (0..240).map(|_| answer.chunk().len()).sum::<usize>())
        })
        .collect();
    // It loses frames, and its place after ten seconds in which it takes none.
    let (mut dropped, mut lost_by_others, begun) = (0, 0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let viewers = served.viewers.lock().unwrap();
        lost_by_others =
            viewers.iter().filter(|v| v.peer != of_stopped).map(|v| v.dropped).sum::<u64>().max(lost_by_others);
        match viewers.iter().find(|viewer| viewer.peer == of_stopped) {
            Some(viewer) => dropped = viewer.dropped,
            None if dropped > 0 => break,
            None => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{dropped} frames of the stopped client");
    }
    for other in others {
        assert!(other.join().unwrap() > 1_000_000);
    }
    assert!(dropped > 30 && lost_by_others == 0, "{dropped}, {lost_by_others}");
}

#[test]
fn mp4_files_play_in_chromium() {
    let Some(stream) = stream(6 * GOP) else { return };
    let folder = support::Folder::new("chromium-files");
    let packets = support::packets(Codec::H264, &stream, SIZE);
    for is_finished in [true, false] {
        let path = folder.path("a.mp4");
        let mut writer = mp4::Writer::create(&path, WriterOptions::default()).unwrap();
        packets.iter().for_each(|packet| assert_eq!(writer.write(packet).unwrap(), Written::Stored));
        match is_finished {
            true => drop(writer.finish().unwrap()),
            // The power fails.
            false => {
                drop(writer);
                assert!(mp4::repair(&path).unwrap().is_some());
            }
        }
        let address = format!("file://{}", support::text(&path));
        let Some(mut browser) = browser::Browser::open("chromium-file", &address) else { return };
        let video = "document.querySelector('video')";
        browser.wait(&format!("{video}.readyState > 1 && {video}.videoWidth == 640"));
        // At 25 frames a second: 90, or those of the complete fragments.
        let duration: f64 = browser.value(&format!("{video}.duration")).parse().unwrap();
        assert!(duration == 3.6 || !is_finished && (2.4..3.6).contains(&duration), "{duration} s");
        browser.value(&format!("{video}.muted = true, {video}.play(), {video}.currentTime = 2"));
        browser.wait(&format!("{video}.ended"));
        let shown: f64 = browser.value(&format!("{video}.getVideoPlaybackQuality().totalVideoFrames")).parse().unwrap();
        assert!(shown > 10.0, "{shown}");
    }
}

/// The colors of the picture's quarters in a screenshot of the page.
fn quarters(browser: &mut browser::Browser) -> Option<Vec<[u8; 3]>> {
    let place = |browser: &mut browser::Browser, name: &str| -> f64 {
        browser.value(&format!("document.querySelector('video').getBoundingClientRect().{name}")).parse().unwrap()
    };
    let [left, top, width, height] = ["left", "top", "width", "height"].map(|name| place(browser, name));
    let path = browser.screenshot();
    let pixels =
        clean("ffmpeg", &["-v", "error", "-i", support::text(&path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], &[])?;
    let args = ["-v", "error", "-show_entries", "stream=width", "-of", "csv=p=0", support::text(&path)];
    let stride: usize = String::from_utf8(clean("ffprobe", &args, &[])?).unwrap().trim().parse().unwrap();
    // The picture keeps its shape inside the element.
    let shown = (height * f64::from(SIZE.width) / f64::from(SIZE.height)).min(width);
    let left = left + (width - shown) / 2.0;
    let pixel = |(x, y): (f64, f64)| {
        let at = (left + shown * x) as usize + (top + height * y) as usize * stride;
        [pixels[at * 3], pixels[at * 3 + 1], pixels[at * 3 + 2]]
    };
    Some([(0.25, 0.2), (0.75, 0.2), (0.25, 0.8), (0.75, 0.8)].map(pixel).into())
}

#[test]
fn page_without_a_browser_costs_no_system_call_and_no_allocation() {
    const MARK: &str = "/the-packets";
    let log = std::env::temp_dir().join(format!("framelease-web-{}.strace", std::process::id()));
    let test = "page_without_a_browser_costs_no_system_call_and_no_allocation";
    if program("strace", &["-V"], &[]).is_none() {
        return;
    }
    if support::alone(test, &["strace", "-f", "-o", support::text(&log)]) {
        let Some(stream) = stream(GOP) else { return };
        let packets = support::packets(Codec::H264, &stream, SIZE);
        let mut web = Web::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &[]).unwrap();
        let mark = std::ffi::CString::new(MARK).unwrap();
        let before = allocations::of_this_thread();
        let _ = nix::unistd::access(&*mark, nix::unistd::AccessFlags::F_OK);
        for packet in packets.iter().cycle().take(1000) {
            if web.is_watched() {
                web.push(packet);
            }
            assert!(!web.awaits_key() && !web.has_clients() && web.fds().count() == 1);
        }
        let _ = nix::unistd::access(&*mark, nix::unistd::AccessFlags::F_OK);
        assert_eq!(allocations::of_this_thread() - before, 0);
        return;
    }
    let calls = std::fs::read_to_string(&log).unwrap();
    let _ = std::fs::remove_file(log);
    let calls: Vec<&str> = calls.lines().collect();
    let marks: Vec<usize> = (0..calls.len()).filter(|&i| calls[i].contains(MARK)).collect();
    let thread = calls[marks[0]].split(' ').next().unwrap();
    let between = calls[marks[0] + 1..marks[1]].iter().filter(|call| call.starts_with(thread)).count();
    assert_eq!(between, 0, "system calls of 1,000 packets");
}

#[test]
fn page_plays_the_picture_in_chromium() {
    let Some(stream) = stream(4 * GOP) else { return };
    let served = Served::start(&stream, &[]);
    let Some(mut browser) = browser::Browser::open("chromium", &format!("http://{}/", served.address)) else { return };
    let plain: Vec<_> = (0..9)
        .map(|_| {
            let mut answer = Answer::get(served.address, "/live.mp4");
            std::thread::spawn(move || (0..120).map(|_| answer.chunk().len()).sum::<usize>())
        })
        .collect();
    let played = "document.querySelector('video').getVideoPlaybackQuality()";
    browser.wait(&format!("{played}.totalVideoFrames > 30"));
    let count = |browser: &mut browser::Browser, what: &str| -> f64 { browser.value(what).parse().unwrap() };
    let frames = |browser: &mut browser::Browser| count(browser, &format!("{played}.totalVideoFrames"));
    let (shown, pushed) = (frames(&mut browser), served.pushed());
    let before = browser.value("document.querySelector('tbody').innerText.replace(/\\s+/g, ' ')");
    std::thread::sleep(Duration::from_secs(3));
    let (shown, pushed) = (frames(&mut browser) - shown, (served.pushed() - pushed) as f64);
    // Chromium drops frames while other programs use the processors.
    assert!(shown > pushed * 0.2, "{shown} of {pushed} frames are shown");
    let after = browser.value("document.querySelector('tbody').innerText.replace(/\\s+/g, ' ')");
    assert!(before.contains("camera") && before != after, "the table does not move: {before}");
    // Less than a second after the latest frame that came.
    let video = "document.querySelector('video')";
    browser.wait(&format!("{video}.buffered.end({video}.buffered.length - 1) - {video}.currentTime < 1"));
    let Some(colors) = quarters(&mut browser) else { return };
    let expected = [[0xc0, 0x20, 0x20], [0x20, 0xa0, 0x20], [0x20, 0x20, 0xc0], [0xd0, 0xd0, 0xd0]];
    for (got, expected) in colors.iter().zip(&expected) {
        let far = got.iter().zip(expected).map(|(a, b): (&u8, &i32)| (i32::from(*a) - b).abs()).max().unwrap();
        assert!(far < 24, "{colors:?} instead of {expected:?}");
    }
    // A camera that stalls: the picture goes on with the next frames.
    served.stalls.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(1500));
    served.stalls.store(false, Ordering::Relaxed);
    let shown = frames(&mut browser);
    browser.wait(&format!("{played}.totalVideoFrames > {}", shown + 20.0));
    for client in plain {
        assert!(client.join().is_ok());
    }
}
