//! A picture: its layout, and its blocks in the order of the scan (A.2).

use super::huffman::{Bits, Restart, Table};
use super::idct;
use crate::bitstream::{Component, Jpeg};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ColorSpace, Colorimetry, FourCc, Layout, Size};
use crate::frame::FrameWrite;

/// The alignment of rows in memory, for devices that import the frames.
const ALIGNMENT: u32 = 64;

/// The place in a block of each coefficient in zigzag order (figure A.6).
const PLACES: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

fn unsupported(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "jpeg", format!("this JPEG picture cannot be decoded: {why}"))
}

/// The rows of one component that a row of MCUs covers.
#[derive(Default)]
struct Band {
    samples: Vec<u8>,
    stride: usize,
    /// Blocks of an MCU.
    across: usize,
    down: usize,
}

/// Memory that one picture leaves to the next.
#[derive(Default)]
pub(super) struct Scratch {
    bands: [Band; 3],
    row: Vec<u8>,
}

/// What a component is decoded by.
struct Decoding {
    tables: [Box<Table>; 2],
    quantizer: [i32; 64],
    /// The first coefficient of the block before.
    dc: i32,
}

/// A picture that this decoder supports.
pub(super) struct Picture<'a> {
    jpeg: Jpeg<'a>,
    /// GREY, YUYV (4:2:2) or NV12 (4:2:0).
    fourcc: FourCc,
}

/// Returns the sampling factors of a component. The only component of a picture has one block in an MCU.
fn factors(component: &Component, is_alone: bool) -> [usize; 2] {
    match is_alone {
        true => [1, 1],
        false => [component.factors >> 4, component.factors & 15].map(usize::from),
    }
}

impl<'a> Picture<'a> {
    /// Reads the headers of a packet's bytes.
    ///
    /// # Errors
    /// `InvalidArgument` if they are not a JPEG picture. `Unsupported` for a picture that is not baseline, or that has
    /// another sampling than 4:2:0, 4:2:2 and grayscale.
    pub(super) fn new(data: &'a [u8]) -> Result<Self> {
        let jpeg = Jpeg::parse(data)?;
        if !jpeg.is_baseline() {
            return Err(unsupported("it is not baseline with 8 bits"));
        }
        let fourcc = match jpeg.components() {
            [_] => Some(FourCc::GREY),
            [y, u, v] if u.factors == v.factors => {
                let [y, u] = [factors(y, false), factors(u, false)];
                let is_possible = [y, u].iter().flatten().all(|side| (1..=4).contains(side));
                match [0, 1].map(|side| is_possible && y[side] == 2 * u[side]) {
                    [true, true] => Some(FourCc::NV12),
                    [true, false] if y[1] == u[1] => Some(FourCc::YUYV),
                    _ => None,
                }
            }
            _ => None,
        };
        let fourcc = fourcc.ok_or_else(|| unsupported("its sampling is neither 4:2:0 nor 4:2:2 nor grayscale"))?;
        Ok(Self { jpeg, fourcc })
    }

    /// Returns the size of the picture.
    pub(super) fn size(&self) -> Size {
        self.jpeg.size
    }

    /// Returns the layout of its frames, which have whole groups of chroma samples.
    pub(super) fn layout(&self) -> Result<Layout> {
        let (across, down) = self.fourcc.info().map_or((1, 1), |info| info.subsampling());
        let size =
            Size::new(self.jpeg.size.width.next_multiple_of(across), self.jpeg.size.height.next_multiple_of(down));
        let colors = Colorimetry { space: ColorSpace::Jpeg, ..Colorimetry::default() };
        Ok(Layout::aligned(self.fourcc, size, ALIGNMENT)?.with_colorimetry(colors))
    }

    fn decoding(&self, component: &Component) -> Result<Decoding> {
        let table = |class: usize| {
            let [counts, values] = self.jpeg.codes(class, component.huffman[class])?;
            Table::new(counts, values).map(Box::new)
        };
        let tables = table(0).zip(table(1)).ok_or_else(|| unsupported("a Huffman table is missing or damaged"))?;
        let quantizer = self.jpeg.quantizer(component.quantizer);
        let quantizer = quantizer.ok_or_else(|| unsupported("a quantization table of 8 bits is missing"))?;
        let mut steps = [0; 64];
        steps.iter_mut().zip(quantizer).for_each(|(step, &value)| *step = value.into());
        Ok(Decoding { tables: [tables.0, tables.1], quantizer: steps, dc: 0 })
    }

    /// Decodes the picture into a frame of [`Picture::layout`]. Returns `false` if the data are damaged: the picture is
    /// flat then up to the next restart marker.
    pub(super) fn decode(&self, scratch: &mut Scratch, write: &mut FrameWrite<'_>, layout: &Layout) -> Result<bool> {
        let components = self.jpeg.components();
        let is_alone = components.len() == 1;
        let mut decodings = components.iter().map(|c| self.decoding(c)).collect::<Result<Vec<_>>>()?;
        let [across, down] = factors(&components[0], is_alone);
        let (width, height) = (layout.size().width as usize, layout.size().height as usize);
        let (columns, rows) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        for (band, component) in scratch.bands.iter_mut().zip(components) {
            let [across, down] = factors(component, is_alone);
            *band = Band { stride: columns * across * 8, across, down, samples: std::mem::take(&mut band.samples) };
            band.samples.resize(band.stride * down * 8, 0);
        }
        let mut bits = Bits::new(self.jpeg.scan);
        let (mut is_whole, mut is_broken) = (self.jpeg.is_whole, false);
        let (mut left, mut number) = (self.jpeg.restart_interval, 0);
        for row in 0..rows {
            for column in 0..columns {
                if self.jpeg.restart_interval > 0 {
                    if left == 0 {
                        let restart = bits.restart(number);
                        number = (number + 1) & 7;
                        is_broken = restart == Restart::Missing;
                        is_whole &= restart == Restart::Expected;
                        decodings.iter_mut().for_each(|decoding| decoding.dc = 0);
                        left = self.jpeg.restart_interval;
                    }
                    left -= 1;
                }
                for (band, decoding) in scratch.bands.iter_mut().zip(&mut decodings) {
                    let is_good = band.mcu(column, decoding, (!is_broken).then_some(&mut bits));
                    is_broken |= !is_good;
                }
                is_whole &= !is_broken;
            }
            scratch.write(write, layout, row * 8 * down)?;
        }
        Ok(is_whole)
    }
}

impl Band {
    /// Decodes the component's blocks of an MCU. Without bits, or where the data are damaged, a block is flat. Returns
    /// `false` if the data are damaged.
    fn mcu(&mut self, column: usize, decoding: &mut Decoding, mut bits: Option<&mut Bits<'_>>) -> bool {
        let mut is_good = true;
        for block in 0..self.across * self.down {
            let (x, y) = (column * self.across + block % self.across, block / self.across);
            let (mut coefficients, mut last) = ([0; 64], 0);
            let Decoding { tables, quantizer, dc } = decoding;
            if let Some(source) = &mut bits {
                let put = |at: usize, value: i32| {
                    coefficients[usize::from(PLACES[at])] = value.wrapping_mul(quantizer[at]);
                    last = at;
                };
                if source.block([&tables[0], &tables[1]], dc, put).is_none() {
                    (bits, is_good) = (None, false);
                }
            }
            if bits.is_none() {
                (coefficients, last) = ([0; 64], 0);
                coefficients[0] = dc.wrapping_mul(quantizer[0]);
            }
            if let Some(out) = self.samples.get_mut((y * self.stride + x) * 8..) {
                idct::block(&coefficients, last == 0, out, self.stride);
            }
        }
        is_good
    }

    fn row(&self, row: usize) -> &[u8] {
        self.samples.get(row * self.stride..(row + 1) * self.stride).unwrap_or(&[])
    }
}

impl Scratch {
    /// Writes the rows of the bands, from the picture's row `top` on.
    fn write(&mut self, write: &mut FrameWrite<'_>, layout: &Layout, top: usize) -> Result<()> {
        let [y, u, v] = &self.bands;
        let rows = (y.down * 8).min((layout.size().height as usize).saturating_sub(top));
        let bytes = layout.row_bytes(0) as usize;
        let interleaved = &mut self.row;
        for row in 0..rows {
            let at = (top + row) as u32;
            if layout.fourcc() != FourCc::YUYV {
                write.copy_row(0, at, y.row(row).get(..bytes).unwrap_or(&[]))?;
                continue;
            }
            let chroma = u.row(row).iter().zip(v.row(row));
            let groups = y.row(row).chunks_exact(2).zip(chroma);
            interleaved.clear();
            interleaved.extend(groups.flat_map(|(y, (u, v))| [y[0], *u, y[1], *v]));
            write.copy_row(0, at, interleaved.get(..bytes).unwrap_or(&[]))?;
        }
        if layout.fourcc() != FourCc::NV12 {
            return Ok(());
        }
        for row in 0..rows.div_ceil(2) {
            interleaved.clear();
            interleaved.extend(u.row(row).iter().zip(v.row(row)).flat_map(|(u, v)| [*u, *v]));
            write.copy_row(1, (top / 2 + row) as u32, interleaved.get(..bytes).unwrap_or(&[]))?;
        }
        Ok(())
    }
}
