//! Why a connection ends: the numbers of BYE.

/// Why a publisher turns a subscriber down or ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No common protocol version.
    Version,
    /// The sum of all quotas would leave the source without buffers.
    Capacity,
    /// The accept hook or a connection limit said no.
    Denied,
    /// A message that the protocol forbids.
    Protocol,
    /// A lease was held beyond its deadline.
    LeaseExpired,
    /// The publisher is closing.
    Closing,
    /// HELLO did not come in time.
    Silent,
    /// A number that this version does not know.
    Other(u32),
}

impl Reason {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Capacity => 2,
            Self::Denied => 3,
            Self::Protocol => 4,
            Self::LeaseExpired => 5,
            Self::Closing => 6,
            Self::Silent => 7,
            Self::Other(code) => code,
        }
    }

    pub(super) fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::Capacity,
            3 => Self::Denied,
            4 => Self::Protocol,
            5 => Self::LeaseExpired,
            6 => Self::Closing,
            7 => Self::Silent,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Version => "no common protocol version",
            Self::Capacity => "the pool has no room for another quota",
            Self::Denied => "access denied or too many connections",
            Self::Protocol => "a message that the protocol forbids",
            Self::LeaseExpired => "a lease was held beyond its deadline",
            Self::Closing => "the publisher is closing",
            Self::Silent => "no HELLO in time",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}
