//! The properties of a libg2d, as far as it reveals them.

use std::fmt;
use std::path::PathBuf;

use crate::format::FourCc;
use crate::sys::g2d as sys;

/// The layout of the library's structs. Both layouts are shipped as `libg2d.so.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// Physical addresses are `int`: headers up to 2.2.
    Legacy,
    /// Physical addresses are `unsigned long`: headers from 2.3 on.
    Modern,
}

impl Abi {
    pub(super) fn raw(self) -> sys::Abi {
        match self {
            Self::Legacy => sys::Abi::Legacy,
            Self::Modern => sys::Abi::Modern,
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy (32-bit physical addresses)",
            Self::Modern => "modern (64-bit physical addresses)",
        })
    }
}

/// The hardware that a library drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// A Vivante 2D core: 8MM, 8MP, 8ULP, i.MX6.
    Gpu,
    /// The display controller's blit engine: 8QM, 8QXP, 8DX, 95.
    Dpu,
    /// The pixel pipeline: 93, 943.
    Pxp,
    /// Unknown hardware. The converter then offers the formats that the library reports.
    Unknown,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpu => "the GPU's libg2d",
            Self::Dpu => "the DPU's libg2d",
            Self::Pxp => "the PXP's libg2d",
            Self::Unknown => "this libg2d",
        })
    }
}

/// An answer that may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The library supports it.
    Yes,
    /// The library does not support it.
    No,
    /// The library has no way to find out beforehand.
    Unknown,
}

impl From<Option<bool>> for Answer {
    fn from(answer: Option<bool>) -> Self {
        answer.map_or(Self::Unknown, |yes| if yes { Self::Yes } else { Self::No })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}

/// The result of one probe of the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vote {
    /// The property that was probed.
    pub probe: &'static str,
    /// The layout that the probe found. `None` if it found neither.
    pub abi: Option<Abi>,
    /// Why the probe voted as it did.
    pub why: String,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.abi {
            Some(Abi::Legacy) => "legacy",
            Some(Abi::Modern) => "modern",
            None => "no vote",
        };
        write!(f, "{}: {word} ({})", self.probe, self.why)
    }
}

/// What a libg2d reports about itself. `Display` prints several lines of text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The library's real file, with symbolic links resolved.
    pub path: PathBuf,
    /// The layout that is used. `None` if the probes disagree or found nothing, and the caller did not choose one.
    pub abi: Option<Abi>,
    /// The vote of each probe.
    #[doc(hidden)]
    pub votes: Vec<Vote>,
    /// `true` if the caller or the environment chose the layout, which overrides the probes.
    pub abi_forced: bool,
    /// The text that `_G2D_VERSION` points to, if the symbol exists.
    pub version: Option<String>,
    /// The symbols of the headers, and whether the library has each.
    pub symbols: Vec<(&'static str, bool)>,
    /// The hardware that the library drives.
    pub variant: Variant,
    /// Names and answers of `g2d_query_hardware`.
    #[doc(hidden)]
    pub hardware: Vec<(&'static str, Answer)>,
    /// Names and answers of `g2d_query_feature`.
    #[doc(hidden)]
    pub features: Vec<(&'static str, Answer)>,
    /// Whether NV12 can be written, by query and trial.
    #[doc(hidden)]
    pub nv12_target: Answer,
    /// How [`Report::nv12_target`] was found.
    #[doc(hidden)]
    pub nv12_why: String,
    /// The results of trials, if [`G2dBuilder::inspect`](super::G2dBuilder::inspect) made them.
    #[doc(hidden)]
    pub survey: Option<Survey>,
}

impl Report {
    /// Returns `true` if the library exports a symbol.
    #[doc(hidden)]
    pub fn has(&self, symbol: &str) -> bool {
        self.symbols.iter().any(|(name, present)| *name == symbol && *present)
    }

    /// Returns the answer to a feature's query, by its name in `enum g2d_feature`.
    #[doc(hidden)]
    pub fn feature(&self, name: &str) -> Answer {
        self.features.iter().find(|(n, _)| *n == name).map_or(Answer::Unknown, |(_, answer)| *answer)
    }
}

/// One row of the table of formats: the results of trial blits of 64x64 pixels from and to RGBA.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FormatTrial {
    /// The pixel format of this row.
    pub fourcc: FourCc,
    /// As source, to RGBA: whether the call succeeded, and the library's answer.
    pub source: (bool, String),
    /// As target, from RGBA: whether the call succeeded, and the library's answer.
    pub target: (bool, String),
    /// The answers of this crate's rules: as source, as target.
    pub rules: (Answer, Answer),
}

/// The results of trials on the library's own buffers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Survey {
    /// Caps that were tried with `g2d_enable`: name, success, answer.
    pub caps: Vec<(&'static str, bool, String)>,
    /// The table of formats. Empty if the library has no `g2d_alloc`.
    pub formats: Vec<FormatTrial>,
    /// The steps of the import ladder, tried with one buffer: name, success, result.
    pub imports: Vec<(&'static str, bool, String)>,
    /// `true` if `g2d_create_fence_fd` returned a fence.
    pub fence: bool,
}
