/* A whole camera node: raw frames to subscribers by descriptor, and one encode that is recorded and served by RTSP.
 * One thread, one epoll, no timer.
 *
 *     camnode [OPTION...] SOCKET RTSP-ADDRESS FILE
 *     camnode --size 1920x1080 /run/camera/socket 0.0.0.0:8554 /data/camera.mkv
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <framelease.h>

static const char usage[] =
    "usage: camnode [OPTION...] SOCKET RTSP-ADDRESS FILE\n"
    "  --camera PATH    the camera (default: the first one)\n"
    "  --encoder PATH   the encoder (default: the first one)\n"
    "  --pattern        the test pattern instead of a camera\n"
    "  --size WxH       the size of the picture (default: 1280x720)\n"
    "  --fps N          frames a second (default: 30)\n"
    "  --frames N       end after N frames\n";

/* The arguments. */
static struct {
    const char *camera, *encoder, *paths[3];
    bool is_pattern;
    unsigned width, height, fps;
    uint64_t frames;
} wanted = {NULL, NULL, {"/run/camera/socket", "0.0.0.0:8554", "/data/camera.mkv"}, false, 1280, 720, 30, 0};

static fl_station *source, *encoder, *publisher, *server, *recorder;
static uint32_t live;
static uint64_t frames;

static int fail(fl_station *station, const char *what) {
    fprintf(stderr, "camnode: %s: %s\n", what, fl_message(station));
    return -1;
}

/* A sink that fails (a full disk, for example) does not stop the others. */
static void complain(fl_status status, fl_station *station, const char *what) {
    if (status < 0) {
        fail(station, what);
    }
}

static void announce(void) {
    fl_buffers *buffers = NULL;
    if (fl_station_buffers(source, &buffers) < 0) {
        fail(source, "buffers");
    } else {
        complain(fl_publisher_announce(publisher, buffers), publisher, "announce");
    }
    fl_buffers_close(&buffers);
}

/* 1: go on, 0: the stream has ended, -1: an error that ends the program. */
static int take_frames(void) {
    fl_event event = FL_INIT(fl_event);
    for (;;) {
        fl_status status = fl_station_recv(source, 0, &event);
        if (status != FL_OK) {
            return status == FL_NOTHING ? 1 : status == FL_ENDED ? 0 : fail(source, "camera");
        }
        if (event.kind == FL_EVENT_FRAME) {
            frames++;
            complain(fl_station_submit(publisher, event.frame, 0), publisher, "publish");
            complain(fl_station_submit(encoder, event.frame, 0), encoder, "encode"); /* dropped while it is full */
        } else {
            fprintf(stderr, "camnode: camera: event %" PRIu32 " %s\n", event.kind, event.text);
            if (event.kind == FL_EVENT_FORMAT) {
                announce();
            }
        }
        fl_event_clear(&event);
    }
}

static int take_packets(void) {
    fl_event event = FL_INIT(fl_event);
    for (;;) {
        fl_status status = fl_station_recv(encoder, 0, &event);
        if (status != FL_OK) {
            return status == FL_NOTHING ? 1 : status == FL_ENDED ? 0 : fail(encoder, "encoder");
        }
        if (event.kind == FL_EVENT_PACKET) {
            complain(fl_rtsp_submit(server, live, event.packet), server, "RTSP");
            complain(fl_station_submit_packet(recorder, event.packet, 0), recorder, "record");
        } else {
            fprintf(stderr, "camnode: encoder: event %" PRIu32 " %s\n", event.kind, event.text);
        }
        fl_event_clear(&event);
    }
}

/* Events that are only reported. */
static void report(fl_station *station, const char *name) {
    fl_event event = FL_INIT(fl_event);
    fl_status status;
    while ((status = fl_station_recv(station, 0, &event)) == FL_OK) {
        fprintf(stderr, "camnode: %s: event %" PRIu32 " %s\n", name, event.kind, event.text);
        fl_event_clear(&event);
    }
    complain(status, station, name);
}

static int open_all(void) {
    fl_setting settings[] = {FL_INIT(fl_setting), FL_INIT(fl_setting)};
    settings[0].id = FL_SETTING_BITRATE_BPS;
    settings[0].value = 4000000;
    settings[1].id = FL_SETTING_REPEAT_HEADERS;
    settings[1].value = 1;
    fl_encoder_options coded = FL_INIT(fl_encoder_options);
    coded.codec = FL_CODEC_H264;
    coded.path = wanted.encoder;
    coded.width = wanted.width;
    coded.height = wanted.height;
    coded.interval.numerator = 1;
    coded.interval.denominator = wanted.fps;
    coded.settings = settings;
    coded.setting_count = sizeof settings / sizeof *settings;
    fl_camera_options camera = FL_INIT(fl_camera_options);
    camera.path = wanted.camera;
    camera.interval = coded.interval;
    camera.flags = FL_CAMERA_REOPEN;
    fl_pattern_options pattern = FL_INIT(fl_pattern_options);
    pattern.width = wanted.width;
    pattern.height = wanted.height;

    fl_publisher_options shared = FL_INIT(fl_publisher_options);
    shared.path = wanted.paths[0];
    uint32_t subscriber_buffers = 3 * 2; /* three subscribers, each with a frame that it holds and one that waits */
    if (fl_negotiate(&camera, wanted.is_pattern ? &pattern : NULL, &coded, subscriber_buffers, &source, &encoder,
                     &shared.reserve) < 0) {
        return fail(NULL, "camera and encoder");
    }
    if (fl_publisher_open(&shared, &publisher) < 0) {
        return fail(NULL, "publisher");
    }
    announce();

    fl_rtsp_options served = FL_INIT(fl_rtsp_options);
    served.address = wanted.paths[1];
    if (fl_rtsp_open(&served, &server) < 0 || fl_rtsp_mount(server, "/live", FL_CODEC_H264, NULL, NULL, &live) < 0) {
        return fail(NULL, "RTSP server");
    }
    fl_recorder_options recorded = FL_INIT(fl_recorder_options);
    recorded.path = wanted.paths[2];
    return fl_recorder_open(&recorded, &recorder) < 0 ? fail(NULL, "recorder") : 0;
}

static int watch(int epoll, int fd) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int loop(void) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    int signals = signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    fl_station *stations[] = {source, encoder, publisher, server, recorder};
    int result = epoll < 0 || signals < 0 || watch(epoll, signals) < 0 ? -1 : 1;
    for (size_t i = 0; i < sizeof stations / sizeof *stations && result > 0; i++) {
        result = watch(epoll, fl_station_fd(stations[i])) < 0 ? -1 : 1;
    }
    if (result < 0) {
        perror("camnode: epoll");
    }
    while (result > 0 && (wanted.frames == 0 || frames < wanted.frames)) {
        struct epoll_event ready[8];
        if (epoll_wait(epoll, ready, 8, -1) < 0 && errno != EINTR) {
            perror("camnode: epoll_wait");
            result = -1;
            break;
        }
        struct signalfd_siginfo signal_info;
        if (read(signals, &signal_info, sizeof signal_info) > 0) {
            break;
        }
        report(publisher, "publisher");
        result = take_frames();
        if (result > 0) {
            result = take_packets();
        }
        report(server, "RTSP");
        report(recorder, "recorder");
        if (fl_rtsp_awaits_key(server, live) || fl_station_awaits_key(recorder)) {
            complain(fl_encoder_force_key(encoder), encoder, "key frame");
        }
    }
    if (epoll >= 0) {
        close(epoll);
    }
    if (signals >= 0) {
        close(signals);
    }
    return result;
}

/* Takes the packets of the frames that the encoder still has. */
static void drain(void) {
    if (fl_encoder_drain(encoder) < 0) {
        return; /* no frame was encoded */
    }
    fl_event event = FL_INIT(fl_event);
    while (fl_station_recv(encoder, 5000, &event) == FL_OK) {
        if (event.kind == FL_EVENT_PACKET) {
            complain(fl_station_submit_packet(recorder, event.packet, 0), recorder, "record");
        }
        fl_event_clear(&event);
    }
}

/* The counts of a station, in one line. */
static void print_counts(fl_station *station, const char *name) {
    fl_stat stats[32];
    size_t count = 0;
    if (fl_station_stats(station, stats, 32, &count) == FL_OK) {
        printf("%s:", name);
        for (size_t i = 0; i < count && i < 32; i++) {
            printf(" %s %" PRIu64, stats[i].name, stats[i].value);
        }
        putchar('\n');
    }
}

/* Returns 0, or the status with which the program ends. */
static int parse(int argc, char **argv) {
    int paths = 0;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(option, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        } else if (strcmp(option, "--pattern") == 0) {
            wanted.is_pattern = true;
        } else if (option[0] != '-' && paths < 3) {
            wanted.paths[paths++] = option;
        } else if (value && strcmp(option, "--camera") == 0) {
            wanted.camera = argv[++i];
        } else if (value && strcmp(option, "--encoder") == 0) {
            wanted.encoder = argv[++i];
        } else if (value && strcmp(option, "--size") == 0 &&
                   sscanf(value, "%ux%u", &wanted.width, &wanted.height) == 2) {
            i++;
        } else if (value && strcmp(option, "--fps") == 0 && sscanf(value, "%u", &wanted.fps) == 1) {
            i++;
        } else if (value && strcmp(option, "--frames") == 0 && sscanf(value, "%" SCNu64, &wanted.frames) == 1) {
            i++;
        } else {
            fputs(usage, stderr);
            return 2;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    int result = parse(argc, argv);
    if (result != 0) {
        return result;
    }
    result = open_all();
    if (result == 0) {
        result = loop();
        drain();
        print_counts(source, "source");
        print_counts(publisher, "publisher");
        print_counts(encoder, "encoder");
        print_counts(recorder, "recorder");
    }
    fl_station_close(&recorder); /* finishes the file */
    fl_station_close(&server);
    fl_station_close(&publisher); /* tells the subscribers, and removes the socket */
    fl_station_close(&encoder);
    fl_station_close(&source);
    return result < 0 ? 1 : 0;
}
