/* framelease: zero-copy video on Linux.
 *
 * Capture, convert, encode, share, record, stream and show dma-bufs, with one descriptor for each station and no
 * thread. docs/c.md shows whole programs. This file is made from the sources of the library: do not edit it.
 *
 * Rules for all functions:
 * - A handle (fl_station, fl_frame, ...) comes from the function that opens, creates or receives it. The functions that
 *   close or release one take a pointer to the handle and make it NULL, so that a second call does nothing. A function
 *   that gives a handle overwrites the pointer, also when it fails: release an earlier handle first.
 * - A pointer is NULL only where its function says so; elsewhere NULL is FL_ERROR_INVALID_ARGUMENT, not a crash.
 * - A structure that begins with its size is initialized with FL_INIT(type), which makes all other fields 0: the
 *   default. Later versions append fields, and programs that were built before keep working.
 * - Text is UTF-8 and ends with NUL; paths are bytes that end with NUL. Times have their unit in their names.
 * - A timeout of 0 does not wait. One below 0 waits for a day, and then returns as after any timeout.
 * - Frames, packets and buffer sets may be used by any thread, also at the same time. Every other handle is for one
 *   thread at a time.
 * - After fork(), the child uses no handle, not even to close it, and ends by exec() or _exit(): both processes would
 *   drive one device. Every descriptor is closed by exec().
 * - No callbacks, no signals, no locale. The library sets no signal handler. It writes no output, except one message to
 *   standard error before FL_ERROR_INTERNAL.
 */

#ifndef FRAMELEASE_H
#define FRAMELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A structure of this type with its size set and all other fields 0:
 *     fl_camera_options options = FL_INIT(fl_camera_options);
 */
#ifdef __cplusplus
template <typename T> inline T fl_init_() {
    T value = T();
    value.size = sizeof(T);
    return value;
}
#define FL_INIT(type) fl_init_<type>()
#define FL_UINT32_(number) static_cast<uint32_t>(number)
extern "C" {
#else
#define FL_INIT(type) ((type){.size = sizeof(type)})
#define FL_UINT32_(number) ((uint32_t)(number))
#endif

/* A format's number: FL_FOURCC('N', 'V', '1', '2'). */
#define FL_FOURCC(a, b, c, d) \
    (FL_UINT32_(a) | FL_UINT32_(b) << 8 | FL_UINT32_(c) << 16 | FL_UINT32_(d) << 24)

/* A station. Close it with fl_station_close(). */
typedef struct fl_station fl_station;

/* An exclusive lease on a buffer of a pool, which may be written. */
typedef struct fl_buffer fl_buffer;

/* The buffers of a source: what a publisher announces and an encoder imports. Close it with fl_buffers_close(). */
typedef struct fl_buffers fl_buffers;

/* A shared lease on a buffer with a picture. Counted: fl_frame_ref() and fl_frame_unref(). */
typedef struct fl_frame fl_frame;

/* Read access of the CPU to a frame. Close it with fl_mapping_close(). */
typedef struct fl_mapping fl_mapping;

/* A pool of buffers with one layout. Close it with fl_pool_close(). */
typedef struct fl_pool fl_pool;

/* Shares packets with receivers, which may be in other threads: for example a recorder, whose disk may stall. Close it
 * with fl_fanout_close().
 */
typedef struct fl_fanout fl_fanout;

/* A coded frame. Counted: fl_packet_ref() and fl_packet_unref(). */
typedef struct fl_packet fl_packet;

/* An open V4L2 device, to ask what it offers and to set its controls; also beside a station that uses it. Close it
 * with fl_device_close().
 */
typedef struct fl_device fl_device;

/* The V4L2 devices of the machine at the time of the call. Close it with fl_device_list_close(). */
typedef struct fl_device_list fl_device_list;

/* The input of a model: scales a frame's picture into memory of yours, as numbers. Close it with fl_tensor_close(). */
typedef struct fl_tensor fl_tensor;

/* ==================================================================================================================
 * Results and errors.
 *
 * Every function that can fail returns an fl_status: FL_OK or another number that is not negative, or an error, which
 * is negative. The numbers never change. After an error, fl_message() has a sentence that says what failed, what was
 * asked, and what to do; fl_error_get() has the parts. No call crashes because of what a device, a peer, a file or a
 * network says.
 */

/* What a call returns. Errors are below 0. */
typedef enum fl_status {
    /* The call did what it says. For fl_station_recv(): the event is filled. */
    FL_OK = 0,
    /* Nothing is there now: the time passed, or a signal handler ran. Not an error. */
    FL_NOTHING = 1,
    /* The stream is over. Reported once. Not an error. */
    FL_ENDED = 2,
    /* The station has no room now, and did not take the item. Not an error: its descriptor becomes readable when there
     * is room.
     */
    FL_FULL = 3,
    /* The path, device, driver or socket does not exist. */
    FL_ERROR_NOT_FOUND = -1,
    /* The file is of the wrong kind: for example, the path is not a video node. */
    FL_ERROR_WRONG_FILE = -2,
    /* The kernel or a publisher denies access to this user. */
    FL_ERROR_PERMISSION_DENIED = -3,
    /* Another program streams from the device, or another thread uses the handle. */
    FL_ERROR_BUSY = -4,
    /* The device, the kernel, the station or this build of the library does not offer what was requested. */
    FL_ERROR_UNSUPPORTED = -5,
    /* An argument is invalid: NULL, a size of zero, a number that no constant has. */
    FL_ERROR_INVALID_ARGUMENT = -6,
    /* Sizes, layouts or numbers do not fit together. */
    FL_ERROR_MISMATCH = -7,
    /* Links or formats along the media pipeline do not match. */
    FL_ERROR_PIPELINE = -8,
    /* The device was unplugged or its driver failed. */
    FL_ERROR_DEVICE_LOST = -9,
    /* The other side closed the connection or died. For a screen: the connector does not have a display. */
    FL_ERROR_DISCONNECTED = -10,
    /* The publisher refused or ended the connection. fl_error has its reason. */
    FL_ERROR_REFUSED = -11,
    /* The peer broke the protocol. */
    FL_ERROR_PROTOCOL = -12,
    /* The call's own deadline passed. The awaited event may still occur. */
    FL_ERROR_TIMEOUT = -13,
    /* A resource is used up: memory, disk space, file descriptors, buffers. */
    FL_ERROR_EXHAUSTED = -14,
    /* The frame's lease ended while the frame was in use. The pixels may have changed. */
    FL_ERROR_REVOKED = -15,
    /* The call is not possible in the present state: for example, after FL_ENDED. */
    FL_ERROR_STATE = -16,
    /* Another error of a system call: see os_errno of fl_error. */
    FL_ERROR_OS = -17,
    /* A fault in this library, with a message on standard error: please report it. The station of the call returns
     * only this error from then on. Close any other handle of the call.
     */
    FL_ERROR_INTERNAL = -18,
} fl_status;

/* Why a publisher refused a subscriber or ended its connection. A later version may have further numbers. */
typedef enum fl_reason {
    /* The error has no reason of a publisher. */
    FL_REASON_NONE = 0,
    /* No common version of the protocol. */
    FL_REASON_VERSION = 1,
    /* The pool has no room for this subscriber's quota. A later attempt may succeed. */
    FL_REASON_CAPACITY = 2,
    /* The publisher's settings exclude this subscriber. */
    FL_REASON_DENIED = 3,
    /* The subscriber sent a message that the protocol forbids. */
    FL_REASON_PROTOCOL = 4,
    /* A frame was held beyond the publisher's deadline. A later attempt may succeed. */
    FL_REASON_LEASE_EXPIRED = 5,
    /* The publisher is closing. A later attempt may succeed. */
    FL_REASON_CLOSING = 6,
    /* The subscriber did not send HELLO in time. A later attempt may succeed. */
    FL_REASON_SILENT = 7,
    /* The publisher does not grant FL_POLICY_BLOCK. */
    FL_REASON_BLOCK_DENIED = 8,
    /* A subscriber with FL_POLICY_BLOCK held the stream up for too long. A later attempt may succeed. */
    FL_REASON_STALLED = 9,
} fl_reason;

/* The parts of an error. */
typedef struct fl_error {
    /* sizeof(fl_error): FL_INIT sets it. */
    size_t size;
    /* The error, or FL_OK if no call failed yet. */
    int status;
    /* The kernel's error number (errno.h), or 0 if no system call failed. */
    int os_errno;
    /* An fl_reason. */
    uint32_t reason;
    /* The name of the call that failed, such as "VIDIOC_S_FMT". Valid as long as `message`. */
    const char *op;
    /* The whole sentence, as fl_message() returns it. */
    const char *message;
} fl_error;

/* The last error of a station's calls as a sentence. With NULL: the last error of any call of this thread, which is
 * the one to ask after a function that has no station. If another thread uses the station, FL_ERROR_BUSY is in the
 * thread's message alone. Never NULL. Valid until the next call that fails, of the station or the thread, and until
 * the station is closed or the thread ends.
 */
const char *fl_message(fl_station *station);

/* The parts of the last error of a station's calls, or of the thread's with NULL. The texts are valid as long as that
 * of fl_message().
 */
fl_status fl_error_get(fl_station *station, fl_error *error);

/* The name of a status, for logs: "FL_ERROR_NOT_FOUND". Static text. */
const char *fl_status_name(int status);

/* The library's version: "0.1.0". Static text. */
const char *fl_version(void);

/* ==================================================================================================================
 * Stations: the calls that are the same for all.
 *
 * A station gives or takes frames or packets: a camera, a converter, an encoder, a publisher, a recorder, a display.
 * Each kind has its own function that opens it; these functions do the rest.
 *
 * One descriptor for life: fl_station_fd() returns the same descriptor from open to close. Register it once,
 * level-triggered, for POLLIN. It is readable while fl_station_recv() with a timeout of 0 has something to say. Call
 * that until it returns FL_NOTHING, and poll again. No other timer, thread or callback is needed.
 *
 * One thread at a time may use a station, and not always the same one. A call while another thread is in one returns
 * FL_ERROR_BUSY. Threads that share a station lock a mutex around each call, with a timeout of 0. Before
 * fl_station_close(), end the other threads' calls: let them wait for the descriptor beside one of yours. Different
 * stations are independent, also of their frames and packets, which any thread may use and give back.
 */

/* What an event says. Each station's functions list the kinds that it gives. */
typedef enum fl_event_kind {
    /* No event. */
    FL_EVENT_NONE = 0,
    /* A frame, in `frame`. */
    FL_EVENT_FRAME = 1,
    /* A coded frame, in `packet`. */
    FL_EVENT_PACKET = 2,
    /* The device or the peer is gone: `status` and `text` say why. Frames that you hold stay valid. The station
     * continues by itself if its options say so; otherwise call fl_station_reopen() after FL_EVENT_RETURNED.
     */
    FL_EVENT_LOST = 3,
    /* The device or the peer is back. */
    FL_EVENT_RETURNED = 4,
    /* The frames that follow have another layout and are in other buffers: ask fl_station_buffers() again. Subscribers
     * and decoders give this event before their first frame too.
     */
    FL_EVENT_FORMAT = 5,
    /* The publisher paused the stream. Frames that you hold stay valid; the next frame ends the pause. */
    FL_EVENT_PAUSED = 6,
    /* A publisher, or this station, refused a connection: `status`, `reason` and `text` say why. */
    FL_EVENT_REFUSED = 7,
    /* A subscriber or client came: `pid`, `uid`, `gid` for a publisher, `id` and `text` (its address) for RTSP. */
    FL_EVENT_JOINED = 8,
    /* A subscriber or client left. Fields as for FL_EVENT_JOINED; for a publisher, `status` and `text` say why. */
    FL_EVENT_LEFT = 9,
    /* One item failed, and the station continues: `status` and `text` say why. A converter gives its target back in
     * `buffer`.
     */
    FL_EVENT_FAILED = 10,
    /* A file is complete; `text` is its path, with its `bytes` and `duration_ms`. */
    FL_EVENT_FILE = 11,
    /* The recorder deleted an old file; `text` is its path. */
    FL_EVENT_FILE_DELETED = 12,
    /* The recorder repaired a file that an earlier run did not finish; `text` is its path. */
    FL_EVENT_FILE_REPAIRED = 13,
    /* A receiver asks for a key frame: call fl_encoder_force_key(). `id` is the mount of an RTSP server. */
    FL_EVENT_KEY_FRAME_WANTED = 14,
    /* A frame is on the screen since `time_ns`. */
    FL_EVENT_SHOWN = 15,
    /* A device node appeared, or its permissions changed; `text` is its path. */
    FL_EVENT_NODE_APPEARED = 16,
    /* A device node was removed; `text` is its path. */
    FL_EVENT_NODE_REMOVED = 17,
    /* Another event, which `text` describes. A later version may give it a kind of its own. */
    FL_EVENT_OTHER = 18,
} fl_event_kind;

/* An event of a station. `frame`, `packet` and `buffer` are yours: fl_event_clear() gives them back, or the function
 * of each one. Every other pointer belongs to the station.
 */
typedef struct fl_event {
    /* sizeof(fl_event): FL_INIT sets it. */
    size_t size;
    /* An fl_event_kind. A later version may have further numbers: ignore those that you do not know. */
    uint32_t kind;
    /* For events with a cause: an fl_status. */
    int status;
    /* For events with a cause: an fl_reason. */
    uint32_t reason;
    /* The mount of an RTSP server or the destination of an RTP sender. */
    uint32_t id;
    /* With FL_EVENT_FRAME, otherwise NULL. */
    fl_frame *frame;
    /* With FL_EVENT_PACKET, otherwise NULL. */
    fl_packet *packet;
    /* With FL_EVENT_FAILED of a converter, otherwise NULL. */
    fl_buffer *buffer;
    /* With FL_EVENT_SHOWN: nanoseconds of CLOCK_MONOTONIC. */
    uint64_t time_ns;
    /* The process of a subscriber, or 0. */
    int32_t pid;
    /* The user of a subscriber. */
    uint32_t uid;
    /* The group of a subscriber. */
    uint32_t gid;
    /* A sentence for logs, or a path. Never NULL, but "" where the kind says all. Valid until the next
     * fl_station_recv() of this station.
     */
    const char *text;
    /* With FL_EVENT_FILE: the size of the file. */
    uint64_t bytes;
    /* With FL_EVENT_FILE: from its first frame to the end of its last, in milliseconds. */
    uint64_t duration_ms;
} fl_event;

/* One of a station's counts. */
typedef struct fl_stat {
    /* The name of the count, such as "frames". Static text. */
    const char *name;
    /* The count since the station was opened, or a present number such as "leased". */
    uint64_t value;
} fl_stat;

/* Returns the station's descriptor, for poll, epoll or any event loop: the same one until fl_station_close(). -1 for
 * NULL. Do not read, write or close it.
 */
int fl_station_fd(fl_station *station);

/* Waits for the next event, for at most `timeout_ms` milliseconds: 0 does not wait, -1 waits for a day. A signal
 * handler ends the wait early.
 *
 * Returns FL_OK with an event, FL_NOTHING, or FL_ENDED once, when the stream is over. After an error the station
 * continues, unless the function that opened it says otherwise: log fl_message() and call again.
 *
 * Release what the last event held before you reuse `event`: this call overwrites it.
 */
fl_status fl_station_recv(fl_station *station, int timeout_ms, fl_event *event);

/* Gives back what an event holds: its frame, packet or buffer. The event is then empty. NULL is allowed. */
void fl_event_clear(fl_event *event);

/* Does the work that is due, without receiving. For stations whose events you ignore: a publisher, a recorder, an RTSP
 * server. Call it when the descriptor is readable: an event that you ignore keeps the descriptor readable only until
 * this call. Every fl_station_recv() does the same work first.
 */
fl_status fl_station_dispatch(fl_station *station);

/* Gives a frame to a station that takes frames: a publisher, an encoder, a display. Waits for room for at most
 * `timeout_ms`, as fl_station_recv() waits.
 *
 * Returns FL_OK, FL_FULL, or an error. In each case your reference stays yours: the station takes a reference of its
 * own if it takes the frame. Copies no pixel. A publisher is full only while a subscriber with FL_POLICY_BLOCK has no
 * room. Other slow subscribers miss the frame.
 */
fl_status fl_station_submit(fl_station *station, const fl_frame *frame, int timeout_ms);

/* Gives a packet to a station that takes packets: a recorder, an RTP sender, a decoder. As fl_station_submit(). */
fl_status fl_station_submit_packet(fl_station *station, const fl_packet *packet, int timeout_ms);

/* Opens a lost device again: of a camera, a converter or a decoder. The descriptor, subscribers and sinks stay.
 * FL_ERROR_NOT_FOUND until the device is back; the call can be repeated. An encoder does this by itself, and so does a
 * camera with FL_CAMERA_REOPEN; for a display, see fl_display_reopen().
 */
fl_status fl_station_reopen(fl_station *station);

/* Returns whether the station needs a key frame to begin or to continue: a recorder, an RTP sender. Then call
 * fl_encoder_force_key(). For an RTSP server, see fl_rtsp_awaits_key().
 */
bool fl_station_awaits_key(fl_station *station);

/* Writes the station's counts to `stats`, which has room for `capacity`, and their number to `count`. If `capacity` is
 * smaller than that number, the first `capacity` counts are written. `stats` may be NULL if `capacity` is 0.
 */
fl_status fl_station_stats(fl_station *station, fl_stat *stats, size_t capacity, size_t *count);

/* Closes a station and makes the pointer NULL. No other thread may be in a call of it. Frames and packets that you
 * hold stay valid until you release them. NULL, or a pointer to NULL, is allowed.
 */
void fl_station_close(fl_station **station);

/* ==================================================================================================================
 * Formats.
 *
 * A format is a V4L2 fourcc: FL_FOURCC(), or V4L2_PIX_FMT_... of linux/videodev2.h. V4L2 names bytes in the order of
 * memory: 'RGB3' (V4L2_PIX_FMT_RGB24) is red, green, blue.
 *
 * A layout says exactly where each color plane of a picture lies in its buffers.
 */

/* The most color planes, and the most memory planes, of a layout. */
#define FL_MAX_PLANES 4

/* The codec of packets. */
typedef enum fl_codec {
    FL_CODEC_H264 = 1,
    FL_CODEC_HEVC = 2,
    FL_CODEC_VP8 = 3,
    FL_CODEC_MJPEG = 4,
    /* The test codec of Linux's driver vicodec. */
    FL_CODEC_FWHT = 5,
} fl_codec;

/* Where a color plane lies. */
typedef struct fl_plane {
    /* The memory plane (buffer) that it lies in. */
    uint32_t memory;
    /* The offset of the first row in that memory plane, in bytes. */
    uint32_t offset_bytes;
    /* The distance from a row to the next, in bytes. */
    uint32_t stride_bytes;
    /* The bytes of pixels in a row, without padding. */
    uint32_t row_bytes;
    /* The number of rows. 0 if the format is compressed or opaque. */
    uint32_t rows;
} fl_plane;

/* How the numbers of pixels become colors, in the numbers of V4L2 (linux/videodev2.h). 0: not stated. */
typedef struct fl_colorimetry {
    /* enum v4l2_colorspace */
    uint32_t space;
    /* enum v4l2_ycbcr_encoding */
    uint32_t encoding;
    /* enum v4l2_quantization */
    uint32_t range;
    /* enum v4l2_xfer_func */
    uint32_t transfer;
} fl_colorimetry;

/* The exact layout of a picture in memory. */
typedef struct fl_layout {
    /* sizeof(fl_layout): FL_INIT sets it. */
    size_t size;
    /* The V4L2 fourcc, such as FL_FOURCC('N', 'V', '1', '2'). */
    uint32_t fourcc;
    /* The picture's width, in pixels. */
    uint32_t width;
    /* The picture's height, in pixels. */
    uint32_t height;
    /* The number of color planes, which is 0 for a bitstream. */
    uint32_t plane_count;
    /* The color planes. */
    fl_plane planes[FL_MAX_PLANES];
    /* The number of memory planes: of buffers for one picture. */
    uint32_t memory_count;
    /* The bytes of each memory plane. */
    uint32_t memory_bytes[FL_MAX_PLANES];
    fl_colorimetry colorimetry;
} fl_layout;

/* The time between two frames, in seconds: 1/30 for 30 frames a second. 0/0: not stated. */
typedef struct fl_interval {
    uint32_t numerator;
    uint32_t denominator;
} fl_interval;

/* A part of a picture, in pixels. With width and height 0: the whole picture. */
typedef struct fl_rect {
    int32_t left;
    int32_t top;
    uint32_t width;
    uint32_t height;
} fl_rect;

/* Fills the layout of a picture whose rows have no padding but the least that makes each stride a multiple of
 * `alignment_bytes` (0 or 1: no padding). All planes lie in one buffer.
 */
fl_status fl_layout_make(uint32_t fourcc, uint32_t width, uint32_t height, uint32_t alignment_bytes, fl_layout *layout);

/* Writes the fourcc as text with its end, such as "NV12", or "0x00000001" if it has characters that cannot be printed.
 * `text` has room for 16 bytes.
 */
fl_status fl_fourcc_text(uint32_t fourcc, char *text);

/* The name of a codec, for logs. Static text. */
const char *fl_codec_name(uint32_t codec);

/* ==================================================================================================================
 * Frames, and the memory that they lie in.
 *
 * An fl_frame is a counted lease on a buffer: while you hold a reference, no camera and no pool writes into it.
 * Release frames soon: a camera has few buffers.
 */

/* The picture is damaged: the driver, or a device before it, reported an error. */
#define FL_FRAME_DAMAGED 1u

/* The frame or packet can be decoded without those before it. */
#define FL_FRAME_KEY 2u

/* The last frame of the stream. */
#define FL_FRAME_LAST 4u

/* The timestamp is of CLOCK_MONOTONIC. */
#define FL_FRAME_MONOTONIC 8u

/* The rows of two fields, taken one after the other; the field of the first row first. */
#define FL_FRAME_INTERLACED 16u

/* With FL_FRAME_INTERLACED: the field of the second row first. */
#define FL_FRAME_BOTTOM_FIRST 32u

/* The rows of one field: that of the first row. */
#define FL_FRAME_TOP_FIELD 64u

/* The rows of one field: that of the second row. */
#define FL_FRAME_BOTTOM_FIELD 128u

/* How fast the CPU reads the buffers of a source. */
typedef enum fl_cpu_reads {
    FL_CPU_READS_UNKNOWN = 0,
    FL_CPU_READS_CACHED = 1,
    /* Reading in place is many times slower than a copy with fl_mapping_copy_row(). */
    FL_CPU_READS_UNCACHED = 2,
} fl_cpu_reads;

/* A memory plane of a frame or a buffer. */
typedef struct fl_memory {
    /* The dma-buf, or memfd. It belongs to the library: dup() it to keep it after its frame or buffers. A device
     * may import it; release the frame after the device has finished. A memfd that the library made can be mapped for
     * reading alone: fl_buffer_write_rows() writes it.
     */
    int fd;
    /* Whether `fd` is a dma-buf. Devices import nothing else. */
    bool is_dmabuf;
    /* The size of the whole buffer, in bytes. */
    uint64_t size_bytes;
    /* The offset of this frame's data, in bytes. */
    uint32_t offset_bytes;
    /* The length of this frame's data, in bytes. */
    uint32_t bytes;
} fl_memory;

/* The facts of a frame, without its pixels. */
typedef struct fl_frame_info {
    /* sizeof(fl_frame_info): FL_INIT sets it. */
    size_t size;
    /* The source's number of the frame. A gap means lost frames. */
    uint64_t sequence;
    /* When the frame was taken, in nanoseconds. FL_FRAME_MONOTONIC says of which clock. */
    uint64_t timestamp_ns;
    /* When the publisher sent the frame, in nanoseconds of CLOCK_MONOTONIC; 0 for other frames. */
    uint64_t published_ns;
    /* Frames that this subscriber wanted and did not get until now. 0 for other frames. */
    uint64_t dropped;
    /* Frames that the source lost directly before this one. */
    uint32_t lost;
    /* FL_FRAME_... together. */
    uint32_t flags;
    /* The number of the buffer. The same number means the same memory, as long as the buffers are the same. */
    uint32_t slot;
    /* The number of `memory`. */
    uint32_t memory_count;
    /* The memory planes. */
    fl_memory memory[FL_MAX_PLANES];
} fl_frame_info;

/* The pixels of one color plane, in memory that is mapped for reading. */
typedef struct fl_pixels {
    /* The first byte of the first row. A device or another process may change the bytes at any time, for example after
     * a lease was revoked: do not decide by a byte that you read twice.
     */
    const uint8_t *data;
    /* All bytes from the first row to the end of the last, with the padding between rows. */
    size_t bytes;
    /* The distance from a row to the next, in bytes. */
    size_t stride_bytes;
    /* The bytes of pixels in a row, without padding. */
    size_t row_bytes;
    /* The number of rows. */
    uint32_t rows;
} fl_pixels;

/* Adds a reference and returns `frame`. Each reference needs one fl_frame_unref(). One atomic addition. */
fl_frame *fl_frame_ref(fl_frame *frame);

/* Gives a reference back and makes the pointer NULL. With the last reference, the buffer returns to its source. NULL,
 * or a pointer to NULL, is allowed.
 */
void fl_frame_unref(fl_frame **frame);

/* Fills `info`. No system call. */
fl_status fl_frame_get_info(const fl_frame *frame, fl_frame_info *info);

/* Fills the layout of the frame's pixels. */
fl_status fl_frame_get_layout(const fl_frame *frame, fl_layout *layout);

/* Returns whether the lease still holds. It ends early if the publisher revokes it or is gone; then pixels that you
 * have read may belong to a later picture. So ask after the last byte was read. One system call for a subscriber's
 * frame; other frames are always valid.
 */
bool fl_frame_is_valid(const fl_frame *frame);

/* Begins reading the pixels with the CPU. Waits for at most `timeout_ms` for a device that still writes them. Maps
 * each buffer once in its life (mmap), then costs one DMA_BUF_IOCTL_SYNC for each memory plane.
 *
 * FL_ERROR_TIMEOUT if the device still writes after that time. The mapping keeps the frame's lease. End it soon with
 * fl_mapping_close().
 */
fl_status fl_frame_map(const fl_frame *frame, int timeout_ms, fl_mapping **mapping);

/* Fills the place of a color plane's pixels, which is valid until fl_mapping_close(). */
fl_status fl_mapping_plane(const fl_mapping *mapping, uint32_t plane, fl_pixels *pixels);

/* Copies a row of a color plane, without padding. `bytes` is the row_bytes of the plane. For buffers that the CPU
 * reads slowly (FL_CPU_READS_UNCACHED), and for data that must not change while you decide by it.
 */
fl_status fl_mapping_copy_row(const fl_mapping *mapping, uint32_t plane, uint32_t row, uint8_t *to, size_t bytes);

/* Ends reading, and makes the pointer NULL. NULL is allowed. */
void fl_mapping_close(fl_mapping **mapping);

/* Gives the present buffers of a camera, a test pattern, a subscriber or a decoder. After FL_EVENT_FORMAT the station
 * has others. A subscriber and a decoder have none before their first FL_EVENT_FORMAT: FL_ERROR_STATE.
 */
fl_status fl_station_buffers(fl_station *station, fl_buffers **buffers);

/* Fills the layout of all frames in these buffers. */
fl_status fl_buffers_get_layout(const fl_buffers *buffers, fl_layout *layout);

/* Returns the number of buffers. */
size_t fl_buffers_count(const fl_buffers *buffers);

/* Fills the memory plane `plane` of the buffer `slot`, both from 0, so that a device can import all buffers before the
 * first frame. FL_ENDED if the buffers do not have that slot or plane. FL_NOTHING if the memory is not known yet:
 * GStreamer's unixfdsink announces a buffer with the first frame in it. No system call.
 */
fl_status fl_buffers_get_memory(const fl_buffers *buffers, size_t slot, uint32_t plane, fl_memory *memory);

/* Returns an fl_cpu_reads. */
uint32_t fl_buffers_cpu_reads(const fl_buffers *buffers);

/* Closes the handle and makes the pointer NULL. Frames and the stations that use the buffers keep them. NULL is
 * allowed.
 */
void fl_buffers_close(fl_buffers **buffers);

/* Allocates `count` buffers (1 to 64) of a layout, for a converter's targets or for pictures that your program draws.
 *
 * `allocator` names the memory: "devices" (the default for NULL: a dma-heap or udmabuf that devices import), "cpu"
 * (for pictures that the CPU writes), "memfd", "udmabuf", or the path of a dma-heap such as "/dev/dma_heap/system".
 */
fl_status fl_pool_create(const char *allocator, const fl_layout *layout, size_t count, fl_pool **pool);

/* Makes a pool of `count` buffers (1 to 64) that were allocated elsewhere, for example by a graphics driver. They are
 * dma-bufs, or memfds that are sealed against shrinking. `fds` has the memory_count descriptors of the layout for each
 * buffer, one buffer after the other. The pool duplicates them: yours stay yours. Only the holder of a lease may write
 * its buffer.
 */
fl_status fl_pool_from_fds(const fl_layout *layout, const int *fds, size_t count, fl_pool **pool);

/* Gives the pool's buffers, to announce them. */
fl_status fl_pool_buffers(const fl_pool *pool, fl_buffers **buffers);

/* Leases a free buffer. Waits for one for at most `timeout_ms`: FL_NOTHING if all are still leased then. */
fl_status fl_pool_acquire(const fl_pool *pool, int timeout_ms, fl_buffer **buffer);

/* Closes the pool and makes the pointer NULL. Leased buffers stay valid. NULL is allowed. */
void fl_pool_close(fl_pool **pool);

/* Copies rows of pixels into a color plane with the CPU: `rows` rows from `first_row` on, `row_bytes` each, which lie
 * `stride_bytes` apart at `from`.
 */
fl_status fl_buffer_write_rows(
    fl_buffer *buffer, uint32_t plane, uint32_t first_row, uint32_t rows, const void *from, size_t stride_bytes,
    size_t row_bytes);

/* Fills `slot` and the memory planes of `info`, and makes its other fields 0: for a device, such as a GPU, that writes
 * the pixels. No system call.
 */
fl_status fl_buffer_get_info(const fl_buffer *buffer, fl_frame_info *info);

/* Ends writing: the buffer becomes a frame with this sequence number and time (nanoseconds of CLOCK_MONOTONIC). Takes
 * the buffer and makes its pointer NULL. No pixel is copied.
 */
fl_status fl_buffer_freeze(fl_buffer **buffer, uint64_t sequence, uint64_t timestamp_ns, fl_frame **frame);

/* Ends writing as fl_buffer_freeze() does, with the facts of `info`: sequence, timestamp_ns, lost, flags, and the
 * offset_bytes and bytes of each memory plane. Its other fields are not read. fl_buffer_get_info() fills the memory
 * planes of a whole picture to begin with. After an error the buffer stays yours.
 */
fl_status fl_buffer_freeze_with(fl_buffer **buffer, const fl_frame_info *info, fl_frame **frame);

/* Gives a buffer back to its pool without a frame, and makes the pointer NULL. NULL is allowed. */
void fl_buffer_release(fl_buffer **buffer);

/* ==================================================================================================================
 * Packets: coded frames.
 *
 * One encode can feed any number of sinks: a packet is counted, and no sink copies its bytes. They lie in a buffer of
 * the encoder, which returns with the last reference; so do not keep packets for long, or detach them.
 */

/* What a full queue of a receiver does. */
typedef enum fl_overflow {
    /* The packets that wait are dropped. For live consumers. */
    FL_OVERFLOW_DROP_WAITING = 0,
    /* The packets that wait are kept, and the new packet is dropped. For files. */
    FL_OVERFLOW_DROP_NEW = 1,
} fl_overflow;

/* The facts of a packet, and its bytes. */
typedef struct fl_packet_info {
    /* sizeof(fl_packet_info): FL_INIT sets it. */
    size_t size;
    /* The bytes, in Annex B form for H.264 and H.265. Valid as long as you hold the packet. */
    const uint8_t *data;
    /* The number of bytes. */
    size_t bytes;
    /* An fl_codec. */
    uint32_t codec;
    /* FL_FRAME_...: FL_FRAME_KEY and others. */
    uint32_t flags;
    /* The width of the picture, in pixels. */
    uint32_t width;
    /* The height of the picture, in pixels. */
    uint32_t height;
    /* The number of the packet in its stream. A gap means that packets were dropped on the way. */
    uint64_t sequence;
    /* When the frame was taken, in nanoseconds. */
    uint64_t timestamp_ns;
    /* The sequence of the frame that was encoded, or UINT64_MAX if the encoder could not match it. */
    uint64_t source_sequence;
} fl_packet_info;

/* Adds a reference and returns `packet`. Each reference needs one fl_packet_unref(). */
fl_packet *fl_packet_ref(fl_packet *packet);

/* Gives a reference back and makes the pointer NULL. NULL, or a pointer to NULL, is allowed. */
void fl_packet_unref(fl_packet **packet);

/* Fills `info`. No system call, and no copy. */
fl_status fl_packet_get_info(const fl_packet *packet, fl_packet_info *info);

/* Makes a packet of your program's bytes, which it copies: for a decoder, or for the sinks of another encoder. Of
 * `info`, `source_sequence` is not read, and of the flags FL_FRAME_KEY and FL_FRAME_MONOTONIC.
 */
fl_status fl_packet_create(const fl_packet_info *info, fl_packet **packet);

/* Gives a packet with a copy of the bytes, so that the encoder's buffer can return. Use it for packets that wait for
 * long.
 */
fl_status fl_packet_detach(const fl_packet *packet, fl_packet **detached);

/* Creates a fan-out without receivers. */
fl_status fl_fanout_create(fl_fanout **fanout);

/* Adds a receiver, which is a station: its events are FL_EVENT_PACKET, beginning with a key frame, and FL_ENDED after
 * fl_fanout_close(). At most `packets` packets with `bytes` bytes together wait for it; 0 is the default of 60 packets
 * and 8 MiB. `overflow` is an fl_overflow. Close the receiver with fl_station_close().
 */
fl_status fl_fanout_attach(fl_fanout *fanout, size_t packets, size_t bytes, uint32_t overflow, fl_station **receiver);

/* Gives a packet to every receiver. Never blocks. */
fl_status fl_fanout_push(fl_fanout *fanout, const fl_packet *packet);

/* Returns whether a receiver waits for a key frame: call fl_encoder_force_key(). */
bool fl_fanout_awaits_key(const fl_fanout *fanout);

/* Ends all receivers' streams, after the packets that wait, and makes the pointer NULL. NULL is allowed. */
void fl_fanout_close(fl_fanout **fanout);

/* ==================================================================================================================
 * Devices: what the machine has, and what each device offers.
 */

/* The device gives frames. */
#define FL_DEVICE_CAPTURE 1u

/* The device takes frames. */
#define FL_DEVICE_OUTPUT 2u

/* The device converts, encodes or decodes. */
#define FL_DEVICE_M2M 4u

/* The control cannot be written. */
#define FL_CONTROL_READ_ONLY 1u

/* Another control makes this one ineffective now. */
#define FL_CONTROL_INACTIVE 2u

/* Another program has the control. */
#define FL_CONTROL_GRABBED 4u

/* The kind of a control's value. */
typedef enum fl_control_kind {
    /* A kind that fl_device_set_control() cannot set: text, or an array. */
    FL_CONTROL_OTHER = 0,
    FL_CONTROL_INTEGER = 1,
    /* 0 or 1. */
    FL_CONTROL_BOOLEAN = 2,
    /* The value of an item: see fl_device_get_menu_item(). */
    FL_CONTROL_MENU = 3,
    /* An action: any value presses it. */
    FL_CONTROL_BUTTON = 4,
    FL_CONTROL_BITMASK = 5,
} fl_control_kind;

/* A V4L2 device. The texts belong to the list or the device that gave them. */
typedef struct fl_device_info {
    /* sizeof(fl_device_info): FL_INIT sets it. */
    size_t size;
    /* Such as "/dev/video0". */
    const char *path;
    /* The driver's name, such as "uvcvideo". */
    const char *driver;
    /* The device's name, such as "HD Pro Webcam C920". */
    const char *card;
    /* Where it is connected, such as "usb-0000:00:14.0-1". */
    const char *bus;
    /* The serial number, or NULL. */
    const char *serial;
    /* FL_DEVICE_... together. */
    uint32_t flags;
} fl_device_info;

/* The sizes that a device offers for a format: one size, or a range with steps. */
typedef struct fl_size_range {
    /* sizeof(fl_size_range): FL_INIT sets it. */
    size_t size;
    /* The smallest size, in pixels. */
    uint32_t min_width;
    uint32_t min_height;
    /* The largest size. Equal to the smallest for one size. */
    uint32_t max_width;
    uint32_t max_height;
    /* The steps between. 0 for one size. */
    uint32_t step_width;
    uint32_t step_height;
} fl_size_range;

/* A control of a device: brightness, exposure, and others. */
typedef struct fl_control {
    /* sizeof(fl_control): FL_INIT sets it. */
    size_t size;
    /* V4L2_CID_... (linux/v4l2-controls.h). */
    uint32_t id;
    /* An fl_control_kind. */
    uint32_t kind;
    /* FL_CONTROL_READ_ONLY and others together. */
    uint32_t flags;
    /* Such as "Brightness". Belongs to the device. */
    const char *name;
    int64_t minimum;
    int64_t maximum;
    uint64_t step;
    int64_t default_value;
} fl_control;

/* An item of a control of the kind FL_CONTROL_MENU. */
typedef struct fl_menu_item {
    /* sizeof(fl_menu_item): FL_INIT sets it. */
    size_t size;
    /* The value of the control that selects the item. */
    int64_t value;
    /* Such as "50 Hz", or a number. Belongs to the device. */
    const char *name;
} fl_menu_item;

/* Lists the V4L2 devices. A device that cannot be opened is left out. */
fl_status fl_device_list_create(fl_device_list **list);

/* Returns the number of devices. */
size_t fl_device_list_count(const fl_device_list *list);

/* Fills `info` of device `index`, from 0. FL_ENDED if the list has no such device. */
fl_status fl_device_list_get(const fl_device_list *list, size_t index, fl_device_info *info);

/* Closes the list and makes the pointer NULL. NULL is allowed. */
void fl_device_list_close(fl_device_list **list);

/* Opens a device for questions and controls. Does not stream. */
fl_status fl_device_open(const char *path, fl_device **device);

/* Fills what is known of the device. */
fl_status fl_device_get_info(const fl_device *device, fl_device_info *info);

/* Gives the fourcc of the format `index`, from 0. FL_ENDED if the device has no such format. For an encoder or a
 * converter, `is_output` asks for the formats that it takes; otherwise for those that it gives. (VIDIOC_ENUM_FMT)
 */
fl_status fl_device_get_format(const fl_device *device, bool is_output, size_t index, uint32_t *fourcc);

/* Fills the sizes `index`, from 0, of a format. FL_ENDED if there are no more; a device that does not say its sizes
 * has none. (VIDIOC_ENUM_FRAMESIZES)
 */
fl_status fl_device_get_size(const fl_device *device, uint32_t fourcc, size_t index, fl_size_range *sizes);

/* Fills the frame intervals `index`, from 0, of a format and size: from `min` (the fastest) to `max`, which are equal
 * for a single interval. FL_ENDED if there are no more. (VIDIOC_ENUM_FRAMEINTERVALS)
 */
fl_status fl_device_get_interval(
    const fl_device *device, uint32_t fourcc, uint32_t width, uint32_t height, size_t index, fl_interval *min,
    fl_interval *max);

/* Fills the control `index`, from 0, as it was when the device was opened. FL_ENDED if the device has no such control.
 * (VIDIOC_QUERY_EXT_CTRL)
 */
fl_status fl_device_get_control_info(const fl_device *device, size_t index, fl_control *control);

/* Fills the item `index`, from 0, of a control. FL_ENDED beyond the last one. The values that a driver leaves out are
 * not counted. FL_ERROR_NOT_FOUND if the device does not have the control. (VIDIOC_QUERYMENU)
 */
fl_status fl_device_get_menu_item(const fl_device *device, uint32_t id, size_t index, fl_menu_item *item);

/* Reads a control's value. (VIDIOC_G_EXT_CTRLS) */
fl_status fl_device_get_control(const fl_device *device, uint32_t id, int64_t *value);

/* Sets a control, and writes the value that the driver has set to `set`, which may be NULL. (VIDIOC_S_EXT_CTRLS) */
fl_status fl_device_set_control(const fl_device *device, uint32_t id, int64_t value, int64_t *set);

/* Closes the device and makes the pointer NULL. NULL is allowed. */
void fl_device_close(fl_device **device);

/* Returns the name of an fl_control_kind, for logs. Static text. */
const char *fl_control_kind_name(uint32_t kind);

/* Opens a station that reports device nodes as they come and go: FL_EVENT_NODE_APPEARED and FL_EVENT_NODE_REMOVED. A
 * node appears before udev sets its permissions: if an open fails with FL_ERROR_PERMISSION_DENIED, try again at the
 * next event.
 */
fl_status fl_hotplug_open(fl_station **hotplug);

/* ==================================================================================================================
 * Cameras and the test pattern.
 *
 * Both are stations that give FL_EVENT_FRAME. A camera also gives FL_EVENT_LOST and FL_EVENT_RETURNED when it is
 * unplugged and back, FL_EVENT_FORMAT when its source changes, and with FL_CAMERA_PACKETS FL_EVENT_PACKET.
 */

/* Use the given `input`. */
#define FL_CAMERA_SET_INPUT 1u

/* If the camera is unplugged, open it again by itself when it is back. */
#define FL_CAMERA_REOPEN 2u

/* Give the coded frames of a camera that encodes, as packets. */
#define FL_CAMERA_PACKETS 4u

/* Copy frames with the CPU if the driver cannot export its buffers. Costs a copy of each frame. */
#define FL_CAMERA_ALLOW_COPY 8u

/* Leave the media pipeline as another program has set it up. */
#define FL_CAMERA_KEEP_PIPELINE 16u

/* Fail if the camera does not have the requested size. Without this flag it takes the nearest: see
 * fl_source_get_layout().
 */
#define FL_CAMERA_EXACT_SIZE 32u

/* Fail if the camera does not have the requested interval. Without this flag it takes the nearest. */
#define FL_CAMERA_EXACT_INTERVAL 64u

/* Ask the driver for buffers that the CPU reads fast. */
#define FL_CAMERA_CACHED 128u

/* What a camera shall be. A field that is 0 or NULL keeps the default. */
typedef struct fl_camera_options {
    /* sizeof(fl_camera_options): FL_INIT sets it. */
    size_t size;
    /* The device node. Default: the first camera, or the first that has what the next three say. */
    const char *path;
    /* The driver of the camera, if `path` is NULL. */
    const char *driver;
    /* The serial number of the camera, if `path` is NULL: see fl_device_info. FL_CAMERA_REOPEN and fl_station_reopen()
     * find it again, also on another port.
     */
    const char *serial;
    /* Where the camera is connected, if `path` is NULL: see fl_device_info. */
    const char *bus;
    /* The name of the sensor, if a media pipeline has several. */
    const char *sensor;
    /* Formats, best first. Default: the camera's present format, or another that fits size and interval better. */
    const uint32_t *fourccs;
    /* The number of `fourccs`. */
    size_t fourcc_count;
    /* The size, in pixels. Default: the device's present size. */
    uint32_t width;
    uint32_t height;
    /* The time between frames. Default: the device's. */
    fl_interval interval;
    /* FL_CAMERA_... together. */
    uint32_t flags;
    /* The number of buffers, 2 to 64. Default: 12. */
    uint32_t buffers;
    /* With FL_CAMERA_SET_INPUT: the V4L2 input. */
    uint32_t input;
    /* The stride of the first color plane, in bytes. Default: the driver's. */
    uint32_t stride_bytes;
    /* Report FL_EVENT_LOST if no frame comes for so long, in milliseconds. Default: a camera may be silent for any
     * time.
     */
    uint32_t stall_ms;
    /* Default: the driver's. */
    fl_colorimetry colorimetry;
    /* Memory of this allocator instead of the driver's: see fl_pool_create(). */
    const char *allocator;
} fl_camera_options;

/* What a test pattern shall be. A field that is 0 or NULL keeps the default. */
typedef struct fl_pattern_options {
    /* sizeof(fl_pattern_options): FL_INIT sets it. */
    size_t size;
    /* The size, in pixels. Required. */
    uint32_t width;
    uint32_t height;
    /* The format. Default: NV12. */
    uint32_t fourcc;
    /* The time between frames. Default: 1/30 s. */
    fl_interval interval;
    /* The number of buffers, 1 to 64. Default: 12. */
    uint32_t buffers;
    /* The memory: see fl_pool_create(). */
    const char *allocator;
    /* An exact layout instead of `fourcc`, width and height, or NULL. */
    const fl_layout *layout;
} fl_pattern_options;

/* Opens a camera and begins to stream. Sets up the media pipeline of a sensor that needs one. `options` may be NULL. */
fl_status fl_camera_open(const fl_camera_options *options, fl_station **station);

/* Opens a source of moving color bars, for tests and for machines without a camera. The CPU draws each frame. */
fl_status fl_pattern_open(const fl_pattern_options *options, fl_station **station);

/* Changes format and size of a running camera. Its descriptor and its subscribers stay; the frames are in other
 * buffers from then on.
 */
fl_status fl_camera_reconfigure(fl_station *station, uint32_t fourcc, uint32_t width, uint32_t height);

/* Fills the layout of the frames. */
fl_status fl_source_get_layout(fl_station *station, fl_layout *layout);

/* Gives the time between frames; 0/0 if it is not known. */
fl_status fl_source_get_interval(fl_station *station, fl_interval *interval);

/* ==================================================================================================================
 * Converters: scale, crop, rotate, compose and change formats, on i.MX G2D, on V4L2 devices, or on the CPU.
 *
 * A converter draws its sources into a buffer of a pool: fl_converter_submit(). The result comes from
 * fl_station_recv() as FL_EVENT_FRAME, or as FL_EVENT_FAILED with the buffer. Devices read and write dma-bufs; only
 * the CPU backend touches pixels.
 */

/* Who converts. */
typedef enum fl_backend {
    /* The first that can do the work: G2D, then each V4L2 device, then the CPU. */
    FL_BACKEND_AUTO = 0,
    /* NXP's libg2d, which is opened when it is used. */
    FL_BACKEND_G2D = 1,
    /* A V4L2 mem-to-mem device. */
    FL_BACKEND_M2M = 2,
    FL_BACKEND_CPU = 3,
} fl_backend;

typedef enum fl_rotation {
    FL_ROTATE_0 = 0,
    /* Clockwise. */
    FL_ROTATE_90 = 1,
    FL_ROTATE_180 = 2,
    FL_ROTATE_270 = 3,
} fl_rotation;

typedef enum fl_flip {
    FL_FLIP_NONE = 0,
    /* Left becomes right. */
    FL_FLIP_HORIZONTAL = 1,
    /* Top becomes bottom. */
    FL_FLIP_VERTICAL = 2,
} fl_flip;

/* How a picture fills its place when their shapes differ. */
typedef enum fl_scaling {
    /* Fills the place. The aspect ratio may change. */
    FL_SCALING_STRETCH = 0,
    /* Keeps the aspect ratio and leaves margins. */
    FL_SCALING_KEEP = 1,
} fl_scaling;

/* How a layer covers those below. */
typedef enum fl_blend {
    FL_BLEND_REPLACE = 0,
    /* By the alpha of its pixels, whose colors are not multiplied by it. */
    FL_BLEND_STRAIGHT = 1,
    /* By the alpha of its pixels, whose colors are already multiplied by it. */
    FL_BLEND_PREMULTIPLIED = 2,
} fl_blend;

/* The numbers of a tensor. */
typedef enum fl_element {
    FL_ELEMENT_F32 = 0,
    FL_ELEMENT_F16 = 1,
    FL_ELEMENT_U8 = 2,
    FL_ELEMENT_I8 = 3,
} fl_element;

/* How the picture fills a tensor. */
typedef enum fl_tensor_fit {
    FL_TENSOR_STRETCH = 0,
    /* Keeps the aspect ratio, with margins of the color `margin`. */
    FL_TENSOR_LETTERBOX = 1,
    /* Keeps the aspect ratio and cuts off what does not fit. */
    FL_TENSOR_CROP = 2,
} fl_tensor_fit;

/* The color components of a tensor. */
typedef enum fl_channels {
    FL_CHANNELS_RGB = 0,
    FL_CHANNELS_BGR = 1,
    FL_CHANNELS_GREY = 2,
} fl_channels;

/* One source in the picture. The steps, in order: crop, flip, rotate, scale to the place, blend. A field
 * that is 0 keeps the default: the whole source is drawn into the whole target.
 */
typedef struct fl_layer {
    /* sizeof(fl_layer): FL_INIT sets it. */
    size_t size;
    /* The part of the source that is drawn. */
    fl_rect crop;
    /* The place in the target. */
    fl_rect place;
    /* An fl_flip. */
    uint32_t flip;
    /* An fl_rotation. */
    uint32_t rotation;
    /* An fl_scaling. */
    uint32_t scaling;
    /* An fl_blend. */
    uint32_t blend;
    /* Transparency of the whole layer: 0 is opaque, 255 is invisible. */
    uint32_t transparency;
    /* Layers with lower numbers are drawn first; equal ones in the order of the array. */
    int32_t z_order;
    /* With FL_SCALING_KEEP: the color of the margins, 0xRRGGBB, if `has_margin` is set. Otherwise they show what is
     * below.
     */
    uint32_t margin;
    bool has_margin;
} fl_layer;

/* What a converter shall do. A field that is 0 or NULL keeps the default. */
typedef struct fl_converter_options {
    /* sizeof(fl_converter_options): FL_INIT sets it. */
    size_t size;
    /* An fl_backend. */
    uint32_t backend;
    /* The target's format. Required. */
    uint32_t fourcc;
    /* The target's size, in pixels. Required. */
    uint32_t width;
    uint32_t height;
    /* The layouts of the sources, one after the other. Required: at least one. Each begins with its size (FL_INIT). */
    const fl_layout *sources;
    /* One layer for each source, or NULL: one source, drawn into the whole target. Each begins with its size. */
    const fl_layer *layers;
    /* The number of sources and layers. */
    size_t source_count;
    /* The color of pixels that no layer covers, 0xRRGGBB. Default: black. */
    uint32_t background;
    /* Draw over the old content of the target instead of a background. */
    bool keep_background;
    /* With FL_BACKEND_M2M: the device node. Default: the first that can do the work. */
    const char *path;
} fl_converter_options;

/* What a tensor is. A field that is 0 keeps the default. */
typedef struct fl_tensor_options {
    /* sizeof(fl_tensor_options): FL_INIT sets it. */
    size_t size;
    /* The size of the model's input, in pixels. Required. */
    uint32_t width;
    uint32_t height;
    /* An fl_element. */
    uint32_t element;
    /* An fl_channels. */
    uint32_t channels;
    /* Rows of pixels (HWC). Otherwise planes of channels (CHW). */
    bool is_hwc;
    /* Weigh all pixels when the picture is made smaller (INTER_AREA). Otherwise bilinear, which is faster. */
    bool is_area;
    /* An fl_tensor_fit. */
    uint32_t fit;
    /* With FL_TENSOR_LETTERBOX: 0xRRGGBB. */
    uint32_t margin;
    /* The part of the picture that is used. */
    fl_rect crop;
    /* Each number is (component - mean) * scale, with components of 0 to 255. A scale of 0 is 1. */
    float mean[3];
    float scale[3];
} fl_tensor_options;

/* Where the picture is in a tensor, to map boxes back. */
typedef struct fl_placement {
    /* The part of the picture. */
    fl_rect crop;
    /* Its place in the tensor. */
    fl_rect place;
} fl_placement;

/* Opens a converter. If none can do the work, the message has the reason of each. Then create a pool with the layout
 * of fl_converter_get_target(), so that the strides suit the device.
 */
fl_status fl_converter_open(const fl_converter_options *options, fl_station **station);

/* Fills the layout of the targets. */
fl_status fl_converter_get_target(fl_station *station, fl_layout *layout);

/* Gives the name of the backend and its device, such as "m2m (/dev/video3)". Valid until the station is closed. */
fl_status fl_converter_get_name(fl_station *station, const char **name);

/* Begins to draw `count` frames, one for each source of the options, into `target`. Does not wait for the device. The
 * CPU draws within the call. For one source, `frames` is the address of its pointer: &event.frame.
 *
 * With FL_OK the converter has the target, whose pointer becomes NULL, and its own references on the frames. With
 * FL_FULL or an error the target stays yours: with FL_FULL, receive first.
 */
fl_status fl_converter_submit(fl_station *station, fl_frame *const *frames, size_t count, fl_buffer **target);

/* Creates a tensor. It keeps tables for the last layout, so that a frame costs no allocation. */
fl_status fl_tensor_create(const fl_tensor_options *options, fl_tensor **tensor);

/* Writes a frame's picture as numbers to `data`, which has exactly width * height * channels numbers, and fills
 * `placement`, which may be NULL. `bytes` is the size of `data`. For a tensor of one thread at a time.
 */
fl_status fl_tensor_write(fl_tensor *tensor, const fl_frame *frame, void *data, size_t bytes, fl_placement *placement);

/* Closes the tensor and makes the pointer NULL. NULL is allowed. */
void fl_tensor_close(fl_tensor **tensor);

/* ==================================================================================================================
 * Encoders, decoders, and the negotiation between camera and encoder.
 *
 * An encoder takes frames and gives FL_EVENT_PACKET. If the device cannot read the source's frames, the library puts a
 * converter between them: a device, never the CPU. A decoder takes packets and gives FL_EVENT_FRAME, after
 * FL_EVENT_FORMAT with its buffers. Both give FL_EVENT_LOST and FL_EVENT_RETURNED.
 */

/* A setting of an encoder. */
typedef enum fl_setting_id {
    /* Bits a second. */
    FL_SETTING_BITRATE_BPS = 1,
    /* Bits a second, with FL_RATE_VARIABLE. */
    FL_SETTING_PEAK_BITRATE_BPS = 2,
    /* An fl_rate_mode. */
    FL_SETTING_RATE_MODE = 3,
    /* Frames from a key frame to the next. */
    FL_SETTING_GOP = 4,
    /* B frames between two others. */
    FL_SETTING_B_FRAMES = 5,
    /* An fl_profile. */
    FL_SETTING_PROFILE = 6,
    /* Ten times the level: 41 is 4.1. */
    FL_SETTING_LEVEL = 7,
    /* 1: parameter sets before every key frame. Receivers that come later need them. */
    FL_SETTING_REPEAT_HEADERS = 8,
    /* 1: parameter sets in a packet of their own. 0: joined to the first frame. */
    FL_SETTING_SEPARATE_HEADERS = 9,
    /* 1: access unit delimiters. */
    FL_SETTING_DELIMITERS = 10,
    /* Quantization of key frames. */
    FL_SETTING_INTRA_QP = 11,
    /* Quantization of other frames. */
    FL_SETTING_INTER_QP = 12,
    FL_SETTING_MIN_QP = 13,
    FL_SETTING_MAX_QP = 14,
    /* With FL_RATE_QUALITY, and for JPEG: 1 to 100. */
    FL_SETTING_QUALITY = 15,
    /* Macroblocks in a slice. */
    FL_SETTING_SLICE_MACROBLOCKS = 16,
    /* Bytes in a slice. */
    FL_SETTING_SLICE_BYTES = 17,
    /* The decoder's buffer, in kilobytes. */
    FL_SETTING_VBV_KILOBYTES = 18,
    /* Frames in which all macroblocks are refreshed. */
    FL_SETTING_INTRA_REFRESH_FRAMES = 19,
    /* 1: the rate control works by frame. */
    FL_SETTING_FRAME_RATE_CONTROL = 20,
    /* 1: the rate control works by macroblock. */
    FL_SETTING_MACROBLOCK_RATE_CONTROL = 21,
} fl_setting_id;

typedef enum fl_rate_mode {
    FL_RATE_CONSTANT = 1,
    FL_RATE_VARIABLE = 2,
    FL_RATE_QUALITY = 3,
} fl_rate_mode;

typedef enum fl_profile {
    FL_PROFILE_BASELINE = 1,
    FL_PROFILE_CONSTRAINED_BASELINE = 2,
    FL_PROFILE_MAIN = 3,
    FL_PROFILE_HIGH = 4,
    FL_PROFILE_MAIN_10 = 5,
    /* VP8's profiles: this number plus 0 to 3. */
    FL_PROFILE_VP8 = 100,
} fl_profile;

/* A setting and its value. */
typedef struct fl_setting {
    /* sizeof(fl_setting): FL_INIT sets it. */
    size_t size;
    /* An fl_setting_id. */
    uint32_t id;
    /* Fail if the driver does not have the setting or changes the value. Otherwise it is a wish. */
    bool is_required;
    /* In the unit of fl_setting_id. */
    int64_t value;
} fl_setting;

/* What an encoder shall do. A field that is 0 or NULL keeps the default. */
typedef struct fl_encoder_options {
    /* sizeof(fl_encoder_options): FL_INIT sets it. */
    size_t size;
    /* An fl_codec. Required. */
    uint32_t codec;
    /* The size of the coded picture, in pixels. Default: that of the frames. fl_negotiate() needs it. */
    uint32_t width;
    uint32_t height;
    /* The time between frames, for the rate control. Default: 1/30 s. */
    fl_interval interval;
    /* The device node. Default: the first encoder that has the codec. */
    const char *path;
    /* Settings of the encoder. Each begins with its size (FL_INIT), and is a wish or required. */
    const fl_setting *settings;
    /* The number of `settings`. */
    size_t setting_count;
    /* The number of buffers for packets, at most 32. The driver needs two, and sinks hold the others. Default: 6. */
    uint32_t packet_buffers;
    /* The size of a buffer for a packet, in bytes. Default: the driver's. */
    uint32_t packet_bytes;
    /* Default: that of the frames. */
    fl_colorimetry colorimetry;
} fl_encoder_options;

/* What a decoder shall do. A field that is 0 or NULL keeps the default. */
typedef struct fl_decoder_options {
    /* sizeof(fl_decoder_options): FL_INIT sets it. */
    size_t size;
    /* An fl_codec. Required. */
    uint32_t codec;
    /* The device node. Default: the first decoder that has the codec. */
    const char *path;
    /* Formats of the frames, best first. Default: what the device prefers. */
    const uint32_t *fourccs;
    /* The number of `fourccs`. */
    size_t fourcc_count;
    /* The expected size, in pixels, which decides the size of the packet buffers. Default: 1920x1088. */
    uint32_t width;
    uint32_t height;
    /* The number of frames that the program holds at the same time, besides those of the decoder. Default: 4. */
    uint32_t frames_held;
    /* The size of the largest packet, in bytes. Default: the driver's estimate. */
    uint32_t packet_bytes;
} fl_decoder_options;

/* Opens an encoder for frames in these buffers: those of a camera, a subscriber, a pool. Opens a converter too if the
 * encoder cannot read them. When FL_EVENT_FORMAT says that the source has other buffers, close it and open another.
 *
 * The encoder reads several frames at the same time: a camera needs buffers for them, and a subscriber's `hold` must
 * cover them (4 is enough for most).
 *
 * If the device is lost, the encoder opens it again by itself when it is back.
 */
fl_status fl_encoder_open(const fl_encoder_options *options, const fl_buffers *buffers, fl_station **station);

/* Opens a camera and an encoder that fit each other: the devices, one layout, one set of buffers, and a converter if
 * no layout suits both.
 *
 * The source is the camera of `camera_options` (NULL: the first camera), or the test pattern of `pattern_options` if
 * that is not NULL. `subscriber_buffers` is the sum of the quotas of all subscribers of a publisher: for each, the
 * frames that it holds and those that may wait. `reserve` gets the number for fl_publisher_options; it may be NULL.
 */
fl_status fl_negotiate(
    const fl_camera_options *camera_options, const fl_pattern_options *pattern_options,
    const fl_encoder_options *encoder_options, uint32_t subscriber_buffers, fl_station **source, fl_station **encoder,
    uint32_t *reserve);

/* Makes the next frame a key frame. Costs nothing until that frame was received, so call it each time that a sink
 * awaits one. A driver that cannot force key frames keeps its own interval.
 */
fl_status fl_encoder_force_key(fl_station *encoder);

/* Changes a setting while the encoder runs, such as the bit rate. `applied`, which may be NULL, gets the value that
 * the driver has set. FL_NOTHING if the driver does not have the setting.
 */
fl_status fl_encoder_apply(fl_station *encoder, uint32_t id, int64_t value, int64_t *applied);

/* Ends the stream: the encoder gives the packets of all frames that it has, then FL_ENDED. */
fl_status fl_encoder_drain(fl_station *encoder);

/* Copies the stream's parameter sets in Annex B form to `to`, which has room for `capacity` bytes, and gives their
 * length. FL_NOTHING before the first key frame. If `capacity` is smaller than the length, nothing is copied; `to` may
 * be NULL if `capacity` is 0.
 */
fl_status fl_encoder_parameter_sets(fl_station *encoder, uint8_t *to, size_t capacity, size_t *length);

/* Opens a decoder. fl_station_submit_packet() gives it packets. */
fl_status fl_decoder_open(const fl_decoder_options *options, fl_station **station);

/* Gives a decoder the bytes of one access unit or frame, without a packet. The decoded frame gets the number and the
 * time. FL_FULL while the device uses all buffers.
 */
fl_status fl_decoder_submit_bytes(
    fl_station *decoder, const uint8_t *data, size_t bytes, uint64_t sequence, uint64_t timestamp_ns);

/* Gives the visible part of each frame, such as 1080 of 1088 rows. FL_ERROR_STATE before FL_EVENT_FORMAT. */
fl_status fl_decoder_get_visible(fl_station *decoder, fl_rect *visible);

/* Ends the stream: the decoder gives the frames of all packets that it has, then FL_ENDED. */
fl_status fl_decoder_drain(fl_station *decoder);

/* Drops what the decoder has, for a jump in the stream. Continue with a key frame. */
fl_status fl_decoder_flush(fl_station *decoder);

/* Opens a decoder of Motion JPEG on the CPU, for webcams, with `buffers` buffers for frames (1 to 64). `allocator` is
 * as for fl_pool_create(), but NULL is "cpu". FL_ERROR_UNSUPPORTED if the library was built without it.
 */
fl_status fl_jpeg_decoder_open(const char *allocator, uint32_t buffers, fl_station **station);

/* ==================================================================================================================
 * Sharing frames with other processes: publisher and subscriber.
 *
 * A publisher takes frames by fl_station_submit() and sends their buffers, as descriptors, to every subscriber of its
 * socket: no pixel is copied. A subscriber gives them as FL_EVENT_FRAME. Its frame is a lease: the publisher's camera
 * does not use the buffer again until it is released, its deadline passes, or the subscriber's process ends.
 */

/* What happens to frames that come while the subscriber holds as many as it may. */
typedef enum fl_policy {
    /* The newest frame waits and replaces the one that waited. */
    FL_POLICY_LATEST = 0,
    /* Up to `depth` frames wait in order; further ones are dropped. */
    FL_POLICY_FIFO = 1,
    /* The publisher and all its subscribers wait. Only if the publisher allows it. */
    FL_POLICY_BLOCK = 2,
} fl_policy;

/* What a publisher shall be. A field that is 0 or NULL keeps the default. */
typedef struct fl_publisher_options {
    /* sizeof(fl_publisher_options): FL_INIT sets it. */
    size_t size;
    /* The path of the socket. Required. */
    const char *path;
    /* Buffers that subscribers never get: those of the driver, those that this process fills or keeps, and one for the
     * newest frame. fl_negotiate() says how many. For the targets of a converter, 3 is usual: one that is drawn, one
     * that waits to be published, and the newest. Default: 5.
     */
    uint32_t reserve;
    /* The permissions of the socket file. Default: 0660. */
    uint32_t mode;
    /* The most subscribers at a time. Default and limit: 64. */
    uint32_t max_subscribers;
    /* The most subscribers of one user at a time. Default: 64. */
    uint32_t max_per_user;
    /* The most frames that one subscriber may hold. Default: 64. */
    uint32_t max_hold;
    /* The longest time that FL_POLICY_BLOCK may stop the stream, in milliseconds. Default: refuse that policy. */
    uint32_t allow_block_ms;
    /* Revoke a frame that a subscriber has held for this time, in milliseconds. Default: no limit. */
    uint32_t lease_revoke_ms;
    /* Then end its stream, this time after the frame was sent, in milliseconds. At least `lease_revoke_ms`, which is
     * needed too. Default: twice that.
     */
    uint32_t lease_end_ms;
    /* The time that a connection has for its first message, in milliseconds. Default: 1000. */
    uint32_t handshake_ms;
    /* How long the buffers of a subscriber that is gone, or that has `fences`, wait for the fences of its devices, in
     * milliseconds at most. Default: no wait.
     */
    uint32_t fence_ms;
    /* The path of a second socket, for GStreamer's unixfdsrc, whose frames are the newest ones. Default: none. */
    const char *unixfd_path;
    /* The frames that each unixfdsrc may hold. Default: 2. */
    uint32_t unixfd_hold;
    /* Use the socket `listener_fd` instead of binding `path`, which is then the name of the socket in messages. */
    bool has_listener;
    /* A Unix socket of type SOCK_SEQPACKET that listens, such as a service manager passes it (LISTEN_FDS of systemd).
     * The publisher duplicates it: yours stays yours. Its file stays after fl_station_close().
     */
    int listener_fd;
} fl_publisher_options;

/* The process at the other end. */
typedef struct fl_peer {
    /* sizeof(fl_peer): FL_INIT sets it. */
    size_t size;
    int32_t pid;
    uint32_t uid;
    uint32_t gid;
    /* The frames that it may hold or that may wait for it. */
    uint32_t quota;
    /* The frames that it holds now. 0 for a publisher. */
    uint32_t held;
    /* Frames that were sent to it. 0 for a publisher. */
    uint64_t sent;
    /* Frames that it wanted and did not get. 0 for a publisher. */
    uint64_t dropped;
    /* How long it has held its oldest frame, in nanoseconds. */
    uint64_t oldest_lease_ns;
} fl_peer;

/* What a subscriber shall be. A field that is 0 or NULL keeps the default. */
typedef struct fl_subscriber_options {
    /* sizeof(fl_subscriber_options): FL_INIT sets it. */
    size_t size;
    /* The path of the publisher's socket. Required. */
    const char *path;
    /* The frames that this process may hold at the same time, 1 to 64. Default: 1. */
    uint32_t hold;
    /* An fl_policy. Default: the newest frame waits. */
    uint32_t policy;
    /* With FL_POLICY_FIFO: the frames that may wait, 1 to 32. Default: 1. */
    uint32_t depth;
    /* Take only each n-th frame. */
    uint32_t every_nth;
    /* The most frames in 1000 seconds. Not together with `every_nth`. */
    uint32_t milli_fps;
    /* Connect again by itself after the publisher is gone. Otherwise FL_ENDED follows FL_EVENT_LOST. */
    bool reconnect;
    /* Accept only a publisher of the user `publisher_uid`. */
    bool check_publisher;
    uint32_t publisher_uid;
    /* Frames may be released while a device of this process still reads them, if the device's fence is attached to
     * each descriptor of the frame (DMA_BUF_IOCTL_IMPORT_SYNC_FILE). The publisher then waits for these fences.
     * Connecting fails with FL_ERROR_UNSUPPORTED if the publisher has no `fence_ms`.
     */
    bool fences;
} fl_subscriber_options;

/* Binds the socket. Replaces the socket file of a publisher that has died; FL_ERROR_BUSY if one is alive. Then call
 * fl_publisher_announce().
 */
fl_status fl_publisher_open(const fl_publisher_options *options, fl_station **station);

/* Announces the buffers of the frames that follow. Call it before the first frame, and again when the source has other
 * buffers (FL_EVENT_FORMAT, fl_camera_reconfigure(), a reopened camera). Subscribers get the descriptors once.
 */
fl_status fl_publisher_announce(fl_station *publisher, const fl_buffers *buffers);

/* Pauses the stream: every subscriber gets the frames that wait for it, then FL_EVENT_PAUSED. The next frame
 * continues. FL_NOTHING if `timeout_ms` passed before all were told; later calls tell the others.
 */
fl_status fl_publisher_pause(fl_station *publisher, int timeout_ms);

/* Fills what is known of the subscriber `index`, from 0. FL_ENDED beyond the last one. */
fl_status fl_publisher_get_subscriber(fl_station *publisher, size_t index, fl_peer *peer);

/* Connects to a publisher. Waits for at most `timeout_ms` until one listens and has admitted this subscriber.
 *
 * FL_ERROR_NOT_FOUND if no publisher listened in that time, FL_ERROR_TIMEOUT if one listened and did not answer,
 * FL_ERROR_REFUSED if it refused: then fl_error has the reason, and the message has the numbers.
 */
fl_status fl_subscriber_open(const fl_subscriber_options *options, int timeout_ms, fl_station **station);

/* Fills what is known of the publisher. FL_NOTHING while it is gone. */
fl_status fl_subscriber_get_publisher(fl_station *subscriber, fl_peer *peer);

/* Gives the time in nanoseconds that `percent` of 100 frames did not exceed between publish and receive. 0 without
 * frames.
 */
fl_status fl_subscriber_latency(fl_station *subscriber, uint32_t percent, uint64_t *latency_ns);

/* ==================================================================================================================
 * Sinks: recordings, RTP and RTSP.
 *
 * Each takes the packets of one encoder by fl_station_submit_packet(), or of an RTSP server's mount by
 * fl_rtsp_submit(). A sink needs a key frame to begin: ask fl_station_awaits_key() after each packet.
 */

/* The container of a recording. */
typedef enum fl_container {
    /* MP4 for paths that end in .mp4 or .m4v, otherwise Matroska. */
    FL_CONTAINER_BY_NAME = 0,
    /* Every codec. A crash loses no packet that was written. */
    FL_CONTAINER_MATROSKA = 1,
    /* Fragmented MP4, for H.264 and H.265. A crash loses the last second at most. */
    FL_CONTAINER_MP4 = 2,
} fl_container;

/* How a client gets its packets. */
typedef enum fl_transport {
    /* UDP, to ports of the client. */
    FL_TRANSPORT_UDP = 0,
    /* Within the client's connection, also through HTTP. */
    FL_TRANSPORT_TCP = 1,
    /* UDP, to the multicast group of the mount. */
    FL_TRANSPORT_MULTICAST = 2,
} fl_transport;

/* What a recording shall be. A field that is 0 or NULL keeps the default. */
typedef struct fl_recorder_options {
    /* sizeof(fl_recorder_options): FL_INIT sets it. */
    size_t size;
    /* Where to record: /data/camera.mkv gives the files /data/camera-00001.mkv, /data/camera-00002.mkv and so on,
     * after the highest number that exists. No file is overwritten. A pipe or a device gets one live stream. Required.
     */
    const char *path;
    /* An fl_container. */
    uint32_t container;
    /* The size of a file, in bytes, after which another begins. */
    uint64_t rotate_bytes;
    /* The duration of a file, in milliseconds, after which another begins. */
    uint32_t rotate_ms;
    /* Rotate at multiples of `rotate_ms` since 1970 (UTC), so that a file of 10 minutes begins at 12:10. */
    bool is_aligned;
    /* Name files by the time of their first frame, NAME-20261130T042047Z.EXT. Otherwise by number, NAME-00001.EXT. */
    bool by_wall_clock;
    /* Do not repair a file that an earlier run did not finish. */
    bool keep_broken;
    /* Synchronize the data to the disk at the end of each cluster or fragment (fdatasync). */
    bool sync_clusters;
    /* The most bytes of all files. The oldest are deleted. */
    uint64_t keep_bytes;
    /* The most age of a file, in seconds. Older ones are deleted. */
    uint64_t keep_seconds;
    /* The usual time between frames, which players show. Default: none is stored. */
    fl_interval interval;
    /* Default: none is stored. */
    fl_colorimetry colorimetry;
    /* The longest time that a write may block on a pipe, in milliseconds. Default: 5000. A write to a disk blocks as
     * long as the disk does: give the recorder a thread, and an fl_fanout receiver, if your loop must not stop.
     */
    uint32_t write_ms;
} fl_recorder_options;

/* What an event recorder keeps in memory. A field that is 0 keeps the default. */
typedef struct fl_ring_options {
    /* sizeof(fl_ring_options): FL_INIT sets it. */
    size_t size;
    /* The time before a trigger that is recorded, in milliseconds. Default: 10000. */
    uint32_t before_ms;
    /* The time after a trigger that is recorded, in milliseconds. Default: 10000. */
    uint32_t after_ms;
    /* The most bytes in memory. Default: 64 MiB. */
    uint64_t bytes;
} fl_ring_options;

/* How RTP packets are sent. A field that is 0 or NULL keeps the default. */
typedef struct fl_rtp_options {
    /* sizeof(fl_rtp_options): FL_INIT sets it. */
    size_t size;
    /* The largest IP packet, 128 to 9000 bytes. Default: 1400. */
    uint32_t mtu;
    /* The part of the frame interval over which the packets of a frame are spread, 1 to 100 %. Default: 50. */
    uint32_t spread_percent;
    /* Spread them over a fixed time instead, in milliseconds. */
    uint32_t spread_ms;
    /* The least time between parameter sets, in milliseconds. Default: before each key frame. */
    uint32_t parameters_ms;
    /* The hop limit of multicast packets, 1 to 255. Default: 1. */
    uint32_t ttl;
    /* Receivers on this host do not get multicast packets. */
    bool no_loopback;
    /* Set the code point `dscp`. */
    bool set_dscp;
    /* The differentiated services code point, 0 to 63. 34 is usual for video. */
    uint8_t dscp;
    /* The interface for multicast. Default: the routes choose it. */
    const char *interface_name;
} fl_rtp_options;

/* What was sent to a destination or a client. */
typedef struct fl_rtp_stats {
    /* sizeof(fl_rtp_stats): FL_INIT sets it. */
    size_t size;
    uint64_t packets;
    /* Bytes of payload. */
    uint64_t octets;
    uint64_t frames;
    /* Frames that were not sent, or not wholly. */
    uint64_t dropped;
} fl_rtp_stats;

/* A user who may watch. */
typedef struct fl_user {
    /* sizeof(fl_user): FL_INIT sets it. */
    size_t size;
    const char *name;
    const char *password;
} fl_user;

/* What an RTSP server shall be. A field that is 0 or NULL keeps the default. */
typedef struct fl_rtsp_options {
    /* sizeof(fl_rtsp_options): FL_INIT sets it. */
    size_t size;
    /* Where it listens, such as "0.0.0.0:8554" or "[::]:8554". Port 0: the kernel chooses one. Required. */
    const char *address;
    /* Users who may watch. Each begins with its size (FL_INIT). Default: everybody may. */
    const fl_user *users;
    /* The number of `users`. */
    size_t user_count;
    /* Accept passwords in readable form as well (Basic). Default: Digest alone. */
    bool allow_basic;
    /* The most connections at a time. Default: 64. */
    uint32_t max_connections;
    /* The most sessions at a time. Default: 64. */
    uint32_t max_sessions;
    /* How long a silent session lives, in milliseconds, at least 1000. Default: 60000. */
    uint32_t session_ms;
    /* How long a request may take, in milliseconds. Default: 10000. */
    uint32_t request_ms;
    /* Bytes that may wait for a slow client. Default: 1 MiB. */
    uint32_t backlog_bytes;
    /* Serve RTSPS with this certificate chain (a PEM file). Needs the feature tls. */
    const char *certificate;
    /* The key of `certificate` (a PEM file). */
    const char *key;
} fl_rtsp_options;

/* A session of a client of an RTSP server. */
typedef struct fl_rtsp_client {
    /* sizeof(fl_rtsp_client): FL_INIT sets it. */
    size_t size;
    /* The client's address, such as "192.0.2.1:40312". Valid until the next fl_rtsp_get_client() of the server. */
    const char *address;
    /* The path of the stream, such as "/live". Valid as long as `address`. */
    const char *path;
    /* An fl_transport. A later version may have further numbers. */
    uint32_t transport;
    /* The client has asked to play, and not to pause. */
    bool is_playing;
    /* What was sent to it, as in fl_rtp_stats. For multicast: to its whole group. */
    uint64_t packets;
    uint64_t octets;
    uint64_t frames;
    uint64_t dropped;
} fl_rtsp_client;

/* Opens a recording. A file is created with its first key frame. Events: FL_EVENT_FILE, FL_EVENT_FILE_DELETED,
 * FL_EVENT_FILE_REPAIRED, and FL_EVENT_FAILED, after which the recorder tries again with the next key frame.
 *
 * fl_station_close() finishes the file; fl_recorder_finish() does so and reports it.
 */
fl_status fl_recorder_open(const fl_recorder_options *options, fl_station **station);

/* Finishes the file of a recorder or event recorder. FL_EVENT_FILE or FL_EVENT_FAILED follows. The next key frame
 * begins another file.
 */
fl_status fl_recorder_finish(fl_station *recorder);

/* Opens a recorder that keeps the last seconds in memory and records them when fl_event_recorder_trigger() is called.
 * `ring_options` may be NULL.
 */
fl_status fl_event_recorder_open(
    const fl_recorder_options *options, const fl_ring_options *ring_options, fl_station **station);

/* Records the time before now and the time after now. A further trigger during a recording prolongs it. */
fl_status fl_event_recorder_trigger(fl_station *recorder);

/* Opens a sender of RTP for a codec (an fl_codec). It sends to the destinations that fl_rtp_add() adds. `options` may
 * be NULL. Events: FL_EVENT_KEY_FRAME_WANTED, and FL_EVENT_FAILED with the destination in `id`.
 */
fl_status fl_rtp_open(uint32_t codec, const fl_rtp_options *options, fl_station **station);

/* Adds a destination such as "192.0.2.1:5004" or "[2001:db8::1]:5004", a host or a multicast group, and gives its
 * number.
 */
fl_status fl_rtp_add(fl_station *sender, const char *to, uint32_t *destination);

/* Removes a destination. */
fl_status fl_rtp_remove(fl_station *sender, uint32_t destination);

/* Stops sending to a destination, until fl_rtp_resume(). */
fl_status fl_rtp_pause(fl_station *sender, uint32_t destination);

/* Continues sending to a destination, with the next key frame. */
fl_status fl_rtp_resume(fl_station *sender, uint32_t destination);

/* Gives the session description (SDP) of a destination, which a player can open as a file. Before the first key frame
 * it lacks the parameter sets, which some players need. Valid until the next call of this function for the sender.
 */
fl_status fl_rtp_get_sdp(fl_station *sender, uint32_t destination, const char **sdp);

/* Fills the counts of a destination. */
fl_status fl_rtp_get_stats(fl_station *sender, uint32_t destination, fl_rtp_stats *stats);

/* Opens an RTSP server. fl_rtsp_mount() adds its streams. Events: FL_EVENT_JOINED and FL_EVENT_LEFT with the client's
 * address in `text`, FL_EVENT_KEY_FRAME_WANTED; the mount is in `id`.
 */
fl_status fl_rtsp_open(const fl_rtsp_options *options, fl_station **station);

/* Fills what is known of the session `index`, from 0. FL_ENDED beyond the last one. */
fl_status fl_rtsp_get_client(fl_station *server, size_t index, fl_rtsp_client *info);

/* Adds a stream at a path such as "/live", for a codec (an fl_codec), and gives its number. `group` is the multicast
 * group for clients that ask for multicast, such as "239.1.1.1:5004", or NULL. `options` may be NULL.
 */
fl_status fl_rtsp_mount(
    fl_station *server, const char *path, uint32_t codec, const char *group, const fl_rtp_options *options,
    uint32_t *mount);

/* Ends a stream and its sessions. */
fl_status fl_rtsp_unmount(fl_station *server, uint32_t mount);

/* Gives a packet to the clients of a stream. Never full: frames of a client that is too slow are dropped. */
fl_status fl_rtsp_submit(fl_station *server, uint32_t mount, const fl_packet *packet);

/* Returns whether a client of a stream waits for a key frame: call fl_encoder_force_key(). */
bool fl_rtsp_awaits_key(fl_station *server, uint32_t mount);

/* Gives the port on which the server listens. */
fl_status fl_rtsp_get_port(fl_station *server, uint32_t *port);

/* ==================================================================================================================
 * Displays, by DRM. In a library that was built without them, these functions return FL_ERROR_UNSUPPORTED.
 */

/* Where frames are shown. A field that is 0 or NULL keeps the default. */
typedef struct fl_display_options {
    /* sizeof(fl_display_options): FL_INIT sets it. */
    size_t size;
    /* The DRM device, such as "/dev/dri/card0". Default: the first with a connected display. */
    const char *path;
    /* The connector, such as "HDMI-A-1". Default: the first connected one. */
    const char *connector;
    /* The size of the mode, in pixels. Default: what the display prefers. */
    uint32_t width;
    uint32_t height;
    /* The refresh rate of the mode, in whole hertz. */
    uint32_t refresh_hz;
    /* An fl_scaling: how frames fill the screen. */
    uint32_t scaling;
} fl_display_options;

/* Opens a display for frames in these buffers. A plane of the screen scans the buffers out; if none can, a converter
 * writes to buffers of the display. The screen changes with the first frame, and is as before after
 * fl_station_close(). `options` may be NULL.
 *
 * Show a frame with fl_station_submit(). FL_EVENT_SHOWN says when it is on the screen; the frame before is released
 * then.
 */
fl_status fl_display_open(const fl_display_options *options, const fl_buffers *buffers, fl_station **station);

/* Continues with frames in other buffers, after FL_EVENT_FORMAT of their source or after another display was plugged
 * in.
 */
fl_status fl_display_reopen(fl_station *display, const fl_buffers *buffers);

/* Gives the size of the screen, in pixels. */
fl_status fl_display_get_size(fl_station *display, uint32_t *width, uint32_t *height);

#ifdef __cplusplus
}
#endif

#endif /* FRAMELEASE_H */
