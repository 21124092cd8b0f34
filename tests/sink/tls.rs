//! Tests of RTSPS: with rustls as the client, with openssl, ffmpeg and GStreamer. `tls/make` makes the certificates.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::frame::Packet;
use framelease::sink::rtp::SenderOptions;
use framelease::sink::rtsp::{Identity, MountOptions, Server, ServerBuilder};
use framelease::{ErrorKind, Station};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConnection, StreamOwned};

use crate::client::Client;
use crate::rtsp::{ffmpeg, frames, gstreamer, sums, Node, HOST};
use crate::station::{idle_wakes, is_readable_within};
use crate::support::*;
use crate::tls_relay::{relay, tls_to, TLS12, TLS13};

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";
const OPTIONS: &str = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";

fn file(name: &str) -> String {
    format!("{}/tests/sink/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn identity(name: &str) -> Identity {
    Identity::from_files(file(&format!("{name}.pem")), file(&format!("{name}-key.pem"))).unwrap()
}

fn secure() -> ServerBuilder {
    Server::builder(HOST).tls(identity("p256"))
}

fn start(packets: Vec<Packet>) -> Node {
    Node::start(secure(), MountOptions::default(), packets)
}

fn connect(address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    StreamOwned::new(tls_to(&TLS13), stream)
}

#[test]
fn tls_carries_a_session_in_both_versions() {
    let Some(packets) = frames(20) else { return };
    for version in [&TLS12, &TLS13] {
        for is_tunnel in [false, true] {
            let node = start(packets.clone());
            let address = relay(node.address, version);
            let mut c = if is_tunnel { Client::tunnel(address) } else { Client::connect(address) };
            assert!(c.ask("OPTIONS", "/live", "").header("Public").contains("PLAY"));
            let base = c.ask("DESCRIBE", "/live", "").header("Content-Base").to_owned();
            assert!(base.ends_with("/live/"), "{base}");
            let session = format!("Session: {}\r\n", c.setup(TCP).session());
            assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
            c.read_packets(200);
            assert_eq!(c.ask("TEARDOWN", "/live", &session).status, 200);
            drop(c);
            std::thread::sleep(Duration::from_millis(50));
            let (stats, clients) = node.stop();
            assert!(stats.malformed == 0 && clients.is_empty(), "{stats:?} {clients:?}");
            assert_eq!(stats.connections, 1 + u64::from(is_tunnel));
        }
    }
}

#[test]
fn tls_never_sends_packets_beside_the_connection() {
    let node = start(Vec::new());
    let mut c = Client::connect(relay(node.address, &TLS13));
    for transport in ["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;multicast", "RTP/SAVP;unicast;client_port=1-2"]
    {
        assert_eq!(c.setup(transport).status, 461, "{transport}");
    }
    let both = c.setup(&format!("RTP/AVP;unicast;client_port=5000-5001,{TCP}"));
    assert!(both.status == 200 && both.header("Transport").contains("interleaved=0-1"), "{both:?}");
    let mut server = node.server();
    let group = MountOptions::default().group((std::net::Ipv4Addr::new(239, 1, 1, 1), 5000).into());
    let e = server.mount("/group", Codec::H264, group).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("not be encrypted"), "{e}");
}

/// A stream of key frames of this many bytes, with a pattern.
fn large(bytes: usize) -> Vec<Packet> {
    let Some(small) = frames(1) else { return Vec::new() };
    let sets = small[0].parameter_sets().cloned();
    let picture = |i: u8| {
        let body = (0..bytes).map(|at| (at % 250) as u8 + 1).collect::<Vec<_>>();
        Packet::new(*small[0].meta(), [&[0, 0, 1, 0x65, i | 0x80][..], &body].concat(), sets.clone())
    };
    (0..4).map(picture).collect()
}

#[test]
fn tls_sends_large_frames_whole_and_drops_those_of_a_client_that_stops() {
    let packets = large(300_000);
    if packets.is_empty() {
        return;
    }
    let node = start(packets);
    let address = relay(node.address, &TLS13);
    let play = || {
        let mut c = Client::connect(address);
        let session = format!("Session: {}\r\n", c.setup(TCP).session());
        assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
        c
    };
    let (mut stopped, mut reader) = (play(), play());
    // Packets that were not cut: their numbers follow one another, and each payload continues the pattern.
    let check = |packets: &[Vec<u8>]| {
        let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
        for pair in packets.windows(2) {
            assert_eq!(number(&pair[1]), number(&pair[0]).wrapping_add(1));
        }
        let fragments = packets.iter().filter(|packet| packet[12] & 31 == 28 && packet[13] == 5);
        for packet in fragments {
            assert!(packet[14..].windows(2).all(|pair| pair[1] == pair[0] % 250 + 1), "{:?}", &packet[..40]);
        }
    };
    check(&reader.read_packets(2000));
    // The other one has read nothing, and is now behind.
    std::thread::sleep(Duration::from_millis(1500));
    check(&reader.read_packets(500));
    stopped.read_packets(2000);
    let (stats, clients) = node.stop();
    let dropped: Vec<u64> = clients.iter().map(|c| c.sent.dropped).collect();
    assert!(clients.len() == 2 && dropped.iter().any(|&n| n > 0), "{dropped:?}");
    assert_eq!(stats.malformed, 0);
}

#[test]
fn tls_answers_all_requests_of_a_record() {
    let node = start(Vec::new());
    let mut stream = connect(node.address);
    // Three reads of the server's, and no event of the socket between them.
    let count = 10_000 / OPTIONS.len();
    stream.write_all(OPTIONS.repeat(count).as_bytes()).unwrap();
    stream.flush().unwrap();
    let mut all = Vec::new();
    let mut some = [0; 4096];
    while all.windows(4).filter(|end| end == b"\r\n\r\n").count() < count {
        let n = stream.read(&mut some).unwrap();
        all.extend_from_slice(&some[..n]);
    }
    drop(stream);
    assert_eq!(node.stop().0.requests, count as u64);
}

#[test]
fn tls_clients_that_stall_or_send_anything_else_are_disconnected() {
    let timeout = Duration::from_millis(500);
    let node = Node::start(secure().request_timeout(timeout), MountOptions::default(), Vec::new());
    let hello = {
        let mut bytes = Vec::new();
        tls_to(&TLS13).write_tls(&mut bytes).unwrap();
        bytes
    };
    let ends_after = |bytes: &[u8]| {
        // Before the server's clock begins.
        let start = Instant::now();
        let mut stream = TcpStream::connect(node.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        // The alert, or a part of the handshake.
        if let Err(e) = stream.read_to_end(&mut Vec::new()) {
            assert_eq!(e.kind(), IoKind::ConnectionReset, "{e}");
        }
        start.elapsed()
    };
    // It says nothing, sends half a message, and a whole one that it does not go on with. Each ends by its time, not at
    // once and not after the minute of an idle client.
    for bytes in [&[][..], &hello[..hello.len() / 2], &hello] {
        let after = ends_after(bytes);
        assert!(after >= timeout && after < Duration::from_secs(8), "{} bytes: {after:?}", bytes.len());
    }
    assert_eq!(node.client().response().map(|r| r.status), None);
    for bytes in [OPTIONS.as_bytes(), b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff, 1], &[0; 64]] {
        assert!(ends_after(bytes) < Duration::from_secs(8));
    }
    // Every byte of a client's first message, changed.
    for at in 0..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 0x55;
        let mut stream = TcpStream::connect(node.address).unwrap();
        stream.write_all(&changed).unwrap();
        if at % 40 == 39 {
            std::thread::sleep(timeout * 3);
        }
    }
    // A proper client comes in afterwards. It may be silent as long as any client, also before its first request.
    std::thread::sleep(timeout * 4);
    let mut stream = connect(node.address);
    stream.conn.complete_io(&mut stream.sock).unwrap();
    for _ in 0..2 {
        std::thread::sleep(timeout * 2);
        stream.write_all(OPTIONS.as_bytes()).unwrap();
        let mut some = [0; 4096];
        let n = stream.read(&mut some).unwrap();
        assert!(some[..n].starts_with(b"RTSP/1.0 200 OK"));
    }
    node.stop();
}

/// Runs a server as an event loop does. Returns how often it was woken.
fn wakes_within(server: &mut Server, time: Duration) -> usize {
    let (end, mut wakes) = (Instant::now() + time, 0);
    while is_readable_within(server, end.saturating_duration_since(Instant::now())) {
        wakes += 1;
        while server.try_recv().unwrap().item().is_some() {}
    }
    wakes
}

#[test]
fn tls_handshake_that_stalls_costs_some_wakeups() {
    let mut server = secure().request_timeout(Duration::from_millis(200)).bind().unwrap();
    let mut clients = Vec::new();
    for bytes in [&[][..], &[0x16], b"OPTIONS"] {
        let mut stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        stream.write_all(bytes).unwrap();
        clients.push(stream);
    }
    let wakes = wakes_within(&mut server, Duration::from_millis(1500));
    assert!(wakes < 20, "{wakes}");
    let stats = server.stats();
    assert_eq!((stats.connections, stats.failed_handshakes, server.connections()), (3, 3, 0), "{stats:?}");
    drop(clients);
    assert_eq!(wakes_within(&mut server, Duration::from_millis(100)), 0);
}

#[test]
fn tls_handshakes_have_a_rate() {
    let mut server = secure().max_connections(1000).bind().unwrap();
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(server.local_addr().unwrap()).unwrap()).collect();
    let start = Instant::now();
    wakes_within(&mut server, Duration::from_millis(500));
    let (admitted, seconds) = (server.stats().connections, start.elapsed().as_secs_f64());
    assert!(admitted >= 32 && admitted as f64 <= 33.0 + 20.0 * seconds, "{admitted} within {seconds} s");
    // Those that wait are not lost.
    while server.stats().connections < 100 {
        assert!(start.elapsed() < Duration::from_secs(20));
        wakes_within(&mut server, Duration::from_millis(100));
    }
    drop(clients);
}

#[test]
fn tls_server_that_is_full_counts_clients_that_it_refuses() {
    let mut server = secure().max_connections(1).bind().unwrap();
    let clients = [(); 2].map(|()| TcpStream::connect(server.local_addr().unwrap()).unwrap());
    wakes_within(&mut server, Duration::from_millis(50));
    assert_eq!((server.stats().connections, server.stats().refused), (1, 1));
    let [_first, mut second] = clients;
    second.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(second.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn tls_ignores_what_comes_after_the_end() {
    for version in [&TLS12, &TLS13] {
        let mut server = secure().bind().unwrap();
        let address = server.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = StreamOwned::new(tls_to(version), TcpStream::connect(address).unwrap());
            stream.write_all(b"\x00\x00\r\n\r\n").unwrap();
            let mut some = [0; 4096];
            let n = stream.read(&mut some).unwrap();
            assert!(some[..n].starts_with(b"RTSP/1.0 400"));
            // A record that cannot be decrypted, in a connection that lingers.
            let _ = stream.sock.write_all(&[&[0x17, 3, 3, 0, 32][..], &[7; 32]].concat());
            std::thread::sleep(Duration::from_millis(100));
        });
        assert!(wakes_within(&mut server, Duration::from_millis(500)) < 20);
        client.join().unwrap();
        assert_eq!(server.connections(), 0);
    }
}

#[test]
fn tls_client_that_ends_with_its_request_is_gone_at_once() {
    let mut server = secure().bind().unwrap();
    let address = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = connect(address);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.writer().write_all(OPTIONS.as_bytes()).unwrap();
        stream.conn.send_close_notify();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).unwrap();
        }
        // Its half of the connection stays open.
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    wakes_within(&mut server, Duration::from_millis(500));
    assert_eq!((server.stats().requests, server.connections()), (1, 0));
    assert!(client.join().unwrap().starts_with(b"RTSP/1.0 200 OK"));
}

#[test]
fn tls_ends_with_a_notice_and_waits_without_a_wakeup() {
    let mut server = secure().bind().unwrap();
    let address = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = connect(address);
        stream.write_all(OPTIONS.as_bytes()).unwrap();
        let mut all = Vec::new();
        // Without the notice, this would be an error: an attacker could cut a stream.
        stream.read_to_end(&mut all).unwrap();
        all
    });
    while server.stats().requests == 0 {
        let _ = server.recv(Duration::from_millis(10)).unwrap();
    }
    assert_eq!(idle_wakes(&mut server), 0);
    drop(server);
    assert!(client.join().unwrap().starts_with(b"RTSP/1.0 200 OK"));
}

#[test]
fn tls_identity_is_changed_for_new_clients() {
    let mut server = secure().bind().unwrap();
    let address = server.local_addr().unwrap();
    let certificate = |stream: &StreamOwned<ClientConnection, TcpStream>| {
        stream.conn.peer_certificates().map(|chain| chain[0].clone().into_owned())
    };
    let ask = |server: &mut Server, stream: &mut StreamOwned<ClientConnection, TcpStream>| {
        let before = server.stats().requests;
        stream.sock.set_nonblocking(true).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        let mut is_sent = false;
        while server.stats().requests == before {
            assert!(Instant::now() < end, "no answer");
            is_sent = is_sent || stream.write_all(OPTIONS.as_bytes()).is_ok();
            let _ = stream.conn.complete_io(&mut stream.sock);
            let _ = server.recv(Duration::from_millis(1)).unwrap();
        }
        certificate(stream).unwrap()
    };
    let mut first = connect(address);
    let p256 = ask(&mut server, &mut first);
    server.set_identity(identity("rsa")).unwrap();
    let e = Server::builder(HOST).bind().unwrap().set_identity(identity("rsa")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::State, "{e}");
    let mut second = connect(address);
    let rsa = ask(&mut server, &mut second);
    assert_eq!(p256, CertificateDer::from_pem_slice(&pem("p256.pem")).unwrap());
    assert_eq!(rsa, CertificateDer::from_pem_slice(&pem("rsa.pem")).unwrap());
    assert_eq!(ask(&mut server, &mut first), p256, "the first client's connection goes on");
}

#[test]
fn tls_identity_says_what_is_wrong() {
    let (certificate, key) = (pem("p256.pem"), pem("p256-key.pem"));
    for (certificate, key, text) in [
        (&[][..], &key[..], "no section BEGIN CERTIFICATE"),
        (&key, &key, "no section BEGIN CERTIFICATE"),
        (&certificate, &certificate, "the key"),
        (&certificate, &pem("encrypted-key.pem"), "without a passphrase"),
        (&certificate, &pem("rsa-key.pem"), "not that of the first certificate"),
        (&certificate[..certificate.len() / 2], &key, "the certificates"),
    ] {
        let e = Identity::from_pem(certificate, key).unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains(text), "{text}: {e}");
    }
    let e = Identity::from_files(file("none.pem"), file("p256-key.pem")).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.to_string().contains("none.pem"), "{e}");
    let e = Identity::from_files(file("p256.pem"), file("rsa-key.pem")).unwrap_err();
    assert!(e.to_string().contains("p256.pem and "), "{e}");
    // One file with both.
    Identity::from_pem(&[&certificate[..], &key].concat(), &[&certificate[..], &key].concat()).unwrap();
}

#[test]
fn tls_is_accepted_by_openssl() {
    for name in ["p256", "rsa"] {
        for version in ["-tls1_2", "-tls1_3"] {
            let builder = Server::builder(HOST).tls(identity(name));
            let node = Node::start(builder, MountOptions::default(), Vec::new());
            let child = Command::new("openssl")
                .args(["s_client", "-connect", &node.address.to_string(), "-CAfile", &file("authority.pem")])
                .args(["-verify_return_error", "-verify_ip", "127.0.0.1", version, "-ign_eof"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            let Ok(mut child) = child else {
                let _ = writeln!(std::io::stderr(), "SKIPPED openssl: not found");
                return;
            };
            // The server closes the connection after the second one.
            let requests = format!("{OPTIONS}\x00\x00\r\n\r\n");
            child.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
            let out = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&out.stdout);
            for part in ["Verify return code: 0 (ok)", "RTSP/1.0 200 OK", "RTSP/1.0 400 Bad Request"] {
                assert!(said.contains(part), "{name} {version}: {part} in {said}");
            }
            node.stop();
        }
    }
}

#[test]
fn tls_is_decoded_by_ffmpeg_and_gstreamer() {
    let Some(bytes) = stream(Codec::H264, 40, SIZE) else { return };
    let Some(expected) = frame_sums("-", Some("h264"), &bytes) else { return };
    let options = MountOptions::default().rtp(SenderOptions::default());
    let node = Node::start(secure().user("eve", "s3cret"), options, packets(Codec::H264, &bytes, SIZE));
    let url = format!("rtsps://eve:s3cret@{}/live", node.address);
    let Some(child) = ffmpeg(&url, "tcp", 60) else { return };
    let by_ffmpeg = sums(child);
    assert!(run(&by_ffmpeg, &expected) >= 25, "{} of {}", run(&by_ffmpeg, &expected), by_ffmpeg.len());
    let folder = Folder::new("gst-tls");
    // With its default order of transports, which begins with UDP, and through HTTP.
    for (scheme, protocols) in [("rtsps", "tcp+udp-mcast+udp"), ("rtspsh", "tcp")] {
        let url = url.replace("rtsps", scheme);
        let file = folder.path(scheme);
        let more = format!("protocols={protocols} tls-validation-flags=0");
        let Some(sums) = gstreamer(&url, &more, &file) else { return };
        assert!(run(&sums, &expected) >= 25, "{scheme}: {} of {}", run(&sums, &expected), sums.len());
    }
    assert_eq!(node.stop().0.malformed, 0);
}
