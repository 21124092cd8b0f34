//! The messages of the share protocol, version 1: `docs/protocol.md` in code. Bytes in, values out; no descriptor.
//!
//! Fixed little-endian layouts over SOCK_SEQPACKET. A message may be longer than this version knows: the rest is
//! ignored. One that is shorter, or holds an impossible value, is a [`Malformed`].

use crate::format::{ColorSpace, Colorimetry, Encoding, FourCc, Layout, Plane, Range, Size, Transfer, MAX_PLANES};
use crate::frame::{CpuReads, FrameFlags, FrameMeta, Payload};

/// First field of HELLO: `FLSP` in little-endian order.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"FLSP");
/// The protocol version that this crate speaks.
pub(crate) const VERSION: u16 = 1;
/// No message is longer.
pub(crate) const MAX_MESSAGE: usize = 256;
/// The most releases in one RELEASE.
pub(crate) const MAX_RELEASES: usize = 8;
/// The most slots of a shared pool: acknowledgements are a 64-bit mask.
pub(crate) const MAX_SLOTS: usize = 64;
/// A receiver that does not know the type of a message with this flag must end the connection.
const CRITICAL: u16 = 1;

/// Message types. Below 16: subscriber to publisher.
mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const BUFFER_OK: u16 = 2;
    pub(super) const BUFFER_FAILED: u16 = 3;
    pub(super) const RELEASE: u16 = 4;
    pub(super) const RETIRED: u16 = 5;
    pub(super) const WELCOME: u16 = 16;
    pub(super) const FORMAT: u16 = 17;
    pub(super) const BUFFER: u16 = 18;
    pub(super) const FRAME: u16 = 19;
    pub(super) const REVOKE: u16 = 20;
    pub(super) const RETIRE: u16 = 21;
    pub(super) const END: u16 = 22;
    pub(super) const BYE: u16 = 23;
}

/// What cannot be a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the message ends within its fields")]
    Short,
    #[error("the message is longer than {MAX_MESSAGE} bytes")]
    Long,
    #[error("{0} has an impossible value")]
    Field(&'static str),
    #[error("message type {0} is unknown and critical")]
    UnknownCritical(u16),
}

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
    fn code(self) -> u32 {
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

    fn from_code(code: u32) -> Self {
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

/// What a subscriber asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
    /// Frames that the subscriber leases at a time.
    pub(crate) hold: u16,
    pub(crate) policy: Policy,
    pub(crate) rate: Rate,
}

/// The publisher's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) version: u16,
    /// Frames sent and not released plus frames that wait: the most this subscriber can tie up.
    pub(crate) quota: u16,
    /// Random for each start of a publisher.
    pub(crate) epoch: u64,
    /// After so long a lease is revoked; 0: never.
    pub(crate) lease_deadline_ms: u32,
}

/// A pool generation and its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) pool: u32,
    pub(crate) slots: u16,
    pub(crate) cpu_reads: CpuReads,
    /// The descriptors can be mapped for writing: the publisher could not make them read-only.
    pub(crate) writable: bool,
    pub(crate) layout: Layout,
}

/// One slot's lease: the generation is never reused.
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
    /// The first [`MAX_RELEASES`] of `leases`.
    pub(crate) fn of(leases: &[LeaseId]) -> Self {
        let mut all = [LeaseId { pool: 0, slot: 0, generation: 0 }; MAX_RELEASES];
        let count = leases.len().min(MAX_RELEASES);
        all[..count].copy_from_slice(&leases[..count]);
        Self { leases: all, count }
    }

    pub(crate) fn as_slice(&self) -> &[LeaseId] {
        &self.leases[..self.count]
    }
}

/// What a subscriber says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToPublisher {
    Hello(Hello),
    BufferOk(SlotId),
    BufferFailed(SlotId),
    Release(Releases),
    Retired { pool: u32 },
}

/// What a publisher says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // Lives on the stack for one call.
pub(crate) enum ToSubscriber {
    Welcome(Welcome),
    Format(Format),
    /// Comes with one descriptor per memory plane.
    Buffer(SlotId),
    Frame(LeaseId, FrameMeta),
    Revoke(LeaseId),
    Retire {
        pool: u32,
    },
    End,
    Bye(Reason),
}

/// An encoded message.
#[derive(Clone, Copy)]
pub(crate) struct Encoded {
    bytes: [u8; MAX_MESSAGE],
    len: usize,
}

impl Encoded {
    fn new(kind: u16, flags: u16) -> Self {
        Self { bytes: [0; MAX_MESSAGE], len: 0 }.u16(kind).u16(flags).u32(0)
    }

    fn put(mut self, field: &[u8]) -> Self {
        if let Some(to) = self.bytes.get_mut(self.len..self.len + field.len()) {
            to.copy_from_slice(field);
            self.len += field.len();
        }
        self
    }

    fn u8(self, v: u8) -> Self {
        self.put(&[v])
    }

    fn u16(self, v: u16) -> Self {
        self.put(&v.to_le_bytes())
    }

    fn u32(self, v: u32) -> Self {
        self.put(&v.to_le_bytes())
    }

    fn u64(self, v: u64) -> Self {
        self.put(&v.to_le_bytes())
    }

    fn slot(self, id: SlotId) -> Self {
        self.u32(id.pool).u32(id.slot)
    }

    fn lease(self, id: LeaseId) -> Self {
        self.u32(id.pool).u32(id.slot).u64(id.generation)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Takes fields off the front of a message.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        if self.0.len() < N {
            return Err(Malformed::Short);
        }
        let (field, rest) = self.0.split_at(N);
        self.0 = rest;
        field.try_into().map_err(|_| Malformed::Short)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[v]| v)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn slot(&mut self) -> Result<SlotId, Malformed> {
        let id = SlotId { pool: self.u32()?, slot: self.u32()? };
        check(id.slot < MAX_SLOTS as u32, "slot")?;
        Ok(id)
    }

    fn lease(&mut self) -> Result<LeaseId, Malformed> {
        let SlotId { pool, slot } = self.slot()?;
        Ok(LeaseId { pool, slot, generation: self.u64()? })
    }
}

fn check(ok: bool, field: &'static str) -> Result<(), Malformed> {
    if ok {
        Ok(())
    } else {
        Err(Malformed::Field(field))
    }
}

/// Splits the header off: type, flags, fields.
fn open(message: &[u8]) -> Result<(u16, u16, Fields<'_>), Malformed> {
    if message.len() > MAX_MESSAGE {
        return Err(Malformed::Long);
    }
    let mut fields = Fields(message);
    let (kind, flags) = (fields.u16()?, fields.u16()?);
    fields.u32()?;
    Ok((kind, flags, fields))
}

fn unknown<T>(kind: u16, flags: u16) -> Result<Option<T>, Malformed> {
    if flags & CRITICAL != 0 {
        return Err(Malformed::UnknownCritical(kind));
    }
    Ok(None)
}

impl ToPublisher {
    pub(crate) fn encode(&self) -> Encoded {
        match *self {
            Self::Hello(h) => {
                let (policy, depth) = match h.policy {
                    Policy::Latest => (0, 1),
                    Policy::Fifo(n) => (1, n),
                    Policy::Block => (2, 1),
                };
                let (nth, milli_fps) = match h.rate {
                    Rate::All => (1, 0),
                    Rate::EveryNth(n) => (n, 0),
                    Rate::MilliFps(f) => (1, f),
                };
                Encoded::new(kind::HELLO, CRITICAL)
                    .u32(MAGIC)
                    .u16(h.version_min)
                    .u16(h.version_max)
                    .u16(h.hold)
                    .u16(policy)
                    .u16(depth)
                    .u16(0)
                    .u32(nth)
                    .u32(milli_fps)
            }
            Self::BufferOk(id) => Encoded::new(kind::BUFFER_OK, CRITICAL).slot(id),
            Self::BufferFailed(id) => Encoded::new(kind::BUFFER_FAILED, CRITICAL).slot(id),
            Self::Release(r) => r.as_slice().iter().fold(Encoded::new(kind::RELEASE, CRITICAL), |m, &id| m.lease(id)),
            Self::Retired { pool } => Encoded::new(kind::RETIRED, CRITICAL).u32(pool),
        }
    }

    /// `None` for an unknown message that may be skipped.
    pub(crate) fn decode(message: &[u8]) -> Result<Option<Self>, Malformed> {
        let (kind, flags, mut f) = open(message)?;
        Ok(Some(match kind {
            kind::HELLO => {
                check(f.u32()? == MAGIC, "magic")?;
                let (version_min, version_max) = (f.u16()?, f.u16()?);
                check(version_min <= version_max, "version")?;
                let hold = f.u16()?;
                check((1..=MAX_SLOTS as u16).contains(&hold), "hold")?;
                let (policy, depth) = (f.u16()?, f.u16()?);
                f.u16()?;
                let policy = match policy {
                    0 => Policy::Latest,
                    1 if (1..=32).contains(&depth) => Policy::Fifo(depth),
                    2 => Policy::Block,
                    _ => return Err(Malformed::Field("policy")),
                };
                let rate = match (f.u32()?, f.u32()?) {
                    (1, 0) => Rate::All,
                    (nth @ 1.., 0) => Rate::EveryNth(nth),
                    (1, fps) => Rate::MilliFps(fps),
                    _ => return Err(Malformed::Field("rate")),
                };
                Self::Hello(Hello { version_min, version_max, hold, policy, rate })
            }
            kind::BUFFER_OK => Self::BufferOk(f.slot()?),
            kind::BUFFER_FAILED => Self::BufferFailed(f.slot()?),
            kind::RELEASE => {
                let mut leases = Releases::of(&[]);
                check(!f.0.is_empty() && f.0.len() % 16 == 0 && f.0.len() / 16 <= MAX_RELEASES, "releases")?;
                while !f.0.is_empty() {
                    leases.leases[leases.count] = f.lease()?;
                    leases.count += 1;
                }
                Self::Release(leases)
            }
            kind::RETIRED => Self::Retired { pool: f.u32()? },
            _ => return unknown(kind, flags),
        }))
    }
}

impl ToSubscriber {
    pub(crate) fn encode(&self) -> Encoded {
        match *self {
            Self::Welcome(w) => {
                Encoded::new(kind::WELCOME, CRITICAL).u16(w.version).u16(w.quota).u32(w.lease_deadline_ms).u64(w.epoch)
            }
            Self::Format(f) => encode_format(&f),
            Self::Buffer(id) => Encoded::new(kind::BUFFER, CRITICAL).slot(id),
            Self::Frame(id, meta) => {
                let m = Encoded::new(kind::FRAME, CRITICAL)
                    .lease(id)
                    .u64(meta.sequence)
                    .u64(meta.timestamp_ns)
                    .u64(meta.published_ns)
                    .u64(meta.dropped)
                    .u32(meta.lost)
                    .u32(meta.flags.bits());
                meta.payload.iter().fold(m, |m, p| m.u32(p.offset_bytes).u32(p.bytes))
            }
            Self::Revoke(id) => Encoded::new(kind::REVOKE, CRITICAL).lease(id),
            Self::Retire { pool } => Encoded::new(kind::RETIRE, CRITICAL).u32(pool),
            Self::End => Encoded::new(kind::END, CRITICAL),
            Self::Bye(reason) => Encoded::new(kind::BYE, CRITICAL).u32(reason.code()),
        }
    }

    /// `None` for an unknown message that may be skipped.
    pub(crate) fn decode(message: &[u8]) -> Result<Option<Self>, Malformed> {
        let (kind, flags, mut f) = open(message)?;
        Ok(Some(match kind {
            kind::WELCOME => {
                let (version, quota) = (f.u16()?, f.u16()?);
                Self::Welcome(Welcome { version, quota, lease_deadline_ms: f.u32()?, epoch: f.u64()? })
            }
            kind::FORMAT => Self::Format(decode_format(&mut f)?),
            kind::BUFFER => Self::Buffer(f.slot()?),
            kind::FRAME => {
                let id = f.lease()?;
                let mut meta = FrameMeta {
                    sequence: f.u64()?,
                    timestamp_ns: f.u64()?,
                    published_ns: f.u64()?,
                    dropped: f.u64()?,
                    lost: f.u32()?,
                    flags: FrameFlags::from_bits_truncate(f.u32()?),
                    ..FrameMeta::default()
                };
                for p in &mut meta.payload {
                    *p = Payload { offset_bytes: f.u32()?, bytes: f.u32()? };
                }
                Self::Frame(id, meta)
            }
            kind::REVOKE => Self::Revoke(f.lease()?),
            kind::RETIRE => Self::Retire { pool: f.u32()? },
            kind::END => Self::End,
            kind::BYE => Self::Bye(Reason::from_code(f.u32()?)),
            _ => return unknown(kind, flags),
        }))
    }
}

fn encode_format(f: &Format) -> Encoded {
    let (layout, colour) = (&f.layout, f.layout.colorimetry());
    let cpu_reads = match f.cpu_reads {
        CpuReads::Unknown => 0,
        CpuReads::Cached => 1,
        CpuReads::Uncached => 2,
    };
    let mut m = Encoded::new(kind::FORMAT, CRITICAL)
        .u32(f.pool)
        .u16(f.slots)
        .u8(cpu_reads)
        .u8(u8::from(f.writable))
        .u32(layout.fourcc().0)
        .u32(layout.size().width)
        .u32(layout.size().height)
        // The DRM format modifier: V4L2 formats without one of their own are linear.
        .u64(0)
        .u32(colour.space.to_v4l2())
        .u32(colour.encoding.to_v4l2())
        .u32(colour.range.to_v4l2())
        .u32(colour.transfer.to_v4l2())
        .u16(layout.memory_bytes().len() as u16)
        .u16(layout.planes().len() as u16);
    for i in 0..MAX_PLANES {
        m = m.u32(layout.memory_bytes().get(i).copied().unwrap_or(0));
    }
    for i in 0..MAX_PLANES {
        let p = layout.planes().get(i).copied().unwrap_or_default();
        m = m.u32(p.memory).u32(p.offset_bytes).u32(p.stride_bytes);
    }
    m
}

fn decode_format(f: &mut Fields<'_>) -> Result<Format, Malformed> {
    let (pool, slots) = (f.u32()?, f.u16()?);
    check((1..=MAX_SLOTS as u16).contains(&slots), "slots")?;
    let cpu_reads = match f.u8()? {
        1 => CpuReads::Cached,
        2 => CpuReads::Uncached,
        _ => CpuReads::Unknown,
    };
    let writable = f.u8()? != 0;
    let (fourcc, size) = (FourCc(f.u32()?), Size::new(f.u32()?, f.u32()?));
    check(f.u64()? == 0, "modifier")?;
    let colorimetry = Colorimetry {
        space: ColorSpace::from_v4l2(f.u32()?),
        encoding: Encoding::from_v4l2(f.u32()?),
        range: Range::from_v4l2(f.u32()?),
        transfer: Transfer::from_v4l2(f.u32()?),
    };
    let (memory_count, plane_count) = (usize::from(f.u16()?), usize::from(f.u16()?));
    check((1..=MAX_PLANES).contains(&memory_count), "memory planes")?;
    check(plane_count <= MAX_PLANES, "planes")?;
    let mut memory = [0; MAX_PLANES];
    for bytes in &mut memory {
        *bytes = f.u32()?;
    }
    let mut planes = [Plane::default(); MAX_PLANES];
    for p in &mut planes {
        *p = Plane { memory: f.u32()?, offset_bytes: f.u32()?, stride_bytes: f.u32()? };
    }
    let layout = Layout::from_planes(fourcc, size, &memory[..memory_count], &planes[..plane_count])
        .map_err(|_| Malformed::Field("layout"))?
        .with_colorimetry(colorimetry);
    Ok(Format { pool, slots, cpu_reads, writable, layout })
}

// FORMAT and a full RELEASE, the longest messages, fit.
const _: () = assert!(72 + MAX_PLANES * 12 <= MAX_MESSAGE && 8 + MAX_RELEASES * 16 <= MAX_MESSAGE);

/// Any bytes as a message of either side: what is understood is written again, and then understood as the same. Whether
/// it was understood. For `tests/fuzz` and `benches/instructions.rs` alone.
#[doc(hidden)]
pub fn reads_as_written(message: &[u8]) -> bool {
    if let Ok(Some(said)) = ToPublisher::decode(message) {
        assert_eq!(ToPublisher::decode(said.encode().as_bytes()), Ok(Some(said)));
        return true;
    }
    let Ok(Some(said)) = ToSubscriber::decode(message) else { return false };
    assert_eq!(ToSubscriber::decode(said.encode().as_bytes()), Ok(Some(said)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> LeaseId {
        LeaseId { pool: 3, slot: 63, generation: u64::MAX }
    }

    fn to_publisher() -> Vec<ToPublisher> {
        let hello = |policy, rate| ToPublisher::Hello(Hello { version_min: 1, version_max: 4, hold: 2, policy, rate });
        vec![
            hello(Policy::Latest, Rate::All),
            hello(Policy::Fifo(32), Rate::EveryNth(3)),
            hello(Policy::Block, Rate::MilliFps(7_500)),
            ToPublisher::BufferOk(SlotId { pool: 1, slot: 2 }),
            ToPublisher::BufferFailed(SlotId { pool: 1, slot: 2 }),
            ToPublisher::Release(Releases::of(&[id(); 8])),
            ToPublisher::Retired { pool: 9 },
        ]
    }

    fn to_subscriber() -> Vec<ToSubscriber> {
        let layout = Layout::aligned("YUV420M".parse().unwrap(), Size::new(1918, 1078), 64).unwrap();
        let colorimetry = Colorimetry { space: ColorSpace::Rec709, range: Range::Full, ..Colorimetry::default() };
        let meta = FrameMeta {
            sequence: 1 << 40,
            timestamp_ns: 5,
            published_ns: 6,
            dropped: 7,
            lost: 8,
            flags: FrameFlags::ERROR | FrameFlags::MONOTONIC,
            payload: [Payload { offset_bytes: 128, bytes: 9 }; MAX_PLANES],
        };
        vec![
            ToSubscriber::Welcome(Welcome { version: 1, quota: 2, epoch: u64::MAX, lease_deadline_ms: 5 }),
            ToSubscriber::Format(Format {
                pool: 1,
                slots: 64,
                cpu_reads: CpuReads::Uncached,
                writable: true,
                layout: layout.with_colorimetry(colorimetry),
            }),
            ToSubscriber::Buffer(SlotId { pool: 1, slot: 2 }),
            ToSubscriber::Frame(id(), meta),
            ToSubscriber::Revoke(id()),
            ToSubscriber::Retire { pool: 4 },
            ToSubscriber::End,
            ToSubscriber::Bye(Reason::Capacity),
        ]
    }

    #[test]
    fn every_message_survives_the_wire_and_no_prefix_is_one() {
        for m in to_publisher() {
            let e = m.encode();
            assert_eq!(ToPublisher::decode(e.as_bytes()), Ok(Some(m)));
            for len in 0..e.len {
                // A RELEASE cut at a lease's end is a shorter RELEASE.
                let cut = ToPublisher::decode(&e.as_bytes()[..len]);
                assert!(cut.is_err() || matches!(cut, Ok(Some(ToPublisher::Release(_)))), "{m:?} cut at {len}");
            }
        }
        for m in to_subscriber() {
            let e = m.encode();
            assert_eq!(ToSubscriber::decode(e.as_bytes()), Ok(Some(m)));
            for len in 0..e.len {
                assert!(ToSubscriber::decode(&e.as_bytes()[..len]).is_err(), "{m:?} cut at {len}");
            }
        }
    }

    /// The numbers of docs/protocol.md, which other implementations are written from.
    #[test]
    fn the_protocol_document_has_these_numbers() {
        const PAGE: &str = include_str!("../../docs/protocol.md");
        let mut all: Vec<_> = to_publisher().iter().map(|m| (format!("{m:?}"), m.encode())).collect();
        all.extend(to_subscriber().iter().map(|m| (format!("{m:?}"), m.encode())));
        let mut said = 0;
        // **NAME** (type 1, critical, 32 bytes
        for part in PAGE.split("\n**").skip(1).flat_map(|p| p.split(", **")) {
            let Some((name, entry)) = part.split_once("** (") else { continue };
            let entry = entry.split(')').next().unwrap().trim_start_matches("type ");
            let (kind, size) = entry.split_once(", critical, ").unwrap();
            let variant = |debug: &str| debug.split(['(', ' ']).next().unwrap().to_uppercase();
            let messages: Vec<_> = all.iter().filter(|(m, _)| variant(m) == name.replace('_', "")).collect();
            assert!(!messages.is_empty(), "{name}");
            for m in messages.iter().map(|(_, encoded)| encoded.as_bytes()) {
                let want = match name {
                    "RELEASE" => format!("8 + 16 n bytes, n from 1 to {MAX_RELEASES}"),
                    _ => format!("{} bytes", m.len()),
                };
                assert!(size.starts_with(&want), "{name}: {size}, {want}");
                assert_eq!(m[..4], [kind.parse().unwrap(), 0, CRITICAL as u8, 0], "{name}");
            }
            said += 1;
        }
        assert_eq!(said, 13);
        for limit in [
            format!("at most {MAX_MESSAGE} bytes"),
            format!("`FLSP` (0x{MAGIC:08x})"),
            format!("| slot, below {MAX_SLOTS} |"),
            format!("| slots, 1 to {MAX_SLOTS} |"),
            format!("leases at a time, 1 to {MAX_SLOTS} |"),
            format!("memory planes, 1 to {MAX_PLANES}: descriptors"),
            format!("0 (bitstream) to {MAX_PLANES} |"),
            format!("each 1 to {};", crate::format::MAX_SIDE),
            format!("protocol, version {VERSION}\n"),
        ] {
            assert!(PAGE.contains(&limit), "{limit}");
        }
        let rows = |from: &str| PAGE.split(from).nth(1).unwrap().lines().skip(2).take_while(|l| l.starts_with('|'));
        let reasons: Vec<u32> = rows("| reason | meaning | then |").map(|l| l[2..3].parse().unwrap()).collect();
        assert_eq!(reasons, [1, 2, 3, 4, 5, 6, 7]);
        assert!(reasons.iter().all(|&r| !matches!(Reason::from_code(r), Reason::Other(_))));
        assert_eq!(Reason::from_code(8), Reason::Other(8));
        let mut known = 0;
        for (formats, planes) in rows("| formats (fourcc) |").map(|l| l[2..].split_once(" | ").unwrap()) {
            for code in formats.split_whitespace() {
                let info = code.trim_matches('`').parse::<FourCc>().unwrap().info().unwrap();
                let group = |p: &crate::format::PlaneInfo| format!("{}×{}×{}", p.bytes, p.horizontal, p.vertical);
                let want = info.planes.iter().map(group).collect::<Vec<_>>().join(", ");
                let want = if want.is_empty() { "none: a bitstream".into() } else { want };
                assert_eq!(planes.trim_end_matches(" |"), want, "{code}");
                known += 1;
            }
        }
        assert_eq!(known, crate::format::FORMATS.len());
    }

    #[test]
    fn a_longer_message_is_read_and_an_unknown_one_skipped_or_refused() {
        let mut m = ToSubscriber::Retire { pool: 4 }.encode();
        m.len += 8;
        assert_eq!(ToSubscriber::decode(m.as_bytes()), Ok(Some(ToSubscriber::Retire { pool: 4 })));
        assert_eq!(ToSubscriber::decode(Encoded::new(99, 0).as_bytes()), Ok(None));
        assert_eq!(ToPublisher::decode(Encoded::new(99, CRITICAL).as_bytes()), Err(Malformed::UnknownCritical(99)));
        assert_eq!(ToPublisher::decode(&[0; MAX_MESSAGE + 1]), Err(Malformed::Long));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..25) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Some(second) = bytes.get_mut(1) {
                *second = 0;
            }
            let _ = ToPublisher::decode(&bytes);
            let _ = ToSubscriber::decode(&bytes);
        }
    }
}
