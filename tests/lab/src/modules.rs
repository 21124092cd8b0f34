//! Which drivers a guest loads at start, and with which parameters.

/// Two capture and output pairs: the first single-planar, the second multi-planar. `cache_hints`
/// lets buffers ask to be left uncached-synchronized (V4L2_MEMORY_FLAG_NON_COHERENT).
const DEFAULTS: [&str; 5] =
    ["vivid n_devs=2 node_types=0x101,0x101 multiplanar=1,2 cache_hints=1,1", "vim2m", "vicodec", "vkms", "vgem"];

/// The `modprobe` lines for the guest: the defaults, then `own` modules by name, where each of
/// `overrides` ("name parameters…", several with `;`) replaces the line of the same module or
/// adds one.
pub fn load_lines(own: &[String], overrides: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = DEFAULTS.iter().map(|l| l.to_string()).collect();
    lines.extend(own.iter().cloned());
    for wish in overrides.iter().flat_map(|o| o.split(';')) {
        let wish = wish.split_whitespace().collect::<Vec<_>>().join(" ");
        if wish.is_empty() {
            continue;
        }
        match lines.iter_mut().find(|l| name(l) == name(&wish)) {
            Some(line) => *line = wish,
            None => lines.push(wish),
        }
    }
    lines
}

pub fn name(line: &str) -> &str {
    line.split(' ').next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_replace_and_add() {
        let lines = load_lines(&["fakecodec".into()], &["vivid  multiplanar=2; vimc".into(), "vgem".into()]);
        assert_eq!(lines[0], "vivid multiplanar=2");
        assert_eq!(lines.iter().filter(|l| name(l) == "vgem").count(), 1);
        assert!(lines.contains(&"fakecodec".to_string()));
        assert_eq!(lines.last().unwrap(), "vimc");
    }
}
