//! The streams of the corpus.

use framelease::bitstream::Codec;

use super::change::*;
use super::paff;
use super::recipe::Recipe;

pub fn all() -> Vec<Recipe> {
    [h264(), h265(), others()].into_iter().flatten().collect()
}

fn h264() -> Vec<Recipe> {
    let x = Recipe::h264;
    vec![
        x("h264-plain", ""),
        x("h264-baseline", "").args("-profile:v baseline"),
        x("h264-slices", "slices=4"),
        x("h264-slices-of-150-bytes", "slice-max-size=150"),
        x("h264-slice-for-each-macroblock", "slice-max-mbs=1").size(80, 48),
        x("h264-mbaff", "tff=1:bframes=2"),
        x("h264-marked-interlaced", "fake-interlaced=1"),
        Recipe::written("h264-paff", Codec::H264, paff::stream),
        x("h264-b-pyramid", "bframes=3:b-adapt=0:b-pyramid=normal"),
        x("h264-open-gop", "bframes=3:b-adapt=0:open-gop=1"),
        x("h264-begins-at-recovery-point", "open-gop=1").joined(from_second_gop),
        x("h264-begins-in-open-gop", "bframes=3:b-adapt=0:open-gop=1").joined(from_second_gop),
        x("h264-intra-refresh", "intra-refresh=1"),
        x("h264-begins-in-intra-refresh", "intra-refresh=1").joined(from_second_gop),
        x("h264-all-intra", "keyint=1"),
        x("h264-one-gop", "keyint=infinite"),
        x("h264-many-references", "ref=8:bframes=2:weightp=2"),
        x("h264-cavlc-no-deblocking", "cabac=0:no-deblock=1:8x8dct=0"),
        x("h264-lossless", "qp=0"),
        x("h264-10-bit", "").pixels("yuv420p10le"),
        x("h264-422", "").pixels("yuv422p"),
        x("h264-422-10-bit-intra", "keyint=1").pixels("yuv422p10le"),
        x("h264-444", "").pixels("yuv444p"),
        x("h264-gray", "").pixels("gray"),
        x("h264-16x16", "").size(16, 16),
        x("h264-odd-crop", "").size(322, 182),
        x("h264-1080", "").size(1920, 1080).frames(6),
        x("h264-4096x2304", "").size(4096, 2304).frames(4),
        x("h264-hrd-filler", "nal-hrd=cbr:vbv-maxrate=2000:vbv-bufsize=2000:bitrate=2000:pic-struct=1"),
        x("h264-delimiters", "aud=1"),
        x("h264-number-5", "sps-id=5"),
        x("h264-sets-of-two-numbers-first", "").then_x264("sps-id=1:cabac=0").joined(with_all_sets_first),
        x("h264-sets-once", "").changed(sets_once),
        x("h264-sets-twice", "").changed(sets_twice),
        x("h264-sets-reversed", "").changed(sets_reversed).expects(
            "",
            "10 more",
            "ffmpeg drops the first PPS of the source, which comes before its SPS; from sinks it gets the sets in order",
        ),
        x("h264-changing-size", "").then_size(96, 64).then_size(208, 144).expects(
            "file",
            "same, 3 files",
            OTHER_STREAM,
        ),
        x("h264-changing-pps", "").then_x264("cabac=0").then_x264("weightp=2:chroma-qp-offset=3"),
        x("h264-messages-first", "").changed(messages_first),
        x("h264-long-messages", "").changed(long_messages),
        x("h264-short-start-codes", "slices=2").changed(short_start_codes),
        x("h264-both-start-codes", "slices=2").changed(both_start_codes),
        x("h264-trailing-zeros", "slices=2").changed(trailing_zeros),
        x("h264-leading-zeros", "slices=2").changed(leading_zeros),
        x("h264-empty-units", "").changed(empty_units),
        x("h264-filler-units", "").changed(filler),
        x("h264-end-of-sequence", "").changed(end_of_sequence),
        x("h264-prefix-units", "slices=2").changed(prefix_units),
        x("h264-reserved-types", "").changed(reserved_types),
        x("h264-unspecified-types", "").changed(unspecified_types),
    ]
}

fn h265() -> Vec<Recipe> {
    let x = Recipe::h265;
    vec![
        x("h265-plain", ""),
        x("h265-slices", "slices=4").size(320, 256),
        x("h265-wavefronts", "wpp=1:ctu=16").size(320, 192),
        x("h265-b-pyramid", "bframes=3:b-adapt=0:b-pyramid=1"),
        x("h265-open-gop", "bframes=3:b-adapt=0:open-gop=1"),
        x("h265-begins-in-open-gop", "bframes=3:b-adapt=0:open-gop=1").joined(from_second_gop),
        x("h265-intra-refresh", "intra-refresh=1"),
        x("h265-all-intra", "keyint=1:min-keyint=1"),
        x("h265-fields", "interlace=tff"),
        x("h265-temporal-layers", "temporal-layers=1:bframes=3:b-adapt=0"),
        x("h265-10-bit", "").pixels("yuv420p10le"),
        x("h265-12-bit", "").pixels("yuv420p12le"),
        x("h265-422", "").pixels("yuv422p"),
        x("h265-444", "").pixels("yuv444p"),
        x("h265-gray", "").pixels("gray"),
        x("h265-lossless", "lossless=1"),
        x("h265-16x16", "ctu=16:min-cu-size=8").size(16, 16),
        x("h265-odd-crop", "").size(322, 182),
        x("h265-4096x2304", "").size(4096, 2304).frames(3),
        x("h265-hrd-delimiters", "hrd=1:vbv-maxrate=800:vbv-bufsize=800:bitrate=800:aud=1"),
        x("h265-changing-pps", "opt-qp-pps=1:opt-ref-list-length-pps=1"),
        x("h265-changing-size", "").then_size(96, 64).then_size(208, 144).expects(
            "file",
            "same, 3 files",
            OTHER_STREAM,
        ),
        x("h265-sets-once", "").changed(sets_once),
        x("h265-sets-twice", "").changed(sets_twice),
        x("h265-messages-first", "").changed(messages_first),
        x("h265-long-messages", "").changed(long_messages),
        x("h265-short-start-codes", "").changed(short_start_codes),
        x("h265-trailing-zeros", "").changed(trailing_zeros),
        x("h265-filler-units", "").changed(filler),
        x("h265-end-of-sequence", "").changed(end_of_sequence),
        x("h265-reserved-types", "").changed(reserved_types),
        x("h265-unspecified-types", "").changed(unspecified_types),
    ]
}

const OTHER_STREAM: &str = "a recorder begins a file with each size";
/// ffmpeg's 4:2:2 has MCUs of 16x16.
const SAMPLING: &str = "RFC 2435 has 4:2:0, and 4:2:2 with MCUs of 16x8";

fn others() -> Vec<Recipe> {
    let (v, j) = (Recipe::vp8, Recipe::jpeg);
    vec![
        v("vp8-plain", ""),
        v("vp8-odd-size", "").size(175, 143),
        v("vp8-1x1", "").size(1, 1),
        v("vp8-partitions", "-slices 8").size(320, 256),
        v("vp8-hidden-frames", "-deadline good -auto-alt-ref 1 -lag-in-frames 10 -g 25 -b:v 100k"),
        v("vp8-error-resilient", "-error-resilient 1"),
        v("vp8-changing-size", "").then_size(96, 64).then_size(176, 144),
        v("vp8-4096x2304", "").size(4096, 2304).frames(3),
        j("jpeg-420", "-huffman default"),
        j("jpeg-422", "-huffman default").pixels("yuvj422p").expects("ffmpeg", "25 missing; 25 refused", SAMPLING),
        j("jpeg-444", "-huffman default").pixels("yuvj444p").expects("ffmpeg", "25 missing; 25 refused", SAMPLING),
        j("jpeg-restart-markers", "-huffman default -threads 2 -thread_type slice"),
        j("jpeg-own-tables", "-huffman optimal").expects(
            "ffmpeg",
            "25 missing; 25 refused",
            "RFC 2435 has the Huffman tables of Annex K alone",
        ),
        j("jpeg-odd-size", "-huffman default").size(161, 97).expects(
            "ffmpeg",
            "25 differ, 25 frames",
            "RFC 2435 counts blocks of 8, so receivers get a picture of 168x104",
        ),
        j("jpeg-16x16", "-huffman default").size(16, 16),
        j("jpeg-2048-wide", "-huffman default").size(2048, 96).frames(6).expects(
            "ffmpeg",
            "6 missing; 6 refused",
            "RFC 2435 has sides of up to 2040",
        ),
        j("jpeg-changing-size", "-huffman default").then_size(96, 64),
    ]
}
