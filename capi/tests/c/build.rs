//! Builds the library and C programs, once for all tests.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of the tests.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The library in an installed tree: `lib`, `include`, and `lib/pkgconfig`.
pub fn installed() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let tree = folder("tree");
        let target = root().join("../target/c");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["rustc", "--quiet", "--package", "framelease-capi", "--lib", "--release", "--target-dir"]);
        cargo.arg(&target).args(["--crate-type", "cdylib,staticlib", "--"]);
        run(cargo.args(["-Clink-arg=-Wl,-soname,libframelease.so.0"]).current_dir(root()));
        let (lib, include) = (tree.join("lib"), tree.join("include"));
        fs::create_dir_all(lib.join("pkgconfig")).unwrap();
        fs::create_dir_all(&include).unwrap();
        let built = target.join("release");
        fs::copy(built.join("libframelease_capi.so"), lib.join("libframelease.so.0")).unwrap();
        fs::copy(built.join("libframelease_capi.a"), lib.join("libframelease.a")).unwrap();
        let link = lib.join("libframelease.so");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("libframelease.so.0", link).unwrap();
        for header in ["framelease.h", "framelease.hpp"] {
            fs::copy(root().join("include").join(header), include.join(header)).unwrap();
        }
        let template = fs::read_to_string(root().join("framelease.pc.in")).unwrap();
        let pc = [
            ("@PREFIX@", tree.to_str().unwrap()),
            ("@LIBDIR@", "${prefix}/lib"),
            ("@VERSION@", env!("CARGO_PKG_VERSION")),
            ("@LIBS_PRIVATE@", STATIC_LIBS),
        ];
        let pc = pc.iter().fold(template, |text, (name, value)| text.replace(name, value));
        fs::write(lib.join("pkgconfig/framelease.pc"), pc).unwrap();
        tree
    })
}

/// What a static link needs besides (`cargo rustc -- --print native-static-libs`).
pub const STATIC_LIBS: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

pub fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|output| output.status.success())
}

/// Says why a test, or a part of one, did not run.
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// A command that finds the library when it runs.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command.env("LD_LIBRARY_PATH", installed().join("lib"));
    command
}

pub const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"];

/// Compiles and links a file against the shared library. `compiler` and its flags are words.
pub fn compiled(compiler: &str, flags: &[&str], source: &Path, name: &str) -> Option<PathBuf> {
    if !has(compiler) {
        skipped(name, &format!("no {compiler} here"));
        return None;
    }
    let to = folder("programs").join(name);
    let mut command = Command::new(compiler);
    command.args(flags).arg("-I").arg(installed().join("include")).arg(source).arg("-o").arg(&to);
    run(command.arg("-L").arg(installed().join("lib")).args(["-lframelease", "-lpthread"]));
    Some(to)
}

pub fn example(name: &str) -> PathBuf {
    root().join("examples").join(name)
}
