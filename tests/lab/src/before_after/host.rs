//! `cargo lab before-after --host`: the set-ups on this machine, with x264 in place of the encoder. Here the cost of
//! memory counts.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{getrusage, UsageWho};
use nix::sys::time::TimeValLike;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::cargo;
use crate::gstreamer_rootfs::{self, Parts};
use crate::rivals::{insert, median};
use crate::{say, signals, Res};

use super::plan::{BeforeAfter, Size, SIZES};

const ROOT: Parts = Parts {
    name: "before-after-host",
    whole: &["gstreamer1.0-tools", "gstreamer1.0-plugins-base", "libc6", "libx264-164"],
    alone: &["gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-ugly"],
    plugins: &["coreelements", "shm", "unixfd", "videoconvertscale", "videorate", "x264"],
};
/// Slow enough that a small machine encodes in eight processes and loses nothing.
const FPS: u32 = 10;
/// Frames of a short and a long run. What a process costs to start is in both, and not in their difference.
const FRAMES: [u32; 2] = [20, 120];
/// Beyond the time that the frames take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to bring a camera's frames into files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    AsReported,
    EncodeEach,
    EncodeOnce,
}

const ALL: [(Setup, &str); 3] = [
    (Setup::AsReported, "as reported: `shmsink`, an encode in each consumer"),
    (Setup::EncodeEach, "framelease, an encode in each consumer"),
    (Setup::EncodeOnce, "framelease, one encode for all"),
];

/// Files in the folder of a run.
struct Place(PathBuf);

impl Place {
    fn camera(&self) -> PathBuf {
        self.0.join("camera")
    }

    fn text(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Setup {
    /// The pipeline that copies frames for the others, if there is one.
    fn copier(self, place: &Place, size: Size) -> Option<String> {
        let bytes = size.width * size.height * 3 / 2 * 16;
        let (camera, shm) = (place.text("unixfd"), place.text("shm"));
        let line = format!(
            "unixfdsrc socket-path={camera} ! shmsink socket-path={shm} shm-size={bytes} wait-for-connection=false sync=false"
        );
        (self == Setup::AsReported).then_some(line)
    }

    /// The pipelines that write files.
    fn consumers(self, place: &Place, size: Size, count: u32, frames: u32) -> Vec<String> {
        let Size { width, height, .. } = size;
        let encode = "x264enc speed-preset=ultrafast tune=zerolatency bitrate=4000 key-int-max=30 threads=1 \
                      ! video/x-h264,stream-format=byte-stream";
        let file = |n: u32| format!("filesink location={}", place.text(&format!("{n}.h264")));
        let shared = format!("unixfdsrc socket-path={} num-buffers={frames}", place.text("unixfd"));
        let source = match self {
            Setup::AsReported => format!(
                "shmsrc socket-path={} is-live=true do-timestamp=true num-buffers={frames} \
                 ! video/x-raw,format=NV12,width={width},height={height},framerate={FPS}/1 ! videoscale ! videorate",
                place.text("shm")
            ),
            Setup::EncodeEach | Setup::EncodeOnce => shared,
        };
        if self == Setup::EncodeOnce {
            let branches: String = (0..count).map(|n| format!(" t. ! queue ! {}", file(n))).collect();
            return vec![format!("{source} ! {encode} ! tee name=t{branches}")];
        }
        (0..count).map(|n| format!("{source} ! {encode} ! {}", file(n))).collect()
    }
}

/// GStreamer of Debian 13, which runs by its own C library.
struct Gstreamer {
    root: PathBuf,
    arch: Arch,
    registry: PathBuf,
}

impl Gstreamer {
    fn start(&self, line: &str) -> Res<Running> {
        let libraries = self.root.join("usr/lib").join(self.arch.gnu());
        let loader = libraries.join(Path::new(self.arch.loader()).file_name().unwrap_or_default());
        let mut command = Command::new(loader);
        command.arg("--library-path").arg(&libraries).arg(self.root.join("usr/bin/gst-launch-1.0")).arg("--quiet");
        command.args(line.split_whitespace()).env("GST_PLUGIN_SYSTEM_PATH_1_0", self.root.join("plugins"));
        command.env("GST_REGISTRY_1_0", &self.registry).env("GST_REGISTRY_FORK", "no");
        Running::start(command)
    }
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Res<Self> {
        signals::die_with_parent(&mut command);
        let what = format!("{command:?}");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        child.map(Self).map_err(|e| format!("{what}: {e}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn host(workspace: &Path, wish: &BeforeAfter) -> Res<i32> {
    let arch = Arch::host().ok_or("this machine is neither x86_64 nor aarch64")?;
    let words = ["build", "--package", "framelease", "--features", "unixfd", "--example", "publisher"];
    let built = cargo::build(workspace, arch, &words)?;
    let publisher = built.into_iter().find(|artifact| artifact.kind == "example").ok_or("cargo built no publisher")?;
    let root = gstreamer_rootfs::unpack(&Cache::open()?, arch, &ROOT)?;
    let out = workspace.join("target/lab/before-after-host");
    fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let gstreamer = Gstreamer { root, arch, registry: out.join("registry.bin") };
    let begun = Instant::now();
    let cells: Vec<(Size, u32)> =
        wish.sizes.iter().flat_map(|size| wish.consumers.iter().map(|consumers| (*size, *consumers))).collect();
    // Of each cell and set-up, one for each turn.
    let mut costs = vec![[(); ALL.len()].map(|()| Vec::new()); cells.len()];
    for turn in 0..wish.turns as usize {
        for (&(size, consumers), costs) in cells.iter().zip(&mut costs) {
            for at in 0..ALL.len() {
                let at = (at + turn) % ALL.len();
                let (setup, title) = ALL[at];
                say!("turn {} of {}: {}x{}, {consumers}: {title}", turn + 1, wish.turns, size.width, size.height);
                let run = |frames| cpu_ms(&publisher.executable, &gstreamer, (setup, size, consumers), frames, &out);
                let [short, long] = [run(FRAMES[0])?, run(FRAMES[1])?];
                costs[at].push((long - short) / f64::from(FRAMES[1] - FRAMES[0]));
            }
        }
    }
    let table = table(&cells, &costs, wish.turns, begun.elapsed());
    print!("{table}");
    if wish.update_docs {
        let page = workspace.join("docs/performance.md");
        let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        super::write(&page, &insert(&text, "cargo lab before-after --host", &table)?)?;
    }
    Ok(0)
}

/// The CPU time of all processes but the camera's.
fn cpu_ms(
    publisher: &Path,
    gstreamer: &Gstreamer,
    (setup, size, consumers): (Setup, Size, u32),
    frames: u32,
    out: &Path,
) -> Res<f64> {
    let place = Place(out.join("run"));
    let _ = fs::remove_dir_all(&place.0);
    fs::create_dir_all(&place.0).map_err(|e| format!("{}: {e}", place.0.display()))?;
    let mut command = Command::new(publisher);
    command.arg("--socket").arg(place.camera()).arg("--unixfd").arg(place.text("unixfd"));
    command.arg("--size").arg(format!("{}x{}", size.width, size.height)).arg("--fps").arg(FPS.to_string());
    // A publisher admits a subscriber only if it can lend it buffers.
    command.arg("--buffers").arg((16 + 5 * consumers).to_string());
    let log = fs::File::create(place.text("camera.log")).map_err(|e| format!("camera.log: {e}"))?;
    command.stderr(log);
    let camera = Running::start(command)?;
    await_file(Path::new(&place.text("unixfd")))?;
    let before = ended_ms()?;
    let copier = setup.copier(&place, size).map(|line| gstreamer.start(&line)).transpose()?;
    if copier.is_some() {
        await_file(Path::new(&place.text("shm")))?;
    }
    let lines = setup.consumers(&place, size, consumers, frames);
    let mut running = lines.iter().map(|line| gstreamer.start(line)).collect::<Res<Vec<_>>>()?;
    let deadline = Instant::now() + Duration::from_secs(u64::from(frames / FPS)) + PATIENCE;
    while !running.is_empty() {
        let mut failure = None;
        running.retain_mut(|consumer| match consumer.0.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) if status.success() => false,
            other => {
                failure = Some(format!("a consumer '{}': {other:?}", lines[0]));
                false
            }
        });
        if let Some(failure) = failure {
            let said = fs::read_to_string(place.text("camera.log")).unwrap_or_default();
            return Err(format!("{failure}; the camera said: {said}"));
        }
        if Instant::now() > deadline || signals::interrupts() > 0 {
            return Err("the consumers did not end".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(copier);
    let cost = ended_ms()? - before;
    drop(camera);
    check(&place, setup, consumers, frames)?;
    Ok(cost)
}

fn await_file(path: &Path) -> Res<()> {
    let begun = Instant::now();
    while !path.exists() {
        if begun.elapsed() > PATIENCE || signals::interrupts() > 0 {
            return Err(format!("{} does not appear", path.display()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The CPU time of all children that have ended.
fn ended_ms() -> Res<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| format!("getrusage: {e}"))?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e3)
}

/// Each file must have its frames, so that no set-up looks cheap because it loses them. Where frames are stamped when
/// they arrive, `videorate` may repeat or drop two.
fn check(place: &Place, setup: Setup, consumers: u32, frames: u32) -> Res<()> {
    let allowed = if setup == Setup::AsReported { 2 } else { 0 };
    for n in 0..consumers {
        let path = place.text(&format!("{n}.h264"));
        let found = pictures(&fs::read(&path).map_err(|e| format!("{path}: {e}"))?);
        if found.abs_diff(frames) > allowed {
            return Err(format!("{path} has {found} of {frames} frames"));
        }
    }
    Ok(())
}

/// Counts access unit delimiters.
fn pictures(stream: &[u8]) -> u32 {
    stream.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 9).count() as u32
}

fn table(cells: &[(Size, u32)], costs: &[[Vec<f64>; ALL.len()]], turns: u32, took: Duration) -> String {
    let mut out = format!(
        "{turns} turns, {} s in all, {FPS} frames a second, x264 with one thread at `ultrafast`. CPU is in ms for each \
         frame of the camera, and in brackets to that of *as reported*.\n\n| CPU of all processes |",
        took.as_secs()
    );
    for (size, consumers) in cells {
        let _ = write!(out, " {} lines, {consumers} |", size.height);
    }
    let _ = write!(out, "\n|---|{}\n", "---|".repeat(cells.len()));
    for (at, (_, title)) in ALL.iter().enumerate() {
        let _ = write!(out, "| {title} |");
        for costs in costs {
            let (own, before) = (median(&costs[at]), median(&costs[0]));
            let _ = match at {
                0 => write!(out, " {own:.1} |"),
                _ => write!(out, " {own:.1} ({:.2}) |", own / before),
            };
        }
        out.push('\n');
    }
    out
}

/// The default of `--host`: the camera of the report.
pub fn sizes() -> Vec<Size> {
    vec![SIZES[SIZES.len() - 1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setups_have_one_encode_for_all_files_or_one_for_each() {
        let (place, size) = (Place("/run".into()), SIZES[2]);
        let of = |setup: Setup| setup.consumers(&place, size, 3, 20);
        let encodes = |lines: &[String]| lines.iter().map(|line| line.matches("x264enc").count()).sum::<usize>();
        let files = |lines: &[String]| lines.iter().map(|line| line.matches("filesink").count()).sum::<usize>();
        for (setup, processes) in [(Setup::AsReported, 3), (Setup::EncodeEach, 3), (Setup::EncodeOnce, 1)] {
            let lines = of(setup);
            assert_eq!((lines.len(), encodes(&lines), files(&lines)), (processes, processes, 3), "{lines:?}");
            assert_eq!(setup.copier(&place, size).is_some(), lines[0].contains("shmsrc"));
        }
    }

    #[test]
    fn pictures_are_counted_by_their_delimiters() {
        let unit = |kind: u8| [0, 0, 0, 1, kind, 0x10, 0x80];
        assert_eq!(pictures(&[unit(9), unit(0x67), unit(0x65), unit(9), unit(0x41)].concat()), 2);
    }

    #[test]
    fn table_has_medians_and_ratios() {
        let costs = [[vec![90.0, 100.0, 300.0], vec![60.0; 3], vec![20.0; 3]]];
        let text = table(&[(SIZES[2], 3)], &costs, 3, Duration::from_secs(5));
        assert!(text.contains("| 1080 lines, 3 |") && text.contains(" 100.0 |"), "{text}");
        assert!(text.contains(" 60.0 (0.60) |") && text.contains(" 20.0 (0.20) |"), "{text}");
    }
}
