//! Chooses an encoder and provides its queues with formats and buffers.

use super::setup::Setup;
use super::{Params, Quirks};
use crate::error::Result;
use crate::format::Layout;
use crate::v4l2::{CacheHint, ControlId, ControlValue, Device, MemToMem};

/// The largest number of buffers of a queue: V4L2's limit before Linux 6.10.
const MOST_BUFFERS: usize = 32;

/// Chooses an encoder and sets it up. Only the parameters of the stream are required. By default, the builder takes the
/// first device that encodes to the codec.
///
/// ```no_run
/// use framelease::bitstream::Codec;
/// use framelease::codec::{Encoder, Params};
/// use framelease::format::Size;
/// use framelease::frame::Pool;
///
/// fn open(frames: &Pool) -> framelease::Result<Encoder> {
///     let params = Params::new(Codec::H264, Size::new(1280, 720));
///     Encoder::builder(params).open(frames.buffers())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct EncoderBuilder {
    pub(super) params: Params,
    pub(super) device: Option<Device>,
    pub(super) quirks: Option<Quirks>,
    pub(super) sources: Option<usize>,
}

impl EncoderBuilder {
    /// Sets a device that is already open, such as the one that [`negotiate`](super::negotiate) used.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets the driver's quirks, instead of those in the library's table.
    #[doc(hidden)]
    pub fn quirks(mut self, quirks: Quirks) -> Self {
        self.quirks = Some(quirks);
        self
    }

    /// Sets the total number of buffers, if the frames come from more than one pool. The kernel then attaches each
    /// buffer only once. The default is the number of slots of the pool that [`EncoderBuilder::open`] gets. The limit
    /// is 32.
    pub fn sources(mut self, count: usize) -> Self {
        self.sources = Some(count);
        self
    }
}

/// The stream and the frames that a device is set up for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) params: Params,
    pub(super) quirks: Quirks,
    pub(super) source: Layout,
    pub(super) slots: usize,
}

impl Wanted {
    /// Sets up `pair`, which has no buffers, and has none if this fails.
    pub(super) fn set_up(&self, pair: &mut MemToMem) -> Result<Setup> {
        let device = pair.device().clone();
        let setup = Setup::apply(&device, &self.params, &self.source, self.quirks)?;
        self.allocate(pair, &setup)?;
        Ok(setup)
    }

    /// Provides both queues with buffers for the formats that the device has.
    pub(super) fn allocate(&self, pair: &mut MemToMem, setup: &Setup) -> Result<()> {
        let device = pair.device().clone();
        pair.output_mut().split_planes(setup.is_split);
        let least = |id| match device.control_value(id) {
            Ok(ControlValue::Number(n)) => usize::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let indices = self.slots.max(least(ControlId::MIN_BUFFERS_FOR_OUTPUT)).clamp(2, MOST_BUFFERS);
        let packets = self.params.packet_buffers.max(least(ControlId::MIN_BUFFERS_FOR_CAPTURE)).clamp(2, MOST_BUFFERS);
        let buffers = pair
            .output_mut()
            .import(indices)
            .and_then(|()| pair.capture_mut().allocate(packets, CacheHint::Cached).map(drop));
        if buffers.is_err() {
            drop(pair.free());
        }
        buffers
    }
}
