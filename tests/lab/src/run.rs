//! `cargo lab run`: one example in a guest.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::arch::Arch;
use crate::args::Run;
use crate::cargo::{self, RUN_FEATURES};
use crate::guest::{self, End, Limits, Sink};
use crate::initramfs::Job;
use crate::prepare::{prepare, Machine};
use crate::required_devices::required;
use crate::{modules, prerequisites, say, Res};

/// Where the guest finds programs of ours.
pub const EXAMPLES: &str = "/lab/examples";

/// The example's output is ours.
struct PassOn;

impl Sink for PassOn {
    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    fn err(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)
    }
}

pub fn run(workspace: &Path, wish: &Run) -> Res<i32> {
    prerequisites::for_guest(wish.arch)?;
    let name = &wish.example;
    let words = ["build", "--package", "framelease", "--features", RUN_FEATURES, "--example", name];
    let program =
        cargo::build(workspace, wish.arch, &words)?.pop().ok_or_else(|| format!("cargo built no example {name}"))?;
    let machine = prepare(wish.arch, workspace)?;
    empty_out(&machine.out)?;
    let place = format!("{EXAMPLES}/{name}");
    let mut command = vec![place.clone()];
    command.extend(wish.args.iter().cloned());
    let job = Job {
        modules: modules::load_lines(&machine.own_modules, &wish.modules),
        env: environment(wish.arch),
        command,
        programs: vec![(place[1..].to_string(), program.executable)],
    };
    let limits = Limits { time: wish.timeout, pass_interrupt: true };
    let outcome = guest::run(&machine, &job, &limits, &mut PassOn)?;
    for line in outcome.console.trouble() {
        say!("{} kernel: {line}", wish.arch);
    }
    Ok(match outcome.end {
        End::Exited(status) => status,
        End::Interrupted => 130,
        end => {
            report(&machine, &end, &outcome.console.tail(40));
            if end == End::TimedOut {
                124
            } else {
                125
            }
        }
    })
}

/// Says why a result is missing, with the end of the console log.
pub fn report(machine: &Machine, end: &End, tail: &str) {
    let what = match end {
        End::NoBoot => "gave no sign of life",
        End::TimedOut => "took too long",
        End::Crashed => "ended with its QEMU, while it booted",
        _ => "went down before the end",
    };
    say!("the {} guest {what}; its console ended with:", machine.arch);
    eprintln!("{tail}");
    let qemu = fs::read_to_string(machine.console_log.with_extension("qemu.log"));
    match qemu.unwrap_or_default().trim() {
        "" => {}
        words => say!("QEMU said: {words}"),
    }
    say!("the whole log is {}", machine.console_log.display());
}

/// Files of an earlier run would be mistaken for this one's.
pub fn empty_out(out: &Path) -> Res<()> {
    crate::cache::remove_dir(out)?;
    fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))
}

pub fn environment(arch: Arch) -> Vec<(String, String)> {
    [
        ("FRAMELEASE_LAB_ARCH", arch.name().to_string()),
        ("FRAMELEASE_LAB_PROMISES", required(arch).join(" ")),
        ("FRAMELEASE_EXAMPLES_DIR", EXAMPLES.to_string()),
        ("RUST_BACKTRACE", "1".to_string()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}
