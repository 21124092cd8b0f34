//! Lists the video devices: formats, sizes, intervals, memory, media path.

#[path = "common/mod.rs"]
mod common;

use std::process::ExitCode;

use common::quoted;
use framelease::format::{FourCc, Size};
use framelease::v4l2::{self, Device, Direction, FormatOffer, Intervals, Sizes};

const HELP: &str = "\
Lists the V4L2 devices and what they offer.

usage: list [--json] [--controls] [PATH]…

  --json       one JSON object
  --controls   controls with their ranges and values, too
";

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> common::Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut json, mut controls, mut paths) = (false, false, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("json") => json = true,
            Long("controls") => controls = true,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            Value(path) => paths.push(path),
            other => return Err(other.unexpected().into()),
        }
    }
    let devices = match paths.len() {
        // One that vanishes meanwhile is left out.
        0 => v4l2::devices().iter().filter_map(|info| Device::open(&info.path).ok()).collect(),
        _ => paths.iter().map(Device::open).collect::<Result<Vec<_>, _>>()?,
    };
    if json {
        let all: Vec<String> = devices.iter().map(|d| as_json(d, controls)).collect();
        println!("{{\"devices\":[{}]}}", all.join(","));
        return Ok(());
    }
    if devices.is_empty() {
        println!("no /dev/video* node can be opened");
    }
    for device in &devices {
        as_text(device, controls);
    }
    Ok(())
}

const BOTH: [(Direction, &str); 2] = [(Direction::Capture, "capture"), (Direction::Output, "output")];

/// The formats of a queue; none if the device has no such queue.
fn formats(device: &Device, direction: Direction) -> Vec<FormatOffer> {
    device.formats(direction).unwrap_or_default()
}

/// The sizes for which intervals are shown.
fn shown(sizes: &Sizes) -> Vec<Size> {
    match sizes {
        Sizes::Discrete(all) => all.clone(),
        Sizes::Stepwise { max, .. } => vec![*max],
        _ => Vec::new(),
    }
}

fn intervals(device: &Device, fourcc: FourCc, size: Size) -> Intervals {
    device.intervals(fourcc, size).unwrap_or(Intervals::Unknown)
}

fn as_text(device: &Device, controls: bool) {
    let info = device.info();
    let planar = if info.is_multi_planar() { "multi-planar" } else { "single-planar" };
    println!("{}: {} (driver {}, {}), {planar}", info.path.display(), info.card, info.driver, info.bus);
    println!("  can: {:?}", info.capabilities);
    if let Ok(inputs) = device.inputs() {
        let now = device.input().ok();
        for input in inputs {
            let mark = if Some(input.index) == now { " (selected)" } else { "" };
            println!("  input {}: {}{mark}", input.index, input.name);
        }
    }
    for (direction, name) in BOTH {
        let offers = formats(device, direction);
        if offers.is_empty() {
            continue;
        }
        match device.memory_capabilities(direction) {
            Ok((memory, most)) => {
                let most = most.map_or(String::new(), |n| format!(", at most {n} buffers"));
                println!("  {name}, memory {memory:?}{most}:");
            }
            Err(e) => println!("  {name} ({e}):"),
        }
        for offer in offers {
            let fourcc = offer.fourcc;
            let sizes = device.sizes(fourcc).unwrap_or(Sizes::Unknown);
            println!("    {fourcc} ({}): {sizes}", offer.description);
            if direction == Direction::Capture && !info.is_m2m() {
                for size in shown(&sizes) {
                    println!("      {size}: {}", intervals(device, fourcc, size));
                }
            }
        }
    }
    if let Some(path) = v4l2::media_path(device) {
        println!("  media path: {path}");
    }
    for control in if controls { device.controls().unwrap_or_default() } else { Vec::new() } {
        let value = device.control_value(control.id).map_or("-".into(), |v| v.to_string());
        println!("  control {} {control}: {value}", control.id);
    }
}

fn as_json(device: &Device, controls: bool) -> String {
    let info = device.info();
    let mut queues = Vec::new();
    for (direction, name) in BOTH {
        let offers = formats(device, direction);
        if offers.is_empty() {
            continue;
        }
        let (memory, most) = device.memory_capabilities(direction).unwrap_or_default();
        let memory: Vec<String> = memory.iter_names().map(|(n, _)| quoted(&n.to_lowercase())).collect();
        let most = most.map_or("null".into(), |n| n.to_string());
        let offers: Vec<String> = offers.iter().map(|o| offer_json(device, direction, o)).collect();
        queues.push(format!(
            "{}:{{\"memory\":[{}],\"max_buffers\":{most},\"formats\":[{}]}}",
            quoted(name),
            memory.join(","),
            offers.join(",")
        ));
    }
    let capabilities: Vec<String> = info.capabilities.iter_names().map(|(n, _)| quoted(&n.to_lowercase())).collect();
    let mut more = String::new();
    if controls {
        let all = device.controls().unwrap_or_default();
        let all: Vec<String> = all
            .iter()
            .map(|c| {
                let (name, text) = (quoted(&c.name), quoted(&c.to_string()));
                format!("{{\"id\":{},\"name\":{name},\"takes\":{text}}}", c.id.0)
            })
            .collect();
        more = format!(",\"controls\":[{}]", all.join(","));
    }
    format!(
        "{{\"path\":{},\"driver\":{},\"card\":{},\"bus\":{},\"multi_planar\":{},\"capabilities\":[{}],\
         \"queues\":{{{}}},\"media_path\":{}{more}}}",
        quoted(&info.path.display().to_string()),
        quoted(&info.driver),
        quoted(&info.card),
        quoted(&info.bus),
        info.is_multi_planar(),
        capabilities.join(","),
        queues.join(","),
        v4l2::media_path(device).map_or("null".into(), |p| quoted(&p)),
    )
}

fn offer_json(device: &Device, direction: Direction, offer: &FormatOffer) -> String {
    let sizes = device.sizes(offer.fourcc).unwrap_or(Sizes::Unknown);
    let list: Vec<String> = shown(&sizes)
        .into_iter()
        .map(|size| {
            let fps: Vec<String> = match intervals(device, offer.fourcc, size) {
                Intervals::Discrete(all) if direction == Direction::Capture => {
                    all.iter().map(|i| format!("{:.3}", i.fps())).collect()
                }
                _ => Vec::new(),
            };
            format!("{{\"width\":{},\"height\":{},\"fps\":[{}]}}", size.width, size.height, fps.join(","))
        })
        .collect();
    let kind = match sizes {
        Sizes::Discrete(_) => "discrete",
        Sizes::Stepwise { .. } => "stepwise",
        _ => "unknown",
    };
    format!(
        "{{\"fourcc\":{},\"description\":{},\"compressed\":{},\"sizes\":{},\"list\":[{}]}}",
        quoted(&offer.fourcc.to_string()),
        quoted(&offer.description),
        offer.compressed,
        quoted(kind),
        list.join(",")
    )
}
