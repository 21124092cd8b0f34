/* Takes the frames of a framelease publisher: docs/protocol.md in C. C11 or C++17, Linux, nothing but libc.
 *
 *     fl_options options = {0};
 *     options.path = "/run/camera/socket";
 *     fl_client *client;
 *     if (fl_open(&options, &client) != FL_OK || fl_connect(client, 5000) != FL_OK) …
 *     for (;;) {
 *         fl_event event;
 *         fl_frame *frame;
 *         if (fl_next(client, 1000, &event, &frame) != FL_OK) …   // fl_message(client) says what and where
 *         if (event == FL_FRAME) {
 *             … frame->memory[0].fd: the dma-buf, for a device …
 *             fl_release(client, frame);
 *         }
 *     }
 *
 * No thread, no global state, no allocation per frame. A client and its frames belong to one thread at a time. Every
 * wait has a limit in milliseconds; below 0 is 0. A signal ends a wait early. The client checks every message of the
 * publisher. */
#ifndef FRAMELEASE_H
#define FRAMELEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FL_MAX_SLOTS 64u
#define FL_MAX_PLANES 4u

typedef enum fl_error {
    FL_OK,
    FL_INVALID,      /* an argument or an option */
    FL_NOT_FOUND,    /* the socket does not exist */
    FL_PERMISSION,   /* the socket's file or folder says no */
    FL_TIMEOUT,
    FL_REFUSED,      /* the publisher refused this subscriber or ended the connection: fl_last_refusal */
    FL_PROTOCOL,     /* the publisher broke the protocol */
    FL_EXHAUSTED,    /* no memory, no descriptor */
    FL_DISCONNECTED, /* no publisher listens, or it hung up */
    FL_SYSTEM        /* another system call failed */
} fl_error;

typedef enum fl_policy { FL_LATEST, FL_FIFO, FL_BLOCK } fl_policy;

/* A zero is the default. */
typedef struct fl_options {
    const char *path;
    uint16_t hold;      /* frames leased at a time, 1 to 64; default 1 */
    fl_policy policy;   /* for frames that come while all leases are in use; default the newest waits */
    uint16_t depth;     /* with FL_FIFO: frames that may wait, 1 to 32; default 1 */
    uint32_t every;     /* take every n-th frame */
    uint32_t milli_fps; /* frames in 1,000 seconds at most; not together with `every` */
} fl_options;

typedef enum fl_event {
    FL_NOTHING, /* until the time was over, or a signal came */
    FL_FRAME,
    FL_FORMAT, /* the frames that follow have another layout, fl_current_format; old frames stay as they are */
    FL_PAUSED, /* the publisher paused the stream; leases stay valid, and the next frame continues it */
    FL_LOST    /* the stream is over, the publisher hung up: fl_connect or fl_reconnect connects again */
} fl_event;

/* Why a publisher says BYE. Treat a number that is not here like FL_REASON_DENIED. */
typedef enum fl_reason {
    FL_REASON_NONE = 0,
    FL_REASON_VERSION = 1,       /* no common protocol version */
    FL_REASON_CAPACITY = 2,      /* the pool has no room for this quota: the numbers in fl_refusal */
    FL_REASON_DENIED = 3,        /* access denied, or too many connections */
    FL_REASON_PROTOCOL = 4,      /* this subscriber broke the protocol */
    FL_REASON_LEASE_EXPIRED = 5, /* a lease was held beyond its deadline */
    FL_REASON_CLOSING = 6,       /* comes as FL_LOST */
    FL_REASON_SILENT = 7,        /* no HELLO, or no answer to the first announcement, in time */
    FL_REASON_BLOCK_DENIED = 8,  /* FL_BLOCK was asked for, and this publisher does not grant it */
    FL_REASON_STALLED = 9        /* with FL_BLOCK: the stream was held up for longer than the publisher allows */
} fl_reason;

/* What a BYE said. The numbers are 0 for every reason but FL_REASON_CAPACITY. The quota does not fit if
 * reserve + 1 (the newest frame) + granted + wanted is more than slots. */
typedef struct fl_refusal {
    uint32_t reason;  /* an fl_reason, or a number of a later version */
    uint16_t slots;   /* buffers of the pool */
    uint16_t reserve; /* buffers for the driver and the publisher's process */
    uint16_t granted; /* the quotas of other subscribers */
    uint16_t wanted;  /* the quota that this subscriber asked for */
} fl_refusal;

/* FRAME's flags. */
#define FL_DAMAGED 1u
#define FL_KEY 2u
#define FL_LAST 4u
#define FL_MONOTONIC 8u /* timestamp_ns is of CLOCK_MONOTONIC */
#define FL_INTERLACED 16u /* the rows of two fields, that of the first row taken first */
#define FL_BOTTOM_FIRST 32u /* the other field was taken first */
#define FL_TOP_FIELD 64u /* the rows of one field, that with the first row */
#define FL_BOTTOM_FIELD 128u /* the rows of the other field */

typedef struct fl_plane {
    uint32_t memory;    /* the memory plane it lies in */
    uint32_t offset;    /* of its first row, in that plane's data */
    uint32_t stride;    /* bytes from row to row */
    uint32_t row_bytes; /* bytes of pixels in a row */
    uint32_t rows;
} fl_plane;

typedef struct fl_format {
    uint32_t pool, slots;
    uint32_t fourcc; /* V4L2 */
    uint32_t width, height;
    uint32_t colorspace, ycbcr_encoding, quantization, transfer; /* V4L2's enums */
    uint32_t cpu_reads;                                          /* 0 unknown, 1 cached, 2 uncached */
    bool writable; /* every subscriber can map the buffers for writing */
    uint32_t memory_planes, planes; /* planes: 0 for a bitstream. Those of an opaque format have no rows */
    uint32_t memory_bytes[FL_MAX_PLANES];
    fl_plane plane[FL_MAX_PLANES];
} fl_format;

typedef struct fl_memory {
    int fd; /* the library's: dup() it to keep it */
    bool is_dmabuf;
    uint64_t size;          /* of the whole buffer */
    uint32_t offset, bytes; /* this frame's data in it */
} fl_memory;

typedef struct fl_frame {
    const fl_format *format;
    uint32_t slot;
    uint64_t generation, sequence;
    uint64_t timestamp_ns; /* the source's */
    uint64_t sent_ns;      /* the publisher's, CLOCK_MONOTONIC */
    uint64_t dropped;      /* frames that this connection wanted and was not given until now */
    uint32_t lost;         /* frames that the source lost directly before this one */
    uint32_t flags;
    fl_memory memory[FL_MAX_PLANES];
} fl_frame;

typedef struct fl_stats {
    uint64_t received; /* frames that fl_next gave */
    uint64_t skipped;  /* with FL_LATEST: frames that came and were released unseen, because a newer one was there */
    uint64_t lost, revoked, connections;
    uint64_t dropped; /* all connections together */
} fl_stats;

typedef struct fl_client fl_client;

/* Checks the options and makes a client that is not connected. *client is NULL after an error. */
fl_error fl_open(const fl_options *options, fl_client **client);
/* Ends connection, leases and mappings. No frame may be used afterwards. */
void fl_close(fl_client *client);

/* Connects, and waits until the publisher has admitted us. Also after FL_LOST or an error. */
fl_error fl_connect(fl_client *client, int timeout_ms);
/* Calls fl_connect until it works, the time is over or a signal comes, with pauses from 10 ms to half a second. Returns
 * at once after a refusal that another try does not change, for example FL_REASON_BLOCK_DENIED. */
fl_error fl_reconnect(fl_client *client, int timeout_ms);

/* The next event. After an error the client is not connected any more; frames that are held stay mapped. With FL_LATEST
 * it reads all frames that are there, gives the newest, and releases the others unseen. */
fl_error fl_next(fl_client *client, int timeout_ms, fl_event *event, fl_frame **frame);
/* Gives a frame back; it may not be used afterwards. */
fl_error fl_release(fl_client *client, fl_frame *frame);
/* Whether the lease still holds: not revoked, connection up. Asks the connection: one system call. Ask after the last
 * byte was read. The memory stays readable until fl_release, but may hold a later picture. */
bool fl_valid(const fl_frame *frame);

/* Begins CPU access: maps each buffer once for all frames, waits for devices that still write, DMA_BUF_IOCTL_SYNC. */
fl_error fl_begin_read(fl_client *client, fl_frame *frame, int timeout_ms);
void fl_end_read(fl_frame *frame);
/* Between the two. The first row of a color plane; NULL if it has no rows or the frame's data end before the last. */
const uint8_t *fl_pixels(const fl_frame *frame, uint32_t plane);
/* The data of a memory plane, as bitstreams and opaque formats are read; frame->memory[i].bytes of them. */
const uint8_t *fl_data(const fl_frame *frame, uint32_t memory);

/* For poll(): the descriptor (-1: not connected; another one after each fl_connect) and what to wait for. */
int fl_fd(const fl_client *client);
/* For poll() with POLLIN, too: readable when the publisher's process has ended, even if a child that it forked keeps
 * the connection open. Call fl_next until it gives FL_LOST. -1 before Linux 6.5. */
int fl_process_fd(const fl_client *client);
short fl_poll_events(const fl_client *client);

/* The format of the frames to come; a frame's own is frame->format. NULL before the publisher has a source. */
const fl_format *fl_current_format(const fl_client *client);
unsigned fl_quota(const fl_client *client);
uint32_t fl_lease_ms(const fl_client *client); /* a lease is revoked after so long; 0: never */
uint64_t fl_epoch(const fl_client *client);
fl_stats fl_statistics(const fl_client *client);

/* The last error: socket, call, what was expected and what came. Never NULL. */
const char *fl_message(const fl_client *client);
/* What the BYE of the last FL_REFUSED said; reason 0: there was none since the last fl_connect. fl_message has it as a
 * sentence. */
fl_refusal fl_last_refusal(const fl_client *client);
const char *fl_error_name(fl_error error);

#ifdef __cplusplus
}
#endif
#endif
