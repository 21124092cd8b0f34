//! Decodes baseline JPEG pictures by the CPU (ITU-T T.81), into the planes that they have.

mod huffman;
mod idct;
mod picture;
mod station;

pub use station::JpegDecoder;
