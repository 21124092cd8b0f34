//! An H.264 stream whose pictures are fields or frames (PAFF), which x264 does not write. All macroblocks are I_PCM.

use super::made::{Made, FRAME_MS};

const WIDTH_MBS: u32 = 4;
/// Of a frame. A field has half of them.
const HEIGHT_MBS: u32 = 4;

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        for i in (0..bits).rev() {
            if self.used % 8 == 0 {
                self.bytes.push(0);
            }
            let bit = (value >> i & 1) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }

    /// An unsigned number of variable length, ue(v).
    fn ue(&mut self, value: u32) {
        let bits = (value + 1).ilog2();
        self.put(0, bits);
        self.put(value + 1, bits + 1);
    }

    /// Ends a NAL unit. Returns it with a start code and emulation prevention.
    fn unit(mut self, header: u8) -> Vec<u8> {
        self.put(1, 1);
        let mut out = vec![0, 0, 0, 1, header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            out.push(byte);
        }
        out
    }
}

fn sets() -> Vec<u8> {
    let mut sps = Bits::default();
    // Main, level 3.
    for (value, bits) in [(77, 8), (0, 8), (30, 8)] {
        sps.put(value, bits);
    }
    // Number, frame numbers of 4 bits, picture order counts of type 0 with 8 bits, one reference.
    [0, 0, 0, 4, 1].into_iter().for_each(|n| sps.ue(n));
    sps.put(0, 1);
    sps.ue(WIDTH_MBS - 1);
    sps.ue(HEIGHT_MBS / 2 - 1);
    // Fields are allowed, no MBAFF, direct_8x8_inference, no cropping, no VUI.
    sps.put(0b00100, 5);
    let mut pps = Bits::default();
    // CAVLC, no bottom_field_pic_order.
    [0, 0].into_iter().for_each(|n| pps.ue(n));
    pps.put(0, 2);
    // One slice group, one reference each.
    [0, 0, 0].into_iter().for_each(|n| pps.ue(n));
    pps.put(0, 3);
    [0, 0, 0].into_iter().for_each(|n| pps.ue(n));
    // Deblocking is controlled by slices.
    pps.put(0b100, 3);
    [sps.unit(0x67), pps.unit(0x68)].concat()
}

#[derive(Clone, Copy, PartialEq)]
enum Picture {
    Frame,
    Top,
    Bottom,
}

/// A picture of one slice. `number` counts the frames of the GOP.
fn slice(picture: Picture, number: u32, is_idr: bool, shade: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    // First macroblock, I slice, PPS.
    [0, 7, 0].into_iter().for_each(|n| bits.ue(n));
    bits.put(number % 16, 4);
    match picture {
        Picture::Frame => bits.put(0, 1),
        Picture::Top => bits.put(0b10, 2),
        Picture::Bottom => bits.put(0b11, 2),
    }
    if is_idr {
        bits.ue(0);
    }
    bits.put((2 * number + u32::from(picture == Picture::Bottom)) % 256, 8);
    // dec_ref_pic_marking.
    bits.put(0, if is_idr { 2 } else { 1 });
    bits.ue(0);
    // No deblocking.
    bits.ue(1);
    let rows = if picture == Picture::Frame { HEIGHT_MBS } else { HEIGHT_MBS / 2 };
    for mb in 0..WIDTH_MBS * rows {
        bits.ue(25);
        let used = bits.used;
        bits.put(0, used.next_multiple_of(8) - used);
        let luma = 16 + (shade * 7 + mb * 5 + u32::from(picture == Picture::Bottom) * 60) % 200;
        (0..256).for_each(|i| bits.put(luma + i % 16, 8));
        (0..128).for_each(|i| bits.put(100 + i % 32, 8));
    }
    bits.unit(if is_idr { 0x65 } else { 0x61 })
}

/// Frames as two fields, and every third one as a frame. Each field is an access unit.
pub fn stream() -> Made {
    let mut made = Made { size: (WIDTH_MBS * 16, HEIGHT_MBS * 16), ..Made::default() };
    for frame in 0..24u32 {
        let (number, is_key) = (frame % 8, frame % 8 == 0);
        let sets = if is_key { sets() } else { Vec::new() };
        let pictures: &[Picture] = match frame % 3 {
            2 => &[Picture::Frame],
            _ => &[Picture::Top, Picture::Bottom],
        };
        for (i, &picture) in pictures.iter().enumerate() {
            let (is_first, time) = (i == 0, u64::from(frame) * FRAME_MS + i as u64 * FRAME_MS / 2);
            let coded = slice(picture, number, is_key && is_first, frame);
            made.packets.push(if is_first { [&sets[..], &coded].concat() } else { coded });
            made.times.push(time);
        }
    }
    made
}
