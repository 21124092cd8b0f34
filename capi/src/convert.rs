//! Converters: scale, crop, rotate, compose and change formats, on i.MX G2D, on V4L2 devices, or on the CPU.
//!
//! A converter draws its sources into a buffer of a pool: fl_converter_submit(). The result comes from
//! fl_station_recv() as FL_EVENT_FRAME, or as FL_EVENT_FAILED with the buffer. Devices read and write dma-bufs; only
//! the CPU backend touches pixels.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use framelease::convert::tensor::{Axes, Channels, ElementType, Filter, Fit};
use framelease::convert::{
    candidates, first_of, Blend, Choice, Color, Converter, ConverterEvent, Cpu, Layer, M2m, Plan, Request, Scaling,
    Tensor,
};
use framelease::format::{Flip, FourCc, Layout, Rotation, Size};
use framelease::Submitted;

use crate::ffi::{self, sized, Bool, Fill, Out};
use crate::format::{fl_layout, fl_rect, layout_of, needed_size};
use crate::frame::{fl_buffer, fl_frame};
use crate::station::fl_event_kind::{FL_EVENT_FAILED, FL_EVENT_LOST, FL_EVENT_RETURNED};
use crate::station::{fl_station, AnyStation, Event};
use crate::status::fl_status::{self, FL_FULL, FL_OK};
use crate::status::{c_text, call, call_on, invalid, numbers, Failure};

/// Who converts.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_backend {
    /// The first that can do the work: G2D, then each V4L2 device, then the CPU.
    FL_BACKEND_AUTO = 0,
    /// NXP's libg2d, which is opened when it is used.
    FL_BACKEND_G2D = 1,
    /// A V4L2 mem-to-mem device.
    FL_BACKEND_M2M = 2,
    FL_BACKEND_CPU = 3,
}

numbers!(fl_backend: FL_BACKEND_AUTO, FL_BACKEND_G2D, FL_BACKEND_M2M, FL_BACKEND_CPU);

#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_rotation {
    FL_ROTATE_0 = 0,
    /// Clockwise.
    FL_ROTATE_90 = 1,
    FL_ROTATE_180 = 2,
    FL_ROTATE_270 = 3,
}

numbers!(fl_rotation: FL_ROTATE_0, FL_ROTATE_90, FL_ROTATE_180, FL_ROTATE_270);

#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_flip {
    FL_FLIP_NONE = 0,
    /// Left becomes right.
    FL_FLIP_HORIZONTAL = 1,
    /// Top becomes bottom.
    FL_FLIP_VERTICAL = 2,
}

numbers!(fl_flip: FL_FLIP_NONE, FL_FLIP_HORIZONTAL, FL_FLIP_VERTICAL);

/// How a picture fills its place when their shapes differ.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_scaling {
    /// Fills the place. The aspect ratio may change.
    FL_SCALING_STRETCH = 0,
    /// Keeps the aspect ratio and leaves margins.
    FL_SCALING_KEEP = 1,
}

numbers!(fl_scaling: FL_SCALING_STRETCH, FL_SCALING_KEEP);

/// How a layer covers those below.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_blend {
    FL_BLEND_REPLACE = 0,
    /// By the alpha of its pixels, whose colors are not multiplied by it.
    FL_BLEND_STRAIGHT = 1,
    /// By the alpha of its pixels, whose colors are already multiplied by it.
    FL_BLEND_PREMULTIPLIED = 2,
}

numbers!(fl_blend: FL_BLEND_REPLACE, FL_BLEND_STRAIGHT, FL_BLEND_PREMULTIPLIED);

/// One source in the picture. The steps, in order: crop, flip, rotate, scale to the place, blend. A field
/// that is 0 keeps the default: the whole source is drawn into the whole target.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_layer {
    /// sizeof(fl_layer): FL_INIT sets it.
    pub size: usize,
    /// The part of the source that is drawn.
    pub crop: fl_rect,
    /// The place in the target.
    pub place: fl_rect,
    /// An fl_flip.
    pub flip: u32,
    /// An fl_rotation.
    pub rotation: u32,
    /// An fl_scaling.
    pub scaling: u32,
    /// An fl_blend.
    pub blend: u32,
    /// Transparency of the whole layer: 0 is opaque, 255 is invisible.
    pub transparency: u32,
    /// Layers with lower numbers are drawn first; equal ones in the order of the array.
    pub z_order: i32,
    /// With FL_SCALING_KEEP: the color of the margins, 0xRRGGBB, if `has_margin` is set. Otherwise they show what is
    /// below.
    pub margin: u32,
    pub has_margin: Bool,
}

sized!(fl_layer);

/// What a converter shall do. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_converter_options {
    /// sizeof(fl_converter_options): FL_INIT sets it.
    pub size: usize,
    /// An fl_backend.
    pub backend: u32,
    /// The target's format. Required.
    pub fourcc: u32,
    /// The target's size, in pixels. Required.
    pub width: u32,
    pub height: u32,
    /// The layouts of the sources, one after the other. Required: at least one. Each begins with its size (FL_INIT).
    pub sources: *const fl_layout,
    /// One layer for each source, or NULL: one source, drawn into the whole target. Each begins with its size.
    pub layers: *const fl_layer,
    /// The number of sources and layers.
    pub source_count: usize,
    /// The color of pixels that no layer covers, 0xRRGGBB. Default: black.
    pub background: u32,
    /// Draw over the old content of the target instead of a background.
    pub keep_background: Bool,
    /// With FL_BACKEND_M2M: the device node. Default: the first that can do the work.
    pub path: *const c_char,
}

sized!(fl_converter_options);

/// A converter with its plan.
struct Conversion {
    converter: Box<dyn Converter>,
    plan: Arc<Plan>,
    name: std::ffi::CString,
}

fn color(rgb: u32) -> Color {
    let [_, red, green, blue] = rgb.to_be_bytes();
    Color::rgb(red, green, blue)
}

fn layer(given: &fl_layer) -> Result<Layer, Failure> {
    let unknown = |what: &str, number: u32| invalid(format!("{what} {number} of a layer: see fl_{what}"));
    let mut layer = Layer::default();
    layer.crop = given.crop.get();
    layer.place = given.place.get();
    layer.flip = match given.flip {
        FL_FLIP_NONE => Flip::None,
        FL_FLIP_HORIZONTAL => Flip::Horizontal,
        FL_FLIP_VERTICAL => Flip::Vertical,
        other => return Err(unknown("flip", other)),
    };
    layer.rotation = match given.rotation {
        FL_ROTATE_0 => Rotation::None,
        FL_ROTATE_90 => Rotation::Clockwise90,
        FL_ROTATE_180 => Rotation::Half,
        FL_ROTATE_270 => Rotation::Clockwise270,
        other => return Err(unknown("rotation", other)),
    };
    layer.fit = scaling(given.scaling)?;
    layer.blend = match given.blend {
        FL_BLEND_REPLACE => Blend::Replace,
        FL_BLEND_STRAIGHT => Blend::Straight,
        FL_BLEND_PREMULTIPLIED => Blend::Premultiplied,
        other => return Err(unknown("blend", other)),
    };
    let transparency = u8::try_from(given.transparency).map_err(|_| invalid("transparency of a layer: 0 to 255"))?;
    layer.alpha = 255 - transparency;
    layer.z_order = given.z_order;
    layer.margin = given.has_margin.get().then(|| color(given.margin));
    Ok(layer)
}

pub fn scaling(number: u32) -> Result<Scaling, Failure> {
    match number {
        FL_SCALING_STRETCH => Ok(Scaling::Stretch),
        FL_SCALING_KEEP => Ok(Scaling::Keep),
        other => Err(invalid(format!("scaling {other}: see fl_scaling"))),
    }
}

fn event(event: ConverterEvent) -> Event {
    match event {
        ConverterEvent::Frame(frame) => Event::frame(frame),
        ConverterEvent::Failed { error, target } => Event { buffer: target, ..Event::error(FL_EVENT_FAILED, error) },
        ConverterEvent::Lost(error) => Event::error(FL_EVENT_LOST, error),
        ConverterEvent::Returned => Event::new(FL_EVENT_RETURNED),
        other => Event::other(other),
    }
}

impl AnyStation for Conversion {
    fn kind(&self) -> &'static str {
        "a converter"
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.converter.as_fd()
    }

    fn dispatch(&mut self) -> framelease::Result<()> {
        self.converter.dispatch()
    }

    fn recv(&mut self, timeout: std::time::Duration) -> framelease::Result<framelease::Received<Event>> {
        crate::station::received(self.converter.recv(timeout)?, event)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        Ok(self.converter.reopen()?)
    }
}

fn find(options: &fl_converter_options) -> Result<Conversion, Failure> {
    let count = options.source_count;
    let sources = ffi::elements(options.sources, count, "source")?;
    let sources = sources.iter().enumerate().map(|(i, source)| layout_of(source, &format!("source {i}")));
    let sources: Vec<Layout> = sources.collect::<Result<_, _>>()?;
    let layers = match options.layers.is_null() {
        true if sources.len() == 1 => vec![Layer::default()],
        true => return Err(invalid(format!("{} sources need as many layers", sources.len()))),
        false => ffi::elements(options.layers, count, "layer")?.iter().map(layer).collect::<Result<_, _>>()?,
    };
    let background = (!options.keep_background.get()).then(|| color(options.background));
    let request = Request::compose(layers).background(background);
    let size: Size = needed_size(options.width, options.height, "the target's size")?;
    let plan = |converter: &dyn Converter| {
        let target = converter.target_layout(FourCc::from(options.fourcc), size)?;
        Plan::new(&request, &sources, &target)
    };
    let one = |converter: Box<dyn Converter>| -> Result<Choice, Failure> { Ok(first_of([Ok(converter)], plan)?) };
    let choice = match (options.backend, ffi::optional_path(options.path)) {
        (FL_BACKEND_AUTO, _) => first_of(candidates(), plan)?,
        #[cfg(feature = "g2d")]
        (FL_BACKEND_G2D, _) => one(Box::new(framelease::convert::G2d::open()?))?,
        #[cfg(not(feature = "g2d"))]
        (FL_BACKEND_G2D, _) => {
            return Err(crate::status::unsupported("this library was built without the feature g2d"))
        }
        (FL_BACKEND_M2M, Some(path)) => one(Box::new(M2m::open(path)?))?,
        (FL_BACKEND_M2M, None) => {
            let is_m2m = |c: &framelease::convert::Candidate| c.as_ref().map_or(true, |c| c.name().starts_with("m2m"));
            first_of(candidates().filter(is_m2m), plan)?
        }
        (FL_BACKEND_CPU, _) => one(Box::new(Cpu::new()?))?,
        (other, _) => return Err(invalid(format!("backend {other}: see fl_backend"))),
    };
    let name = c_text(choice.converter.name());
    Ok(Conversion { converter: choice.converter, plan: Arc::new(choice.plan), name })
}

/// Opens a converter. If none can do the work, the message has the reason of each. Then create a pool with the layout
/// of fl_converter_get_target(), so that the strides suit the device.
#[no_mangle]
pub extern "C" fn fl_converter_open(options: *const fl_converter_options, station: *mut *mut fl_station) -> fl_status {
    crate::station::open("fl_converter_open", station, || find(&ffi::read(options, "options")?))
}

/// Fills the layout of the targets.
#[no_mangle]
pub extern "C" fn fl_converter_get_target(station: Option<&fl_station>, layout: *mut fl_layout) -> fl_status {
    call_on("fl_converter_get_target", station, |station| {
        let to = Fill::new(layout, "layout")?;
        station.with("a converter", |conversion: &mut Conversion| {
            to.put(&conversion.plan.target().into());
            Ok(FL_OK)
        })
    })
}

/// Gives the name of the backend and its device, such as "m2m (/dev/video3)". Valid until the station is closed.
#[no_mangle]
pub extern "C" fn fl_converter_get_name(station: Option<&fl_station>, name: *mut *const c_char) -> fl_status {
    call_on("fl_converter_get_name", station, |station| {
        let out = Out::pointer(name, "name")?;
        station.with("a converter", |conversion: &mut Conversion| {
            out.put(conversion.name.as_ptr());
            Ok(FL_OK)
        })
    })
}

/// Begins to draw `count` frames, one for each source of the options, into `target`. Does not wait for the device. The
/// CPU draws within the call. For one source, `frames` is the address of its pointer: &event.frame.
///
/// With FL_OK the converter has the target, whose pointer becomes NULL, and its own references on the frames. With
/// FL_FULL or an error the target stays yours: with FL_FULL, receive first.
#[no_mangle]
pub extern "C" fn fl_converter_submit(
    station: Option<&fl_station>,
    frames: *const *mut fl_frame,
    count: usize,
    target: *mut *mut fl_buffer,
) -> fl_status {
    call_on("fl_converter_submit", station, |station| {
        let frames = ffi::slice(frames, count, "frames")?;
        let sources = frames.iter().map(|&frame| Ok(ffi::share(frame, "a frame")?.frame.clone()));
        let sources = sources.collect::<Result<Vec<_>, Failure>>()?;
        station.with("a converter", |conversion: &mut Conversion| {
            let mut owned = ffi::take_box(target).ok_or_else(|| invalid("the target is NULL"))?;
            match conversion.converter.try_submit(&conversion.plan, &sources, owned.buffer) {
                Ok(Submitted::Taken) => Ok(FL_OK),
                Ok(Submitted::Full(buffer)) => {
                    owned = Box::new(fl_buffer { buffer });
                    ffi::return_box(target, owned);
                    Ok(FL_FULL)
                }
                Err(rejected) => {
                    ffi::return_box(target, Box::new(fl_buffer { buffer: rejected.item }));
                    Err(rejected.error.into())
                }
            }
        })
    })
}

/// The input of a model: scales a frame's picture into memory of yours, as numbers. Close it with fl_tensor_close().
#[allow(non_camel_case_types)]
pub struct fl_tensor {
    tensor: Tensor,
    element: ElementType,
}

/// The numbers of a tensor.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_element {
    FL_ELEMENT_F32 = 0,
    FL_ELEMENT_F16 = 1,
    FL_ELEMENT_U8 = 2,
    FL_ELEMENT_I8 = 3,
}

numbers!(fl_element: FL_ELEMENT_F32, FL_ELEMENT_F16, FL_ELEMENT_U8, FL_ELEMENT_I8);

/// How the picture fills a tensor.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_tensor_fit {
    FL_TENSOR_STRETCH = 0,
    /// Keeps the aspect ratio, with margins of the color `margin`.
    FL_TENSOR_LETTERBOX = 1,
    /// Keeps the aspect ratio and cuts off what does not fit.
    FL_TENSOR_CROP = 2,
}

numbers!(fl_tensor_fit: FL_TENSOR_STRETCH, FL_TENSOR_LETTERBOX, FL_TENSOR_CROP);

/// The color components of a tensor.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_channels {
    FL_CHANNELS_RGB = 0,
    FL_CHANNELS_BGR = 1,
    FL_CHANNELS_GREY = 2,
}

numbers!(fl_channels: FL_CHANNELS_RGB, FL_CHANNELS_BGR, FL_CHANNELS_GREY);

/// What a tensor is. A field that is 0 keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_tensor_options {
    /// sizeof(fl_tensor_options): FL_INIT sets it.
    pub size: usize,
    /// The size of the model's input, in pixels. Required.
    pub width: u32,
    pub height: u32,
    /// An fl_element.
    pub element: u32,
    /// An fl_channels.
    pub channels: u32,
    /// Rows of pixels (HWC). Otherwise planes of channels (CHW).
    pub is_hwc: Bool,
    /// Weigh all pixels when the picture is made smaller (INTER_AREA). Otherwise bilinear, which is faster.
    pub is_area: Bool,
    /// An fl_tensor_fit.
    pub fit: u32,
    /// With FL_TENSOR_LETTERBOX: 0xRRGGBB.
    pub margin: u32,
    /// The part of the picture that is used.
    pub crop: fl_rect,
    /// Each number is (component - mean) * scale, with components of 0 to 255. A scale of 0 is 1.
    pub mean: [f32; 3],
    pub scale: [f32; 3],
}

sized!(fl_tensor_options);

/// Where the picture is in a tensor, to map boxes back.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types)]
pub struct fl_placement {
    /// The part of the picture.
    pub crop: fl_rect,
    /// Its place in the tensor.
    pub place: fl_rect,
}

fn built(options: &fl_tensor_options) -> Result<fl_tensor, Failure> {
    let element = match options.element {
        FL_ELEMENT_F32 => ElementType::F32,
        FL_ELEMENT_F16 => ElementType::F16,
        FL_ELEMENT_U8 => ElementType::U8,
        FL_ELEMENT_I8 => ElementType::I8,
        other => return Err(invalid(format!("element {other}: see fl_element"))),
    };
    let channels = match options.channels {
        FL_CHANNELS_RGB => Channels::Rgb,
        FL_CHANNELS_BGR => Channels::Bgr,
        FL_CHANNELS_GREY => Channels::Grey,
        other => return Err(invalid(format!("channels {other}: see fl_channels"))),
    };
    let fit = match options.fit {
        FL_TENSOR_STRETCH => Fit::Stretch,
        FL_TENSOR_LETTERBOX => Fit::Letterbox(color(options.margin)),
        FL_TENSOR_CROP => Fit::Crop,
        other => return Err(invalid(format!("fit {other}: see fl_tensor_fit"))),
    };
    let size = needed_size(options.width, options.height, "the size")?;
    let mut builder = Tensor::builder(size).channels(channels).fit(fit).mean(options.mean);
    builder = builder.scale(options.scale.map(|scale| if scale == 0.0 { 1.0 } else { scale }));
    builder = builder.axes(if options.is_hwc.get() { Axes::Hwc } else { Axes::Chw });
    builder = builder.filter(if options.is_area.get() { Filter::Area } else { Filter::Bilinear });
    if let Some(crop) = options.crop.get() {
        builder = builder.crop(crop);
    }
    Ok(fl_tensor { tensor: builder.build()?, element })
}

/// Creates a tensor. It keeps tables for the last layout, so that a frame costs no allocation.
#[no_mangle]
pub extern "C" fn fl_tensor_create(options: *const fl_tensor_options, tensor: *mut *mut fl_tensor) -> fl_status {
    call("fl_tensor_create", || {
        let out = Out::handle(tensor, "tensor")?;
        out.put_box(built(&ffi::read(options, "options")?)?);
        Ok(FL_OK)
    })
}

/// Writes a frame's picture as numbers to `data`, which has exactly width * height * channels numbers, and fills
/// `placement`, which may be NULL. `bytes` is the size of `data`. For a tensor of one thread at a time.
#[no_mangle]
pub extern "C" fn fl_tensor_write(
    tensor: *mut fl_tensor,
    frame: Option<&fl_frame>,
    data: *mut c_void,
    bytes: usize,
    placement: *mut fl_placement,
) -> fl_status {
    call("fl_tensor_write", || {
        let tensor = ffi::exclusive(tensor, "the tensor")?;
        let frame = frame.ok_or_else(|| invalid("the frame is NULL"))?;
        let data = ffi::slice_mut(data.cast(), bytes, "data")?;
        let placed = tensor.tensor.write_bytes(&frame.frame, tensor.element, data)?;
        if !placement.is_null() {
            let value = fl_placement { crop: placed.crop.into(), place: placed.place.into() };
            Out::with(placement, value, "placement")?;
        }
        Ok(FL_OK)
    })
}

/// Closes the tensor and makes the pointer NULL. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_tensor_close(tensor: *mut *mut fl_tensor) {
    call("fl_tensor_close", || {
        ffi::free_box(tensor);
        Ok(FL_OK)
    });
}
