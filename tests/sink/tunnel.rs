//! Tests of RTSP through HTTP. `rtsp.rs` has those with ffmpeg and GStreamer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::frame::{Packet, PacketMeta};
use framelease::sink::rtsp::{MountOptions, Server, ServerEvent};
use framelease::Station;

use crate::client::{base64, get, new_cookie, post, Client};
use crate::rtsp::{frames, Node, HOST};
use crate::station::idle_wakes;
use crate::support::*;

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";
/// A receiver's report on the channel after that of its packets.
const REPORT: &[u8] = &[b'$', 1, 0, 8, 0x80, 201, 0, 1, 0, 0, 0, 1];

/// Serves until a condition holds, for at most some seconds. Returns the events.
fn serve(server: &mut Server, mut until: impl FnMut(&Server) -> bool) -> Vec<ServerEvent> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut events = Vec::new();
    while !until(server) {
        assert!(Instant::now() < end, "it does not come");
        events.extend(server.recv(Duration::from_millis(5)).unwrap().item());
    }
    events.extend(std::iter::from_fn(|| server.try_recv().unwrap().item()));
    events
}

fn server() -> Server {
    let mut server = Server::builder(HOST).bind().unwrap();
    server.mount("/live", Codec::H264, MountOptions::default()).unwrap();
    server
}

fn play(c: &mut Client) -> String {
    let session = format!("Session: {}\r\n", c.setup(TCP).session());
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
    session
}

#[test]
fn tunnel_carries_a_session_as_live555_does() {
    let Some(packets) = frames(20) else { return };
    let builder = Server::builder(HOST).session_timeout(Duration::from_secs(1));
    let node = Node::start(builder, MountOptions::default(), packets);
    let mut c = Client::tunnel(node.address);
    assert!(c.ask("OPTIONS", "/live", "").header("Public").contains("PLAY"));
    assert!(c.ask("DESCRIBE", "/live", "").body.contains("sprop-parameter-sets="));
    let session = play(&mut c);
    assert_eq!(c.read_packets(20)[0][12] & 31, 24, "parameter sets first");
    // live555 sends its reports in the half of the server, as they are. Others send them in their own.
    for through_get in [true, false] {
        for byte in REPORT.repeat(14) {
            match through_get {
                true => c.stream.write_all(&[byte]).unwrap(),
                false => c.send(&[byte]),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        c.packets.clear();
        c.read_packets(20);
    }
    assert_eq!(c.ask("TEARDOWN", "/live", &session).status, 200);
    drop(c);
    let (stats, clients) = node.stop();
    assert!(stats.malformed == 0 && stats.expired == 0 && clients.is_empty(), "{stats:?} {clients:?}");
}

#[test]
fn tunnel_takes_requests_in_pieces_of_any_size() {
    let mut server = server();
    let mut c = Client::connect(server.local_addr().unwrap());
    let cookie = new_cookie();
    c.stream.write_all(get(&cookie).as_bytes()).unwrap();
    serve(&mut server, |server| server.connections() == 1);
    let mut requests = 0;
    for len in [1, 2, 3, 5, 7, 64, 5000] {
        let request = |text: &str| base64(text.as_bytes());
        let padded = ["OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", "OPTIONS * RTSP/1.0\r\nCSeq: 22\r\n\r\n"].map(request);
        let together = request(&"OPTIONS * RTSP/1.0\r\nCSeq: 333\r\n\r\n".repeat(2));
        let lines = together.as_bytes().chunks(20).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
        let all = format!("{}{}{}\r\n{}", post(&cookie), padded[0], padded[1], lines.join("\r\n"));
        let mut post = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        post.set_nodelay(true).unwrap();
        for piece in all.as_bytes().chunks(len) {
            post.write_all(piece).unwrap();
            // On this host the bytes have come when the call returns.
            while server.try_recv().unwrap().item().is_some() {}
        }
        requests += 4;
        serve(&mut server, |server| server.stats().requests == requests);
        c.post = Some(post);
    }
    assert_eq!(c.response().unwrap().head.split("\r\n").next(), Some("HTTP/1.0 200 OK"));
    let cseq = |c: &mut Client| c.response().unwrap().header("CSeq").to_owned();
    for i in 0..requests {
        assert_eq!(cseq(&mut c), ["1", "22", "333", "333"][i as usize % 4]);
    }
    assert_eq!(server.stats().malformed, 0);
}

#[test]
fn tunnel_goes_on_in_another_post() {
    let Some(packets) = frames(20) else { return };
    let node = Node::plain(packets);
    let cookie = new_cookie();
    let mut c = node.client().into_tunnel(&cookie);
    let session = format!("Session: {}\r\n", c.setup(TCP).session());
    // After the end of the one before, which also sent half a request.
    c.send(b"OPTIONS * RTSP/1.0\r\nCS");
    c.post = None;
    std::thread::sleep(Duration::from_millis(100));
    c.open_post(&cookie);
    assert_eq!(c.ask("PLAY", "/live", &session).status, 200);
    c.read_packets(10);
    // While the one before is open: the server closes that.
    let mut before = c.post.take().unwrap();
    c.open_post(&cookie);
    assert_eq!(c.ask("GET_PARAMETER", "/live", &session).status, 200);
    assert_eq!(before.read_to_end(&mut Vec::new()).unwrap(), 0, "a POST gets no response");
    // A body longer than its stated length.
    let padding = format!("{session}X: {}\r\n", "x".repeat(4000));
    for _ in 0..10 {
        assert_eq!(c.ask("GET_PARAMETER", "/live", &padding).status, 200);
    }
    c.read_packets(10);
    drop(before);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(c.ask("TEARDOWN", "/live", &session).status, 200);
    assert_eq!(node.stop().0.malformed, 0);
}

#[test]
fn tunnel_ends_with_its_get() {
    let mut server = server();
    let address = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut c = Client::tunnel(address);
        play(&mut c);
        c
    });
    serve(&mut server, |_| client.is_finished());
    let mut c = client.join().unwrap();
    assert_eq!((server.connections(), server.clients().count()), (2, 1));
    c.stream.shutdown(Shutdown::Both).unwrap();
    let events = serve(&mut server, |server| server.connections() == 0);
    assert!(events.iter().any(|event| matches!(event, ServerEvent::Left(..))), "{events:?}");
    assert_eq!(server.clients().count(), 0);
    assert_eq!(c.post.take().unwrap().read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn tunnel_without_a_post_ends_after_the_session_timeout() {
    let builder = Server::builder(HOST).session_timeout(Duration::from_secs(1));
    let builder = builder.request_timeout(Duration::from_millis(300));
    let node = Node::start(builder, MountOptions::default(), Vec::new());
    let mut never = node.client();
    // In two pieces, so that the request has a deadline.
    never.stream.write_all(b"GET /live HTTP/1.0\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(never.raw(get(&new_cookie()).split_once('\n').unwrap().1.as_bytes()).unwrap().status, 200);
    let mut lost = Client::tunnel(node.address);
    play(&mut lost);
    lost.post = None;
    for c in [&mut never, &mut lost] {
        assert!(c.response().is_none(), "it is closed");
    }
    let server = node.server();
    assert_eq!((server.connections(), server.clients().count(), server.stats().expired), (0, 0, 1));
}

#[test]
fn tunnel_waits_without_a_wakeup() {
    let mut server = server();
    let address = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut c = Client::tunnel(address);
        c.setup(TCP);
        (c, Client::tunnel(address))
    });
    serve(&mut server, |server| client.is_finished() && server.connections() == 4);
    let _clients = client.join().unwrap();
    assert_eq!(idle_wakes(&mut server), 0);
}

#[test]
fn tunnel_halves_count_as_connections() {
    let builder = Server::builder(HOST).max_connections(2);
    let node = Node::start(builder, MountOptions::default(), Vec::new());
    let mut c = Client::tunnel(node.address);
    assert_eq!(c.ask("OPTIONS", "/live", "").status, 200);
    assert_eq!(node.client().response().unwrap().status, 503);
    drop(c);
    std::thread::sleep(Duration::from_millis(100));
    let mut pending: Vec<Client> = (0..2).map(|_| node.client()).collect();
    for c in &mut pending {
        assert_eq!(c.raw(get(&new_cookie()).as_bytes()).unwrap().status, 200);
    }
    assert_eq!(node.client().response().unwrap().status, 503);
    assert_eq!(node.stop().0.refused, 2);
}

#[test]
fn tunnel_needs_the_address_and_the_exact_cookie_of_its_get() {
    let node = Node::plain(Vec::new());
    let mut c = node.client();
    assert_eq!(c.raw(get("Cookie of this client").as_bytes()).unwrap().status, 200);
    for cookie in ["cookie of this client", "Cookie of this", "Cookie of this client 2"] {
        assert_eq!(node.client().raw(post(cookie).as_bytes()).unwrap().status, 404, "{cookie}");
    }
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), node.address);
    assert_eq!(other.raw(post("Cookie of this client").as_bytes()).unwrap().status, 404, "another address");
    // Which may have a tunnel with the same cookie.
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), node.address);
    assert_eq!(other.raw(get("Cookie of this client").as_bytes()).unwrap().status, 200);
    c.open_post("Cookie of this client");
    assert_eq!(c.ask("OPTIONS", "/live", "").status, 200);
    node.stop();
}

/// A client at another address of this host.
fn connect_from(ip: Ipv4Addr, to: SocketAddr) -> Client {
    use nix::sys::socket::{bind, connect, socket, AddressFamily, SockFlag, SockType, SockaddrStorage};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((ip, 0)))).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    Client::of(stream, to)
}

#[test]
fn http_request_that_opens_no_tunnel_gets_an_http_error() {
    let builder = Server::builder(HOST).request_timeout(Duration::from_millis(300));
    let node = Node::start(builder, MountOptions::default(), Vec::new());
    let cookie = new_cookie();
    let mut c = node.client().into_tunnel(&cookie);
    let unknown = new_cookie();
    let long = "x".repeat(129);
    let huge = "x".repeat(9000);
    let cases = [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 404),
        ("GET /live HTTP/1.1\r\nAccept: */*\r\n\r\n".to_owned(), 404),
        ("GET /live HTTP/1.1\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n".to_owned(), 404),
        ("POST /live HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc".to_owned(), 404),
        (post(&unknown), 404),
        (get(&cookie), 400),
        (get(""), 400),
        (get(&long), 400),
        (post(&long), 400),
        (get(&huge), 413),
        ("OPTIONS /live HTTP/1.1\r\nOrigin: http://x\r\n\r\n".to_owned(), 405),
        (format!("PUT /live HTTP/1.1\r\nx-sessioncookie: {unknown}\r\n\r\n"), 405),
        ("GET /live HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
        ("GET /live HTTP/3.0\r\n\r\n".to_owned(), 400),
        // Not complete.
        ("GET /live HTTP/1.1\r\nHost: x\r\n".to_owned(), 408),
    ];
    for (request, status) in &cases {
        let mut c = node.client();
        let response = c.raw(request.as_bytes()).unwrap_or_else(|| panic!("no response to {request}"));
        assert!(response.head.starts_with(&format!("HTTP/1.0 {status} ")), "{response:?} to {request}");
        assert_eq!((response.header("Content-Length"), response.header("Connection")), ("0", "close"), "{request}");
        assert_eq!(response.header("Allow"), if *status == 405 { "GET, POST" } else { "" });
        assert!(c.response().is_none(), "closed after {request}");
    }
    // A connection of RTSP does not become a tunnel.
    let mut rtsp = node.client();
    assert_eq!(rtsp.ask("OPTIONS", "/live", "").status, 200);
    assert_eq!(rtsp.raw(get(&unknown).as_bytes()).unwrap().status, 400);
    assert_eq!(c.ask("OPTIONS", "/live", "").status, 200, "the tunnel is as before");
    assert_eq!(node.stop().0.malformed, cases.len() as u64 + 1);
}

#[test]
fn tunnel_with_anything_malformed_ends() {
    let builder = Server::builder(HOST).request_timeout(Duration::from_millis(300));
    let node = Node::start(builder, MountOptions::default(), Vec::new());
    let plain = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    let big = format!("OPTIONS * RTSP/1.0\r\nX: {}", "x".repeat(9000));
    let encoded = |text: &str| base64(text.as_bytes());
    // In the client's half, or in the server's.
    for (bytes, in_post, status) in [
        (plain.to_owned(), true, 400),
        ("=".to_owned(), true, 400),
        ("T1BU=SU9".to_owned(), true, 400),
        (encoded("nonsense\r\n\r\n"), true, 400),
        (encoded(&get(&new_cookie())), true, 400),
        (encoded(&big), true, 413),
        (encoded("OPTIONS * RTSP/1.0\r\nCSe"), true, 408),
        (plain.to_owned(), false, 400),
        (get(&new_cookie()), false, 400),
        ("\0".to_owned(), false, 400),
    ] {
        let mut c = Client::tunnel(node.address);
        assert_eq!(c.ask("OPTIONS", "/live", "").status, 200);
        let half = if in_post { c.post.as_ref().unwrap() } else { &c.stream };
        let mut half = half.try_clone().unwrap();
        half.write_all(bytes.as_bytes()).unwrap();
        assert_eq!(c.response().expect("a response").status, status, "{bytes}");
        // It counts once, also if more comes.
        let _ = half.write_all(bytes.as_bytes());
        assert!(c.response().is_none(), "closed");
        // What the client sent before it knew may be unread, so that its half ends with an error.
        drop(half);
        let rest = c.post.take().unwrap().read_to_end(&mut Vec::new());
        assert!(rest.as_ref().map_or(true, |len| *len == 0), "{rest:?}");
    }
    let server = node.server();
    assert_eq!((server.connections(), server.stats().malformed), (0, 10));
}

#[test]
fn tunnel_asks_for_the_password_and_hides_paths_without_it() {
    let node = Node::start(Server::builder(HOST).user("eve", "s3cret"), MountOptions::default(), Vec::new());
    for path in ["/live", "/other", "/"] {
        let mut c = node.client();
        let request = get(&new_cookie()).replace("/live", path);
        assert_eq!(c.raw(request.as_bytes()).unwrap().status, 200, "{path}");
    }
    let mut c = Client::tunnel(node.address);
    let wrong = "Authorization: Basic Ym9iOm90aGVy\r\n";
    assert_eq!(c.ask("DESCRIBE", "/live", "").status, 401);
    assert_eq!(c.ask("DESCRIBE", "/other", "").status, 401);
    for _ in 0..5 {
        assert_eq!(c.ask("DESCRIBE", "/live", wrong).status, 401);
    }
    assert!(c.response().is_none(), "wrong passwords end it");
    assert_eq!(node.stop().0.unauthorized, 7);
}

#[test]
fn describe_in_a_tunnel_waits_although_its_post_has_ended() {
    let mut server = server();
    let live = server.mount("/later", Codec::H264, MountOptions::default()).unwrap();
    let address = server.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut c = Client::tunnel(address);
        c.say("DESCRIBE", "/later", "");
        c.post = None;
        c
    });
    serve(&mut server, |server| client.is_finished() && server.connections() == 1);
    let mut c = client.join().unwrap();
    let bytes = [0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88];
    let meta = PacketMeta::new(Codec::H264, SIZE, 0, 0);
    server.submit(live, &Packet::new(meta, bytes, None)).unwrap();
    assert!(c.response().unwrap().body.contains("sprop-parameter-sets=Z0LAHg==,aM4="));
}
