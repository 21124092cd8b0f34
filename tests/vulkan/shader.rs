//! The compiled shader is that of its source.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The word of the header that names the compiler and its version.
fn generator(code: &[u8]) -> &[u8] {
    &code[8..12]
}

#[test]
fn shader_is_compiled_from_its_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/convert/vulkan/shaders");
    let out = std::env::temp_dir().join(format!("framelease-{}.spv", std::process::id()));
    let mut compiler = Command::new("glslangValidator");
    compiler.args(["--target-env", "vulkan1.1", "-o"]).arg(&out).arg(folder.join("convert.comp"));
    let skipped = |why: &str| drop(writeln!(std::io::stderr(), "SKIPPED glslangValidator: {why}"));
    match compiler.output() {
        Err(e) => return skipped(&e.to_string()),
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout)),
    }
    let (new, committed) = (std::fs::read(&out).unwrap(), std::fs::read(folder.join("convert.spv")).unwrap());
    std::fs::remove_file(&out).unwrap();
    if generator(&new) != generator(&committed) {
        return skipped("another version compiled the committed shader");
    }
    assert!(new == committed, "compile it: glslangValidator --target-env vulkan1.1 -o convert.spv convert.comp");
}
