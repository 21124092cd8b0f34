//! `cargo lab test`: host tests, then kernel tests in the guests.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use crate::arch::{self, Arch};
use crate::args::Test;
use crate::cache::Cache;
use crate::cargo::{self, Artifact, TEST_FEATURES};
use crate::guest::{self, End, Limits, Outcome, Sink};
use crate::initramfs::Job;
use crate::libtest::Tally;
use crate::prepare::{prepare, Machine};
use crate::prerequisites::{self, Ready};
use crate::results::{Results, Turns};
use crate::run::{environment, report, EXAMPLES};
use crate::skips::Skips;
use crate::{ffmpeg_check, gstreamer_rootfs, modules, say, signals, Res};

/// The integration test that runs in guests only.
const KERNEL_TEST: &str = "kernel";
const KERNEL_TEST_PLACE: &str = "/lab/kernel-tests";
/// Software libg2d's, which cargo builds with the tests.
const FAKES: [&str; 2] = ["libfake_g2d_legacy.so", "libfake_g2d_modern.so"];

struct Verdict {
    tally: Tally,
    well: bool,
}

impl Verdict {
    fn add(&mut self, other: Verdict) {
        self.tally += other.tally;
        self.well &= other.well;
    }

    /// Something other than a single test went wrong.
    fn fail(&mut self, why: &str) {
        say!("{why}");
        self.well = false;
    }
}

pub fn test(workspace: &Path, wish: &Test) -> Res<i32> {
    let Test { where_, .. } = wish;
    let filter = wish.filter.as_deref();
    let mut total = Verdict { tally: Tally::default(), well: true };
    let Ready { archs, without } = prerequisites::for_tests(where_.host, &where_.archs);
    if let (true, Some((arch, why))) = (where_.named, without.first()) {
        return Err(format!("no tests on {arch}: {why}"));
    }
    // Fetching waits for the network while building waits for the processor: both at once. But no test runs beside
    // either, because tests look at the clock.
    let (machines, host_built, builds) = thread::scope(|scope| {
        let fetch = scope.spawn(|| machines(workspace, &archs, where_.host, filter));
        let host = if where_.host { build_host(workspace) } else { Ok(()) };
        let builds: Vec<_> = archs.iter().map(|arch| build(workspace, *arch, filter)).collect();
        fetch.join().map(|machines| (machines, host, builds)).map_err(|_| "preparing the guests panicked".to_string())
    })?;
    if where_.host {
        println!("==== host");
        match host_built.and_then(|()| host(workspace, filter)) {
            Ok(verdict) => total.add(verdict),
            Err(why) => total.fail(&why),
        }
    }
    let guests: Vec<_> = archs.into_iter().zip(machines).zip(builds).collect();
    // At once: each leaves processors idle while it waits for frames.
    let turns = Turns::new(guests.len());
    let ran: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = guests
            .into_iter()
            .enumerate()
            .map(|(place, ((arch, machine), built))| {
                let mut results = Results::in_turn(&turns, place);
                let run = move || {
                    results.title(arch);
                    let ran = machine.and_then(|machine| Ran::new(machine, built?, wish, &mut results));
                    (ran, results.end())
                };
                (arch, scope.spawn(run))
            })
            .collect();
        threads.into_iter().map(|(arch, thread)| (arch, thread.join())).collect()
    });
    for (arch, ran) in ran {
        let verdict = match ran {
            Ok((ran, (tally, finished))) => ran.map(|ran| ran.verdict(tally, finished)),
            Err(_) => Err("its thread panicked".into()),
        };
        match verdict {
            Ok(verdict) => total.add(verdict),
            Err(why) => total.fail(&format!("no tests on {arch}: {why}")),
        }
    }
    if signals::interrupts() > 0 {
        return Err("interrupted".into());
    }
    for (arch, why) in without {
        // What this machine's own guest lacks is in Debian. The other needs a Rust target, which may be out of reach.
        match Arch::host() == Some(arch) {
            true => total.fail(&format!("no tests on {arch}: {why}")),
            false => total.tally.skip(&format!("tests on {arch}"), &why),
        }
    }
    let skips = Skips::of(total.tally.skips(), total.tally.ignored);
    if wish.no_skips && !total.tally.skips().is_empty() {
        total.fail("some of it was skipped, which --no-skips makes a failure");
    } else if wish.strict && skips.are_served() {
        total.fail("some of it was skipped for want of what can be installed, which --strict makes a failure");
    }
    if !total.well && total.tally.failed == 0 {
        total.tally.failed = 1; // the run as a whole
    }
    print!("{skips}");
    println!("{}", total.tally);
    Ok(i32::from(total.tally.failed > 0))
}

/// `cargo lab fetch`: all that `test` needs, if both guests are meant.
pub fn fetch(workspace: &Path, archs: &[Arch]) -> Res<()> {
    let Ready { archs: ready, without } = prerequisites::for_tests(archs == arch::ALL, archs);
    for machine in machines(workspace, &ready, false, None) {
        machine?;
    }
    match without.into_iter().next() {
        Some((arch, why)) => Err(format!("nothing for {arch}: {why}")),
        None => Ok(()),
    }
}

/// A machine for each of `archs`, and the programs of others that tests talk to; without them, those tests skip
/// visibly. Vulkan's drivers only if the filter names tests that draw: an emulated processor that is a GPU takes many
/// minutes for them.
fn machines(workspace: &Path, archs: &[Arch], host: bool, filter: Option<&str>) -> Vec<Res<Machine>> {
    let has_guest = host || archs.contains(&Arch::X86_64);
    let others = has_guest
        .then(|| Cache::open().and_then(|cache| gstreamer_rootfs::root(&cache, Arch::X86_64)))
        .and_then(|root| root.map_err(|why| say!("GStreamer and Python for the guest are missing: {why}")).ok());
    let draws =
        filter.is_some_and(|filter| [gstreamer_rootfs::VULKAN_TAG, GPU_VIEW].iter().any(|tag| filter.contains(tag)));
    let vulkan = |arch: Arch| {
        let root = draws.then(|| Cache::open().and_then(|cache| gstreamer_rootfs::vulkan(&cache, arch)))?;
        root.map_err(|why| say!("Vulkan for the guest is missing: {why}")).ok()
    };
    archs.iter().map(|arch| machine(*arch, workspace, others.as_deref(), vulkan(*arch).as_deref())).collect()
}

/// A guest whose `/out` is its own, with programs of others to talk to if they are for it.
fn machine(arch: Arch, workspace: &Path, others: Option<&Path>, vulkan: Option<&Path>) -> Res<Machine> {
    let mut machine = prepare(arch, workspace)?;
    machine.out = machine.out.join(arch.to_string());
    fs::create_dir_all(&machine.out).map_err(|e| format!("{}: {e}", machine.out.display()))?;
    if let (Some(root), Arch::X86_64) = (others, arch) {
        machine.shared.push((gstreamer_rootfs::TAG.into(), root.into()));
        machine.shared.push(("python".into(), workspace.join(PYTHON)));
    }
    if let Some(root) = vulkan {
        machine.shared.push((gstreamer_rootfs::VULKAN_TAG.into(), root.into()));
    }
    Ok(machine)
}

/// Builds as plain `cargo test` would: tests start the examples, and a guest of this architecture runs the kernel
/// tests. All in one call, which leaves no processor idle behind a large test.
fn build_host(workspace: &Path) -> Res<()> {
    let Some(arch) = Arch::host() else {
        return Ok(());
    };
    cargo::build(workspace, arch, &["test", "--no-run", "--workspace", "--features", TEST_FEATURES]).map(drop)
}

/// Everything but the kernel tests, which would only skip here.
fn host(workspace: &Path, filter: Option<&str>) -> Res<Verdict> {
    let mut words = vec!["--lib".to_string(), "--bins".into()];
    for name in integration_tests(&workspace.join("tests"))? {
        words.extend(["--test".into(), name]);
    }
    let mut verdict = cargo_test(workspace, &words, filter)?;
    verdict.add(cargo_test(workspace, &["--doc".into()], filter)?);
    Ok(verdict)
}

/// `tests/NAME.rs` and `tests/NAME/main.rs`, as cargo finds them.
fn integration_tests(folder: &Path) -> Res<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?.flatten() {
        let path = entry.path();
        let is_test = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").is_file();
        if let Some(name) = path.file_stem().filter(|_| is_test) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.retain(|n| n != KERNEL_TEST);
    names.sort();
    Ok(names)
}

fn cargo_test(workspace: &Path, words: &[String], filter: Option<&str>) -> Res<Verdict> {
    let mut command = cargo::cargo(workspace);
    command.args(["test", "--release", "--workspace", "--no-fail-fast"]);
    command.args(["--features", TEST_FEATURES]).args(words).args(filter);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| format!("cannot run cargo: {e}"))?;
    let (send, lines) = channel();
    let out = child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>);
    let err = child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>);
    for (is_out, stream) in [(true, out), (false, err)] {
        let send = send.clone();
        let stream = BufReader::new(stream.unwrap_or_else(|| Box::new(io::empty())));
        thread::spawn(move || {
            for line in stream.split(b'\n').map_while(Result::ok) {
                let _ = send.send((is_out, line));
            }
        });
    }
    drop(send);
    let mut results = Results::default();
    for (is_out, mut line) in lines {
        line.push(b'\n');
        let done = if is_out { results.out(&line) } else { results.err(&line) };
        done.map_err(|e| format!("cannot print: {e}"))?;
    }
    let status = child.wait().map_err(|e| format!("cargo test: {e}"))?;
    Ok(Verdict { tally: results.end().0, well: status.success() })
}

/// The package in Python, which needs no building.
const PYTHON: &str = "python/src";

/// The example that draws by Vulkan, which the x86_64 guest has.
const GPU_VIEW: &str = "gpu_view";

/// What runs in one guest.
pub struct Built {
    tests: Artifact,
    examples: Vec<Artifact>,
}

pub fn build(workspace: &Path, arch: Arch, filter: Option<&str>) -> Res<Built> {
    let words = ["build", "--package", "framelease", "--features", TEST_FEATURES, "--test", KERNEL_TEST, "--examples"];
    let built = cargo::build(workspace, arch, &words)?;
    let (tests, mut examples): (Vec<_>, Vec<_>) = built.into_iter().partition(|a| a.kind == "test");
    let tests = tests.into_iter().next().ok_or("cargo built no kernel tests")?;
    examples.push(cargo::framelease_cat(workspace, arch.target())?);
    examples.extend(cargo::c_programs(workspace, arch)?);
    // Its many crates are built only for its own tests. Without them, those tests skip visibly.
    if arch == Arch::X86_64 && Arch::host() == Some(arch) && filter.is_some_and(|filter| filter.contains(GPU_VIEW)) {
        match cargo::gpu_view(workspace) {
            Ok(program) => examples.extend(program),
            Err(why) => say!("{GPU_VIEW} is missing: {why}"),
        }
    }
    if let Some(target) = arch.narrow() {
        // A part of the toolchain that cannot be had must not fail everything else: their tests skip visibly.
        match prerequisites::check_target(target) {
            Ok(()) => examples.extend(cargo::narrow(workspace, target)?),
            Err(why) => say!("32-bit programs on {arch} are missing: {why}"),
        }
    }
    Ok(Built { tests, examples })
}

/// A guest that has run its tests.
struct Ran {
    machine: Machine,
    outcome: Outcome,
}

impl Ran {
    fn new(machine: Machine, built: Built, wish: &Test, results: &mut Results<'_>) -> Res<Ran> {
        let mut job = job(&machine, built, wish.filter.as_deref());
        for (_, name) in wish.without.iter().filter(|(arch, _)| *arch == machine.arch) {
            job.command.extend(["--skip".into(), name.clone()]);
        }
        let limits = Limits { time: Some(wish.timeout), pass_interrupt: false };
        ffmpeg_check::clear(&machine.out);
        let outcome = guest::run(&machine, &job, &limits, results)?;
        results.flush().map_err(|e| format!("cannot print: {e}"))?;
        results.slowest();
        Ok(Ran { machine, outcome })
    }

    /// The verdict on a guest, printed after its tests' own output.
    fn verdict(self, tally: Tally, finished: bool) -> Verdict {
        let Ran { machine, outcome } = self;
        let arch = machine.arch;
        let mut verdict = Verdict { tally, well: true };
        match ffmpeg_check::compare(&machine.out) {
            Ok(compared) => verdict.tally.add(compared.same, compared.different),
            Err(why) => verdict.tally.skip("ffmpeg on what was encoded", &why),
        }
        let trouble = outcome.console.trouble();
        for line in &trouble {
            println!("{arch} kernel: {line}");
        }
        if !trouble.is_empty() {
            let log = machine.console_log.display();
            verdict.fail(&format!("the {arch} kernel printed a warning; the whole log is {log}"));
        }
        match outcome.end {
            End::Exited(0) if finished => {}
            End::Exited(_) if finished => verdict.well = false,
            End::Exited(status) => {
                verdict.fail(&format!("the {arch} tests ended with status {status}, without a result"));
            }
            End::Interrupted => verdict.fail("interrupted"),
            end => {
                report(&machine, &end, &outcome.console.tail(60));
                verdict.well = false;
            }
        }
        verdict
    }
}

pub fn job(machine: &Machine, built: Built, filter: Option<&str>) -> Job {
    let place = |a: &Artifact| format!("{}/{}", &EXAMPLES[1..], a.name);
    let mut programs: Vec<_> = built.examples.into_iter().map(|a| (place(&a), a.executable)).collect();
    // Shared objects that tests load lie beside them, here and there.
    if let (Some(from), Some(to)) = (built.tests.executable.parent(), Path::new(KERNEL_TEST_PLACE).parent()) {
        let fakes = FAKES.iter().map(|name| (to.join(name), from.join(name)));
        programs.extend(fakes.map(|(to, from)| (to.display().to_string()[1..].to_string(), from)));
    }
    programs.push((KERNEL_TEST_PLACE[1..].to_string(), built.tests.executable));
    // --show-output: what a passed test said, such as that it skipped, counts.
    let mut command: Vec<String> = [KERNEL_TEST_PLACE, "--test-threads=1", "--show-output"].map(String::from).to_vec();
    command.extend(filter.map(String::from));
    Job { modules: modules::load_lines(&machine.own_modules, &[]), env: environment(machine.arch), command, programs }
}
