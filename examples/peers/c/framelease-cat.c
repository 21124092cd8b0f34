/* Writes the frames of a framelease publisher: raw, or a line for each. An example of fls.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64

#include "fls.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char HELP[] =
    "Writes the frames of a framelease publisher to standard output until Ctrl-C or the end of the stream: planes one after\n"
    "the other, rows without padding; a bitstream or an opaque format as it is. A pause of the stream is reported on standard error, and the\n"
    "next frame continues it. The stream ends when the publisher closes.\n"
    "\n"
    "Usage: framelease-cat [OPTIONS]\n"
    "\n"
    "  --socket PATH   where the publisher listens (default: framelease.socket in XDG_RUNTIME_DIR or /run)\n"
    "  --output FILE   write there\n"
    "  --hash          a line for each frame instead: sequence number, CRC-32 of what would be written\n"
    "  --none          write nothing\n"
    "  --frames N      stop after N frames\n"
    "  --policy P      latest, fifo:N or block (default latest)\n"
    "  --hold N        frames to lease at a time (default 1)\n"
    "  --every N       take every n-th frame only\n"
    "  --max-fps F     take at most F frames a second\n"
    "  --timeout S     give up after S seconds without a frame (default 10); a pause of the stream does not count\n"
    "  --reconnect     connect again after the publisher was gone\n"
    "  --stats         rate, latency and drops on standard error at the end\n"
    "  --help          this text\n";

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    (void)signal;
    stopped = 1;
}

static uint32_t crc_table[256];

static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t length) {
    crc = ~crc;
    for (size_t i = 0; i < length; i++) crc = crc_table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

static void crc_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++) v = (v & 1u) != 0 ? 0xedb88320u ^ v >> 1 : v >> 1;
        crc_table[i] = v;
    }
}

/* Where the bytes of a frame go: a file, a hash, or neither. */
typedef struct sink {
    FILE *file;
    bool hash;
    uint32_t crc;
} sink;

static bool put(sink *s, const uint8_t *bytes, size_t length) {
    if (s->hash) s->crc = crc32(s->crc, bytes, length);
    return s->file == NULL || fwrite(bytes, 1, length, s->file) == length;
}

/* false: errno of the write, or 0 if the frame's data are too short. */
static bool put_frame(sink *s, const fls_frame *frame) {
    const fls_format *f = frame->format;
    errno = 0;
    if (f->planes == 0 || f->plane[0].rows == 0) {
        for (uint32_t i = 0; i < f->memory_planes; i++)
            if (!put(s, fls_data(frame, i), frame->memory[i].bytes)) return false;
        return true;
    }
    for (uint32_t i = 0; i < f->planes; i++) {
        const uint8_t *row = fls_pixels(frame, i);
        if (row == NULL) return false;
        for (uint32_t y = 0; y < f->plane[i].rows; y++, row += f->plane[i].stride)
            if (!put(s, row, f->plane[i].row_bytes)) return false;
    }
    return true;
}

static double number(const char *option, const char *text, double low, double high) {
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != 0 || !(v >= low && v <= high)) {
        fprintf(stderr, "error: --%s %s: expected a number from %g to %g\n", option, text, low, high);
        exit(2);
    }
    return v;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int complain(const fls_client *client, fls_error error) {
    fprintf(stderr, "error: %s (%s)\n", fls_message(client), fls_error_name(error));
    return 1;
}

typedef struct job {
    fls_options options;
    sink sink;
    bool none, stats, reconnect;
    uint64_t frames;
    int timeout_ms;
    const char *output;
} job;

static void parse(job *j, int argc, char **argv) {
    static const struct option OPTIONS[] = {
        {"socket", 1, NULL, 's'}, {"output", 1, NULL, 'o'},  {"hash", 0, NULL, 'x'},    {"none", 0, NULL, '0'},
        {"frames", 1, NULL, 'n'}, {"policy", 1, NULL, 'p'},  {"hold", 1, NULL, 'k'},    {"every", 1, NULL, 'e'},
        {"max-fps", 1, NULL, 'f'}, {"timeout", 1, NULL, 't'}, {"reconnect", 0, NULL, 'r'}, {"stats", 0, NULL, 'v'},
        {"help", 0, NULL, 'h'},   {NULL, 0, NULL, 0},
    };
    fls_options *o = &j->options;
    for (int c; (c = getopt_long(argc, argv, "h", OPTIONS, NULL)) != -1;) switch (c) {
            case 's': o->path = optarg; break;
            case 'o': j->output = optarg; break;
            case 'x': j->sink.hash = true; break;
            case '0': j->none = true; break;
            case 'n': j->frames = (uint64_t)number("frames", optarg, 1, 1e15); break;
            case 'k': o->hold = (uint16_t)number("hold", optarg, 1, FLS_MAX_SLOTS); break;
            case 'e': o->every = (uint32_t)number("every", optarg, 1, 4e9); break;
            case 'f': o->milli_fps = (uint32_t)(number("max-fps", optarg, 0.001, 4e6) * 1000); break;
            case 't': j->timeout_ms = (int)(number("timeout", optarg, 0.001, 1e6) * 1000); break;
            case 'r': j->reconnect = true; break;
            case 'v': j->stats = true; break;
            case 'h': fputs(HELP, stdout); exit(0);
            case 'p':
                if (strcmp(optarg, "latest") == 0) {
                    o->policy = FLS_LATEST;
                } else if (strcmp(optarg, "block") == 0) {
                    o->policy = FLS_BLOCK;
                } else if (strncmp(optarg, "fifo:", 5) == 0) {
                    o->policy = FLS_FIFO;
                    o->depth = (uint16_t)number("policy fifo", optarg + 5, 1, 32);
                } else {
                    fprintf(stderr, "error: --policy %s: none of latest, fifo:N, block\n", optarg);
                    exit(2);
                }
                break;
            default: exit(2);
        }
    if (optind < argc) {
        fprintf(stderr, "error: unexpected argument %s\n", argv[optind]);
        exit(2);
    }
}

/* Until Ctrl-C, the end, an error, or as many frames as wanted. The exit status. */
static int run(fls_client *client, job *j) {
    uint64_t start = now_ns(), latency = 0, latency_max = 0, received = 0;
    bool paused = false;
    int status = 0;
    fls_error error = j->reconnect ? fls_reconnect(client, j->timeout_ms) : fls_connect(client, j->timeout_ms);
    uint64_t deadline = now_ns() + (uint64_t)j->timeout_ms * 1000000u;
    while (error == FLS_OK && !stopped && received < j->frames) {
        fls_event event;
        fls_frame *frame;
        uint64_t now = now_ns();
        if (paused) deadline = now + (uint64_t)j->timeout_ms * 1000000u;
        if (now >= deadline) {
            fprintf(stderr, "error: no frame for %d ms\n", j->timeout_ms);
            status = 1;
            break;
        }
        error = fls_next(client, (int)((deadline - now + 999999u) / 1000000u), &event, &frame);
        if (event == FLS_FORMAT) {
            const fls_format *f = fls_current_format(client);
            fprintf(stderr, "%.4s %" PRIu32 "x%" PRIu32 "\n", (const char *)&f->fourcc, f->width, f->height);
        } else if (event == FLS_FRAME) {
            uint64_t age = now_ns() - frame->sent_ns;
            latency += age;
            if (age > latency_max) latency_max = age;
            received++;
            paused = false;
            deadline = now_ns() + (uint64_t)j->timeout_ms * 1000000u;
            j->sink.crc = 0;
            bool written = true;
            if (!j->none) {
                error = fls_begin_read(client, frame, 1000);
                written = error != FLS_OK || put_frame(&j->sink, frame);
            }
            int why = errno;
            if (written && error == FLS_OK && j->sink.hash)
                written = printf("%" PRIu64 " %08" PRIx32 "\n", frame->sequence, j->sink.crc) > 0 && fflush(stdout) == 0;
            if (!fls_valid(frame)) fprintf(stderr, "frame %" PRIu64 " became invalid while it was in use\n", frame->sequence);
            fls_release(client, frame);
            if (!written && why == 0) {
                fprintf(stderr, "frame of fewer bytes than its layout; skipped\n");
            } else if (!written) {
                /* The reader of the pipe has closed it. */
                if (why == EPIPE) break;
                fprintf(stderr, "error: %s: %s\n", j->output != NULL ? j->output : "standard output", strerror(why));
                status = 1;
                break;
            }
        } else if (event == FLS_PAUSED) {
            paused = true;
            fprintf(stderr, "the publisher paused the stream; waiting for the next frame\n");
        } else if (event == FLS_LOST && !j->reconnect) {
            break;
        }
        if (j->reconnect && (event == FLS_LOST || error == FLS_REFUSED || error == FLS_PROTOCOL)) {
            fprintf(stderr, "the publisher is gone (%s); trying again\n", error == FLS_OK ? "hang-up" : fls_message(client));
            error = fls_reconnect(client, j->timeout_ms);
            paused = false;
            deadline = now_ns() + (uint64_t)j->timeout_ms * 1000000u;
        }
    }
    if (error != FLS_OK && !stopped) status = complain(client, error);
    if (j->stats) {
        fls_stats s = fls_statistics(client);
        double n = received > 0 ? (double)received : 1, seconds = (double)(now_ns() - start) / 1e9;
        fprintf(stderr,
                "%" PRIu64 " frames in %.1f s, %.1f a second, %" PRIu64 " dropped, %" PRIu64 " lost by the source, %" PRIu64
                " revoked; latency mean %.0f us, max %.0f us\n",
                received, seconds, (double)received / seconds, s.dropped, s.lost, s.revoked, (double)latency / n / 1e3,
                (double)latency_max / 1e3);
    }
    return status;
}

int main(int argc, char **argv) {
    char standard[4096];
    const char *folder = getenv("XDG_RUNTIME_DIR");
    snprintf(standard, sizeof standard, "%s/framelease.socket", folder != NULL ? folder : "/run");
    job j;
    memset(&j, 0, sizeof j);
    j.options.path = standard;
    j.frames = UINT64_MAX;
    j.timeout_ms = 10000;
    parse(&j, argc, argv);
    crc_init();

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = stop; /* no SA_RESTART: a wait ends */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    if (!j.none && !j.sink.hash) {
        j.sink.file = j.output != NULL ? fopen(j.output, "wb") : stdout;
        if (j.sink.file == NULL) {
            fprintf(stderr, "error: %s: %s\n", j.output, strerror(errno));
            return 1;
        }
        if (j.output == NULL && isatty(STDOUT_FILENO)) {
            fprintf(stderr, "error: raw frames do no good on a terminal: --output, --hash or --none\n");
            return 2;
        }
        setvbuf(j.sink.file, NULL, _IOFBF, 1 << 20);
    }
    fls_client *client;
    fls_error error = fls_open(&j.options, &client);
    if (error != FLS_OK) {
        fprintf(stderr, "error: %s: %s\n", j.options.path, fls_error_name(error));
        return 2;
    }
    int status = run(client, &j);
    fls_close(client);
    if (j.sink.file != NULL && fclose(j.sink.file) != 0 && errno != EPIPE && status == 0) {
        fprintf(stderr, "error: %s: %s\n", j.output != NULL ? j.output : "standard output", strerror(errno));
        status = 1;
    }
    return status;
}
