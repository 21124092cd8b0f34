/* Shares the test pattern: what examples/camshare.c does, with poll, and also in a guest without GLib. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <framelease.h>

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

int main(int argc, char **argv) {
    fl_pattern_options pattern = FL_INIT(fl_pattern_options);
    pattern.width = 320;
    pattern.height = 240;
    fl_publisher_options shared = FL_INIT(fl_publisher_options);
    shared.path = argv[argc - 1];
    fl_station *source = NULL, *publisher = NULL;
    fl_buffers *buffers = NULL;
    if (fl_pattern_open(&pattern, &source) < 0 || fl_publisher_open(&shared, &publisher) < 0 ||
        fl_station_buffers(source, &buffers) < 0 || fl_publisher_announce(publisher, buffers) < 0) {
        fprintf(stderr, "share: %s\n", fl_message(NULL));
        return 1;
    }
    fl_buffers_close(&buffers);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, NULL);
    fl_event event = FL_INIT(fl_event);
    fl_status status = FL_OK;
    while (!stop && status >= 0) {
        struct pollfd fds[] = {{fl_station_fd(source), POLLIN, 0}, {fl_station_fd(publisher), POLLIN, 0}};
        poll(fds, 2, 1000);
        status = fl_station_dispatch(publisher);
        while (status >= 0 && (status = fl_station_recv(source, 0, &event)) == FL_OK) {
            if (event.kind == FL_EVENT_FRAME) {
                status = fl_station_submit(publisher, event.frame, 0);
            }
            fl_event_clear(&event);
        }
    }
    if (status < 0) {
        fprintf(stderr, "share: %s\n", fl_message(NULL));
    }
    fl_station_close(&publisher);
    fl_station_close(&source);
    return status < 0;
}
