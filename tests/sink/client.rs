//! A small RTSP client that sends any request, also invalid ones.
#![allow(dead_code)] // Not all of it is used by every test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A client that may send invalid requests.
pub struct Client {
    pub stream: TcpStream,
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
        Self { stream, address, cseq: 0, packets: Vec::new(), kept: Vec::new() }
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Option<Response> {
        // The connection may be closed already.
        let _ = self.stream.write_all(bytes);
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
        // The connection may be closed already.
        let _ = self.stream.write_all(text.as_bytes());
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
