// SPDX-License-Identifier: GPL-2.0-only
/*
 * fl_scaler: a mem-to-mem scaler in software, for the tests of framelease.
 *
 * It has what vim2m lacks: the multi-planar API, strides of 64 bytes, crop and compose, rotation, an alpha component,
 * two YCbCr matrices; and it fails on request: a damaged job, a refused buffer, a fatal error, sources that come back
 * late. Each result pixel is the source pixel at its middle.
 *
 * Module parameters switch on what V4L2 leaves open, or what drivers get wrong.
 */
#include <linux/delay.h>
#include <linux/math64.h>
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

#define NAME "fl_scaler"
#define MIN_SIDE 16
#define MAX_WIDTH 1920
#define MAX_HEIGHT 1088
#define STRIDE_UNIT 64

static bool counterclockwise;
module_param(counterclockwise, bool, 0644);
MODULE_PARM_DESC(counterclockwise, "V4L2_CID_ROTATE turns the other way");

static bool clears;
module_param(clears, bool, 0644);
MODULE_PARM_DESC(clears, "pixels outside of the compose rectangle become 0");

static bool one_matrix;
module_param(one_matrix, bool, 0644);
MODULE_PARM_DESC(one_matrix, "BT.601 is used, whatever the format says");

static bool one_range;
module_param(one_range, bool, 0644);
MODULE_PARM_DESC(one_range, "every range is accepted, and YUV is read as limited");

static bool no_alpha;
module_param(no_alpha, bool, 0644);
MODULE_PARM_DESC(no_alpha, "V4L2_CID_ALPHA_COMPONENT is ignored, and alpha is 0");

static bool no_nv12m;
module_param(no_nv12m, bool, 0444);
MODULE_PARM_DESC(no_nv12m, "NV12 is one memory plane only, as in most drivers");

#define CID_DELAY (V4L2_CID_USER_BASE + 0x1010)
#define CID_PADDING (V4L2_CID_USER_BASE + 0x1011)
#define CID_DAMAGE (V4L2_CID_USER_BASE + 0x1012)
#define CID_REFUSE (V4L2_CID_USER_BASE + 0x1013)
#define CID_FATAL (V4L2_CID_USER_BASE + 0x1014)
#define CID_LATE (V4L2_CID_USER_BASE + 0x1015)

enum { SRC, DST };

/* How the bytes lie. */
enum packing { SEMI_PLANAR, YUYV, RGB };

struct fl_format {
	u32 fourcc;
	enum packing packing;
	u8 memory_planes;
	/* Bytes of a luma or RGB pixel. */
	u8 bytes;
};

static const struct fl_format formats[] = {
	{ V4L2_PIX_FMT_NV12, SEMI_PLANAR, 1, 1 },
	{ V4L2_PIX_FMT_YUYV, YUYV, 1, 2 },
	{ V4L2_PIX_FMT_RGB24, RGB, 1, 3 },
	{ V4L2_PIX_FMT_RGBA32, RGB, 1, 4 },
	/* The last one, which `no_nv12m` leaves out. */
	{ V4L2_PIX_FMT_NV12M, SEMI_PLANAR, 2, 1 },
};

static unsigned int num_formats(void)
{
	return ARRAY_SIZE(formats) - no_nv12m;
}

struct fl_side {
	struct v4l2_pix_format_mplane pix;
	const struct fl_format *format;
	/* Crop of the source, compose of the destination. */
	struct v4l2_rect rect;
	u32 sequence;
};

struct fl_dev {
	struct v4l2_device v4l2;
	struct video_device video;
	struct v4l2_m2m_dev *m2m;
	struct workqueue_struct *queue;
	struct mutex lock;
};

struct fl_ctx {
	struct v4l2_fh fh;
	struct fl_dev *dev;
	struct v4l2_ctrl_handler controls;
	struct mutex queue_lock;
	struct work_struct work;
	struct fl_side sides[2];
	int hflip, vflip, rotate, alpha, delay_ms, padding;
	bool damage, refuse, fatal, late;
	/* A source that comes back with the next job. */
	struct vb2_v4l2_buffer *held;
};

static struct fl_ctx *ctx_of(struct file *file)
{
	return container_of(file->private_data, struct fl_ctx, fh);
}

static struct fl_side *side_of(struct fl_ctx *ctx, u32 type)
{
	return &ctx->sides[V4L2_TYPE_IS_OUTPUT(type) ? SRC : DST];
}

/* Pixels */

struct picture {
	u8 *luma, *chroma;
	u32 stride, chroma_stride;
	enum packing packing;
	u8 bytes;
};

struct weights {
	/* Of red and blue in luma, times 65536. */
	s64 red, blue;
};

static void picture_of(struct picture *p, const struct fl_side *side, struct vb2_buffer *vb)
{
	p->packing = side->format->packing;
	p->bytes = side->format->bytes;
	p->stride = side->pix.plane_fmt[0].bytesperline;
	p->luma = vb2_plane_vaddr(vb, 0);
	p->chroma_stride = p->stride;
	p->chroma = p->luma;
	if (p->luma)
		p->luma += vb->planes[0].data_offset;
	if (side->format->memory_planes == 2) {
		p->chroma = vb2_plane_vaddr(vb, 1);
		p->chroma_stride = side->pix.plane_fmt[1].bytesperline;
		if (p->chroma)
			p->chroma += vb->planes[1].data_offset;
	} else if (p->packing == SEMI_PLANAR && p->luma) {
		p->chroma = p->luma + p->stride * side->pix.height;
	}
}

static struct weights weights_of(const struct fl_side *side)
{
	if (side->pix.ycbcr_enc == V4L2_YCBCR_ENC_709 && !one_matrix)
		return (struct weights){ 13933, 4732 };
	return (struct weights){ 19595, 7471 };
}

static int byte_of(s64 value)
{
	value = (value + 32768) >> 16;
	return value < 0 ? 0 : value > 255 ? 255 : value;
}

static void to_rgb(int c[3], struct weights w)
{
	s64 luma = div_s64((s64)(c[0] - 16) * 255 * 65536, 219);
	s64 red = luma + div_s64((s64)(c[2] - 128) * 2 * (65536 - w.red) * 255, 224);
	s64 blue = luma + div_s64((s64)(c[1] - 128) * 2 * (65536 - w.blue) * 255, 224);
	s64 green = div_s64(luma * 65536 - w.red * red - w.blue * blue, 65536 - w.red - w.blue);

	c[0] = byte_of(red);
	c[1] = byte_of(green);
	c[2] = byte_of(blue);
}

static void to_yuv(int c[3], struct weights w)
{
	s64 luma = w.red * c[0] + (65536 - w.red - w.blue) * c[1] + w.blue * c[2];
	s64 blue = ((s64)c[2] << 16) - luma;
	s64 red = ((s64)c[0] << 16) - luma;

	c[0] = byte_of((16 << 16) + div_s64(luma * 219, 255));
	c[1] = byte_of((128 << 16) + div_s64(div_s64(blue * 112, 255) * 65536, 65536 - w.blue));
	c[2] = byte_of((128 << 16) + div_s64(div_s64(red * 112, 255) * 65536, 65536 - w.red));
}

static void read_pixel(const struct picture *p, u32 x, u32 y, int c[3])
{
	const u8 *at = p->luma + y * p->stride + x * p->bytes;

	if (p->packing == RGB) {
		c[0] = at[0];
		c[1] = at[1];
		c[2] = at[2];
		return;
	}
	c[0] = at[0];
	if (p->packing == YUYV)
		at = p->luma + y * p->stride + x / 2 * 4 + 1;
	else
		at = p->chroma + y / 2 * p->chroma_stride + x / 2 * 2;
	c[1] = at[0];
	c[2] = at[p->packing == YUYV ? 2 : 1];
}

static void write_pixel(const struct picture *p, u32 x, u32 y, const int c[3], u8 alpha)
{
	u8 *at = p->luma + y * p->stride + x * p->bytes;

	at[0] = c[0];
	if (p->packing != RGB)
		return;
	at[1] = c[1];
	at[2] = c[2];
	if (p->bytes == 4)
		at[3] = alpha;
}

static void write_chroma(const struct picture *p, u32 x, u32 y, const int c[3])
{
	u8 *at = p->luma + y * p->stride + x * 2 + 1;

	if (p->packing == SEMI_PLANAR)
		at = p->chroma + y / 2 * p->chroma_stride + x;
	at[0] = c[1];
	at[p->packing == SEMI_PLANAR ? 1 : 2] = c[2];
}

/* Where in the source the pixel (x, y) of the compose rectangle comes from. */
static void source_of(const struct fl_ctx *ctx, u32 x, u32 y, u32 *sx, u32 *sy)
{
	const struct v4l2_rect *crop = &ctx->sides[SRC].rect, *to = &ctx->sides[DST].rect;
	u32 u = x, v = y, across = to->width, down = to->height;
	bool clockwise = (ctx->rotate == 90) != counterclockwise;

	if (ctx->rotate == 90 || ctx->rotate == 270) {
		across = to->height;
		down = to->width;
		u = clockwise ? y : across - 1 - y;
		v = clockwise ? down - 1 - x : x;
	} else if (ctx->rotate == 180) {
		u = across - 1 - x;
		v = down - 1 - y;
	}
	if (ctx->hflip)
		u = across - 1 - u;
	if (ctx->vflip)
		v = down - 1 - v;
	*sx = crop->left + (2 * u + 1) * crop->width / (2 * across);
	*sy = crop->top + (2 * v + 1) * crop->height / (2 * down);
}

struct drawing {
	struct fl_ctx *ctx;
	struct picture from, into;
	struct weights before, after;
	bool through_rgb;
};

/* The color of pixel (x, y) of the compose rectangle, as the destination has it. */
static void color_at(const struct drawing *d, u32 x, u32 y, int c[3])
{
	u32 sx, sy;

	source_of(d->ctx, x, y, &sx, &sy);
	read_pixel(&d->from, sx, sy, c);
	if (d->through_rgb && d->from.packing != RGB)
		to_rgb(c, d->before);
	if (d->through_rgb && d->into.packing != RGB)
		to_yuv(c, d->after);
}

/* The mean of the pixels that share a chroma sample. */
static void chroma_at(const struct drawing *d, u32 x, u32 y, int mean[3])
{
	u32 i, rows = d->into.packing == SEMI_PLANAR ? 2 : 1;
	int c[3], sum[3] = {};

	for (i = 0; i < 2 * rows; i++) {
		color_at(d, x + i % 2, y + i / 2, c);
		sum[1] += c[1];
		sum[2] += c[2];
	}
	mean[1] = (sum[1] + rows) / (2 * rows);
	mean[2] = (sum[2] + rows) / (2 * rows);
}

static bool draw(struct fl_ctx *ctx, struct vb2_buffer *src, struct vb2_buffer *dst)
{
	const struct v4l2_rect *to = &ctx->sides[DST].rect;
	struct drawing d = { .ctx = ctx };
	u32 x, y;
	int c[3];

	d.before = weights_of(&ctx->sides[SRC]);
	d.after = weights_of(&ctx->sides[DST]);
	picture_of(&d.from, &ctx->sides[SRC], src);
	picture_of(&d.into, &ctx->sides[DST], dst);
	if (!d.from.luma || !d.from.chroma || !d.into.luma || !d.into.chroma)
		return false;
	d.through_rgb = (d.from.packing == RGB) != (d.into.packing == RGB) ||
			(d.from.packing != RGB && d.before.red != d.after.red);
	if (clears)
		memset(d.into.luma, 0, ctx->sides[DST].pix.plane_fmt[0].sizeimage);
	for (y = 0; y < to->height; y++) {
		for (x = 0; x < to->width; x++) {
			color_at(&d, x, y, c);
			write_pixel(&d.into, to->left + x, to->top + y, c, no_alpha ? 0 : ctx->alpha);
			if (d.into.packing == RGB || x % 2 || (d.into.packing == SEMI_PLANAR && y % 2))
				continue;
			chroma_at(&d, x, y, c);
			write_chroma(&d.into, to->left + x, to->top + y, c);
		}
	}
	return true;
}

/* Jobs */

static void work(struct work_struct *item)
{
	struct fl_ctx *ctx = container_of(item, struct fl_ctx, work);
	struct v4l2_m2m_ctx *m2m = ctx->fh.m2m_ctx;
	struct vb2_v4l2_buffer *src = v4l2_m2m_src_buf_remove(m2m);
	struct vb2_v4l2_buffer *dst = v4l2_m2m_dst_buf_remove(m2m);
	enum vb2_buffer_state state = VB2_BUF_STATE_DONE;
	unsigned int i;

	if (ctx->delay_ms)
		msleep(ctx->delay_ms);
	if (!draw(ctx, &src->vb2_buf, &dst->vb2_buf) || ctx->damage)
		state = VB2_BUF_STATE_ERROR;
	ctx->damage = false;
	v4l2_m2m_buf_copy_metadata(src, dst, true);
	src->sequence = ctx->sides[SRC].sequence++;
	dst->sequence = ctx->sides[DST].sequence++;
	for (i = 0; i < dst->vb2_buf.num_planes; i++)
		vb2_set_plane_payload(&dst->vb2_buf, i, ctx->sides[DST].pix.plane_fmt[i].sizeimage);
	if (ctx->fatal) {
		/* Before the buffers are done: a waiting program could otherwise take this job's result first. */
		ctx->fatal = false;
		vb2_queue_error(v4l2_m2m_get_src_vq(m2m));
		vb2_queue_error(v4l2_m2m_get_dst_vq(m2m));
	}
	if (ctx->held)
		v4l2_m2m_buf_done(ctx->held, VB2_BUF_STATE_DONE);
	ctx->held = NULL;
	/* Before its target, as the framework's own v4l2_m2m_buf_done_and_job_finish: who has the one finds the other. */
	if (ctx->late)
		ctx->held = src;
	else
		v4l2_m2m_buf_done(src, state);
	v4l2_m2m_buf_done(dst, state);
	v4l2_m2m_job_finish(ctx->dev->m2m, m2m);
}

static void run(void *priv)
{
	struct fl_ctx *ctx = priv;

	queue_work(ctx->dev->queue, &ctx->work);
}

static const struct v4l2_m2m_ops m2m_ops = { .device_run = run };

/* Queues */

static int queue_setup(struct vb2_queue *q, unsigned int *count, unsigned int *planes, unsigned int sizes[],
		       struct device *devices[])
{
	struct fl_side *side = side_of(vb2_get_drv_priv(q), q->type);
	unsigned int i;

	if (*planes && *planes != side->pix.num_planes)
		return -EINVAL;
	for (i = 0; i < side->pix.num_planes; i++) {
		u32 needed = side->pix.plane_fmt[i].sizeimage;

		if (*planes && sizes[i] < needed)
			return -EINVAL;
		if (!*planes)
			sizes[i] = needed;
	}
	*planes = side->pix.num_planes;
	return 0;
}

static int buf_out_validate(struct vb2_buffer *vb)
{
	to_vb2_v4l2_buffer(vb)->field = V4L2_FIELD_NONE;
	return 0;
}

static int buf_prepare(struct vb2_buffer *vb)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);
	struct fl_side *side = side_of(ctx, vb->type);
	unsigned int i;

	if (!V4L2_TYPE_IS_OUTPUT(vb->type) && ctx->refuse) {
		ctx->refuse = false;
		return -EINVAL;
	}
	for (i = 0; i < side->pix.num_planes; i++)
		if (vb2_plane_size(vb, i) < side->pix.plane_fmt[i].sizeimage)
			return -EINVAL;
	return 0;
}

static void buf_queue(struct vb2_buffer *vb)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(vb->vb2_queue);

	v4l2_m2m_buf_queue(ctx->fh.m2m_ctx, to_vb2_v4l2_buffer(vb));
}

static int start_streaming(struct vb2_queue *q, unsigned int count)
{
	side_of(vb2_get_drv_priv(q), q->type)->sequence = 0;
	return 0;
}

static void stop_streaming(struct vb2_queue *q)
{
	struct fl_ctx *ctx = vb2_get_drv_priv(q);
	bool out = V4L2_TYPE_IS_OUTPUT(q->type);
	struct vb2_v4l2_buffer *vb;

	if (out && ctx->held) {
		v4l2_m2m_buf_done(ctx->held, VB2_BUF_STATE_ERROR);
		ctx->held = NULL;
	}
	for (;;) {
		vb = out ? v4l2_m2m_src_buf_remove(ctx->fh.m2m_ctx) : v4l2_m2m_dst_buf_remove(ctx->fh.m2m_ctx);
		if (!vb)
			return;
		v4l2_m2m_buf_done(vb, VB2_BUF_STATE_ERROR);
	}
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

	src->type = V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
	dst->type = V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
	for (i = 0; i < 2; i++) {
		queues[i]->io_modes = VB2_MMAP | VB2_DMABUF;
		queues[i]->drv_priv = ctx;
		queues[i]->buf_struct_size = sizeof(struct v4l2_m2m_buffer);
		queues[i]->ops = &queue_ops;
		queues[i]->mem_ops = &vb2_vmalloc_memops;
		queues[i]->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_COPY;
		queues[i]->lock = &ctx->queue_lock;
		err = vb2_queue_init(queues[i]);
		if (err)
			return err;
	}
	return 0;
}

/* Formats and rectangles */

static const struct fl_format *format_of(u32 fourcc)
{
	unsigned int i;

	for (i = 0; i < num_formats(); i++)
		if (formats[i].fourcc == fourcc)
			return &formats[i];
	return &formats[0];
}

static int querycap(struct file *file, void *priv, struct v4l2_capability *cap)
{
	strscpy(cap->driver, NAME, sizeof(cap->driver));
	strscpy(cap->card, "framelease test scaler", sizeof(cap->card));
	strscpy(cap->bus_info, "platform:" NAME, sizeof(cap->bus_info));
	return 0;
}

static int enum_fmt(struct file *file, void *priv, struct v4l2_fmtdesc *f)
{
	if (f->index >= num_formats())
		return -EINVAL;
	f->pixelformat = formats[f->index].fourcc;
	if (!V4L2_TYPE_IS_OUTPUT(f->type))
		f->flags |= V4L2_FMT_FLAG_CSC_YCBCR_ENC;
	return 0;
}

static int enum_framesizes(struct file *file, void *priv, struct v4l2_frmsizeenum *f)
{
	if (f->index || format_of(f->pixel_format)->fourcc != f->pixel_format)
		return -EINVAL;
	f->type = V4L2_FRMSIZE_TYPE_STEPWISE;
	f->stepwise = (struct v4l2_frmsize_stepwise){ MIN_SIDE, MAX_WIDTH, 2, MIN_SIDE, MAX_HEIGHT, 2 };
	return 0;
}

static int g_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	f->fmt.pix_mp = side_of(ctx_of(file), f->type)->pix;
	return 0;
}

static int try_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	struct v4l2_pix_format_mplane *pix = &f->fmt.pix_mp;
	const struct v4l2_pix_format_mplane *source = &ctx_of(file)->sides[SRC].pix;
	const struct fl_format *format = format_of(pix->pixelformat);
	u32 asked = pix->plane_fmt[0].bytesperline, stride;

	pix->pixelformat = format->fourcc;
	pix->width = clamp_t(u32, pix->width & ~1, MIN_SIDE, MAX_WIDTH);
	pix->height = clamp_t(u32, pix->height & ~1, MIN_SIDE, MAX_HEIGHT);
	pix->field = V4L2_FIELD_NONE;
	stride = max(pix->width * format->bytes, asked < 16384 ? asked : 0);
	stride = round_up(stride, STRIDE_UNIT);
	pix->num_planes = format->memory_planes;
	pix->plane_fmt[0].bytesperline = stride;
	pix->plane_fmt[0].sizeimage = stride * pix->height;
	if (format->memory_planes == 2) {
		pix->plane_fmt[1].bytesperline = stride;
		pix->plane_fmt[1].sizeimage = stride * pix->height / 2;
	} else if (format->packing == SEMI_PLANAR) {
		pix->plane_fmt[0].sizeimage += stride * pix->height / 2;
	}
	if (V4L2_TYPE_IS_OUTPUT(f->type)) {
		if (pix->colorspace == V4L2_COLORSPACE_DEFAULT)
			pix->colorspace = V4L2_COLORSPACE_REC709;
	} else {
		pix->colorspace = source->colorspace;
		pix->xfer_func = source->xfer_func;
		if (!(pix->flags & V4L2_PIX_FMT_FLAG_SET_CSC) || pix->ycbcr_enc == V4L2_YCBCR_ENC_DEFAULT)
			pix->ycbcr_enc = source->ycbcr_enc;
	}
	/* Two matrices, no other. */
	if (pix->ycbcr_enc == V4L2_YCBCR_ENC_DEFAULT)
		pix->ycbcr_enc = V4L2_MAP_YCBCR_ENC_DEFAULT(pix->colorspace);
	if (pix->ycbcr_enc != V4L2_YCBCR_ENC_709)
		pix->ycbcr_enc = V4L2_YCBCR_ENC_601;
	/* RGB of full range and YUV of limited, no other. */
	if (!one_range || pix->quantization == V4L2_QUANTIZATION_DEFAULT)
		pix->quantization = format->packing == RGB ? V4L2_QUANTIZATION_FULL_RANGE : V4L2_QUANTIZATION_LIM_RANGE;
	pix->flags = 0;
	return 0;
}

static int s_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	struct fl_ctx *ctx = ctx_of(file);
	struct fl_side *side = side_of(ctx, f->type);

	if (vb2_is_busy(v4l2_m2m_get_vq(ctx->fh.m2m_ctx, f->type)))
		return -EBUSY;
	try_fmt(file, priv, f);
	side->pix = f->fmt.pix_mp;
	side->format = format_of(side->pix.pixelformat);
	side->rect = (struct v4l2_rect){ 0, 0, side->pix.width, side->pix.height };
	return 0;
}

/* NULL for a rectangle that does not exist: sources have crop, targets have compose. */
static struct fl_side *selected(struct fl_ctx *ctx, const struct v4l2_selection *s)
{
	/* The core has made them single-planar. */
	if (s->type != V4L2_BUF_TYPE_VIDEO_OUTPUT && s->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return NULL;
	if (V4L2_TYPE_IS_OUTPUT(s->type) == (s->target >= V4L2_SEL_TGT_COMPOSE))
		return NULL;
	return side_of(ctx, s->type);
}

static int g_selection(struct file *file, void *priv, struct v4l2_selection *s)
{
	struct fl_ctx *ctx = ctx_of(file);
	struct fl_side *side = selected(ctx, s);
	int pad = ctx->padding;

	if (!side)
		return -EINVAL;
	switch (s->target) {
	case V4L2_SEL_TGT_CROP:
	case V4L2_SEL_TGT_COMPOSE:
		s->r = side->rect;
		return 0;
	case V4L2_SEL_TGT_CROP_DEFAULT:
	case V4L2_SEL_TGT_CROP_BOUNDS:
	case V4L2_SEL_TGT_COMPOSE_DEFAULT:
	case V4L2_SEL_TGT_COMPOSE_BOUNDS:
		s->r = (struct v4l2_rect){ 0, 0, side->pix.width, side->pix.height };
		return 0;
	case V4L2_SEL_TGT_COMPOSE_PADDED:
		s->r = side->rect;
		s->r.width = min(s->r.width + pad, side->pix.width - s->r.left);
		return 0;
	}
	return -EINVAL;
}

static int s_selection(struct file *file, void *priv, struct v4l2_selection *s)
{
	struct fl_side *side = selected(ctx_of(file), s);
	u32 width, height;

	if (!side || (s->target != V4L2_SEL_TGT_CROP && s->target != V4L2_SEL_TGT_COMPOSE))
		return -EINVAL;
	width = side->pix.width;
	height = side->pix.height;
	/* Even numbers, within the picture. */
	s->r.width = clamp_t(u32, s->r.width & ~1, 2, width);
	s->r.height = clamp_t(u32, s->r.height & ~1, 2, height);
	s->r.left = clamp_t(s32, s->r.left & ~1, 0, width - s->r.width);
	s->r.top = clamp_t(s32, s->r.top & ~1, 0, height - s->r.height);
	side->rect = s->r;
	return 0;
}

static const struct v4l2_ioctl_ops ioctl_ops = {
	.vidioc_querycap = querycap,
	.vidioc_enum_fmt_vid_out = enum_fmt,
	.vidioc_enum_fmt_vid_cap = enum_fmt,
	.vidioc_enum_framesizes = enum_framesizes,
	.vidioc_g_fmt_vid_out_mplane = g_fmt,
	.vidioc_g_fmt_vid_cap_mplane = g_fmt,
	.vidioc_try_fmt_vid_out_mplane = try_fmt,
	.vidioc_try_fmt_vid_cap_mplane = try_fmt,
	.vidioc_s_fmt_vid_out_mplane = s_fmt,
	.vidioc_s_fmt_vid_cap_mplane = s_fmt,
	.vidioc_g_selection = g_selection,
	.vidioc_s_selection = s_selection,
	.vidioc_reqbufs = v4l2_m2m_ioctl_reqbufs,
	.vidioc_querybuf = v4l2_m2m_ioctl_querybuf,
	.vidioc_qbuf = v4l2_m2m_ioctl_qbuf,
	.vidioc_dqbuf = v4l2_m2m_ioctl_dqbuf,
	.vidioc_prepare_buf = v4l2_m2m_ioctl_prepare_buf,
	.vidioc_create_bufs = v4l2_m2m_ioctl_create_bufs,
	.vidioc_remove_bufs = v4l2_m2m_ioctl_remove_bufs,
	.vidioc_expbuf = v4l2_m2m_ioctl_expbuf,
	.vidioc_streamon = v4l2_m2m_ioctl_streamon,
	.vidioc_streamoff = v4l2_m2m_ioctl_streamoff,
	.vidioc_subscribe_event = v4l2_ctrl_subscribe_event,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

/* Controls */

static int s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct fl_ctx *ctx = container_of(ctrl->handler, struct fl_ctx, controls);

	switch (ctrl->id) {
	case V4L2_CID_HFLIP: ctx->hflip = ctrl->val; return 0;
	case V4L2_CID_VFLIP: ctx->vflip = ctrl->val; return 0;
	case V4L2_CID_ROTATE: ctx->rotate = ctrl->val; return 0;
	case V4L2_CID_ALPHA_COMPONENT: ctx->alpha = ctrl->val; return 0;
	case CID_DELAY: ctx->delay_ms = ctrl->val; return 0;
	case CID_PADDING: ctx->padding = ctrl->val; return 0;
	case CID_DAMAGE: ctx->damage = true; return 0;
	case CID_REFUSE: ctx->refuse = true; return 0;
	case CID_FATAL: ctx->fatal = true; return 0;
	case CID_LATE: ctx->late = ctrl->val; return 0;
	}
	return -EINVAL;
}

static const struct v4l2_ctrl_ops ctrl_ops = { .s_ctrl = s_ctrl };

static void add_control(struct fl_ctx *ctx, u32 id, const char *name, enum v4l2_ctrl_type type, s64 max)
{
	const struct v4l2_ctrl_config config = {
		.ops = &ctrl_ops, .id = id, .name = name, .type = type, .max = max, .step = max ? 1 : 0,
	};

	v4l2_ctrl_new_custom(&ctx->controls, &config, NULL);
}

static int init_controls(struct fl_ctx *ctx)
{
	struct v4l2_ctrl_handler *controls = &ctx->controls;

	v4l2_ctrl_handler_init(controls, 10);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_HFLIP, 0, 1, 1, 0);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_VFLIP, 0, 1, 1, 0);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_ROTATE, 0, 270, 90, 0);
	v4l2_ctrl_new_std(controls, &ctrl_ops, V4L2_CID_ALPHA_COMPONENT, 0, 255, 1, 0);
	add_control(ctx, CID_DELAY, "Delay (msec)", V4L2_CTRL_TYPE_INTEGER, 10000);
	add_control(ctx, CID_PADDING, "Compose Padding", V4L2_CTRL_TYPE_INTEGER, 64);
	add_control(ctx, CID_DAMAGE, "Damage a Job", V4L2_CTRL_TYPE_BUTTON, 0);
	add_control(ctx, CID_REFUSE, "Refuse a Capture Buffer", V4L2_CTRL_TYPE_BUTTON, 0);
	add_control(ctx, CID_FATAL, "Fatal Error", V4L2_CTRL_TYPE_BUTTON, 0);
	add_control(ctx, CID_LATE, "Late Sources", V4L2_CTRL_TYPE_BOOLEAN, 1);
	ctx->fh.ctrl_handler = controls;
	return controls->error;
}

/* Files */

static int fl_open(struct file *file)
{
	struct fl_dev *dev = video_drvdata(file);
	struct v4l2_format f = {};
	struct fl_ctx *ctx = kzalloc(sizeof(*ctx), GFP_KERNEL);
	int i, err;

	if (!ctx)
		return -ENOMEM;
	ctx->dev = dev;
	mutex_init(&ctx->queue_lock);
	INIT_WORK(&ctx->work, work);
	v4l2_fh_init(&ctx->fh, &dev->video);
	file->private_data = &ctx->fh;
	err = init_controls(ctx);
	if (err)
		goto fail;
	ctx->fh.m2m_ctx = v4l2_m2m_ctx_init(dev->m2m, ctx, queue_init);
	if (IS_ERR(ctx->fh.m2m_ctx)) {
		err = PTR_ERR(ctx->fh.m2m_ctx);
		goto fail;
	}
	for (i = SRC; i <= DST; i++) {
		f.type = i == SRC ? V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
		f.fmt.pix_mp = (struct v4l2_pix_format_mplane){ .width = 640, .height = 480 };
		s_fmt(file, NULL, &f);
	}
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
	kfree(ctx);
	return 0;
}

static const struct v4l2_file_operations file_ops = {
	.owner = THIS_MODULE,
	.open = fl_open,
	.release = fl_release,
	.poll = v4l2_m2m_fop_poll,
	.mmap = v4l2_m2m_fop_mmap,
	.unlocked_ioctl = video_ioctl2,
};

static void video_release(struct video_device *video)
{
	struct fl_dev *dev = container_of(video, struct fl_dev, video);

	v4l2_device_unregister(&dev->v4l2);
	v4l2_m2m_release(dev->m2m);
	destroy_workqueue(dev->queue);
	kfree(dev);
}

/* The device */

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
	dev->video.ioctl_ops = &ioctl_ops;
	dev->video.release = video_release;
	dev->video.lock = &dev->lock;
	dev->video.device_caps = V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_STREAMING;
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
MODULE_DESCRIPTION("Software mem-to-mem scaler for the tests of framelease");
MODULE_LICENSE("GPL");
