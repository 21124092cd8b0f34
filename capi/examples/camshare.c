/* Shares a camera, or the test pattern, with other processes, in a GLib main loop.
 *
 *     camshare [--pattern] [--frames N] SOCKET
 */
#include <glib-unix.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <framelease.h>

static GMainLoop *loop;
static fl_station *source, *publisher;
static uint64_t frames, limit;
static int result;

static void fail(fl_station *station, const char *what) {
    fprintf(stderr, "camshare: %s: %s\n", what, fl_message(station));
    result = 1;
    g_main_loop_quit(loop);
}

/* Announces the present buffers. */
static void announce(void) {
    fl_buffers *buffers = NULL;
    if (fl_station_buffers(source, &buffers) < 0) {
        fail(source, "buffers");
    } else if (fl_publisher_announce(publisher, buffers) < 0) {
        fail(publisher, "announce");
    }
    fl_buffers_close(&buffers);
}

static gboolean on_source(gint fd, GIOCondition condition, gpointer data) {
    (void)fd, (void)condition, (void)data;
    fl_event event = FL_INIT(fl_event);
    fl_status status;
    while ((status = fl_station_recv(source, 0, &event)) == FL_OK) {
        if (event.kind == FL_EVENT_FORMAT) {
            announce();
        } else if (event.kind == FL_EVENT_FRAME) {
            if (fl_station_submit(publisher, event.frame, 0) < 0) {
                fail(publisher, "publish");
            }
            if (++frames == limit) {
                g_main_loop_quit(loop);
            }
        }
        fl_event_clear(&event);
    }
    if (status < 0) {
        fail(source, "camera");
    } else if (status == FL_ENDED) {
        g_main_loop_quit(loop);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_publisher(gint fd, GIOCondition condition, gpointer data) {
    (void)fd, (void)condition, (void)data;
    fl_event event = FL_INIT(fl_event);
    fl_status status;
    while ((status = fl_station_recv(publisher, 0, &event)) == FL_OK) {
        fprintf(stderr, "camshare: process %" PRId32 ": %s\n", event.pid, event.text);
        fl_event_clear(&event);
    }
    if (status < 0) {
        fail(publisher, "publisher");
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_signal(gpointer data) {
    (void)data;
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: camshare [--pattern] [--frames N] SOCKET\n";
    fl_publisher_options shared = FL_INIT(fl_publisher_options);
    int is_pattern = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(argv[i], "--pattern") == 0) {
            is_pattern = 1;
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
    fl_pattern_options pattern = FL_INIT(fl_pattern_options);
    pattern.width = 320;
    pattern.height = 240;
    fl_camera_options camera = FL_INIT(fl_camera_options);
    camera.flags = FL_CAMERA_REOPEN;
    fl_status status = is_pattern ? fl_pattern_open(&pattern, &source) : fl_camera_open(&camera, &source);
    if (status < 0 || fl_publisher_open(&shared, &publisher) < 0) {
        fprintf(stderr, "camshare: %s\n", fl_message(NULL));
        fl_station_close(&source);
        return 1;
    }
    loop = g_main_loop_new(NULL, FALSE);
    announce();
    g_unix_fd_add(fl_station_fd(source), G_IO_IN, on_source, NULL);
    g_unix_fd_add(fl_station_fd(publisher), G_IO_IN, on_publisher, NULL);
    g_unix_signal_add(SIGINT, on_signal, NULL);
    g_unix_signal_add(SIGTERM, on_signal, NULL);
    if (result == 0) {
        g_main_loop_run(loop);
    }
    fl_station_close(&publisher);
    fl_station_close(&source);
    g_main_loop_unref(loop);
    printf("camshare: %" PRIu64 " frames\n", frames);
    return result;
}
