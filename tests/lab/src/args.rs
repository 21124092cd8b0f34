//! The command line.

use std::time::Duration;

use crate::arch::Arch;
use crate::rivals::{Size, Wish, SIZES};

#[derive(Debug, PartialEq)]
pub enum Command {
    Test { where_: Where, filter: Option<String>, timeout: Duration, no_skips: bool },
    Run(Run),
    Shell { arch: Arch, modules: Vec<String> },
    Rival { frames: u32, turns: u32 },
    Rivals(Wish),
    Soak { arch: Arch, minutes: u32 },
    Bench(Bench),
    Fetch { archs: Vec<Arch> },
    Help(&'static str),
}

/// Where tests run.
#[derive(Debug, PartialEq)]
pub struct Where {
    pub host: bool,
    pub archs: Vec<Arch>,
    /// Named by the user, so that doing without is an error.
    pub named: bool,
}

#[derive(Debug, PartialEq)]
pub struct Run {
    pub arch: Arch,
    pub modules: Vec<String>,
    pub timeout: Option<Duration>,
    pub example: String,
    pub args: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub struct Bench {
    pub arch: Arch,
    pub frames: u32,
    pub turns: u32,
    pub update_docs: bool,
}

pub const USAGE: &str = "\
Runs framelease's tests and examples on a real kernel with video test drivers, in QEMU.

usage: cargo lab test  [--arch x86_64|aarch64|all|host] [--timeout SECONDS] [--no-skips] [FILTER]
       cargo lab run   [--arch ARCH] [--modules \"NAME PARAMETERS\"] [--timeout SECONDS] -- EXAMPLE [ARGUMENTS]
       cargo lab shell [--arch ARCH] [--modules \"NAME PARAMETERS\"]
       cargo lab rival [--frames N] [--turns N]
       cargo lab rivals [--contender NAME] [--consumers N,N…] [--size 1080p|4k] [--turns N] [--quick] [--update-docs]
       cargo lab soak  [--arch ARCH] [--minutes N]
       cargo lab bench [--arch ARCH] [--frames N] [--turns N] [--update-docs]
       cargo lab fetch [--arch x86_64|aarch64|all]

cargo lab COMMAND --help says more. docs/testing.md has the whole story.";

const TEST: &str = "\
cargo lab test [--arch x86_64|aarch64|all|host] [--timeout SECONDS] [--no-skips] [FILTER]

Runs the tests that need no device on this machine, then those on kernel drivers (tests/kernel) in
one guest per architecture, both at once. Fails if a test fails, if a guest's kernel warns or dies, or if a run
takes too long. The last line is the total.

  --arch      host: only this machine; x86_64, aarch64: only that guest; all: the default
  --timeout   seconds for each guest's tests, default 1200
  --no-skips  a test that skips for want of a device or a program fails the run
  FILTER      only tests whose name contains it";

const RUN: &str = "\
cargo lab run [--arch ARCH] [--modules \"NAME PARAMETERS\"] [--timeout SECONDS] -- EXAMPLE [ARGUMENTS]

Builds an example and runs it in a guest with all drivers loaded. Its standard output is the only
standard output, its exit status the exit status; what it writes to /out is in target/lab/out.
Ctrl-C reaches the example as SIGINT, a second one ends the guest.

  --arch      x86_64 (default) or aarch64
  --modules   load a driver with these parameters, for instance \"vivid multiplanar=2\"; several with
              ';' or by repeating the option
  --timeout   end the guest after so many seconds, default: never";

const SHELL: &str = "\
cargo lab shell [--arch ARCH] [--modules \"NAME PARAMETERS\"]

An interactive shell in a guest with the drivers loaded; v4l2-ctl, v4l2-compliance and media-ctl
are there, examples that are built already are in $FRAMELEASE_EXAMPLES_DIR, /out is target/lab/out.
`exit` ends it, Ctrl-A x kills it.

  --arch      x86_64 (default) or aarch64
  --modules   as for cargo lab run";

const FETCH: &str = "\
cargo lab fetch [--arch x86_64|aarch64|all]

Fetches and builds everything that guests need, so that later starts take seconds. The other
commands do this by themselves.";

const RIVAL: &str = "\
cargo lab rival [--frames N] [--turns N]

Encodes vivid by vicodec (FWHT) and by fl_h264 in one x86_64 guest, by our example and by GStreamer
(v4l2src io-mode=dmabuf ! v4l2fwhtenc output-io-mode=dmabuf-import), and compares the CPU a frame. The
guest's clock counts instructions, so that the host's load does not matter. Debian's GStreamer is
fetched into the lab's cache.

  --frames    frames of the short runs, default 200; the long ones have three times as many
  --turns     how often, default 2";

const RIVALS: &str = "\
cargo lab rivals [--contender NAME] [--consumers N,N…] [--size 1080p|4k] [--turns N] [--quick] [--update-docs]

Shares the same frames by framelease and by others on this machine, in one run, and compares CPU, latency, system calls,
memory, and what one stopped or killed consumer does to the others. Fetches GStreamer (Debian 13's) into the lab's cache
and builds the contenders of tests/rivals. Some 10 minutes; prints the tables, which are in target/rivals.json too.
Needs to be root for the system calls, if ptrace is restricted.

  --contender    only those whose name contains this; may be repeated
  --consumers    how many, default 1,3,8
  --size         1080p (at 30 frames a second) or 4k (at 60), default both
  --turns        default 3
  --quick        one short turn: to see that all works
  --update-docs  put the tables and plots into docs/performance.md and docs/performance/, and that of
                 cargo bench --bench copy_vs_zero_copy, two more minutes; whole runs only";

const SOAK: &str = "\
cargo lab soak [--arch ARCH] [--minutes N]

vivid in a guest, shared, encoded and recorded, while eight peers come, go, stop and die. Memory, descriptors, mappings,
dma-bufs and latency are written every second to target/lab/out/soak.csv and drawn to target/lab/soak.svg; it fails if
one of them grows. Times are the emulator's.

  --arch      x86_64 (default) or aarch64
  --minutes   default 10";

const BENCH: &str = "\
cargo lab bench [--arch x86_64|aarch64] [--frames N] [--turns N] [--update-docs]

Runs the example measure in a guest with one processor and a clock that counts instructions: what a frame costs from
vivid to other processes, an encoder, a display, and through a converter to an encoder, by dma-buf and copied. Prints
its table; all figures are in target/lab/bench-ARCH.json.

  --arch         x86_64 (default) or aarch64
  --frames       frames that are measured, default 60
  --turns        how often, default 2; figures are medians
  --update-docs  put the table into docs/performance.md";

/// 20 minutes.
const TEST_LIMIT: Duration = Duration::from_secs(1200);

/// The options that commands share.
#[derive(Default)]
struct Options {
    arch: Option<String>,
    modules: Vec<String>,
    timeout: Option<Duration>,
    frames: Option<u32>,
    turns: Option<u32>,
    minutes: Option<u32>,
    contenders: Vec<String>,
    consumers: Option<Vec<u32>>,
    sizes: Vec<Size>,
    quick: bool,
    no_skips: bool,
    update_docs: bool,
    rest: Vec<String>,
}

pub fn parse(args: &[String]) -> Result<Command, String> {
    let Some((command, args)) = args.split_first() else {
        return Err(format!("which command?\n\n{USAGE}"));
    };
    let (help, takes): (&'static str, &[&str]) = match command.as_str() {
        "test" => (TEST, &["--arch", "--timeout", "--no-skips"]),
        "run" => (RUN, &["--arch", "--modules", "--timeout"]),
        "shell" => (SHELL, &["--arch", "--modules"]),
        "rival" => (RIVAL, &["--frames", "--turns"]),
        "rivals" => (RIVALS, &["--contender", "--consumers", "--size", "--turns", "--quick", "--update-docs"]),
        "soak" => (SOAK, &["--arch", "--minutes"]),
        "bench" => (BENCH, &["--arch", "--frames", "--turns", "--update-docs"]),
        "fetch" => (FETCH, &["--arch"]),
        "help" | "--help" | "-h" => return Ok(Command::Help(USAGE)),
        other => return Err(format!("no command \"{other}\": test, run, shell, rival, rivals, soak, bench or fetch")),
    };
    let Some(options) = options(command, args, takes)? else {
        return Ok(Command::Help(help));
    };
    match command.as_str() {
        "test" => test(options),
        "run" => run(options),
        "shell" => {
            none_left(&options.rest)?;
            Ok(Command::Shell { arch: guest(&options.arch)?, modules: options.modules })
        }
        "rival" => {
            none_left(&options.rest)?;
            Ok(Command::Rival { frames: options.frames.unwrap_or(200), turns: options.turns.unwrap_or(2) })
        }
        "soak" => {
            none_left(&options.rest)?;
            Ok(Command::Soak { arch: guest(&options.arch)?, minutes: options.minutes.unwrap_or(10) })
        }
        "rivals" => {
            none_left(&options.rest)?;
            Ok(Command::Rivals(rivals(options)?))
        }
        "bench" => {
            none_left(&options.rest)?;
            Ok(Command::Bench(Bench {
                arch: guest(&options.arch)?,
                frames: options.frames.unwrap_or(60),
                turns: options.turns.unwrap_or(2),
                update_docs: options.update_docs,
            }))
        }
        _ => {
            none_left(&options.rest)?;
            let name = options.arch.as_deref().unwrap_or("all");
            Ok(Command::Fetch { archs: guests(name)? })
        }
    }
}

/// Options up to the first other word; `None` if help is wanted.
fn options(command: &str, args: &[String], takes: &[&str]) -> Result<Option<Options>, String> {
    let mut found = Options::default();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Ok(None);
        }
        if word == "--" {
            found.rest.extend(words.cloned());
            break;
        }
        if !word.starts_with('-') {
            found.rest.push(word.clone());
            if command == "run" {
                found.rest.extend(words.cloned()); // all the example's
                break;
            }
            continue;
        }
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (word.as_str(), None),
        };
        if !takes.contains(&name) {
            let known = takes.join(", ");
            return Err(format!("cargo lab {command} has no option {name}, only {known}, --help"));
        }
        let switch = match name {
            "--no-skips" => Some(&mut found.no_skips),
            "--quick" => Some(&mut found.quick),
            "--update-docs" => Some(&mut found.update_docs),
            _ => None,
        };
        if let Some(switch) = switch {
            *switch = true;
            continue;
        }
        let value = inline.or_else(|| words.next().cloned()).ok_or_else(|| format!("{name} needs a value"))?;
        match name {
            "--arch" => found.arch = Some(value),
            "--modules" => found.modules.push(value),
            "--contender" => found.contenders.push(value),
            "--consumers" => {
                // As many as the contenders' pools have room for.
                let number = |n: &str| n.parse().ok().filter(|n| (1..=16).contains(n));
                let numbers: Option<Vec<u32>> = value.split(',').map(number).collect();
                found.consumers =
                    Some(numbers.ok_or_else(|| format!("--consumers {value}: not numbers from 1 to 16"))?);
            }
            "--size" => found.sizes.push(match value.to_ascii_lowercase().as_str() {
                "1080p" => SIZES[0],
                "4k" => SIZES[1],
                _ => return Err(format!("--size {value}: there are 1080p and 4k")),
            }),
            "--frames" | "--turns" | "--minutes" => {
                let number = value.parse().ok().filter(|n| (1..=100_000).contains(n));
                let number = number.ok_or_else(|| format!("{name} {value}: not a number from 1 to 100000"))?;
                let place = match name {
                    "--frames" => &mut found.frames,
                    "--turns" => &mut found.turns,
                    _ => &mut found.minutes,
                };
                *place = Some(number);
            }
            _ => {
                let seconds = value.parse().ok().filter(|s| *s > 0);
                let seconds = seconds.ok_or_else(|| format!("--timeout {value}: not a number of seconds"))?;
                found.timeout = Some(Duration::from_secs(seconds));
            }
        }
    }
    Ok(Some(found))
}

fn test(mut options: Options) -> Result<Command, String> {
    let name = options.arch.as_deref().unwrap_or("all");
    let where_ = match name {
        "host" => Where { host: true, archs: Vec::new(), named: true },
        _ => Where { host: name == "all", archs: guests(name)?, named: options.arch.is_some() },
    };
    let filter = (!options.rest.is_empty()).then(|| options.rest.remove(0));
    none_left(&options.rest)?;
    let timeout = options.timeout.unwrap_or(TEST_LIMIT);
    Ok(Command::Test { where_, filter, timeout, no_skips: options.no_skips })
}

fn run(mut options: Options) -> Result<Command, String> {
    if options.rest.is_empty() {
        return Err("which example? cargo lab run -- EXAMPLE [ARGUMENTS]".into());
    }
    let example = options.rest.remove(0);
    Ok(Command::Run(Run {
        arch: guest(&options.arch)?,
        modules: options.modules,
        timeout: options.timeout,
        example,
        args: options.rest,
    }))
}

fn rivals(options: Options) -> Result<Wish, String> {
    let mut wish = Wish { contenders: options.contenders, update_docs: options.update_docs, ..Wish::default() };
    if options.quick {
        (wish.turns, wish.window) = (1, wish.window / 2);
    }
    wish.turns = options.turns.map_or(wish.turns, |n| n as usize);
    wish.consumers = options.consumers.unwrap_or(wish.consumers);
    if !options.sizes.is_empty() {
        wish.sizes = options.sizes;
    }
    let all = Wish { update_docs: true, turns: wish.turns, ..Wish::default() };
    if wish.update_docs && wish != all {
        return Err("--update-docs is for whole runs: only --turns goes with it".into());
    }
    Ok(wish)
}

fn guest(name: &Option<String>) -> Result<Arch, String> {
    let name = name.as_deref().unwrap_or("x86_64");
    Arch::parse(name).ok_or_else(|| format!("--arch {name}: there are x86_64 and aarch64"))
}

fn guests(name: &str) -> Result<Vec<Arch>, String> {
    if name == "all" {
        return Ok(crate::arch::ALL.to_vec());
    }
    let arch = Arch::parse(name)
        .ok_or_else(|| format!("--arch {name}: there are x86_64, aarch64, all and (for test) host"))?;
    Ok(vec![arch])
}

fn none_left(rest: &[String]) -> Result<(), String> {
    match rest.first() {
        Some(word) => Err(format!("\"{word}\" is one word too many")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn test_defaults_to_everything() {
        let Ok(Command::Test { where_, filter, timeout, no_skips }) = parse(&words("test")) else { panic!() };
        assert!(where_.host && where_.archs.len() == 2 && !where_.named);
        assert_eq!((filter, timeout, no_skips), (None, TEST_LIMIT, false));
    }

    #[test]
    fn test_takes_arch_and_filter() {
        let parsed = parse(&words("test --arch=aarch64 --timeout 5 --no-skips export"));
        let Ok(Command::Test { where_, filter, timeout, no_skips }) = parsed else { panic!() };
        assert!(!where_.host && where_.named);
        assert_eq!(where_.archs, [Arch::Aarch64]);
        assert_eq!(filter.as_deref(), Some("export"));
        assert_eq!((timeout, no_skips), (Duration::from_secs(5), true));
    }

    #[test]
    fn all_behind_the_example_is_the_examples() {
        for line in ["run --modules vivid -- cam --arch x --help", "run --modules vivid cam --arch x --help"] {
            let Ok(Command::Run(run)) = parse(&words(line)) else { panic!() };
            assert_eq!((run.arch, run.example.as_str()), (Arch::X86_64, "cam"));
            assert_eq!(run.args, ["--arch", "x", "--help"]);
            assert_eq!(run.modules, ["vivid"]);
        }
    }

    #[test]
    fn rivals_can_be_narrowed() {
        let parsed = parse(&words("rivals --quick --consumers 1,3 --size 4K --contender floor --turns 2"));
        let Ok(Command::Rivals(wish)) = parsed else { panic!() };
        assert_eq!((wish.consumers, wish.sizes, wish.turns), (vec![1, 3], vec![SIZES[1]], 2));
        assert_eq!(wish.contenders, ["floor"]);
        assert_eq!(parse(&words("rivals")), Ok(Command::Rivals(Wish::default())));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("tset", "tset"),
            ("run", "which example"),
            ("run --arch arm -- x", "--arch arm"),
            ("test --fast", "--fast"),
            ("test --timeout soon", "soon"),
            ("test a b", "\"b\""),
            ("shell --arch", "needs a value"),
            ("shell now", "\"now\""),
            ("rival --turns 0", "--turns 0"),
            ("rivals --consumers 3,x", "--consumers 3,x"),
            ("rivals --size 8k", "--size 8k"),
            ("rivals --quick --update-docs", "whole runs"),
            ("bench --arch arm", "--arch arm"),
            ("bench --frames 0", "--frames 0"),
        ] {
            let error = parse(&words(line)).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert_eq!(parse(&words("run --help")), Ok(Command::Help(RUN)));
    }
}
