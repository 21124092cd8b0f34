/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * H.264 without compression: I_PCM macroblocks, and P_Skip for what did not change (ITU-T H.264, clauses 7.3 and
 * 7.4). What a decoder shows is what went in, byte for byte.
 */
#ifndef FL_H264_BITSTREAM_H
#define FL_H264_BITSTREAM_H

#include <linux/types.h>

/* What the parameter sets say. */
struct fl_h264_params {
	u32 width, height;		/* visible, even */
	u32 fps_num, fps_den;		/* frames are fps_den / fps_num seconds apart */
	u8 profile_idc, constraints, level_idc;
	u8 primaries, transfer, matrix;	/* H.273 codes; 2: unspecified */
	bool full_range;
};

/* An NV12 picture by its rows. The planes may be larger than the visible part. */
struct fl_h264_picture {
	const u8 *luma, *chroma;
	u32 luma_stride, chroma_stride;
};

/* Bytes go out with emulation prevention; nothing is written beyond `end`. */
struct fl_h264_writer {
	u8 *at, *end;
	u32 zeros;			/* zero bytes in a row that were written */
	u32 bits, nbits;		/* not yet a byte */
	bool overflow;
};

void fl_h264_writer_init(struct fl_h264_writer *w, void *to, size_t size);

void fl_h264_sps(struct fl_h264_writer *w, const struct fl_h264_params *p);
void fl_h264_pps(struct fl_h264_writer *w);

/*
 * One picture as one slice. `previous` is the picture before in a buffer of whole macroblocks (luma, then chroma);
 * it takes this one. In a P slice what equals it is skipped.
 */
void fl_h264_slice(struct fl_h264_writer *w, const struct fl_h264_params *p, const struct fl_h264_picture *picture,
		   u8 *previous, bool idr, u32 frame_num, u32 idr_pic_id);

/* Bytes of `previous`. */
static inline size_t fl_h264_reference_size(u32 width, u32 height)
{
	return (size_t)((width + 15) / 16) * ((height + 15) / 16) * 384;
}

/* Bytes that the largest picture can take: two pixel bytes in three may need a third byte after each. */
static inline size_t fl_h264_max_size(u32 width, u32 height)
{
	return fl_h264_reference_size(width, height) * 3 / 2 + (size_t)((width + 15) / 16) * ((height + 15) / 16) * 4 + 1024;
}

#endif
