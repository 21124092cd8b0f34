//! Requests and answers of HTTP/1.0 and 1.1 (RFC 9112), as far as the page needs them.

/// A request's first line, and what the page needs of its headers.
#[derive(Debug, Default, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// An answer of unknown length has chunks.
    pub takes_chunks: bool,
    pub authorization: Option<String>,
}

/// The most bytes of a request.
pub const MOST: usize = 8192;

impl Request {
    /// Parses a request without a body. `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<Result<Self, Answer>> {
        let end =
            bytes.windows(4).position(|w| w == b"\r\n\r\n").or_else(|| bytes.windows(2).position(|w| w == b"\n\n"));
        let Some(end) = end else {
            return (bytes.len() >= MOST).then(|| Err(Answer::refused(431, "the request is too long\n")));
        };
        let text = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version @ ("HTTP/1.0" | "HTTP/1.1"))) =
            (words.next(), words.next(), words.next())
        else {
            return Some(Err(Answer::refused(400, "not a request of HTTP/1\n")));
        };
        let authorization = lines.filter_map(|line| line.split_once(':'));
        let authorization = authorization
            .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
            .map(|(_, value)| value.trim().to_owned())
            .next();
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let takes_chunks = version == "HTTP/1.1";
        Some(Ok(Self { method: method.into(), path: path.into(), takes_chunks, authorization }))
    }
}

pub enum Answer {
    Whole {
        status: u16,
        kind: &'static str,
        body: String,
    },
    /// The picture, as long as the browser takes it.
    Live,
}

impl Answer {
    pub fn whole(kind: &'static str, body: String) -> Self {
        Self::Whole { status: 200, kind, body }
    }

    pub fn refused(status: u16, text: &str) -> Self {
        Self::Whole { status, kind: "text/plain; charset=utf-8", body: text.into() }
    }
}

/// The lines before an answer's body. The connection ends with the body.
pub fn head(status: u16, kind: &str, length: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Not Implemented",
    };
    let login = if status == 401 { "WWW-Authenticate: Basic realm=\"node\"\r\n" } else { "" };
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n{login}{allow}{length}Connection: close\r\n\r\n"
    )
}

/// The users who may see the page. Without users, everyone may.
pub struct Logins(Vec<String>);

impl Logins {
    pub fn new(users: &[(String, String)]) -> Self {
        Self(users.iter().map(|(name, password)| base64(format!("{name}:{password}").as_bytes())).collect())
    }

    pub fn admit(&self, request: &Request) -> bool {
        let given = request.authorization.as_deref().and_then(|text| text.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).map(|(_, login)| login.trim());
        // Compares all bytes of all users, so that the time does not say which are right.
        let is = |login: &String, given: &str| {
            let differ = login.bytes().zip(given.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
            login.len() == given.len() && differ == 0
        };
        self.0.is_empty()
            || given.is_some_and(|given| self.0.iter().fold(false, |found, login| found | is(login, given)))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        let digit = |i: usize| char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]);
        let of = three.len() + 1;
        (0..4).map(|i| if i < of { digit(i) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_has_a_path_and_a_login() {
        let parse = |text: &str| Request::parse(text.as_bytes());
        assert!(parse("GET / HTTP/1.1\r\nHost: a\r\n").is_none());
        let request = parse("GET /live.mp4?1 HTTP/1.1\r\nauthorization: Basic ZXZlOnMz\r\n\r\n").unwrap().ok().unwrap();
        assert_eq!((&*request.method, &*request.path, request.takes_chunks), ("GET", "/live.mp4", true));
        let eve = |password: &str| Logins::new(&[("adam".into(), "x".into()), ("eve".into(), password.into())]);
        assert!(eve("s3").admit(&request) && !eve("s4").admit(&request) && Logins::new(&[]).admit(&request));
        assert!(!parse("GET / HTTP/1.0\n\n").unwrap().ok().unwrap().takes_chunks);
        for wrong in ["\r\n\r\n", "GET /\r\n\r\n", "GET / RTSP/1.0\r\n\r\n", &"x".repeat(MOST)] {
            assert!(parse(wrong).unwrap().is_err(), "{wrong}");
        }
        assert_eq!(["", "f", "fo", "foo"].map(|text| base64(text.as_bytes())), ["", "Zg==", "Zm8=", "Zm9v"]);
    }
}
