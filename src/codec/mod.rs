//! One hardware encode for all consumers: stateful V4L2 mem-to-mem encoders, fed by dma-buf.
//!
//! A camera's or converter's frames go into the encoder's output queue as they are; [`Packet`](crate::frame::Packet)s
//! come out, leased, and are cloned to any number of sinks ([`PacketFanout`](crate::frame::PacketFanout)). Before either
//! streams, [`negotiate`] finds a layout that both devices mean the same by. [`Decoder`] is the way back.

mod controls;
mod decoder;
mod encoder;
mod negotiate;
mod parameters;
mod quirks;
mod setup;
mod stream;

pub use decoder::{Decoder, DecoderBuilder, DecoderEvent, DecoderStats, Pictures};
pub use encoder::{Encoder, EncoderBuilder, EncoderEvent, EncoderStats};
#[doc(hidden)] // For this project's tests.
pub use negotiate::negotiate_with;
pub use negotiate::{negotiate, Agreement, SourceMemory};
pub use parameters::{Applied, HeaderMode, Level, Outcome, Params, Profile, RateMode, Setting, SliceMode, Switch};
#[doc(hidden)] // For this project's tests.
pub use quirks::Quirks;
pub use setup::source_layout;
