//! The coded data of a scan: Huffman codes and the bits after them (F.2.2).

/// Codes of up to this length are found by one look into a table.
const QUICK: u32 = 9;

/// A Huffman table, for decoding.
pub(super) struct Table {
    /// For the next bits of a scan: the length of the code in them, and its value. The length of longer codes is 0.
    quick: [(u8, u8); 1 << QUICK],
    /// For each length: the first code that is longer, and what turns a code into the index of its value.
    lengths: [(u32, u32); 17],
    values: [u8; 256],
}

impl Table {
    /// Creates a table from the number of codes of each length, and their values (Annex C). `None` if a length has more
    /// codes than its bits can express, or if there are too many values.
    pub(super) fn new(counts: &[u8], values: &[u8]) -> Option<Self> {
        let mut table = Self { quick: [(0, 0); 1 << QUICK], lengths: [(0, 0); 17], values: [0; 256] };
        table.values.get_mut(..values.len())?.copy_from_slice(values);
        let (mut code, mut index) = (0u32, 0u32);
        for (length, &count) in (1..=16).zip(counts) {
            let (first, end) = (code, code + u32::from(count));
            if end > 1 << length {
                return None;
            }
            table.lengths[length as usize] = (end, index.wrapping_sub(first));
            for code in first..end {
                let value = *values.get(index as usize)?;
                index += 1;
                if length <= QUICK {
                    let shift = QUICK - length;
                    table.quick[(code << shift) as usize..((code + 1) << shift) as usize].fill((length as u8, value));
                }
            }
            code = end << 1;
        }
        Some(table)
    }
}

/// What [`Bits::restart`] has found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    Expected,
    /// The data go on after other markers.
    Other,
    /// The data of the interval are missing.
    Missing,
}

/// Reads the bits of a scan. After their end it reads zeros.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest down.
    word: u64,
    count: u32,
    /// Bits of `word` that are zeros after the end of the data.
    after: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, word: 0, count: 0, after: 0 }
    }

    /// Returns `true` if bits were read that the data do not have.
    pub(super) fn is_over(&self) -> bool {
        self.after > self.count
    }

    /// Continues after the restart marker with this number, from 0 to 7. Like libjpeg, it takes a marker that is one or
    /// two ahead for a later one, and skips markers that are one or two behind. Skips all bytes before a marker: common
    /// webcams write some.
    pub(super) fn restart(&mut self, number: u8) -> Restart {
        (self.word, self.count, self.after) = (0, 0, 0);
        let mut is_expected = true;
        loop {
            let left = self.data.get(self.at..).unwrap_or(&[]);
            let Some(found) = left.windows(2).position(|pair| pair[0] == 0xff && (0xd0..=0xd7).contains(&pair[1]))
            else {
                self.at += left.len();
                return Restart::Missing;
            };
            let ahead = left[found + 1].wrapping_sub(number) & 7;
            if matches!(ahead, 1 | 2) {
                self.at += found;
                return Restart::Missing;
            }
            self.at += found + 2;
            is_expected &= ahead == 0;
            if !matches!(ahead, 6 | 7) {
                return if is_expected { Restart::Expected } else { Restart::Other };
            }
        }
    }

    /// Makes at least 57 bits available.
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                // A marker ends the data.
                (Some(0xff), _) | (None, _) => {
                    self.after += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.word |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn skip(&mut self, count: u32) {
        self.word <<= count;
        self.count -= count;
    }

    /// Returns the value of the next code, if there is one. Leaves at least 16 bits for [`Bits::number`].
    fn value(&mut self, table: &Table) -> Option<u8> {
        if self.count < 32 {
            self.fill();
        }
        let (length, value) = table.quick[(self.word >> (64 - QUICK)) as usize];
        if length > 0 {
            self.skip(length.into());
            return Some(value);
        }
        for length in QUICK + 1..=16 {
            let code = (self.word >> (64 - length)) as u32;
            let (end, to_index) = table.lengths[length as usize];
            if code < end {
                self.skip(length);
                return table.values.get(code.wrapping_add(to_index) as usize).copied();
            }
        }
        None
    }

    /// Returns a signed number of up to 15 bits (F.2.2.1, EXTEND).
    fn number(&mut self, bits: u8) -> i32 {
        if bits == 0 {
            return 0;
        }
        let value = (self.word >> (64 - u32::from(bits))) as i32;
        self.skip(bits.into());
        let is_negative = value >> (bits - 1) == 0;
        if is_negative {
            value - (1 << bits) + 1
        } else {
            value
        }
    }

    /// Decodes a block: calls `each` with the position in zigzag order and the value of each coefficient that is not
    /// 0, and the first one. `dc` is the first coefficient of the block before. `None` if the data are damaged.
    pub(super) fn block(&mut self, tables: [&Table; 2], dc: &mut i32, mut each: impl FnMut(usize, i32)) -> Option<()> {
        let bits = self.value(tables[0])?;
        if bits > 11 {
            return None;
        }
        *dc = dc.wrapping_add(self.number(bits));
        each(0, *dc);
        let mut at = 1;
        while at < 64 {
            let code = self.value(tables[1])?;
            let (zeros, bits) = (usize::from(code >> 4), code & 15);
            if bits == 0 && zeros < 15 {
                break;
            }
            at += zeros;
            let number = self.number(bits);
            if at > 63 {
                return None;
            }
            if bits > 0 {
                each(at, number);
            }
            at += 1;
        }
        (!self.is_over()).then_some(())
    }
}
