//! What the doctor found: plain data, from which the report and the advice are made.

use super::json::Json;

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of framelease's error, such as `Busy`. Empty for other errors.
    pub kind: String,
    pub text: String,
}

impl Failure {
    pub fn new(kind: &str, text: impl Into<String>) -> Self {
        Self { kind: kind.into(), text: text.into() }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub machine: Machine,
    pub video: Vec<Video>,
    pub memory: Memory,
    pub displays: Vec<Display>,
    pub g2d: G2d,
    pub answers: Vec<Answer>,
    pub reads: Option<Reads>,
    pub costs: Option<Costs>,
}

#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The device tree's model, or that of a PC.
    pub model: String,
    pub kernel: String,
    pub architecture: String,
    pub processors: u64,
    pub memory_kib: u64,
    /// Total and free. None: the kernel does not report it.
    pub cma_kib: Option<(u64, u64)>,
    pub is_root: bool,
    /// This program cannot load libraries.
    pub is_static: bool,
    pub has_vsidaemon: bool,
}

/// A device node, and who uses it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub path: String,
    /// The group that owns it.
    pub group: String,
    /// Other processes that have it open.
    pub holders: Vec<Holder>,
    pub failed: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    pub pid: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    Camera,
    Encoder,
    Decoder,
    Converter,
    Output,
    #[default]
    Other,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Converter => "converter",
            Self::Output => "output",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Video {
    pub node: Node,
    pub driver: String,
    pub card: String,
    pub role: Role,
    pub multi_planar: bool,
    pub queues: Vec<Queue>,
    pub media_path: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub direction: &'static str,
    /// How it takes buffers.
    pub memory: String,
    /// Formats that share a list of sizes, and that list.
    pub formats: Vec<(Vec<String>, String)>,
    /// The number of formats that framelease does not lay out.
    pub unknown: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Paths of heaps, and why each cannot be used.
    pub heaps: Vec<(String, Option<Failure>)>,
    /// For copies and for the converter's results.
    pub for_devices: Option<String>,
    pub no_memory: Option<Failure>,
}

#[derive(Clone, Debug, Default)]
pub struct Display {
    pub node: Node,
    pub driver: String,
    pub atomic: bool,
    pub imports: bool,
    pub connectors: Vec<String>,
    pub planes: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub enum G2d {
    #[default]
    NotAsked,
    /// Why it was not asked.
    Static,
    Failed(Failure),
    /// The library's report, as JSON and as text.
    Found(Json, String),
}

/// The answer to a question of docs/boards.md.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub question: String,
    pub device: String,
    /// A word for programs, and a sentence. Else why it was not asked.
    pub answer: Result<(String, String), String>,
}

/// How fast the CPU reads: the camera's buffers and those of a memfd.
#[derive(Clone, Debug, PartialEq)]
pub struct Reads {
    pub device: String,
    pub camera_mib_s: f64,
    pub cached_mib_s: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Costs {
    pub width: u64,
    pub height: u64,
    pub fps: u64,
    pub codec: String,
    pub frames: u64,
    pub turns: u64,
    /// Why there are no counts of the DDR bus.
    pub no_bus: Option<String>,
    pub rows: Vec<Row>,
}

pub const NAMES: [&str; 10] = [
    "process_cpu_us",
    "machine_cpu_us",
    "system_calls",
    "copied_bytes",
    "page_faults",
    "context_switches",
    "latency_us_p50",
    "latency_us_p99",
    "ddr_read_cycles",
    "ddr_write_cycles",
];

/// Counts of one frame, in the order of [`NAMES`].
pub type Counts = [f64; NAMES.len()];

/// A path of a frame: medians of all turns.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub path: &'static str,
    /// The path that is this path's capture alone.
    pub capture: &'static str,
    pub memory: &'static str,
    pub counts: Counts,
    pub lost: u64,
    pub devices: String,
    pub failed: Option<Failure>,
}

impl Costs {
    /// CPU above what the capture alone costs: of the processes (0), of the machine (1).
    pub fn beyond_capture(&self, row: &Row, which: usize) -> Option<f64> {
        let capture = self.rows.iter().find(|r| r.path == row.capture && r.failed.is_none())?;
        Some(row.counts[which] - capture.counts[which])
    }

    /// The copy's CPU to that of the dma-buf, both without the capture.
    pub fn ratio(&self, row: &Row, which: usize) -> Option<f64> {
        let is_base = |r: &&Row| r.path == row.path && r.memory == "dmabuf" && r.failed.is_none();
        let base = self.beyond_capture(self.rows.iter().find(is_base)?, which)?;
        (row.memory == "copy" && base > 0.0).then_some(self.beyond_capture(row, which)? / base)
    }
}
