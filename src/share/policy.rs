//! [`Policy`] and [`Rate`]: which frames a subscriber gets.

use crate::error::{Error, ErrorKind};

/// The most frames that can wait under [`Policy::Fifo`].
const MAX_FIFO: u16 = 32;

/// What happens to new frames while a subscriber already holds its maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// The newest frame waits at the publisher and replaces an older one that waits there. Frames that were sent but
    /// not yet read are treated in the same way: the subscriber gives the program only the newest of these frames. It
    /// releases the others unseen, even if `hold` has room for them. This is the default.
    #[default]
    Latest,
    /// Up to this many frames wait in order, 1 to 32. The publisher drops further frames.
    Fifo(u16),
    /// The publisher waits until this subscriber has room, even at a format change, so the subscriber loses no frame.
    /// All other subscribers wait as well. A publisher grants this policy only with
    /// [`PublisherBuilder::allow_block`](super::PublisherBuilder::allow_block).
    Block,
}

impl Policy {
    /// Returns an error text if the number is out of range.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::Fifo(n) if !(1..=MAX_FIFO).contains(&n) => {
                Err(format!("policy fifo:{n}: 1 to {MAX_FIFO} frames can wait"))
            }
            _ => Ok(()),
        }
    }

    /// Returns how many frames may wait in the publisher: a part of the quota.
    pub(crate) fn depth(self) -> u32 {
        match self {
            Self::Fifo(n) => u32::from(n),
            Self::Latest | Self::Block => 1,
        }
    }
}

/// Parses `latest`, `fifo:N` or `block`.
impl std::str::FromStr for Policy {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let refused = |text: String| Error::new(ErrorKind::InvalidArgument, "parse", text);
        match s.split_once(':') {
            None if s == "latest" => Ok(Self::Latest),
            None if s == "block" => Ok(Self::Block),
            Some(("fifo", n)) => match n.parse() {
                Ok(n @ 1..=MAX_FIFO) => Ok(Self::Fifo(n)),
                _ => Err(refused(format!("policy fifo:{n}: 1 to {MAX_FIFO} frames can wait"))),
            },
            _ => Err(refused(format!("'{s}' is not a policy: use latest, fifo:N or block"))),
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

/// How many of the source's frames a subscriber wants. The publisher does not send the other frames, and does not wake
/// the subscriber for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rate {
    /// Every frame of the source. This is the default.
    #[default]
    All,
    /// Every n-th frame. The number is at least 1.
    EveryNth(u32),
    /// At most this many frames in 1,000 seconds, by the frames' timestamps: 7,500 means 7.5 frames a second. The
    /// number is at least 1.
    MilliFps(u32),
}

impl Rate {
    /// Returns an error text if the number is 0.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::EveryNth(0) => Err("every 0th frame: n is at least 1".into()),
            Self::MilliFps(0) => Err("0 frames in 1,000 seconds: at least 1".into()),
            _ => Ok(()),
        }
    }
}
