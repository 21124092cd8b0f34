// SPDX-License-Identifier: GPL-2.0-only
/*
 * The writer of fl_h264: NAL units of Annex B, parameter sets, slices of I_PCM and P_Skip macroblocks.
 * Clause numbers are ITU-T H.264's.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "bitstream.h"

enum {
	NAL_SLICE = 1,
	NAL_IDR = 5,
	NAL_SPS = 7,
	NAL_PPS = 8,
};

void fl_h264_writer_init(struct fl_h264_writer *w, void *to, size_t size)
{
	memset(w, 0, sizeof(*w));
	w->at = to;
	w->end = w->at + size;
}

static void put_raw(struct fl_h264_writer *w, u8 byte)
{
	if (w->at == w->end) {
		w->overflow = true;
		return;
	}
	*w->at++ = byte;
}

/* A byte of an RBSP: 7.4.1 keeps start codes out. */
static void put_byte(struct fl_h264_writer *w, u8 byte)
{
	if (w->zeros == 2 && byte <= 3) {
		put_raw(w, 3);
		w->zeros = 0;
	}
	put_raw(w, byte);
	w->zeros = byte ? 0 : w->zeros + 1;
}

static void u(struct fl_h264_writer *w, u32 count, u32 value)
{
	while (count--) {
		w->bits = w->bits << 1 | (value >> count & 1);
		if (++w->nbits == 8) {
			put_byte(w, w->bits);
			w->bits = 0;
			w->nbits = 0;
		}
	}
}

/* 9.1 */
static void ue(struct fl_h264_writer *w, u32 value)
{
	u32 length = fls(value + 1);

	u(w, length - 1, 0);
	u(w, length, value + 1);
}

static void se(struct fl_h264_writer *w, s32 value)
{
	ue(w, value > 0 ? 2 * value - 1 : -2 * value);
}

static void align_zero(struct fl_h264_writer *w)
{
	if (w->nbits)
		u(w, 8 - w->nbits, 0);
}

static void nal_begin(struct fl_h264_writer *w, u32 ref_idc, u32 type)
{
	put_raw(w, 0);
	put_raw(w, 0);
	put_raw(w, 0);
	put_raw(w, 1);
	put_raw(w, ref_idc << 5 | type);
	w->zeros = 0;
}

/* 7.3.2.11 */
static void nal_end(struct fl_h264_writer *w)
{
	u(w, 1, 1);
	align_zero(w);
}

/* E.1.1: colors and timing, which users want to see in a player. */
static void vui(struct fl_h264_writer *w, const struct fl_h264_params *p)
{
	u(w, 1, 0);				/* aspect_ratio_info_present_flag */
	u(w, 1, 0);				/* overscan_info_present_flag */
	u(w, 1, 1);				/* video_signal_type_present_flag */
	u(w, 3, 5);				/* video_format: unspecified */
	u(w, 1, p->full_range);
	u(w, 1, 1);				/* color_description_present_flag */
	u(w, 8, p->primaries);
	u(w, 8, p->transfer);
	u(w, 8, p->matrix);
	u(w, 1, 0);				/* chroma_loc_info_present_flag */
	u(w, 1, 1);				/* timing_info_present_flag */
	u(w, 32, p->fps_den);			/* num_units_in_tick; a frame has two ticks */
	u(w, 32, 2 * p->fps_num);		/* time_scale */
	u(w, 1, 1);				/* fixed_frame_rate_flag */
	u(w, 1, 0);				/* nal_hrd_parameters_present_flag */
	u(w, 1, 0);				/* vcl_hrd_parameters_present_flag */
	u(w, 1, 0);				/* pic_struct_present_flag */
	u(w, 1, 1);				/* bitstream_restriction_flag: no frame waits for another */
	u(w, 1, 1);				/* motion_vectors_over_pic_boundaries_flag */
	ue(w, 0);				/* max_bytes_per_pic_denom: no limit */
	ue(w, 0);				/* max_bits_per_mb_denom */
	ue(w, 0);				/* log2_max_mv_length_horizontal */
	ue(w, 0);				/* log2_max_mv_length_vertical */
	ue(w, 0);				/* max_num_reorder_frames */
	ue(w, 1);				/* max_dec_frame_buffering */
}

/* 7.3.2.1.1 */
void fl_h264_sps(struct fl_h264_writer *w, const struct fl_h264_params *p)
{
	u32 right = (-p->width & 15) / 2, bottom = (-p->height & 15) / 2;

	nal_begin(w, 3, NAL_SPS);
	u(w, 8, p->profile_idc);
	u(w, 8, p->constraints);
	u(w, 8, p->level_idc);
	ue(w, 0);				/* seq_parameter_set_id */
	ue(w, 0);				/* log2_max_frame_num_minus4 */
	ue(w, 2);				/* pic_order_cnt_type: output in decoding order */
	ue(w, 1);				/* max_num_ref_frames */
	u(w, 1, 0);				/* gaps_in_frame_num_value_allowed_flag */
	ue(w, (p->width + 15) / 16 - 1);
	ue(w, (p->height + 15) / 16 - 1);
	u(w, 1, 1);				/* frame_mbs_only_flag */
	u(w, 1, 1);				/* direct_8x8_inference_flag */
	u(w, 1, right || bottom);
	if (right || bottom) {
		ue(w, 0);
		ue(w, right);			/* in units of a chroma sample */
		ue(w, 0);
		ue(w, bottom);
	}
	u(w, 1, 1);				/* vui_parameters_present_flag */
	vui(w, p);
	nal_end(w);
}

/* 7.3.2.2 */
void fl_h264_pps(struct fl_h264_writer *w)
{
	nal_begin(w, 3, NAL_PPS);
	ue(w, 0);				/* pic_parameter_set_id */
	ue(w, 0);				/* seq_parameter_set_id */
	u(w, 1, 0);				/* entropy_coding_mode_flag: CAVLC */
	u(w, 1, 0);				/* bottom_field_pic_order_in_frame_present_flag */
	ue(w, 0);				/* num_slice_groups_minus1 */
	ue(w, 0);				/* num_ref_idx_l0_default_active_minus1 */
	ue(w, 0);				/* num_ref_idx_l1_default_active_minus1 */
	u(w, 1, 0);				/* weighted_pred_flag */
	u(w, 2, 0);				/* weighted_bipred_idc */
	se(w, 0);				/* pic_init_qp_minus26 */
	se(w, 0);				/* pic_init_qs_minus26 */
	se(w, 0);				/* chroma_qp_index_offset */
	u(w, 1, 1);				/* deblocking_filter_control_present_flag */
	u(w, 1, 0);				/* constrained_intra_pred_flag */
	u(w, 1, 0);				/* redundant_pic_cnt_present_flag */
	nal_end(w);
}

/* 7.3.3 */
static void slice_header(struct fl_h264_writer *w, bool idr, u32 frame_num, u32 idr_pic_id)
{
	ue(w, 0);				/* first_mb_in_slice */
	ue(w, idr ? 7 : 5);			/* slice_type: all slices are I, or P */
	ue(w, 0);				/* pic_parameter_set_id */
	u(w, 4, frame_num & 15);
	if (idr) {
		ue(w, idr_pic_id & 0xffff);
		u(w, 1, 0);			/* no_output_of_prior_pics_flag */
		u(w, 1, 0);			/* long_term_reference_flag */
	} else {
		u(w, 1, 0);			/* num_ref_idx_active_override_flag */
		u(w, 1, 0);			/* ref_pic_list_modification_flag_l0 */
		u(w, 1, 0);			/* adaptive_ref_pic_marking_mode_flag */
	}
	se(w, 0);				/* slice_qp_delta */
	ue(w, 1);				/* disable_deblocking_filter_idc */
}

/* Collects one macroblock: luma, Cb, Cr. Beyond the visible part its last row and column go on. */
static void macroblock(const struct fl_h264_params *p, const struct fl_h264_picture *picture, u32 left, u32 top,
		       u8 mb[384])
{
	u32 x, y;

	for (y = 0; y < 16; y++) {
		const u8 *row = picture->luma + (size_t)min(top + y, p->height - 1) * picture->luma_stride;

		for (x = 0; x < 16; x++)
			mb[16 * y + x] = row[min(left + x, p->width - 1)];
	}
	for (y = 0; y < 8; y++) {
		const u8 *row = picture->chroma + (size_t)min(top / 2 + y, p->height / 2 - 1) * picture->chroma_stride;

		for (x = 0; x < 8; x++) {
			const u8 *pair = row + 2 * min(left / 2 + x, p->width / 2 - 1);

			mb[256 + 8 * y + x] = pair[0];
			mb[320 + 8 * y + x] = pair[1];
		}
	}
}

/* 7.3.4, 7.3.5 */
void fl_h264_slice(struct fl_h264_writer *w, const struct fl_h264_params *p, const struct fl_h264_picture *picture,
		   u8 *previous, bool idr, u32 frame_num, u32 idr_pic_id)
{
	u32 columns = (p->width + 15) / 16, rows = (p->height + 15) / 16, skipped = 0, i, at;
	u8 mb[384];

	nal_begin(w, idr ? 3 : 2, idr ? NAL_IDR : NAL_SLICE);
	slice_header(w, idr, frame_num, idr_pic_id);
	for (i = 0; i < columns * rows; i++, previous += sizeof(mb)) {
		macroblock(p, picture, i % columns * 16, i / columns * 16, mb);
		if (!idr && !memcmp(mb, previous, sizeof(mb))) {
			skipped++;
			continue;
		}
		memcpy(previous, mb, sizeof(mb));
		if (!idr)
			ue(w, skipped);		/* mb_skip_run */
		skipped = 0;
		ue(w, idr ? 25 : 30);		/* mb_type: I_PCM */
		align_zero(w);
		for (at = 0; at < sizeof(mb); at++)
			put_byte(w, mb[at]);
	}
	if (skipped)
		ue(w, skipped);
	nal_end(w);
}
