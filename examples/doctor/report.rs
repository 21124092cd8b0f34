//! The report as JSON: `docs/boards/reports` has its format.

use super::advice::Advice;
use super::findings::{Answer, Costs, Display, Failure, Findings, G2d, Machine, Node, Queue, Row, Video, NAMES};
use super::json::{list, object, Json};
use super::questions::text_of;

/// Changes when a reader of the older version would misunderstand the report.
pub const VERSION: u64 = 1;

pub fn json(findings: &Findings, advice: &[Advice]) -> Json {
    object([
        ("report", "framelease-doctor".into()),
        ("version", VERSION.into()),
        ("release", env!("CARGO_PKG_VERSION").into()),
        ("machine", machine(&findings.machine)),
        (
            "advice",
            Json::List(
                advice
                    .iter()
                    .map(|a| {
                        object([
                            ("about", a.about.as_str().into()),
                            ("problem", a.problem.as_str().into()),
                            ("action", a.action.as_str().into()),
                        ])
                    })
                    .collect(),
            ),
        ),
        ("video", Json::List(findings.video.iter().map(video).collect())),
        ("memory", memory(findings)),
        ("displays", Json::List(findings.displays.iter().map(display).collect())),
        ("g2d", g2d(&findings.g2d)),
        ("answers", Json::List(findings.answers.iter().map(answer).collect())),
        ("paths", findings.costs.as_ref().map_or(Json::Null, costs)),
    ])
}

fn failed(failure: Option<&Failure>) -> Json {
    failure.map(|f| f.text.as_str()).into()
}

fn machine(m: &Machine) -> Json {
    object([
        ("model", m.model.as_str().into()),
        ("kernel", m.kernel.as_str().into()),
        ("architecture", m.architecture.as_str().into()),
        ("processors", m.processors.into()),
        ("memory_kib", m.memory_kib.into()),
        ("cma_total_kib", m.cma_kib.map(|(total, _)| total).into()),
        ("cma_free_kib", m.cma_kib.map(|(_, free)| free).into()),
        ("root", m.is_root.into()),
        ("static_build", m.is_static.into()),
        ("vsidaemon", m.has_vsidaemon.into()),
    ])
}

fn node(node: &Node) -> [(&'static str, Json); 4] {
    let holders = node.holders.iter().map(|h| format!("{} ({})", h.name, h.pid));
    [
        ("path", node.path.as_str().into()),
        ("group", node.group.as_str().into()),
        ("open_in", list(holders)),
        ("failed", failed(node.failed.as_ref())),
    ]
}

fn video(video: &Video) -> Json {
    let [path, group, holders, failed] = node(&video.node);
    object([
        path,
        group,
        holders,
        failed,
        ("role", video.role.name().into()),
        ("driver", video.driver.as_str().into()),
        ("card", video.card.as_str().into()),
        ("multi_planar", video.multi_planar.into()),
        ("queues", Json::List(video.queues.iter().map(queue).collect())),
        ("media_path", video.media_path.as_ref().into()),
    ])
}

fn queue(queue: &Queue) -> Json {
    let group =
        |(codes, sizes): &(Vec<String>, String)| object([("formats", codes.join(" ").into()), ("sizes", sizes.into())]);
    object([
        ("direction", queue.direction.into()),
        ("memory", queue.memory.as_str().into()),
        ("formats", Json::List(queue.formats.iter().map(group).collect())),
        ("unknown_formats", queue.unknown.into()),
    ])
}

fn memory(findings: &Findings) -> Json {
    let memory = &findings.memory;
    let heap = |(name, failure): &(String, Option<Failure>)| {
        object([("name", name.into()), ("failed", failed(failure.as_ref()))])
    };
    object([
        ("sources", Json::List(memory.heaps.iter().map(heap).collect())),
        ("for_devices", memory.for_devices.as_ref().into()),
        ("failed", failed(memory.no_memory.as_ref())),
    ])
}

fn display(display: &Display) -> Json {
    let [path, group, holders, failed] = node(&display.node);
    object([
        path,
        group,
        holders,
        failed,
        ("driver", display.driver.as_str().into()),
        ("atomic", display.atomic.into()),
        ("imports", display.imports.into()),
        ("connectors", list(&display.connectors)),
        ("planes", list(&display.planes)),
    ])
}

fn g2d(g2d: &G2d) -> Json {
    match g2d {
        G2d::NotAsked => Json::Null,
        G2d::Static => object([("failed", "not asked: static build".into())]),
        G2d::Failed(failure) => object([("failed", failure.text.as_str().into())]),
        G2d::Found(report, _) => report.clone(),
    }
}

fn answer(answer: &Answer) -> Json {
    let (value, text, not_asked) = match &answer.answer {
        Ok((value, text)) => (Some(value), Some(text), None),
        Err(why) => (None, None, Some(why)),
    };
    object([
        ("question", answer.question.as_str().into()),
        ("text", text_of(&answer.question).into()),
        ("device", answer.device.as_str().into()),
        ("value", value.into()),
        ("answer", text.into()),
        ("not_asked", not_asked.into()),
    ])
}

fn costs(costs: &Costs) -> Json {
    object([
        ("width", costs.width.into()),
        ("height", costs.height.into()),
        ("fps", costs.fps.into()),
        ("codec", costs.codec.as_str().into()),
        ("frames", costs.frames.into()),
        ("turns", costs.turns.into()),
        ("no_ddr_counters", costs.no_bus.as_ref().into()),
        ("rows", Json::List(costs.rows.iter().map(|r| row(costs, r)).collect())),
    ])
}

fn row(costs: &Costs, row: &Row) -> Json {
    let mut members: Vec<(String, Json)> = vec![("path".into(), row.path.into()), ("memory".into(), row.memory.into())];
    let mut add = |name: &str, value: Json| members.push((name.into(), value));
    if row.failed.is_none() {
        add("devices", row.devices.as_str().into());
        add("lost", row.lost.into());
        let shown = if costs.no_bus.is_some() { NAMES.len() - 2 } else { NAMES.len() };
        for (name, value) in NAMES.iter().zip(row.counts).take(shown) {
            add(name, ((value * 100.0).round() / 100.0).into());
        }
        for (which, name) in ["process_ratio", "machine_ratio"].into_iter().enumerate() {
            if let Some(ratio) = costs.ratio(row, which) {
                add(name, ratio.into());
            }
        }
    }
    add("failed", failed(row.failed.as_ref()));
    Json::Object(members)
}
