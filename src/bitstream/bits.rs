//! Bits of a NAL unit's payload, without the emulation prevention bytes (ITU-T H.264, 7.3.1 and 9.1).

/// Reads bits from the start. Every read after the end returns `None`.
#[derive(Debug)]
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    zeros: u32,
    byte: u8,
    left: u32,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, zeros: 0, byte: 0, left: 0 }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let mut byte = *self.data.get(self.at)?;
        self.at += 1;
        if self.zeros >= 2 && byte == 3 {
            byte = *self.data.get(self.at)?;
            self.at += 1;
            self.zeros = 0;
        }
        self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
        Some(byte)
    }

    /// Returns up to 32 bits, the first one as the highest.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            if self.left == 0 {
                (self.byte, self.left) = (self.next_byte()?, 8);
            }
            self.left -= 1;
            value = value << 1 | u32::from(self.byte >> self.left & 1);
        }
        Some(value)
    }

    /// Returns an unsigned Exp-Golomb code, `ue(v)`.
    pub(crate) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_skips_prevention_bytes() {
        // 1, 010, 011, 00100, then zeros with an emulation prevention byte between.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0000, 0, 0, 3, 1, 0xff]);
        assert_eq!(
            (bits.unsigned(), bits.unsigned(), bits.unsigned(), bits.unsigned()),
            (Some(0), Some(1), Some(2), Some(3))
        );
        assert_eq!((bits.bits(4), bits.bits(24), bits.bits(8)), (Some(0), Some(1), Some(255)));
        assert_eq!((bits.bits(1), bits.unsigned()), (None, None));
    }

    proptest! {
        #[test]
        fn bits_end_for_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut bits = Bits::new(&data);
            let mut count = 0;
            while bits.unsigned().is_some() {
                count += 1;
            }
            prop_assert!(count <= data.len() * 8);
        }
    }
}
