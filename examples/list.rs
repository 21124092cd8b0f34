//! Lists the video devices: formats, sizes, intervals, memory, media graphs.

#[path = "common/mod.rs"]
mod common;
#[path = "common/offers.rs"]
mod offers;

use std::process::ExitCode;

use common::quoted;
use framelease::capture::{Camera, CameraBuilder};
use framelease::dmabuf::Allocator;
use framelease::v4l2::{self, Device, DeviceInfo, Direction, FormatOffer, Intervals, MediaGraph, Sizes};
use offers::{intervals, is_timed, shown};

const HELP: &str = "\
Lists V4L2 devices, their formats and media graphs, and where shared memory comes from.

Usage: list [OPTIONS] [PATH]…

  --intervals   every frame interval of every size, and the description of each format
  --controls    controls with their ranges and values, also those of sensors
  --media       media graphs, and what opening each camera would set along them
  --fourcc A,B  with --media: the formats to set, best first
  --size WxH    with --media: the size to set
  --json        print one JSON object on standard output
  --help        print this text
";

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> common::Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut json, mut controls, mut all_intervals, mut media) = (false, false, false, false);
    let (mut wish, mut paths) = (Camera::builder(), Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("json") => json = true,
            Long("controls") => controls = true,
            Long("intervals") => all_intervals = true,
            Long("media") => media = true,
            Long("fourcc") => wish = wish.formats(common::formats(&mut parser)?),
            Long("size") => wish = wish.size(common::value(&mut parser, "size")?),
            Short('h') | Long("help") => {
                print!("{HELP}{}", common::DEVICES);
                return Ok(());
            }
            Value(path) => paths.push(path.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let devices = match paths.len() {
        // One that vanishes meanwhile is left out.
        0 => v4l2::devices().iter().filter_map(|info| Device::open(&info.path).ok()).collect(),
        _ => paths.iter().map(|name| common::device(name)).collect::<Result<Vec<_>, _>>()?,
    };
    if json && media {
        return Err("--media has no JSON".into());
    }
    if json {
        let all: Vec<String> = devices.iter().map(|d| as_json(d, controls)).collect();
        let heaps: Vec<String> = Allocator::heaps().iter().map(|h| quoted(&h.to_string())).collect();
        let (source, heaps) = (quoted(&Allocator::for_cpu_source().to_string()), heaps.join(","));
        println!("{{\"devices\":[{}],\"cpu_source\":{source},\"dma_heaps\":[{heaps}]}}", all.join(","));
        return Ok(());
    }
    if devices.is_empty() {
        println!("no /dev/video* node can be opened");
    }
    if media {
        graphs(&devices, &wish);
        return Ok(());
    }
    for device in &devices {
        as_text(device, controls, all_intervals);
    }
    let heaps: Vec<String> = Allocator::heaps().iter().map(Allocator::to_string).collect();
    let heaps = if heaps.is_empty() { "no dma-heap".into() } else { heaps.join(", ") };
    println!("shared memory without a device: {}; {heaps}", Allocator::for_cpu_source());
    Ok(())
}

/// The media graph of each media device, and what opening its cameras would set.
fn graphs(devices: &[Device], wish: &CameraBuilder) {
    let mut seen = Vec::new();
    for device in devices {
        let Some(graph) = MediaGraph::of(device) else { continue };
        if !seen.contains(&graph.path) {
            print!("{graph}");
            seen.push(graph.path);
        }
        if !device.info().is_capture() || !device.info().capabilities().contains(&"IO_MC") {
            continue;
        }
        let name = device.info().path.display();
        match wish.clone().device(device.clone()).pipeline() {
            Ok(pipeline) if pipeline.commands.is_empty() => {
                println!("{name}: gives {} {} of '{}' as it is", pipeline.fourcc, pipeline.size, pipeline.sensor);
            }
            Ok(pipeline) => {
                println!("{name}: to get {} {} of '{}':", pipeline.fourcc, pipeline.size, pipeline.sensor);
                print!("{pipeline}");
            }
            Err(e) => println!("{name}: {e}"),
        }
    }
    if seen.is_empty() {
        println!("no device has a media graph");
    }
}

const BOTH: [(Direction, &str); 2] = [(Direction::Capture, "capture"), (Direction::Output, "output")];

/// The formats of a queue; none if the device has no such queue.
fn formats(device: &Device, direction: Direction) -> Vec<FormatOffer> {
    device.formats(direction).unwrap_or_default()
}

fn as_text(device: &Device, controls: bool, all_intervals: bool) {
    let info = device.info();
    let planar = if info.is_multi_planar() { "multi-planar" } else { "single-planar" };
    println!("{}: {} (driver {}, {}), {planar}", info.path.display(), info.card, info.driver, info.bus);
    if let Some(serial) = &info.serial {
        println!("  serial: {serial}");
    }
    links(info).iter().for_each(|link| println!("  link: {link}"));
    println!("  can: {}", names(info.capabilities().into_iter()));
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
            Ok(None) => println!("  {name} memory: not told"),
            Ok(Some(memory)) => {
                let most = memory.max_buffers.map_or(String::new(), |n| format!("; at most {n} buffers"));
                println!("  {name} memory: {}{most}", memory.to_string().to_lowercase());
            }
            Err(e) => println!("  {name} memory: {e}"),
        }
        if all_intervals {
            offers.iter().for_each(|offer| every_interval(device, offer, is_timed(device, direction)));
        } else {
            grouped(device, direction, name, &offers);
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

/// The links that udev made for a node.
fn links(info: &DeviceInfo) -> Vec<String> {
    let folders = ["/dev/v4l/by-id", "/dev/v4l/by-path"].into_iter().flat_map(std::fs::read_dir);
    let links = folders.flatten().flatten().map(|entry| entry.path());
    let own = links.filter(|link| std::fs::canonicalize(link).is_ok_and(|node| node == info.path));
    own.map(|link| link.display().to_string()).collect()
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.map(str::to_lowercase).collect::<Vec<_>>().join(", ")
}

/// Formats that come in the same sizes and rates share one line; those that this library cannot lay out are counted.
fn grouped(device: &Device, direction: Direction, name: &str, offers: &[FormatOffer]) {
    for group in offers::grouped(device, direction, offers) {
        let codes: Vec<String> = group.known.iter().map(|code| code.to_string()).collect();
        let what = match (codes.join(" "), group.unknown) {
            (known, 0) => known,
            (known, n) if known.is_empty() => format!("{n} formats that this library does not lay out"),
            (known, n) => format!("{known} and {n} that this library does not lay out"),
        };
        println!("  {name} {what}: {}", group.sizes);
    }
}

fn every_interval(device: &Device, offer: &FormatOffer, timed: bool) {
    let sizes = device.sizes(offer.fourcc).unwrap_or(Sizes::Unknown);
    println!("    {} ({}): {sizes}", offer.fourcc, offer.description);
    if timed {
        for size in shown(&sizes) {
            println!("      {size}: {}", intervals(device, offer.fourcc, size));
        }
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
        let memory = device.memory_capabilities(direction).unwrap_or_default();
        let most = memory.and_then(|m| m.max_buffers).map_or("null".into(), |n| n.to_string());
        let memory = memory.map_or(String::new(), |m| m.to_string().to_lowercase());
        let memory: Vec<String> = memory.split(", ").filter(|name| !name.is_empty()).map(quoted).collect();
        let offers: Vec<String> = offers.iter().map(|o| offer_json(device, direction, o)).collect();
        queues.push(format!(
            "{}:{{\"memory\":[{}],\"max_buffers\":{most},\"formats\":[{}]}}",
            quoted(name),
            memory.join(","),
            offers.join(",")
        ));
    }
    let capabilities: Vec<String> = info.capabilities().iter().map(|n| quoted(&n.to_lowercase())).collect();
    let mut more = String::new();
    if controls {
        let all = device.controls().unwrap_or_default();
        let all: Vec<String> = all
            .iter()
            .map(|c| {
                let (name, text) = (quoted(&c.name), quoted(&c.to_string()));
                format!("{{\"id\":{},\"name\":{name},\"takes\":{text}}}", u32::from(c.id))
            })
            .collect();
        more = format!(",\"controls\":[{}]", all.join(","));
    }
    format!(
        "{{\"path\":{},\"driver\":{},\"card\":{},\"bus\":{},\"serial\":{},\"links\":[{}],\"multi_planar\":{},\"capabilities\":[{}],\
         \"queues\":{{{}}},\"media_path\":{}{more}}}",
        quoted(&info.path.display().to_string()),
        quoted(&info.driver),
        quoted(&info.card),
        quoted(&info.bus),
        info.serial.as_ref().map_or("null".into(), |serial| quoted(serial)),
        links(info).iter().map(|link| quoted(link)).collect::<Vec<_>>().join(","),
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
