//! What a camera's user says of its pictures, instead of the driver.

use crate::format::Colorimetry;

/// The properties of captured pictures, whatever the driver says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrule {
    /// The stride of the first color plane. The strides of the others follow from it.
    pub(crate) stride_bytes: Option<u32>,
    pub(crate) colorimetry: Option<Colorimetry>,
}
