//! Base64 (RFC 4648, 4): in session descriptions, in passwords, and in requests through HTTP.

/// Encodes bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |w, &b| w << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let letter = char::from(LETTERS[(word >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= group.len() { letter } else { '=' });
        }
    }
    text
}

/// Decodes texts that follow each other and arrive in pieces. Each text may end with padding.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The bits of a group of four letters that is not complete.
    word: u32,
    /// How many letters it has, with its padding.
    letters: usize,
    padding: usize,
}

impl Decoder {
    /// Returns the bytes of all groups that are complete. Ignores white space. Returns `None` if the piece is not
    /// Base64.
    pub(super) fn decode(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for &letter in piece {
            let value = match letter {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'=' if self.letters >= 2 => {
                    self.padding += 1;
                    0
                }
                _ if self.padding > 0 => return None,
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            self.word = self.word << 6 | u32::from(value);
            self.letters += 1;
            if self.letters == 4 {
                bytes.extend_from_slice(&self.word.to_be_bytes()[1..4 - self.padding]);
                *self = Self::default();
            }
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encode_and_decode_the_examples_of_rfc_4648() {
        let examples = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in examples {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(Decoder::default().decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
    }

    #[test]
    fn decode_refuses_what_is_not_base64() {
        for text in ["Zg=a", "=", "Z=", "Zm9v=", "Zg===", "Zm-v", "Zm_v", "Zm9v\0", "Z\u{e9}"] {
            assert_eq!(Decoder::default().decode(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn decode_gives_the_same_bytes_for_pieces_of_any_size(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..6),
            pieces in proptest::collection::vec(1..9usize, 1..9),
        ) {
            let text = texts.iter().map(|bytes| encode(bytes)).collect::<Vec<_>>().join("\r\n");
            let (mut decoder, mut decoded, mut rest) = (Decoder::default(), Vec::new(), text.as_bytes());
            for len in pieces.iter().cycle() {
                let (piece, more) = rest.split_at(rest.len().min(*len));
                decoded.extend(decoder.decode(piece).unwrap());
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(decoded, texts.concat());
        }
    }
}
