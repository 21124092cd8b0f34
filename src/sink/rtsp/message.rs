//! Parses and writes messages of RTSP (RFC 2326, 4 to 7), and the heads of HTTP that tunnels need. Does not depend on
//! sessions or sockets, and does not panic.

use std::borrow::Cow;
use std::fmt::Write;

/// The most bytes of a request's line and headers.
pub(super) const MOST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
const MOST_BODY: usize = 8 << 10;
const SERVER: &str = concat!("Server: framelease/", env!("CARGO_PKG_VERSION"), "\r\n");

/// The message at the start of the bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The message is not complete.
    Incomplete,
    /// An empty line between messages, with its length.
    Blank(usize),
    /// A packet on a channel (10.12), with the length of the whole message.
    Packet(u8, &'a [u8], usize),
    /// A request, with its length.
    Request(Request<'a>, usize),
    /// A malformed message, with the status to answer. The rest of the connection cannot be parsed.
    Bad(Status),
}

/// A request. Methods are compared with their case, names of headers without.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    headers: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) has_body: bool,
    /// The request is of HTTP. Its body is not read.
    pub(super) is_http: bool,
}

/// Status codes (RFC 2326, 7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // They are named as in the RFC.
pub enum Status {
    Ok = 200,
    BadRequest = 400,
    Unauthorized = 401,
    NotFound = 404,
    MethodNotAllowed = 405,
    NotAcceptable = 406,
    RequestTimeout = 408,
    EntityTooLarge = 413,
    ParameterNotUnderstood = 451,
    NotEnoughBandwidth = 453,
    SessionNotFound = 454,
    NotValidInState = 455,
    UnsupportedTransport = 461,
    InternalError = 500,
    NotImplemented = 501,
    Unavailable = 503,
    VersionNotSupported = 505,
    OptionNotSupported = 551,
}

impl Status {
    fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::NotAcceptable => "Not Acceptable",
            Self::RequestTimeout => "Request Time-out",
            Self::EntityTooLarge => "Request Entity Too Large",
            Self::ParameterNotUnderstood => "Parameter Not Understood",
            Self::NotEnoughBandwidth => "Not Enough Bandwidth",
            Self::SessionNotFound => "Session Not Found",
            Self::NotValidInState => "Method Not Valid in This State",
            Self::UnsupportedTransport => "Unsupported Transport",
            Self::InternalError => "Internal Server Error",
            Self::NotImplemented => "Not Implemented",
            Self::Unavailable => "Service Unavailable",
            Self::VersionNotSupported => "RTSP Version not supported",
            Self::OptionNotSupported => "Option not supported",
        }
    }
}

impl Request<'_> {
    /// Returns the first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// Returns the session's id, without its parameters (12.37).
    pub(super) fn session(&self) -> Option<&str> {
        self.header("Session").map(|s| s.split(';').next().unwrap_or("").trim())
    }

    /// Returns the path of the URI, without host, query and final slash, as [`plain`] writes it; `*` as it is.
    pub(super) fn path(&self) -> String {
        let rest = match self.uri.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
            None => self.uri,
        };
        plain(rest.split(['?', '#']).next().unwrap_or(""))
    }
}

/// Returns a path without percent-encoding (RFC 3986, 2.1), empty segments and a final slash, to be compared.
pub(super) fn plain(path: &str) -> String {
    let mut bytes: Vec<u8> = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, more @ ..] = rest {
        let digit = |at: usize| char::from(*more.get(at)?).to_digit(16);
        let encoded = digit(0).zip(digit(1)).filter(|_| *first == b'%').map(|(high, low)| (high << 4 | low) as u8);
        let byte = encoded.unwrap_or(*first);
        if byte != b'/' || bytes.last() != Some(&b'/') {
            bytes.push(byte);
        }
        rest = if encoded.is_some() { &more[2..] } else { more };
    }
    let text = String::from_utf8_lossy(&bytes);
    text.strip_suffix('/').unwrap_or(&text).to_owned()
}

/// Parses the message at the start of the bytes.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match bytes {
        [] => return Parsed::Incomplete,
        [b'$', channel, high, low, rest @ ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            return match rest.get(..len) {
                Some(packet) => Parsed::Packet(*channel, packet, 4 + len),
                None => Parsed::Incomplete,
            };
        }
        [b'$', ..] | [b'\r'] => return Parsed::Incomplete,
        [b'\r', b'\n', ..] => return Parsed::Blank(2),
        [b'\n', ..] => return Parsed::Blank(1),
        _ => {}
    }
    let Some((end, body_at)) = head_end(&bytes[..bytes.len().min(MOST_HEAD)]) else {
        // Refuse bytes that cannot become a request at once.
        let is_line =
            bytes.iter().take_while(|&&b| b != b'\r' && b != b'\n').all(|&b| b.is_ascii_graphic() || b == b' ');
        return match (is_line, bytes.len() >= MOST_HEAD) {
            (false, _) => Parsed::Bad(Status::BadRequest),
            (true, true) => Parsed::Bad(Status::EntityTooLarge),
            (true, false) => Parsed::Incomplete,
        };
    };
    match request(&bytes[..end]) {
        Err(status) => Parsed::Bad(status),
        Ok((request, body)) => match bytes.len() - body_at < body {
            true => Parsed::Incomplete,
            false => Parsed::Request(request, body_at + body),
        },
    }
}

/// Returns the length of the line and headers without and with the empty line after them. Lines end with CR LF, but
/// also with CR or LF alone (RFC 2326, 4).
fn head_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let end = from + memchr::memchr2(b'\r', b'\n', &bytes[from..])?;
        let next = end + if bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
        match &bytes[next..] {
            // The LF of an empty line may follow.
            [b'\r'] if bytes[next - 1] == b'\n' => return None,
            [b'\r', b'\n', ..] => return Some((end, next + 2)),
            [b'\r' | b'\n', ..] => return Some((end, next + 1)),
            _ => from = next,
        }
    }
}

/// Parses a request without its body. Also returns the length of the body.
fn request(head: &[u8]) -> Result<(Request<'_>, usize), Status> {
    let text = std::str::from_utf8(head).map_err(|_| Status::BadRequest)?;
    // The empty line at the end is not in the text: an empty part is between CR and LF.
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty());
    let mut words = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(uri), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    let is_control = |c: char| c.is_control() && c != '\t';
    // A response repeats the URI, and a line break in it would begin another header.
    let is_odd = |word: &str| word.is_empty() || word.contains(char::is_control);
    let is_http = matches!(version, "HTTP/1.0" | "HTTP/1.1");
    if !(is_http || version.starts_with("RTSP/")) || is_odd(method) || is_odd(uri) {
        return Err(Status::BadRequest);
    }
    if !is_http && version != "RTSP/1.0" {
        return Err(Status::VersionNotSupported);
    }
    let mut headers: Vec<(&str, Cow<'_, str>)> = Vec::new();
    for line in lines {
        // A line that begins with a space continues the header before (RFC 2068, 2.2).
        if line.starts_with([' ', '\t']) {
            let (_, value) = headers.last_mut().filter(|_| !line.contains(is_control)).ok_or(Status::BadRequest)?;
            let value = value.to_mut();
            value.push_str(if value.is_empty() { "" } else { " " });
            value.push_str(line.trim());
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(Status::BadRequest)?;
        if name.is_empty() || name.contains([' ', '\t']) || value.contains(is_control) {
            return Err(Status::BadRequest);
        }
        if headers.len() == MOST_HEADERS {
            return Err(Status::EntityTooLarge);
        }
        headers.push((name, value.trim().into()));
    }
    if is_http {
        // A tunnel goes on whatever length its requests state, and the server closes every other connection.
        return Ok((Request { method, uri, headers, has_body: false, is_http }, 0));
    }
    let mut lengths = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let body = match lengths.next() {
        Some((_, value)) if value.bytes().all(|b| b.is_ascii_digit()) => {
            value.parse().map_err(|_| Status::EntityTooLarge)?
        }
        Some(_) => return Err(Status::BadRequest),
        None => 0,
    };
    if lengths.next().is_some() {
        return Err(Status::BadRequest);
    }
    if body > MOST_BODY {
        return Err(Status::EntityTooLarge);
    }
    Ok((Request { method, uri, headers, has_body: body > 0, is_http }, body))
}

/// A response that is built header by header.
#[derive(Debug)]
pub(super) struct Response(String);

impl Response {
    /// Begins a response. `cseq` is the request's number, which the response must repeat (12.17).
    pub(super) fn new(status: Status, cseq: Option<&str>) -> Self {
        let mut text = format!("RTSP/1.0 {} {}\r\n", status as u16, status.reason());
        if let Some(cseq) = cseq {
            let _ = write!(text, "CSeq: {cseq}\r\n");
        }
        Self(text + SERVER)
    }

    /// Begins a response of HTTP, after which the connection carries nothing else.
    pub(super) fn http(status: Status) -> Self {
        let line = format!("HTTP/1.0 {} {}\r\n", status as u16, status.reason());
        Self(line + SERVER).header("Connection", "close")
    }

    /// Returns the response to a malformed or incomplete request, in the protocol of its first line.
    pub(super) fn refusal(status: Status, request: &[u8]) -> Self {
        let line = request.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or(&[]);
        match memchr::memmem::find(line, b" HTTP/") {
            Some(_) => Self::http(status).header("Content-Length", "0"),
            None => Self::new(status, None),
        }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{name}: {value}\r\n");
        self
    }

    pub(super) fn end(self) -> String {
        self.0 + "\r\n"
    }

    pub(super) fn body(self, kind: &str, body: &str) -> String {
        let length = body.len().to_string();
        self.header("Content-Type", kind).header("Content-Length", &length).end() + body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETUP: &str =
        "SETUP rtsp://cam:8554/live/video?x=1 RTSP/1.0\r\nCSeq: 3\r\ncseq: 4\r\nSession: 12;timeout=9\r\n\r\n";

    #[test]
    fn request_and_what_is_around_it() {
        let bytes = [b"\r\n$\x01\x00\x02ab", SETUP.as_bytes(), b"$"].concat();
        assert_eq!(parse(&bytes), Parsed::Blank(2));
        assert_eq!(parse(&bytes[2..]), Parsed::Packet(1, b"ab", 6));
        let Parsed::Request(request, used) = parse(&bytes[8..]) else { panic!("no request") };
        assert_eq!((request.method, &*request.path(), used), ("SETUP", "/live/video", SETUP.len()));
        assert_eq!((request.header("CSEQ"), request.session()), (Some("3"), Some("12")));
        assert_eq!(parse(b"$"), Parsed::Incomplete);
        for len in 0..SETUP.len() {
            assert_eq!(parse(&SETUP.as_bytes()[..len]), Parsed::Incomplete, "{len} bytes");
        }
        let with = "GET_PARAMETER * RTSP/1.0\r\nContent-Length: 3\r\n\r\nabc";
        let Parsed::Request(request, used) = parse(with.as_bytes()) else { panic!("no request") };
        assert!(request.has_body && request.path() == "*" && used == with.len());
        assert_eq!(parse(&with.as_bytes()[..with.len() - 1]), Parsed::Incomplete);
    }

    #[test]
    fn request_of_http_has_no_body() {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let text = format!("POST /live {version}\r\nContent-Length: 99999\r\nContent-Length: x\r\n\r\n");
            let bytes = text.clone() + "T1BU";
            let Parsed::Request(request, used) = parse(bytes.as_bytes()) else { panic!("no request") };
            assert_eq!((request.method, request.is_http, request.has_body, used), ("POST", true, false, text.len()));
        }
        let refusal = |text: &str| Response::refusal(Status::BadRequest, text.as_bytes()).end();
        assert!(refusal("GET / HTTP/1.1\r\n:").starts_with("HTTP/1.0 400 Bad Request\r\n"));
        for text in ["GET / RTSP/1.0\r\nA: b HTTP/1.1", "GET", "\u{16}\u{3}", ""] {
            assert!(refusal(text).starts_with("RTSP/1.0 400 Bad Request\r\n"), "{text}");
        }
    }

    #[test]
    fn request_may_end_its_lines_with_any_of_cr_and_lf() {
        for ends in ["\r\n", "\r", "\n"] {
            let text = "SET * RTSP/1.0\nA: b\n\t c\nContent-Length: 2\n\n\r\n".replacen('\n', ends, 5);
            for len in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..len]), Parsed::Incomplete, "{len} bytes");
            }
            let Parsed::Request(request, used) = parse(text.as_bytes()) else { panic!("no request: {text:?}") };
            assert_eq!((request.header("a"), request.has_body, used), (Some("b c"), true, text.len()));
        }
    }

    #[test]
    fn plain_paths_are_equal_however_they_are_written() {
        for path in ["/a b/c", "/a%20b/c/", "//a%20b//%63", "/a%20b%2fc"] {
            assert_eq!(plain(path), "/a b/c", "{path}");
        }
        assert_eq!([plain("/%"), plain("/%4"), plain("/%zz"), plain("*")], ["/%", "/%4", "/%zz", "*"]);
    }

    #[test]
    fn malformed_requests_get_a_status() {
        let many = format!("OPTIONS * RTSP/1.0\r\n{}\r\n", "A: b\r\n".repeat(65));
        let long = format!("OPTIONS {} RTSP/1.0\r\n", "a".repeat(9000));
        for (text, status) in [
            ("GET / HTTP/2.0\r\n\r\n", Status::BadRequest),
            ("OPTIONS * RTSP/2.0\r\n\r\n", Status::VersionNotSupported),
            ("OPTIONS  * RTSP/1.0\r\n\r\n", Status::BadRequest),
            ("DESCRIBE rtsp://h/live?\nSession:1 RTSP/1.0\r\nCSeq: 1\r\n\r\n", Status::BadRequest),
            ("OPTIONS * RTSP/1.0\r\nCSeq 1\r\n\r\n", Status::BadRequest),
            ("OPTIONS * RTSP/1.0\r\n folded\r\nA: b\r\n\r\n", Status::BadRequest),
            ("OPTIONS * RTSP/1.0\r\nA: b\r\n \u{1}\r\n\r\n", Status::BadRequest),
            ("SET * RTSP/1.0\r\nContent-Length: -1\r\n\r\n", Status::BadRequest),
            ("SET * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Status::BadRequest),
            ("SET * RTSP/1.0\r\nContent-Length: 9000\r\n\r\n", Status::EntityTooLarge),
            ("SET * RTSP/1.0\r\nContent-Length: 99999999999999999999999\r\n\r\n", Status::EntityTooLarge),
            ("\u{16}\u{3}\u{1}", Status::BadRequest),
            (&many, Status::EntityTooLarge),
            (&long, Status::EntityTooLarge),
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad(status), "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_something(
            data in proptest::collection::vec(prop_oneof![
                3 => any::<u8>().prop_map(|b| vec![b]),
                1 => Just(b"\r\n".to_vec()), 1 => Just(b": ".to_vec()), 1 => Just(b" RTSP/1.0\r\n".to_vec()),
                1 => Just(b" HTTP/1.1\r\n".to_vec()),
                1 => Just(b"Content-Length: 1".to_vec()), 1 => Just(b"$\0\0\x01".to_vec()),
            ], 0..60),
        ) {
            let data = data.concat();
            let mut at = 0;
            while let Parsed::Blank(used) | Parsed::Packet(_, _, used) | Parsed::Request(_, used) = parse(&data[at..]) {
                prop_assert!(used > 0 && at + used <= data.len());
                at += used;
            }
        }
    }
}
