//! The command line.

use std::path::PathBuf;

use lexopt::prelude::*;
use lexopt::{Error, Parser};

use crate::Res;

#[derive(Debug, Default)]
pub struct Options {
    pub fps: u32,
    pub frames: u32,
    pub warm: u32,
    /// Frames in which system calls are counted; 0: not at all.
    pub calls: u32,
    pub socket: Option<PathBuf>,
    pub ports: Vec<u16>,
    pub records: Vec<PathBuf>,
    pub streams: Option<PathBuf>,
    pub commands: Vec<String>,
}

impl Options {
    pub fn parse() -> Res<Self> {
        let options = Self::of(&mut Parser::from_env()).map_err(|e| e.to_string())?;
        match options.fps == 0 || options.frames == 0 || options.commands.is_empty() {
            true => Err("--fps, --frames and a command are needed".into()),
            false => Ok(options),
        }
    }

    fn of(parser: &mut Parser) -> Result<Self, Error> {
        let mut options = Self { warm: 3, ..Self::default() };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("fps") => options.fps = parser.value()?.parse()?,
                Long("frames") => options.frames = parser.value()?.parse()?,
                Long("warm") => options.warm = parser.value()?.parse()?,
                Long("calls") => options.calls = parser.value()?.parse()?,
                Long("socket") => options.socket = Some(parser.value()?.into()),
                Long("port") => options.ports.push(parser.value()?.parse()?),
                Long("record") => options.records.push(parser.value()?.into()),
                Long("streams") => options.streams = Some(parser.value()?.into()),
                Value(command) => options.commands.push(command.string()?),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(options)
    }
}
