//! A small RTSP client that sends any request, also invalid ones, and also through HTTP.
#![allow(dead_code)] // Not all of it is used by every test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A client that may send invalid requests.
pub struct Client {
    pub stream: TcpStream,
    /// What it sends, in Base64, if it sends through HTTP.
    pub post: Option<TcpStream>,
    address: SocketAddr,
    cseq: u32,
    /// Packets that came between responses: channel, bytes.
    pub packets: Vec<(u8, Vec<u8>)>,
    kept: Vec<u8>,
}

/// A response: status, headers and body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{}:", name.to_lowercase())));
        line.map_or("", |l| l.split_once(':').unwrap().1.trim())
    }

    pub fn session(&self) -> String {
        self.header("Session").split(';').next().unwrap().to_owned()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self::of(stream, address))
    }

    pub fn of(stream: TcpStream, address: SocketAddr) -> Self {
        Self { stream, post: None, address, cseq: 0, packets: Vec::new(), kept: Vec::new() }
    }

    /// Opens an HTTP tunnel with the requests that live555 sends.
    pub fn tunnel(address: SocketAddr) -> Self {
        Self::connect(address).into_tunnel(&new_cookie())
    }

    /// Makes a new connection the server's half of a tunnel, and opens the other half.
    pub fn into_tunnel(self, cookie: &str) -> Self {
        self.try_into_tunnel(cookie).expect("a tunnel")
    }

    pub fn try_into_tunnel(mut self, cookie: &str) -> Option<Self> {
        let opened = self.raw(get(cookie).as_bytes())?;
        assert_eq!((opened.status, opened.header("Content-Type")), (200, "application/x-rtsp-tunnelled"), "{opened:?}");
        assert!(opened.head.starts_with("HTTP/1.0 ") && opened.header("Content-Length").is_empty(), "{opened:?}");
        self.try_open_post(cookie).ok()?;
        Some(self)
    }

    /// Sends another POST, whose body continues the requests.
    pub fn open_post(&mut self, cookie: &str) {
        self.try_open_post(cookie).unwrap();
    }

    fn try_open_post(&mut self, cookie: &str) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(post(cookie).as_bytes())?;
        self.post = Some(stream);
        Ok(())
    }

    /// Sends bytes as they are, or in Base64 through the tunnel.
    pub fn send(&mut self, bytes: &[u8]) {
        // The connection may be closed already.
        let _ = match &mut self.post {
            Some(post) => post.write_all(base64(bytes).as_bytes()),
            None => self.stream.write_all(bytes),
        };
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Option<Response> {
        self.send(bytes);
        self.response()
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &str) -> Response {
        self.say(method, path, headers);
        let response = self.response().expect("a response");
        assert_eq!(response.header("CSeq"), self.cseq.to_string());
        response
    }

    /// Sends a request, and does not wait for the response.
    pub fn say(&mut self, method: &str, path: &str, headers: &str) {
        self.cseq += 1;
        let text = format!("{method} rtsp://{}{path} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n", self.address, self.cseq);
        self.send(text.as_bytes());
    }

    pub fn setup(&mut self, transport: &str) -> Response {
        self.ask("SETUP", "/live/video", &format!("Transport: {transport}\r\n"))
    }

    /// Returns the next response, or `None` if the server closed the connection.
    pub fn response(&mut self) -> Option<Response> {
        loop {
            if let Some(response) = self.received() {
                return Some(response);
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Takes the first response out of the bytes that were read, and the packets before it.
    fn received(&mut self) -> Option<Response> {
        while self.kept.first() == Some(&b'$') && self.kept.len() >= 4 {
            let len = 4 + usize::from(u16::from_be_bytes([self.kept[2], self.kept[3]]));
            if self.kept.len() < len {
                return None;
            }
            self.packets.push((self.kept[1], self.kept[4..len].to_vec()));
            self.kept.drain(..len);
        }
        if self.kept.first() == Some(&b'$') {
            return None;
        }
        let end = memchr::memmem::find(&self.kept, b"\r\n\r\n")?;
        let head = String::from_utf8(self.kept[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: String::new() };
        let all = end + 4 + response.header("Content-Length").parse::<usize>().unwrap_or(0);
        response.body = String::from_utf8(self.kept.get(end + 4..all)?.to_vec()).unwrap();
        self.kept.drain(..all);
        Some(response)
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(n) if n > 0 => {
                self.kept.extend_from_slice(&bytes[..n]);
                true
            }
            _ => false,
        }
    }

    /// Reads packets until there are `count` of a channel.
    pub fn read_packets(&mut self, count: usize) -> Vec<Vec<u8>> {
        let packets = self.try_read_packets(count);
        packets.unwrap_or_else(|| panic!("{} packets, then no more", self.packets.len()))
    }

    /// The same, but returns `None` if no more packets come.
    pub fn try_read_packets(&mut self, count: usize) -> Option<Vec<Vec<u8>>> {
        while self.packets.iter().filter(|(c, _)| c % 2 == 0).count() < count {
            if !self.more() {
                return None;
            }
            self.received();
        }
        Some(self.packets.drain(..).filter(|(c, _)| c % 2 == 0).map(|(_, p)| p).collect())
    }
}

/// Returns a cookie that no other tunnel of this program has.
pub fn new_cookie() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{:023x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Returns the request that opens a tunnel.
pub fn get(cookie: &str) -> String {
    format!(
        "GET /live HTTP/1.0\r\nCSeq: 1\r\nUser-Agent: x\r\nHost: 127.0.0.1\r\nx-sessioncookie: {cookie}\r\n\
         Accept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\r\n"
    )
}

/// Returns the request whose body carries requests through a tunnel.
pub fn post(cookie: &str) -> String {
    format!(
        "POST /live HTTP/1.0\r\nCSeq: 1\r\nUser-Agent: x\r\nHost: 127.0.0.1\r\nx-sessioncookie: {cookie}\r\n\
         Content-Type: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
         Content-Length: 32767\r\nExpires: Sun, 9 Jan 1972 00:00:00 GMT\r\n\r\n"
    )
}

pub fn base64(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let word = group.iter().fold(0, |word, &b| word << 8 | usize::from(b)) << (8 * (3 - group.len()));
        let letter = |i: usize| char::from(if i <= group.len() { letters[word >> (18 - 6 * i) & 63] } else { b'=' });
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
