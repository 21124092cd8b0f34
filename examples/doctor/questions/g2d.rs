//! Answers that are in libg2d's report.

use super::super::common::Result;
use super::super::json::Json;
use super::{reply, unasked, Reply};

/// A name and an answer of a list of trials.
fn trial<'a>(report: &'a Json, list: &str, name: &str) -> Option<&'a Json> {
    report.get("survey").get(list).items().iter().find(|item| item.get("name").text() == Some(name))
}

fn answer(trial: &Json) -> &str {
    trial.get("answer").text().unwrap_or_default()
}

fn works(trial: &Json) -> bool {
    *trial.get("works") == Json::Bool(true)
}

pub fn probes(report: &Json) -> Result<Reply> {
    let votes: Vec<(&str, &str, &str)> = report
        .get("votes")
        .items()
        .iter()
        .map(|vote| {
            let text = |name: &str| vote.get(name).text();
            (text("probe").unwrap_or_default(), text("abi").unwrap_or("no vote"), text("why").unwrap_or_default())
        })
        .collect();
    let text: Vec<String> = votes.iter().map(|(probe, abi, why)| format!("{probe}: {abi} ({why})")).collect();
    let found = report.get("abi").text();
    let value = match found {
        _ if *report.get("abi_forced") == Json::Bool(true) => "overridden",
        None => "no",
        Some(_) if votes.iter().any(|(_, abi, _)| *abi == "no vote") => "yes, with missing votes",
        Some(_) => "yes",
    };
    reply(value, format!("{value}, {}: {}", found.unwrap_or("no layout"), text.join("; ")))
}

pub fn symbols(report: &Json) -> Result<Reply> {
    let missing = report.get("symbols").members().iter().filter(|(_, present)| *present == Json::Bool(false));
    let names: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    let version = report.get("version").text().unwrap_or("unknown");
    reply(&names, format!("missing: {names}; version: {version}"))
}

pub fn blit_dmabuf(report: &Json) -> Result<Reply> {
    match trial(report, "imports", "g2d_blit_dmabuf") {
        Some(trial) => reply(if works(trial) { "works" } else { "refused" }, answer(trial)),
        None => unasked("there was no trial"),
    }
}

pub fn from_fd(report: &Json) -> Result<Reply> {
    let phys = trial(report, "imports", "DMA_BUF_IOCTL_PHYS");
    let Some(from_fd) = trial(report, "imports", "g2d_buf_from_fd") else {
        return unasked("no CMA heap was found");
    };
    if !works(from_fd) {
        return reply("refused", answer(from_fd));
    }
    // The addresses themselves are not for a report.
    match phys.filter(|phys| works(phys)) {
        Some(phys) if answer(phys) == answer(from_fd) => reply("yes", "yes: as DMA_BUF_IOCTL_PHYS says"),
        Some(_) => reply("no", "another one than DMA_BUF_IOCTL_PHYS says"),
        None => reply("unknown", "it gives an address, and the kernel does not have DMA_BUF_IOCTL_PHYS"),
    }
}

pub fn nv12(report: &Json) -> Result<Reply> {
    let text = |name: &str| report.get(name).text().unwrap_or_default();
    reply(text("nv12_target"), format!("{} ({})", text("nv12_target"), text("nv12_why")))
}

pub fn matrices(report: &Json) -> Result<Reply> {
    let caps = report.get("survey").get("caps").items();
    if caps.is_empty() {
        return unasked("there was no trial");
    }
    let names = |taken: bool| {
        let names = caps.iter().filter(|cap| works(cap) == taken).filter_map(|cap| cap.get("name").text());
        names.collect::<Vec<_>>().join(" ")
    };
    let refused = Some(names(false)).filter(|names| !names.is_empty());
    reply(&names(true), format!("takes {}; refuses {}", names(true), refused.as_deref().unwrap_or("none")))
}

pub fn formats(report: &Json) -> Result<Reply> {
    let formats = report.get("survey").get("formats").items();
    if formats.is_empty() {
        return unasked("g2d_alloc is missing");
    }
    let mut differ = Vec::new();
    for format in formats {
        for side in ["source", "target"] {
            let trial = format.get(side);
            let rule = trial.get("rule").text().unwrap_or_default();
            if (rule == "yes" && !works(trial)) || (rule == "no" && works(trial)) {
                differ.push(format!("{} as {side}", format.get("fourcc").text().unwrap_or_default()));
            }
        }
    }
    let text = if differ.is_empty() { "none".to_owned() } else { differ.join(", ") };
    reply(&text, text.clone())
}

pub fn fence(report: &Json) -> Result<Reply> {
    match report.get("survey").get("fence") {
        Json::Bool(true) => reply("yes", "yes"),
        Json::Bool(false) => reply("no", "no"),
        _ => unasked("there was no trial"),
    }
}
