//! The numbers of `src/sys/g2d/abi.rs` against C compilers: 64 bits, and 32 where the layouts coincide.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// Runs a compiler: `Some` has its diagnostics, `None` if this machine does not have the compiler.
fn compile(compiler: &str, defines: &[&str], source: &str) -> Option<Result<(), String>> {
    let mut command = Command::new(compiler);
    command.args(["-std=c11", "-Wall", "-Werror", "-fsyntax-only", "-x", "c"]).args(defines).arg("-");
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => panic!("{compiler}: {e}"),
    };
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

#[test]
fn abi_declarations_agree_with_c_compilers() {
    let source = include_str!("../abi.c");
    let mut missing = Vec::new();
    for compiler in ["gcc", "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc"] {
        for defines in [&["-DADDRESS=int"][..], &["-DADDRESS=unsigned long", "-DMODERN"]] {
            match compile(compiler, defines, source) {
                None => missing.push(compiler),
                Some(result) => assert!(result.is_ok(), "{compiler} {defines:?}: {}", result.unwrap_err()),
            }
        }
        // The check must be able to fail.
        let wrong = source.replace("AT(surface, rot, 56)", "AT(surface, rot, 60)");
        if let Some(result) = compile(compiler, &["-DADDRESS=int"], &wrong) {
            assert!(result.unwrap_err().contains("surface.rot"), "{compiler}");
        }
    }
    missing.dedup();
    if !missing.is_empty() {
        let _ = writeln!(std::io::stderr(), "SKIPPED C compilers: {} not on this machine", missing.join(", "));
    }
}
