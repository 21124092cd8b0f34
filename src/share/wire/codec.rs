//! Encodes and decodes the fields of each message.

use super::fields::{check, open, unknown, Encoded, Fields, Malformed, CRITICAL};
use super::messages::{
    Bye, Format, Hello, Releases, ToPublisher, ToSubscriber, Welcome, MAGIC, MAX_MESSAGE, MAX_RELEASES, MAX_SLOTS,
};
use crate::error::Reason;
use crate::flags::Flags;
use crate::format::{ColorSpace, Colorimetry, Encoding, FourCc, Layout, Plane, Range, Size, Transfer, MAX_PLANES};
use crate::frame::{CpuReads, FrameFlags, FrameMeta, Payload};
use crate::share::policy::{Policy, Rate};

/// Message types. Types below 16 go from subscriber to publisher.
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
    pub(super) const NEWER: u16 = 24;
}

/// The bit of *features* in HELLO, which asks for it, and in WELCOME, which grants it.
const FENCES: u32 = 1;

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
                    .u16(if h.fences { FENCES as u16 } else { 0 })
                    .u32(nth)
                    .u32(milli_fps)
            }
            Self::BufferOk(id) => Encoded::new(kind::BUFFER_OK, CRITICAL).slot(id),
            Self::BufferFailed(id) => Encoded::new(kind::BUFFER_FAILED, CRITICAL).slot(id),
            Self::Release(r) => r.as_slice().iter().fold(Encoded::new(kind::RELEASE, CRITICAL), |m, &id| m.lease(id)),
            Self::Retired { pool } => Encoded::new(kind::RETIRED, CRITICAL).u32(pool),
        }
    }

    /// Decodes a message. `None`: an unknown message that may be skipped.
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
                let features = u32::from(f.u16()?);
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
                let fences = features & FENCES != 0;
                Self::Hello(Hello { version_min, version_max, hold, policy, rate, fences })
            }
            kind::BUFFER_OK => Self::BufferOk(f.slot()?),
            kind::BUFFER_FAILED => Self::BufferFailed(f.slot()?),
            kind::RELEASE => {
                let mut leases = Releases::of(&[]);
                check(f.left() > 0 && f.left() % 16 == 0 && f.left() / 16 <= MAX_RELEASES, "releases")?;
                while f.left() > 0 {
                    leases.push(f.lease()?);
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
                let m = Encoded::new(kind::WELCOME, CRITICAL).u16(w.version).u16(w.quota);
                let m = m.u32(w.lease_deadline_ms).u64(w.epoch);
                if w.fences {
                    m.u32(FENCES)
                } else {
                    m
                }
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
            // A subscriber that does not know this type skips it.
            Self::Newer { generation } => Encoded::new(kind::NEWER, 0).u64(generation),
            Self::Bye(bye) => Encoded::new(kind::BYE, CRITICAL)
                .u32(bye.reason.code())
                .u16(bye.slots)
                .u16(bye.reserve)
                .u16(bye.granted)
                .u16(bye.wanted),
        }
    }

    /// Decodes a message. `None`: an unknown message that may be skipped.
    pub(crate) fn decode(message: &[u8]) -> Result<Option<Self>, Malformed> {
        let (kind, flags, mut f) = open(message)?;
        Ok(Some(match kind {
            kind::WELCOME => {
                let (version, quota) = (f.u16()?, f.u16()?);
                let (lease_deadline_ms, epoch) = (f.u32()?, f.u64()?);
                // Absent if nothing is granted, and in messages of earlier publishers.
                let features = f.u32().unwrap_or_default();
                Self::Welcome(Welcome { version, quota, lease_deadline_ms, epoch, fences: features & FENCES != 0 })
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
                    flags: FrameFlags::from_known_bits(f.u32()?),
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
            kind::NEWER => Self::Newer { generation: f.u64()? },
            kind::BYE => {
                let reason = Reason::from_code(f.u32()?);
                let (slots, reserve, granted, wanted) = (f.u16()?, f.u16()?, f.u16()?, f.u16()?);
                Self::Bye(Bye { reason, slots, reserve, granted, wanted })
            }
            _ => return unknown(kind, flags),
        }))
    }
}

fn encode_format(f: &Format) -> Encoded {
    let (layout, color) = (&f.layout, f.layout.colorimetry());
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
        .u32(u32::from(layout.fourcc()))
        .u32(layout.size().width)
        .u32(layout.size().height)
        // The DRM format modifier. V4L2 formats without one are linear, which is 0.
        .u64(0)
        .u32(color.space.to_v4l2())
        .u32(color.encoding.to_v4l2())
        .u32(color.range.to_v4l2())
        .u32(color.transfer.to_v4l2())
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
    let (fourcc, size) = (FourCc::from(f.u32()?), Size::new(f.u32()?, f.u32()?));
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
    check(fourcc.tiling().is_none(), "format")?;
    Ok(Format { pool, slots, cpu_reads, writable, layout })
}

// FORMAT and a full RELEASE are the longest messages.
const _: () = assert!(72 + MAX_PLANES * 12 <= MAX_MESSAGE && 8 + MAX_RELEASES * 16 <= MAX_MESSAGE);

#[cfg(test)]
mod tests {
    use super::super::messages::{LeaseId, SlotId, VERSION};
    use super::*;
    use proptest::prelude::*;

    fn id() -> LeaseId {
        LeaseId { pool: 3, slot: 63, generation: u64::MAX }
    }

    fn to_publisher() -> Vec<ToPublisher> {
        let hello = |policy, rate| {
            let fences = policy == Policy::Block;
            ToPublisher::Hello(Hello { version_min: 1, version_max: 4, hold: 2, policy, rate, fences })
        };
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
            ToSubscriber::Welcome(Welcome {
                version: 1,
                quota: 2,
                epoch: u64::MAX,
                lease_deadline_ms: 5,
                fences: false,
            }),
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
            ToSubscriber::Newer { generation: 77 },
            ToSubscriber::Bye(Bye { reason: Reason::Capacity, slots: 12, reserve: 5, granted: 6, wanted: 2 }),
        ]
    }

    #[test]
    fn every_message_survives_the_wire_and_no_prefix_is_one() {
        for m in to_publisher() {
            let e = m.encode();
            assert_eq!(ToPublisher::decode(e.as_bytes()), Ok(Some(m)));
            for len in 0..e.as_bytes().len() {
                // A RELEASE that is cut after a lease is a shorter RELEASE.
                let cut = ToPublisher::decode(&e.as_bytes()[..len]);
                assert!(cut.is_err() || matches!(cut, Ok(Some(ToPublisher::Release(_)))), "{m:?} cut at {len}");
            }
        }
        for m in to_subscriber() {
            let e = m.encode();
            assert_eq!(ToSubscriber::decode(e.as_bytes()), Ok(Some(m)));
            for len in 0..e.as_bytes().len() {
                assert!(ToSubscriber::decode(&e.as_bytes()[..len]).is_err(), "{m:?} cut at {len}");
            }
        }
    }

    const PAGE: &str = include_str!("../../../docs/protocol.md");

    /// Returns the cells of a table of `docs/protocol.md` that is marked for tests.
    fn table(name: &str) -> Vec<Vec<&'static str>> {
        let mark = format!("<!-- test: {name} -->\n");
        let (_, table) = PAGE.split_once(mark.as_str()).unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    #[test]
    fn messages_are_those_of_the_protocol_document() {
        let mut all: Vec<_> = to_publisher().iter().map(|m| (format!("{m:?}"), m.encode())).collect();
        all.extend(to_subscriber().iter().map(|m| (format!("{m:?}"), m.encode())));
        let rows = table("messages");
        assert_eq!(rows.len(), 14);
        for row in rows {
            let [name, kind, critical, bytes] = row[..] else { panic!("{row:?}") };
            let variant = |debug: &str| debug.split(['(', ' ']).next().unwrap().to_uppercase();
            let messages: Vec<_> = all.iter().filter(|(m, _)| variant(m) == name.replace('_', "")).collect();
            assert!(!messages.is_empty(), "{name}");
            for m in messages.iter().map(|(_, encoded)| encoded.as_bytes()) {
                match bytes.strip_suffix(" + 16 n") {
                    Some(header) => assert_eq!((m.len() - header.parse::<usize>().unwrap()) % 16, 0, "{name}"),
                    None => assert_eq!(bytes, m.len().to_string(), "{name}"),
                }
                let flags = if critical == "yes" { CRITICAL as u8 } else { 0 };
                assert_eq!(m[..4], [kind.parse().unwrap(), 0, flags, 0], "{name}");
            }
        }
    }

    #[test]
    fn limits_are_those_of_the_protocol_document() {
        let values: Vec<_> = table("limits").iter().map(|row| row[1].to_owned()).collect();
        let [version, slots, planes] = [u32::from(VERSION), MAX_SLOTS as u32, MAX_PLANES as u32].map(|n| n.to_string());
        let sizes = [MAX_MESSAGE, MAX_RELEASES, crate::format::MAX_SIDE as usize].map(|n| n.to_string());
        let [message, releases, side] = sizes;
        assert_eq!(values, [version, format!("0x{MAGIC:08x}"), message, slots.clone(), slots, releases, planes, side]);
    }

    #[test]
    fn reasons_are_those_of_the_protocol_document() {
        let reasons: Vec<u32> = table("reasons").iter().map(|row| row[0].parse().unwrap()).collect();
        assert_eq!(reasons, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(reasons.iter().all(|&r| !matches!(Reason::from_code(r), Reason::Other(_))));
        assert_eq!(Reason::from_code(10), Reason::Other(10));
    }

    #[test]
    fn formats_are_those_of_the_protocol_document() {
        let mut known = 0;
        for row in table("formats") {
            for code in row[0].split_whitespace() {
                let info = code.trim_matches('`').parse::<FourCc>().unwrap().info().unwrap();
                let group = |p: &crate::format::PlaneInfo| format!("{}×{}×{}", p.bytes, p.horizontal, p.vertical);
                let want = info.planes.iter().map(group).collect::<Vec<_>>().join(", ");
                assert_eq!(row[1], if want.is_empty() { "none: a bitstream".into() } else { want }, "{code}");
                known += 1;
            }
        }
        assert_eq!(known, crate::format::FORMATS.len());
    }

    #[test]
    fn format_message_with_tiles_is_refused() {
        let fourcc: FourCc = "NV12_8L128".parse().unwrap();
        let layout = Layout::from_strides(fourcc, Size::new(640, 480), &[640], &[]).unwrap();
        let format = Format { pool: 1, slots: 1, cpu_reads: CpuReads::Cached, writable: false, layout };
        let encoded = ToSubscriber::Format(format).encode();
        assert_eq!(ToSubscriber::decode(encoded.as_bytes()), Err(Malformed::Field("format")));
    }

    #[test]
    fn longer_message_is_read_and_an_unknown_one_skipped_or_refused() {
        let longer = [ToSubscriber::Retire { pool: 4 }.encode().as_bytes(), &[0; 8]].concat();
        assert_eq!(ToSubscriber::decode(&longer), Ok(Some(ToSubscriber::Retire { pool: 4 })));
        assert_eq!(ToSubscriber::decode(Encoded::new(99, 0).as_bytes()), Ok(None));
        assert_eq!(ToPublisher::decode(Encoded::new(99, CRITICAL).as_bytes()), Err(Malformed::UnknownCritical(99)));
        assert_eq!(ToPublisher::decode(&[0; MAX_MESSAGE + 1]), Err(Malformed::Long));
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..25) {
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
