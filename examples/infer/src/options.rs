//! The command line.

use std::path::PathBuf;

use crate::common::{self, value};

const HELP: &str = "\
Finds the color bars in the frames of a publisher by a neural network, until Ctrl-C or the end of the stream.

Usage: infer [OPTIONS]

  --socket PATH  connect to the publisher here (default: the default of the example publisher)
  --frames N     stop after N frames
  --png FILE     write the last frame here, with what was found drawn into it
  --help         print this text

Prints a line for each bar: sequence number of the frame, color, probability, and the left, upper, right and lower edge in
pixels.
";

pub struct Options {
    pub socket: PathBuf,
    pub frames: u64,
    pub png: Option<PathBuf>,
}

impl Options {
    /// None: the help was asked for and printed.
    pub fn parse() -> common::Result<Option<Self>> {
        use lexopt::prelude::*;
        let mut o = Self { socket: common::default_socket(), frames: u64::MAX, png: None };
        let mut p = lexopt::Parser::from_env();
        while let Some(arg) = p.next()? {
            match arg {
                Long("socket") => o.socket = p.value()?.into(),
                Long("frames") => o.frames = value(&mut p, "frames")?,
                Long("png") => o.png = Some(p.value()?.into()),
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(Some(o))
    }
}
