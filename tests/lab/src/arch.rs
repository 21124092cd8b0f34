//! What differs between the two guests, in one table.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

/// What programs are built for.
#[derive(Debug)]
pub struct Target {
    /// By Rust's name.
    pub rust: &'static str,
    /// Prefix of the GNU tools, and Debian's multi-arch folder.
    pub gnu: &'static str,
    /// Debian's package with a C compiler for it on another architecture.
    pub gcc_package: &'static str,
    /// Debian's package with the C library's start files for that compiler.
    pub libc_package: &'static str,
    /// Debian's package with Rust's standard library for it, for Debian's Rust.
    pub std_package: &'static str,
}

const X86_64: Target = Target {
    rust: "x86_64-unknown-linux-gnu",
    gnu: "x86_64-linux-gnu",
    gcc_package: "gcc-x86-64-linux-gnu",
    libc_package: "libc6-dev-amd64-cross",
    std_package: "libstd-rust-dev:amd64",
};
const AARCH64: Target = Target {
    rust: "aarch64-unknown-linux-gnu",
    gnu: "aarch64-linux-gnu",
    gcc_package: "gcc-aarch64-linux-gnu",
    libc_package: "libc6-dev-arm64-cross",
    std_package: "libstd-rust-dev:arm64",
};
const ARMV7: Target = Target {
    rust: "armv7-unknown-linux-gnueabihf",
    gnu: "arm-linux-gnueabihf",
    gcc_package: "gcc-arm-linux-gnueabihf",
    libc_package: "libc6-dev-armhf-cross",
    std_package: "libstd-rust-dev:armhf",
};

/// All that programs are built for.
pub const CROSS: [&Target; 3] = [&X86_64, &AARCH64, &ARMV7];

impl Arch {
    pub fn parse(name: &str) -> Option<Arch> {
        ALL.into_iter().find(|a| a.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The architecture's name in Debian packages.
    pub fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// `ARCH=` of the kernel's build system.
    pub fn kernel(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86",
            Arch::Aarch64 => "arm64",
        }
    }

    /// What its programs are built for.
    pub fn target(self) -> &'static Target {
        match self {
            Arch::X86_64 => &X86_64,
            Arch::Aarch64 => &AARCH64,
        }
    }

    /// Prefix of the GNU tools, and Debian's multi-arch folder.
    pub fn gnu(self) -> &'static str {
        self.target().gnu
    }

    /// Programs of 32 bits, which its kernel runs, too.
    pub fn narrow(self) -> Option<&'static Target> {
        match self {
            Arch::X86_64 => None,
            Arch::Aarch64 => Some(&ARMV7),
        }
    }

    /// Where binaries of this architecture look for their dynamic loader.
    pub fn loader(self) -> &'static str {
        match self {
            Arch::X86_64 => "lib64/ld-linux-x86-64.so.2",
            Arch::Aarch64 => "lib/ld-linux-aarch64.so.1",
        }
    }

    pub fn qemu(self) -> &'static str {
        match self {
            Arch::X86_64 => "qemu-system-x86_64",
            Arch::Aarch64 => "qemu-system-aarch64",
        }
    }

    pub fn qemu_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "qemu-system-x86",
            Arch::Aarch64 => "qemu-system-arm",
        }
    }

    /// The machine. The Cortex-A53 is the i.MX8M's core. On x86_64 all that QEMU has but what is slow in software:
    /// copies byte by byte (ERMS, FSRM) and a fifth level of page tables.
    pub fn machine(self) -> &'static [&'static str] {
        match self {
            Arch::X86_64 => &["-machine", "q35", "-cpu", "max,-erms,-fsrm,-la57"],
            Arch::Aarch64 => &["-machine", "virt", "-cpu", "cortex-a53"],
        }
    }

    /// Kernel parameters that only this machine needs.
    pub fn kernel_parameters(self) -> &'static str {
        match self {
            Arch::X86_64 => "console=ttyS0 reboot=t",
            Arch::Aarch64 => "console=ttyAMA0",
        }
    }

    pub fn host() -> Option<Arch> {
        Arch::parse(std::env::consts::ARCH)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
