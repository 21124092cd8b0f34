//! The reasons why a publisher ends a connection: the numbers of the message BYE.

/// The reason why a publisher refuses a subscriber or ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The two sides have no common protocol version.
    Version,
    /// With this subscriber's quota, the source would not have enough buffers left.
    Capacity,
    /// The publisher's settings refused the subscriber: `accept_if`, `max_subscribers`, `max_per_user` or `max_hold` of
    /// [`PublisherBuilder`](crate::share::PublisherBuilder).
    Denied,
    /// The subscriber sent a message that the protocol forbids.
    Protocol,
    /// The subscriber held a frame for longer than the publisher's lease deadline.
    LeaseExpired,
    /// The publisher is closing.
    Closing,
    /// The subscriber did not send HELLO in time.
    Silent,
    /// The subscriber asked for [`Policy::Block`](crate::share::Policy::Block), which this publisher does not grant.
    BlockDenied,
    /// The subscriber has [`Policy::Block`](crate::share::Policy::Block) and stopped the stream for longer than the
    /// publisher allows.
    Stalled,
    /// A reason that this version of the crate does not know, with its number in the protocol.
    Other(u32),
}

impl Reason {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Capacity => 2,
            Self::Denied => 3,
            Self::Protocol => 4,
            Self::LeaseExpired => 5,
            Self::Closing => 6,
            Self::Silent => 7,
            Self::BlockDenied => 8,
            Self::Stalled => 9,
            Self::Other(code) => code,
        }
    }

    pub(crate) fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::Capacity,
            3 => Self::Denied,
            4 => Self::Protocol,
            5 => Self::LeaseExpired,
            6 => Self::Closing,
            7 => Self::Silent,
            8 => Self::BlockDenied,
            9 => Self::Stalled,
            other => Self::Other(other),
        }
    }
}

impl Reason {
    /// Returns `true` if the same request may succeed later: for example, after another subscriber has left, or after
    /// the publisher has restarted. [`Denied`](Self::Denied) counts as permanent, even if a connection limit was the
    /// cause.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Capacity | Self::LeaseExpired | Self::Closing | Self::Silent | Self::Stalled)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Version => "no common protocol version",
            Self::Capacity => "the pool has no room for another subscriber",
            Self::Denied => "access denied or too many connections",
            Self::Protocol => "a message that the protocol forbids",
            Self::LeaseExpired => "a lease was held beyond its deadline",
            Self::Closing => "the publisher is closing",
            Self::Silent => "no HELLO in time",
            Self::BlockDenied => "this publisher does not grant policy block; ask for latest or fifo",
            Self::Stalled => "the stream was held up for longer than the publisher allows",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}
