/* Takes the frames of a framelease publisher: docs/protocol.md in C. C11 or C++17, Linux, nothing but libc.
 *
 *     fls_options options = {0};
 *     options.path = "/run/camera/socket";
 *     fls_client *client;
 *     if (fls_open(&options, &client) != FLS_OK || fls_connect(client, 5000) != FLS_OK) …
 *     for (;;) {
 *         fls_event event;
 *         fls_frame *frame;
 *         if (fls_next(client, 1000, &event, &frame) != FLS_OK) …   // fls_message(client) says what and where
 *         if (event == FLS_FRAME) {
 *             … frame->memory[0].fd: the dma-buf, for a device …
 *             fls_release(client, frame);
 *         }
 *     }
 *
 * No thread, no global state, no allocation per frame. A client and its frames belong to one thread at a time. Every
 * wait has a limit in milliseconds; below 0 is 0. A signal ends a wait early. The client checks every message of the
 * publisher. */
#ifndef FLS_H
#define FLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLS_MAX_SLOTS 64u
#define FLS_MAX_PLANES 4u

typedef enum fls_error {
    FLS_OK,
    FLS_INVALID,      /* an argument or an option */
    FLS_NOT_FOUND,    /* the socket does not exist */
    FLS_PERMISSION,   /* the socket's file or folder says no */
    FLS_TIMEOUT,
    FLS_REFUSED,      /* the publisher refused this subscriber or ended the connection: fls_last_refusal */
    FLS_PROTOCOL,     /* the publisher broke the protocol */
    FLS_EXHAUSTED,    /* no memory, no descriptor */
    FLS_DISCONNECTED, /* no publisher listens, or it hung up */
    FLS_SYSTEM        /* another system call failed */
} fls_error;

typedef enum fls_policy { FLS_LATEST, FLS_FIFO, FLS_BLOCK } fls_policy;

/* A zero is the default. */
typedef struct fls_options {
    const char *path;
    uint16_t hold;      /* frames leased at a time, 1 to 64; default 1 */
    fls_policy policy;   /* for frames that come while all leases are in use; default the newest waits */
    uint16_t depth;     /* with FLS_FIFO: frames that may wait, 1 to 32; default 1 */
    uint32_t every;     /* take every n-th frame */
    uint32_t milli_fps; /* frames in 1,000 seconds at most; not together with `every` */
} fls_options;

typedef enum fls_event {
    FLS_NOTHING, /* until the time was over, or a signal came */
    FLS_FRAME,
    FLS_FORMAT, /* the frames that follow have another layout, fls_current_format; old frames stay as they are */
    FLS_PAUSED, /* the publisher paused the stream; leases stay valid, and the next frame continues it */
    FLS_LOST    /* the stream is over, the publisher hung up: fls_connect or fls_reconnect connects again */
} fls_event;

/* Why a publisher says BYE. Treat a number that is not here like FLS_REASON_DENIED. */
typedef enum fls_reason {
    FLS_REASON_NONE = 0,
    FLS_REASON_VERSION = 1,       /* no common protocol version */
    FLS_REASON_CAPACITY = 2,      /* the pool has no room for this quota: the numbers in fls_refusal */
    FLS_REASON_DENIED = 3,        /* access denied, or too many connections */
    FLS_REASON_PROTOCOL = 4,      /* this subscriber broke the protocol */
    FLS_REASON_LEASE_EXPIRED = 5, /* a lease was held beyond its deadline */
    FLS_REASON_CLOSING = 6,       /* comes as FLS_LOST */
    FLS_REASON_SILENT = 7,        /* no HELLO, or no answer to the first announcement, in time */
    FLS_REASON_BLOCK_DENIED = 8,  /* FLS_BLOCK was asked for, and this publisher does not grant it */
    FLS_REASON_STALLED = 9        /* with FLS_BLOCK: the stream was held up for longer than the publisher allows */
} fls_reason;

/* What a BYE said. The numbers are 0 for every reason but FLS_REASON_CAPACITY. The quota does not fit if
 * reserve + 1 (the newest frame) + granted + wanted is more than slots. */
typedef struct fls_refusal {
    uint32_t reason;  /* an fls_reason, or a number of a later version */
    uint16_t slots;   /* buffers of the pool */
    uint16_t reserve; /* buffers for the driver and the publisher's process */
    uint16_t granted; /* the quotas of other subscribers */
    uint16_t wanted;  /* the quota that this subscriber asked for */
} fls_refusal;

/* FRAME's flags. */
#define FLS_DAMAGED 1u
#define FLS_KEY 2u
#define FLS_LAST 4u
#define FLS_MONOTONIC 8u /* timestamp_ns is of CLOCK_MONOTONIC */
#define FLS_INTERLACED 16u /* the rows of two fields, that of the first row taken first */
#define FLS_BOTTOM_FIRST 32u /* the other field was taken first */
#define FLS_TOP_FIELD 64u /* the rows of one field, that with the first row */
#define FLS_BOTTOM_FIELD 128u /* the rows of the other field */

typedef struct fls_plane {
    uint32_t memory;    /* the memory plane it lies in */
    uint32_t offset;    /* of its first row, in that plane's data */
    uint32_t stride;    /* bytes from row to row */
    uint32_t row_bytes; /* bytes of pixels in a row */
    uint32_t rows;
} fls_plane;

typedef struct fls_format {
    uint32_t pool, slots;
    uint32_t fourcc; /* V4L2 */
    uint32_t width, height;
    uint32_t colorspace, ycbcr_encoding, quantization, transfer; /* V4L2's enums */
    uint32_t cpu_reads;                                          /* 0 unknown, 1 cached, 2 uncached */
    bool writable; /* every subscriber can map the buffers for writing */
    uint32_t memory_planes, planes; /* planes: 0 for a bitstream. Those of an opaque format have no rows */
    uint32_t memory_bytes[FLS_MAX_PLANES];
    fls_plane plane[FLS_MAX_PLANES];
} fls_format;

typedef struct fls_memory {
    int fd; /* the library's: dup() it to keep it */
    bool is_dmabuf;
    uint64_t size;          /* of the whole buffer */
    uint32_t offset, bytes; /* this frame's data in it */
} fls_memory;

typedef struct fls_frame {
    const fls_format *format;
    uint32_t slot;
    uint64_t generation, sequence;
    uint64_t timestamp_ns; /* the source's */
    uint64_t sent_ns;      /* the publisher's, CLOCK_MONOTONIC */
    uint64_t dropped;      /* frames that this connection wanted and was not given until now */
    uint32_t lost;         /* frames that the source lost directly before this one */
    uint32_t flags;
    fls_memory memory[FLS_MAX_PLANES];
} fls_frame;

typedef struct fls_stats {
    uint64_t received; /* frames that fls_next gave */
    uint64_t skipped;  /* with FLS_LATEST: frames that came and were released unseen, because a newer one was there */
    uint64_t lost, revoked, connections;
    uint64_t dropped; /* all connections together */
} fls_stats;

typedef struct fls_client fls_client;

/* Checks the options and makes a client that is not connected. *client is NULL after an error. */
fls_error fls_open(const fls_options *options, fls_client **client);
/* Ends connection, leases and mappings. No frame may be used afterwards. */
void fls_close(fls_client *client);

/* Connects, and waits until the publisher has admitted us. Also after FLS_LOST or an error. */
fls_error fls_connect(fls_client *client, int timeout_ms);
/* Calls fls_connect until it works, the time is over or a signal comes, with pauses from 10 ms to half a second.
 * Returns at once after a refusal that another try does not change, for example FLS_REASON_BLOCK_DENIED. */
fls_error fls_reconnect(fls_client *client, int timeout_ms);

/* The next event. After an error the client is not connected any more; frames that are held stay mapped. With
 * FLS_LATEST it reads all frames that are there, gives the newest, and releases the others unseen. */
fls_error fls_next(fls_client *client, int timeout_ms, fls_event *event, fls_frame **frame);
/* Gives a frame back; it may not be used afterwards. */
fls_error fls_release(fls_client *client, fls_frame *frame);
/* Whether the lease still holds: not revoked, connection up. Asks the connection: one system call. Ask after the last
 * byte was read. The memory stays readable until fls_release, but may hold a later picture. */
bool fls_valid(const fls_frame *frame);

/* Begins CPU access: maps each buffer once for all frames, waits for devices that still write, DMA_BUF_IOCTL_SYNC. */
fls_error fls_begin_read(fls_client *client, fls_frame *frame, int timeout_ms);
void fls_end_read(fls_frame *frame);
/* Between the two. The first row of a color plane; NULL if it has no rows or the frame's data end before the last. */
const uint8_t *fls_pixels(const fls_frame *frame, uint32_t plane);
/* The data of a memory plane, as bitstreams and opaque formats are read; frame->memory[i].bytes of them. */
const uint8_t *fls_data(const fls_frame *frame, uint32_t memory);

/* For poll(): the descriptor (-1: not connected; another one after each fls_connect) and what to wait for. */
int fls_fd(const fls_client *client);
/* For poll() with POLLIN, too: readable when the publisher's process has ended, even if a child that it forked keeps
 * the connection open. Call fls_next until it gives FLS_LOST. -1 before Linux 6.5. */
int fls_process_fd(const fls_client *client);
short fls_poll_events(const fls_client *client);

/* The format of the frames to come; a frame's own is frame->format. NULL before the publisher has a source. */
const fls_format *fls_current_format(const fls_client *client);
unsigned fls_quota(const fls_client *client);
uint32_t fls_lease_ms(const fls_client *client); /* a lease is revoked after so long; 0: never */
uint64_t fls_epoch(const fls_client *client);
fls_stats fls_statistics(const fls_client *client);

/* The last error: socket, call, what was expected and what came. Never NULL. */
const char *fls_message(const fls_client *client);
/* What the BYE of the last FLS_REFUSED said; reason 0: there was none since the last fls_connect. fls_message has it
 * as a sentence. */
fls_refusal fls_last_refusal(const fls_client *client);
const char *fls_error_name(fls_error error);

#ifdef __cplusplus
}
#endif
#endif
