//! Tests of RTSP: with our own client, which also sends invalid requests, and with ffmpeg and GStreamer, which decode
//! the stream.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::frame::Packet;
use framelease::sink::matroska::Writer;
use framelease::sink::rtp;
use framelease::sink::rtsp::{ClientStats, MountOptions, Server, ServerBuilder, ServerEvent, ServerStats, Transport};
use framelease::sink::{WriterOptions, Written};
use framelease::{ErrorKind, Received, Station, Submit};

use crate::client::{new_cookie, Client};
use crate::station::{assert_signal_ends_recv, idle_wakes, is_readable, is_readable_within};
use crate::support::*;

pub const HOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A server in a thread that sends a stream again and again, at `/live`.
pub struct Node {
    pub address: SocketAddr,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Server>,
}

impl Node {
    pub fn start(builder: ServerBuilder, options: MountOptions, packets: Vec<Packet>) -> Self {
        let mut server = builder.bind().unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = mpsc::channel();
        let codec = packets.first().map_or(Codec::H264, |p| p.meta().codec);
        let live = server.mount("/live", codec, options).unwrap();
        let thread = std::thread::spawn(move || {
            let count = packets.len().max(1) as u64;
            let mut next = Instant::now();
            for i in 0u64.. {
                if stopped.try_recv().is_ok() {
                    break;
                }
                if let Some(packet) = packets.get((i % count) as usize) {
                    let mut meta = *packet.meta();
                    meta.timestamp_ns = 5_000_000_000 + i * FRAME_NS;
                    let packet = Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned());
                    server.submit(live, &packet).unwrap();
                }
                next += Duration::from_millis(10);
                while let Some(left) = next.checked_duration_since(Instant::now()) {
                    let _ = server.recv(left).unwrap();
                }
            }
            server
        });
        Self { address, stop, thread }
    }

    pub fn plain(packets: Vec<Packet>) -> Self {
        Self::start(Server::builder(HOST), MountOptions::default(), packets)
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn stop(self) -> (ServerStats, Vec<ClientStats>) {
        let server = self.server();
        (server.stats(), server.clients().collect())
    }

    pub fn server(self) -> Server {
        let _ = self.stop.send(());
        self.thread.join().unwrap()
    }
}

pub fn frames(count: usize) -> Option<Vec<Packet>> {
    Some(packets(Codec::H264, &stream(Codec::H264, count, SIZE)?, SIZE))
}

#[test]
fn session_from_options_to_teardown() {
    let Some(packets) = frames(20) else { return };
    let node = Node::plain(packets);
    let mut c = node.client();
    let options = c.ask("OPTIONS", "/", "");
    assert!(options.status == 200 && options.header("Public").contains("PAUSE"));
    let about = c.ask("DESCRIBE", "/live?token=1", "Accept: application/sdp\r\n");
    assert_eq!((about.status, about.header("Content-Type")), (200, "application/sdp"));
    for part in ["m=video 0 RTP/AVP 96", "sprop-parameter-sets=", "a=control:video", "c=IN IP4 0.0.0.0"] {
        assert!(about.body.contains(part), "{part} in {}", about.body);
    }
    let setup = c.setup("RTP/AVP/TCP;unicast;interleaved=4-5");
    assert_eq!(setup.status, 200);
    assert!(setup.header("Transport").starts_with("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc="));
    assert!(setup.header("Session").ends_with(";timeout=60"));
    let session = format!("Session: {}\r\n", setup.session());
    let play = c.ask("PLAY", "/live", &format!("{session}Range: npt=0-\r\n"));
    assert_eq!((play.status, play.header("Range")), (200, "npt=now-"));
    assert!(play.header("RTP-Info").contains("/live/video;seq="));
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200, "a second PLAY is accepted");
    let first = c.read_packets(20).remove(0);
    assert_eq!(first[12] & 31, 24, "parameter sets first");
    let from: u16 = play.header("RTP-Info").rsplit('=').next().unwrap().parse().unwrap();
    assert!(u16::from_be_bytes([first[2], first[3]]).wrapping_sub(from) < 100);
    assert_eq!(
        c.ask("SETUP", "/live/video", &format!("{session}Transport: RTP/AVP/TCP\r\n")).status,
        455,
        "SETUP during PLAY"
    );
    assert_eq!(c.ask("PAUSE", "/live", &session).status, 200);
    c.packets.clear();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(c.ask("GET_PARAMETER", "/live", &session).status, 200);
    assert!(c.packets.is_empty(), "packets during a pause");
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
    assert_eq!(c.read_packets(5)[0][12] & 31, 24, "it continues with a key frame");
    assert_eq!(c.ask("TEARDOWN", "/live", &session).status, 200);
    assert_eq!(c.ask("PLAY", "/live", &session).status, 454);
    // The connection can be used again.
    assert_eq!(c.setup("RTP/AVP/TCP").status, 200);
    drop(c);
    let (stats, clients) = node.stop();
    assert!(stats.requests == 12 && stats.malformed == 0 && clients.len() <= 1, "{stats:?}");
}

#[test]
fn request_for_something_unknown_gets_its_status() {
    let node = Node::plain(Vec::new());
    let mut c = node.client();
    let status = |c: &mut Client, method: &str, path: &str, headers: &str| c.ask(method, path, headers).status;
    assert_eq!(status(&mut c, "DESCRIBE", "/other", ""), 404);
    assert_eq!(status(&mut c, "DESCRIBE", "/live/audio", ""), 404);
    assert_eq!(status(&mut c, "DESCRIBE", "/liver", ""), 404);
    assert_eq!(status(&mut c, "DESCRIBE", "/live", "Accept: text/html\r\n"), 406);
    assert_eq!(status(&mut c, "PLAY", "/live", ""), 454);
    assert_eq!(status(&mut c, "PLAY", "/live", "Session: 1\r\n"), 454);
    assert_eq!(status(&mut c, "TEARDOWN", "/live", ""), 454);
    assert_eq!(status(&mut c, "SETUP", "/live", ""), 461);
    assert_eq!(status(&mut c, "SETUP", "/live", "Transport: RTP/SAVP;unicast;client_port=4000-4001\r\n"), 461);
    assert_eq!(status(&mut c, "SETUP", "/live", "Transport: RTP/AVP;multicast\r\n"), 461, "no group");
    assert_eq!(status(&mut c, "RECORD", "/live", ""), 405);
    assert_eq!(status(&mut c, "FROBNICATE", "/live", ""), 501);
    assert_eq!(status(&mut c, "OPTIONS", "/live", "Require: funky\r\n"), 551);
    assert_eq!(status(&mut c, "GET_PARAMETER", "/live", "Session: 9\r\n"), 454);
    let without = c.raw(b"OPTIONS * RTSP/1.0\r\n\r\n").unwrap();
    assert_eq!(without.status, 400, "no CSeq");
    let body = c.raw(b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 9\r\nContent-Length: 4\r\n\r\nx: y").unwrap();
    assert_eq!(body.status, 451);
    // A session of another stream, on a server with two.
    let server = node.server();
    drop(server);
    let mut server = Server::builder(HOST).bind().unwrap();
    let one = server.mount("/one/", Codec::H264, MountOptions::default()).unwrap();
    assert_eq!(server.mount("/one", Codec::H264, MountOptions::default()).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(
        server.mount("two", Codec::H264, MountOptions::default()).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        server.mount("/a b", Codec::H264, MountOptions::default()).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(server.mount("/f", Codec::Fwht, MountOptions::default()).unwrap_err().kind(), ErrorKind::Unsupported);
    let host = MountOptions::default().group("10.0.0.1:5000".parse().unwrap());
    assert_eq!(server.mount("/m", Codec::H264, host).unwrap_err().kind(), ErrorKind::InvalidArgument);
    server.unmount(one);
    let packet = Packet::new(framelease::frame::PacketMeta::new(Codec::H264, SIZE, 0, 0), [0, 0, 1, 0x65, 0x80], None);
    assert_eq!(server.submit(one, &packet).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let taken = Server::builder(server.local_addr().unwrap()).bind().unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Busy);
    assert!(taken.to_string().contains("127.0.0.1"), "{taken}");
}

#[test]
fn request_may_have_all_forms_of_rfc_2326() {
    let node = Node::plain(Vec::new());
    let mut c = node.client();
    for (path, ends) in [
        ("/live", "\r\n"),
        ("/live", "\n"),
        ("/live", "\r"),
        ("/l%69v%65", "\r\n"),
        ("//live", "\r\n"),
        ("/live//video", "\r\n"),
    ] {
        let request = format!("DESCRIBE {} RTSP/1.0{ends}CSeq:{ends} 7{ends}{ends}", node.url(path));
        let response = c.raw(request.as_bytes()).unwrap();
        assert_eq!((response.status, response.header("CSeq")), (200, "7"), "{path} {ends:?}");
    }
    let setup = c.setup("RTP/AVP;client_port=47002-47003");
    assert!(setup.status == 200 && setup.header("Transport").starts_with("RTP/AVP;unicast;client_port=47002-47003"));
    let end = |session: &str| format!("TEARDOWN * RTSP/1.0\r\nCSeq: 8\r\nSession: {session}\r\n\r\n");
    assert_eq!(c.raw(end("1").as_bytes()).unwrap().status, 454);
    assert_eq!(c.raw(end(&setup.session()).as_bytes()).unwrap().status, 200);
    assert!(node.stop().1.is_empty());
}

#[test]
fn user_without_password_sees_nothing() {
    let builder = Server::builder(HOST).user("eve", "s3cret").user("bob", "other");
    let node = Node::start(builder.clone(), MountOptions::default(), Vec::new());
    let mut c = node.client();
    assert_eq!(c.ask("OPTIONS", "/live", "").status, 200);
    let asked = c.ask("DESCRIBE", "/live", "");
    assert_eq!(asked.status, 401);
    let challenge = asked.header("WWW-Authenticate").to_owned();
    assert!(challenge.starts_with("Digest realm=\"framelease\", nonce=\"") && !asked.head.contains("Basic"));
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().trim_end_matches('"');
    let hash = |text: &str| format!("{:x}", md5::compute(text));
    let digest = |method: &str, path: &str, password: &str| {
        let uri = format!("rtsp://{}{path}", node.address);
        let response = hash(&format!(
            "{}:{nonce}:{}",
            hash(&format!("bob:framelease:{password}")),
            hash(&format!("{method}:{uri}"))
        ));
        format!(
            "Authorization: Digest username=\"bob\", realm=\"framelease\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\"\r\n"
        )
    };
    assert_eq!(c.ask("DESCRIBE", "/live", &digest("DESCRIBE", "/live", "other")).status, 200);
    assert_eq!(c.ask("DESCRIBE", "/live", &digest("DESCRIBE", "/live", "s3cret")).status, 401);
    assert_eq!(c.ask("SETUP", "/live", &digest("DESCRIBE", "/live", "other")).status, 401);
    // An answer to the challenge of another connection.
    let stale = node.client().ask("DESCRIBE", "/live", &digest("DESCRIBE", "/live", "other"));
    assert!(stale.status == 401 && stale.header("WWW-Authenticate").ends_with("stale=true"));
    let basic = "Authorization: Basic Ym9iOm90aGVy\r\n";
    assert_eq!(c.ask("DESCRIBE", "/live", basic).status, 401, "passwords are not sent in clear here");
    // Wrong passwords end the connection.
    for _ in 0..2 {
        assert_eq!(c.ask("DESCRIBE", "/live", basic).status, 401);
    }
    assert!(c.raw(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").is_none(), "closed");
    assert!(node.stop().0.unauthorized >= 6);
    let node = Node::start(builder.allow_basic(), MountOptions::default(), Vec::new());
    assert_eq!(node.client().ask("DESCRIBE", "/live", basic).status, 200);
}

/// What clients hash, by their sources and reports: the header's URI, not the request's.
#[test]
fn user_logs_in_with_the_digest_of_every_client() {
    let node = Node::start(Server::builder(HOST).user("eve", "s3cret"), MountOptions::default(), Vec::new());
    let mut c = node.client();
    let challenge = c.ask("DESCRIBE", "/live", "").header("WWW-Authenticate").to_owned();
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().trim_end_matches('"').to_owned();
    let host = format!("rtsp://{}", node.address);
    let hash = |text: &str| format!("{:x}", md5::compute(text));
    let header = |method: &str, uri: &str, qop: bool| {
        let (secret, asked) = (hash("eve:framelease:s3cret"), hash(&format!("{method}:{uri}")));
        let (inner, more) = match qop {
            true => ("00000001:abcd:auth:", ", qop=auth, nc=00000001, cnonce=\"abcd\""),
            false => ("", ""),
        };
        let response = hash(&format!("{secret}:{nonce}:{inner}{asked}"));
        let fields = format!("username=\"eve\", realm=\"framelease\", nonce=\"{nonce}\", uri=\"{uri}\"");
        format!("Authorization: Digest {fields}, response=\"{response}\"{more}\r\n")
    };
    let base = format!("{host}/live/");
    // live555: the Content-Base of the answer to DESCRIBE, for every request.
    assert_eq!(c.ask("DESCRIBE", "/live", &header("DESCRIBE", &format!("{host}/live"), false)).status, 200);
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let setup = c.ask("SETUP", "/live/video", &format!("{transport}{}", header("SETUP", &base, false)));
    assert_eq!(setup.status, 200, "{setup:?}");
    let session = format!("Session: {}\r\n", setup.session());
    for method in ["PLAY", "GET_PARAMETER", "TEARDOWN"] {
        let played = c.ask(method, "/live/", &format!("{session}{}", header(method, &base, false)));
        assert_eq!(played.status, 200, "{method}");
    }
    // Others: a path alone, and a quality of protection that was not asked for.
    for (uri, qop) in [("/live", false), (&base[..], true), (&format!("{host}/live")[..], true)] {
        assert_eq!(c.ask("DESCRIBE", "/live", &header("DESCRIBE", uri, qop)).status, 200, "{uri} {qop}");
    }
    let userinfo = format!("DESCRIBE rtsp://eve:s3cret@{}/live RTSP/1.0\r\nCSeq: 1\r\n", node.address);
    let request = format!("{userinfo}{}\r\n", header("DESCRIBE", &format!("{host}/live"), false));
    assert_eq!(c.raw(request.as_bytes()).unwrap().status, 200);
    for uri in ["/other", "", &format!("{host}/")] {
        assert_eq!(c.ask("DESCRIBE", "/live", &header("DESCRIBE", uri, false)).status, 401, "{uri}");
    }
}

/// What a client with live555 (VLC, openRTSP, its proxy) sends: every digest is of the base URL, and a session lives by
/// RTCP reports alone, or by OPTIONS with the session.
#[test]
fn session_of_live555_lives_by_reports_and_options() {
    let Some(packets) = frames(20) else { return };
    let timeout = Duration::from_secs(1);
    let builder = Server::builder(HOST).user("eve", "s3cret").session_timeout(timeout);
    let node = Node::start(builder, MountOptions::default(), packets);
    let (rtp, rtcp) = (UdpSocket::bind(HOST).unwrap(), UdpSocket::bind(HOST).unwrap());
    let ports = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    let udp = format!("RTP/AVP;unicast;client_port={}-{}", ports.0, ports.1);
    const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];
    for (transport, by_reports) in
        [("RTP/AVP/TCP;unicast;interleaved=0-1", true), (&udp, true), ("RTP/AVP/TCP;unicast;interleaved=0-1", false)]
    {
        let mut c = node.client();
        assert_eq!(c.ask("OPTIONS", "/live", "User-Agent: LIVE555 Streaming Media\r\n").status, 200);
        let challenge = c.ask("DESCRIBE", "/live", "Accept: application/sdp\r\n").header("WWW-Authenticate").to_owned();
        let nonce = challenge.split("nonce=\"").nth(1).unwrap().trim_end_matches('"').to_owned();
        let hash = |text: &str| format!("{:x}", md5::compute(text));
        let login = |method: &str, base: &str| {
            let (secret, asked) = (hash("eve:framelease:s3cret"), hash(&format!("{method}:{base}")));
            let response = hash(&format!("{secret}:{nonce}:{asked}"));
            let fields = format!("username=\"eve\", realm=\"framelease\", nonce=\"{nonce}\", uri=\"{base}\"");
            format!("Authorization: Digest {fields}, response=\"{response}\"\r\n")
        };
        let about = c.ask("DESCRIBE", "/live", &login("DESCRIBE", &node.url("/live")));
        let base = about.header("Content-Base").to_owned();
        let setup = c.ask("SETUP", "/live/video", &format!("{}Transport: {transport}\r\n", login("SETUP", &base)));
        assert_eq!(setup.status, 200, "{transport}");
        let session = format!("Session: {}\r\n", setup.session());
        let play = format!("{}{session}Range: npt=0.000-\r\n", login("PLAY", &base));
        assert_eq!(c.ask("PLAY", "/live/", &play).status, 200, "{transport}");
        let server =
            setup.header("Transport").split("server_port=").nth(1).and_then(|ports| ports.split(['-', ';']).nth(1));
        // Three timeouts long. What comes meanwhile is read, because frames that wait for a second are dropped.
        let end = Instant::now() + 3 * timeout;
        while Instant::now() < end {
            match (by_reports, server) {
                (true, None) => c.stream.write_all(&[&[b'$', 1, 0, 8], &REPORT[..]].concat()).unwrap(),
                (true, Some(port)) => {
                    rtcp.send_to(&REPORT, (Ipv4Addr::LOCALHOST, port.parse().unwrap())).unwrap();
                }
                (false, _) => {
                    let options = format!("{}{session}", login("OPTIONS", &base));
                    assert_eq!(c.ask("OPTIONS", "/live/", &options).status, 200);
                }
            }
            match server {
                None => drop(c.read_packets(20)),
                Some(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
        let alive = c.ask("GET_PARAMETER", "/live/", &format!("{}{session}", login("GET_PARAMETER", &base)));
        assert_eq!(alive.status, 200, "{transport}, reports: {by_reports}");
        let end = c.ask("TEARDOWN", "/live/", &format!("{}{session}", login("TEARDOWN", &base)));
        assert_eq!(end.status, 200, "{transport}");
    }
    assert_eq!(node.stop().0.expired, 0);
}

#[test]
fn user_with_wrong_passwords_is_counted_over_other_requests() {
    let node = Node::start(Server::builder(HOST).user("eve", "s3cret"), MountOptions::default(), Vec::new());
    let mut c = node.client();
    let wrong = "DESCRIBE * RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Basic Ym9iOm90aGVy\r\n\r\n";
    let refused = (0..20).take_while(|_| {
        let is_refused = c.raw(wrong.as_bytes()).is_some_and(|r| r.status == 401);
        is_refused && c.raw(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").is_some()
    });
    assert!(refused.count() < 5, "wrong passwords are not limited");
}

#[test]
fn multicast_group_survives_another_setup_of_its_only_member() {
    let Some(packets) = frames(20) else { return };
    // The packets need not arrive: the test counts the packets that are sent.
    let group = SocketAddr::new(Ipv4Addr::new(239, 255, 42, 44).into(), 47_000);
    let options = MountOptions::default().group(group).rtp(rtp::SenderOptions::default().interface("lo"));
    let node = Node::start(Server::builder(HOST), options, packets);
    let mut c = node.client();
    let session = format!("Session: {}\r\n", c.setup("RTP/AVP;multicast").session());
    let again = c.ask("SETUP", "/live/video", &format!("{session}Transport: RTP/AVP;multicast\r\n"));
    assert_eq!(again.status, 200);
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
    std::thread::sleep(Duration::from_millis(500));
    let clients = node.stop().1;
    assert_eq!(clients.len(), 1);
    assert!(clients[0].sent.frames > 10, "{:?}", clients[0].sent);
}

#[test]
fn settings_may_have_any_size() {
    let Some(packets) = frames(20) else { return };
    let most = Duration::MAX;
    let builder = Server::builder(HOST).session_timeout(most).request_timeout(most).backlog_bytes(usize::MAX);
    let rtp = rtp::SenderOptions::default().spread(most).parameters_every(most);
    let node = Node::start(builder, MountOptions::default().rtp(rtp), packets);
    let mut c = node.client();
    // A request in two halves: the server waits for its end.
    c.stream.write_all(b"OPTIONS * RTSP/1.0\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(c.raw(b"CSeq: 1\r\n\r\n").unwrap().status, 200);
    let setup = c.setup("RTP/AVP/TCP");
    let timeout = setup.header("Session").split("timeout=").nth(1).unwrap().to_owned();
    assert!(timeout.parse::<i32>().is_ok(), "{timeout} is more than clients can read");
    let session = format!("Session: {}\r\n", setup.session());
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
    c.read_packets(50);
    node.stop();
}

#[test]
fn session_timeout_restarts_with_any_request() {
    let node =
        Node::start(Server::builder(HOST).session_timeout(Duration::from_secs(1)), MountOptions::default(), Vec::new());
    let mut c = node.client();
    let session = format!("Session: {}\r\n", c.setup("RTP/AVP/TCP").session());
    // The request of clients that do not support GET_PARAMETER.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(c.ask("OPTIONS", "/live", &session).status, 200);
    }
    assert_eq!(c.ask("GET_PARAMETER", "/live", &session).status, 200);
    assert_eq!(node.stop().0.expired, 0);
}

#[test]
fn session_timeout_restarts_with_requests_that_name_no_session() {
    let timeout = Duration::from_secs(1);
    let node = Node::start(Server::builder(HOST).session_timeout(timeout), MountOptions::default(), Vec::new());
    for transport in ["RTP/AVP/TCP", "RTP/AVP;unicast;client_port=47000-47001"] {
        let mut c = node.client();
        let session = format!("Session: {}\r\n", c.setup(transport).session());
        for method in ["OPTIONS", "GET_PARAMETER"].repeat(3) {
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(c.ask(method, "/live", "").status, 200);
        }
        assert_eq!(c.ask("GET_PARAMETER", "/live", &session).status, 200, "{transport}");
    }
    assert_eq!(node.stop().0.expired, 0);
}

/// A link-local address, if this host has one.
fn link_local() -> Option<SocketAddr> {
    let text = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let of = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ip = u128::from_str_radix(words.first()?, 16).ok().filter(|ip| ip >> 118 == 0xfe80 >> 6)?;
        let scope = u32::from_str_radix(words.get(1)?, 16).ok()?;
        Some(std::net::SocketAddrV6::new(ip.into(), 0, 0, scope).into())
    };
    text.lines().find_map(of)
}

#[test]
fn destination_on_the_same_link_gets_its_packets() {
    let Some(packets) = frames(20) else { return };
    let Some(address) = link_local().filter(|a| UdpSocket::bind(a).is_ok()) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED link-local addresses: this host has none");
        return;
    };
    let node = Node::start(Server::builder(address), MountOptions::default(), packets);
    let mut c = node.client();
    let rtp = UdpSocket::bind(address).unwrap();
    rtp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = rtp.local_addr().unwrap().port();
    let setup = c.setup(&format!("RTP/AVP;unicast;client_port={port}-{}", port - 1));
    assert_eq!(setup.status, 200);
    assert_eq!(c.ask("PLAY", "/live", &format!("Session: {}\r\n", setup.session())).status, 200);
    assert!(rtp.recv(&mut [0; 2000]).is_ok());
    node.stop();
}

#[test]
fn describe_has_the_track_of_any_path() {
    let mut server = Server::builder(HOST).bind().unwrap();
    for path in ["/video", "/myvideo", "/live"] {
        server.mount(path, Codec::H264, MountOptions::default()).unwrap();
    }
    let address = server.local_addr().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = server.recv(Duration::from_millis(10)).unwrap();
            }
        });
        let mut c = Client::connect(address);
        let mut told = Vec::new();
        for (path, asked, track) in [
            ("/video", "/video", "/video/video"),
            ("/myvideo", "/myvideo/", "/myvideo/video"),
            ("/live", "/live/video", "/live/video"),
            ("/live", "/live?a=1", "/live?a=1/video"),
            ("/live", "/live?a=1/video", "/live?a=1/video"),
        ] {
            let session = c.ask("SETUP", path, "Transport: RTP/AVP/TCP\r\n").session();
            let play = c.ask("PLAY", asked, &format!("Session: {session}\r\n"));
            let url = format!("url=rtsp://{address}{track};seq=");
            told.push((play.header("RTP-Info").starts_with(&url), play.head));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(told.iter().all(|(is_right, _)| *is_right), "{told:#?}");
    });
}

#[test]
fn describe_waits_for_parameter_sets_but_not_forever() {
    let mut server = Server::builder(HOST).bind().unwrap();
    let live = server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    server.mount("/silent", Codec::Hevc, MountOptions::default()).unwrap();
    let address = server.local_addr().unwrap();
    let (mut c, mut other) = (Client::connect(address), Client::connect(address));
    let serve = |server: &mut Server, time: Duration| {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let _ = server.recv(left).unwrap();
        }
    };
    // The second request waits for the first.
    c.say("DESCRIBE", "/live", "");
    c.say("OPTIONS", "/live", "");
    other.say("OPTIONS", "/live", "");
    serve(&mut server, Duration::from_millis(100));
    assert_eq!(other.response().unwrap().status, 200, "other clients do not wait");
    assert!(server.awaits_key(live), "the key frame carries the parameter sets");
    c.stream.set_nonblocking(true).unwrap();
    assert!(c.stream.peek(&mut [0]).is_err());
    c.stream.set_nonblocking(false).unwrap();
    let meta = framelease::frame::PacketMeta::new(Codec::H264, SIZE, 0, 0);
    let bytes = [0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88];
    server.submit(live, &Packet::new(meta, bytes, None)).unwrap();
    assert!(!server.awaits_key(live));
    serve(&mut server, Duration::from_millis(20));
    let about = c.response().unwrap();
    assert!(about.status == 200 && about.body.contains("sprop-parameter-sets=Z0LAHg==,aM4="), "{about:?}");
    assert!(c.response().unwrap().header("Public").contains("PLAY"));
    // A stream without packets is described after a while, and then at once.
    for wait in [Duration::from_secs(3), Duration::from_millis(20)] {
        c.say("DESCRIBE", "/silent", "");
        serve(&mut server, wait);
        let about = c.response().unwrap();
        assert!(about.status == 200 && about.body.contains("H265/90000"), "{about:?}");
    }
    // A client that floods the server meanwhile is disconnected.
    server.mount("/flood", Codec::H264, MountOptions::default()).unwrap();
    c.say("DESCRIBE", "/flood", "");
    let _ = c.stream.write_all(&[b'x'; 40_000]);
    serve(&mut server, Duration::from_millis(200));
    assert_eq!(c.response().unwrap().status, 413);
    assert_eq!(server.stats().requests, 5);
}

#[test]
fn describe_that_waits_asks_for_one_key_frame() {
    let mut server = Server::builder(HOST).bind().unwrap();
    let live = server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    let mut clients = [0; 3].map(|_| Client::connect(server.local_addr().unwrap()));
    clients.iter_mut().for_each(|c| c.say("DESCRIBE", "/live", ""));
    assert_eq!(events(&mut server), [ServerEvent::KeyFrameWanted(live)]);
    // A key frame without parameter sets, which more would not have either.
    let meta = framelease::frame::PacketMeta::new(Codec::H264, SIZE, 0, 0);
    server.submit(live, &Packet::new(meta, [0, 0, 1, 0x65, 0x88], None)).unwrap();
    clients[0].say("DESCRIBE", "/live", "");
    assert!(events(&mut server).is_empty() && !server.awaits_key(live));
    // After the descriptions, too.
    let end = Instant::now() + Duration::from_millis(2500);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        assert!(server.recv(left).unwrap().is_nothing());
    }
    assert_eq!(clients[0].response().unwrap().status, 200);
    assert_eq!(server.stats().requests, 4);
}

#[test]
fn setup_again_keeps_the_channel_and_sends_no_bye() {
    let Some(packets) = frames(20) else { return };
    let node = Node::plain(packets);
    let mut c = node.client();
    let transport = "RTP/AVP/TCP;unicast;interleaved=0-1";
    let session = format!("Session: {}\r\n", c.setup(transport).session());
    let again = c.ask("SETUP", "/live/video", &format!("{session}Transport: {transport}\r\n"));
    assert!(again.header("Transport").contains("interleaved=0-1;"), "{again:?}");
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(c.ask("GET_PARAMETER", "/live", &session).status, 200);
    // RFC 3550, 6.3.7: a participant that never sent a packet sends no BYE. The source is the same.
    let goodbye = c.packets.iter().find(|(channel, bytes)| channel % 2 == 1 && bytes[bytes.len() - 7] == 203);
    assert!(goodbye.is_none() && c.packets.iter().any(|(channel, _)| *channel == 0));
    node.stop();
}

#[test]
fn request_that_is_invalid_ends_only_its_connection() {
    let Some(packets) = frames(20) else { return };
    let builder = Server::builder(HOST).max_connections(40).request_timeout(Duration::from_millis(300));
    let node = Node::start(builder, MountOptions::default(), packets);
    let mut good = node.client();
    let setup = good.setup("RTP/AVP/TCP;interleaved=0-1");
    let session = format!("Session: {}\r\n", setup.session());
    good.ask("PLAY", "/live", &session);
    // It reads all the time, because frames that wait for a second are dropped.
    let is_over = std::sync::Arc::new(AtomicBool::new(false));
    let ends = std::sync::Arc::clone(&is_over);
    let reader = std::thread::spawn(move || {
        let mut packets = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            packets.extend(good.read_packets(50));
        }
        (good, packets)
    });
    let huge = format!("OPTIONS * RTSP/1.0\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("OPTIONS * RTSP/1.0\r\n{}\r\n", "A: b\r\n".repeat(500));
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 404),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
        (huge.as_bytes(), 413),
        (many.as_bytes(), 413),
        (b"OPTIONS * RTSP/1.0\r\nContent-Length: 1000000000\r\n\r\n", 413),
        (b"OPTIONS * RTSP/3.0\r\n\r\n", 505),
    ] {
        let mut c = node.client();
        assert_eq!(c.raw(bytes).expect("a status").status, status);
        assert!(c.response().is_none(), "and closed");
    }
    // A request of one byte at a time does not keep a connection open.
    let mut slow = node.client();
    let start = Instant::now();
    let closed = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".iter().cycle().find(|&&b| {
        std::thread::sleep(Duration::from_millis(50));
        slow.stream.write_all(if b < b' ' { b"x" } else { std::slice::from_ref(&b) }).is_err()
    });
    assert!(closed.is_some() && start.elapsed() < Duration::from_secs(10));
    assert_eq!(slow.response().map_or(408, |r| r.status), 408);
    // A thousand connections: most are refused, and existing ones stay.
    let mut turned_away = 0;
    let crowd: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(node.address).ok()).collect();
    for mut stream in crowd {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut answer = [0; 12];
        turned_away += u32::from(stream.read_exact(&mut answer).is_ok() && answer == *b"RTSP/1.0 503");
    }
    assert!(turned_away > 900, "{turned_away}");
    // The first client lost nothing.
    is_over.store(true, Ordering::Relaxed);
    let (mut good, packets) = reader.join().unwrap();
    let sequences: Vec<u16> = packets.iter().map(|p| u16::from_be_bytes([p[2], p[3]])).collect();
    assert!(sequences.len() >= 300 && sequences.windows(2).all(|w| w[1] == w[0].wrapping_add(1)), "a gap");
    assert_eq!(good.ask("TEARDOWN", "/live", &session).status, 200);
    let (stats, _) = node.stop();
    assert!(stats.malformed >= 7 && stats.refused > 900, "{stats:?}");
}

#[test]
fn session_timeout_ends_a_silent_session() {
    let Some(packets) = frames(20) else { return };
    let builder = Server::builder(HOST).session_timeout(Duration::from_secs(1)).max_sessions(3);
    let node = Node::start(builder, MountOptions::default(), packets);
    let (rtp, rtcp) = (UdpSocket::bind(HOST).unwrap(), UdpSocket::bind(HOST).unwrap());
    let ports = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    let transport = format!("RTP/AVP;unicast;client_port={}-{}", ports.0, ports.1);
    let mut silent = node.client();
    let session = silent.setup(&transport).session();
    assert_eq!(silent.ask("PLAY", "/live", &format!("Session: {session}\r\n")).status, 200);
    let mut reporting = node.client();
    let setup = reporting.setup(&transport);
    let reports = format!("Session: {}\r\n", setup.session());
    assert_eq!(reporting.ask("PLAY", "/live", &reports).status, 200);
    let server_port = setup.header("Transport").split("server_port=").nth(1).unwrap().split(['-', ';']).nth(1).unwrap();
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), server_port.parse().unwrap());
    let mut third = node.client();
    assert_eq!(third.setup("RTP/AVP/TCP").status, 200);
    let mut fourth = node.client();
    assert_eq!(fourth.setup("RTP/AVP/TCP").status, 453, "no more sessions");
    // The end of the connection does not end a UDP session. Reports and requests of any kind keep it alive.
    drop((silent, third));
    let mut asking = node.client();
    let asked = format!("Session: {}\r\n", asking.setup("RTP/AVP/TCP").session());
    for _ in 0..25 {
        rtcp.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 1], to).unwrap();
        assert_eq!(asking.ask("OPTIONS", "/live", &asked).status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(asking.ask("TEARDOWN", "/live", &asked).status, 200);
    let mut again = node.client();
    assert_eq!(again.ask("GET_PARAMETER", "/live", &format!("Session: {session}\r\n")).status, 454);
    assert_eq!(again.ask("GET_PARAMETER", "/live", &reports).status, 200);
    let (stats, clients) = node.stop();
    assert_eq!((stats.expired, clients.len()), (1, 1));
    assert!(clients[0].transport == Transport::Udp && clients[0].is_playing && clients[0].sent.frames > 10);
}

#[test]
fn client_that_does_not_read_loses_its_own_frames_only() {
    let large = framelease::format::Size::new(1280, 720);
    let Some(stream) = stream(Codec::H264, 20, large) else { return };
    let builder = Server::builder(HOST).backlog_bytes(200_000).session_timeout(Duration::from_secs(4));
    let node = Node::start(builder, MountOptions::default(), packets(Codec::H264, &stream, large));
    let play = |node: &Node| {
        let mut c = node.client();
        let session = c.setup("RTP/AVP/TCP").session();
        c.ask("PLAY", "/live", &format!("Session: {session}\r\n"));
        (c, session)
    };
    let (stuck, _) = play(&node);
    let (mut good, session) = play(&node);
    let mut last: Option<u16> = None;
    let start = Instant::now();
    // Long enough that the server disconnects the stuck client, from which nothing comes.
    while start.elapsed() < Duration::from_millis(5500) {
        for packet in good.read_packets(50) {
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            assert!(last.map_or(true, |l| sequence == l.wrapping_add(1)), "a gap");
            last = Some(sequence);
        }
        good.ask("GET_PARAMETER", "/live", &format!("Session: {session}\r\n"));
    }
    let server = node.server();
    let clients: Vec<ClientStats> = server.clients().collect();
    assert_eq!((clients.len(), clients[0].sent.dropped, server.stats().expired), (1, 0, 1));
    drop(stuck);
}

/// A connection with a small receive buffer.
fn connect_narrow(address: SocketAddr) -> TcpStream {
    use nix::sys::socket::{
        connect, setsockopt, socket, sockopt::RcvBuf, AddressFamily, SockFlag, SockType, SockaddrStorage,
    };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, RcvBuf, &16_384).unwrap();
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[test]
fn client_that_reads_slowly_gets_no_old_frames() {
    read_slowly(|c| c);
}

#[test]
fn client_that_reads_slowly_through_http_gets_no_old_frames() {
    read_slowly(|c| c.into_tunnel(&new_cookie()));
}

fn read_slowly(connected: impl FnOnce(Client) -> Client) {
    const FRAMES: u64 = 600;
    const BYTES: usize = 4000;
    let mut server = Server::builder(HOST).bind().unwrap();
    let address = server.local_addr().unwrap();
    let live = server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    let sent = std::sync::atomic::AtomicU64::new(0);
    let mut oldest = 0;
    let mut got = Vec::new();
    let clients: Vec<ClientStats> = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut is_joined = false;
            while sent.load(Ordering::Relaxed) < FRAMES {
                let i = sent.load(Ordering::Relaxed);
                if is_joined {
                    let head: &[u8] = match i % 25 {
                        0 => &[0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65],
                        _ => &[0, 0, 1, 0x41],
                    };
                    let meta = framelease::frame::PacketMeta::new(Codec::H264, SIZE, i, (i + 1) * FRAME_NS);
                    server.submit(live, &Packet::new(meta, [head, &[0x88; BYTES]].concat(), None)).unwrap();
                    sent.store(i + 1, Ordering::Relaxed);
                }
                let next = Instant::now() + Duration::from_millis(10);
                while let Some(left) = next.checked_duration_since(Instant::now()) {
                    let event = server.recv(left).unwrap();
                    is_joined |= matches!(event, Received::Item(ServerEvent::Joined(..)));
                }
            }
            server.clients().collect()
        });
        let mut c = connected(Client::of(connect_narrow(address), address));
        let session = c.setup("RTP/AVP/TCP").session();
        assert_eq!(c.ask("PLAY", "/live", &format!("Session: {session}\r\n")).status, 200);
        let (mut bytes, mut first) = (0, None);
        loop {
            // A fifth of the rate.
            let now = sent.load(Ordering::Relaxed);
            if now >= FRAMES {
                break;
            }
            if bytes >= now as usize * BYTES / 5 {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            for packet in c.read_packets(1) {
                bytes += packet.len();
                let time = u32::from_be_bytes(packet[4..8].try_into().unwrap());
                let frame = u64::from(time.wrapping_sub(*first.get_or_insert(time)) / 3600);
                oldest = oldest.max(now.saturating_sub(frame));
                got.push(frame);
            }
        }
        server.join().unwrap()
    });
    // A frame may wait for a second, which is 100 frames, then in the kernel's buffers.
    assert!(oldest < 200, "{oldest} frames late, {} packets", got.len());
    got.dedup();
    assert!(got.len() > 30 && got.last().is_some_and(|&last| last > FRAMES - 200), "{got:?}");
    assert!(clients[0].sent.dropped > 200 && clients[0].sent.frames < 400, "{clients:?}");
}

/// One visit of a client: it may send anything, and leaves in one of several ways.
fn visit(address: SocketAddr, random: &mut impl FnMut(u32) -> u32) {
    let mut c = if random(2) == 0 { Client::connect(address) } else { Client::tunnel(address) };
    if random(8) == 0 {
        let _ = c.stream.write_all(&[random(256) as u8; 40]);
        return;
    }
    let udp = UdpSocket::bind(HOST).unwrap();
    let port = udp.local_addr().unwrap().port();
    let transport = match random(2) {
        0 => "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned(),
        _ => format!("RTP/AVP;unicast;client_port={port}-{}", port.saturating_add(1)),
    };
    assert_eq!(c.ask("DESCRIBE", "/live", "").status, 200);
    let setup = c.setup(&transport);
    assert_eq!(setup.status, 200);
    let session = format!("Session: {}\r\n", setup.session());
    if random(4) > 0 {
        assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
        std::thread::sleep(Duration::from_millis(u64::from(random(400))));
    }
    if random(4) == 0 {
        assert_eq!(c.ask("PAUSE", "/live", &session).status, 200);
    }
    if random(2) == 0 {
        assert_eq!(c.ask("TEARDOWN", "/live", &session).status, 200);
    }
    if random(2) == 0 {
        // The halves of a tunnel end in any order.
        c.post = None;
    }
}

#[test]
fn clients_that_come_and_go_cost_a_recording_and_a_receiver_nothing() {
    let Some(packets) = frames(40) else { return };
    // Set it for a longer run: a minute and more.
    let seconds = std::env::var("FRAMELEASE_CHURN_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
    // Sessions of clients that left end soon.
    let builder = Server::builder(HOST).session_timeout(Duration::from_secs(2)).max_sessions(500).max_connections(500);
    let mut server = builder.bind().unwrap();
    let address = server.local_addr().unwrap();
    let live = server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    let receiver = UdpSocket::bind(HOST).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sender = rtp::Sender::new(Codec::H264, rtp::SenderOptions::default().spread(Duration::ZERO)).unwrap();
    sender.add(receiver.local_addr().unwrap()).unwrap();
    let folder = Folder::new("churn");
    let mut writer = Writer::create(folder.path("a.mkv"), WriterOptions::default()).unwrap();
    let stop = AtomicBool::new(false);
    let (received, pushed) = std::thread::scope(|scope| {
        let received = scope.spawn(|| crate::receive::received(&receiver));
        for i in 0..20u32 {
            let stop = &stop;
            scope.spawn(move || {
                let mut state = i + 1;
                let mut random = |below: u32| {
                    // xorshift32
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    state % below
                };
                while !stop.load(Ordering::Relaxed) {
                    visit(address, &mut random);
                }
            });
        }
        let (start, mut pushed) = (Instant::now(), 0u64);
        while start.elapsed() < Duration::from_secs(seconds) {
            let packet = &packets[(pushed % 40) as usize];
            let mut meta = *packet.meta();
            meta.timestamp_ns = pushed * FRAME_NS;
            let packet = Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned());
            assert_eq!(writer.write(&packet).unwrap(), Written::Stored);
            assert!(sender.try_submit(packet.clone()).unwrap().is_taken());
            server.submit(live, &packet).unwrap();
            pushed += 1;
            let next = start + Duration::from_millis(20 * pushed);
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                let _ = server.recv(left).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        // Clients with an unfinished request get their responses.
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            let _ = server.recv(Duration::from_millis(10)).unwrap();
        }
        (received.join().unwrap(), pushed)
    });
    assert_eq!(received.iter().filter(|p| p.3).count() as u64, pushed);
    assert!(received.windows(2).all(|w| w[1].0 == w[0].0.wrapping_add(1)), "a gap");
    assert_eq!(writer.finish().unwrap().packets, pushed);
    let Some(sums) = frame_sums(text(&folder.path("a.mkv")), None, &[]) else { return };
    assert_eq!(sums.len() as u64, pushed);
    let stats = server.stats();
    assert!(stats.connections > 100 && stats.refused == 0, "{stats:?}");
    assert_eq!((server.clients().count(), server.connections()), (0, 0), "no session is left");
}

/// Returns the checksums of the frames that a client program decodes.
pub fn sums(child: Child) -> Vec<String> {
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit(", ").next()).map(str::to_owned).collect()
}

pub fn ffmpeg(url: &str, transport: &str, count: usize) -> Option<Child> {
    let frames = count.to_string();
    let args = ["-v", "error", "-rtsp_transport", transport, "-i", url, "-fps_mode", "passthrough"];
    let child = Command::new("ffmpeg")
        .args(args)
        .args(["-frames:v", &frames, "-f", "framemd5", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    child.ok()
}

#[test]
fn rtsp_is_decoded_by_ffmpeg() {
    for codec in [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Mjpeg] {
        let size = if codec == Codec::Mjpeg { JPEG_SIZE } else { SIZE };
        let Some(bytes) = stream(codec, 40, size) else { return };
        let Some(expected) = frame_sums("-", Some(format(codec)), &bytes) else { return };
        let builder = Server::builder(HOST).user("eve", "s3cret");
        let node = Node::start(builder, MountOptions::default(), packets(codec, &bytes, size));
        let url = format!("rtsp://eve:s3cret@{}/live", node.address);
        let children: Vec<Child> =
            ["tcp", "udp", "http"].into_iter().filter_map(|transport| ffmpeg(&url, transport, 60)).collect();
        for (child, way) in children.into_iter().zip(["tcp", "udp", "http"]) {
            let sums = sums(child);
            assert!(run(&sums, &expected) >= 25, "{codec} by {way}: {} of {}", run(&sums, &expected), sums.len());
        }
        let (stats, _) = node.stop();
        assert_eq!(stats.malformed, 0);
    }
}

#[test]
fn rtsp_multicast_is_decoded_by_ffmpeg() {
    if !has_own_network("rtsp::rtsp_multicast_is_decoded_by_ffmpeg") {
        return;
    }
    if crate::rtp::routed().is_none() {
        return;
    }
    let Some(bytes) = stream(Codec::H264, 40, SIZE) else { return };
    let Some(expected) = frame_sums("-", Some("h264"), &bytes) else { return };
    let group =
        SocketAddr::new(Ipv4Addr::new(239, 255, 42, 43).into(), 42_000 + (std::process::id() % 1000) as u16 * 2);
    let options = MountOptions::default().group(group).rtp(rtp::SenderOptions::default().ttl(1));
    let node = Node::start(Server::builder(HOST), options, packets(Codec::H264, &bytes, SIZE));
    let url = node.url("/live");
    let children: Vec<Child> = (0..2).filter_map(|_| ffmpeg(&url, "udp_multicast", 60)).collect();
    for child in children {
        let sums = sums(child);
        assert!(run(&sums, &expected) >= 25, "{} of {}", run(&sums, &expected), sums.len());
    }
    // No client is left, so nothing is sent.
    let mut server = node.server();
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        let _ = server.recv(Duration::from_millis(10)).unwrap();
    }
    assert_eq!(server.clients().count(), 0);
}

/// Lets GStreamer receive 60 frames into a file, with these properties of its source. Returns the checksums of the
/// decoded frames.
pub fn gstreamer(url: &str, properties: &str, file: &Path) -> Option<Vec<String>> {
    let line = format!(
        "rtspsrc location={url} {properties} latency=200 ! rtph264depay ! h264parse ! \
         video/x-h264,stream-format=byte-stream,alignment=au ! identity eos-after=60 ! filesink location={}",
        text(file)
    );
    let args: Vec<&str> = ["-q"].into_iter().chain(line.split_whitespace()).collect();
    let out = program("timeout", &[&["60", "gst-launch-1.0"][..], &args].concat(), &[])?;
    if out.status.code() == Some(127) {
        let _ = writeln!(std::io::stderr(), "SKIPPED gst-launch-1.0: not found");
        return None;
    }
    let said = String::from_utf8_lossy(&out.stderr);
    // After the last frame, GStreamer interrupts its own PAUSE with its TEARDOWN, and sometimes reports that as an
    // error.
    assert!(out.status.success() || said.contains("gst_rtspsrc_pause"), "{url} {properties}: {said}");
    frame_sums("-", Some("h264"), &std::fs::read(file).unwrap())
}

#[test]
fn rtsp_is_decoded_by_gstreamer() {
    if !has_own_network("rtsp::rtsp_is_decoded_by_gstreamer") {
        return;
    }
    let Some(bytes) = stream(Codec::H264, 40, SIZE) else { return };
    let Some(expected) = frame_sums("-", Some("h264"), &bytes) else { return };
    let builder = Server::builder(HOST).user("eve", "s3cret");
    let group = SocketAddr::new(Ipv4Addr::new(239, 255, 42, 45).into(), 40_000);
    let options = MountOptions::default().group(group);
    let node = Node::start(builder, options, packets(Codec::H264, &bytes, SIZE));
    let folder = Folder::new("gst");
    // On other networks a group may not have a route.
    let ways = [("rtsp", "tcp"), ("rtsp", "udp"), ("rtsph", "tcp"), ("rtsp", "udp-mcast")];
    for (scheme, protocol) in &ways[..if is_in_own_network() { 4 } else { 3 }] {
        let url = format!("{scheme}://eve:s3cret@{}/live", node.address);
        let file = folder.path(protocol);
        let Some(sums) = gstreamer(&url, &format!("protocols={protocol}"), &file) else { return };
        assert!(run(&sums, &expected) >= 25, "{scheme} {protocol}: {} of {}", run(&sums, &expected), sums.len());
    }
    let (stats, _) = node.stop();
    assert_eq!(stats.malformed, 0);
}

/// Returns what tshark's dissectors report about a capture, one line for each packet.
fn dissected(file: &str, port: u16, more: &[&str]) -> Option<Vec<String>> {
    let rtsp = format!("tcp.port=={port},rtsp");
    let mut args = vec!["-r", file, "-d", &rtsp, "-o", "h264.dynamic.payload.type:96", "-o", "rtp.heuristic_rtp:TRUE"];
    args.extend(more);
    let out = program("tshark", &args, &[])?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn rtsp_and_rtp_pass_tshark() {
    let Some(packets) = frames(20) else { return };
    // The smallest parameter sets (320x192, Baseline): tshark 4.0 cannot parse x264's usability information.
    let sets = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xdc, 0x14, 0x19, 0x90, 0, 0, 0, 1, 0x68, 0xce, 0x38, 0x80];
    let with_own = |p: &Packet| match p.is_key() {
        true => Packet::new(*p.meta(), [&sets[..], p.picture()].concat(), None),
        false => Packet::new(*p.meta(), p.bytes(), None),
    };
    let node = Node::plain(packets.iter().map(with_own).collect());
    let folder = Folder::new("wire");
    let file = folder.path("a.pcap");
    let (rtp, rtcp) = (UdpSocket::bind(HOST).unwrap(), UdpSocket::bind(HOST).unwrap());
    let ports = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    // Leave out packets of tests that run at the same time.
    let own = format!("tcp port {} or udp port {} or udp port {} or udp port 9", node.address.port(), ports.0, ports.1);
    let capture =
        Command::new("tshark").args(["-q", "-i", "lo", "-w", text(&file), "-f", &own]).stderr(Stdio::null()).spawn();
    let Ok(mut capture) = capture else {
        let _ = writeln!(std::io::stderr(), "SKIPPED tshark: not found");
        return;
    };
    // tshark does not report when it begins: send datagrams until it captures one.
    let knock = UdpSocket::bind(HOST).unwrap();
    let start = Instant::now();
    let (len, mut head) = (|| std::fs::metadata(&file).map_or(0, |m| m.len()), 0);
    while head == 0 || len() == head {
        // The file's header comes before the first packet.
        head = if head == 0 { len() } else { head };
        if capture.try_wait().unwrap().is_some() || start.elapsed() > Duration::from_secs(20) {
            let _ = capture.kill();
            let _ = capture.wait();
            let _ = writeln!(std::io::stderr(), "SKIPPED tshark: it cannot capture here");
            return;
        }
        let _ = knock.send_to(b"knock", (Ipv4Addr::LOCALHOST, 9));
        std::thread::sleep(Duration::from_millis(50));
    }
    let udp = format!("RTP/AVP;unicast;client_port={}-{}", ports.0, ports.1);
    for transport in ["RTP/AVP/TCP;unicast;interleaved=0-1", &udp] {
        let mut c = node.client();
        assert_eq!(c.ask("OPTIONS", "/live", "").status, 200);
        assert_eq!(c.ask("DESCRIBE", "/live", "").status, 200);
        let session = format!("Session: {}\r\n", c.setup(transport).session());
        assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(c.ask("TEARDOWN", "/live", &session).status, 200);
    }
    let port = node.address.port();
    node.stop();
    std::thread::sleep(Duration::from_secs(1));
    // SIGINT makes tshark write all packets.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(capture.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    capture.wait().unwrap();
    let file = text(&file);
    // The only ICMP packets come from client sockets without a reader, and from the datagrams above.
    let wrong = "(_ws.malformed or _ws.expert.severity >= warning) and not icmp";
    let fields = ["-Y", wrong, "-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message", "-e", "_ws.malformed"];
    let Some(mut wrong) = dissected(file, port, &fields) else { return };
    // tshark reports that it only parses the head of slices. Acknowledgements are made by the kernel.
    wrong.retain(|line| !line.contains("[Not decoded yet]") && !line.contains("D-SACK"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let count = |filter: &str| dissected(file, port, &["-Y", filter]).map_or(0, |lines| lines.len());
    assert!(count("rtsp.response") >= 10 && count("rtsp.request") >= 10);
    assert!(count("h264.nal_unit_hdr == 24") >= 2, "parameter sets");
    assert!(count("h264.nal_unit_hdr == 28 or h264.nal_unit_hdr == 1") > 20, "pictures");
    assert!(count("rtcp.pt == 200 and rtcp.pt == 202") >= 2, "reports");
    assert!(count("rtcp.pt == 203") >= 1, "goodbye");
}

/// Receives the events of a server until there are none, for at most a second.
pub fn events(server: &mut Server) -> Vec<ServerEvent> {
    let mut events = Vec::new();
    while is_readable_within(server, Duration::from_millis(50)) {
        if let Received::Item(event) = server.try_recv().unwrap() {
            events.push(event);
        }
    }
    events
}

#[test]
fn key_frames_that_one_client_causes_are_limited() {
    const ROUNDS: u32 = 200;
    let Some(packets) = frames(1) else { return };
    let mut server = Server::builder(HOST).bind().unwrap();
    let live = server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    let address = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut c = Client::connect(address);
        let (_keeps, rtp) = (UdpSocket::bind(HOST).unwrap(), UdpSocket::bind(HOST).unwrap());
        let port = rtp.local_addr().unwrap().port();
        let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port.wrapping_add(1).max(1));
        let session = format!("Session: {}\r\n", c.setup(&transport).session());
        for _ in 0..ROUNDS {
            assert_eq!(c.ask("PAUSE", "/live", &session).status, 200);
            assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
        }
        c
    });
    let mut wanted = 0;
    while !client.is_finished() {
        if let Received::Item(ServerEvent::KeyFrameWanted(_)) = server.recv(Duration::from_millis(10)).unwrap() {
            server.submit(live, &packets[0]).unwrap();
            wanted += 1;
        }
    }
    assert!((1..ROUNDS / 2).contains(&wanted), "{wanted} key frames for all clients, because one plays and pauses");
    // The client gets its key frame later. The server reports that by itself.
    let _client = client.join().unwrap();
    let late = std::iter::from_fn(|| server.recv(Duration::from_secs(5)).unwrap().item()).next();
    assert!(server.awaits_key(live) && late == Some(ServerEvent::KeyFrameWanted(live)), "{late:?}");
}

#[test]
fn server_reports_clients_and_key_frames_once() {
    let Some(packets) = frames(20) else { return };
    let mut server = Server::builder(HOST).session_timeout(Duration::from_secs(2)).bind().unwrap();
    let live = server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    assert_eq!(idle_wakes(&mut server), 0);
    assert_signal_ends_recv(&mut server);
    let address = server.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    let client = std::thread::spawn(move || {
        let mut c = Client::connect(address);
        let session = format!("Session: {}\r\n", c.setup("RTP/AVP/TCP").session());
        for method in ["PLAY", "PAUSE", "PLAY"] {
            assert_eq!(c.ask(method, "/live", &session).status, 200);
        }
        told.recv().unwrap();
    });
    let mut got: Vec<ServerEvent> = Vec::new();
    while !got.iter().any(|e| matches!(e, ServerEvent::Joined(..))) {
        got.extend(server.recv(Duration::from_secs(5)).unwrap().item());
    }
    got.extend(events(&mut server));
    // A client that pauses and plays again waits again, but joins once.
    let joined = |e: &&ServerEvent| matches!(e, ServerEvent::Joined(id, _) if *id == live);
    let wanted = got.iter().filter(|e| **e == ServerEvent::KeyFrameWanted(live)).count();
    assert!((1..=2).contains(&wanted), "{got:?}");
    assert_eq!((got.iter().filter(joined).count(), got.len()), (1, wanted + 1), "{got:?}");
    assert!(!is_readable(&server) && server.awaits_key(live));
    server.submit(live, &packets[0]).unwrap();
    assert!(events(&mut server).is_empty() && !server.awaits_key(live));
    tell.send(()).unwrap();
    client.join().unwrap();
    assert!(is_readable_within(&server, Duration::from_secs(1)));
    let left = events(&mut server);
    assert!(matches!(left[..], [ServerEvent::Left(id, _)] if id == live), "{left:?}");
    // The deadlines of connections and sessions that have ended cause at most one wake-up.
    assert!(idle_wakes(&mut server) <= 1);

    // The timer alone closes a connection without a request.
    let silent = TcpStream::connect(address).unwrap();
    let start = Instant::now();
    while server.connections() == 0 {
        assert!(is_readable_within(&server, Duration::from_secs(1)));
        server.dispatch().unwrap();
    }
    while server.connections() > 0 {
        assert!(is_readable_within(&server, Duration::from_secs(3)), "the deadline does not make it readable");
        server.dispatch().unwrap();
    }
    assert!(start.elapsed() >= Duration::from_secs(2));
    drop(silent);
}
