//! Where drivers differ and do not say so: everything known, in one table.
//!
//! What a driver does say (formats, sizes, controls, capabilities, whether it sets key flags or resumes) is asked or
//! seen at run time and is not here. Frames are always queued before the queues start, as bcm2835-codec and amphion
//! want it, since no driver minds.

use crate::v4l2::DeviceInfo;

/// What must be known of an encoder's driver before it is used. The default is safe for every driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quirks {
    /// It reads a source's planes where `data_offset` says, so that both planes of an NV12 picture in one dma-buf can
    /// be imported as NV12M. Drivers that ignore it would read luma as chroma.
    pub reads_data_offset: bool,
    /// Profile and level count before the formats are set: the default level allows small pictures only.
    pub profile_first: bool,
}

impl Quirks {
    const NONE: Self = Self { reads_data_offset: false, profile_first: false };

    /// Returns those of a device's driver, and the default for one that is not in the table.
    pub fn for_device(device: &DeviceInfo) -> Self {
        let known = DRIVERS.iter().find(|(name, _)| device.driver == *name || device.card == *name);
        known.map_or(Self::NONE, |(_, quirks)| *quirks)
    }
}

/// By driver or card. Sources: the drivers' own code as read in 2026; none but vicodec was run (docs/boards.md).
const DRIVERS: &[(&str, Quirks)] = &[
    // i.MX8M Mini (H1) and Plus (VC8000E), downstream. A dead `vsidaemon` is ENODEV or POLLERR.
    ("vsi_v4l2enc", Quirks { reads_data_offset: true, profile_first: false }),
    // i.MX8QM and 8QXP.
    ("amphion vpu encoder", Quirks { reads_data_offset: true, profile_first: false }),
    // Raspberry Pi 1 to 4: its default level is 1.0.
    ("bcm2835-codec", Quirks { reads_data_offset: false, profile_first: true }),
    // The kernel's test codec takes any data_offset and reads at 0; its START does not resume (seen at run time).
    ("vicodec", Quirks::NONE),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;

    #[test]
    fn drivers_are_known_by_driver_or_card() {
        let device = |driver: &str, card: &str| DeviceInfo {
            path: "/dev/video0".into(),
            driver: driver.into(),
            card: card.into(),
            bus: String::new(),
            capabilities: Flags::from_bits(0),
        };
        assert!(Quirks::for_device(&device("vsi_v4l2", "vsi_v4l2enc")).reads_data_offset);
        assert!(Quirks::for_device(&device("bcm2835-codec", "bcm2835-codec-encode")).profile_first);
        assert_eq!(Quirks::for_device(&device("vicodec", "stateful-encoder")), Quirks::NONE);
        assert_eq!(Quirks::for_device(&device("new", "newer")), Quirks::NONE);
    }
}
