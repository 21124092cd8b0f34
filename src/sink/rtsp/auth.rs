//! Who may watch: Digest (RFC 2617, MD5 without qop, which all RTSP clients know) and Basic.

use std::fmt;

use crate::sink::rtp::base64;

/// Names and passwords, and what is asked for them.
#[derive(Clone, Default)]
pub(super) struct Users {
    users: Vec<(String, String)>,
    /// Basic sends the password as good as clear.
    pub(super) takes_basic: bool,
}

pub(super) const REALM: &str = "framelease";

impl Users {
    pub(super) fn add(&mut self, name: String, password: String) {
        self.users.push((name, password));
    }

    /// Everybody may watch.
    pub(super) fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// The values of `WWW-Authenticate`.
    pub(super) fn challenges(&self, nonce: &str) -> Vec<String> {
        let mut all = vec![format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\"")];
        if self.takes_basic {
            all.push(format!("Basic realm=\"{REALM}\""));
        }
        all
    }

    /// Looks at the `Authorization` header of a request.
    pub(super) fn admits(&self, header: Option<&str>, method: &str, uri: &str, nonce: &str) -> bool {
        if self.is_open() {
            return true;
        }
        let Some((scheme, rest)) = header.and_then(|h| h.trim().split_once(' ')) else { return false };
        if scheme.eq_ignore_ascii_case("Basic") && self.takes_basic {
            let given = rest.trim();
            return self.users.iter().any(|(user, pass)| same(&base64(format!("{user}:{pass}").as_bytes()), given));
        }
        if !scheme.eq_ignore_ascii_case("Digest") {
            return false;
        }
        let value = |name: &str| parameters(rest).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let (Some(user), Some(response)) = (value("username"), value("response")) else { return false };
        if value("nonce") != Some(nonce) || value("realm") != Some(REALM) {
            return false;
        }
        // The request's own URI, whatever the header says: an answer for one address is none for another.
        let hash = |text: String| format!("{:x}", md5::compute(text));
        self.users.iter().filter(|(name, _)| name == user).any(|(name, password)| {
            let secret = hash(format!("{name}:{REALM}:{password}"));
            let asked = hash(format!("{method}:{uri}"));
            same(&hash(format!("{secret}:{nonce}:{asked}")), &response.to_ascii_lowercase())
        })
    }
}

/// `a="b, c", d=e`
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, value) = rest.split_once('=')?;
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        rest = behind.trim_start_matches([' ', '\t', ',']);
        Some((name.trim(), value.trim()))
    })
}

/// Takes as long wherever the difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

impl fmt::Debug for Users {
    /// Without the passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.users.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_passwords() {
        let mut users = Users::default();
        assert!(users.admits(None, "DESCRIBE", "rtsp://h/a", "n"));
        users.add("eve".into(), "s3cret".into());
        assert!(!users.admits(None, "DESCRIBE", "rtsp://h/a", "n") && !format!("{users:?}").contains("s3cret"));
        // By md5sum: eve:framelease:s3cret, DESCRIBE:rtsp://h/a.
        let secret = format!("{:x}", md5::compute("eve:framelease:s3cret"));
        let asked = format!("{:x}", md5::compute("DESCRIBE:rtsp://h/a"));
        let response = format!("{:x}", md5::compute(format!("{secret}:n:{asked}")));
        let header = format!(
            "Digest username=\"eve\", realm=\"framelease\", nonce=\"n\", uri=\"rtsp://h/a\", response=\"{response}\""
        );
        assert!(users.admits(Some(&header), "DESCRIBE", "rtsp://h/a", "n"));
        assert!(!users.admits(Some(&header), "DESCRIBE", "rtsp://h/b", "n"), "another address");
        assert!(!users.admits(Some(&header), "SETUP", "rtsp://h/a", "n"), "another method");
        assert!(!users.admits(Some(&header), "DESCRIBE", "rtsp://h/a", "m"), "another nonce");
        let basic = "Basic ZXZlOnMzY3JldA==";
        assert!(!users.admits(Some(basic), "DESCRIBE", "rtsp://h/a", "n"), "not unless it was asked for");
        users.takes_basic = true;
        assert!(users.admits(Some(basic), "DESCRIBE", "rtsp://h/a", "n"));
        for bad in ["Basic ZXZlOnMzY3JldB==", "Digest", "Digest username=\"eve", "Basic ", "", "Digest response=,,=\""]
        {
            assert!(!users.admits(Some(bad), "DESCRIBE", "rtsp://h/a", "n"), "{bad}");
        }
    }
}
