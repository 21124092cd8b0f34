//! Finishes Matroska and MP4 files that a crash or a power failure has left: writes the index and the duration in
//! place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use framelease::sink::{matroska, mp4, Repaired};
use framelease::ErrorKind;

const HELP: &str = "\
Finishes recordings that a crash or a power failure has left: players can seek in them then.

Usage: repair FILE...

Each file is changed in place: half a frame at its end is removed, the index and the duration are written. A finished
file stays as it is. Matroska and fragmented MP4 are recognized by the content of a file. A recorder of this library does
this by itself for its latest file.
";

fn repair(path: &Path) -> Result<Option<Repaired>, String> {
    let is_other = |e: &framelease::Error| e.kind() == ErrorKind::WrongFile && path.is_file();
    match matroska::repair(path) {
        Err(e) if is_other(&e) => match mp4::repair(path) {
            Err(e) if is_other(&e) => Err(format!("{}: neither a Matroska nor an MP4 file", path.display())),
            done => done.map_err(|e| e.to_string()),
        },
        done => done.map_err(|e| e.to_string()),
    }
}

/// Returns the files of the command line. `None` if the help was asked for.
fn files() -> Result<Option<Vec<PathBuf>>, lexopt::Error> {
    let mut files = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            lexopt::Arg::Value(file) => files.push(file.into()),
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(files))
}

fn main() -> ExitCode {
    let files = match files() {
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(files)) if !files.is_empty() => files,
        Ok(Some(_)) => {
            eprintln!("error: no file; --help says more");
            return ExitCode::from(2);
        }
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::from(2);
        }
    };
    let mut code = ExitCode::SUCCESS;
    for path in &files {
        match repair(path) {
            Ok(Some(done)) => {
                let (path, seconds) = (path.display(), done.duration.as_secs_f64());
                println!("{path}: finished, {seconds:.3} s, {} bytes, {} removed", done.bytes, done.removed_bytes);
            }
            Ok(None) => println!("{}: nothing to do", path.display()),
            Err(e) => {
                eprintln!("{e}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
