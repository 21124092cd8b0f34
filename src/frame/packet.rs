//! A coded frame: a lease on a bitstream buffer, or a copy of its bytes.

use std::fmt;
use std::sync::Arc;

use super::frame::Frame;
use super::meta::FrameFlags;
use crate::bitstream::{head, Codec, Head, ParameterSets};
use crate::error::Result;
use crate::flags::Flags;
use crate::format::Size;

/// Metadata of a coded frame: codec, size, sequence, time and flags.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::format::Size;
/// use framelease::frame::PacketMeta;
///
/// let mut meta = PacketMeta::new(Codec::H264, Size::new(1920, 1080), 0, 0);
/// meta.source = Some(41); // It was encoded from the camera's frame 41.
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketMeta {
    /// The codec of the bytes.
    pub codec: Codec,
    /// The size of the visible picture.
    pub size: Size,
    /// The number of the packet in its stream. A gap means that packets were dropped on the way.
    pub sequence: u64,
    /// Time at which the source frame was taken, in nanoseconds. See [`FrameFlags::MONOTONIC`] for the clock.
    pub timestamp_ns: u64,
    /// [`KEY`](FrameFlags::KEY) means that the packet decodes without the packets before it.
    /// [`ERROR`](FrameFlags::ERROR) means that the packet is damaged. The flags of interlaced pictures and of fields
    /// are those of the encoded frame.
    pub flags: FrameFlags,
    /// The sequence of the source frame, if the encoder could match it.
    pub source: Option<u64>,
}

impl PacketMeta {
    /// Creates the metadata of a packet. The flags and the source are empty.
    pub fn new(codec: Codec, size: Size, sequence: u64, timestamp_ns: u64) -> Self {
        Self { codec, size, sequence, timestamp_ns, flags: FrameFlags::default(), source: None }
    }
}

/// One coded frame. Cloning it copies no bytes, so any number of sinks can share one coded frame.
///
/// The bytes of a leased packet are in a buffer of the encoder, or of the
/// [camera](crate::capture::CameraBuilder::packets) that encodes. When the last clone is dropped, the buffer returns to
/// the driver (`VIDIOC_QBUF`). While consumers hold all buffers of an encoder, the encoder stalls. [`Packet::detach`]
/// copies the bytes and returns the buffer.
///
/// Cloning a packet costs three atomic additions. It needs no system call and no allocation.
///
/// ```
/// use framelease::bitstream::Codec;
/// use framelease::format::Size;
/// use framelease::frame::{Packet, PacketMeta};
///
/// let meta = PacketMeta::new(Codec::Vp8, Size::new(16, 16), 0, 0);
/// let packet = Packet::new(meta, [0x10, 0, 0], None); // From a file or a network.
/// assert!(packet.is_key());
/// assert_eq!(packet.clone().bytes(), [0x10, 0, 0]);
/// ```
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
    /// A frame for which [`bytes`] returned a slice, and will again.
    Leased(Frame),
    Owned(Arc<[u8]>),
}

impl Packet {
    /// Creates a packet from bytes of another source, such as a file or another encoder. Finds the key flag and the
    /// parameter sets in the bytes.
    ///
    /// A packet needs the parameter sets of its picture. If the bytes do not contain them, pass the parameter sets of
    /// the previous packet: `previous.parameter_sets().cloned()`. If an H.264 or H.265 packet does not have parameter
    /// sets, a recorder assumes that another stream begins. The recorder then ends the file.
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

    /// Creates a packet that leases `frame`, a dequeued buffer of an encoder or a camera, which nothing else has.
    /// [`Packet::with_head`] completes it.
    ///
    /// # Errors
    /// The errors of `mmap`, for a buffer that is used the first time.
    pub(crate) fn leased(frame: Frame, meta: PacketMeta) -> Result<Self> {
        let data = match bytes(&frame)? {
            Some(_) => Data::Leased(frame),
            // Memory that another process can write is copied, not lent.
            None => Data::Owned(copy(&frame)?),
        };
        Ok(Self { data, meta, prefix_bytes: 0, carries_parameters: false, parameters: None })
    }

    /// Adds the properties found in the bytes, the sequence number and the parameter sets in force. Keeps a key flag of
    /// the encoder.
    pub(crate) fn with_head(mut self, head: &Head, sequence: u64, parameters: Option<Arc<ParameterSets>>) -> Self {
        if head.is_key {
            self.meta.flags |= FrameFlags::KEY;
        }
        self.meta.sequence = sequence;
        (self.prefix_bytes, self.carries_parameters) = (prefix(head), head.has_parameters);
        self.parameters = parameters;
        self
    }

    /// Returns the coded bytes as the encoder wrote them.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            // The same call succeeded in `leased`.
            Data::Leased(frame) => bytes(frame).ok().flatten().unwrap_or(&[]),
            Data::Owned(bytes) => bytes,
        }
    }

    /// Returns the coded picture without the parameter sets, SEI messages and delimiters that precede it.
    pub fn picture(&self) -> &[u8] {
        self.bytes().get(self.prefix_bytes as usize..).unwrap_or(&[])
    }

    /// Returns the parameter sets that the picture needs. The parameter sets are in this packet or in an earlier one.
    /// Returns `None` before the first parameter set, and for codecs without parameter sets.
    pub fn parameter_sets(&self) -> Option<&Arc<ParameterSets>> {
        self.parameters.as_ref()
    }

    /// Returns `true` if the bytes of this packet contain parameter sets. A decoder then does not need the parameter
    /// sets of earlier packets.
    pub fn carries_parameters(&self) -> bool {
        self.carries_parameters
    }

    /// Returns the codec, size, sequence number, time and flags.
    pub fn meta(&self) -> &PacketMeta {
        &self.meta
    }

    /// Returns `true` if a decoder can begin with this packet. That is a key frame, or a recovery point of a stream
    /// with open GOPs or intra refresh. Pictures after a recovery point may be incomplete at first.
    pub fn is_key(&self) -> bool {
        self.meta.flags.contains(FrameFlags::KEY)
    }

    /// Returns `true` if the encoder or the transport marked the packet as damaged ([`FrameFlags::ERROR`]).
    pub(crate) fn is_damaged(&self) -> bool {
        self.meta.flags.contains(FrameFlags::ERROR)
    }

    /// Returns `true` if a stream can begin with this packet: it is an intact key frame.
    #[doc(hidden)]
    pub fn can_begin(&self) -> bool {
        self.is_key() && !self.is_damaged()
    }

    /// Returns `true` while the packet holds a buffer of the encoder.
    #[doc(hidden)]
    pub fn is_leased(&self) -> bool {
        matches!(self.data, Data::Leased(_))
    }

    /// Returns the packet without a lease on the encoder's buffer. Copies the bytes of a leased packet once. Returns
    /// other packets unchanged.
    pub fn detach(self) -> Self {
        match self.data {
            Data::Leased(_) => Self { data: Data::Owned(self.bytes().into()), ..self },
            Data::Owned(_) => self,
        }
    }

    /// Returns how many buffers the encoder has that are not leased, or `None` for a packet without a lease.
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

/// Returns the payload of a bitstream buffer if it can be lent, else `None`.
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
    fn packet_new_finds_key_flag_and_parameter_sets() {
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
