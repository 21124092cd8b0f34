//! Finds one layout that the camera writes and the encoder reads, before either streams.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Colorimetry, FormatKind, FourCc, Layout, Size};
use crate::v4l2::{geometry, Device, Direction, FormatRequest};

use super::setup::{fits, reading, set_coded_format};
use super::{Params, Quirks};

/// The most that a driver rounds a side up. A larger size is another picture.
const MOST_ROUNDING: u32 = 64;

/// The smallest page size of any kernel. Exported buffers are whole pages.
const PAGE: u32 = 4096;

/// The owner of the memory that the frames are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceMemory {
    /// The camera's own buffers, which are exported.
    Camera,
    /// Buffers of an allocator, which both devices import. Such buffers are necessary if the camera's own buffers would
    /// be too small for the encoder.
    Allocated,
}

/// A layout on which a camera and an encoder agree, so that frames need no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agreement {
    /// The layout to request from the camera. Its memory planes have the size that the encoder needs.
    pub source: Layout,
    /// The layout that the encoder's queue will have.
    pub queue: Layout,
    /// The size of the visible picture. This is the requested size, or a larger one if the encoder rounds sizes and the
    /// camera supports the rounded size.
    pub size: Size,
    /// The memory that the frames must be in.
    pub memory: SourceMemory,
}

/// Finds a layout that the camera can write and the encoder can read without a copy. Both devices expect every plane of
/// this layout at the same place.
///
/// Tries each format, best first:
///
/// 1. The encoder reports its layout for a picture of the requested size. The call asks the camera for this size with
///    the strides of the encoder.
/// 2. If the camera does not accept this layout and the encoder rounds sizes (640x368 for 640x360), the call asks the
///    camera for the rounded size.
/// 3. If the camera's buffers would be too small, the result has [`SourceMemory::Allocated`]. The caller must then
///    allocate buffers that both devices import.
///
/// If the two devices place a plane differently, such as the chroma plane of NV12, the call tries the next format. The
/// call sets the encoder's coded format and changes nothing else. Ioctls: `VIDIOC_ENUM_FMT`, `VIDIOC_S_FMT` on the
/// encoder's capture queue, `VIDIOC_TRY_FMT`.
///
/// `formats` are the acceptable formats, best first. If `formats` is empty, the call tries all formats that the two
/// devices have in common. Formats with fewer bytes per pixel come first, except grey, which comes last.
///
/// # Errors
/// `Mismatch` if no format fits. The text has both geometries for each format that was tried. `Unsupported` if the
/// devices do not have a common format, if the encoder does not support the codec, or if `camera` is not a capture
/// device.
#[doc(alias = "VIDIOC_TRY_FMT")]
pub fn negotiate(encoder: &Device, camera: &Device, params: &Params, formats: &[FourCc]) -> Result<Agreement> {
    negotiate_with(encoder, camera, params, formats, Quirks::for_device(encoder.info()))
}

#[doc(hidden)] // For this project's tests.
pub fn negotiate_with(
    encoder: &Device,
    camera: &Device,
    params: &Params,
    formats: &[FourCc],
    quirks: Quirks,
) -> Result<Agreement> {
    const OP: &str = "negotiate";
    if !camera.info().is_capture() {
        return Err(Error::new(ErrorKind::Unsupported, OP, "not a capture device").on(camera));
    }
    set_coded_format(encoder, params, Colorimetry::default())?;
    let list = |device: &Device, direction| -> Result<Vec<FourCc>> {
        Ok(device.formats(direction)?.iter().filter(|o| !o.emulated).map(|o| o.fourcc).collect())
    };
    let (written, read) = (list(camera, Direction::Capture)?, list(encoder, Direction::Output)?);
    let mut refused = Vec::new();
    for (written, read) in candidates(&written, &read, formats, quirks) {
        match (Pair { encoder, camera, params, written, read }).negotiate()? {
            Ok(agreement) => return Ok(agreement),
            Err(why) => refused.push(why),
        }
    }
    if !refused.is_empty() {
        let text = format!("asked {} of {camera}; {}", params.size(), refused.join("; "));
        return Err(Error::new(ErrorKind::Mismatch, OP, text).on(encoder));
    }
    let names = |all: &[FourCc]| all.iter().map(FourCc::to_string).collect::<Vec<_>>().join(", ");
    let wanted = if formats.is_empty() { String::new() } else { format!("asked {}; ", names(formats)) };
    let text =
        format!("{wanted}{camera} writes {} and the encoder reads {}: no common format", names(&written), names(&read));
    Err(Error::new(ErrorKind::Unsupported, OP, text).on(encoder))
}

/// Returns the pairs to try, best first: the camera's format, and the encoder's format for the same bytes.
fn candidates(written: &[FourCc], read: &[FourCc], wanted: &[FourCc], quirks: Quirks) -> Vec<(FourCc, FourCc)> {
    let mut formats: Vec<FourCc> = match wanted {
        [] => written.to_vec(),
        wanted => wanted.iter().copied().filter(|f| written.contains(f)).collect(),
    };
    if wanted.is_empty() {
        // Few bytes per pixel need little memory bandwidth. Grey goes last, because it drops the colors.
        formats.retain(|f| f.info().is_some_and(|i| i.kind != FormatKind::Compressed));
        formats.sort_by_key(|f| {
            let probe = Layout::packed(*f, Size::new(64, 64)).map_or(u64::MAX, |l| l.pixel_bytes());
            (f.info().is_some_and(|i| i.name == "GREY"), probe)
        });
    }
    let pairs = formats.into_iter().flat_map(|f| {
        let split = f.split().filter(|_| quirks.reads_data_offset);
        [Some(f), split].into_iter().flatten().map(move |read| (f, read))
    });
    pairs.filter(|(_, r)| read.contains(r)).collect()
}

struct Pair<'a> {
    encoder: &'a Device,
    camera: &'a Device,
    params: &'a Params,
    written: FourCc,
    read: FourCc,
}

/// Turns a driver's refusal into a reason. Only a lost device is an error.
fn answer(layout: Result<Layout>) -> Result<std::result::Result<Layout, String>> {
    match layout {
        Err(e) if e.kind() == ErrorKind::DeviceLost => Err(e),
        other => Ok(other.map_err(|e| e.to_string())),
    }
}

impl Pair<'_> {
    /// Returns the agreement on this format, or the reason against it.
    fn negotiate(&self) -> Result<std::result::Result<Agreement, String>> {
        let wanted = self.params.size();
        let own = match answer(self.reads(&FormatRequest::new(self.read, wanted)))? {
            Ok(own) => own,
            Err(why) => return Ok(Err(why)),
        };
        if !is_rounded(wanted, own.size()) {
            return Ok(Err(format!("the encoder does not read {} of {wanted}, it offers {own}", self.read)));
        }
        let mut reasons = Vec::new();
        let mut sizes = vec![wanted, own.size()];
        sizes.dedup();
        for size in sizes {
            match self.at(size, &own)? {
                Ok(agreement) => return Ok(Ok(agreement)),
                Err(why) => reasons.push(why),
            }
        }
        Ok(Err(reasons.join(", and ")))
    }

    fn reads(&self, request: &FormatRequest) -> Result<Layout> {
        self.encoder.try_format(Direction::Output, request)
    }

    fn writes(&self, request: &FormatRequest) -> Result<Layout> {
        self.camera.try_format(Direction::Capture, request)
    }

    /// Tries pictures of this size, with the strides of `own`, the encoder's preferred layout.
    fn at(&self, size: Size, own: &Layout) -> Result<std::result::Result<Agreement, String>> {
        let mut request = FormatRequest::new(self.written, size);
        let planes = self.written.info().map_or(1, |i| i.memory_planes);
        request.stride_bytes[..planes].copy_from_slice(&FormatRequest::from_layout(own).stride_bytes[..planes]);
        let source = match answer(self.writes(&request))? {
            Ok(source) if source.size() == size => source,
            Ok(other) => return Ok(Err(format!("the camera does not give {request}, it gives {other}"))),
            Err(why) => return Ok(Err(why)),
        };
        let queue = match answer(self.reads(&reading(&source, self.read, self.params)))? {
            Ok(queue) => queue,
            Err(why) => return Ok(Err(why)),
        };
        let is_split = self.read != self.written;
        if !fits(&source, &queue, is_split) {
            let (writes, reads) = (geometry(&source), geometry(&queue));
            return Ok(Err(format!("the camera writes {writes}, the encoder reads {reads}")));
        }
        let needs = needed(&source, &queue, is_split);
        self.with_memory(source, &needs)
            .map(|done| done.map(|(source, memory)| Agreement { source, queue, size, memory }))
    }

    /// Returns the camera's layout with buffers of at least these sizes, and the owner of the memory.
    fn with_memory(
        &self,
        source: Layout,
        needs: &[u32],
    ) -> Result<std::result::Result<(Layout, SourceMemory), String>> {
        let has = |layout: &Layout| {
            let pages = |bytes: u32| u64::from(bytes.div_ceil(PAGE)) * u64::from(PAGE);
            layout.memory_bytes().iter().zip(needs).all(|(&has, &needs)| pages(has) >= u64::from(needs))
        };
        if has(&source) {
            return Ok(Ok((source, SourceMemory::Camera)));
        }
        let memory: Vec<u32> = source.memory_bytes().iter().zip(needs).map(|(&a, &b)| a.max(b)).collect();
        let larger = match Layout::from_planes(source.fourcc(), source.size(), &memory, source.planes()) {
            Ok(larger) => larger.with_colorimetry(source.colorimetry()),
            Err(e) => return Ok(Err(e.to_string())),
        };
        if let Ok(given) = answer(self.writes(&FormatRequest::from_layout(&larger)))? {
            if has(&given) && given.size() == source.size() && given.planes() == source.planes() {
                return Ok(Ok((given, SourceMemory::Camera)));
            }
        }
        for (device, direction) in [(self.camera, Direction::Capture), (self.encoder, Direction::Output)] {
            // A driver that does not report its capabilities may still import.
            if device.memory_capabilities(direction)?.is_some_and(|m| !m.imports) {
                let text =
                    format!("{source} has buffers of {:?} bytes, the encoder needs {needs:?}", source.memory_bytes());
                return Ok(Err(format!("{text}, and {device} cannot import buffers")));
            }
        }
        Ok(Ok((larger, SourceMemory::Allocated)))
    }
}

/// Returns whether a size is the requested one, or that rounded up to whole blocks.
fn is_rounded(wanted: Size, given: Size) -> bool {
    let side = |wanted: u32, given: u32| (wanted..=wanted.saturating_add(MOST_ROUNDING)).contains(&given);
    side(wanted.width, given.width) && side(wanted.height, given.height)
}

/// Returns the bytes that the encoder needs of each of the source's buffers.
fn needed(source: &Layout, queue: &Layout, is_split: bool) -> Vec<u32> {
    if !is_split {
        return queue.memory_bytes().to_vec();
    }
    let ends = source.planes().iter().zip(queue.memory_bytes());
    vec![ends.map(|(plane, &bytes)| plane.offset_bytes.saturating_add(bytes)).max().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<FourCc> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn negotiate_tries_the_fewest_bytes_first_or_the_user_s_order() {
        let camera = list(&["GREY", "RGB24", "YUYV", "NV12", "MJPEG"]);
        let encoder = list(&["NV12M", "YUYV", "NV12", "RGB24", "GREY"]);
        let names = |wanted: &[&str], quirks| -> Vec<String> {
            let pairs = candidates(&camera, &encoder, &list(wanted), quirks);
            pairs.iter().map(|(w, r)| if w == r { w.to_string() } else { format!("{w}>{r}") }).collect()
        };
        assert_eq!(names(&[], Quirks::default()), ["NV12", "YUYV", "RGB3", "GREY"]);
        assert_eq!(
            names(&["RGB24", "NV12", "NV21"], Quirks { reads_data_offset: true, ..Quirks::default() }),
            ["RGB3", "NV12", "NV12>NM12"]
        );
        assert!(names(&["UYVY"], Quirks::default()).is_empty());
    }

    #[test]
    fn negotiate_accepts_rounding_but_not_another_size() {
        let wanted = Size::new(1920, 1080);
        assert!(is_rounded(wanted, wanted) && is_rounded(wanted, Size::new(1920, 1088)));
        assert!(!is_rounded(wanted, Size::new(1280, 1080)) && !is_rounded(wanted, Size::new(3840, 2160)));
    }

    #[test]
    fn negotiate_requests_the_whole_last_plane_of_a_split_buffer() {
        let layout = |f: &str, h| Layout::packed(f.parse().unwrap(), Size::new(640, h)).unwrap();
        assert_eq!(needed(&layout("NV12", 360), &layout("NV12M", 368), true), [640 * (360 + 184)]);
        assert_eq!(needed(&layout("NV12M", 360), &layout("NV12M", 368), false), [640 * 368, 640 * 184]);
    }
}
