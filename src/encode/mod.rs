//! One hardware encode for all consumers: stateful V4L2 mem-to-mem encoders, fed by dma-buf.
//!
//! A camera's or converter's frames go into the encoder's output queue as they are; [`Packet`](crate::frame::Packet)s
//! come out, leased, and are cloned to any number of sinks ([`PacketFanout`](crate::frame::PacketFanout)). Before either
//! streams, [`agree`] finds a layout that both devices mean the same by. [`Decoder`] is the way back.

mod agree;
mod controls;
mod decoder;
mod drivers;
mod encoder;
mod params;
mod setup;
mod stream;

pub use agree::{agree, Agreement, SourceMemory};
pub use decoder::{Decoded, Decoder, DecoderBuilder, DecoderStats, Pictures, Submitted};
pub use drivers::Quirks;
pub use encoder::{Encoded, Encoder, EncoderBuilder, EncoderStats};
pub use params::{Applied, HeaderMode, Level, Outcome, Params, Profile, RateMode, Setting, SliceMode, Switch};
pub use setup::source_layout;
