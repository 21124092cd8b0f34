//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use lexopt::prelude::*;
use lexopt::{Error, Parser};

use crate::arch::{self, Arch};
use crate::before_after::{self, BeforeAfter, GOP};
use crate::clients::Clients;
use crate::rivals::{Encode, Share, Size, SIZES};

#[derive(Debug, PartialEq)]
pub enum Command {
    Test(Test),
    Run(Run),
    Shell { arch: Arch, modules: Vec<String> },
    BeforeAfter(BeforeAfter),
    Share(Share),
    Encode(Encode),
    Soak { arch: Arch, minutes: u32 },
    Streams { filters: Vec<String>, lists: bool },
    Clients(Clients),
    Bench(Bench),
    Surface { lists: bool },
    Boards,
    Manual,
    Packages,
    Fetch { archs: Vec<Arch> },
    Help(&'static str),
}

#[derive(Debug, PartialEq)]
pub struct Test {
    pub where_: Where,
    pub filter: Option<String>,
    /// Guests, and parts of the names of tests that do not run there.
    pub without: Vec<(Arch, String)>,
    /// For each guest's tests.
    pub timeout: Duration,
    /// What can be installed must be there.
    pub strict: bool,
    pub no_skips: bool,
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

Usage: cargo lab test  [--arch x86_64|aarch64|all|host] [--timeout SECONDS] [--strict] [--no-skips]
                       [--without GUEST:NAME] [FILTER]
       cargo lab run   [--arch ARCH] [--modules \"NAME PARAMETERS\"] [--timeout SECONDS] -- EXAMPLE [ARGUMENTS]
       cargo lab shell [--arch ARCH] [--modules \"NAME PARAMETERS\"]
       cargo lab rivals [--contender NAME] [--consumers N,N…] [--size 1080p|4k] [--turns N] [--quick] [--update-docs]
       cargo lab rivals --job encode [--frames N] [--turns N]
       cargo lab before-after [--size 480p|720p|1080p] [--consumers N,N…] [--contender NAME] [--frames N] [--turns N]
                              [--quick] [--update-docs]
       cargo lab before-after --host [--size 480p|720p|1080p] [--consumers N,N…] [--turns N] [--update-docs]
       cargo lab soak  [--arch ARCH] [--minutes N]
       cargo lab bench [--arch ARCH] [--frames N] [--turns N] [--update-docs]
       cargo lab streams [--filter NAME] [--list]
       cargo lab clients [--client NAME] [--live555 DIR] [--storm SECONDS] [--update-docs]
       cargo lab surface [--list]
       cargo lab boards
       cargo lab manual
       cargo lab packages
       cargo lab fetch [--arch x86_64|aarch64|all]

cargo lab COMMAND --help says more. docs/testing.md has the whole story.";

const TEST: &str = "\
cargo lab test [--arch x86_64|aarch64|all|host] [--timeout SECONDS] [--strict] [--no-skips] [--without GUEST:NAME]
               [FILTER]

Runs the tests that need no device on this machine, then those on kernel drivers (tests/kernel) in
one guest per architecture, both at once. First it finds what the tests need; as root on Debian it installs
what is missing, else one line names all of it. Fails if a test fails, if a guest's kernel warns or dies, or if a run
takes too long. A guest names its slowest tests. The last line is the total; before it, the skipped tests are counted by
what would let them run.

  --arch      host: only this machine; x86_64, aarch64: only that guest; all: the default
  --timeout   seconds for each guest's tests, default 2400
  --strict    a test that skips for want of a Debian package or a Rust target fails the run
  --no-skips  a test that skips for any reason fails the run
  --without   not the tests of this guest whose name contains NAME; may be repeated
  FILTER      only tests whose name contains it";

const RUN: &str = "\
cargo lab run [--arch ARCH] [--modules \"NAME PARAMETERS\"] [--timeout SECONDS] -- EXAMPLE [ARGUMENTS]

Builds an example and runs it in a guest with all drivers loaded. Its standard output is the only
standard output, its exit status the exit status; what it writes to /out is in target/lab/out.
Ctrl-C reaches the example as SIGINT, a second one ends the guest.

  --arch      x86_64 (default) or aarch64
  --modules   load a driver with these parameters, for instance \"vivid multiplanar=2\"; several with
              ';' or by repeating the option
  --timeout   end the guest after this many seconds, default: never";

const SHELL: &str = "\
cargo lab shell [--arch ARCH] [--modules \"NAME PARAMETERS\"]

An interactive shell in a guest with the drivers loaded; v4l2-ctl, v4l2-compliance and media-ctl
are there, examples that are built already are in $FRAMELEASE_EXAMPLES_DIR, /out is target/lab/out.
`exit` ends it, Ctrl-A x kills it.

  --arch      x86_64 (default) or aarch64
  --modules   as for cargo lab run";

const SURFACE: &str = "\
cargo lab surface [--list]

Counts the library's public items and fails above the number in docs/public-api-limit.

  --list      names them";

const BOARDS: &str = "\
cargo lab boards

Writes the tables of docs/boards.md from the reports in docs/boards/reports. Refuses a damaged report.";

const MANUAL: &str = "\
cargo lab manual

Lists what the public documentation lacks, and fails if that is anything: items described by fewer than four words,
functions whose first line does not begin with a verb (\"Returns\", \"Opens\"), types that users create and builders
without an example.";

const PACKAGES: &str = "\
cargo lab packages

Builds the Debian packages with packaging/debian.sh, checks them with lintian, and installs and tries them in a clean root
of Debian 13, which is fetched into the lab's cache. Needs root, for chroot.";

const FETCH: &str = "\
cargo lab fetch [--arch x86_64|aarch64|all]

Fetches and builds everything that guests need, so that later starts take seconds; for all guests, also installs
what the tests on this machine need. The other commands do this by themselves.";

const RIVALS: &str = "\
cargo lab rivals [--contender NAME] [--consumers N,N…] [--size 1080p|4k] [--turns N] [--quick] [--update-docs]
cargo lab rivals --job encode [--frames N] [--turns N]

Does the same job by framelease and by others, and compares.

--job share (default): shares the same frames on this machine, in one run, and compares CPU, latency, system calls, memory,
and what one stopped or killed consumer does to the others. Fetches GStreamer (Debian 13's) into the lab's cache and
builds the contenders of tests/rivals. Some 10 minutes; prints the tables, and all figures are in target/rivals.json. Needs to be root for the system calls, if ptrace is restricted.

--job encode: encodes vivid by vicodec (FWHT) and by fl_h264 in one x86_64 guest, by our example and by GStreamer
(v4l2src io-mode=dmabuf ! v4l2fwhtenc output-io-mode=dmabuf-import), and compares the CPU a frame. The guest's clock counts
instructions, so that the host's load does not matter.

  --contender    only those whose name contains this; may be repeated
  --consumers    how many, default 1,3,8
  --size         1080p (at 30 frames a second) or 4k (at 60), default both
  --frames       frames of the short runs of an encode, default 200; the long ones have three times as many
  --turns        default 3; for an encode 2
  --quick        one short turn: to see that all works
  --update-docs  put the tables into docs/performance.md, and that of cargo bench --bench copy_vs_zero_copy, two more
                 minutes; whole runs only";

const BEFORE_AFTER: &str = "\
cargo lab before-after [--size 480p|720p|1080p] [--consumers N,N…] [--contender NAME] [--frames N] [--turns N]
                       [--quick] [--update-docs]
cargo lab before-after --host [--size 480p|720p|1080p] [--consumers N,N…] [--turns N] [--update-docs]

Compares a whole set-up before and after: one camera, scaled to half of its width and height, encoded, recorded by the
first consumer and sent by RTP to the others. Before: v4l2src ! shmsink, and shmsrc ! videoscale ! videorate ! an encoder
in each consumer. Also one encode by GStreamer, tuned, and the example node. All in one x86_64 guest with vivid, fl_scaler and
fl_h264, whose kernel threads stand for hardware and are counted apart. The guest's clock counts instructions, so that
the host's load does not matter. Every output is received, decoded and compared. Some 20 minutes; prints the tables, and all
figures are in target/lab/out/before-after.json. Needs ffmpeg for the comparison.

With --host, on this machine: the example publisher is the camera, and x264 the encoder. Some ten minutes; use the machine
for nothing else.

  --host         on this machine; the default size is 1080p
  --size         of the camera, default all three; may be repeated
  --consumers    how many, default 1,3,8
  --contender    only those whose name contains this; may be repeated
  --frames       frames that are measured in a turn, default 30; a multiple of 30
  --turns        default 3; figures are medians
  --quick        480p, three consumers, one turn: about two minutes
  --update-docs  put the tables into docs/performance.md and the chart into docs/before-after.svg; whole runs only";

const SOAK: &str = "\
cargo lab soak [--arch ARCH] [--minutes N]

vivid in a guest, shared, encoded and recorded, while eight peers come, go, stop and die. Memory, descriptors, mappings,
dma-bufs and latency are written every second to target/lab/out/soak.csv; least, median and most of each are printed. It
fails if one of them grows. Times are the emulator's.

  --arch      x86_64 (default) or aarch64
  --minutes   default 10";

const STREAMS: &str = "\
cargo lab streams [--filter NAME] [--list]

Sends unusual streams through every sink, and compares each decoded frame with the source: slices, fields, 16x16 to
4096x2304, 10 bit, start codes of every form, several parameter sets and others, from x264, x265, libvpx and ffmpeg.
Some are changed in a way that no encoder does. Prints a table, and fails if a cell is not as expected.
Needs an ffmpeg with these encoders, and two to five minutes.

  --filter    only streams whose name contains this; may be repeated
  --list      names the streams";

const CLIENTS: &str = "\
cargo lab clients [--client NAME] [--live555 DIR] [--storm SECONDS] [--update-docs]

Lets RTSP clients of others watch H.264 and H.265 of the library's server: by UDP, by TCP, with a password (Digest), and
with a wrong one. Compares the frames that they decode or write, and prints a table. Clients that this machine lacks
are fetched into the lab's cache and not installed: mpv and motion from Debian 13, PyAV and OpenCV from PyPI, retina
from crates.io. A client that cannot be had is skipped, with the command that installs it.

  --client       only clients whose name contains this; may be repeated
  --live555      a folder in which live555 was built: also openRTSP and live555ProxyServer, which no registry has
  --storm        instead of the table: for this long, 20 clients come and go. Fails if a recording or a receiver that
                 stays loses a frame
  --update-docs  put the table into docs/testing.md; whole runs only";

const BENCH: &str = "\
cargo lab bench [--arch x86_64|aarch64] [--frames N] [--turns N] [--update-docs]

Runs the paths of the example framelease-doctor in a guest with one processor and a clock that counts instructions:
what a frame costs from vivid to other processes, an encoder, a display, and through a converter to an encoder, by
dma-buf and copied. Prints its table; all figures are in target/lab/bench-ARCH.json.

  --arch         x86_64 (default) or aarch64
  --frames       frames that are measured, default 60
  --turns        how often, default 2; figures are medians
  --update-docs  put the table into docs/performance.md";

/// 40 minutes. A guest that is silent is given up earlier.
const TEST_LIMIT: Duration = Duration::from_secs(2400);

pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_args(words);
    command(&mut parser).map_err(|e| e.to_string())
}

fn command(parser: &mut Parser) -> Result<Command, Error> {
    let name = match parser.next()? {
        Some(Value(name)) => name.string()?,
        Some(Long("help") | Short('h')) => return Ok(Command::Help(USAGE)),
        Some(other) => return Err(other.unexpected()),
        None => return Err(format!("which command?\n\n{USAGE}").into()),
    };
    match name.as_str() {
        "test" => test(parser),
        "run" => run(parser),
        "shell" => shell(parser),
        "rivals" => rivals(parser),
        "before-after" => before_after(parser),
        "soak" => soak(parser),
        "bench" => bench(parser),
        "streams" => streams(parser),
        "clients" => clients(parser),
        "surface" => surface(parser),
        "boards" => alone(parser, Command::Boards, BOARDS),
        "manual" => alone(parser, Command::Manual, MANUAL),
        "packages" => alone(parser, Command::Packages, PACKAGES),
        "fetch" => fetch(parser),
        "help" => Ok(Command::Help(USAGE)),
        other => Err(format!(
            "no command \"{other}\": test, run, shell, rivals, before-after, soak, bench, streams, clients, surface, boards, manual, packages or fetch"
        )
        .into()),
    }
}

fn test(parser: &mut Parser) -> Result<Command, Error> {
    let where_ = Where { host: true, archs: arch::ALL.to_vec(), named: false };
    let mut wish =
        Test { where_, filter: None, without: Vec::new(), timeout: TEST_LIMIT, strict: false, no_skips: false };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("arch") => {
                let name = parser.value()?.string()?;
                wish.where_ = match name.as_str() {
                    "host" => Where { host: true, archs: Vec::new(), named: true },
                    _ => Where { host: name == "all", archs: guests(&name)?, named: true },
                };
            }
            Long("timeout") => wish.timeout = seconds(parser)?,
            Long("strict") => wish.strict = true,
            Long("no-skips") => wish.no_skips = true,
            Long("without") => wish.without.push(parser.value()?.parse_with(|text| {
                let (arch, name) = text.split_once(':').ok_or("it is GUEST:NAME, such as aarch64:contract")?;
                Ok::<_, String>((Arch::parse(arch).ok_or("there are x86_64 and aarch64")?, name.to_owned()))
            })?),
            Long("help") | Short('h') => return Ok(Command::Help(TEST)),
            Value(filter) if wish.filter.is_none() => wish.filter = Some(filter.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Test(wish))
}

fn run(parser: &mut Parser) -> Result<Command, Error> {
    let (mut arch, mut modules, mut timeout) = (Arch::X86_64, Vec::new(), None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("arch") => arch = guest(parser)?,
            Long("modules") => modules.push(parser.value()?.string()?),
            Long("timeout") => timeout = Some(seconds(parser)?),
            Long("help") | Short('h') => return Ok(Command::Help(RUN)),
            Value(example) => {
                // All that follows is the example's.
                let args = parser.raw_args()?.map(|word| word.string()).collect::<Result<_, _>>()?;
                return Ok(Command::Run(Run { arch, modules, timeout, example: example.string()?, args }));
            }
            _ => return Err(arg.unexpected()),
        }
    }
    Err("which example? cargo lab run -- EXAMPLE [ARGUMENTS]".into())
}

fn shell(parser: &mut Parser) -> Result<Command, Error> {
    let (mut arch, mut modules) = (Arch::X86_64, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("arch") => arch = guest(parser)?,
            Long("modules") => modules.push(parser.value()?.string()?),
            Long("help") | Short('h') => return Ok(Command::Help(SHELL)),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Shell { arch, modules })
}

fn rivals(parser: &mut Parser) -> Result<Command, Error> {
    let (mut is_encode, mut frames, mut turns, mut quick) = (false, None, None, false);
    let (mut contenders, mut consumers, mut sizes, mut update_docs) = (Vec::new(), None, Vec::new(), false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("job") => {
                let name = parser.value()?.string()?;
                is_encode = match name.as_str() {
                    "share" => false,
                    "encode" => true,
                    _ => return Err(format!("--job {name}: there are share and encode").into()),
                };
            }
            Long("contender") => contenders.push(parser.value()?.string()?),
            // As many as the contenders' pools have room for.
            Long("consumers") => {
                let list = |text: &str| text.split(',').map(|n| within(n, 16)).collect::<Result<Vec<u32>, _>>();
                consumers = Some(parser.value()?.parse_with(list)?);
            }
            Long("size") => sizes.push(parser.value()?.parse_with(size)?),
            Long("frames") => frames = Some(number(parser)?),
            Long("turns") => turns = Some(number(parser)?),
            Long("quick") => quick = true,
            Long("update-docs") => update_docs = true,
            Long("help") | Short('h') => return Ok(Command::Help(RIVALS)),
            _ => return Err(arg.unexpected()),
        }
    }
    if is_encode {
        if quick || update_docs || consumers.is_some() || !contenders.is_empty() || !sizes.is_empty() {
            return Err("--job encode takes --frames and --turns, no other option".into());
        }
        return Ok(Command::Encode(Encode { frames: frames.unwrap_or(200), turns: turns.unwrap_or(2) }));
    }
    if frames.is_some() {
        return Err("--frames is for --job encode".into());
    }
    let mut wish = Share { contenders, update_docs, ..Share::default() };
    if quick {
        (wish.turns, wish.window) = (1, wish.window / 2);
    }
    wish.turns = turns.map_or(wish.turns, |n| n as usize);
    wish.consumers = consumers.unwrap_or(wish.consumers);
    if !sizes.is_empty() {
        wish.sizes = sizes;
    }
    let all = Share { update_docs: true, turns: wish.turns, ..Share::default() };
    if wish.update_docs && wish != all {
        return Err("--update-docs is for whole runs: only --turns goes with it".into());
    }
    Ok(Command::Share(wish))
}

fn before_after(parser: &mut Parser) -> Result<Command, Error> {
    let mut wish = BeforeAfter::default();
    let (mut sizes, mut consumers, mut quick, mut turns) = (Vec::new(), None, false, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("host") => wish.host = true,
            Long("contender") => wish.contenders.push(parser.value()?.string()?),
            Long("consumers") => {
                let list = |text: &str| text.split(',').map(|n| within(n, 8)).collect::<Result<Vec<u32>, _>>();
                consumers = Some(parser.value()?.parse_with(list)?);
            }
            Long("size") => sizes.push(parser.value()?.parse_with(camera_size)?),
            Long("frames") => wish.frames = number(parser)?,
            Long("turns") => turns = Some(number(parser)?),
            Long("quick") => quick = true,
            Long("update-docs") => wish.update_docs = true,
            Long("help") | Short('h') => return Ok(Command::Help(BEFORE_AFTER)),
            _ => return Err(arg.unexpected()),
        }
    }
    if wish.frames % GOP != 0 {
        return Err(
            format!("--frames {}: a multiple of {GOP}, because every {GOP}th is a key frame", wish.frames).into()
        );
    }
    if quick {
        (wish.turns, wish.consumers) = (1, vec![3]);
        wish.sizes.truncate(1);
    }
    let mut whole = BeforeAfter::default();
    if wish.host {
        if quick || !wish.contenders.is_empty() || wish.frames != whole.frames {
            return Err("--host goes with --size, --consumers, --turns and --update-docs".into());
        }
        whole = BeforeAfter { host: true, sizes: before_after::host_sizes(), ..whole };
        wish.sizes.clone_from(&whole.sizes);
    }
    wish.turns = turns.unwrap_or(wish.turns);
    wish.consumers = consumers.unwrap_or(wish.consumers);
    if !sizes.is_empty() {
        wish.sizes = sizes;
    }
    whole = BeforeAfter { update_docs: true, turns: wish.turns, frames: wish.frames, ..whole };
    if wish.update_docs && wish != whole {
        return Err("--update-docs is for whole runs: only --turns and --frames go with it".into());
    }
    Ok(Command::BeforeAfter(wish))
}

fn soak(parser: &mut Parser) -> Result<Command, Error> {
    let (mut arch, mut minutes) = (Arch::X86_64, 10);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("arch") => arch = guest(parser)?,
            Long("minutes") => minutes = number(parser)?,
            Long("help") | Short('h') => return Ok(Command::Help(SOAK)),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Soak { arch, minutes })
}

fn streams(parser: &mut Parser) -> Result<Command, Error> {
    let (mut filters, mut lists) = (Vec::new(), false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("filter") => filters.push(parser.value()?.string()?),
            Long("list") => lists = true,
            Long("help") | Short('h') => return Ok(Command::Help(STREAMS)),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Streams { filters, lists })
}

fn clients(parser: &mut Parser) -> Result<Command, Error> {
    let mut wish = Clients::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("client") => wish.names.push(parser.value()?.string()?),
            Long("live555") => wish.live555 = Some(parser.value()?.into()),
            Long("storm") => wish.storm = Some(number(parser)?),
            Long("update-docs") => wish.update_docs = true,
            Long("help") | Short('h') => return Ok(Command::Help(CLIENTS)),
            _ => return Err(arg.unexpected()),
        }
    }
    if wish.update_docs && (wish.storm.is_some() || !wish.names.is_empty()) {
        return Err("--update-docs is for whole runs: only --live555 goes with it".into());
    }
    Ok(Command::Clients(wish))
}

fn bench(parser: &mut Parser) -> Result<Command, Error> {
    let mut wish = Bench { arch: Arch::X86_64, frames: 60, turns: 2, update_docs: false };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("arch") => wish.arch = guest(parser)?,
            Long("frames") => wish.frames = number(parser)?,
            Long("turns") => wish.turns = number(parser)?,
            Long("update-docs") => wish.update_docs = true,
            Long("help") | Short('h') => return Ok(Command::Help(BENCH)),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Bench(wish))
}

/// A command without arguments.
fn alone(parser: &mut Parser, command: Command, help: &'static str) -> Result<Command, Error> {
    match parser.next()? {
        None => Ok(command),
        Some(Short('h') | Long("help")) => Ok(Command::Help(help)),
        Some(other) => Err(other.unexpected()),
    }
}

fn surface(parser: &mut Parser) -> Result<Command, Error> {
    let mut lists = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("list") => lists = true,
            Short('h') | Long("help") => return Ok(Command::Help(SURFACE)),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Surface { lists })
}

fn fetch(parser: &mut Parser) -> Result<Command, Error> {
    let mut archs = arch::ALL.to_vec();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("arch") => archs = guests(&parser.value()?.string()?)?,
            Long("help") | Short('h') => return Ok(Command::Help(FETCH)),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Command::Fetch { archs })
}

fn guest(parser: &mut Parser) -> Result<Arch, Error> {
    let name = parser.value()?.string()?;
    Arch::parse(&name).ok_or_else(|| format!("--arch {name}: there are x86_64 and aarch64").into())
}

fn guests(name: &str) -> Result<Vec<Arch>, Error> {
    if name == "all" {
        return Ok(arch::ALL.to_vec());
    }
    let arch = Arch::parse(name);
    arch.map(|arch| vec![arch])
        .ok_or_else(|| format!("--arch {name}: there are x86_64, aarch64, all and (for test) host").into())
}

fn camera_size(name: &str) -> Result<before_after::Size, String> {
    let found = before_after::SIZES.into_iter().find(|size| format!("{}p", size.height) == name);
    found.ok_or_else(|| "there are 480p, 720p and 1080p".into())
}

fn size(name: &str) -> Result<Size, String> {
    match name.to_ascii_lowercase().as_str() {
        "1080p" => Ok(SIZES[0]),
        "4k" => Ok(SIZES[1]),
        _ => Err("there are 1080p and 4k".into()),
    }
}

fn within(text: &str, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("not a number from 1 to {most}"))
}

fn number(parser: &mut Parser) -> Result<u32, Error> {
    parser.value()?.parse_with(|text| within(text, 100_000))
}

fn seconds(parser: &mut Parser) -> Result<Duration, Error> {
    Ok(Duration::from_secs(number(parser)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn test_defaults_to_everything() {
        let Ok(Command::Test(wish)) = parsed("test") else { panic!() };
        assert!(wish.where_.host && wish.where_.archs.len() == 2 && !wish.where_.named);
        assert_eq!((wish.filter, wish.timeout, wish.strict, wish.no_skips), (None, TEST_LIMIT, false, false));
    }

    #[test]
    fn test_takes_arch_and_filter() {
        let Ok(Command::Test(wish)) = parsed("test --without aarch64:contract --without x86_64:soak") else { panic!() };
        assert_eq!(wish.without, [(Arch::Aarch64, "contract".to_owned()), (Arch::X86_64, "soak".to_owned())]);
        let Ok(Command::Test(wish)) = parsed("test --arch=aarch64 --timeout 5 --no-skips --strict export") else {
            panic!()
        };
        assert!(!wish.where_.host && wish.where_.named && wish.strict && wish.no_skips);
        assert_eq!(wish.where_.archs, [Arch::Aarch64]);
        assert_eq!(wish.filter.as_deref(), Some("export"));
        assert_eq!(wish.timeout, Duration::from_secs(5));
    }

    #[test]
    fn run_passes_on_all_that_follows_the_example() {
        for line in ["run --modules vivid -- cam --arch x --help", "run --modules vivid cam --arch x --help"] {
            let Ok(Command::Run(run)) = parsed(line) else { panic!() };
            assert_eq!((run.arch, run.example.as_str()), (Arch::X86_64, "cam"));
            assert_eq!(run.args, ["--arch", "x", "--help"]);
            assert_eq!(run.modules, ["vivid"]);
        }
    }

    #[test]
    fn rivals_can_be_narrowed() {
        let parsed_ = parsed("rivals --quick --consumers 1,3 --size 4K --contender floor --turns 2");
        let Ok(Command::Share(wish)) = parsed_ else { panic!() };
        assert_eq!((wish.consumers, wish.sizes, wish.turns), (vec![1, 3], vec![SIZES[1]], 2));
        assert_eq!(wish.contenders, ["floor"]);
        assert_eq!(parsed("rivals"), Ok(Command::Share(Share::default())));
        let encode = Encode { frames: 9, turns: 2 };
        assert_eq!(parsed("rivals --job encode --frames 9"), Ok(Command::Encode(encode)));
    }

    #[test]
    fn before_after_can_be_narrowed() {
        let parsed_ = parsed("before-after --quick --size 720p --consumers 1,8 --contender node --frames 60");
        let Ok(Command::BeforeAfter(wish)) = parsed_ else { panic!() };
        assert_eq!((wish.sizes, wish.consumers), (vec![before_after::SIZES[1]], vec![1, 8]));
        assert_eq!((wish.contenders, wish.frames, wish.turns), (vec!["node".to_string()], 60, 1));
        assert!(parsed("before-after --update-docs --turns 2").is_ok());
        let Ok(Command::BeforeAfter(wish)) = parsed("before-after --host --consumers 3 --turns 5") else { panic!() };
        assert_eq!((wish.host, wish.sizes.len(), wish.consumers, wish.turns), (true, 1, vec![3], 5));
        assert!(parsed("before-after --host --update-docs").is_ok());
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
            ("test --without contract", "GUEST:NAME"),
            ("test --without riscv:contract", "x86_64 and aarch64"),
            ("shell --arch", "--arch"),
            ("shell now", "\"now\""),
            ("rivals --turns 0", "from 1 to 100000"),
            ("before-after --host --frames 60", "--host goes with"),
            ("before-after --host --size 480p --update-docs", "whole runs"),
            ("rivals --consumers 3,x", "from 1 to 16"),
            ("rivals --size 8k", "8k"),
            ("rivals --quick --update-docs", "whole runs"),
            ("rivals --job paint", "--job paint"),
            ("rivals --frames 5", "--job encode"),
            ("rivals --job encode --quick", "no other option"),
            ("before-after --frames 20", "a multiple of 30"),
            ("before-after --consumers 9", "from 1 to 8"),
            ("before-after --size 4k", "1080p"),
            ("before-after --quick --update-docs", "whole runs"),
            ("bench --arch arm", "--arch arm"),
            ("bench --frames 0", "from 1 to 100000"),
            ("streams one", "\"one\""),
            ("clients --storm 0", "from 1 to 100000"),
            ("clients --client mpv --update-docs", "whole runs"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert_eq!(parsed("run --help"), Ok(Command::Help(RUN)));
    }
}
