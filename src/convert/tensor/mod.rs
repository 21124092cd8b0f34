//! Tensors for inference: the pixels of a frame, scaled and normalized, in the caller's memory.
//!
//! ```
//! use std::time::Duration;
//!
//! use framelease::capture::TestPattern;
//! use framelease::convert::tensor::{Fit, Tensor};
//! use framelease::convert::Color;
//! use framelease::format::{Rect, Size};
//! use framelease::Station;
//!
//! let mut source = TestPattern::builder(Size::new(1280, 720)).start()?;
//! // A detector of the YOLO family: 1x3x640x640, from 0 to 1, with gray margins.
//! let builder = Tensor::builder(Size::new(640, 640)).fit(Fit::Letterbox(Color::rgb(114, 114, 114)));
//! let mut tensor = builder.scale([1.0 / 255.0; 3]).build()?;
//! let mut input = vec![0f32; tensor.elements()];
//! if let Some(frame) = source.recv(Duration::from_secs(1))?.frame() {
//!     let placement = tensor.write(&frame, &mut input)?;
//!     drop(frame); // The model does not need the camera's buffer.
//!     // Here the model runs on `input`. A box that it finds goes back to the picture:
//!     assert_eq!(placement.to_picture([0.0, 140.0, 320.0, 500.0]), [0.0, 0.0, 640.0, 720.0]);
//! }
//! # Ok::<(), framelease::Error>(())
//! ```
//!
//! All formats with components of 8 bits can be sources: NV12, NV21, YUYV, UYVY, planar YUV, RGB with 24 or 32 bits,
//! GREY, and their relatives. Of the 10 or 12 bits of P010 and P012, the upper 8 count.

mod builder;
mod colors;
mod element;
mod line;
mod options;
mod output;
mod placement;
mod plan;
mod rows;
mod scaler;
mod taps;
#[allow(clippy::module_inception)] // The file is named after its type.
mod tensor;

pub use builder::TensorBuilder;
pub use element::{Element, ElementType};
pub use options::{Axes, Channels, Filter, Fit};
pub use placement::Placement;
pub use tensor::Tensor;
