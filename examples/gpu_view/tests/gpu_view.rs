//! The program where no GPU is. `tests/kernel/gpu_view.rs` of the library runs it with one.

use std::process::{Command, Output};

/// Runs the program on a machine without drivers.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu_view"));
    // The older name is that of loaders before 1.3.207.
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    command.args(args).output().unwrap()
}

#[test]
fn help_names_every_option() {
    let output = run(&["--help"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for option in ["--socket", "--device", "--drm", "--png", "--frames", "--no-overlay", "Ctrl-C", "writable"] {
        assert!(text.contains(option), "{option} is not in the help");
    }
}

#[test]
fn errors_say_which_option_or_driver_is_wrong() {
    for (args, words) in [
        (&["--png", "a", "--drm", "b"][..], &["--png", "--drm"][..]),
        (&["--frames", "0"], &["--frames"]),
        (&["--frames", "many"], &["--frames many"]),
        (&["--color"], &["--color"]),
        (&[], &["no Vulkan device", "driver", "vulkaninfo"]),
        (&["--device", "V3D"], &["no Vulkan device", "driver"]),
    ] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        words.iter().for_each(|word| assert!(error.contains(word), "{args:?}: no '{word}' in: {said}"));
        assert!(output.stdout.is_empty());
    }
}
