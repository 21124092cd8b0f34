//! The questions that docs/boards.md leaves open and that a program can answer.

mod cameras;
mod converters;
mod displays;
mod encoders;
mod g2d;
mod paint;
mod sps;

use std::io::Write;
use std::time::Duration;

use super::child;
use super::common::{Progress, Result};
use super::findings::{Answer, Failure, Findings, G2d, Reads, Role};
use super::json::{object, Json};
use super::options::Options;
use super::survey::g2d as library;

/// A word for programs, and a sentence.
type Reply = (String, String);

fn reply(value: &str, text: impl Into<String>) -> Result<Reply> {
    Ok((value.into(), text.into()))
}

/// Why a question cannot be asked, if not by an error of a call.
fn unasked<T>(why: &str) -> Result<T> {
    Err(why.into())
}

/// The devices that a question is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Camera,
    Encoder,
    /// Mem-to-mem devices, and libg2d.
    Converter,
    Display,
    /// libg2d alone.
    G2d,
}

#[derive(Clone, Copy)]
enum How {
    /// A device is started, in a process of its own.
    Start(fn(&Options, &str) -> Result<Reply>),
    /// libg2d's report has the answer.
    Report(fn(&Json) -> Result<Reply>),
}

struct Question {
    id: &'static str,
    of: Of,
    text: &'static str,
    how: How,
}

const fn started(id: &'static str, of: Of, text: &'static str, ask: fn(&Options, &str) -> Result<Reply>) -> Question {
    Question { id, of, text, how: How::Start(ask) }
}

const fn reported(id: &'static str, text: &'static str, ask: fn(&Json) -> Result<Reply>) -> Question {
    Question { id, of: Of::G2d, text, how: How::Report(ask) }
}

/// The word of the answer has both speeds.
const READS: &str = "camera-reads";

const QUESTIONS: [Question; 33] = [
    started("camera-cache", Of::Camera, "does the camera accept the hint for cached buffers", cameras::cache),
    started(READS, Of::Camera, "how fast does the CPU read the camera's buffers", cameras::reads),
    started("camera-import", Of::Camera, "does the camera import buffers", cameras::import),
    started("camera-colors", Of::Camera, "which colors does the camera report", cameras::colors),
    started("encoder-drain", Of::Encoder, "does a drain end", encoders::drain),
    started("encoder-resume", Of::Encoder, "does START continue the stream after a drain", encoders::resume),
    started("encoder-key", Of::Encoder, "FORCE_KEY_FRAME: the next queued frame, or the next encoded", encoders::key),
    started("encoder-buffer", Of::Encoder, "does a bitstream buffer of the default size hold noise", encoders::buffer),
    started("encoder-cache", Of::Encoder, "are bitstream buffers cached", encoders::cache),
    started("encoder-range", Of::Encoder, "the range that the headers name", encoders::range),
    started("encoder-offset", Of::Encoder, "does the encoder read data_offset", encoders::offset),
    started("converter-rotate", Of::Converter, "the direction of a rotation by 90", converters::rotate),
    started("converter-flip", Of::Converter, "flip and quarter turn together", converters::flip),
    started("converter-scale", Of::Converter, "by which factors the device scales", converters::scale),
    started("converter-blend", Of::Converter, "half-transparent pixels over others", converters::blend),
    started("converter-outside", Of::Converter, "pixels outside of the rectangle that is drawn", converters::outside),
    started("converter-matrix", Of::Converter, "which YUV matrix the device uses", converters::matrix),
    started("converter-range", Of::Converter, "which YUV range the device uses", converters::range),
    started("converter-alpha", Of::Converter, "alpha of a target whose source has none", converters::alpha),
    started("converter-rgb565", Of::Converter, "the bit order of RGB565", converters::rgb565),
    started("display-nv12", Of::Display, "does a plane take NV12", displays::nv12),
    started("display-scaling", Of::Display, "does a plane scale", displays::scaling),
    started("display-memory", Of::Display, "does the display show memory of a heap", displays::memory),
    started("display-offset", Of::Display, "does the display take a picture at an offset", displays::offset),
    started("display-colors", Of::Display, "which YUV matrices and ranges a plane takes", displays::colors),
    reported("g2d-probes", "do the probes of the struct layout agree", g2d::probes),
    reported("g2d-symbols", "which symbols of the headers are missing", g2d::symbols),
    reported("g2d-dmabuf", "what g2d_blit_dmabuf returns", g2d::blit_dmabuf),
    reported("g2d-from-fd", "is the address of g2d_buf_from_fd the physical one", g2d::from_fd),
    reported("g2d-nv12", "NV12 as a target: query and trial", g2d::nv12),
    reported("g2d-matrices", "which caps the library takes", g2d::matrices),
    reported("g2d-formats", "formats for which the rules and the trial differ", g2d::formats),
    reported("g2d-fence", "does g2d_create_fence_fd work", g2d::fence),
];

/// The question's text.
pub fn text_of(id: &str) -> &'static str {
    QUESTIONS.iter().find(|q| q.id == id).map_or("", |q| q.text)
}

/// Whether a question has this name, or begins with it.
pub fn is_known(name: &str) -> bool {
    QUESTIONS.iter().any(|q| is_named(q, name))
}

fn is_named(question: &Question, name: &str) -> bool {
    question.id.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// libg2d in place of a device node.
const LIBRARY: &str = "libg2d";
const LIMIT: Duration = Duration::from_secs(20);

/// Asks every question of every device.
pub fn ask(o: &Options, findings: &mut Findings, progress: &mut Progress) {
    let mut answers = Vec::new();
    let is_wanted = |q: &&Question| o.questions.is_empty() || o.questions.iter().any(|name| is_named(q, name));
    for question in QUESTIONS.iter().filter(is_wanted) {
        progress.show(|| format!("question: {}", question.text));
        let devices = devices(o, findings, question.of);
        match devices {
            Err(why) => answers.push(Answer { question: question.id.into(), device: String::new(), answer: Err(why) }),
            Ok(devices) => {
                for (node, name) in devices {
                    let answer = match (question.how, &findings.g2d) {
                        (How::Report(ask), G2d::Found(report, _)) => ask(report).map_err(|e| e.to_string()),
                        _ => asked(o, question.id, &node).map_err(|failure| failure.text),
                    };
                    answers.push(Answer { question: question.id.into(), device: name, answer });
                }
            }
        }
    }
    findings.reads = answers.iter().find(|a| a.question == READS).and_then(speeds);
    findings.answers = answers;
}

fn speeds(answer: &Answer) -> Option<Reads> {
    let (camera, cached) = answer.answer.as_ref().ok()?.0.split_once(" to ")?;
    Some(Reads {
        device: answer.device.clone(),
        camera_mib_s: camera.parse().ok()?,
        cached_mib_s: cached.parse().ok()?,
    })
}

/// Nodes and names of the devices to ask, or why there are none.
fn devices(o: &Options, findings: &Findings, of: Of) -> std::result::Result<Vec<(String, String)>, String> {
    let video = |role: Role| {
        let found = findings.video.iter().filter(move |v| v.role == role);
        found.map(|v| (v.node.path.clone(), format!("{} ({})", v.node.path, v.driver)))
    };
    let library = match &findings.g2d {
        G2d::Found(..) => Ok((LIBRARY.to_owned(), LIBRARY.to_owned())),
        G2d::Static => Err("static build".to_owned()),
        G2d::Failed(failure) => Err(format!("no libg2d: {}", failure.text)),
        G2d::NotAsked => Err("not a part of this run".to_owned()),
    };
    let (found, missing): (Vec<_>, String) = match of {
        Of::Camera => {
            let chosen = |(node, _): &(String, String)| o.camera.as_ref().map_or(true, |camera| camera == node);
            // One is enough: a receiver has several nodes, of which few have a sensor.
            (video(Role::Camera).filter(chosen).take(1).collect(), "no camera".into())
        }
        Of::Encoder => (video(Role::Encoder).collect(), "no encoder".into()),
        Of::Converter => (video(Role::Converter).chain(library.ok()).collect(), "no converter but the CPU".into()),
        Of::G2d => return library.map(|library| vec![library]),
        Of::Display => {
            let has_screen =
                findings.displays.iter().filter(|d| d.connectors.iter().any(|c| c.contains(": connected")));
            let found = has_screen.map(|d| (d.node.path.clone(), format!("{} ({})", d.node.path, d.driver)));
            (found.collect(), "no connected display".into())
        }
    };
    match found.is_empty() {
        true => Err(missing),
        false => Ok(found),
    }
}

/// Asks one device in a process of its own.
fn asked(o: &Options, id: &str, node: &str) -> std::result::Result<Reply, Failure> {
    let words = ["--probe", id, "--node", node, "--size", &o.size.to_string()].map(str::to_owned);
    let text = child::run(&words, LIMIT)?;
    let json = Json::parse(&text).map_err(|e| Failure::new("", e))?;
    let member = |name: &str| json.get(name).text().unwrap_or_default().to_owned();
    Ok((member("value"), member("text")))
}

/// The other side of [`asked`].
pub fn probe(o: &Options, id: &str) -> Result<()> {
    if id == library::PROBE {
        return library::probe();
    }
    let question = QUESTIONS.iter().find(|q| q.id == id).ok_or_else(|| format!("--probe {id}: unknown"))?;
    let How::Start(ask) = question.how else { return unasked("libg2d's report has the answer") };
    let mut out = library::quiet_output()?;
    let (value, text) = ask(o, &o.node)?;
    Ok(writeln!(out, "{}", object([("value", value.into()), ("text", text.into())]))?)
}
