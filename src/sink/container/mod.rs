//! What the files of all containers share: options, output, track, times.

mod codec;
mod colors;
mod file;
mod options;
mod output;
mod sample;
mod search;
mod timeline;
mod track;
mod wall_clock;

pub(super) use codec::{is_progressive, private};
pub(super) use colors::ColorCodes;
pub(super) use file::{reopen, ContainerFile, FileWriter};
pub use options::{Fsync, Repaired, Summary, WriterOptions, Written};
#[cfg(test)]
pub(super) use output::{Output, Pipe};
pub(super) use search::{find, read_up_to};
pub(super) use timeline::MOST_EARLY;
pub(super) use track::{begins_file, Track};
pub(super) use wall_clock::captured_at;
