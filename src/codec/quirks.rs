//! Differences between drivers that cannot be queried, in one table.
//!
//! The rest is queried or observed at run time: formats, sizes, controls, capabilities, and whether the driver sets
//! key flags or resumes. Frames are always queued before the queues start: bcm2835-codec and amphion require it, and
//! other drivers allow it.

use crate::v4l2::DeviceInfo;

/// Properties of an encoder's driver that must be known before its use. The default is safe for every driver.
///
/// ```no_run
/// use framelease::bitstream::Codec;
/// use framelease::codec::{Encoder, Quirks};
///
/// let device = Encoder::find(Codec::H264)?;
/// println!("{:?}", Quirks::for_device(device.info()));
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(hidden)] // For this project's tests.
pub struct Quirks {
    /// The driver honors `data_offset`, so both planes of an NV12 picture in one dma-buf can be imported as NV12M.
    /// Drivers that ignore it would read luma as chroma.
    pub reads_data_offset: bool,
    /// A restart of the queues continues the stream, without parameter sets. The encoder therefore sets
    /// [`RepeatHeaders`](super::Setting::RepeatHeaders), unless the caller requests another value.
    pub restart_continues: bool,
}

impl Quirks {
    const NONE: Self = Self { reads_data_offset: false, restart_continues: false };

    /// Returns the quirks of a device's driver, or the default for an unknown driver.
    pub fn for_device(device: &DeviceInfo) -> Self {
        let known = DRIVERS.iter().find(|(name, _)| device.driver == *name || device.card == *name);
        known.map_or(Self::NONE, |(_, quirks)| *quirks)
    }
}

/// By driver or card name. Sources: the drivers' code, read in 2026. Only vicodec was run (docs/boards.md).
const DRIVERS: &[(&str, Quirks)] = &[
    // i.MX8M Mini (H1) and Plus (VC8000E), downstream. If `vsidaemon` is dead, the device reports ENODEV or POLLERR.
    ("vsi_v4l2enc", READS_DATA_OFFSET),
    // i.MX8QM and 8QXP.
    ("amphion vpu encoder", READS_DATA_OFFSET),
    // i.MX95.
    ("wave6-enc", READS_DATA_OFFSET),
    // Raspberry Pi 1 to 4.
    ("bcm2835-codec", Quirks { restart_continues: true, ..Quirks::NONE }),
    // The kernel's test codec accepts any data_offset and reads at 0. Its START does not resume (observed at run
    // time).
    ("vicodec", Quirks::NONE),
];

const READS_DATA_OFFSET: Quirks = Quirks { reads_data_offset: true, ..Quirks::NONE };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;

    #[test]
    fn quirks_match_by_driver_or_card() {
        let device = |driver: &str, card: &str| DeviceInfo {
            path: "/dev/video0".into(),
            driver: driver.into(),
            card: card.into(),
            bus: String::new(),
            serial: None,
            capabilities: Flags::from_bits(0),
        };
        assert!(Quirks::for_device(&device("vsi_v4l2", "vsi_v4l2enc")).reads_data_offset);
        assert!(Quirks::for_device(&device("bcm2835-codec", "bcm2835-codec-encode")).restart_continues);
        assert_eq!(Quirks::for_device(&device("vicodec", "stateful-encoder")), Quirks::NONE);
        assert_eq!(Quirks::for_device(&device("new", "newer")), Quirks::NONE);
    }
}
