//! The messages between publisher and subscriber, and their limits.

use crate::error::Reason;
use crate::format::Layout;
use crate::frame::{BufferBudget, CpuReads, FrameMeta};
use crate::share::policy::{Policy, Rate};

/// First field of HELLO: `FLSP` in little-endian order.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"FLSP");
/// The protocol version that this crate speaks.
pub(crate) const VERSION: u16 = 1;
/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: usize = 256;
/// The most releases in one RELEASE.
pub(crate) const MAX_RELEASES: usize = 8;
/// The most slots of a shared pool: acknowledgements are a 64-bit mask.
pub(crate) const MAX_SLOTS: usize = 64;

/// The request of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
    /// Frames that the subscriber leases at a time.
    pub(crate) hold: u16,
    pub(crate) policy: Policy,
    pub(crate) rate: Rate,
    /// The subscriber releases frames while its devices still read them, and has attached their fences.
    pub(crate) fences: bool,
}

/// The publisher's answer to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) version: u16,
    /// The most frames that this subscriber can hold or have waiting.
    pub(crate) quota: u16,
    /// A random number for each start of a publisher.
    pub(crate) epoch: u64,
    /// The time after which a lease is revoked; 0: never.
    pub(crate) lease_deadline_ms: u32,
    /// The publisher waits for fences of the subscriber's devices. It grants this only if HELLO asks for it.
    pub(crate) fences: bool,
}

/// A pool with its number and layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) pool: u32,
    pub(crate) slots: u16,
    pub(crate) cpu_reads: CpuReads,
    /// Peers can map the descriptors for writing, because the publisher could not make them read-only.
    pub(crate) writable: bool,
    pub(crate) layout: Layout,
}

/// A lease of one slot. A generation is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeaseId {
    pub(crate) pool: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

/// A slot of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) pool: u32,
    pub(crate) slot: u32,
}

/// Up to [`MAX_RELEASES`] releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Releases {
    leases: [LeaseId; MAX_RELEASES],
    count: usize,
}

impl Releases {
    /// Takes the first [`MAX_RELEASES`] of `leases`.
    pub(crate) fn of(leases: &[LeaseId]) -> Self {
        let mut all = [LeaseId { pool: 0, slot: 0, generation: 0 }; MAX_RELEASES];
        let count = leases.len().min(MAX_RELEASES);
        all[..count].copy_from_slice(&leases[..count]);
        Self { leases: all, count }
    }

    /// Adds a lease, if there is room.
    pub(super) fn push(&mut self, lease: LeaseId) {
        if let Some(to) = self.leases.get_mut(self.count) {
            *to = lease;
            self.count += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[LeaseId] {
        &self.leases[..self.count]
    }
}

/// Why a connection ends, with the numbers of a refusal for lack of buffers (zero for other reasons).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bye {
    pub(crate) reason: Reason,
    /// In this order: the pool's buffers, those that subscribers cannot have, those granted to others, those asked for.
    pub(crate) slots: u16,
    pub(crate) reserve: u16,
    pub(crate) granted: u16,
    pub(crate) wanted: u16,
}

impl From<Reason> for Bye {
    fn from(reason: Reason) -> Self {
        Self { reason, slots: 0, reserve: 0, granted: 0, wanted: 0 }
    }
}

impl Bye {
    /// Returns the reason in words, with its numbers if it has any.
    pub(crate) fn text(&self) -> String {
        let Self { reason, slots, reserve, granted, wanted } = *self;
        if slots == 0 {
            return reason.to_string();
        }
        let [slots, reserve, granted, wanted] = [slots, reserve, granted, wanted].map(usize::from);
        format!("{reason}: {}", BufferBudget::explain(slots, reserve, granted, wanted))
    }
}

/// The messages of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToPublisher {
    Hello(Hello),
    BufferOk(SlotId),
    BufferFailed(SlotId),
    Release(Releases),
    Retired { pool: u32 },
}

/// The messages of a publisher.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // Lives on the stack for one call.
pub(crate) enum ToSubscriber {
    Welcome(Welcome),
    Format(Format),
    /// Has one descriptor per memory plane.
    Buffer(SlotId),
    Frame(LeaseId, FrameMeta),
    Revoke(LeaseId),
    Retire {
        pool: u32,
    },
    End,
    /// Frames that are newer than this generation, the last that was sent, wait. If that is unread, it is out of date.
    Newer {
        generation: u64,
    },
    Bye(Bye),
}
