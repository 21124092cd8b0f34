//! RTSP through HTTP: two connections of a client that carry one RTSP connection.
//!
//! Apple's dispatch 28 of QuickTime describes it. The client sends a GET, whose endless response carries what the
//! server sends. Then it sends a POST with the same cookie, whose endless body carries what the client sends, in
//! Base64. The POST gets no response.

use super::connection::{Connection, Role};
use super::message::{parse, Parsed, Request, Response, Status};
use super::server::Server;
use crate::sink::base64::Decoder;

/// The longest cookie. Those of known clients have up to 32 bytes.
const MOST_COOKIE: usize = 128;

impl Server {
    /// Answers a request of HTTP. Its connection becomes one half of a tunnel, or is closed.
    pub(super) fn answer_http(&mut self, place: usize, request: &Request<'_>, rest: &[u8]) {
        let opened = match (request.method, cookie(request)) {
            ("GET", Ok(cookie)) => self.open_get(place, cookie),
            ("POST", Ok(cookie)) => self.open_post(place, cookie),
            ("GET" | "POST", Err(status)) => Err(status),
            _ => Err(Status::MethodNotAllowed),
        };
        match opened {
            Ok(()) => self.take(place, rest),
            Err(status) => {
                let mut response = Response::http(status).header("Content-Length", "0");
                if status == Status::MethodNotAllowed {
                    response = response.header("Allow", "GET, POST");
                }
                self.refuse(place, response);
            }
        }
    }

    /// Returns the index of the tunnel that a client has opened with a cookie.
    fn tunnel_of(&self, place: usize, wanted: &str) -> Option<usize> {
        let ip = self.connections[place].as_ref()?.peer.ip();
        self.connections.iter().position(|c| {
            c.as_ref()
                .is_some_and(|c| c.peer.ip() == ip && matches!(&c.role, Role::Get { cookie, .. } if cookie == wanted))
        })
    }

    /// Makes a connection the server's half of a tunnel. Its path does not matter: the requests in the tunnel name the
    /// stream. Some clients send `/`, and an error would tell strangers which streams exist.
    fn open_get(&mut self, place: usize, cookie: &str) -> Result<(), Status> {
        if self.tunnel_of(place, cookie).is_some() {
            return Err(Status::BadRequest);
        }
        let connection = self.new_connection(place)?;
        connection.role = Role::Get { cookie: cookie.to_owned(), post: None, packet: Vec::new() };
        let response = Response::http(Status::Ok)
            .header("Cache-Control", "no-store")
            .header("Pragma", "no-cache")
            .header("Content-Type", "application/x-rtsp-tunnelled");
        // `look_after_connections` handles a failure.
        let _ = connection.out.message(response.end().as_bytes());
        Ok(())
    }

    /// Makes a connection the client's half of a tunnel. It replaces an earlier one: a client may send a POST for each
    /// request.
    fn open_post(&mut self, place: usize, cookie: &str) -> Result<(), Status> {
        let get = self.tunnel_of(place, cookie).ok_or(Status::NotFound)?;
        self.new_connection(place)?.role = Role::Post { get, decoder: Decoder::default() };
        if let Some(before) = self.post_of(get).and_then(Option::take) {
            self.disconnect(before);
        }
        if let Some(post) = self.post_of(get) {
            *post = Some(place);
        }
        Ok(())
    }

    /// Returns a connection that has carried nothing yet.
    fn new_connection(&mut self, place: usize) -> Result<&mut Connection, Status> {
        let connection = self.connections[place].as_mut();
        connection.filter(|c| matches!(c.role, Role::New)).ok_or(Status::BadRequest)
    }

    /// Returns the index of the client's half of a tunnel, to be changed.
    fn post_of(&mut self, get: usize) -> Option<&mut Option<usize>> {
        match &mut self.connections[get].as_mut()?.role {
            Role::Get { post, .. } => Some(post),
            _ => None,
        }
    }

    /// Notes that the client's half of a tunnel has ended. The client may send another POST until the session timeout.
    pub(super) fn lose_post(&mut self, get: usize) {
        if let Some(post) = self.post_of(get) {
            *post = None;
        }
        // The next POST begins with a request. One that waits is complete.
        if let Some(connection) = self.connections[get].as_mut().filter(|c| c.waits.is_none()) {
            connection.inbox.clear();
            connection.since = None;
        }
    }

    /// Takes packets that a client sends in the server's half of a tunnel.
    pub(super) fn take_packets(&mut self, place: usize, bytes: &[u8]) {
        let Some(connection) = self.connections[place].as_mut() else { return };
        let Role::Get { packet, .. } = &mut connection.role else { return };
        let mut received = std::mem::take(packet);
        received.extend_from_slice(bytes);
        let number = connection.number;
        let mut at = 0;
        loop {
            match parse(&received[at..]) {
                Parsed::Blank(used) => at += used,
                Parsed::Packet(channel, bytes, used) => {
                    self.hear(number, channel, bytes);
                    at += used;
                }
                Parsed::Incomplete => break,
                Parsed::Request(..) | Parsed::Bad(_) => {
                    return self.refuse(place, Response::new(Status::BadRequest, None));
                }
            }
        }
        if let Some(Role::Get { packet, .. }) = self.connections[place].as_mut().map(|c| &mut c.role) {
            received.drain(..at);
            *packet = received;
        }
    }
}

/// Returns the cookie of a request. The server has nothing for a request without one.
fn cookie<'a>(request: &'a Request<'_>) -> Result<&'a str, Status> {
    match request.header("x-sessioncookie") {
        Some(cookie) if (1..=MOST_COOKIE).contains(&cookie.len()) => Ok(cookie),
        Some(_) => Err(Status::BadRequest),
        None => Err(Status::NotFound),
    }
}
