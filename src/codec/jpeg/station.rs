//! The JPEG decoder as a station.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::picture::{Picture, Scratch};
use crate::bitstream::Codec;
use crate::codec::{DecoderEvent, DecoderStats, Pictures};
use crate::dmabuf::{Allocator, DEFAULT_WAIT};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::format::Rect;
use crate::frame::{FrameFlags, Packet, Pool};
use crate::station::{sealed, Received, Station, Submit, SubmitResult, Submitted};
use crate::stats::READ;
use crate::sys::signal::Signal;

/// A decoder of Motion JPEG on the CPU, for machines without a JPEG [`Decoder`](super::super::Decoder). Feature
/// `mjpeg`.
///
/// [`Submit::try_submit`] decodes a packet in the caller's thread, before it returns. The frames have the chroma
/// samples of the picture: 4:2:0 becomes NV12, 4:2:2 becomes YUYV, and grayscale becomes GREY, all in full range
/// ([`ColorSpace::Jpeg`](crate::format::ColorSpace::Jpeg)). The decoder takes baseline pictures with 8 bits, with or
/// without Huffman tables, with or without restart markers.
///
/// The first packet, and each packet with another size or sampling, gives [`DecoderEvent::Format`] before its frame.
/// Frames in earlier buffers stay intact while they are leased. A damaged picture gives a frame with the flag
/// [`ERROR`](crate::frame::FrameFlags::ERROR). A restart marker with another number than the next one is damage, and
/// the decoder continues where libjpeg does. Bytes between the data and a marker are not damage, because common webcams
/// write some.
///
/// ```
/// use framelease::codec::{DecoderEvent, JpegDecoder};
/// use framelease::dmabuf::Allocator;
/// use framelease::{Station, Submit};
///
/// # fn packet() -> Option<framelease::frame::Packet> { None }
/// let mut decoder = JpegDecoder::new(&Allocator::for_cpu_source(), 4)?;
/// if let Some(packet) = packet() { // From a camera, for example.
///     let _ = decoder.try_submit(packet)?;
/// }
/// while let Some(event) = decoder.try_recv()?.item() {
///     if let DecoderEvent::Frame(frame) = event {
///         println!("{frame:?}");
///     }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct JpegDecoder {
    allocator: Allocator,
    buffers: usize,
    present: Option<(Pool, Pictures)>,
    events: VecDeque<DecoderEvent>,
    /// Readable while events wait, and when a buffer is free again after all were leased.
    signal: Arc<Signal>,
    /// The signal was set for the events.
    is_announced: bool,
    /// No buffer was free. The pool sets the signal when one is.
    is_starved: bool,
    scratch: Scratch,
    stats: DecoderStats,
}

impl JpegDecoder {
    /// Creates a decoder with one file descriptor and no thread. It gives frames in `buffers` buffers of the allocator,
    /// 1 to 64, which it allocates with the first packet.
    ///
    /// # Errors
    /// `Exhausted` if no descriptor is left.
    pub fn new(allocator: &Allocator, buffers: usize) -> Result<Self> {
        Ok(Self {
            allocator: allocator.clone(),
            buffers,
            present: None,
            events: VecDeque::new(),
            signal: Arc::new(Signal::new().map_err(|e| Error::os("eventfd", e))?),
            is_announced: false,
            is_starved: false,
            scratch: Scratch::default(),
            stats: DecoderStats::default(),
        })
    }

    /// Returns the present buffers of the stream's pictures, or `None` before the first packet.
    pub fn pictures(&self) -> Option<&Pictures> {
        self.present.as_ref().map(|(_, pictures)| pictures)
    }

    /// Returns the counts since the decoder was created. The CPU has read the bytes of the packets.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    /// Decodes a packet. Returns `false` if no buffer is free, or if the events of the present format must be taken
    /// first.
    fn decode(&mut self, packet: &Packet) -> Result<bool> {
        let meta = packet.meta();
        if meta.codec != Codec::Mjpeg {
            let text = format!("a packet of {} for a decoder of {}", meta.codec, Codec::Mjpeg);
            return Err(Error::new(ErrorKind::InvalidArgument, "submit", text));
        }
        let picture = Picture::new(packet.bytes())?;
        let (size, most) = (picture.size(), meta.size);
        // A few bytes can name any size, and memory is allocated for it. Some cameras round up to whole MCUs.
        let fits = |side: u32, most: u32| u64::from(side) <= u64::from(most).next_multiple_of(16);
        if !(fits(size.width, most.width) && fits(size.height, most.height)) {
            let text = format!("the JPEG picture is {size}, and the packet says {most}");
            return Err(Error::new(ErrorKind::Mismatch, "submit", text));
        }
        let (layout, visible) = (picture.layout()?, Rect::from(size));
        let is_same = |now: &Pictures| *now.buffers.layout() == layout && now.visible == visible;
        if !self.pictures().is_some_and(is_same) {
            if !self.events.is_empty() {
                return Ok(false);
            }
            let pool = Pool::new(&self.allocator, layout, self.buffers)?;
            let pictures = Pictures { buffers: pool.buffers().clone(), visible };
            self.stats.formats += 1;
            self.events.push_back(DecoderEvent::Format(pictures.clone()));
            self.present = Some((pool, pictures));
        }
        let Some((pool, _)) = &self.present else { return Ok(false) };
        let Some(mut frame) = pool.try_acquire_or_signal(&self.signal) else {
            self.is_starved = true;
            return Ok(false);
        };
        let is_whole = picture.decode(&mut self.scratch, &mut frame.write(DEFAULT_WAIT)?, &layout)?;
        let frame = frame.freeze_full(meta.sequence, meta.timestamp_ns);
        let mut about = *frame.meta();
        about.flags = meta.flags & (FrameFlags::ERROR | FrameFlags::MONOTONIC);
        if !is_whole {
            about.flags |= FrameFlags::ERROR;
        }
        let bytes = packet.bytes().len() as u64;
        READ.fetch_add(bytes, Ordering::Relaxed);
        self.stats.packets += 1;
        self.stats.bytes += bytes;
        self.stats.frames += 1;
        self.stats.errors += u64::from(about.flags.contains(FrameFlags::ERROR));
        self.events.push_back(DecoderEvent::Frame(frame.with_meta(about)));
        Ok(true)
    }

    /// Ends the report of a buffer that is free again, which lasts until the next call.
    fn end_report(&mut self) {
        if self.is_starved {
            self.signal.clear();
            self.is_announced = false;
        }
    }

    /// Makes the descriptor readable while events wait.
    fn announce(&mut self) {
        if !self.is_announced && !self.events.is_empty() {
            self.signal.set();
            self.is_announced = true;
        }
    }
}

impl sealed::Sealed for JpegDecoder {}

impl Station for JpegDecoder {
    type Event = DecoderEvent;

    /// Ends the report of room. The decoder does not have other work.
    fn dispatch(&mut self) -> Result<()> {
        self.end_report();
        self.announce();
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<DecoderEvent>> {
        let event = self.events.pop_front();
        if self.events.is_empty() && std::mem::take(&mut self.is_announced) {
            self.signal.clear();
        }
        self.dispatch()?;
        Ok(event.into())
    }
}

impl Submit for JpegDecoder {
    type Item = Packet;

    /// Decodes a packet. The decoder is full while all its buffers are leased. It is also full if the packet has
    /// another format and events wait: receive them first. Waits at most [`DEFAULT_WAIT`], one second, for devices that
    /// still use the buffer.
    ///
    /// # Errors
    /// Every error gives the packet back, and the next packet can be decoded. `InvalidArgument` if the packet has
    /// another codec, or its bytes are not a JPEG picture. `Mismatch` if the picture is larger than
    /// [`PacketMeta::size`](crate::frame::PacketMeta::size), rounded up to whole MCUs of 16 pixels. `Unsupported` for a
    /// JPEG picture that is not baseline, or that has another sampling. Errors of the allocator, and `Timeout`.
    fn try_submit(&mut self, packet: Packet) -> SubmitResult<Packet> {
        self.end_report();
        // The pool may set the signal from here on, so it is not cleared again.
        self.is_starved = false;
        let decoded = self.decode(&packet);
        self.announce();
        match decoded {
            Ok(true) => Ok(Submitted::Taken),
            Ok(false) => Ok(Submitted::Full(packet)),
            Err(error) => Err(Rejected { error, item: packet }),
        }
    }
}

impl AsFd for JpegDecoder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

impl fmt::Debug for JpegDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JpegDecoder({:?}, {} waiting)", self.pictures(), self.events.len())
    }
}
