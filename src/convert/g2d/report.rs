//! What a libg2d is and can do, as far as it says.

use std::fmt;
use std::path::PathBuf;

use crate::format::FourCc;
use crate::sys::g2d as sys;

/// Which layout the library's structs have. Both are shipped as `libg2d.so.2`.
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

/// The hardware behind a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// A Vivante 2D core: 8MM, 8MP, 8ULP, i.MX6.
    Gpu,
    /// The display controller's blit engine: 8QM, 8QXP, 8DX, 95.
    Dpu,
    /// The pixel pipeline: 93, 943.
    Pxp,
    /// Not told: the library's own answers decide what it takes.
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

/// An answer that may not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// The library offers no way to find out beforehand.
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

/// One probe of the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vote {
    /// What was looked at.
    pub probe: &'static str,
    /// What it says; none if it says nothing.
    pub abi: Option<Abi>,
    /// What was found.
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

/// What a libg2d says of itself. Displays as a text of some lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The library's real file, symbolic links resolved.
    pub path: PathBuf,
    /// The layout that is used; none if the probes disagree or say nothing, and nobody decided.
    pub abi: Option<Abi>,
    /// How each probe voted.
    #[doc(hidden)]
    pub votes: Vec<Vote>,
    /// `true` if the user or the environment chose the layout, whatever the probes say.
    pub abi_forced: bool,
    /// The text behind `_G2D_VERSION`, if there is one.
    pub version: Option<String>,
    /// The symbols of the headers and whether each is there.
    pub symbols: Vec<(&'static str, bool)>,
    /// The hardware.
    pub variant: Variant,
    /// `g2d_query_hardware`: name and answer.
    #[doc(hidden)]
    pub hardware: Vec<(&'static str, Answer)>,
    /// `g2d_query_feature`: name and answer.
    #[doc(hidden)]
    pub features: Vec<(&'static str, Answer)>,
    /// Whether NV12 can be written, by query and trial.
    #[doc(hidden)]
    pub nv12_target: Answer,
    /// How [`Report::nv12_target`] was found.
    #[doc(hidden)]
    pub nv12_why: String,
    /// What trials say, if [`G2dBuilder::inspect`](super::G2dBuilder::inspect) made them.
    #[doc(hidden)]
    pub survey: Option<Survey>,
}

impl Report {
    /// Whether the library exports a symbol.
    #[doc(hidden)]
    pub fn has(&self, symbol: &str) -> bool {
        self.symbols.iter().any(|(name, present)| *name == symbol && *present)
    }

    /// The answer to a feature's query, by the name in `enum g2d_feature`.
    #[doc(hidden)]
    pub fn feature(&self, name: &str) -> Answer {
        self.features.iter().find(|(n, _)| *n == name).map_or(Answer::Unknown, |(_, answer)| *answer)
    }
}

/// One row of the matrix of formats: what trial blits of 64x64 pixels from and to RGBA returned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FormatTrial {
    /// The format.
    pub fourcc: FourCc,
    /// As source, onto RGBA: the library's answer as text, and whether it is success.
    pub source: (bool, String),
    /// As target, from RGBA.
    pub target: (bool, String),
    /// What the crate's own rules say: as source, as target.
    pub rules: (Answer, Answer),
}

/// What trials on buffers of the library's own say.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Survey {
    /// Caps that `g2d_enable` takes: name and the call's answer.
    pub caps: Vec<(&'static str, bool, String)>,
    /// Formats. Empty if the library has no `g2d_alloc`.
    pub formats: Vec<FormatTrial>,
    /// The rungs of the import ladder, tried with one buffer: name and result.
    pub imports: Vec<(&'static str, bool, String)>,
    /// Whether `g2d_create_fence_fd` gives a fence.
    pub fence: bool,
}
