//! The model: its input, and what its output says. `model/train.py` describes both.

use std::fmt;

use framelease::convert::tensor::Placement;
use framelease::format::Size;
use tract_onnx::prelude::tract_ndarray::{s, ArrayView3, Ix4};
use tract_onnx::prelude::*;

use crate::common::Result;

/// The size of the picture that the model takes.
pub const SIZE: Size = Size::new(128, 128);
/// Pixels of a cell's side.
const CELL: f32 = 8.0;

/// The classes, as the model numbers them, and a color to draw each with.
const CLASSES: [(&str, [u8; 3]); 8] = [
    ("white", [255, 255, 255]),
    ("yellow", [255, 255, 0]),
    ("cyan", [0, 255, 255]),
    ("green", [0, 255, 0]),
    ("magenta", [255, 0, 255]),
    ("red", [255, 0, 0]),
    ("blue", [0, 0, 255]),
    ("black", [0, 0, 0]),
];

/// A bar that the model has found.
pub struct Bar {
    class: usize,
    probability: f32,
    /// Left, top, right and bottom edge, in pixels of the picture.
    pub edges: [f32; 4],
}

impl Bar {
    /// The color of the bar.
    pub fn color(&self) -> [u8; 3] {
        CLASSES[self.class].1
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([left, top, right, bottom], name) = (self.edges, CLASSES[self.class].0);
        write!(f, "{name} {:.2} {left:.0} {top:.0} {right:.0} {bottom:.0}", self.probability)
    }
}

/// The model, ready to run.
pub type Model = TypedRunnableModel<TypedModel>;

/// Loads the model, which is a part of this program.
pub fn load() -> Result<Model> {
    let mut file: &[u8] = include_bytes!("../model/bars.onnx");
    Ok(tract_onnx::onnx().model_for_read(&mut file)?.into_optimized()?.into_runnable()?)
}

/// Creates the model's input, in memory of the runtime.
pub fn input() -> Result<Tensor> {
    Ok(Tensor::zero::<f32>(&[1, 3, SIZE.height as usize, SIZE.width as usize])?)
}

/// Runs the model. Returns what it found in the picture.
pub fn run(model: &Model, input: Tensor, placement: Placement) -> Result<Vec<Bar>> {
    let outputs = model.run(tvec!(input.into()))?;
    let output = outputs[0].to_array_view::<f32>()?.into_dimensionality::<Ix4>()?;
    let logits: ArrayView3<f32> = output.slice(s![0, ..CLASSES.len(), .., ..]);
    let sides: ArrayView3<f32> = output.slice(s![0, CLASSES.len().., .., ..]);
    let (_, height, width) = logits.dim();
    let mut found = Vec::new();
    for ((class, y, x), &logit) in logits.indexed_iter() {
        let (rows, columns) = (y.saturating_sub(1)..height.min(y + 2), x.saturating_sub(1)..width.min(x + 2));
        // A center is more likely than not, and than its neighbors.
        if logit > 0.0 && logits.slice(s![class, rows, columns]).iter().all(|&near| near <= logit) {
            let (across, down) = (x as f32 + 0.5, y as f32 + 0.5);
            let side = |n| sides[[n, y, x]];
            let edges = [across - side(0), down - side(1), across + side(2), down + side(3)].map(|cells| cells * CELL);
            let probability = 1.0 / (1.0 + (-logit).exp());
            found.push(Bar { class, probability, edges: placement.to_picture(edges) });
        }
    }
    Ok(found)
}
