//! Instructions of what makes no system call: layouts, leases, the header of a coded picture. Counted by valgrind, so
//! the same on any day. This program runs itself at N and 2 N turns, and the difference is what a turn costs.

use std::hint::black_box;
use std::process::{Command, Stdio};

use framelease::bitstream::{head, Codec};
use framelease::dmabuf::Allocator;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};

type Error = Box<dyn std::error::Error>;

const NV12: FourCc = FourCc::NV12;
const SIZE: Size = Size::new(1920, 1080);
const TURNS: u64 = 20_000;

struct Scene {
    layout: Layout,
    pool: Pool,
    lent: Frame,
    picture: Vec<u8>,
}

impl Scene {
    fn new() -> Result<Self, Error> {
        let layout = Layout::packed(NV12, SIZE)?;
        let pool = Pool::new(&Allocator::Memfd, layout, 4)?;
        let lent = pool.try_acquire().ok_or("a new pool is empty")?.freeze_full(0, 0);
        // A slice header, and 500 kB that must not be read.
        let picture = [&[0, 0, 0, 1, 0x65, 0x88][..], &vec![0xff; 500_000]].concat();
        Ok(Self { layout, pool, lent, picture })
    }
}

type Case = (&'static str, fn(&Scene));

const CASES: [Case; 6] = [
    ("layout: packed NV12", |_| drop(black_box(Layout::packed(black_box(NV12), black_box(SIZE))))),
    ("layout: NV12 with rows of 64", |_| drop(black_box(Layout::aligned(NV12, black_box(SIZE), black_box(64))))),
    ("layout: from planes", |s| {
        let (bytes, planes) = (s.layout.memory_bytes(), s.layout.planes());
        drop(black_box(Layout::from_planes(NV12, black_box(SIZE), bytes, planes)));
    }),
    ("lease: clone and drop", |s| drop(black_box(s.lent.clone()))),
    ("lease: a slot out and home", |s| drop(black_box(s.pool.try_acquire()))),
    ("bitstream: head of a picture of 500 kB", |s| {
        let _ = black_box(head(Codec::H264, black_box(&s.picture)));
    }),
];

/// Counts all instructions of this program with `turns` turns of a case.
fn count(case: usize, turns: u64) -> Result<u64, Error> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe()?).args(["--case", &case.to_string(), &turns.to_string()]);
    let out = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&out.stderr);
    let line = text.lines().find_map(|l| l.split_once("refs:")).filter(|_| out.status.success());
    let (_, number) = line.ok_or_else(|| format!("valgrind did not count: {text}"))?;
    Ok(number.trim().replace(',', "").parse()?)
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, case, turns] = &args[..] {
        if flag == "--case" {
            let (scene, (_, turn)) = (Scene::new()?, CASES[case.parse::<usize>()?]);
            (0..turns.parse::<u64>()?).for_each(|_| turn(&scene));
            return Ok(());
        }
    }
    // `cargo test --benches` has no use for it.
    if !args.iter().any(|a| a == "--bench") {
        return Ok(());
    }
    if let Err(e) = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status() {
        println!("SKIPPED instructions: valgrind: {e}");
        return Ok(());
    }
    println!("| what | instructions |\n|---|---|");
    let mut json = Vec::new();
    for (i, (name, _)) in CASES.iter().enumerate() {
        let each = (count(i, TURNS * 2)? - count(i, TURNS)?) as f64 / TURNS as f64;
        println!("| {name} | {each:.0} |");
        json.push(format!("  {{\"what\": \"{name}\", \"instructions\": {each:.2}}}"));
    }
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("instructions.json");
    std::fs::write(&path, format!("[\n{}\n]\n", json.join(",\n")))?;
    println!("{}", path.display());
    Ok(())
}
