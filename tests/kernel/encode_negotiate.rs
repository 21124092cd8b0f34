//! Tests of the layout that a camera and an encoder agree on before they stream. Pictures show that both use it in the
//! same way.

use framelease::bitstream::Codec;
use framelease::capture::{Camera, FrameSource};
use framelease::codec::{negotiate, negotiate_with, source_layout, Agreement, Encoder, Params, Quirks, SourceMemory};
use framelease::format::{FourCc, Size};
use framelease::v4l2::Device;
use framelease::ErrorKind;
use framelease::Station;

use crate::coding::*;
use crate::decode::psnr_of_round_trip;
use crate::devices::*;

const ROUNDED: Size = Size::new(640, 368);

fn agreed(encoder: &Device, camera: &Device, params: &Params, formats: &[&str]) -> framelease::Result<Agreement> {
    let formats: Vec<FourCc> = formats.iter().map(|f| fourcc(f)).collect();
    negotiate(encoder, camera, params, &formats)
}

/// Encodes some frames of a frozen picture and has vicodec decode them.
fn round_trip(camera: Camera, encoder: Encoder) {
    let format = camera.layout().unwrap().fourcc();
    let (worst, frames) = psnr_of_round_trip(camera, encoder, 5);
    assert_eq!(frames, 5);
    assert!(worst > 30.0, "{format}: {worst} dB");
}

#[test]
fn negotiate_makes_the_camera_follow_an_encoder_that_rounds() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Single), fwht(Planar::Single)) else { return };
    leaving_nothing(|| {
        set_hdmi(&camera);
        let params = params(Codec::Fwht, SMALL);
        let agreement = agreed(&encoder, &camera, &params, &["NV12"]).unwrap();
        assert_eq!(
            (agreement.size, agreement.source.size(), agreement.memory),
            (ROUNDED, ROUNDED, SourceMemory::Camera)
        );
        assert_eq!(agreement.source.planes(), agreement.queue.planes());
        freeze_pattern(&camera);
        let (camera, encoder) = open(&camera, encoder, params, &agreement, Quirks::default());
        assert_eq!(camera.layout().unwrap().size(), ROUNDED);
        round_trip(camera, encoder);
    });
}

#[test]
fn negotiate_keeps_layouts_that_fit() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Single), fwht(Planar::Single)) else { return };
    leaving_nothing(|| {
        let params = params(Codec::Fwht, SMALL);
        let agreement = agreed(&encoder, &camera, &params, &["YUYV"]).unwrap();
        assert_eq!((agreement.size, agreement.source.size(), agreement.memory), (SMALL, SMALL, SourceMemory::Camera));
        freeze_pattern(&camera);
        let (camera, encoder) = open(&camera, encoder, params, &agreement, Quirks::default());
        round_trip(camera, encoder);
    });
}

#[test]
fn negotiate_allocates_buffers_that_would_be_too_small() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("align=16")) else { return };
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    leaving_nothing(|| {
        let params = params(Codec::H264, SMALL);
        let agreement = agreed(&encoder, &camera, &params, &["NV12M"]).unwrap();
        assert_eq!((agreement.size, agreement.source.size()), (SMALL, SMALL));
        assert_eq!((agreement.queue.size(), agreement.memory), (ROUNDED, SourceMemory::Allocated));
        assert_eq!(agreement.source.memory_bytes(), [640 * 368, 640 * 184]);
        let (mut camera, mut encoder) = open(&camera, encoder, params, &agreement, Quirks::default());
        let mut judge = Judged::new("heap-NV12M-aligned");
        for _ in 0..6 {
            let frame = frame(&mut camera);
            judge.frame(&frame);
            let packet = coded(&mut encoder, frame);
            assert_eq!(packet.meta().size, SMALL, "the rows below are cropped");
            judge.packet(&packet);
        }
        drop((camera, encoder));
    });
}

#[test]
fn negotiate_never_shifts_chroma() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Single), fwht(Planar::Single)) else { return };
    leaving_nothing(|| {
        // A webcam has only its own sizes. vicodec expects chroma after 368 rows.
        let params = params(Codec::Fwht, SMALL);
        let e = agreed(&encoder, &camera, &params, &["NV12"]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch);
        let text = e.to_string();
        assert!(text.contains("0+230400/640") && text.contains("0+235520/640") && text.contains("vivid"), "{text}");
        // Another format that both support.
        let agreement = agreed(&encoder, &camera, &params, &["NV12", "YUYV"]).unwrap();
        assert_eq!(agreement.source.fourcc(), fourcc("YUYV"));
        // Of all formats, one with the fewest bytes that fits and has colors.
        let agreement = agreed(&encoder, &camera, &params, &[]).unwrap();
        assert!(agreement.source.fourcc() != fourcc("GREY") && agreement.source.pixel_bytes() <= 640 * 360 * 2);
        freeze_pattern(&camera);
        let (camera, encoder) = open(&camera, encoder, params, &agreement, Quirks::default());
        // It is also refused if it is opened without negotiation.
        let plain = crate::devices::camera(&vivid_as_is(Planar::Multi).unwrap(), "NV12").open().unwrap();
        let other = Encoder::find(Codec::Fwht).unwrap();
        let e = Encoder::builder(Params::new(Codec::Fwht, SMALL)).device(other).open(plain.buffers().unwrap());
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Mismatch);
        round_trip(camera, encoder);
    });
}

#[test]
fn data_offset_lets_an_encoder_take_planes_at_other_rows() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Multi), h264("align=16")) else { return };
    let Some(()) = needed_path("udmabuf", "/dev/udmabuf") else { return };
    leaving_nothing(|| {
        // NV12 in one buffer with 360 rows, for an encoder that needs 368: it becomes NV12M, with an offset for each
        // plane.
        let (params, quirks) = (params(Codec::H264, SMALL), reading_offsets());
        let e = negotiate(&encoder, &camera, &params, &[fourcc("NV12")]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch);
        let agreement = negotiate_with(&encoder, &camera, &params, &[fourcc("NV12")], quirks).unwrap();
        assert_eq!((agreement.source.fourcc(), agreement.queue.fourcc()), (fourcc("NV12"), fourcc("NV12M")));
        let (mut camera, mut encoder) = open(&camera, encoder, params, &agreement, quirks);
        let mut judge = Judged::new("camera-split-planes");
        for _ in 0..6 {
            let frame = frame(&mut camera);
            judge.frame(&frame);
            judge.packet(&coded(&mut encoder, frame));
        }
        drop((camera, encoder));
    });
}

#[test]
fn crop_removes_the_last_rows_of_1088() {
    let (Some(encoder), Some(())) = (h264("align=16"), needed_path("udmabuf", "/dev/udmabuf")) else { return };
    let size = Size::new(1280, 712);
    let params = params(Codec::H264, size);
    let layout = source_layout(&encoder, &params, fourcc("NV12")).unwrap();
    assert_eq!(layout.size(), Size::new(1280, 720));
    let e = source_layout(&encoder, &params, fourcc("YUYV")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    let allocator = framelease::dmabuf::Allocator::Udmabuf;
    let builder = framelease::capture::TestPattern::builder(size).layout(layout).allocator(allocator).unpaced();
    let mut source = builder.start().unwrap();
    let mut encoder = Encoder::builder(params).device(encoder).open(source.buffers().unwrap()).unwrap();
    let frame = source.try_recv().unwrap().frame().unwrap();
    let packet = coded(&mut encoder, frame);
    // The parameter sets have frame_crop_bottom_offset in units of two rows. Other tests check it with ffmpeg.
    assert_eq!(packet.meta().size, size);
}

#[test]
fn negotiate_error_names_the_formats_of_both() {
    let (Some(camera), Some(encoder)) = (vivid(Planar::Single), h264("multiplanar=0")) else { return };
    let params = params(Codec::H264, SMALL);
    let e = agreed(&encoder, &camera, &params, &["YUYV"]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("YUYV") && e.to_string().contains("NV12"), "{e}");
    let e = agreed(&encoder, &encoder, &params, &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "an encoder is not a camera: {e}");
    let e = Camera::builder().device(encoder.clone()).open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    let e = agreed(&encoder, &camera, &Params::new(Codec::Hevc, SMALL), &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
}
