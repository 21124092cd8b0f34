//! The range of a sequence parameter set of H.264 (ITU-T H.264, 7.3.2.1.1 and E.1.1).

/// `video_full_range_flag`. None: another NAL unit, or a set without it.
pub fn full_range(nal: &[u8]) -> Option<bool> {
    let mut bits = Bits::new(nal);
    if bits.bits(8)? & 0x1f != 7 {
        return None;
    }
    let profile = bits.bits(8)?;
    bits.bits(16)?; // constraints, level
    bits.exp_golomb()?;
    if [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244].contains(&profile) {
        let chroma = bits.exp_golomb()?;
        bits.bits(u32::from(chroma == 3))?;
        bits.exp_golomb()?;
        bits.exp_golomb()?;
        bits.bits(1)?;
        // No encoder of a board has scaling matrices.
        if bits.bits(1)? == 1 {
            return None;
        }
    }
    bits.exp_golomb()?;
    match bits.exp_golomb()? {
        0 => drop(bits.exp_golomb()?),
        1 => {
            bits.bits(1)?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            for _ in 0..bits.exp_golomb()?.min(255) {
                bits.exp_golomb()?;
            }
        }
        _ => {}
    }
    bits.exp_golomb()?;
    bits.bits(1)?;
    bits.exp_golomb()?;
    bits.exp_golomb()?;
    // frame_mbs_only_flag, else mb_adaptive_frame_field_flag.
    if bits.bits(1)? == 0 {
        bits.bits(1)?;
    }
    bits.bits(1)?;
    if bits.bits(1)? == 1 {
        for _ in 0..4 {
            bits.exp_golomb()?;
        }
    }
    if bits.bits(1)? == 0 {
        return None;
    }
    // The aspect ratio, which may be written out.
    if bits.bits(1)? == 1 && bits.bits(8)? == 255 {
        bits.bits(32)?;
    }
    if bits.bits(1)? == 1 {
        bits.bits(1)?;
    }
    if bits.bits(1)? == 0 {
        return None;
    }
    bits.bits(3)?;
    Some(bits.bits(1)? == 1)
}

/// A NAL unit without its emulation prevention bytes.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn new(nal: &[u8]) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(nal.len());
        let mut zeros = 0;
        for &byte in nal {
            if zeros >= 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            bytes.push(byte);
        }
        Self { bytes, at: 0 }
    }

    fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
        }
        (zeros < 32).then_some(())?;
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }
}
