//! One coded frame: a lease on a bitstream buffer, or bytes of its own.

use std::fmt;
use std::sync::Arc;

use super::frame::Frame;
use super::meta::FrameFlags;
use crate::bitstream::{head, Codec, Head, ParameterSets};
use crate::error::Result;
use crate::flags::Flags;
use crate::format::Size;

/// What is known of a coded frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketMeta {
    /// How it is coded.
    pub codec: Codec,
    /// The visible picture's size.
    pub size: Size,
    /// The stream's count of packets. A gap is a packet that was dropped on the way.
    pub sequence: u64,
    /// When the source frame was taken, in nanoseconds; see [`FrameFlags::MONOTONIC`].
    pub timestamp_ns: u64,
    /// [`KEY`](FrameFlags::KEY): it decodes without those before it. [`ERROR`](FrameFlags::ERROR): it is damaged.
    pub flags: FrameFlags,
    /// The sequence of the source frame, where the encoder could match it.
    pub source: Option<u64>,
}

impl PacketMeta {
    /// A packet of a stream; flags and source are left empty.
    pub fn new(codec: Codec, size: Size, sequence: u64, timestamp_ns: u64) -> Self {
        Self { codec, size, sequence, timestamp_ns, flags: FrameFlags::default(), source: None }
    }
}

/// One coded frame. A clone counts and copies nothing, so that one encode serves any number of sinks.
///
/// Leased, its bytes are the encoder's own buffer, which goes back to the driver (`VIDIOC_QBUF`) with the last clone:
/// whoever keeps many keeps the encoder waiting. [`Packet::detach`] copies the bytes instead.
///
/// Costs: a clone is three atomic additions, and no system call or allocation.
#[derive(Clone)]
pub struct Packet {
    data: Data,
    meta: PacketMeta,
    prefix_bytes: u32,
    carries_parameters: bool,
    parameters: Option<Arc<ParameterSets>>,
}

#[derive(Clone)]
enum Data {
    /// Its bytes were lent once, so they can be lent again.
    Leased(Frame),
    Owned(Arc<[u8]>),
}

impl Packet {
    /// A packet of bytes from elsewhere: a file, another encoder. Key flag and parameter sets are found in the bytes,
    /// the latter else taken from `parameters`.
    pub fn new(mut meta: PacketMeta, bytes: impl Into<Arc<[u8]>>, parameters: Option<Arc<ParameterSets>>) -> Self {
        let bytes = bytes.into();
        let head = head(meta.codec, &bytes);
        meta.flags.set(FrameFlags::KEY, head.is_key);
        let own = head.has_parameters.then(|| ParameterSets::find(meta.codec, &bytes)).flatten();
        Self {
            data: Data::Owned(bytes),
            meta,
            prefix_bytes: prefix(&head),
            carries_parameters: own.is_some(),
            parameters: own.map(Arc::new).or(parameters),
        }
    }

    /// A packet that leases `frame`, a dequeued buffer of the encoder's own. [`Packet::with_head`] completes it.
    ///
    /// # Errors
    /// What `mmap` reports, when the buffer is met first.
    pub(crate) fn leased(frame: Frame, meta: PacketMeta) -> Result<Self> {
        let data = match bytes(&frame)? {
            Some(_) => Data::Leased(frame),
            // Memory that others may write is not lent.
            None => Data::Owned(copy(&frame)?),
        };
        Ok(Self { data, meta, prefix_bytes: 0, carries_parameters: false, parameters: None })
    }

    /// The packet with what its bytes say, its number, and the parameter sets in force. The encoder's key flag counts, too.
    pub(crate) fn with_head(mut self, head: &Head, sequence: u64, parameters: Option<Arc<ParameterSets>>) -> Self {
        if head.is_key {
            self.meta.flags |= FrameFlags::KEY;
        }
        self.meta.sequence = sequence;
        (self.prefix_bytes, self.carries_parameters) = (prefix(head), head.has_parameters);
        self.parameters = parameters;
        self
    }

    /// The coded bytes as the encoder wrote them.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            // The same call has succeeded when the packet was made.
            Data::Leased(frame) => bytes(frame).ok().flatten().unwrap_or(&[]),
            Data::Owned(bytes) => bytes,
        }
    }

    /// The coded picture without the parameter sets, SEI and delimiters that stand before it.
    pub fn picture(&self) -> &[u8] {
        self.bytes().get(self.prefix_bytes as usize..).unwrap_or(&[])
    }

    /// The parameter sets that are in force, whether they are among the bytes or came before; `None` for codecs without
    /// and before the first.
    pub fn parameter_sets(&self) -> Option<&Arc<ParameterSets>> {
        self.parameters.as_ref()
    }

    /// `true` if its own bytes bring the parameter sets, so that [`Packet::bytes`] decodes without those before it.
    pub fn carries_parameters(&self) -> bool {
        self.carries_parameters
    }

    /// Time, size, flags.
    pub fn meta(&self) -> &PacketMeta {
        &self.meta
    }

    /// It decodes without the packets before it.
    pub fn is_key(&self) -> bool {
        self.meta.flags.contains(FrameFlags::KEY)
    }

    /// The encoder or the transport marked it as damaged ([`FrameFlags::ERROR`]).
    pub(crate) fn is_damaged(&self) -> bool {
        self.meta.flags.contains(FrameFlags::ERROR)
    }

    /// A stream can begin with it: an intact key frame.
    #[doc(hidden)]
    pub fn can_begin(&self) -> bool {
        self.is_key() && !self.is_damaged()
    }

    /// `true` while it keeps a buffer of the encoder's.
    #[doc(hidden)]
    pub fn is_leased(&self) -> bool {
        matches!(self.data, Data::Leased(_))
    }

    /// The same packet with bytes of its own, so that it keeps no buffer of the encoder's: copied once, or as it is.
    pub fn detach(self) -> Self {
        match self.data {
            Data::Leased(_) => Self { data: Data::Owned(self.bytes().into()), ..self },
            Data::Owned(_) => self,
        }
    }

    /// Buffers that the encoder has left, all leases counted; `None` for a packet that keeps none.
    pub(super) fn left_to_encoder(&self) -> Option<usize> {
        match &self.data {
            Data::Leased(frame) => Some(frame.buffers().slots().saturating_sub(frame.buffers().leased())),
            Data::Owned(_) => None,
        }
    }
}

fn prefix(head: &Head) -> u32 {
    u32::try_from(head.prefix_bytes).unwrap_or(u32::MAX)
}

/// The payload of a bitstream buffer, if it can be lent.
fn bytes(frame: &Frame) -> Result<Option<&[u8]>> {
    let payload = frame.meta().payload[0];
    let start = payload.offset_bytes as usize;
    match frame.memory().first() {
        Some(memory) => memory.quiet(start..start.saturating_add(payload.bytes as usize)),
        None => Ok(None),
    }
}

fn copy(frame: &Frame) -> Result<Arc<[u8]>> {
    let mut bytes = vec![0; frame.meta().payload[0].bytes as usize];
    frame.read(crate::dmabuf::DEFAULT_WAIT)?.copy_payload(0, 0, &mut bytes)?;
    Ok(bytes.into())
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PacketMeta { codec, sequence, flags, .. } = self.meta;
        let kind = if self.is_leased() { "leased" } else { "owned" };
        write!(f, "Packet({codec} #{sequence}, {} bytes, {kind}, {flags:?})", self.bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::NalKind;

    #[test]
    fn a_packet_from_elsewhere_knows_its_head() {
        let meta = PacketMeta::new(Codec::H264, Size::new(64, 48), 7, 1000);
        let stream = [0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x65, 0x88, 9];
        let key = Packet::new(meta, stream, None);
        assert!(key.is_key() && !key.is_leased());
        assert_eq!(key.picture(), &stream[14..]);
        let sets = key.parameter_sets().unwrap();
        assert_eq!(sets.of(NalKind::Sps).next(), Some(&stream[4..8]));
        let next = Packet::new(meta, [0, 0, 1, 0x41, 0x9a], Some(Arc::clone(sets)));
        assert!(!next.is_key() && next.parameter_sets() == Some(sets));
        assert_eq!(next.detach().bytes(), [0, 0, 1, 0x41, 0x9a]);
        let vp8 = Packet::new(PacketMeta { codec: Codec::Vp8, ..meta }, [0x10, 0, 0], None);
        assert!(vp8.is_key() && vp8.picture().len() == 3);
    }
}
