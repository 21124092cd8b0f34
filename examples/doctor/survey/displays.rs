//! DRM devices with their connectors and planes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use drm::control::Device as _;
use drm::ClientCapability;
use framelease::drm::{Connection, Connector, Device};
use framelease::format::FourCc;

use super::super::child::failure;
use super::super::findings::{Display, Node};
use super::nodes::nodes;

pub fn devices() -> Vec<Display> {
    nodes("/dev/dri", "card").into_iter().map(device).collect()
}

fn device(mut node: Node) -> Display {
    let device = match Device::open(&node.path) {
        Ok(device) => device,
        Err(e) => {
            node.failed = Some(failure(&e));
            return Display { node, ..Display::default() };
        }
    };
    let info = device.info();
    // A device without displays, such as a GPU, has neither.
    let connectors = device.connectors().unwrap_or_default();
    Display {
        driver: info.driver.clone(),
        atomic: info.atomic,
        imports: info.imports,
        connectors: connectors.iter().map(connector).collect(),
        planes: planes(&node.path).unwrap_or_default(),
        node,
    }
}

fn connector(connector: &Connector) -> String {
    let name = &connector.name;
    let mode = connector.modes.first().map_or(String::new(), |mode| format!(", {mode}"));
    match connector.connection {
        _ if connector.writeback => format!("{name}: writeback"),
        Connection::Connected => format!("{name}: connected{mode}"),
        Connection::Disconnected => format!("{name}: not connected"),
        _ => format!("{name}: unknown{mode}"),
    }
}

struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// The number and formats of each plane. The library keeps its own list to itself.
fn planes(path: &str) -> std::io::Result<Vec<String>> {
    use drm::Device as _;
    let card = Card(File::options().read(true).write(true).open(path)?);
    card.set_client_capability(ClientCapability::UniversalPlanes, true)?;
    let mut planes = Vec::new();
    for handle in card.plane_handles()? {
        let plane = card.get_plane(handle)?;
        let codes: Vec<String> = plane.formats().iter().map(|&code| FourCc::from(code).to_string()).collect();
        planes.push(format!("{}: {}", u32::from(handle), codes.join(" ")));
    }
    Ok(planes)
}
