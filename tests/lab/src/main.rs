//! The lab: boots a real kernel with video test drivers in QEMU and runs framelease's tests and
//! examples in it. `cargo lab --help`; the whole story is in docs/testing.md.

mod apt;
mod arch;
mod args;
mod bench;
mod cache;
mod cargo;
mod console;
mod cpio;
mod exec;
mod guest;
mod initramfs;
mod kernel;
mod kmods;
mod libtest;
mod modules;
mod oracle;
mod others;
mod prepare;
mod promises;
mod qemu;
mod results;
mod rival;
mod rivals;
mod run;
mod shell;
mod signals;
mod soak;
mod test;
mod userland;

use std::path::PathBuf;
use std::process::exit;

use args::Command;

/// Errors are for people: one line where that is enough.
type Res<T> = Result<T, String>;

/// What the lab itself has to say goes to standard error; standard output is the guest's.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {
        eprintln!("lab: {}", format_args!($($what)*))
    };
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = args::parse(&words).unwrap_or_else(|error| {
        say!("{error}");
        exit(2);
    });
    let done = match command {
        Command::Help(text) => {
            println!("{text}");
            Ok(0)
        }
        Command::Test { where_, filter, timeout, no_skips } => {
            test::test(&workspace(), &where_, filter.as_deref(), timeout, no_skips)
        }
        Command::Run(wish) => run::run(&workspace(), &wish),
        Command::Rival { frames, turns } => rival::rival(&workspace(), frames, turns),
        Command::Bench(wish) => bench::bench(&workspace(), &wish),
        Command::Rivals(wish) => rivals::rivals(&workspace(), &wish),
        Command::Soak { arch, minutes } => soak::soak(&workspace(), arch, minutes),
        Command::Shell { arch, modules } => shell::shell(&workspace(), arch, &modules),
        Command::Fetch { archs } => {
            test::fetch(&workspace(), &archs, false).into_iter().try_for_each(|machine| machine.map(drop)).map(|()| 0)
        }
    };
    exit(done.unwrap_or_else(|error| {
        say!("{error}");
        1
    }));
}

/// The folder of the workspace: two above this package.
fn workspace() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match package.ancestors().nth(2) {
        Some(workspace) => workspace.to_path_buf(),
        None => package,
    }
}
