//! [`Tensor`]: from a shared frame into the caller's memory.

use std::fmt;

use super::builder::TensorBuilder;
use super::element::{Element, ElementType};
use super::options::{Channels, Fit};
use super::output::Output;
use super::placement::Placement;
use super::plan::{placement, Plan};
use super::scaler::Scaler;
use crate::convert::Color;
use crate::dmabuf::DEFAULT_WAIT;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Layout, Size, MAX_SIDE};
use crate::frame::Frame;

const OP: &str = "tensor";

/// Makes the input of a model from frames: scales, converts and normalizes them, in one pass from the shared picture
/// into the caller's memory.
///
/// The first frame of a layout costs a plan: tables for the columns and rows of the tensor. Later frames of this layout
/// cost no allocation. The CPU reads only the rows that it needs, each once.
///
/// The [module's page](super) has a complete program.
pub struct Tensor {
    settings: TensorBuilder,
    output: Box<Output>,
    /// A row of the margin, for each channel.
    margin: [Vec<u8>; 3],
    plan: Option<Plan>,
    scaler: Scaler,
}

impl TensorBuilder {
    /// Creates the tensor's tables for elements.
    ///
    /// # Errors
    /// `InvalidArgument` for a side that is 0 or above [`MAX_SIDE`], for a tensor that exceeds the address space, and
    /// for a mean or a scale that is not a finite number.
    pub fn build(self) -> Result<Tensor> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidArgument, OP, text));
        let (Size { width, height }, sides) = (self.size, 1..=MAX_SIDE);
        if !sides.contains(&width) || !sides.contains(&height) {
            return invalid(format!("{}: each side must be 1 to {MAX_SIDE} pixels", self.size));
        }
        if !self.mean.iter().chain(&self.scale).all(|number| number.is_finite()) {
            return invalid(format!("mean {:?} and scale {:?} must be finite", self.mean, self.scale));
        }
        let output = Output::new(self.axes, self.size, self.channels.count(), self.mean, self.scale);
        if output.elements().and_then(|n| n.checked_mul(ElementType::F32.bytes())).is_none() {
            return invalid(format!("{} exceeds the address space", self.size));
        }
        let margin = margin(self.fit, self.channels).map(|value| vec![value; width as usize]);
        Ok(Tensor { settings: self, output, margin, plan: None, scaler: Scaler::default() })
    }
}

impl Tensor {
    /// Returns a builder for a tensor that shows a picture in `size` pixels.
    pub fn builder(size: Size) -> TensorBuilder {
        TensorBuilder::new(size)
    }

    /// Returns the number of elements: width x height x channels.
    pub fn elements(&self) -> usize {
        self.output.elements().unwrap_or(0)
    }

    /// Returns where the tensor shows the picture of a frame with this layout.
    ///
    /// # Errors
    /// `InvalidArgument` if the crop is empty or exceeds the picture.
    pub fn placement(&self, layout: &Layout) -> Result<Placement> {
        placement(&self.settings, layout)
    }

    /// Writes the tensor of a frame to `into`, which has exactly [`Tensor::elements`] elements. The slice has the type
    /// of the elements: `u8`, `i8`, `f32`, or `u16` for the bits of an `f16`. Integers are rounded, halves to even,
    /// and saturate.
    ///
    /// Waits at most [`DEFAULT_WAIT`] for a device that still writes the picture. The frame's matrix and range follow
    /// its colorimetry, and luma below black is black. Chroma is that of the pixel's own sample, not interpolated. If
    /// the frame came from a publisher, check [`Frame::is_valid`] afterwards.
    ///
    /// # Errors
    /// `Mismatch` if the slice has another length, or if the frame's payload ends before the last row that is needed.
    /// `InvalidArgument` if the crop is empty or exceeds the picture. `Unsupported` for a format that is not
    /// [among those of tensors](crate::convert::tensor). Other errors are those of [`Frame::read`]. After an error the
    /// content of `into` is unspecified.
    pub fn write<T: Element>(&mut self, frame: &Frame, into: &mut [T]) -> Result<Placement> {
        self.check(T::TYPE, into.len(), "elements", 1)?;
        self.draw(frame, T::TYPE, T::bytes(into))
    }

    /// Writes the tensor of a frame to the memory of a runtime, as [`Tensor::write`] does. The memory has
    /// [`Tensor::elements`] x [`ElementType::bytes`] bytes, and need not be aligned. Elements have the machine's byte
    /// order.
    ///
    /// # Errors
    /// The errors of [`Tensor::write`].
    pub fn write_bytes(&mut self, frame: &Frame, element: ElementType, into: &mut [u8]) -> Result<Placement> {
        self.check(element, into.len(), "bytes", element.bytes())?;
        self.draw(frame, element, into)
    }

    fn check(&self, element: ElementType, offered: usize, unit: &str, units: usize) -> Result<()> {
        let needed = self.elements() * units;
        if offered == needed {
            return Ok(());
        }
        let text = format!("{self:?} of {element} has {needed} {unit}, the slice has {offered}");
        Err(Error::new(ErrorKind::Mismatch, OP, text))
    }

    fn draw(&mut self, frame: &Frame, element: ElementType, into: &mut [u8]) -> Result<Placement> {
        let plan = match &mut self.plan {
            Some(plan) if plan.layout == *frame.layout() => plan,
            old => {
                let plan = old.insert(Plan::new(&self.settings, frame.layout())?);
                self.scaler.prepare(plan);
                plan
            }
        };
        let read = frame.read(DEFAULT_WAIT)?;
        let (output, margin) = (&self.output, &self.margin);
        let Size { width, height } = output.size;
        let place = plan.placement.place;
        let (left, top) = (place.left as usize, place.top as usize);
        let (right, bottom) = (left + place.size.width as usize, top + place.size.height as usize);
        let fill = |y: usize, columns: std::ops::Range<usize>, into: &mut [u8]| {
            let at = (columns.start, y);
            output.row(element, std::array::from_fn(|c| &margin[c][columns.clone()]), at, into);
        };
        for y in (0..top).chain(bottom..height as usize) {
            fill(y, 0..width as usize, into);
        }
        let order = if self.settings.channels == Channels::Bgr { [2, 1, 0] } else { [0, 1, 2] };
        self.scaler.scale(plan, &read, |row, values| {
            let y = top + row;
            fill(y, 0..left, into);
            output.row(element, order.map(|value| values[value]), (left, y), into);
            fill(y, right..width as usize, into);
        })?;
        Ok(plan.placement)
    }
}

/// Returns the value of each channel in the margins.
fn margin(fit: Fit, channels: Channels) -> [u8; 3] {
    let Fit::Letterbox(Color { red, green, blue, .. }) = fit else { return [0; 3] };
    match channels {
        Channels::Rgb => [red, green, blue],
        Channels::Bgr => [blue, green, red],
        // As a picture without colorimetry.
        Channels::Grey => {
            [(0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)).round() as u8; 3]
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { width, height } = self.settings.size;
        write!(f, "Tensor({:?} {}x{height}x{width})", self.settings.axes, self.settings.channels.count())
    }
}
