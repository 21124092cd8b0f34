/* Shows a publisher's frames on a display, without a copy where a plane of the screen takes the format.
 *
 *     show [--device PATH] [--connector NAME] [--frames N] SOCKET
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <framelease.h>

static fl_station *subscriber, *display;
static uint64_t shown;

static int fail(fl_station *station, const char *what) {
    fprintf(stderr, "show: %s: %s\n", what, fl_message(station));
    return -1;
}

/* Opens the display for the subscriber's present buffers, or opens it again for others. */
static int set_up(const fl_display_options *options) {
    fl_buffers *buffers = NULL;
    int result = 0;
    if (fl_station_buffers(subscriber, &buffers) < 0) {
        result = fail(subscriber, "buffers");
    } else if (display ? fl_display_reopen(display, buffers) < 0 : fl_display_open(options, buffers, &display) < 0) {
        result = fail(display, "display");
    }
    fl_buffers_close(&buffers);
    return result;
}

static int take_frames(const fl_display_options *options) {
    fl_event event = FL_INIT(fl_event);
    for (;;) {
        fl_status status = fl_station_recv(subscriber, 0, &event);
        if (status != FL_OK) {
            return status == FL_NOTHING ? 1 : status == FL_ENDED ? 0 : fail(subscriber, "subscriber");
        }
        int result = 0;
        if (event.kind == FL_EVENT_FORMAT) {
            result = set_up(options);
        } else if (event.kind == FL_EVENT_FRAME && display && fl_station_submit(display, event.frame, 0) < 0) {
            result = fail(display, "show");
        }
        fl_event_clear(&event);
        if (result < 0) {
            return result;
        }
    }
}

static int take_flips(void) {
    fl_event event = FL_INIT(fl_event);
    fl_status status;
    while ((status = fl_station_recv(display, 0, &event)) == FL_OK) {
        if (event.kind == FL_EVENT_SHOWN) {
            shown++;
        } else {
            fprintf(stderr, "show: display: event %" PRIu32 " %s\n", event.kind, event.text);
        }
        fl_event_clear(&event);
    }
    return status < 0 ? fail(display, "display") : 1;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: show [--device PATH] [--connector NAME] [--frames N] SOCKET\n";
    fl_display_options options = FL_INIT(fl_display_options);
    fl_subscriber_options shared = FL_INIT(fl_subscriber_options);
    options.scaling = FL_SCALING_KEEP;
    shared.hold = 3; /* one on the screen, one that waits for the next refresh, one on its way */
    uint64_t limit = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) {
            options.path = argv[++i];
        } else if (strcmp(argv[i], "--connector") == 0 && i + 1 < argc) {
            options.connector = argv[++i];
        } else if (strcmp(argv[i], "--frames") == 0 && i + 1 < argc) {
            limit = strtoull(argv[++i], NULL, 10);
        } else if (argv[i][0] != '-' && !shared.path) {
            shared.path = argv[i];
        } else {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (!shared.path) {
        fputs(usage, stderr);
        return 2;
    }
    if (fl_subscriber_open(&shared, 5000, &subscriber) < 0) {
        fail(NULL, "subscriber");
        return 1;
    }
    int result = 1;
    while (result > 0 && (limit == 0 || shown < limit)) {
        result = take_frames(&options);
        if (result > 0 && display) {
            result = take_flips();
        }
        /* poll ignores a descriptor of -1: the display is opened with the first format. */
        struct pollfd fds[] = {{fl_station_fd(subscriber), POLLIN, 0}, {fl_station_fd(display), POLLIN, 0}};
        if (result > 0 && (limit == 0 || shown < limit)) {
            poll(fds, 2, -1);
        }
    }
    fl_station_close(&display); /* the screen is as before */
    fl_station_close(&subscriber);
    printf("show: %" PRIu64 " frames\n", shown);
    return result < 0 ? 1 : 0;
}
