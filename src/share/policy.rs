//! What a subscriber may wish for in HELLO.

/// What becomes of frames that a subscriber has no credit for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// The newest waits and replaces an older one that waits. Nothing blocks; age is bounded by one frame.
    #[default]
    Latest,
    /// Up to so many wait in order (1 to 32); further ones are dropped.
    Fifo(u16),
    /// The publisher is told "not ready" until this subscriber has room, also at a format change. A stopped one stops
    /// the stream.
    Block,
}

impl Policy {
    /// Frames that may wait in the publisher: part of the quota.
    pub(crate) fn depth(self) -> u32 {
        match self {
            Self::Fifo(n) => u32::from(n),
            Self::Latest | Self::Block => 1,
        }
    }
}

/// `latest`, `fifo:N` or `block`.
impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "latest" => Ok(Self::Latest),
            None if s == "block" => Ok(Self::Block),
            Some(("fifo", n)) => match n.parse() {
                Ok(n @ 1..=32) => Ok(Self::Fifo(n)),
                _ => Err(format!("'{n}' frames cannot wait; 1 to 32 are possible")),
            },
            _ => Err(format!("'{s}' is none of latest, fifo:N, block")),
        }
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Fifo(n) => write!(f, "fifo:{n}"),
            Self::Block => f.write_str("block"),
        }
    }
}

/// How many of the source's frames a subscriber wants. What it does not want costs it nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rate {
    /// Every frame.
    #[default]
    All,
    /// Every n-th frame, n at least 1.
    EveryNth(u32),
    /// At most so many frames in 1,000 seconds, by the frames' timestamps: 7,500 is 7.5 frames a second.
    MilliFps(u32),
}
