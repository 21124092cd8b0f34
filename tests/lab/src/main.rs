//! The lab: boots a real kernel with video test drivers in QEMU and runs framelease's tests and
//! examples in it. `cargo lab --help`; the whole story is in docs/testing.md.

mod apt;
mod arch;
mod args;
mod before_after;
mod bench;
mod boards;
mod cache;
mod cargo;
mod clients;
mod console;
mod cpio;
mod exec;
mod ffmpeg_check;
mod gstreamer_rootfs;
mod guest;
mod initramfs;
mod kernel;
mod kmods;
mod libtest;
mod manual;
mod modules;
mod packages;
mod prepare;
mod prerequisites;
mod qemu;
mod required_devices;
mod results;
mod rivals;
mod run;
mod shell;
mod signals;
mod skips;
mod slowest;
mod soak;
mod streams;
mod surface;
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
    let command = args::parse(std::env::args_os().skip(1)).unwrap_or_else(|error| {
        say!("{error}");
        exit(2);
    });
    let done = match command {
        Command::Help(text) => {
            println!("{text}");
            Ok(0)
        }
        Command::Test(wish) => test::test(&workspace(), &wish),
        Command::Run(wish) => run::run(&workspace(), &wish),
        Command::Bench(wish) => bench::bench(&workspace(), &wish),
        Command::BeforeAfter(wish) => before_after::before_after(&workspace(), &wish),
        Command::Share(wish) => rivals::share(&workspace(), &wish),
        Command::Encode(wish) => rivals::encode(&workspace(), &wish),
        Command::Soak { arch, minutes } => soak::soak(&workspace(), arch, minutes),
        Command::Streams { filters, lists } => streams::streams(&workspace(), &filters, lists),
        Command::Clients(wish) => clients::clients(&workspace(), &wish),
        Command::Shell { arch, modules } => shell::shell(&workspace(), arch, &modules),
        Command::Surface { lists } => surface::surface(&workspace(), lists),
        Command::Boards => boards::boards(&workspace()),
        Command::Packages => packages::packages(&workspace()),
        Command::Manual => manual::manual(&workspace()),
        Command::Fetch { archs } => test::fetch(&workspace(), &archs).map(|()| 0),
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
