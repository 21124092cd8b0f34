/* See fls.h. From top to bottom: numbers, messages, memory, connections, what a publisher says, the calls. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#ifndef _TIME_BITS
#define _TIME_BITS 64
#endif

#include "fls.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
    HELLO = 1,
    BUFFER_OK = 2,
    BUFFER_FAILED = 3,
    RELEASE = 4,
    RETIRED = 5,
    WELCOME = 16,
    FORMAT = 17,
    BUFFER = 18,
    FRAME = 19,
    REVOKE = 20,
    RETIRE = 21,
    END = 22,
    BYE = 23,
    NEWER = 24
};

#define MAGIC 0x50534c46u /* FLSP */
#define VERSION 1u
#define CRITICAL 1u
#define MAX_MESSAGE 256u
#define MAX_RELEASES 8u
#define MAX_SIDE 32768u
#define DMA_BUF_MAGIC_NUMBER 0x444d4142u
/* Room for more descriptors than can be meant, so that a surplus is seen. */
#define MAX_FDS 8u
/* One call handles no more, whatever a publisher sends. */
#define MAX_STEPS 256u
#define PAUSE_MIN_MS 10
#define PAUSE_MAX_MS 500
/* SO_PEERPIDFD, which older headers lack. */
#define PEERPIDFD 77

typedef struct lease {
    uint32_t pool, slot;
    uint64_t generation;
} lease;

/* A connection. It outlives the client's interest in it while frames of it are held: after BYE the publisher waits for
 * them, and a hang-up would end their leases. */
typedef struct link {
    int fd;
    int process;    /* the publisher's pidfd; -1 before Linux 6.5 */
    unsigned empty; /* receives in a row that found nothing */
    unsigned users; /* the client, and pools */
    bool over;
    unsigned leases; /* frames held */
    unsigned unsent; /* releases that the socket had no room for, or that wait for more of them */
    lease release[FLS_MAX_SLOTS];
} link_t;

typedef struct slot {
    fls_frame frame; /* first: a frame is its slot */
    struct pool *pool;
    bool usable, held, reading, revoked, used;
    void *map[FLS_MAX_PLANES];
} slot_t;

typedef struct pool {
    struct pool *next;
    link_t *link;
    fls_format format;
    uint32_t answered;
    unsigned held;
    bool current;
    slot_t slots[FLS_MAX_SLOTS];
} pool_t;

struct fls_client {
    fls_options options;
    struct sockaddr_un address;
    link_t *link;
    pool_t *pools; /* the current one, and those of which frames are held */
    pool_t *current;
    fls_frame *unseen; /* with FLS_LATEST, inside take(): a frame that fls_next has not given yet */
    bool welcomed;
    uint32_t last_pool;
    bool had_pool;
    unsigned quota;
    uint32_t lease_ms;
    fls_refusal refusal;
    uint64_t epoch, dropped; /* of this connection */
    fls_stats stats;
    fls_error deferred; /* reported by the next fls_next */
    char message[512], deferred_message[512];
};

/* ---- numbers ---- */

static uint32_t u16_at(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32_at(const uint8_t *p) { return u16_at(p) | u16_at(p + 2) << 16; }
static uint64_t u64_at(const uint8_t *p) { return u32_at(p) | (uint64_t)u32_at(p + 4) << 32; }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t deadline_after(int timeout_ms) { return now_ns() + (int64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000; }

/* Rounded up, so that a wait does not spin through the last millisecond. */
static int ms_until(int64_t deadline) {
    int64_t left = deadline - now_ns();
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

/* Pixel formats: for each color plane, bytes of a sample group, and the pixels across and down that it covers. Each
 * code has four characters and a separator. The table is the protocol page's. Other formats are opaque. */
typedef struct known {
    uint8_t planes;
    uint8_t group[3][3];
    const char *codes;
} known;

static const known KNOWN[] = {
    {2, {{1, 1, 1}, {2, 2, 2}, {0, 0, 0}}, "NV12 NV21 NM12 NM21"},
    {2, {{1, 1, 1}, {2, 2, 1}, {0, 0, 0}}, "NV16 NV61 NM16 NM61"},
    {2, {{1, 1, 1}, {2, 1, 1}, {0, 0, 0}}, "NV24 NV42"},
    {2, {{2, 1, 1}, {4, 2, 2}, {0, 0, 0}}, "P010 P012"},
    {3, {{1, 1, 1}, {1, 2, 2}, {1, 2, 2}}, "YU12 YV12 YM12 YM21"},
    {3, {{1, 1, 1}, {1, 2, 1}, {1, 2, 1}}, "422P YM16 YM61"},
    {3, {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, "YM24 YM42"},
    {1, {{4, 2, 1}, {0, 0, 0}, {0, 0, 0}}, "YUYV YVYU UYVY VYUY"},
    {1, {{3, 1, 1}, {0, 0, 0}, {0, 0, 0}}, "YUV3 RGB3 BGR3"},
    {1, {{4, 1, 1}, {0, 0, 0}, {0, 0, 0}},
     "YUV4 AYUV XYUV VUYA VUYX YUVA YUVX AB24 XB24 AR24 XR24 BA24 RA24 BX24 RX24 RGB4 BGR4 BGRH "
     "RX30 RA30 AR30"},
    {1, {{2, 1, 1}, {0, 0, 0}, {0, 0, 0}},
     "Y444 YUVO YUVP Y10  Y12  Y14  Y16  Y012 RGBP R444 AR12 XR12 RA12 RX12 AB12 XB12 GA12 BX12 "
     "RGBO AR15 XR15 RA15 RX15 AB15 XB15 BA15 BX15 RGBQ RGBR BG10 GB10 BA10 RG10 BG12 GB12 BA12 "
     "RG12 BG14 GB14 GR14 RG14 BYR2 GB16 GR16 RG16 Z16 "},
    {1, {{1, 1, 1}, {0, 0, 0}, {0, 0, 0}}, "GREY RGB1 BA81 GBRG GRBG RGGB"},
    {1, {{5, 4, 1}, {0, 0, 0}, {0, 0, 0}}, "Y10P Y10B pBAA pGAA pgAA pRAA"},
    {1, {{3, 2, 1}, {0, 0, 0}, {0, 0, 0}}, "Y12P pBCC pGCC pgCC pRCC"},
    {1, {{7, 4, 1}, {0, 0, 0}, {0, 0, 0}}, "Y14P pBEE pGEE pgEE pREE"},
    {0, {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}}, "H264 HEVC VP80 MJPG JPEG FWHT"},
};

static const known OPAQUE = {0, {{0}}, ""};

static const known *known_format(uint32_t fourcc) {
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++)
        for (const char *code = KNOWN[i].codes;; code += 5) {
            if (u32_at((const uint8_t *)code) == fourcc) return &KNOWN[i];
            if (code[4] == 0) break;
        }
    return &OPAQUE;
}

/* ---- errors ---- */

__attribute__((format(printf, 4, 5))) static fls_error fail(fls_client *c, fls_error error, const char *call,
                                                           const char *format, ...) {
    int n = snprintf(c->message, sizeof c->message, "%s: %s: ", c->address.sun_path, call);
    va_list arguments;
    va_start(arguments, format);
    if (n > 0 && (size_t)n < sizeof c->message)
        vsnprintf(c->message + n, sizeof c->message - (size_t)n, format, arguments);
    va_end(arguments);
    return error;
}

static fls_error fail_os(fls_client *c, const char *call, int error) {
    fls_error kind = error == ENOENT                                       ? FLS_NOT_FOUND
                    : error == EACCES || error == EPERM                   ? FLS_PERMISSION
                    : error == ECONNREFUSED || error == EPIPE             ? FLS_DISCONNECTED
                    : error == ENOMEM || error == EMFILE || error == ENFILE ? FLS_EXHAUSTED
                    : error == EAGAIN                                     ? FLS_TIMEOUT
                                                                          : FLS_SYSTEM;
    return fail(c, kind, call, "%s", strerror(error));
}

/* ---- messages of ours ---- */

static uint8_t *put16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v) { return put16(put16(p, v & 0xffff), v >> 16); }
static uint8_t *put64(uint8_t *p, uint64_t v) { return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32)); }
static uint8_t *put_header(uint8_t *p, uint32_t type) { return put32(put16(put16(p, type), CRITICAL), 0); }

/* 0, or what send() says. Never waits, never raises SIGPIPE. */
static int send_bytes(const link_t *l, const uint8_t *bytes, const uint8_t *end) {
    ssize_t n;
    do n = send(l->fd, bytes, (size_t)(end - bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? errno : 0;
}

/* Releases in order, several to a message. What finds no room stays: at most `hold` of them. */
static void flush(link_t *l) {
    while (l->unsent > 0) {
        uint8_t bytes[8 + 16 * MAX_RELEASES], *p = put_header(bytes, RELEASE);
        unsigned n = l->unsent < MAX_RELEASES ? l->unsent : MAX_RELEASES;
        for (unsigned i = 0; i < n; i++)
            p = put64(put32(put32(p, l->release[i].pool), l->release[i].slot), l->release[i].generation);
        int error = send_bytes(l, bytes, p);
        if (error == EAGAIN || error == ENOBUFS || error == ENOMEM) return;
        /* Any other error: the publisher is gone, and the leases with it. */
        l->unsent -= n;
        memmove(l->release, l->release + n, l->unsent * sizeof l->release[0]);
    }
}

/* ---- memory and connections ---- */

static void close_slot(slot_t *s) {
    fls_end_read(&s->frame);
    for (unsigned i = 0; i < FLS_MAX_PLANES; i++) {
        fls_memory *m = &s->frame.memory[i];
        if (s->map[i] != NULL) munmap(s->map[i], (size_t)m->size);
        if (m->fd >= 0) close(m->fd);
        s->map[i] = NULL;
        m->fd = -1;
    }
}

static void unuse(link_t *l) {
    if (--l->users > 0) return;
    if (l->process >= 0) close(l->process);
    close(l->fd);
    free(l);
}

/* Whether the publisher hung up, or its process ended. A child that it forked can keep the socket open. */
static bool is_over(const link_t *l) {
    struct pollfd p[2] = {{l->fd, 0, 0}, {l->process, POLLIN, 0}};
    return l->over || poll(p, 2, 0) > 0;
}

/* Lets a pool go that is not current and of which no frame is held, and says so if we had all of it. */
static void settle(fls_client *c, pool_t *pool) {
    if (pool->current || pool->held > 0) return;
    for (pool_t **at = &c->pools; *at != NULL; at = &(*at)->next)
        if (*at == pool) {
            *at = pool->next;
            break;
        }
    for (unsigned i = 0; i < FLS_MAX_SLOTS; i++) close_slot(&pool->slots[i]);
    if (pool->answered == pool->format.slots) {
        uint8_t bytes[12];
        flush(pool->link);
        /* RETIRED ends the pool's leases: a RELEASE after it would be one too many. */
        uint8_t *end = put32(put_header(bytes, RETIRED), pool->format.pool);
        if (pool->link->unsent == 0) (void)send_bytes(pool->link, bytes, end);
    }
    unuse(pool->link);
    free(pool);
}

static void retire(fls_client *c) {
    pool_t *pool = c->current;
    if (pool == NULL) return;
    c->current = NULL;
    pool->current = false;
    settle(c, pool);
}

/* The client takes no more from this connection. */
static void hang_up(fls_client *c) {
    if (c->link == NULL) return;
    c->link->over = true;
    retire(c);
    unuse(c->link);
    c->link = NULL;
    c->welcomed = false;
    c->stats.dropped += c->dropped;
    c->dropped = 0;
}

/* The text first: what it is about goes with the connection. */
#define VIOLATED(c, ...) (fail(c, FLS_PROTOCOL, "the publisher broke the protocol", __VA_ARGS__), hang_up(c), FLS_PROTOCOL)

/* Takes a descriptor as memory, after checking what it is. Returns a text if it is unusable. */
static const char *adopt(fls_memory *m, int fd, uint64_t needed) {
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) return "fstatfs fails on a descriptor";
    m->is_dmabuf = ((uint64_t)fs.f_type & 0xffffffffu) == DMA_BUF_MAGIC_NUMBER;
    if (!m->is_dmabuf) {
        int seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0) return "expected a dma-buf or a memfd, got another file";
        if ((seals & F_SEAL_SHRINK) == 0) return "expected F_SEAL_SHRINK on a memfd, it is not sealed";
    }
    off_t size = lseek(fd, 0, SEEK_END);
    if (size <= 0) return "a buffer has no size";
    m->size = (uint64_t)size;
    if (m->size < needed) return "a buffer is smaller than its layout";
    return NULL;
}

/* ---- what a publisher says ---- */

typedef enum outcome { AGAIN, EVENT, EMPTY, FAILED } outcome_t;

typedef struct step {
    outcome_t outcome;
    fls_error error;
    fls_event event;
    fls_frame *frame;
} step;

static step handled(void) {
    step s = {AGAIN, FLS_OK, FLS_NOTHING, NULL};
    return s;
}

static step event_step(fls_event event, fls_frame *frame) {
    step s = {EVENT, FLS_OK, event, frame};
    return s;
}

static step failed(fls_error error) {
    step s = {FAILED, error, FLS_NOTHING, NULL};
    return s;
}

static step lost(fls_client *c) {
    hang_up(c);
    return event_step(FLS_LOST, NULL);
}

/* The planes of a layout lie in its memory, and its rows in its strides. */
static const char *read_layout(fls_format *f, const uint8_t *m) {
    const known *k = known_format(f->fourcc);
    if (f->width < 1 || f->width > MAX_SIDE || f->height < 1 || f->height > MAX_SIDE) return "impossible width or height";
    if (f->memory_planes < 1 || f->memory_planes > FLS_MAX_PLANES) return "expected 1 to 4 memory planes";
    if (k == &OPAQUE ? f->planes > FLS_MAX_PLANES : f->planes != k->planes) return "the number of color planes is not the format's";
    for (unsigned i = 0; i < FLS_MAX_PLANES; i++) f->memory_bytes[i] = u32_at(m + 56 + 4 * i);
    for (unsigned i = 0; i < f->planes; i++) {
        const uint8_t *at = m + 72 + 12 * i, *group = k->group[i % 3];
        fls_plane *p = &f->plane[i];
        p->memory = u32_at(at);
        p->offset = u32_at(at + 4);
        p->stride = u32_at(at + 8);
        if (p->memory >= f->memory_planes) return "a color plane lies in a memory plane that does not exist";
        if (p->offset > f->memory_bytes[p->memory]) return "a color plane begins behind its memory plane";
        if (k == &OPAQUE) continue;
        p->row_bytes = (f->width + group[1] - 1u) / group[1] * group[0];
        p->rows = (f->height + group[2] - 1u) / group[2];
        if (p->stride < p->row_bytes) return "a stride is shorter than a row";
        /* Below 2^32 + 2^32 * 2^15 + 2^17: no overflow. */
        uint64_t end = (uint64_t)p->offset + (uint64_t)p->stride * (p->rows - 1u) + p->row_bytes;
        if (end > f->memory_bytes[p->memory]) return "a color plane is larger than its memory plane";
    }
    return NULL;
}

static step on_welcome(fls_client *c, const uint8_t *m) {
    if (c->welcomed) return failed(VIOLATED(c, "a second WELCOME"));
    if (u16_at(m + 8) != VERSION) return failed(VIOLATED(c, "expected version 1, got %u", (unsigned)u16_at(m + 8)));
    c->welcomed = true;
    c->quota = u16_at(m + 10);
    c->lease_ms = u32_at(m + 12);
    c->epoch = u64_at(m + 16);
    c->stats.connections++;
    return handled();
}

static const char *reason_text(uint32_t reason) {
    switch (reason) {
        case FLS_REASON_VERSION: return "no common protocol version";
        case FLS_REASON_CAPACITY: return "the pool has no room for another subscriber";
        case FLS_REASON_DENIED: return "access denied or too many connections";
        case FLS_REASON_PROTOCOL: return "a message that the protocol forbids";
        case FLS_REASON_LEASE_EXPIRED: return "a lease was held beyond its deadline";
        case FLS_REASON_SILENT: return "no HELLO in time";
        case FLS_REASON_BLOCK_DENIED: return "this publisher does not grant policy block; ask for latest or fifo";
        case FLS_REASON_STALLED: return "the stream was held up for longer than the publisher allows";
        default: return NULL;
    }
}

static step on_bye(fls_client *c, const uint8_t *m) {
    static const char CALL[] = "the publisher ended the connection";
    fls_refusal r;
    r.reason = u32_at(m + 8);
    r.slots = (uint16_t)u16_at(m + 12);
    r.reserve = (uint16_t)u16_at(m + 14);
    r.granted = (uint16_t)u16_at(m + 16);
    r.wanted = (uint16_t)u16_at(m + 18);
    if (r.reason == FLS_REASON_CLOSING) return lost(c);
    hang_up(c);
    c->refusal = r;
    const char *text = reason_text(r.reason);
    if (text == NULL) return failed(fail(c, FLS_REFUSED, CALL, "reason %" PRIu32, r.reason));
    if (r.slots == 0) return failed(fail(c, FLS_REFUSED, CALL, "%s", text));
    return failed(fail(c, FLS_REFUSED, CALL,
                       "%s: the pool has %u buffers: %u for the driver and the publisher's process, 1 for the newest frame, "
                       "%u for other subscribers; this subscriber needs %u",
                       text, r.slots, r.reserve, r.granted, r.wanted));
}

static step on_format(fls_client *c, const uint8_t *m) {
    fls_format f;
    memset(&f, 0, sizeof f);
    f.pool = u32_at(m + 8);
    f.slots = u16_at(m + 12);
    f.cpu_reads = m[14] <= 2 ? m[14] : 0;
    f.writable = m[15] != 0;
    f.fourcc = u32_at(m + 16);
    f.width = u32_at(m + 20);
    f.height = u32_at(m + 24);
    f.colorspace = u32_at(m + 36);
    f.ycbcr_encoding = u32_at(m + 40);
    f.quantization = u32_at(m + 44);
    f.transfer = u32_at(m + 48);
    f.memory_planes = u16_at(m + 52);
    f.planes = u16_at(m + 54);
    if (f.slots < 1 || f.slots > FLS_MAX_SLOTS) return failed(VIOLATED(c, "FORMAT: expected 1 to 64 slots, got %" PRIu32, f.slots));
    if (u64_at(m + 28) != 0) return failed(VIOLATED(c, "FORMAT: a modifier other than linear"));
    if (c->current != NULL) return failed(VIOLATED(c, "FORMAT before the old pool's RETIRE"));
    if (c->had_pool && f.pool == c->last_pool) return failed(VIOLATED(c, "FORMAT: pool %" PRIu32 " for the second time", f.pool));
    const char *wrong = read_layout(&f, m);
    if (wrong != NULL)
        return failed(VIOLATED(c, "FORMAT: %s (fourcc 0x%08" PRIx32 ", %" PRIu32 "x%" PRIu32 ")", wrong, f.fourcc, f.width, f.height));
    pool_t *pool = (pool_t *)calloc(1, sizeof *pool);
    if (pool == NULL) {
        hang_up(c);
        return failed(fail_os(c, "calloc", ENOMEM));
    }
    pool->format = f;
    pool->current = true;
    pool->link = c->link;
    pool->link->users++;
    pool->next = c->pools;
    for (uint32_t i = 0; i < FLS_MAX_SLOTS; i++) {
        slot_t *s = &pool->slots[i];
        s->pool = pool;
        s->frame.format = &pool->format;
        s->frame.slot = i;
        for (unsigned j = 0; j < FLS_MAX_PLANES; j++) s->frame.memory[j].fd = -1;
    }
    c->pools = c->current = pool;
    c->last_pool = f.pool;
    c->had_pool = true;
    return event_step(FLS_FORMAT, NULL);
}

/* `fds`: those that came, -1 where we have taken one. `complete`: none was lost on the way. */
static step on_buffer(fls_client *c, const uint8_t *m, int *fds, unsigned count, bool complete) {
    pool_t *pool = c->current;
    uint32_t number = u32_at(m + 8), slot = u32_at(m + 12);
    if (pool == NULL) return failed(VIOLATED(c, "BUFFER without FORMAT"));
    fls_format *f = &pool->format;
    if (number != f->pool || slot != pool->answered || slot >= f->slots)
        return failed(VIOLATED(c, "BUFFER: expected pool %" PRIu32 " slot %" PRIu32 " of %" PRIu32 ", got pool %" PRIu32 " slot %" PRIu32,
                               f->pool, pool->answered, f->slots, number, slot));
    if (complete && count != f->memory_planes)
        return failed(VIOLATED(c, "BUFFER: expected %" PRIu32 " descriptors, got %u", f->memory_planes, count));
    slot_t *s = &pool->slots[slot];
    for (unsigned i = 0; complete && i < count; i++) {
        const char *wrong = adopt(&s->frame.memory[i], fds[i], f->memory_bytes[i]);
        if (wrong != NULL)
            return failed(VIOLATED(c, "BUFFER slot %" PRIu32 ": %s (%" PRIu64 " bytes, %" PRIu32 " needed)", slot, wrong,
                                   s->frame.memory[i].size, f->memory_bytes[i]));
        s->frame.memory[i].fd = fds[i];
        fds[i] = -1;
    }
    s->usable = complete;
    pool->answered++;
    uint8_t bytes[16], *end = put_header(bytes, complete ? BUFFER_OK : BUFFER_FAILED);
    /* Only answers and a few releases are under way: if the socket has no room, the publisher does not read. */
    if (send_bytes(c->link, bytes, put32(put32(end, number), slot)) != 0) return lost(c);
    if (pool->answered < f->slots) return handled();
    for (uint32_t i = 0; i < f->slots; i++)
        if (pool->slots[i].usable) return handled();
    hang_up(c);
    return failed(fail(c, FLS_EXHAUSTED, "recvmsg", "no file descriptor is left for any of %" PRIu32 " buffers", slot + 1));
}

/* Ends a lease. Its release is sent by the next flush(). */
static void end_lease(slot_t *s) {
    link_t *l = s->pool->link;
    lease ended = {s->pool->format.pool, s->frame.slot, s->frame.generation};
    fls_end_read(&s->frame);
    s->held = false;
    s->pool->held--;
    l->leases--;
    l->release[l->unsent++] = ended;
}

/* Releases the frame that the caller has not seen. */
static void skip_unseen(fls_client *c) {
    slot_t *s = (slot_t *)c->unseen;
    if (s == NULL) return;
    c->unseen = NULL;
    end_lease(s);
    c->stats.received--;
    c->stats.skipped++;
}

/* Newer frames wait than the last one that was sent. If that one is unseen, its release brings the newest. */
static step on_newer(fls_client *c, const uint8_t *m) {
    if (c->unseen != NULL && u64_at(m + 8) >= c->unseen->generation) skip_unseen(c);
    return handled();
}

static step on_frame(fls_client *c, const uint8_t *m) {
    pool_t *pool = c->current;
    uint32_t number = u32_at(m + 8), slot = u32_at(m + 12);
    uint64_t generation = u64_at(m + 16);
    if (pool == NULL || pool->format.pool != number || pool->answered < pool->format.slots)
        return failed(VIOLATED(c, "FRAME of pool %" PRIu32 ", which we do not have (all of)", number));
    slot_t *s = slot < pool->format.slots ? &pool->slots[slot] : NULL;
    if (s == NULL || !s->usable) return failed(VIOLATED(c, "FRAME in slot %" PRIu32 ", which we do not have", slot));
    if (s->held) return failed(VIOLATED(c, "FRAME in slot %" PRIu32 ", which we still hold", slot));
    if (s->used && s->frame.generation == generation)
        return failed(VIOLATED(c, "FRAME in slot %" PRIu32 ": generation %" PRIu64 " for the second time", slot, generation));
    if (c->link->leases + c->link->unsent >= c->options.hold)
        return failed(VIOLATED(c, "FRAME while we hold all of %u", (unsigned)c->options.hold));
    fls_frame *f = &s->frame;
    for (unsigned i = 0; i < pool->format.memory_planes; i++) {
        fls_memory *memory = &f->memory[i];
        memory->offset = u32_at(m + 64 + 8 * i);
        memory->bytes = u32_at(m + 68 + 8 * i);
        if ((uint64_t)memory->offset + memory->bytes > memory->size)
            return failed(VIOLATED(c, "FRAME: %" PRIu32 " bytes at %" PRIu32 " leave a buffer of %" PRIu64, memory->bytes,
                                   memory->offset, memory->size));
    }
    f->generation = generation;
    f->sequence = u64_at(m + 24);
    f->timestamp_ns = u64_at(m + 32);
    f->sent_ns = u64_at(m + 40);
    f->dropped = u64_at(m + 48);
    f->lost = u32_at(m + 56);
    f->flags = u32_at(m + 60);
    s->used = s->held = true;
    s->revoked = false;
    pool->held++;
    c->link->leases++;
    c->dropped = f->dropped;
    c->stats.received++;
    c->stats.lost += f->lost;
    if (c->options.policy != FLS_LATEST) return event_step(FLS_FRAME, f);
    if (c->unseen != NULL) {
        /* What the source lost before the older one is lost before this one, too. */
        f->lost = f->lost > UINT32_MAX - c->unseen->lost ? UINT32_MAX : f->lost + c->unseen->lost;
        skip_unseen(c);
    }
    c->unseen = f;
    return handled();
}

/* A lease that was given back in the meantime does not matter. */
static step on_revoke(fls_client *c, const uint8_t *m) {
    c->stats.revoked++;
    for (pool_t *pool = c->pools; pool != NULL; pool = pool->next)
        if (pool->link == c->link && pool->format.pool == u32_at(m + 8)) {
            slot_t *s = &pool->slots[u32_at(m + 12)];
            if (s->held && s->frame.generation == u64_at(m + 16)) s->revoked = true;
        }
    return handled();
}

static step on_message(fls_client *c, const uint8_t *m, size_t length, int *fds, unsigned count, bool complete) {
    static const uint8_t LENGTHS[] = {24, 120, 16, 96, 24, 12, 8, 20, 16};
    if (length < 8) return failed(VIOLATED(c, "a message of %zu bytes", length));
    uint32_t type = u16_at(m), flags = u16_at(m + 2);
    if (type < WELCOME || type > NEWER) {
        if ((flags & CRITICAL) == 0) return handled();
        return failed(VIOLATED(c, "message type %" PRIu32 " is unknown and critical", type));
    }
    if (length < LENGTHS[type - WELCOME])
        return failed(VIOLATED(c, "message type %" PRIu32 ": expected %u bytes, got %zu", type, (unsigned)LENGTHS[type - WELCOME], length));
    bool names_slot = type == BUFFER || type == FRAME || type == REVOKE;
    if (names_slot && u32_at(m + 12) >= FLS_MAX_SLOTS) return failed(VIOLATED(c, "slot %" PRIu32 " is out of range", u32_at(m + 12)));
    if (type == BYE) return on_bye(c, m);
    if (type == WELCOME) return on_welcome(c, m);
    if (!c->welcomed) return failed(VIOLATED(c, "expected WELCOME, got message type %" PRIu32, type));
    switch (type) {
        case FORMAT: return on_format(c, m);
        case BUFFER: return on_buffer(c, m, fds, count, complete);
        case FRAME: return on_frame(c, m);
        case REVOKE: return on_revoke(c, m);
        case RETIRE:
            if (c->current == NULL || c->current->format.pool != u32_at(m + 8))
                return failed(VIOLATED(c, "RETIRE of pool %" PRIu32 ", which is not the current one", u32_at(m + 8)));
            retire(c);
            return handled();
        case NEWER: return on_newer(c, m);
        default: return event_step(FLS_PAUSED, NULL);
    }
}

/* One message, if one is there. */
static step receive(fls_client *c) {
    uint8_t bytes[MAX_MESSAGE];
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    ssize_t n = recvmsg(c->link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
        int error = errno;
        step nothing = {EMPTY, FLS_OK, FLS_NOTHING, NULL};
        /* Asked only at the second of two: a loop that reads until there is nothing would else pay at each frame. */
        if (error == EAGAIN && ++c->link->empty > 1 && is_over(c->link)) return lost(c);
        if (error == EAGAIN || error == EINTR) return nothing;
        /* Reported once when the publisher closed without reading all; what it sent before is still to be read. */
        if (error == ECONNRESET) return handled();
        hang_up(c);
        return failed(fail_os(c, "recvmsg", error));
    }
    c->link->empty = 0;
    int fds[MAX_FDS];
    unsigned count = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h != NULL; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        size_t room = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < room && count < MAX_FDS; i++)
            memcpy(&fds[count++], CMSG_DATA(h) + i * sizeof(int), sizeof(int));
    }
    step result;
    if ((message.msg_flags & MSG_TRUNC) != 0)
        result = failed(VIOLATED(c, "a message is longer than %u bytes", MAX_MESSAGE));
    else if (n == 0 && (message.msg_flags & MSG_CTRUNC) == 0 && count == 0)
        result = lost(c);
    else
        result = on_message(c, bytes, (size_t)n, fds, count, (message.msg_flags & MSG_CTRUNC) == 0);
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0) close(fds[i]);
    return result;
}

/* Waits until there is something to receive. false: time is over, or a signal came. */
static bool await(fls_client *c, int64_t deadline) {
    struct pollfd p[2] = {{c->link->fd, fls_poll_events(c), 0}, {c->link->process, POLLIN, 0}};
    int ready = poll(p, 2, ms_until(deadline));
    if (p[1].revents != 0) c->link->empty++;
    return ready > 0;
}

/* Whether the next message is there and cannot become an event of its own. It stays in the socket. */
static bool more_about_frames(const fls_client *c) {
    uint8_t bytes[8];
    if (recv(c->link->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK) != (ssize_t)sizeof bytes) return false;
    uint32_t type = u16_at(bytes);
    return type == FRAME || type == NEWER || type == REVOKE;
}

/* Handles messages until one of them is an event. With FLS_LATEST a frame is one when no newer one is there. */
static step take(fls_client *c, int64_t deadline, bool handshake) {
    step s = handled();
    for (unsigned i = 0; i < MAX_STEPS && s.outcome != EVENT && s.outcome != FAILED && !(handshake && c->welcomed); i++) {
        if (c->unseen != NULL && !more_about_frames(c)) break;
        if (c->unseen == NULL) {
            flush(c->link);
            for (pool_t *pool = c->pools; pool != NULL; pool = pool->next) flush(pool->link);
            bool wait = ms_until(deadline) > 0;
            if (wait && !await(c, deadline)) break;
            s = receive(c);
            if (s.outcome == EMPTY && !wait) break;
        } else {
            s = receive(c);
        }
    }
    fls_frame *frame = c->unseen;
    c->unseen = NULL;
    if (frame == NULL) return s;
    if (s.outcome == FAILED) {
        /* The frame came before the message that ended the connection. The next call reports the error. */
        c->deferred = s.error;
        memcpy(c->deferred_message, c->message, sizeof c->message);
    } else if (c->link->unsent > 0) {
        flush(c->link);
    }
    return event_step(FLS_FRAME, frame);
}

/* ---- the calls ---- */

fls_error fls_open(const fls_options *options, fls_client **client) {
    *client = NULL;
    fls_options o = *options;
    if (o.hold == 0) o.hold = 1;
    if (o.depth == 0 || o.policy != FLS_FIFO) o.depth = 1;
    if (o.every == 0) o.every = 1;
    if (o.path == NULL || o.path[0] == 0 || o.hold > FLS_MAX_SLOTS || o.depth > 32 || o.policy > FLS_BLOCK ||
        (o.every > 1 && o.milli_fps > 0))
        return FLS_INVALID;
    fls_client *c = (fls_client *)calloc(1, sizeof *c);
    if (c == NULL) return FLS_EXHAUSTED;
    size_t length = strlen(o.path);
    if (length >= sizeof c->address.sun_path) {
        free(c);
        return FLS_INVALID;
    }
    c->address.sun_family = AF_UNIX;
    memcpy(c->address.sun_path, o.path, length);
    o.path = NULL;
    c->options = o;
    *client = c;
    return FLS_OK;
}

void fls_close(fls_client *c) {
    if (c == NULL) return;
    hang_up(c);
    while (c->pools != NULL) {
        c->pools->held = 0;
        settle(c, c->pools);
    }
    free(c);
}

static fls_error say_hello(fls_client *c) {
    const fls_options *o = &c->options;
    uint8_t bytes[32], *p = put32(put_header(bytes, HELLO), MAGIC);
    p = put16(put16(put16(put16(p, VERSION), VERSION), o->hold), (uint32_t)o->policy);
    p = put32(put32(put16(put16(p, o->depth), 0), o->every), o->milli_fps);
    int error = send_bytes(c->link, bytes, p);
    /* A publisher that hung up at once has said why: the first receive brings it. */
    return error == 0 || error == EPIPE || error == ECONNRESET ? FLS_OK : fail_os(c, "send HELLO", error);
}

fls_error fls_connect(fls_client *c, int timeout_ms) {
    int64_t deadline = deadline_after(timeout_ms);
    hang_up(c);
    c->had_pool = false;
    c->deferred = FLS_OK;
    memset(&c->refusal, 0, sizeof c->refusal);
    c->link = (link_t *)calloc(1, sizeof *c->link);
    if (c->link == NULL) return fail_os(c, "calloc", ENOMEM);
    c->link->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->link->fd < 0) {
        int error = errno;
        free(c->link);
        c->link = NULL;
        return fail_os(c, "socket", error);
    }
    c->link->users = 1;
    c->link->process = -1;
    while (connect(c->link->fd, (const struct sockaddr *)&c->address, sizeof c->address) != 0) {
        int error = errno;
        /* EAGAIN: a publisher listens, and has many connections to accept before this one. */
        if (error == EINTR) continue;
        if (error == EAGAIN && ms_until(deadline) > 0 && poll(NULL, 0, PAUSE_MIN_MS) == 0) continue;
        hang_up(c);
        return fail_os(c, "connect", error);
    }
    socklen_t length = sizeof c->link->process;
    if (getsockopt(c->link->fd, SOL_SOCKET, PEERPIDFD, &c->link->process, &length) != 0) c->link->process = -1;
    fls_error error = say_hello(c);
    while (error == FLS_OK && !c->welcomed) {
        step s = take(c, deadline, true);
        if (s.outcome == FAILED)
            error = s.error;
        else if (s.outcome == EVENT)
            error = fail(c, FLS_DISCONNECTED, "connect", "the publisher hung up without WELCOME");
        else if (!c->welcomed)
            error = fail(c, FLS_TIMEOUT, "connect", "no answer to HELLO within %d ms, or a signal came", timeout_ms);
    }
    if (error != FLS_OK) hang_up(c);
    return error;
}

/* Whether the same HELLO may be admitted later. */
static bool is_temporary(uint32_t reason) {
    return reason == FLS_REASON_CAPACITY || reason == FLS_REASON_LEASE_EXPIRED || reason == FLS_REASON_SILENT ||
           reason == FLS_REASON_STALLED;
}

fls_error fls_reconnect(fls_client *c, int timeout_ms) {
    int64_t deadline = deadline_after(timeout_ms);
    for (int pause = PAUSE_MIN_MS;; pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS) {
        fls_error error = fls_connect(c, ms_until(deadline));
        int left = ms_until(deadline);
        bool may_pass = error == FLS_NOT_FOUND || error == FLS_DISCONNECTED || error == FLS_PROTOCOL ||
                        (error == FLS_REFUSED && is_temporary(c->refusal.reason));
        if (!may_pass || left == 0) return error;
        if (poll(NULL, 0, pause < left ? pause : left) != 0) return error;
    }
}

fls_error fls_next(fls_client *c, int timeout_ms, fls_event *event, fls_frame **frame) {
    *event = FLS_NOTHING;
    *frame = NULL;
    fls_error deferred = c->deferred;
    c->deferred = FLS_OK;
    if (deferred != FLS_OK) {
        memcpy(c->message, c->deferred_message, sizeof c->message);
        return deferred;
    }
    if (c->link == NULL) return fail(c, FLS_DISCONNECTED, "fls_next", "not connected");
    step s = take(c, deadline_after(timeout_ms), false);
    *event = s.event;
    *frame = s.frame;
    return s.error;
}

fls_error fls_release(fls_client *c, fls_frame *frame) {
    slot_t *s = (slot_t *)frame;
    if (!s->held) return fail(c, FLS_INVALID, "fls_release", "the frame in slot %" PRIu32 " is not held", frame->slot);
    end_lease(s);
    flush(s->pool->link);
    settle(c, s->pool);
    return FLS_OK;
}

bool fls_valid(const fls_frame *frame) {
    const slot_t *s = (const slot_t *)frame;
    return s->held && !s->revoked && !is_over(s->pool->link);
}

static int sync_memory(int fd, uint64_t flags) {
    struct dma_buf_sync sync;
    sync.flags = flags;
    int result;
    do result = ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
    while (result != 0 && (errno == EINTR || errno == EAGAIN));
    return result;
}

static void end_read(slot_t *s, unsigned planes) {
    for (unsigned i = 0; i < planes; i++)
        if (s->frame.memory[i].is_dmabuf) (void)sync_memory(s->frame.memory[i].fd, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_END);
}

fls_error fls_begin_read(fls_client *c, fls_frame *frame, int timeout_ms) {
    int64_t deadline = deadline_after(timeout_ms);
    slot_t *s = (slot_t *)frame;
    if (!s->held) return fail(c, FLS_INVALID, "fls_begin_read", "the frame in slot %" PRIu32 " is not held", frame->slot);
    if (s->reading) return FLS_OK;
    for (unsigned i = 0; i < frame->format->memory_planes; i++) {
        fls_memory *m = &frame->memory[i];
        fls_error error = FLS_OK;
        if (s->map[i] == NULL) {
            void *map = m->size <= SIZE_MAX ? mmap(NULL, (size_t)m->size, PROT_READ, MAP_SHARED, m->fd, 0) : MAP_FAILED;
            if (map == MAP_FAILED)
                error = fail_os(c, "mmap", m->size <= SIZE_MAX ? errno : ENOMEM);
            else
                s->map[i] = map;
        }
        if (error == FLS_OK && m->is_dmabuf) {
            /* SYNC itself waits for fences without a limit. */
            struct pollfd p = {m->fd, POLLIN, 0};
            if (poll(&p, 1, ms_until(deadline)) <= 0)
                error = fail(c, FLS_TIMEOUT, "poll", "a device still works on slot %" PRIu32, frame->slot);
            else if (sync_memory(m->fd, DMA_BUF_SYNC_READ | DMA_BUF_SYNC_START) != 0)
                error = fail_os(c, "DMA_BUF_IOCTL_SYNC", errno);
        }
        if (error != FLS_OK) {
            end_read(s, i);
            return error;
        }
    }
    s->reading = true;
    return FLS_OK;
}

void fls_end_read(fls_frame *frame) {
    slot_t *s = (slot_t *)frame;
    if (s->reading) end_read(s, frame->format->memory_planes);
    s->reading = false;
}

const uint8_t *fls_data(const fls_frame *frame, uint32_t memory) {
    const slot_t *s = (const slot_t *)frame;
    if (!s->reading || memory >= frame->format->memory_planes) return NULL;
    return (const uint8_t *)s->map[memory] + frame->memory[memory].offset;
}

const uint8_t *fls_pixels(const fls_frame *frame, uint32_t plane) {
    if (plane >= frame->format->planes) return NULL;
    const fls_plane *p = &frame->format->plane[plane];
    if (p->rows == 0) return NULL;
    uint64_t end = (uint64_t)p->offset + (uint64_t)p->stride * (p->rows - 1u) + p->row_bytes;
    const uint8_t *data = fls_data(frame, p->memory);
    return data == NULL || end > frame->memory[p->memory].bytes ? NULL : data + p->offset;
}

int fls_fd(const fls_client *c) { return c->link != NULL ? c->link->fd : -1; }
int fls_process_fd(const fls_client *c) { return c->link != NULL ? c->link->process : -1; }

short fls_poll_events(const fls_client *c) {
    return (short)(c->link != NULL && c->link->unsent > 0 ? POLLIN | POLLOUT : POLLIN);
}

const fls_format *fls_current_format(const fls_client *c) { return c->current != NULL ? &c->current->format : NULL; }
unsigned fls_quota(const fls_client *c) { return c->welcomed ? c->quota : 0; }
uint32_t fls_lease_ms(const fls_client *c) { return c->lease_ms; }
uint64_t fls_epoch(const fls_client *c) { return c->epoch; }

fls_stats fls_statistics(const fls_client *c) {
    fls_stats stats = c->stats;
    stats.dropped += c->dropped;
    return stats;
}

const char *fls_message(const fls_client *c) { return c->message; }
fls_refusal fls_last_refusal(const fls_client *c) { return c->refusal; }

const char *fls_error_name(fls_error error) {
    static const char *const NAMES[] = {"ok",       "invalid",  "not-found", "permission",   "timeout",
                                        "refused",  "protocol", "exhausted", "disconnected", "system"};
    return (unsigned)error < sizeof NAMES / sizeof NAMES[0] ? NAMES[error] : "unknown";
}
