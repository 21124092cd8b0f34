// SPDX-License-Identifier: GPL-2.0-only
/*
 * fl_h264: a stateful H.264 encoder in software, for the tests of framelease (Documentation/userspace-api/media/v4l/
 * dev-encoder.rst). Lossless, so that a decoder must show exactly what went in; see bitstream.h.
 *
 * Module parameters switch on the habits of real drivers. They are read when the file is opened, `multiplanar` when
 * the module is loaded.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <media/v4l2-ctrls.h>
#include <media/v4l2-device.h>
#include <media/v4l2-event.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-ioctl.h>
#include <media/v4l2-mem2mem.h>
#include <media/videobuf2-vmalloc.h>

#include "bitstream.h"

#define NAME "fl_h264"
#define MIN_SIDE 16
#define MAX_WIDTH 4096
#define MAX_HEIGHT 2304
#define MAX_STRIDE 16384

static bool multiplanar = true;
module_param(multiplanar, bool, 0444);
MODULE_PARM_DESC(multiplanar, "the multi-planar API, with NV12 and NV12M; else single-planar with NV12");

static unsigned int align = 1;
module_param(align, uint, 0644);
MODULE_PARM_DESC(align, "stride and height of a source are multiples of this");

static bool key_flags = true;
module_param(key_flags, bool, 0644);
MODULE_PARM_DESC(key_flags, "mark key frames with V4L2_BUF_FLAG_KEYFRAME");

static bool broken_start;
module_param(broken_start, bool, 0644);
MODULE_PARM_DESC(broken_start, "V4L2_ENC_CMD_START does not end the EPIPE of VIDIOC_DQBUF");

static unsigned int error_every;
module_param(error_every, uint, 0644);
MODULE_PARM_DESC(error_every, "every n-th coded frame comes damaged; 0: none");

static unsigned int drop_every;
module_param(drop_every, uint, 0644);
MODULE_PARM_DESC(drop_every, "every n-th source gives no packet, as where a rate control skips frames; 0: none");

static bool tight;
module_param(tight, bool, 0644);
MODULE_PARM_DESC(tight, "bitstream buffers are as small as asked; what does not fit is empty and damaged");

static unsigned int min_buffers = 1;
module_param(min_buffers, uint, 0644);
MODULE_PARM_DESC(min_buffers, "least number of buffers of each queue");

static unsigned int delay;
module_param(delay, uint, 0644);
MODULE_PARM_DESC(delay, "frames that wait before the first comes out");

static bool hides_delay;
module_param(hides_delay, bool, 0644);
MODULE_PARM_DESC(hides_delay, "the control for the least number of sources does not count the delay");

static unsigned int pause;
module_param(pause, uint, 0644);
MODULE_PARM_DESC(pause, "milliseconds that a job waits before it lets go of its source, and before its packet is done");

static bool misses_drain;
module_param(misses_drain, bool, 0644);
MODULE_PARM_DESC(misses_drain, "the last frame of a drain is not flagged, as if the drain had come too late");

static unsigned int fails_after;
module_param(fails_after, uint, 0644);
MODULE_PARM_DESC(fails_after, "after n packets only POLLERR says that the encoder has failed, as in vsi_v4l2enc; 0: never");

static bool vsi;
module_param(vsi, bool, 0644);
MODULE_PARM_DESC(vsi, "the states of vsi_v4l2enc (i.MX8MM, 8MP) decide what DQBUF answers, on both queues");

static bool amphion;
module_param(amphion, bool, 0644);
MODULE_PARM_DESC(amphion, "as the encoder of i.MX8QM and 8QXP: both queues restart or none, a drain ends without a last buffer");

static bool venus;
module_param(venus, bool, 0644);
MODULE_PARM_DESC(venus, "as Qualcomm's encoder: a queue that stops takes the other's buffers, and only REQBUFS makes a session");

static bool coda;
module_param(coda, bool, 0644);
MODULE_PARM_DESC(coda, "as the encoder of i.MX6: V4L2_ENC_CMD_START is another STOP");

static bool bcm2835;
module_param(bcm2835, bool, 0644);
MODULE_PARM_DESC(bcm2835, "as on a Raspberry Pi: a restart continues the stream, and START does nothing");

static bool late_key;
module_param(late_key, bool, 0644);
MODULE_PARM_DESC(late_key, "V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME means the next encoded frame, not the next queued");

static bool cache_hints;
module_param(cache_hints, bool, 0644);
MODULE_PARM_DESC(cache_hints, "take the hint for cached buffers");

static bool swaps_range;
module_param(swaps_range, bool, 0644);
MODULE_PARM_DESC(swaps_range, "headers name the other range");

static char *card = "framelease test H.264 encoder";
module_param(card, charp, 0444);
MODULE_PARM_DESC(card, "the name of the card");

static bool ignores_offset;
module_param(ignores_offset, bool, 0644);
MODULE_PARM_DESC(ignores_offset, "data_offset is accepted and not used");

/*
 * What vsi_v4l2enc does, by its source. It runs from the first buffer on each side. STREAMOFF of either queue halts it,
 * and so does the packet that ends a drain. While it is halted, DQBUF answers EPIPE on both queues, also for a source
 * that was read. It runs again when both queues stream and have a buffer. Before its first run, STREAMOFF does nothing.
 */
enum vsi_state { VSI_NEW, VSI_RUNS, VSI_DRAINS, VSI_HALTED };

/*
 * What amphion does, by its source. A session begins when both queues stream, and ends when both have stopped. If one
 * queue alone restarts, the firmware gets the commands of a second session. What it then does is not known: here, both
 * queues fail. The end of a drain is EPIPE after the last packet, without V4L2_BUF_FLAG_LAST and also if no buffer is
 * queued. V4L2_ENC_CMD_START does nothing. A packet that does not fit stays: every later buffer is damaged.
 *
 * What Venus does: STREAMOFF of either queue ends the session and returns the buffers of both as damaged. REQBUFS of
 * either queue makes a session. Both queues can only stream with one.
 */
enum { SRC, DST };

struct fl_dev {
	struct v4l2_device v4l2;
	struct video_device video;
	struct v4l2_m2m_dev *m2m;
	struct workqueue_struct *queue;
	struct mutex lock;
};

struct fl_buffer {
	struct v4l2_m2m_buffer m2m;
	/* V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME was pressed before it was queued. */
	bool key;
};

struct fl_ctx {
	struct v4l2_fh fh;
	struct fl_dev *dev;
	struct v4l2_ctrl_handler controls;
	struct mutex queue_lock;
	/*
	 * No STOP comes between a job's look for the last source and its packet: no job would flag that packet, or an
	 * empty buffer flagged LAST would overtake it.
	 */
	struct mutex drain_lock;
	struct work_struct work;
	struct v4l2_pix_format_mplane source;
	struct v4l2_rect crop;
	u32 coded_size;
	struct v4l2_fract interval;
	u32 sequences[2];
	/* Controls. */
	int gop, header_mode, repeat_headers, prepend_headers, profile, level;
	bool key_wanted;
	/* The stream. */
	u8 *previous;
	size_t previous_size;
	bool headers_sent, idr_next;
	u32 since_idr, frame_num, idr_pic_id, coded, taken;
	/* Parameters at the time of opening. */
	unsigned int align, error_every, drop_every, delay, pause, fails_after;
	bool key_flags, broken_start, misses_drain, tight, vsi, amphion, venus, coda, bcm2835, late_key;
	enum vsi_state state;
	bool session, stuck, drained, has_streamed;
};

static struct fl_ctx *ctx_of(struct file *file)
{
	return container_of(file->private_data, struct fl_ctx, fh);
}

static bool has_failed(const struct fl_ctx *ctx)
{
	return ctx->fails_after && ctx->coded >= ctx->fails_after;
}

static struct fl_buffer *buffer_of(struct vb2_v4l2_buffer *vb)
{
	return container_of(vb, struct fl_buffer, m2m.vb);
}

static const struct v4l2_event eos = { .type = V4L2_EVENT_EOS };

/* Encoding */

static u8 level_idc(int level)
{
	static const u8 codes[] = { 10, 9, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52, 60, 61, 62 };

	return codes[clamp_t(int, level, 0, ARRAY_SIZE(codes) - 1)];
}

static void params_of(const struct fl_ctx *ctx, struct fl_h264_params *p)
{
	const struct v4l2_pix_format_mplane *pix = &ctx->source;
	u32 matrix = pix->ycbcr_enc, range = pix->quantization;

	memset(p, 0, sizeof(*p));
	p->width = ctx->crop.width;
	p->height = ctx->crop.height;
	p->fps_num = ctx->interval.denominator;
	p->fps_den = ctx->interval.numerator;
	p->level_idc = level_idc(ctx->level);
	switch (ctx->profile) {
	case V4L2_MPEG_VIDEO_H264_PROFILE_MAIN:
		p->profile_idc = 77;
		p->constraints = 0x40;
		break;
	case V4L2_MPEG_VIDEO_H264_PROFILE_BASELINE:
		p->profile_idc = 66;
		p->constraints = 0x80;
		break;
	default:
		p->profile_idc = 66;
		p->constraints = 0xc0;
	}
	if (matrix == V4L2_YCBCR_ENC_DEFAULT)
		matrix = V4L2_MAP_YCBCR_ENC_DEFAULT(pix->colorspace);
	if (range == V4L2_QUANTIZATION_DEFAULT)
		range = V4L2_MAP_QUANTIZATION_DEFAULT(false, pix->colorspace, matrix);
	p->full_range = (range == V4L2_QUANTIZATION_FULL_RANGE) != swaps_range;
	p->matrix = matrix == V4L2_YCBCR_ENC_709 ? 1 : matrix == V4L2_YCBCR_ENC_BT2020 ? 9 : 6;
	if (ctx->vsi || ctx->amphion) {
		/* Nothing is derived from the color space. */
		p->full_range = pix->quantization == V4L2_QUANTIZATION_FULL_RANGE;
		p->matrix = pix->ycbcr_enc == V4L2_YCBCR_ENC_DEFAULT ? 2 : p->matrix;
	}
	switch (pix->colorspace) {
	case V4L2_COLORSPACE_REC709:
		p->primaries = p->transfer = 1;
		break;
	case V4L2_COLORSPACE_SRGB:
	case V4L2_COLORSPACE_JPEG:
		p->primaries = 1;
		p->transfer = 13;
		break;
	case V4L2_COLORSPACE_BT2020:
		p->primaries = 9;
		p->transfer = 14;
		break;
	case V4L2_COLORSPACE_SMPTE170M:
		p->primaries = p->transfer = 6;
		break;
	default:
		p->primaries = p->transfer = 2;
	}
}

static bool picture_of(const struct fl_ctx *ctx, struct vb2_buffer *vb, struct fl_h264_picture *picture)
{
	const struct v4l2_pix_format_mplane *pix = &ctx->source;
	u32 stride = pix->plane_fmt[0].bytesperline;
	const u8 *luma = vb2_plane_vaddr(vb, 0), *chroma;

	if (!luma)
		return false;
	luma += ignores_offset ? 0 : vb->planes[0].data_offset;
	chroma = luma + (size_t)stride * pix->height;
	picture->chroma_stride = stride;
	if (pix->num_planes == 2) {
		chroma = vb2_plane_vaddr(vb, 1);
		if (!chroma)
			return false;
		chroma += ignores_offset ? 0 : vb->planes[1].data_offset;
		picture->chroma_stride = pix->plane_fmt[1].bytesperline;
	}
	picture->luma_stride = stride;
	picture->luma = luma + (size_t)ctx->crop.top * stride + ctx->crop.left;
	picture->chroma = chroma + (size_t)(ctx->crop.top / 2) * picture->chroma_stride + ctx->crop.left;
	return true;
}

/* A new stream begins with parameter sets and an IDR picture. */
static void reset(struct fl_ctx *ctx)
{
	ctx->headers_sent = false;
	ctx->idr_next = true;
	ctx->since_idr = 0;
}

static bool prepare_reference(struct fl_ctx *ctx)
{
	size_t size = fl_h264_reference_size(ctx->crop.width, ctx->crop.height);

	if (ctx->previous && ctx->previous_size == size)
		return true;
	kvfree(ctx->previous);
	ctx->previous = kvzalloc(size, GFP_KERNEL);
	ctx->previous_size = size;
	return ctx->previous;
}

/* Says whether a whole picture was written; `key` then tells its kind. */
static bool encode(struct fl_ctx *ctx, struct vb2_v4l2_buffer *src, struct vb2_v4l2_buffer *dst, bool *key)
{
	struct vb2_buffer *vb = &dst->vb2_buf;
	struct fl_h264_picture picture;
	struct fl_h264_params params;
	struct fl_h264_writer writer;
	u8 *to = vb2_plane_vaddr(vb, 0);

	vb2_set_plane_payload(vb, 0, 0);
	if (!to || !picture_of(ctx, &src->vb2_buf, &picture) || !prepare_reference(ctx))
		return false;
	params_of(ctx, &params);
	fl_h264_writer_init(&writer, to, vb2_plane_size(vb, 0));
	if (ctx->late_key) {
		buffer_of(src)->key = ctx->key_wanted;
		ctx->key_wanted = false;
	}
	*key = ctx->idr_next || buffer_of(src)->key || (ctx->gop && ctx->since_idr >= ctx->gop);
	if (*key) {
		ctx->since_idr = 0;
		ctx->frame_num = 0;
		ctx->idr_pic_id++;
		if (!ctx->headers_sent || ctx->repeat_headers || ctx->prepend_headers) {
			fl_h264_sps(&writer, &params);
			fl_h264_pps(&writer);
		}
	}
	fl_h264_slice(&writer, &params, &picture, ctx->previous, *key, ctx->frame_num, ctx->idr_pic_id);
	ctx->frame_num++;
	ctx->since_idr++;
	if (writer.overflow || ctx->stuck) {
		ctx->stuck = ctx->amphion;
		reset(ctx);
		return false;
	}
	ctx->headers_sent = true;
	ctx->idr_next = false;
	vb2_set_plane_payload(vb, 0, writer.at - to);
	ctx->coded++;
	if (ctx->error_every && ctx->coded % ctx->error_every == 0) {
		/* Half a picture; the next one is whole again. */
		vb2_set_plane_payload(vb, 0, (writer.at - to) / 2);
		ctx->idr_next = true;
		return false;
	}
	return true;
}

/* Parameter sets in a buffer of their own. */
static void send_headers(struct fl_ctx *ctx, const struct vb2_v4l2_buffer *src, struct vb2_v4l2_buffer *dst)
{
	struct fl_h264_params params;
	struct fl_h264_writer writer;
	u8 *to = vb2_plane_vaddr(&dst->vb2_buf, 0);

	fl_h264_writer_init(&writer, to, to ? vb2_plane_size(&dst->vb2_buf, 0) : 0);
	params_of(ctx, &params);
	fl_h264_sps(&writer, &params);
	fl_h264_pps(&writer);
	vb2_set_plane_payload(&dst->vb2_buf, 0, writer.at - to);
	ctx->headers_sent = true;
	v4l2_m2m_buf_copy_metadata(src, dst, true);
	dst->flags &= ~(V4L2_BUF_FLAG_KEYFRAME | V4L2_BUF_FLAG_PFRAME | V4L2_BUF_FLAG_BFRAME);
	dst->sequence = ctx->sequences[DST]++;
	v4l2_m2m_buf_done(dst, VB2_BUF_STATE_DONE);
}

/* A stream that ends without a last packet ends by an empty buffer. */
static void end_empty(struct fl_ctx *ctx, struct vb2_v4l2_buffer *dst)
{
	vb2_set_plane_payload(&dst->vb2_buf, 0, 0);
	dst->field = V4L2_FIELD_NONE;
	dst->sequence = ctx->sequences[DST]++;
	v4l2_m2m_last_buffer_done(ctx->fh.m2m_ctx, dst);
	v4l2_event_queue_fh(&ctx->fh, &eos);
}

static void drop_source(struct fl_ctx *ctx, struct vb2_v4l2_buffer *src)
{
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;
	bool last;

	mutex_lock(&ctx->drain_lock);
	last = v4l2_m2m_is_last_draining_src_buf(m2m, src);
	v4l2_m2m_src_buf_remove(m2m);
	src->sequence = ctx->sequences[SRC]++;
	v4l2_m2m_buf_done(src, VB2_BUF_STATE_DONE);
	if (last)
		end_empty(ctx, v4l2_m2m_dst_buf_remove(m2m));
	mutex_unlock(&ctx->drain_lock);
}

/* The stream ends after its last packet was dequeued, without a buffer. */
static void amphion_drained(struct fl_ctx *ctx)
{
	struct vb2_queue *dst = v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx);

	ctx->drained = true;
	if (list_empty(&dst->done_list)) {
		dst->last_buffer_dequeued = true;
		wake_up(&dst->done_wq);
	}
}

static void work(struct work_struct *item)
{
	struct fl_ctx *ctx = container_of(item, struct fl_ctx, work);
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;
	struct vb2_v4l2_buffer *src = v4l2_m2m_next_src_buf(m2m), *dst;
	enum vb2_buffer_state state = VB2_BUF_STATE_DONE;
	bool key = false, last;

	if (!ctx->headers_sent && ctx->header_mode == V4L2_MPEG_VIDEO_HEADER_MODE_SEPARATE) {
		send_headers(ctx, src, v4l2_m2m_dst_buf_remove(m2m));
		v4l2_m2m_job_finish(ctx->dev->m2m, m2m);
		return;
	}
	if (ctx->drop_every && ++ctx->taken % ctx->drop_every == 0) {
		drop_source(ctx, src);
		v4l2_m2m_job_finish(ctx->dev->m2m, m2m);
		return;
	}
	dst = v4l2_m2m_dst_buf_remove(m2m);
	if (!encode(ctx, src, dst, &key))
		state = VB2_BUF_STATE_ERROR;
	mutex_lock(&ctx->drain_lock);
	last = v4l2_m2m_is_last_draining_src_buf(m2m, src) && !ctx->misses_drain;
	msleep(ctx->pause);
	v4l2_m2m_src_buf_remove(m2m);
	msleep(ctx->pause);
	v4l2_m2m_buf_copy_metadata(src, dst, true);
	dst->flags &= ~(V4L2_BUF_FLAG_KEYFRAME | V4L2_BUF_FLAG_PFRAME | V4L2_BUF_FLAG_BFRAME);
	if (ctx->key_flags)
		dst->flags |= key ? V4L2_BUF_FLAG_KEYFRAME : V4L2_BUF_FLAG_PFRAME;
	src->sequence = ctx->sequences[SRC]++;
	dst->sequence = ctx->sequences[DST]++;
	if (last) {
		if (!ctx->amphion)
			dst->flags |= V4L2_BUF_FLAG_LAST;
		v4l2_m2m_mark_stopped(m2m);
		v4l2_event_queue_fh(&ctx->fh, &eos);
	}
	v4l2_m2m_buf_done(src, VB2_BUF_STATE_DONE);
	v4l2_m2m_buf_done(dst, state);
	if (last && ctx->amphion)
		amphion_drained(ctx);
	mutex_unlock(&ctx->drain_lock);
	v4l2_m2m_job_finish(ctx->dev->m2m, m2m);
}

static void run(void *priv)
{
	struct fl_ctx *ctx = priv;

	queue_work(ctx->dev->queue, &ctx->work);
}

/* Frames that are held back stay in their queue, so that a drain finds them there. */
static int job_ready(void *priv)
{
	struct fl_ctx *ctx = priv;
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;

	if (has_failed(ctx))
		return 0;
	return m2m->is_draining || v4l2_m2m_num_src_bufs_ready(m2m) > ctx->delay;
}

static const struct v4l2_m2m_ops m2m_ops = { .device_run = run, .job_ready = job_ready };

/* Queues */

static int queue_setup(struct vb2_queue *q, unsigned int *count, unsigned int *planes, unsigned int sizes[],
		       struct device *devices[])
{
	struct fl_ctx *ctx = vb2_get_drv_priv(q);
	bool out = V4L2_TYPE_IS_OUTPUT(q->type);
	unsigned int i, needed_planes = out ? ctx->source.num_planes : 1;

	if (*planes && *planes != needed_planes)
		return -EINVAL;
	for (i = 0; i < needed_planes; i++) {
		u32 needed = out ? ctx->source.plane_fmt[i].sizeimage : ctx->coded_size;

		if (*planes && sizes[i] < needed)
			return -EINVAL;
		if (!*planes)
			sizes[i] = needed;
	}
	*planes = needed_planes;
	if (ctx->venus)
		ctx->session = true;
	return 0;
}

static int buf_out_validate(struct vb2_buffer *vb)
{
	struct vb2_v4l2_buffer *v4l2 = to_vb2_v4l2_buffer(vb);

	if (v4l2->field == V4L2_FIELD_ANY)
		v4l2->field = V4L2_FIELD_NONE;
	return v4l2->field == V4L2_FIELD_NONE ? 0 : -EINVAL;
}

static int buf_prepare(struct vb2_buffer *vb)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);
	unsigned int i;

	if (!V4L2_TYPE_IS_OUTPUT(vb->type))
		return 0;
	for (i = 0; i < ctx->source.num_planes; i++) {
		u32 offset = vb->planes[i].data_offset;

		if (vb2_plane_size(vb, i) < (u64)offset + ctx->source.plane_fmt[i].sizeimage)
			return -EINVAL;
	}
	return 0;
}

static void buf_queue(struct vb2_buffer *vb)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;
	struct vb2_v4l2_buffer *v4l2 = to_vb2_v4l2_buffer(vb);
	bool ends;

	mutex_lock(&ctx->drain_lock);
	ends = !V4L2_TYPE_IS_OUTPUT(vb->type) && vb2_is_streaming(vb->vb2_queue) && v4l2_m2m_dst_buf_is_last(m2m);
	if (V4L2_TYPE_IS_OUTPUT(vb->type) && !ctx->late_key) {
		buffer_of(v4l2)->key = ctx->key_wanted;
		ctx->key_wanted = false;
	}
	if (ends && !ctx->amphion) {
		/* The stream has ended and had no buffer to say so. */
		end_empty(ctx, v4l2);
	} else {
		v4l2_m2m_buf_queue(m2m, v4l2);
	}
	mutex_unlock(&ctx->drain_lock);
}

static struct vb2_queue *other(struct vb2_queue *q)
{
	struct v4l2_m2m_ctx *m2m = ((struct fl_ctx *)vb2_get_drv_priv(q))->fh.m2m_ctx;

	return V4L2_TYPE_IS_OUTPUT(q->type) ? v4l2_m2m_get_dst_vq(m2m) : v4l2_m2m_get_src_vq(m2m);
}

static void give_back(struct vb2_queue *q, enum vb2_buffer_state state)
{
	struct v4l2_m2m_ctx *m2m = ((struct fl_ctx *)vb2_get_drv_priv(q))->fh.m2m_ctx;
	struct vb2_v4l2_buffer *vb;

	for (;;) {
		vb = V4L2_TYPE_IS_OUTPUT(q->type) ? v4l2_m2m_src_buf_remove(m2m) : v4l2_m2m_dst_buf_remove(m2m);
		if (!vb)
			break;
		v4l2_m2m_buf_done(vb, state);
	}
}

/* Says whether a session can run when this queue starts; see above. */
static int start_session(struct fl_ctx *ctx, struct vb2_queue *q)
{
	if (!vb2_is_streaming(other(q)))
		return 0;
	if (ctx->venus)
		return ctx->session ? 0 : -EINVAL;
	if (ctx->amphion && ctx->session) {
		vb2_queue_error(q);
		vb2_queue_error(other(q));
		return -EINVAL;
	}
	ctx->session = true;
	ctx->stuck = ctx->drained = false;
	return 0;
}

static int start_streaming(struct vb2_queue *q, unsigned int count)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(q);
	int err = start_session(ctx, q);

	if (err) {
		give_back(q, VB2_BUF_STATE_QUEUED);
		return err;
	}
	v4l2_m2m_update_start_streaming_state(ctx->fh.m2m_ctx, q);
	ctx->sequences[V4L2_TYPE_IS_OUTPUT(q->type) ? SRC : DST] = 0;
	if (!V4L2_TYPE_IS_OUTPUT(q->type) && !(ctx->bcm2835 && ctx->has_streamed))
		reset(ctx);
	ctx->has_streamed = true;
	return 0;
}

static void stop_streaming(struct vb2_queue *q)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(q);
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;

	v4l2_m2m_update_stop_streaming_state(m2m, q);
	give_back(q, VB2_BUF_STATE_ERROR);
	if (ctx->venus)
		give_back(other(q), VB2_BUF_STATE_ERROR);
	if (ctx->venus || !vb2_is_streaming(other(q)))
		ctx->session = false;
	if (V4L2_TYPE_IS_OUTPUT(q->type) && v4l2_m2m_has_stopped(m2m))
		v4l2_event_queue_fh(&ctx->fh, &eos);
}

static const struct vb2_ops queue_ops = {
	.queue_setup = queue_setup,
	.buf_out_validate = buf_out_validate,
	.buf_prepare = buf_prepare,
	.buf_queue = buf_queue,
	.start_streaming = start_streaming,
	.stop_streaming = stop_streaming,
	.wait_prepare = vb2_ops_wait_prepare,
	.wait_finish = vb2_ops_wait_finish,
};

static int queue_init(void *priv, struct vb2_queue *src, struct vb2_queue *dst)
{
	struct fl_ctx *ctx = priv;
	struct vb2_queue *queues[2] = { src, dst };
	int i, err;

	src->type = multiplanar ? V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE : V4L2_BUF_TYPE_VIDEO_OUTPUT;
	dst->type = multiplanar ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
	for (i = 0; i < 2; i++) {
		queues[i]->io_modes = VB2_MMAP | VB2_DMABUF;
		queues[i]->drv_priv = ctx;
		queues[i]->buf_struct_size = sizeof(struct fl_buffer);
		queues[i]->ops = &queue_ops;
		queues[i]->mem_ops = &vb2_vmalloc_memops;
		queues[i]->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_COPY;
		queues[i]->lock = &ctx->queue_lock;
		queues[i]->min_reqbufs_allocation = max(min_buffers, 1u);
		queues[i]->allow_cache_hints = cache_hints;
		err = vb2_queue_init(queues[i]);
		if (err)
			return err;
	}
	return 0;
}

/* Formats */

static int querycap(struct file *file, void *priv, struct v4l2_capability *cap)
{
	strscpy(cap->driver, NAME, sizeof(cap->driver));
	strscpy(cap->card, card, sizeof(cap->card));
	strscpy(cap->bus_info, "platform:" NAME, sizeof(cap->bus_info));
	return 0;
}

static int enum_fmt(struct file *file, void *priv, struct v4l2_fmtdesc *f)
{
	if (!V4L2_TYPE_IS_OUTPUT(f->type)) {
		if (f->index)
			return -EINVAL;
		f->pixelformat = V4L2_PIX_FMT_H264;
		return 0;
	}
	if (f->index > (multiplanar ? 1 : 0))
		return -EINVAL;
	f->pixelformat = f->index ? V4L2_PIX_FMT_NV12M : V4L2_PIX_FMT_NV12;
	return 0;
}

static int enum_framesizes(struct file *file, void *priv, struct v4l2_frmsizeenum *f)
{
	bool known = f->pixel_format == V4L2_PIX_FMT_H264 || f->pixel_format == V4L2_PIX_FMT_NV12 ||
		     (multiplanar && f->pixel_format == V4L2_PIX_FMT_NV12M);

	if (f->index || !known)
		return -EINVAL;
	f->type = V4L2_FRMSIZE_TYPE_STEPWISE;
	f->stepwise = (struct v4l2_frmsize_stepwise){ MIN_SIDE, MAX_WIDTH, 2, MIN_SIDE, MAX_HEIGHT, 2 };
	return 0;
}

/* vsi_v4l2enc and bcm2835 have one set of colors: the last queue that is set decides. */
static void copy_colors(struct v4l2_pix_format_mplane *to, const struct v4l2_pix_format_mplane *from)
{
	to->colorspace = from->colorspace;
	to->ycbcr_enc = from->ycbcr_enc;
	to->quantization = from->quantization;
	to->xfer_func = from->xfer_func;
}

static void coded_format(const struct fl_ctx *ctx, struct v4l2_pix_format_mplane *pix)
{
	const struct v4l2_pix_format_mplane *source = &ctx->source;

	pix->pixelformat = V4L2_PIX_FMT_H264;
	pix->width = ctx->crop.width;
	pix->height = ctx->crop.height;
	pix->field = V4L2_FIELD_NONE;
	pix->num_planes = 1;
	pix->plane_fmt[0].bytesperline = 0;
	copy_colors(pix, source);
	pix->flags = 0;
}

static void source_format(const struct fl_ctx *ctx, struct v4l2_pix_format_mplane *pix)
{
	u32 unit = max(ctx->align, 2u), asked = pix->plane_fmt[0].bytesperline, stride, rows;

	if (!multiplanar || pix->pixelformat != V4L2_PIX_FMT_NV12M)
		pix->pixelformat = V4L2_PIX_FMT_NV12;
	pix->width = round_up(clamp_t(u32, pix->width, MIN_SIDE, MAX_WIDTH), unit);
	pix->height = round_up(clamp_t(u32, pix->height, MIN_SIDE, MAX_HEIGHT), unit);
	pix->field = V4L2_FIELD_NONE;
	stride = round_up(max(pix->width, asked <= MAX_STRIDE ? asked : 0), unit);
	rows = pix->height;
	pix->num_planes = pix->pixelformat == V4L2_PIX_FMT_NV12M ? 2 : 1;
	pix->plane_fmt[0].bytesperline = stride;
	pix->plane_fmt[0].sizeimage = stride * rows;
	if (pix->num_planes == 2) {
		pix->plane_fmt[1].bytesperline = stride;
		pix->plane_fmt[1].sizeimage = stride * rows / 2;
	} else {
		pix->plane_fmt[0].sizeimage += stride * rows / 2;
	}
	if (pix->colorspace == V4L2_COLORSPACE_DEFAULT)
		pix->colorspace = V4L2_COLORSPACE_REC709;
	pix->flags = 0;
}

static int g_fmt_mp(struct file *file, void *priv, struct v4l2_format *f)
{
	struct fl_ctx *ctx = ctx_of(file);

	if (V4L2_TYPE_IS_OUTPUT(f->type)) {
		f->fmt.pix_mp = ctx->source;
		return 0;
	}
	coded_format(ctx, &f->fmt.pix_mp);
	f->fmt.pix_mp.plane_fmt[0].sizeimage = ctx->coded_size;
	return 0;
}

static int try_fmt_mp(struct file *file, void *priv, struct v4l2_format *f)
{
	struct fl_ctx *ctx = ctx_of(file);
	struct v4l2_pix_format_mplane *pix = &f->fmt.pix_mp;
	u32 least = ctx->tight ? 1 : fl_h264_max_size(ctx->crop.width, ctx->crop.height);

	if (V4L2_TYPE_IS_OUTPUT(f->type)) {
		source_format(ctx, pix);
		return 0;
	}
	coded_format(ctx, pix);
	pix->plane_fmt[0].sizeimage = clamp_t(u32, pix->plane_fmt[0].sizeimage, least, ctx->vsi ? 8 << 20 : 64 << 20);
	return 0;
}

static int s_fmt_mp(struct file *file, void *priv, struct v4l2_format *f)
{
	struct fl_ctx *ctx = ctx_of(file);
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;
	struct v4l2_pix_format_mplane asked = f->fmt.pix_mp;

	if (vb2_is_busy(v4l2_m2m_get_vq(m2m, f->type)))
		return -EBUSY;
	try_fmt_mp(file, priv, f);
	if (!V4L2_TYPE_IS_OUTPUT(f->type)) {
		ctx->coded_size = f->fmt.pix_mp.plane_fmt[0].sizeimage;
		if (ctx->vsi || ctx->bcm2835)
			copy_colors(&ctx->source, &asked);
		return 0;
	}
	ctx->source = f->fmt.pix_mp;
	ctx->crop = (struct v4l2_rect){ 0, 0, ctx->source.width, ctx->source.height };
	if (!ctx->tight)
		ctx->coded_size = max_t(u32, ctx->coded_size, fl_h264_max_size(ctx->crop.width, ctx->crop.height));
	return 0;
}

/* The single-planar API: the same by other structs. */

static void to_mp(struct v4l2_format *f)
{
	struct v4l2_pix_format pix = f->fmt.pix;
	struct v4l2_pix_format_mplane *mp = &f->fmt.pix_mp;

	memset(mp, 0, sizeof(*mp));
	mp->pixelformat = pix.pixelformat;
	mp->width = pix.width;
	mp->height = pix.height;
	mp->field = pix.field;
	mp->colorspace = pix.colorspace;
	mp->ycbcr_enc = pix.ycbcr_enc;
	mp->quantization = pix.quantization;
	mp->xfer_func = pix.xfer_func;
	mp->plane_fmt[0].bytesperline = pix.bytesperline;
	mp->plane_fmt[0].sizeimage = pix.sizeimage;
}

static void from_mp(struct v4l2_format *f)
{
	struct v4l2_pix_format_mplane mp = f->fmt.pix_mp;
	struct v4l2_pix_format *pix = &f->fmt.pix;

	memset(pix, 0, sizeof(*pix));
	pix->pixelformat = mp.pixelformat;
	pix->width = mp.width;
	pix->height = mp.height;
	pix->field = mp.field;
	pix->colorspace = mp.colorspace;
	pix->ycbcr_enc = mp.ycbcr_enc;
	pix->quantization = mp.quantization;
	pix->xfer_func = mp.xfer_func;
	pix->bytesperline = mp.plane_fmt[0].bytesperline;
	pix->sizeimage = mp.plane_fmt[0].sizeimage;
	pix->priv = V4L2_PIX_FMT_PRIV_MAGIC;
}

static int g_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	int err = g_fmt_mp(file, priv, f);

	from_mp(f);
	return err;
}

static int try_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	int err;

	to_mp(f);
	err = try_fmt_mp(file, priv, f);
	from_mp(f);
	return err;
}

static int s_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	int err;

	to_mp(f);
	err = s_fmt_mp(file, priv, f);
	from_mp(f);
	return err;
}

static int g_selection(struct file *file, void *priv, struct v4l2_selection *s)
{
	struct fl_ctx *ctx = ctx_of(file);

	if (s->type != V4L2_BUF_TYPE_VIDEO_OUTPUT)
		return -EINVAL;
	switch (s->target) {
	case V4L2_SEL_TGT_CROP:
		s->r = ctx->crop;
		return 0;
	case V4L2_SEL_TGT_CROP_DEFAULT:
	case V4L2_SEL_TGT_CROP_BOUNDS:
		s->r = (struct v4l2_rect){ 0, 0, ctx->source.width, ctx->source.height };
		return 0;
	}
	return -EINVAL;
}

static int s_selection(struct file *file, void *priv, struct v4l2_selection *s)
{
	struct fl_ctx *ctx = ctx_of(file);
	u32 width = ctx->source.width, height = ctx->source.height;

	if (s->type != V4L2_BUF_TYPE_VIDEO_OUTPUT || s->target != V4L2_SEL_TGT_CROP)
		return -EINVAL;
	s->r.width = clamp_t(u32, s->r.width & ~1, MIN_SIDE, width);
	s->r.height = clamp_t(u32, s->r.height & ~1, MIN_SIDE, height);
	s->r.left = clamp_t(s32, s->r.left & ~1, 0, width - s->r.width);
	s->r.top = clamp_t(s32, s->r.top & ~1, 0, height - s->r.height);
	if (vb2_is_streaming(v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx)) &&
	    (s->r.width != ctx->crop.width || s->r.height != ctx->crop.height))
		return -EBUSY;
	ctx->crop = s->r;
	return 0;
}

static int g_parm(struct file *file, void *priv, struct v4l2_streamparm *a)
{
	if (!V4L2_TYPE_IS_OUTPUT(a->type))
		return -EINVAL;
	memset(&a->parm.output, 0, sizeof(a->parm.output));
	a->parm.output.capability = V4L2_CAP_TIMEPERFRAME;
	a->parm.output.timeperframe = ctx_of(file)->interval;
	return 0;
}

static int s_parm(struct file *file, void *priv, struct v4l2_streamparm *a)
{
	struct v4l2_fract *asked = &a->parm.output.timeperframe;

	if (!V4L2_TYPE_IS_OUTPUT(a->type))
		return -EINVAL;
	if (!asked->numerator || !asked->denominator || asked->denominator > INT_MAX / 2)
		*asked = (struct v4l2_fract){ 1, 30 };
	ctx_of(file)->interval = *asked;
	return g_parm(file, priv, a);
}

/* vsi_v4l2enc */

static void vsi_may_run(struct fl_ctx *ctx)
{
	struct vb2_queue *src = v4l2_m2m_get_src_vq(ctx->fh.m2m_ctx), *dst = v4l2_m2m_get_dst_vq(ctx->fh.m2m_ctx);
	bool waits = ctx->state == VSI_NEW || ctx->state == VSI_HALTED;

	if (waits && vb2_is_streaming(src) && vb2_is_streaming(dst) && src->queued_count && dst->queued_count)
		ctx->state = VSI_RUNS;
}

static int qbuf(struct file *file, void *priv, struct v4l2_buffer *b)
{
	int err = v4l2_m2m_ioctl_qbuf(file, priv, b);

	if (!err)
		vsi_may_run(ctx_of(file));
	return err;
}

static int dqbuf(struct file *file, void *priv, struct v4l2_buffer *b)
{
	struct fl_ctx *ctx = ctx_of(file);
	int err;

	if (ctx->vsi && ctx->state == VSI_HALTED)
		return -EPIPE;
	if (has_failed(ctx))
		return -EAGAIN;
	err = v4l2_m2m_ioctl_dqbuf(file, priv, b);
	if (!err && ctx->state == VSI_DRAINS && (b->flags & V4L2_BUF_FLAG_LAST) && !V4L2_TYPE_IS_OUTPUT(b->type))
		ctx->state = VSI_HALTED;
	if (!err && !V4L2_TYPE_IS_OUTPUT(b->type)) {
		mutex_lock(&ctx->drain_lock);
		if (ctx->drained)
			amphion_drained(ctx);
		mutex_unlock(&ctx->drain_lock);
	}
	return err;
}

static int streamon(struct file *file, void *priv, enum v4l2_buf_type type)
{
	int err = v4l2_m2m_ioctl_streamon(file, priv, type);

	if (!err)
		vsi_may_run(ctx_of(file));
	return err;
}

static int streamoff(struct file *file, void *priv, enum v4l2_buf_type type)
{
	struct fl_ctx *ctx = ctx_of(file);

	if (ctx->vsi && ctx->state == VSI_NEW)
		return 0;
	ctx->state = VSI_HALTED;
	return v4l2_m2m_ioctl_streamoff(file, priv, type);
}

static int encoder_cmd(struct file *file, void *priv, struct v4l2_encoder_cmd *cmd)
{
	struct fl_ctx *ctx = ctx_of(file);
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;
	struct vb2_queue *src = v4l2_m2m_get_src_vq(m2m), *dst = v4l2_m2m_get_dst_vq(m2m);
	bool stopped;
	int err = v4l2_m2m_ioctl_try_encoder_cmd(file, priv, cmd);

	if (err)
		return err;
	if (!vb2_is_streaming(src) || !vb2_is_streaming(dst))
		return 0;
	if (cmd->cmd == V4L2_ENC_CMD_START && (ctx->amphion || ctx->bcm2835))
		return 0;
	mutex_lock(&ctx->drain_lock);
	stopped = v4l2_m2m_has_stopped(m2m);
	if (cmd->cmd == V4L2_ENC_CMD_START && ctx->coda) {
		cmd->cmd = V4L2_ENC_CMD_STOP;
		v4l2_m2m_clear_state(m2m);
	}
	if (ctx->amphion && !v4l2_m2m_num_src_bufs_ready(m2m)) {
		v4l2_m2m_mark_stopped(m2m);
		amphion_drained(ctx);
		err = 0;
	} else {
		err = v4l2_m2m_ioctl_encoder_cmd(file, priv, cmd);
	}
	mutex_unlock(&ctx->drain_lock);
	if (err < 0)
		return err;
	if (cmd->cmd == V4L2_ENC_CMD_STOP && ctx->state == VSI_RUNS)
		ctx->state = VSI_DRAINS;
	if (cmd->cmd == V4L2_ENC_CMD_STOP && !stopped && v4l2_m2m_has_stopped(m2m))
		v4l2_event_queue_fh(&ctx->fh, &eos);
	if (cmd->cmd == V4L2_ENC_CMD_START && stopped && !ctx->broken_start)
		vb2_clear_last_buffer_dequeued(dst);
	/* What was queued meanwhile, or held back. */
	v4l2_m2m_try_schedule(m2m);
	return 0;
}

static int subscribe_event(struct v4l2_fh *fh, const struct v4l2_event_subscription *sub)
{
	if (sub->type == V4L2_EVENT_EOS)
		return v4l2_event_subscribe(fh, sub, 0, NULL);
	return v4l2_ctrl_subscribe_event(fh, sub);
}

#define COMMON_OPS						\
	.vidioc_querycap = querycap,				\
	.vidioc_enum_fmt_vid_out = enum_fmt,			\
	.vidioc_enum_fmt_vid_cap = enum_fmt,			\
	.vidioc_enum_framesizes = enum_framesizes,		\
	.vidioc_g_selection = g_selection,			\
	.vidioc_s_selection = s_selection,			\
	.vidioc_g_parm = g_parm,				\
	.vidioc_s_parm = s_parm,				\
	.vidioc_reqbufs = v4l2_m2m_ioctl_reqbufs,		\
	.vidioc_querybuf = v4l2_m2m_ioctl_querybuf,		\
	.vidioc_qbuf = qbuf,				\
	.vidioc_dqbuf = dqbuf,				\
	.vidioc_prepare_buf = v4l2_m2m_ioctl_prepare_buf,	\
	.vidioc_create_bufs = v4l2_m2m_ioctl_create_bufs,	\
	.vidioc_remove_bufs = v4l2_m2m_ioctl_remove_bufs,	\
	.vidioc_expbuf = v4l2_m2m_ioctl_expbuf,			\
	.vidioc_streamon = streamon,			\
	.vidioc_streamoff = streamoff,			\
	.vidioc_try_encoder_cmd = v4l2_m2m_ioctl_try_encoder_cmd, \
	.vidioc_encoder_cmd = encoder_cmd,			\
	.vidioc_subscribe_event = subscribe_event,		\
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe

static const struct v4l2_ioctl_ops multi_ops = {
	COMMON_OPS,
	.vidioc_g_fmt_vid_out_mplane = g_fmt_mp,
	.vidioc_g_fmt_vid_cap_mplane = g_fmt_mp,
	.vidioc_try_fmt_vid_out_mplane = try_fmt_mp,
	.vidioc_try_fmt_vid_cap_mplane = try_fmt_mp,
	.vidioc_s_fmt_vid_out_mplane = s_fmt_mp,
	.vidioc_s_fmt_vid_cap_mplane = s_fmt_mp,
};

static const struct v4l2_ioctl_ops single_ops = {
	COMMON_OPS,
	.vidioc_g_fmt_vid_out = g_fmt,
	.vidioc_g_fmt_vid_cap = g_fmt,
	.vidioc_try_fmt_vid_out = try_fmt,
	.vidioc_try_fmt_vid_cap = try_fmt,
	.vidioc_s_fmt_vid_out = s_fmt,
	.vidioc_s_fmt_vid_cap = s_fmt,
};

/* Controls */

static int s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct fl_ctx *ctx = container_of(ctrl->handler, struct fl_ctx, controls);

	switch (ctrl->id) {
	case V4L2_CID_MPEG_VIDEO_GOP_SIZE: ctx->gop = ctrl->val; return 0;
	case V4L2_CID_MPEG_VIDEO_HEADER_MODE: ctx->header_mode = ctrl->val; return 0;
	case V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER: ctx->repeat_headers = ctrl->val; return 0;
	case V4L2_CID_MPEG_VIDEO_PREPEND_SPSPPS_TO_IDR: ctx->prepend_headers = ctrl->val; return 0;
	case V4L2_CID_MPEG_VIDEO_H264_PROFILE: ctx->profile = ctrl->val; return 0;
	case V4L2_CID_MPEG_VIDEO_H264_LEVEL: ctx->level = ctrl->val; return 0;
	case V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME: ctx->key_wanted = true; return 0;
	/* Nothing is compressed: the rate is what it is. */
	case V4L2_CID_MPEG_VIDEO_BITRATE: return 0;
	}
	return -EINVAL;
}

static const struct v4l2_ctrl_ops ctrl_ops = { .s_ctrl = s_ctrl };

static int init_controls(struct fl_ctx *ctx)
{
	struct v4l2_ctrl_handler *controls = &ctx->controls;
	unsigned int least = amphion ? 6 : min_buffers;
	struct v4l2_ctrl *ctrl;

	v4l2_ctrl_handler_init(controls, 11);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_BITRATE, 10000, 288000000, 1, 4000000);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_GOP_SIZE, 0, 8000, 1, 30);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME, 0, 0, 0, 0);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER, 0, 1, 1, 0);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_PREPEND_SPSPPS_TO_IDR, 0, 1, 1, 0);
	v4l2_ctrl_new_std_menu(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_HEADER_MODE,
			       V4L2_MPEG_VIDEO_HEADER_MODE_JOINED_WITH_1ST_FRAME, 0,
			       V4L2_MPEG_VIDEO_HEADER_MODE_JOINED_WITH_1ST_FRAME);
	v4l2_ctrl_new_std_menu(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_H264_PROFILE,
			       V4L2_MPEG_VIDEO_H264_PROFILE_MAIN,
			       ~((1 << V4L2_MPEG_VIDEO_H264_PROFILE_BASELINE) |
				 (1 << V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_BASELINE) |
				 (1 << V4L2_MPEG_VIDEO_H264_PROFILE_MAIN)),
			       V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_BASELINE);
	v4l2_ctrl_new_std_menu(controls, &ctrl_ops, V4L2_CID_MPEG_VIDEO_H264_LEVEL, V4L2_MPEG_VIDEO_H264_LEVEL_6_2,
			       1 << V4L2_MPEG_VIDEO_H264_LEVEL_1B, V4L2_MPEG_VIDEO_H264_LEVEL_5_1);
	ctrl = v4l2_ctrl_new_std(controls, NULL, V4L2_CID_MIN_BUFFERS_FOR_OUTPUT, 1, VIDEO_MAX_FRAME, 1,
				 clamp(max(least, hides_delay ? 1 : delay + 1), 1u, (unsigned int)VIDEO_MAX_FRAME));
	if (ctrl)
		ctrl->flags |= V4L2_CTRL_FLAG_READ_ONLY;
	if (amphion) {
		ctrl = v4l2_ctrl_new_std(controls, NULL, V4L2_CID_MIN_BUFFERS_FOR_CAPTURE, 1, VIDEO_MAX_FRAME, 1, 6);
		if (ctrl)
			ctrl->flags |= V4L2_CTRL_FLAG_READ_ONLY;
	}
	ctx->fh.ctrl_handler = controls;
	if (controls->error)
		return controls->error;
	return v4l2_ctrl_handler_setup(controls);
}

/* Files */

static int fl_open(struct file *file)
{
	struct fl_dev *dev = video_drvdata(file);
	struct v4l2_format f = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE };
	struct fl_ctx *ctx = kzalloc(sizeof(*ctx), GFP_KERNEL);
	int err;

	if (!ctx)
		return -ENOMEM;
	ctx->dev = dev;
	ctx->align = clamp(align, 1u, 256u);
	if (ctx->align & (ctx->align - 1))
		ctx->align = 1;
	ctx->key_flags = key_flags;
	ctx->broken_start = broken_start || vsi;
	ctx->vsi = vsi;
	ctx->amphion = amphion;
	ctx->venus = venus;
	ctx->coda = coda;
	ctx->bcm2835 = bcm2835;

	ctx->late_key = late_key;
	ctx->misses_drain = misses_drain;
	ctx->tight = tight;
	ctx->error_every = error_every;
	ctx->drop_every = drop_every;
	ctx->delay = min(delay, 16u);
	ctx->pause = min(pause, 1000u);
	ctx->fails_after = fails_after;
	/* vsi_v4l2enc begins at 25 seconds a frame. */
	ctx->interval = vsi ? (struct v4l2_fract){ 25, 1 } : (struct v4l2_fract){ 1, 30 };
	mutex_init(&ctx->queue_lock);
	mutex_init(&ctx->drain_lock);
	INIT_WORK(&ctx->work, work);
	v4l2_fh_init(&ctx->fh, &dev->video);
	file->private_data = &ctx->fh;
	err = init_controls(ctx);
	if (err)
		goto fail;
	/* Setting up the controls also presses the button. Ignore that. */
	ctx->key_wanted = false;
	ctx->fh.m2m_ctx = v4l2_m2m_ctx_init(dev->m2m, ctx, queue_init);
	if (IS_ERR(ctx->fh.m2m_ctx)) {
		err = PTR_ERR(ctx->fh.m2m_ctx);
		goto fail;
	}
	f.fmt.pix_mp = (struct v4l2_pix_format_mplane){ .width = 640, .height = 480 };
	source_format(ctx, &f.fmt.pix_mp);
	ctx->source = f.fmt.pix_mp;
	ctx->crop = (struct v4l2_rect){ 0, 0, ctx->source.width, ctx->source.height };
	ctx->coded_size = fl_h264_max_size(ctx->crop.width, ctx->crop.height);
	reset(ctx);
	v4l2_fh_add(&ctx->fh);
	return 0;
fail:
	v4l2_ctrl_handler_free(&ctx->controls);
	v4l2_fh_exit(&ctx->fh);
	kfree(ctx);
	return err;
}

static int fl_release(struct file *file)
{
	struct fl_ctx *ctx = ctx_of(file);

	v4l2_m2m_ctx_release(ctx->fh.m2m_ctx);
	v4l2_ctrl_handler_free(&ctx->controls);
	v4l2_fh_del(&ctx->fh);
	v4l2_fh_exit(&ctx->fh);
	kvfree(ctx->previous);
	kfree(ctx);
	return 0;
}

static __poll_t fl_poll(struct file *file, struct poll_table_struct *wait)
{
	__poll_t events = v4l2_m2m_fop_poll(file, wait);

	return has_failed(ctx_of(file)) ? EPOLLERR : events;
}

static const struct v4l2_file_operations file_ops = {
	.owner = THIS_MODULE,
	.open = fl_open,
	.release = fl_release,
	.poll = fl_poll,
	.mmap = v4l2_m2m_fop_mmap,
	.unlocked_ioctl = video_ioctl2,
};

/* The device */

static void video_release(struct video_device *video)
{
	struct fl_dev *dev = container_of(video, struct fl_dev, video);

	v4l2_device_unregister(&dev->v4l2);
	v4l2_m2m_release(dev->m2m);
	destroy_workqueue(dev->queue);
	kfree(dev);
}

static int probe(struct platform_device *pdev)
{
	struct fl_dev *dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	int err = -ENOMEM;

	if (!dev)
		return err;
	mutex_init(&dev->lock);
	dev->queue = alloc_ordered_workqueue(NAME, 0);
	if (!dev->queue)
		goto free_dev;
	err = v4l2_device_register(&pdev->dev, &dev->v4l2);
	if (err)
		goto free_queue;
	dev->m2m = v4l2_m2m_init(&m2m_ops);
	if (IS_ERR(dev->m2m)) {
		err = PTR_ERR(dev->m2m);
		goto unregister;
	}
	strscpy(dev->video.name, NAME, sizeof(dev->video.name));
	dev->video.v4l2_dev = &dev->v4l2;
	dev->video.vfl_dir = VFL_DIR_M2M;
	dev->video.fops = &file_ops;
	dev->video.ioctl_ops = multiplanar ? &multi_ops : &single_ops;
	dev->video.release = video_release;
	dev->video.lock = &dev->lock;
	dev->video.device_caps = V4L2_CAP_STREAMING | (multiplanar ? V4L2_CAP_VIDEO_M2M_MPLANE : V4L2_CAP_VIDEO_M2M);
	video_set_drvdata(&dev->video, dev);
	platform_set_drvdata(pdev, dev);
	err = video_register_device(&dev->video, VFL_TYPE_VIDEO, -1);
	if (!err)
		return 0;
	v4l2_m2m_release(dev->m2m);
unregister:
	v4l2_device_unregister(&dev->v4l2);
free_queue:
	destroy_workqueue(dev->queue);
free_dev:
	kfree(dev);
	return err;
}

static void fl_remove(struct platform_device *pdev)
{
	struct fl_dev *dev = platform_get_drvdata(pdev);

	video_unregister_device(&dev->video);
}

static struct platform_driver driver = {
	.probe = probe,
	.remove = fl_remove,
	.driver = { .name = NAME },
};

static struct platform_device *device;

static int __init init(void)
{
	int err = platform_driver_register(&driver);

	if (err)
		return err;
	device = platform_device_register_simple(NAME, -1, NULL, 0);
	if (!IS_ERR(device))
		return 0;
	platform_driver_unregister(&driver);
	return PTR_ERR(device);
}

static void __exit leave(void)
{
	platform_device_unregister(device);
	platform_driver_unregister(&driver);
}

module_init(init);
module_exit(leave);
MODULE_DESCRIPTION("Lossless software H.264 encoder for the tests of framelease");
MODULE_LICENSE("GPL");
