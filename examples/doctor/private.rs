//! Removes what identifies one device from a report: host name, serial numbers, network addresses.

use std::fs;
use std::path::Path;

/// The words of this machine that no report may have.
pub fn words() -> Vec<String> {
    let mut files: Vec<_> = [
        "/proc/sys/kernel/hostname",
        "/etc/machine-id",
        "/proc/device-tree/serial-number",
        "/sys/devices/soc0/serial_number",
    ]
    .map(Into::into)
    .into();
    for (folder, file) in [("/sys/class/net", "address"), ("/sys/bus/usb/devices", "serial")] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        files.extend(entries.map(|entry| entry.path().join(file)));
    }
    let read = |path: &std::path::PathBuf| fs::read_to_string(Path::new(path)).ok();
    files.iter().filter_map(read).map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned()).collect()
}

const REMOVED: &str = "(removed)";
/// Shorter words are parts of other names.
const LEAST: usize = 4;
/// Names that machines without a name of their own have.
const COMMON: [&str; 2] = ["localhost", "(none)"];

/// The text without these words, where they stand alone, and without addresses of network devices.
pub fn without(text: &str, words: &[String]) -> String {
    let mut out = text.to_owned();
    for word in words.iter().filter(|word| word.len() >= LEAST && !COMMON.contains(&word.as_str())) {
        let (mut kept, mut rest) = (String::new(), out.as_str());
        while let Some(at) = rest.find(word.as_str()) {
            let (before, after) = (&rest[..at], &rest[at + word.len()..]);
            let alone = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
            kept.push_str(before);
            kept.push_str(if alone { REMOVED } else { word });
            rest = after;
        }
        out = kept + rest;
    }
    addresses_removed(&out)
}

/// Addresses of network devices, which are six pairs of hexadecimal digits, and physical addresses of memory.
fn addresses_removed(text: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let length = network_address(rest).or_else(|| physical_address(rest));
        match length {
            Some(length) => {
                out.push_str(REMOVED);
                at += length;
            }
            None => {
                let c = rest.chars().next().unwrap_or_default();
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    out
}

fn network_address(text: &str) -> Option<usize> {
    let part = text.as_bytes().get(..17)?;
    let is_digit = |(i, b): (usize, &u8)| if i % 3 == 2 { *b == b':' } else { b.is_ascii_hexdigit() };
    part.iter().enumerate().all(is_digit).then_some(part.len())
}

fn physical_address(text: &str) -> Option<usize> {
    let digits = text.strip_prefix("0x")?.bytes().take_while(u8::is_ascii_hexdigit).count();
    // Pixels are shorter, and numbers of controls begin with zeros.
    (digits >= 7 && !text.starts_with("0x0")).then_some(2 + digits)
}
