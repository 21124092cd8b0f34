//! The set-ups that are compared. The guest's script `before_after` has their commands.

/// Where a contender is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// At every size, with every number of consumers.
    All,
    /// At the first size, with every number of consumers.
    FirstSize,
    /// At the first size with the middle number of consumers: what one setting costs.
    One,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Contender {
    /// In the script and on the command line.
    pub name: &'static str,
    pub title: &'static str,
    pub scope: Scope,
    /// A line of the chart: color in it.
    pub color: Option<&'static str>,
}

/// The one that the others are compared with.
pub const OURS: &str = "node";

pub const ALL: [Contender; 9] = [
    Contender {
        name: "as-reported",
        title: "as reported: shmsink, an encode in each consumer",
        scope: Scope::All,
        color: Some("#d1495b"),
    },
    Contender { name: "as-reported-tuned", title: "as reported, tuned", scope: Scope::All, color: Some("#e08e45") },
    Contender { name: "gst-tee", title: "GStreamer, one encode, tee", scope: Scope::All, color: Some("#8f7ad3") },
    Contender {
        name: "gst-multiudp",
        title: "GStreamer, one encode, multiudpsink",
        scope: Scope::All,
        color: Some("#3f88c5"),
    },
    Contender { name: "gst-unixfd", title: "GStreamer, unixfd, one encode", scope: Scope::FirstSize, color: None },
    Contender { name: OURS, title: "framelease: node", scope: Scope::All, color: Some("#2a9d6f") },
    Contender { name: "node-raw", title: "framelease: node and raw subscribers", scope: Scope::All, color: None },
    Contender {
        name: "as-reported-no-colors",
        title: "as reported, caps without colors",
        scope: Scope::One,
        color: None,
    },
    Contender {
        name: "gst-tee-defaults",
        title: "GStreamer, one encode, tee, not tuned",
        scope: Scope::One,
        color: None,
    },
];

pub fn title(name: &str) -> &'static str {
    ALL.iter().find(|c| c.name == name).map_or("", |c| c.title)
}
