//! The bytes by which a USB camera describes itself: descriptors of USB 2.0 and of the USB Video Class 1.1.

use framelease::format::Size;

use crate::raw_gadget::CONTROL_PACKET;

/// A format of a camera.
#[derive(Clone, Debug)]
pub struct Format {
    pub code: &'static str,
    pub sizes: Vec<FrameSize>,
}

/// A frame size, and the rates that the camera has at this size. The first rate is the default.
#[derive(Clone, Debug)]
pub struct FrameSize {
    pub size: Size,
    pub fps: Vec<u32>,
}

/// A format with its sizes and their rates.
pub fn format(code: &'static str, sizes: &[(Size, &[u32])]) -> Format {
    let sizes = sizes.iter().map(|&(size, fps)| FrameSize { size, fps: fps.to_vec() });
    Format { code, sizes: sizes.collect() }
}

/// A payload format of the class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Uncompressed,
    Mjpeg,
    FrameBased,
}

impl Format {
    fn class(&self) -> Class {
        match self.code {
            "MJPG" => Class::Mjpeg,
            "H264" => Class::FrameBased,
            _ => Class::Uncompressed,
        }
    }

    /// Returns the GUID. Only its first four bytes differ between formats.
    fn guid(&self) -> [u8; 16] {
        let name = match self.code {
            "YUYV" => *b"YUY2",
            "GREY" => *b"Y8  ",
            code => code.as_bytes().try_into().expect("four characters"),
        };
        let mut guid = *b"\0\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
        guid[..4].copy_from_slice(&name);
        guid
    }

    fn bits(&self) -> u8 {
        if self.code == "GREY" {
            8
        } else {
            16
        }
    }

    /// Returns the bytes of the largest frame. Every raw frame has that many.
    pub fn max_bytes(&self, size: Size) -> u32 {
        size.width * size.height * u32::from(self.bits()) / 8
    }
}

/// The interval of a rate, in units of 100 ns.
pub fn interval(fps: u32) -> u32 {
    10_000_000 / fps
}

/// `CS_INTERFACE`: a descriptor of the class.
const CLASS: u8 = 0x24;
/// The numbers of the entities in the camera.
pub const CAMERA: u8 = 1;
pub const PROCESSING: u8 = 2;
const OUTPUT: u8 = 3;
/// The numbers of the interfaces.
pub const CONTROL_INTERFACE: u8 = 0;
pub const STREAMING_INTERFACE: u8 = 1;

/// The bulk endpoint of the stream: IN 1, packets of 512 bytes.
pub const ENDPOINT: [u8; 7] = [7, 5, 0x81, 2, 0x00, 0x02, 0];

/// The device. The number is that of Linux's webcam gadget, for which uvcvideo does not have quirks.
pub const DEVICE: [u8; 18] = [18, 1, 0x00, 0x02, 0xef, 2, 1, CONTROL_PACKET, 0x6b, 0x1d, 2, 1, 1, 0, 1, 2, 3, 1];
/// The device at full speed.
pub const QUALIFIER: [u8; 10] = [10, 6, 0x00, 0x02, 0xef, 2, 1, CONTROL_PACKET, 1, 0];

/// Adds a descriptor: its length, which counts itself, and its other fields.
fn add(to: &mut Vec<u8>, fields: &[&[u8]]) {
    let length: usize = fields.iter().map(|field| field.len()).sum();
    to.push(1 + length as u8);
    fields.iter().for_each(|field| to.extend(*field));
}

/// A string descriptor. Number 0 lists the languages.
pub fn string(number: u8, serial: &str) -> Vec<u8> {
    let text: Vec<u8> = match number {
        0 => vec![0x09, 0x04],
        1 => utf16("framelease"),
        2 => utf16("Lab Camera"),
        _ => utf16(serial),
    };
    let mut all = Vec::new();
    add(&mut all, &[&[3], &text]);
    all
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The whole configuration of a camera with these formats.
pub fn configuration(formats: &[Format]) -> Vec<u8> {
    let mut all = Vec::new();
    add(&mut all, &[&[2, 0, 0, 2, 1, 0, 0x80, 250]]);
    // Both interfaces are one function.
    add(&mut all, &[&[11, CONTROL_INTERFACE, 2, 14, 3, 0, 0]]);
    add(&mut all, &[&[4, CONTROL_INTERFACE, 0, 0, 14, 1, 0, 0]]);
    let mut entities = Vec::new();
    // The camera has a mode of the automatic exposure and an exposure time, the processing unit a brightness.
    add(&mut entities, &[&[CLASS, 2, CAMERA, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x0a, 0, 0]]);
    add(&mut entities, &[&[CLASS, 5, PROCESSING, CAMERA, 0, 0, 2, 0x01, 0, 0, 0]]);
    add(&mut entities, &[&[CLASS, 3, OUTPUT, 0x01, 0x01, 0, PROCESSING, 0]]);
    let length = 13 + entities.len() as u16;
    let clock = 48_000_000u32.to_le_bytes();
    add(&mut all, &[&[CLASS, 1, 0x10, 0x01], &length.to_le_bytes(), &clock, &[1, STREAMING_INTERFACE]]);
    all.extend(entities);

    add(&mut all, &[&[4, STREAMING_INTERFACE, 0, 1, 14, 2, 0, 0]]);
    let listed = listed(formats);
    let count = formats.len() as u8;
    let length = (13 + formats.len() + listed.len()) as u16;
    let controls = vec![0; formats.len()];
    let head: [&[u8]; 4] =
        [&[CLASS, 1, count], &length.to_le_bytes(), &[ENDPOINT[2], 0, OUTPUT, 0, 0, 0, 1], &controls];
    add(&mut all, &head);
    all.extend(listed);
    all.extend(ENDPOINT);
    let length = all.len() as u16;
    all[2..4].copy_from_slice(&length.to_le_bytes());
    all
}

/// The formats and their sizes.
fn listed(formats: &[Format]) -> Vec<u8> {
    let mut all = Vec::new();
    for (index, format) in formats.iter().enumerate() {
        let (index, count, class) = (index as u8 + 1, format.sizes.len() as u8, format.class());
        let (guid, bits) = (format.guid(), format.bits());
        match class {
            Class::Mjpeg => add(&mut all, &[&[CLASS, 6, index, count, 1, 1, 0, 0, 0, 0]]),
            Class::Uncompressed => add(&mut all, &[&[CLASS, 4, index, count], &guid, &[bits, 1, 0, 0, 0, 0]]),
            Class::FrameBased => add(&mut all, &[&[CLASS, 16, index, count], &guid, &[bits, 1, 0, 0, 0, 0, 1]]),
        }
        for (at, FrameSize { size, fps }) in format.sizes.iter().enumerate() {
            let kind = match class {
                Class::Mjpeg => 7,
                Class::Uncompressed => 5,
                Class::FrameBased => 17,
            };
            let intervals: Vec<u8> = fps.iter().flat_map(|&fps| interval(fps).to_le_bytes()).collect();
            let (default, count) = (interval(fps[0]).to_le_bytes(), fps.len() as u8);
            let (width, height) = ((size.width as u16).to_le_bytes(), (size.height as u16).to_le_bytes());
            let (rate, most) = (100_000_000u32.to_le_bytes(), format.max_bytes(*size).to_le_bytes());
            let head = [CLASS, kind, at as u8 + 1, 0];
            match class {
                // Bytes in a line: 0, because frames differ.
                Class::FrameBased => {
                    let fields: [&[u8]; 9] =
                        [&head, &width, &height, &rate, &rate, &default, &[count], &[0; 4], &intervals];
                    add(&mut all, &fields);
                }
                _ => {
                    let fields: [&[u8]; 9] =
                        [&head, &width, &height, &rate, &rate, &most, &default, &[count], &intervals];
                    add(&mut all, &fields);
                }
            }
        }
        // Color matching: BT.709, and the matrix of BT.601.
        add(&mut all, &[&[CLASS, 0x0d, 1, 1, 4]]);
    }
    all
}

/// The format, the size and the interval of a PROBE or COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub format: usize,
    pub size: usize,
    pub interval: u32,
}

/// Bytes of a PROBE and a COMMIT of UVC 1.1.
pub const PROBE_BYTES: u8 = 34;

impl Stream {
    /// Takes the nearest that the camera has.
    pub fn nearest(formats: &[Format], probe: &[u8]) -> Self {
        let at = |byte: u8, count: usize| usize::from(byte).clamp(1, count) - 1;
        let wish = u32::from_le_bytes(probe[4..8].try_into().expect("four bytes"));
        let format = at(probe[2], formats.len());
        let size = at(probe[3], formats[format].sizes.len());
        let intervals = formats[format].sizes[size].fps.iter().map(|&fps| interval(fps));
        let interval = intervals.min_by_key(|interval| interval.abs_diff(wish)).expect("a rate");
        Self { format, size, interval }
    }

    /// The answer to a request for the present state. `payload` is the size of a transfer.
    pub fn probe(&self, formats: &[Format], payload: u32) -> Vec<u8> {
        let mut probe = vec![1, 0, self.format as u8 + 1, self.size as u8 + 1];
        probe.extend(self.interval.to_le_bytes());
        probe.extend([0; 10]);
        let format = &formats[self.format];
        probe.extend(format.max_bytes(format.sizes[self.size].size).to_le_bytes());
        probe.extend(payload.to_le_bytes());
        probe.extend(48_000_000u32.to_le_bytes());
        // The header of each transfer tells frames apart.
        probe.extend([3, 1, 1, 1]);
        probe
    }
}
