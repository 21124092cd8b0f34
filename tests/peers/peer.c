/* The C client, which follows the orders of tests/peers/peer.rs: one line in, one line out. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64

#include "fls.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FRAMES 4096u

static fls_client *client;
static fls_frame *frames[MAX_FRAMES]; /* in order of arrival; NULL: released */
static unsigned received;

static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t length) {
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc & 1u) != 0 ? 0xedb88320u ^ crc >> 1 : crc >> 1;
    }
    return ~crc;
}

/* The CRC of all pixels, or "short" if the frame's data end before them. */
static void print_pixels(fls_frame *frame) {
    const fls_format *f = frame->format;
    uint32_t crc = 0;
    if (fls_begin_read(client, frame, 1000) != FLS_OK) {
        printf(" unreadable: %s", fls_message(client));
        return;
    }
    bool has_rows = f->planes > 0 && f->plane[0].rows > 0;
    for (uint32_t i = 0; !has_rows && i < f->memory_planes; i++) crc = crc32(crc, fls_data(frame, i), frame->memory[i].bytes);
    for (uint32_t i = 0; has_rows && i < f->planes; i++) {
        const uint8_t *row = fls_pixels(frame, i);
        if (row == NULL) {
            printf(" short");
            return;
        }
        for (uint32_t y = 0; y < f->plane[i].rows; y++) crc = crc32(crc, row + (size_t)y * f->plane[i].stride, f->plane[i].row_bytes);
    }
    fls_end_read(frame);
    printf(" crc %08" PRIx32, crc);
}

static void print_error(fls_error error) {
    printf("error %s", fls_error_name(error));
    if (error == FLS_REFUSED) printf(" %" PRIu32, fls_last_refusal(client).reason);
}

/* The number of different buffers of the test that are open here. */
static unsigned memory(void) {
    static ino_t seen[1024];
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;) {
        char path[300], name[64] = "";
        struct stat s;
        snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        if (readlink(path, name, sizeof name - 1) < 0 || strstr(name, "golden") == NULL || stat(path, &s) != 0) continue;
        unsigned i = 0;
        while (i < count && seen[i] != s.st_ino) i++;
        if (i == count && count < 1024) seen[count++] = s.st_ino;
    }
    if (folder != NULL) closedir(folder);
    return count;
}

static void next(int timeout_ms) {
    fls_event event;
    fls_frame *frame;
    fls_error error = fls_next(client, timeout_ms, &event, &frame);
    const fls_format *f = fls_current_format(client);
    if (error != FLS_OK) {
        print_error(error);
    } else if (event == FLS_FORMAT) {
        char code[5] = {0};
        memcpy(code, &f->fourcc, 4);
        for (int i = 0; i < 4; i++) code[i] = code[i] >= 0x20 && code[i] < 0x7f ? code[i] : '?';
        printf("format %s %" PRIu32 "x%" PRIu32, code, f->width, f->height);
    } else if (event == FLS_FRAME) {
        printf("frame slot %" PRIu32 " sequence %" PRIu64 " time %" PRIu64 " sent %" PRIu64 " dropped %" PRIu64 " lost %" PRIu32
               " flags %" PRIu32 " data", frame->slot, frame->sequence, frame->timestamp_ns, frame->sent_ns, frame->dropped,
               frame->lost, frame->flags);
        for (uint32_t i = 0; i < frame->format->memory_planes; i++) printf(" %" PRIu32 "+%" PRIu32, frame->memory[i].offset, frame->memory[i].bytes);
        print_pixels(frame);
        if (received < MAX_FRAMES) frames[received++] = frame;
    } else {
        printf("%s", event == FLS_PAUSED ? "paused" : event == FLS_LOST ? "lost" : "nothing");
    }
}

static void connect_to(const char *path, const char *policy, unsigned hold, unsigned every, unsigned milli_fps) {
    fls_options o;
    memset(&o, 0, sizeof o);
    o.path = path;
    o.hold = (uint16_t)hold;
    o.every = every;
    o.milli_fps = milli_fps;
    o.policy = policy[0] == 'f' ? FLS_FIFO : policy[0] == 'b' ? FLS_BLOCK : FLS_LATEST;
    if (o.policy == FLS_FIFO) o.depth = (uint16_t)atoi(policy + 5);
    fls_error error = fls_open(&o, &client);
    if (error == FLS_OK) error = fls_connect(client, 5000);
    if (error != FLS_OK)
        print_error(error);
    else
        printf("connected quota %u", fls_quota(client));
}

int main(void) {
    char line[512], path[256], policy[32];
    unsigned n, hold, every, milli_fps;
    while (fgets(line, sizeof line, stdin) != NULL) {
        printf("PEER ");
        if (sscanf(line, "connect %255s %u %31s %u %u", path, &hold, policy, &every, &milli_fps) == 5) {
            connect_to(path, policy, hold, every, milli_fps);
        } else if (strcmp(line, "next\n") == 0) {
            next(5000);
        } else if (strcmp(line, "poll\n") == 0) {
            next(0);
        } else if (sscanf(line, "release %u", &n) == 1 && n < received && frames[n] != NULL) {
            fls_error error = fls_release(client, frames[n]);
            frames[n] = NULL;
            printf("%s", error == FLS_OK ? "released" : fls_error_name(error));
        } else if (sscanf(line, "valid %u", &n) == 1 && n < received && frames[n] != NULL) {
            printf("%s", fls_valid(frames[n]) ? "valid" : "invalid");
        } else if (strcmp(line, "starve\n") == 0 || strcmp(line, "feed\n") == 0) {
            struct rlimit limit;
            getrlimit(RLIMIT_NOFILE, &limit);
            limit.rlim_cur = line[0] == 's' ? 3 : limit.rlim_max;
            setrlimit(RLIMIT_NOFILE, &limit);
            printf("%s", line[0] == 's' ? "starved" : "fed");
        } else if (strcmp(line, "memory\n") == 0) {
            printf("memory %u", memory());
        } else if (strcmp(line, "close\n") == 0) {
            fls_close(client);
            client = NULL;
            received = 0;
            printf("closed");
        } else {
            printf("what? %s", line);
        }
        printf("\n");
        fflush(stdout);
    }
    fls_close(client);
    return 0;
}
