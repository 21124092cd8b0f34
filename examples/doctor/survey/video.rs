//! V4L2 devices with their formats and media paths.

use framelease::v4l2::{media_path, Device, Direction, FormatOffer};

use super::super::child::failure;
use super::super::findings::{Node, Queue, Role, Video};
use super::super::offers;
use super::nodes::nodes;

pub fn devices() -> Vec<Video> {
    nodes("/dev", "video").into_iter().map(device).collect()
}

fn device(mut node: Node) -> Video {
    let device = match Device::open(&node.path) {
        Ok(device) => device,
        Err(e) => {
            node.failed = Some(failure(&e));
            return Video { node, ..Video::default() };
        }
    };
    let info = device.info();
    let both = [Direction::Capture, Direction::Output].map(|d| (d, device.formats(d).unwrap_or_default()));
    let queues = both.iter().filter(|(_, offers)| !offers.is_empty()).map(|(d, offers)| queue(&device, *d, offers));
    Video {
        driver: info.driver.clone(),
        card: info.card.clone(),
        role: role(&device, &both[0].1, &both[1].1),
        multi_planar: info.is_multi_planar(),
        queues: queues.collect(),
        media_path: media_path(&device),
        node,
    }
}

fn role(device: &Device, capture: &[FormatOffer], output: &[FormatOffer]) -> Role {
    let info = device.info();
    let is_coded = |offers: &[FormatOffer]| offers.iter().any(|offer| offer.compressed);
    match info.is_m2m() {
        true if is_coded(capture) => Role::Encoder,
        true if is_coded(output) => Role::Decoder,
        true => Role::Converter,
        false if info.is_capture() => Role::Camera,
        false if info.is_output() => Role::Output,
        false => Role::Other,
    }
}

fn queue(device: &Device, direction: Direction, offers: &[FormatOffer]) -> Queue {
    let memory = match device.memory_capabilities(direction) {
        Ok(Some(memory)) => memory.to_string().to_lowercase(),
        Ok(None) => "not reported".into(),
        Err(e) => e.to_string(),
    };
    let groups = offers::grouped(device, direction, offers);
    Queue {
        direction: if direction == Direction::Capture { "capture" } else { "output" },
        memory,
        unknown: groups.iter().map(|group| group.unknown as u64).sum(),
        formats: groups
            .into_iter()
            .filter(|group| !group.known.is_empty())
            .map(|group| (group.known.iter().map(ToString::to_string).collect(), group.sizes))
            .collect(),
    }
}
