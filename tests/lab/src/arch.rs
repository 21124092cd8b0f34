//! What differs between the two guests, in one table.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    Aarch64,
}

pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

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

    pub fn rust_target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Prefix of the GNU tools, and Debian's multi-arch folder.
    pub fn gnu(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-linux-gnu",
            Arch::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// Debian's package with a C compiler for this architecture on another.
    pub fn cross_gcc_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "gcc-x86-64-linux-gnu",
            Arch::Aarch64 => "gcc-aarch64-linux-gnu",
        }
    }

    /// Debian's package with the C library's start files for that compiler.
    pub fn cross_libc_package(self) -> &'static str {
        match self {
            Arch::X86_64 => "libc6-dev-amd64-cross",
            Arch::Aarch64 => "libc6-dev-arm64-cross",
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

    /// The machine. The Cortex-A53 is the i.MX8M's core. On x86_64 all that QEMU has but what is slow in software: copies
    /// byte by byte (ERMS, FSRM) and a fifth level of page tables.
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
