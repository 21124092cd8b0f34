/* Subscribes to a publisher and reads the pixels of each frame in place: prints the mean of the first color plane.
 *
 *     consumer [--frames N] SOCKET
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <framelease.h>

static int read_frame(const fl_frame *frame) {
    fl_frame_info info = FL_INIT(fl_frame_info);
    fl_mapping *mapping = NULL;
    fl_pixels plane;
    if (fl_frame_get_info(frame, &info) < 0 || fl_frame_map(frame, 1000, &mapping) < 0 ||
        fl_mapping_plane(mapping, 0, &plane) < 0) {
        fl_mapping_close(&mapping);
        return -1;
    }
    uint64_t sum = 0;
    for (uint32_t y = 0; y < plane.rows; y++) {
        const uint8_t *row = plane.data + y * plane.stride_bytes;
        for (size_t x = 0; x < plane.row_bytes; x++) {
            sum += row[x];
        }
    }
    fl_mapping_close(&mapping);
    uint64_t count = (uint64_t)plane.rows * plane.row_bytes;
    /* The publisher may have revoked the lease meanwhile: ask after the last byte was read. */
    if (!fl_frame_is_valid(frame)) {
        printf("frame %" PRIu64 " was revoked\n", info.sequence);
    } else {
        printf("frame %" PRIu64 ": mean %" PRIu64 "\n", info.sequence, count ? sum / count : 0);
    }
    return 0;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: consumer [--frames N] SOCKET\n";
    fl_subscriber_options options = FL_INIT(fl_subscriber_options);
    unsigned long limit = 0, frames = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(argv[i], "--frames") == 0 && i + 1 < argc) {
            limit = strtoul(argv[++i], NULL, 10);
        } else if (argv[i][0] != '-' && !options.path) {
            options.path = argv[i];
        } else {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (!options.path) {
        fputs(usage, stderr);
        return 2;
    }
    fl_station *subscriber = NULL;
    if (fl_subscriber_open(&options, 5000, &subscriber) < 0) {
        fprintf(stderr, "consumer: %s\n", fl_message(NULL));
        return 1;
    }
    fl_event event = FL_INIT(fl_event);
    fl_status status = FL_OK;
    int result = 0;
    while (result == 0 && (limit == 0 || frames < limit)) {
        status = fl_station_recv(subscriber, 5000, &event);
        if (status == FL_NOTHING) {
            continue;
        }
        if (status != FL_OK) {
            break;
        }
        if (event.kind == FL_EVENT_FRAME) {
            frames++;
            result = read_frame(event.frame);
        } else {
            fprintf(stderr, "consumer: event %" PRIu32 " %s\n", event.kind, event.text);
        }
        fl_event_clear(&event);
    }
    if (result < 0 || status < 0) {
        fprintf(stderr, "consumer: %s\n", fl_message(result < 0 ? NULL : subscriber));
        result = 1;
    }
    fl_station_close(&subscriber);
    return result;
}
