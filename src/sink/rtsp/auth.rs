//! Authentication by Digest (RFC 2617, MD5, which all RTSP clients support) and Basic.

use std::fmt;

use super::mount::TRACK;
use crate::sink::base64;

/// The users of a server, and the schemes that it accepts.
#[derive(Clone, Default)]
pub(super) struct Users {
    users: Vec<(String, String)>,
    /// Accept Basic, which sends passwords in readable form.
    pub(super) takes_basic: bool,
}

pub(super) const REALM: &str = "framelease";

impl Users {
    pub(super) fn add(&mut self, name: String, password: String) {
        self.users.push((name, password));
    }

    /// Returns `true` if anyone may watch.
    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// Returns the values of `WWW-Authenticate`. A client with a stale nonce tries again without asking for the
    /// password.
    pub(super) fn challenges(&self, nonce: &str, is_stale: bool) -> Vec<String> {
        let stale = if is_stale { ", stale=true" } else { "" };
        let mut all = vec![format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\"{stale}")];
        if self.takes_basic {
            all.push(format!("Basic realm=\"{REALM}\""));
        }
        all
    }

    /// Checks the `Authorization` header of a request.
    pub(super) fn check(&self, header: Option<&str>, method: &str, uri: &str, nonce: &str) -> AuthResult {
        if self.is_open() {
            return AuthResult::Admitted;
        }
        let Some((scheme, rest)) = header.and_then(|h| h.trim().split_once(' ')) else { return AuthResult::Refused };
        if scheme.eq_ignore_ascii_case("Basic") && self.takes_basic {
            let given = rest.trim();
            let is_one =
                |(user, pass): &(String, String)| same(&base64::encode(format!("{user}:{pass}").as_bytes()), given);
            return if self.users.iter().any(is_one) { AuthResult::Admitted } else { AuthResult::Refused };
        }
        if !scheme.eq_ignore_ascii_case("Digest") {
            return AuthResult::Refused;
        }
        let value = |name: &str| parameters(rest).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let (Some(user), Some(response), Some(given)) = (value("username"), value("response"), value("nonce")) else {
            return AuthResult::Refused;
        };
        // Clients write the URI in several ways, and hash it as they write it.
        let stated = value("uri").unwrap_or(uri);
        if value("realm") != Some(REALM) || !is_uri_of(stated, uri) {
            return AuthResult::Refused;
        }
        // Some clients answer a quality of protection that they were not asked for.
        let protection = match (value("qop"), value("nc"), value("cnonce")) {
            (Some(qop), Some(count), Some(own)) if qop.eq_ignore_ascii_case("auth") => format!("{count}:{own}:{qop}:"),
            (Some(_), _, _) => return AuthResult::Refused,
            (None, _, _) => String::new(),
        };
        let hash = |text: String| format!("{:x}", md5::compute(text));
        let knows = self.users.iter().filter(|(name, _)| name == user).any(|(name, password)| {
            let secret = hash(format!("{name}:{REALM}:{password}"));
            let asked = hash(format!("{method}:{stated}"));
            same(&hash(format!("{secret}:{given}:{protection}{asked}")), &response.to_ascii_lowercase())
        });
        match knows {
            false => AuthResult::Refused,
            true if given == nonce => AuthResult::Admitted,
            true => AuthResult::Stale,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthResult {
    Admitted,
    Refused,
    /// The password is right, but the nonce is that of another connection (RFC 2617, 3.2.1).
    Stale,
}

/// Returns `true` if a client may mean the URI of its request by the one that it states: without userinfo, host or
/// final slash, or that of the stream for the request of its track. live555, which is in VLC, states the base of the
/// stream for every request. A response for one stream is not valid for another.
fn is_uri_of(stated: &str, requested: &str) -> bool {
    let parts = |uri: &str| -> (Option<String>, String) {
        let (host, path) = match uri.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let host = authority.rsplit('@').next().unwrap_or(authority);
                (Some(format!("{scheme}://{host}").to_ascii_lowercase()), path)
            }
            None => (None, uri),
        };
        (host, path.trim_end_matches('/').to_owned())
    };
    let ((stated_host, stated), (host, path)) = (parts(stated), parts(requested));
    let is_host = stated_host.map_or(true, |stated| host.map_or(true, |host| stated == host));
    let of_track = path.strip_suffix(TRACK).map(|base| base.trim_end_matches('/'));
    is_host && (stated == path || of_track == Some(&*stated))
}

/// Parses `a="b, c", d=e`.
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        rest = after.trim_start_matches([' ', '\t', ',']);
        Some((name.trim(), value.trim()))
    })
}

/// Compares in constant time.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

impl fmt::Debug for Users {
    /// Leaves the passwords out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.users.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_may_be_stated_in_several_ways() {
        let track = "rtsp://h:8554/live/video";
        for stated in
            [track, "rtsp://h:8554/live/", "rtsp://h:8554/live", "RTSP://eve:x@H:8554/live/video", "/live/video"]
        {
            assert!(is_uri_of(stated, track), "{stated}");
        }
        assert!(is_uri_of("rtsp://h/live", "rtsp://eve:x@h/live/") && is_uri_of("*", "*"));
        for stated in
            ["rtsp://h:8554/", "rtsp://h:8554/live2", "rtsp://g:8554/live", "/", "", "*", "rtsp://h:8554/live/vid"]
        {
            assert!(!is_uri_of(stated, track), "{stated}");
        }
        assert!(
            !is_uri_of("rtsp://h/live", "rtsp://h/live/other") && !is_uri_of("rtsp://h/live/video", "rtsp://h/live")
        );
    }

    #[test]
    fn digests_and_passwords() {
        let mut users = Users::default();
        let admits = |users: &Users, header: Option<&str>, method: &str, uri: &str, nonce: &str| {
            users.check(header, method, uri, nonce) == AuthResult::Admitted
        };
        assert!(admits(&users, None, "DESCRIBE", "rtsp://h/a", "n"));
        users.add("eve".into(), "s3cret".into());
        assert!(!admits(&users, None, "DESCRIBE", "rtsp://h/a", "n") && !format!("{users:?}").contains("s3cret"));
        // By md5sum: eve:framelease:s3cret, DESCRIBE:rtsp://h/a.
        let secret = format!("{:x}", md5::compute("eve:framelease:s3cret"));
        let asked = format!("{:x}", md5::compute("DESCRIBE:rtsp://h/a"));
        let response = format!("{:x}", md5::compute(format!("{secret}:n:{asked}")));
        let header = format!(
            "Digest username=\"eve\", realm=\"framelease\", nonce=\"n\", uri=\"rtsp://h/a\", response=\"{response}\""
        );
        assert!(admits(&users, Some(&header), "DESCRIBE", "rtsp://h/a", "n"));
        assert!(!admits(&users, Some(&header), "DESCRIBE", "rtsp://h/b", "n"), "another address");
        assert!(!admits(&users, Some(&header), "SETUP", "rtsp://h/a", "n"), "another method");
        assert_eq!(users.check(Some(&header), "DESCRIBE", "rtsp://h/a", "m"), AuthResult::Stale);
        assert_eq!(users.check(Some(&header), "SETUP", "rtsp://h/a", "m"), AuthResult::Refused);
        assert!(users.challenges("n", true)[0].ends_with("nonce=\"n\", stale=true"));
        let basic = "Basic ZXZlOnMzY3JldA==";
        assert!(!admits(&users, Some(basic), "DESCRIBE", "rtsp://h/a", "n"), "not accepted unless allowed");
        users.takes_basic = true;
        assert!(admits(&users, Some(basic), "DESCRIBE", "rtsp://h/a", "n"));
        for bad in ["Basic ZXZlOnMzY3JldB==", "Digest", "Digest username=\"eve", "Basic ", "", "Digest response=,,=\""]
        {
            assert!(!admits(&users, Some(bad), "DESCRIBE", "rtsp://h/a", "n"), "{bad}");
        }
    }
}
