//! Says what is slow or wrong and what to do: a function of the findings alone.

use super::findings::{Costs, Display, Failure, Findings, G2d, Node, Role};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// A device or a part of the machine.
    pub about: String,
    pub problem: String,
    pub action: String,
}

fn advise(about: &str, problem: impl Into<String>, action: impl Into<String>) -> Advice {
    Advice { about: about.into(), problem: problem.into(), action: action.into() }
}

/// The most important first.
pub fn advice(findings: &Findings) -> Vec<Advice> {
    let mut all = Vec::new();
    permissions(findings, &mut all);
    daemon(findings, &mut all);
    missing(findings, &mut all);
    if let Some(costs) = &findings.costs {
        paths(findings, costs, &mut all);
        contiguous_memory(findings, costs, &mut all);
    }
    memory(findings, &mut all);
    reads(findings, &mut all);
    converters(findings, &mut all);
    all
}

fn nodes(findings: &Findings) -> impl Iterator<Item = &Node> {
    findings.video.iter().map(|v| &v.node).chain(findings.displays.iter().map(|d| &d.node))
}

fn is_denied(failure: &Failure) -> bool {
    failure.kind == "PermissionDenied"
}

fn permissions(findings: &Findings, all: &mut Vec<Advice>) {
    let denied = |node: &&Node| node.failed.as_ref().is_some_and(is_denied);
    let mut groups: Vec<&str> = nodes(findings).filter(denied).map(|node| node.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let paths: Vec<&str> =
            nodes(findings).filter(denied).filter(|n| n.group == group).map(|n| n.path.as_str()).collect();
        let action = match group {
            // Adding a user to it would be the wrong way.
            "root" | "0" | "" => {
                "Run this program as root, or let a udev rule give the nodes to the group video.".into()
            }
            _ => format!("Add the user to the group (usermod -aG {group} USER) and log in again, or run this as root."),
        };
        all.push(advise(&paths.join(", "), format!("no permission; the group {group} owns it"), action));
    }
    for (heap, failure) in &findings.memory.heaps {
        if failure.as_ref().is_some_and(is_denied) {
            let action = "Run this as root, or let a udev rule give it to the group video: \
                          SUBSYSTEM==\"dma_heap\", GROUP=\"video\", MODE=\"0660\".";
            all.push(advise(heap, "no permission", action));
        }
    }
}

fn daemon(findings: &Findings, all: &mut Vec<Advice>) {
    let is_vsi = findings.video.iter().any(|v| v.driver.starts_with("vsi_v4l2") || v.card.starts_with("vsi_v4l2"));
    let lost = findings.video.iter().find(|v| v.node.failed.as_ref().is_some_and(|f| f.text.contains("ENODEV")));
    let is_mx8m = findings.machine.model.to_lowercase().replace('.', "").contains("imx8m");
    if findings.machine.has_vsidaemon || !(is_vsi || (is_mx8m && lost.is_some())) {
        return;
    }
    let about = lost.map_or("the i.MX8M's codecs", |v| &v.node.path);
    all.push(advise(
        about,
        "vsidaemon does not run, and the codec needs it",
        "Start it: systemctl start vsidaemon, or run vsidaemon.",
    ));
}

fn missing(findings: &Findings, all: &mut Vec<Advice>) {
    // A node that cannot be opened may be anything.
    if findings.video.iter().any(|v| v.node.failed.is_some()) {
        return;
    }
    let has = |role| findings.video.iter().any(|v| v.role == role);
    if !has(Role::Camera) {
        let action =
            "Look into `dmesg` for the driver of the sensor or receiver. Is it in the device tree, is the module \
                      loaded?";
        all.push(advise("cameras", "no camera was found", action));
    } else if !has(Role::Encoder) {
        let action = "Load the codec's module, if this board has one. On the i.MX8M, vsidaemon must run, too.";
        all.push(advise("encoders", "no encoder was found", action));
    }
}

/// Whether a text names a device node, and not one whose number goes on.
fn names(text: &str, path: &str) -> bool {
    text.split(path).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Frames that may be lost while everything starts.
const LOST: f64 = 0.1;

fn paths(findings: &Findings, costs: &Costs, all: &mut Vec<Advice>) {
    let mut add = |advice: Advice| {
        if !all.iter().any(|other| other.about == advice.about && other.action == advice.action) {
            all.push(advice);
        }
    };
    for row in &costs.rows {
        let path = format!("path {}", row.path);
        if row.failed.is_none() && row.lost as f64 > LOST * (costs.frames * costs.turns) as f64 {
            let problem =
                format!("the camera lost {} frames while {} by {} was measured", row.lost, row.path, row.memory);
            add(advise("lost frames", problem, "If the CPU is not busy, a device is too slow for this size and rate."));
        }
        let Some(failure) = &row.failed else { continue };
        let node = nodes(findings).find(|node| names(&failure.text, &node.path));
        let about = node.map_or(path.as_str(), |node| &node.path);
        let is_screen = |d: &Display| d.node.failed.is_none() && names(&failure.text, &d.node.path);
        // Without permission to set a mode, another process is the DRM master.
        if failure.kind == "Busy"
            || failure.text.contains("EBUSY")
            || (is_denied(failure) && findings.displays.iter().any(is_screen))
        {
            add(busy(findings, about, node));
        } else if failure.kind == "Pipeline" {
            let action =
                "Run the media-ctl lines of this error, or the program of the BSP that sets up the media graph.";
            add(advise(about, failure.text.clone(), action));
        } else if failure.kind == "Timeout" {
            let action = "Does the sensor send frames? Look into `dmesg`, and try another size or rate.";
            add(advise(about, format!("path {} by {}: {}", row.path, row.memory, failure.text), action));
        } else if failure.kind == "Signal" {
            let action = "This is a bug of framelease, of libg2d or of a driver. Please report it with this file.";
            add(advise(about, format!("path {} by {}: {}", row.path, row.memory, failure.text), action));
        }
    }
}

fn busy(findings: &Findings, about: &str, node: Option<&Node>) -> Advice {
    let holders: Vec<String> =
        node.map_or(&[][..], |n| &n.holders).iter().map(|h| format!("{} (pid {})", h.name, h.pid)).collect();
    match holders.is_empty() {
        false => {
            let problem = format!("in use by {}", holders.join(", "));
            advise(about, problem, "End that process. Or let it share its frames: share::Publisher, docs/leases.md.")
        }
        true if findings.machine.is_root => advise(
            about,
            "in use, by a process that cannot be seen",
            "It may be in another container. Ask its host: fuser -v.",
        ),
        true => advise(about, "in use by another process", "Run this as root to see which process, or: fuser -v."),
    }
}

/// The camera's buffers, and those of a pool.
const BUFFERS: u64 = 24;

fn contiguous_memory(findings: &Findings, costs: &Costs, all: &mut Vec<Advice>) {
    let need = BUFFERS * costs.width * costs.height * 3 / 2 / 1024;
    let exhausted = |f: &Failure| f.kind == "Exhausted" || f.text.contains("ENOMEM");
    let failed = costs.rows.iter().filter_map(|row| row.failed.as_ref()).find(|failure| exhausted(failure));
    let (total, free) = findings.machine.cma_kib.unwrap_or_default();
    if total == 0 {
        all.extend(failed.map(|f| advise("memory", f.text.clone(), "Use a smaller size or fewer buffers.")));
    } else if free < need || failed.is_some() {
        let mib = |kib: u64| kib.div_ceil(1024);
        let problem = format!(
            "{} MiB of {} MiB are free; {BUFFERS} buffers of NV12 {}x{} need {} MiB",
            mib(free),
            mib(total),
            costs.width,
            costs.height,
            mib(need)
        );
        let action = "Use a smaller size or fewer buffers, or reserve more: cma=256M on the kernel's command line.";
        all.push(advise("contiguous memory (CMA)", problem, action));
    }
}

fn memory(findings: &Findings, all: &mut Vec<Advice>) {
    let memory = &findings.memory;
    if let Some(failure) = &memory.no_memory {
        let action = "Enable CONFIG_DMABUF_HEAPS_SYSTEM and CONFIG_DMABUF_HEAPS_CMA in the kernel, or load udmabuf.";
        all.push(advise("memory to share", failure.text.clone(), action));
    } else if !memory.heaps.iter().any(|(name, _)| name.contains("dma_heap")) {
        let problem = "/dev/dma_heap does not exist, so only a device's own buffers are contiguous";
        all.push(advise("memory to share", problem, "Enable CONFIG_DMABUF_HEAPS_CMA in the kernel."));
    }
}

/// Slower by this factor: not cached.
const SLOW: f64 = 3.0;

fn reads(findings: &Findings, all: &mut Vec<Advice>) {
    let Some(reads) = &findings.reads else { return };
    let factor = reads.cached_mib_s / reads.camera_mib_s;
    if factor >= SLOW {
        let problem = format!(
            "the CPU reads its buffers at {:.0} MiB/s, {factor:.0} times slower than cached memory",
            reads.camera_mib_s
        );
        let action = "Request cached buffers (CameraBuilder::cache), or let the camera import from a cached heap \
                      (CameraBuilder::allocator): docs/memory.md. Without reads by the CPU, this is fine.";
        all.push(advise(&reads.device, problem, action));
    }
}

fn converters(findings: &Findings, all: &mut Vec<Advice>) {
    let has_m2m = findings.video.iter().any(|v| v.role == Role::Converter);
    let model = findings.machine.model.to_lowercase();
    if let G2d::Failed(failure) = &findings.g2d {
        let is_missing = failure.kind == "NotFound";
        if is_missing && (model.contains("imx") || model.contains("i.mx")) {
            let action =
                "Install imx-gpu-g2d, imx-dpu-g2d or imx-g2d-pxp of the BSP. The 8M Nano and 8M Quad do not have \
                          a 2D engine.";
            all.push(advise("libg2d", "it was not found", action));
        } else if !is_missing {
            let action = "FRAMELEASE_G2D_ABI=legacy or modern overrides the probes. Please report it with this file.";
            all.push(advise("libg2d", failure.text.clone(), action));
        }
    }
    let has_g2d = matches!(findings.g2d, G2d::Found(..));
    let is_known = !matches!(findings.g2d, G2d::NotAsked | G2d::Static);
    if is_known && !has_m2m && !has_g2d {
        let action =
            "Ask the camera for the size and format that the encoder or display takes: negotiate::Negotiation does.";
        all.push(advise("converters", "only the CPU converts pictures here", action));
    }
}
