//! Parses the text of GStreamer's caps. Supports one fixed structure: `name(features), key=(type)value, …`.

/// The most bytes of caps that are read. Caps of raw video have about 200, caps with a stream header a few KiB.
pub(in crate::share) const MAX_CAPS: usize = 16 << 10;

/// One structure of caps.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::share) struct Structure {
    pub(in crate::share) name: String,
    pub(in crate::share) features: Vec<String>,
    fields: Vec<(String, String)>,
}

impl Structure {
    /// Parses caps of one structure. Keeps the text of a list, a range or a buffer as the value.
    pub(in crate::share) fn parse(text: &str) -> Result<Self, String> {
        let mut cursor = Cursor(text);
        let name = cursor.word("a media type")?.to_owned();
        let mut features = Vec::new();
        if cursor.take('(') {
            loop {
                features.push(cursor.word("a feature")?.to_owned());
                match cursor.next() {
                    Some(',') => {}
                    Some(')') => break,
                    other => return Err(unexpected(other, "',' or ')'")),
                }
            }
        }
        let mut fields = Vec::new();
        loop {
            match cursor.next() {
                None => return Ok(Self { name, features, fields }),
                Some(',') => {}
                // ';' ends a structure. Caps with a second structure are not fixed.
                Some(';') => {
                    return match cursor.next() {
                        None => Ok(Self { name, features, fields }),
                        Some(_) => Err("more than one structure".into()),
                    }
                }
                other => return Err(unexpected(other, "',' or the end")),
            }
            let key = cursor.word("a field")?.to_owned();
            if !cursor.take('=') {
                return Err(format!("'{key}' has no value"));
            }
            if cursor.take('(') {
                cursor.word("a type")?;
                if !cursor.take(')') {
                    return Err(format!("the type of '{key}' does not end"));
                }
            }
            let value = cursor.value().ok_or_else(|| format!("the value of '{key}' does not end"))?;
            fields.push((key, value));
        }
    }

    pub(in crate::share) fn get(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

fn unexpected(found: Option<char>, wanted: &str) -> String {
    match found {
        Some(c) => format!("'{}' where {wanted} is expected", c.escape_default()),
        None => format!("the end where {wanted} is expected"),
    }
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start();
    }

    /// Returns the next character that is not a space.
    fn next(&mut self) -> Option<char> {
        self.skip_space();
        let c = self.0.chars().next()?;
        self.0 = &self.0[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Reads a name of a media type, a feature, a field or a type.
    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.skip_space();
        let is_in = |c: char| c.is_ascii_alphanumeric() || "-_/.:+".contains(c);
        let len = self.0.find(|c| !is_in(c)).unwrap_or(self.0.len());
        if len == 0 {
            return Err(unexpected(self.0.chars().next(), what));
        }
        let (word, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(word)
    }

    /// Reads a value up to the ',' or ';' after it. Removes quotes and escapes, and keeps brackets. `None` if a quote
    /// or bracket does not end.
    fn value(&mut self) -> Option<String> {
        self.skip_space();
        let (mut out, mut depth, mut is_quoted) = (Vec::new(), 0u32, false);
        let mut bytes = self.0.bytes().enumerate().peekable();
        let mut end = self.0.len();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => {
                    let (_, mut escaped) = bytes.next()?;
                    let mut octal = |byte: u8| match bytes.peek() {
                        Some(&(_, digit @ b'0'..=b'7')) => {
                            bytes.next();
                            byte.wrapping_mul(8).wrapping_add(digit - b'0')
                        }
                        _ => byte,
                    };
                    if let b'0'..=b'7' = escaped {
                        escaped = octal(escaped - b'0');
                        escaped = octal(escaped);
                    }
                    out.push(escaped);
                }
                b'"' => is_quoted = !is_quoted,
                _ if is_quoted => out.push(byte),
                b',' | b';' if depth == 0 => {
                    end = at;
                    break;
                }
                b'[' | b'{' | b'<' => {
                    depth += 1;
                    out.push(byte);
                }
                b']' | b'}' | b'>' => {
                    depth = depth.checked_sub(1)?;
                    out.push(byte);
                }
                _ => out.push(byte),
            }
        }
        self.0 = &self.0[end..];
        let is_whole = depth == 0 && !is_quoted;
        let out = String::from_utf8_lossy(&out);
        is_whole.then(|| out.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(text: &str) -> Vec<(String, String)> {
        Structure::parse(text).unwrap().fields
    }

    #[test]
    fn caps_of_gstreamer_can_be_parsed() {
        let s = Structure::parse(
            "video/x-raw(memory:DMABuf, meta:GstVideoOverlayComposition), format=(string)DMA_DRM, width=(int)321, \
             drm-format=(string)\"NV12:0x0\", framerate=(fraction)30/1, range=[ 1, 2 ], list=(int){ 3, 4 }, \
             streamheader=(buffer)< 0142, \"a,b\" >, nested=\"video/x-raw\\,\\ width\\=\\(int\\)3\\;\", empty=\"\"",
        )
        .unwrap();
        assert_eq!((s.name.as_str(), s.features.len()), ("video/x-raw", 2));
        assert_eq!(s.features[0], "memory:DMABuf");
        for (key, value) in [
            ("format", "DMA_DRM"),
            ("width", "321"),
            ("drm-format", "NV12:0x0"),
            ("framerate", "30/1"),
            ("range", "[ 1, 2 ]"),
            ("list", "{ 3, 4 }"),
            ("streamheader", "< 0142, a,b >"),
            ("nested", "video/x-raw, width=(int)3;"),
            ("empty", ""),
        ] {
            assert_eq!(s.get(key), Some(value), "{key}");
        }
        assert_eq!(s.get("height"), None);
        assert_eq!(fields("a/b,x=\"\\303\\251\\7z\";"), [("x".into(), "é\u{7}z".into())]);
        assert_eq!(fields(" a/b , x = ( int ) 3 , y=4"), [("x".into(), "3".into()), ("y".into(), "4".into())]);
    }

    #[test]
    fn malformed_text_is_refused_with_its_place() {
        for (text, what) in [
            ("", "the end where a media type"),
            (",", "',' where a media type"),
            ("a/b(", "the end where a feature"),
            ("a/b(c", "the end where ',' or ')'"),
            ("a/b c", "'c' where ',' or the end"),
            ("a/b, c", "'c' has no value"),
            ("a/b, c=(int", "the type of 'c' does not end"),
            ("a/b, c=\"d", "the value of 'c' does not end"),
            ("a/b, c=\\", "the value of 'c' does not end"),
            ("a/b, c={ 1, 2", "the value of 'c' does not end"),
            ("a/b, c=1 ], d=2", "the value of 'c' does not end"),
            ("a/b; c/d", "more than one structure"),
        ] {
            let e = Structure::parse(text).unwrap_err();
            assert!(e.starts_with(what), "{text}: {e}");
        }
    }

    proptest! {
        #[test]
        fn text_of_any_kind_is_read_or_refused(text in "[a-z/,;=(){}<>\\[\\]\"\\\\ 0-9é]{0,60}") {
            let _ = Structure::parse(&text);
        }

        #[test]
        fn quoted_string_comes_back(value in "[ -~é]{0,40}") {
            let quoted: String = value.chars().flat_map(|c| ['"', '\\'].contains(&c).then_some('\\').into_iter().chain([c])).collect();
            let text = format!("a/b, x=(string)\"{quoted}\", y=(int)1");
            prop_assert_eq!(fields(&text), [("x".to_owned(), value.trim_end().to_owned()), ("y".to_owned(), "1".to_owned())]);
        }
    }
}
