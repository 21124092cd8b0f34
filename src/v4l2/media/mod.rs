//! The media graph that feeds a video node: reading it, setting it up for a wish, and explaining it.
//!
//! `graph` holds the topology, `read` reads it from the kernel. `plan` finds the `steps` to a wish, and `diagnosis`
//! explains a pipeline that does not start. Both ask the `drivers`: those of the kernel are in `subdevices`.

mod branches;
mod bus_format;
mod diagnosis;
mod drivers;
mod graph;
#[cfg(test)]
mod model;
mod plan;
mod read;
mod sensor;
mod steps;
mod subdevices;
mod value;

use std::fmt;

pub use self::bus_format::BusFormat;
pub(super) use self::diagnosis::Diagnosis;
use self::graph::Graph;
use self::plan::Plan;
pub(crate) use self::plan::Wish;
use self::steps::{apply, undone, Saved, Step};
use self::subdevices::Subdevices;
pub use self::value::{MediaEntity, MediaGraph, MediaLink, MediaPad};
use super::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, FrameInterval, Size};

/// What a media pipeline gives, and the commands that set it up. Displays as the commands, one a line.
///
/// [`CameraBuilder::pipeline`](crate::capture::CameraBuilder::pipeline) returns it without changing anything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pipeline {
    /// The name of the sensor, such as `ov5640 1-003c`.
    pub sensor: String,
    /// The format of the video node.
    pub fourcc: FourCc,
    /// The size of the pictures.
    pub size: Size,
    /// The `media-ctl` and `v4l2-ctl` commands that do what
    /// [`CameraBuilder::open`](crate::capture::CameraBuilder::open) does. Empty if the pipeline is set up already.
    pub commands: Vec<String>,
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.commands.iter().try_for_each(|command| writeln!(f, "{command}"))
    }
}

/// Returns the path through the media graph to a video node, as one line of text. Returns `None` if the node does not
/// belong to a media device, or if no link leads to the node. Ioctls: `MEDIA_IOC_G_TOPOLOGY`, `VIDIOC_SUBDEV_G_FMT`,
/// `VIDIOC_SUBDEV_G_ROUTING`.
#[doc(alias = "MEDIA_IOC_G_TOPOLOGY")]
#[doc(alias = "VIDIOC_SUBDEV_G_FMT")]
#[doc(alias = "VIDIOC_SUBDEV_G_ROUTING")]
pub fn media_path(device: &Device) -> Option<String> {
    let (node, graph) = read(device)?;
    diagnosis::path_text(&graph, node, &Subdevices::new(&graph, device, node))
}

/// Explains why a pipeline does not start, and which command would correct it.
pub(super) fn diagnose(device: &Device) -> Option<Diagnosis> {
    let (node, graph) = read(device)?;
    diagnosis::diagnosis(&graph, node, &Subdevices::new(&graph, device, node))
}

/// A pipeline that was set up for a node.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The format and size to set at the node.
    pub(crate) fourcc: FourCc,
    pub(crate) size: Size,
    undo: Vec<Saved>,
}

impl Prepared {
    /// Makes the pipeline as it was before.
    pub(crate) fn undo(&self, device: &Device) {
        if let (false, Some((node, graph))) = (self.undo.is_empty(), read(device)) {
            let steps: Vec<Step<'_>> = self.undo.iter().filter_map(|saved| saved.step(&graph)).collect();
            undone(&steps, &Subdevices::new(&graph, device, node));
        }
    }
}

/// Sets the pipeline of a node up, or leaves it as it was. `None` if the graph does not say how: the pipeline may work
/// as it is.
///
/// # Errors
/// `Busy` if the pipeline is in use, `Mismatch` if it cannot give the exact size, `Pipeline` for a sensor that is not
/// there, `Pipeline` or the driver's error if a step fails. The text has the command of the step.
pub(crate) fn prepare(device: &Device, wish: &Wish<'_>) -> Result<Option<Prepared>> {
    let Some((node, graph)) = read(device) else { return Ok(None) };
    let drivers = Subdevices::new(&graph, device, node);
    let plan = match plan::plan(&graph, node, wish, &drivers) {
        Ok(plan) => plan,
        Err(text) if wish.sensor.is_some() => return Err(refused(device, text)),
        Err(_) => return Ok(None),
    };
    if let Some(size) = wish.size.filter(|size| wish.exact_size && *size != plan.size) {
        let (sensor, nearest) = (&plan.sensor.name, plan.size);
        let text = format!("asked {size}; the nearest that '{sensor}' gives is {} {nearest}", plan.fourcc);
        return Err(Error::new(ErrorKind::Mismatch, "pipeline", text).on(device));
    }
    // The camera sets the format of its node itself.
    let failure = match apply(&graph, &plan.steps, &drivers) {
        Ok(undo) => {
            let undo = undo.iter().map(Saved::of).collect();
            return Ok(Some(Prepared { fourcc: plan.fourcc, size: plan.size, undo }));
        }
        Err(failure) => failure,
    };
    let error = match failure.errno {
        Some(errno) => device.failed("pipeline", errno),
        None => Error::new(ErrorKind::Pipeline, "pipeline", "").on(device),
    };
    Err(error.detail(failure.text))
}

/// Returns what [`prepare`] would do.
pub(crate) fn planned(device: &Device, wish: &Wish<'_>) -> Result<Pipeline> {
    let none = || refused(device, "the node does not belong to a media device".into());
    let (node, graph) = read(device).ok_or_else(none)?;
    let drivers = Subdevices::new(&graph, device, node);
    let plan = plan::plan(&graph, node, wish, &drivers).map_err(|text| refused(device, text))?;
    let Plan { sensor, fourcc, size, steps, own } = plan;
    let commands = steps.iter().chain(&own).map(|step| step.command(&graph)).collect();
    Ok(Pipeline { sensor: sensor.name.clone(), fourcc, size, commands })
}

fn refused(device: &Device, text: String) -> Error {
    Error::new(ErrorKind::Pipeline, "pipeline", text).on(device)
}

/// Returns the subdevices on the path to a node as it is set up, from the sensor on.
pub(super) fn subdevices(device: &Device) -> Vec<Device> {
    let Some((node, graph)) = read(device) else { return Vec::new() };
    let drivers = Subdevices::new(&graph, device, node);
    let path = graph.path(node).hops;
    path.iter().rev().filter_map(|hop| drivers.device(hop.from.0).filter(|_| hop.from.0.subdev)).collect()
}

/// Returns the frame interval of the sensor that feeds a node.
pub(super) fn interval(device: &Device) -> Option<FrameInterval> {
    let (sensor, pad) = source(device)?;
    sensor::interval(&sensor, pad)
}

/// Sets the frame interval of the sensor that feeds a node. `None` if the node has none.
pub(super) fn set_interval(device: &Device, wanted: FrameInterval) -> Option<Result<FrameInterval>> {
    let (sensor, pad) = source(device)?;
    let (node, graph) = read(device)?;
    let locked = plan::locked(&graph, node, &Subdevices::new(&graph, device, node));
    if graph.path(node).hops.iter().any(|hop| hop.from.0.name == sensor.info().card && locked.contains(&hop.from.0.id))
    {
        let text = "the sensor gives pictures to another node, whose rate would change";
        return Some(Err(Error::new(ErrorKind::Busy, "VIDIOC_SUBDEV_S_FRAME_INTERVAL", text).on(sensor)));
    }
    Some(sensor::set_interval(&sensor, pad, wanted))
}

/// Returns the sensor that feeds a node, and the pad at which its pictures leave.
fn source(device: &Device) -> Option<(Device, u32)> {
    if !device.info().is_routed_by_graph() {
        return None;
    }
    let (node, graph) = read(device)?;
    let first = *graph.path(node).hops.last()?;
    let (entity, pad) = first.from;
    Some((Subdevices::new(&graph, device, node).device(entity)?, pad.index))
}

fn read(device: &Device) -> Option<((u32, u32), Graph)> {
    let node = read::numbers(device)?;
    Some((node, read::graph(node)?))
}
