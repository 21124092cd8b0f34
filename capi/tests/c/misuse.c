/* The mistakes of a C program: each is a status and a message, never a crash. Run plain, with the address sanitizer
 * and in valgrind. The argument is a folder for files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <framelease.h>

static int wrong;

#define EXPECT(expected, call) \
    do { \
        int got_ = (int)(call); \
        if (got_ != (int)(expected)) { \
            printf("line %d: %s is %d, not " #expected ": %s\n", __LINE__, #call, got_, fl_message(NULL)); \
            wrong++; \
        } \
    } while (0)

#define EXPECT_TEXT(part, station) \
    do { \
        if (!strstr(fl_message(station), part)) { \
            printf("line %d: \"%s\" is not in: %s\n", __LINE__, part, fl_message(station)); \
            wrong++; \
        } \
    } while (0)

static fl_station *pattern(void) {
    fl_pattern_options options = FL_INIT(fl_pattern_options);
    options.width = 64;
    options.height = 48;
    options.buffers = 4;
    options.interval.numerator = 1;
    options.interval.denominator = 200;
    fl_station *station = NULL;
    EXPECT(FL_OK, fl_pattern_open(&options, &station));
    return station;
}

static fl_frame *next(fl_station *station) {
    fl_event event = FL_INIT(fl_event);
    EXPECT(FL_OK, fl_station_recv(station, 5000, &event));
    return event.frame;
}

static void sizes(void) {
    fl_station *station = NULL;
    fl_pattern_options options = FL_INIT(fl_pattern_options);
    options.width = 64;
    options.height = 48;
    options.size = 0;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));
    EXPECT_TEXT("FL_INIT", NULL);
    options.size = (size_t)-1;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));

    /* A program of an earlier version, whose structure ended before the buffers. */
    options.size = offsetof(fl_pattern_options, buffers);
    options.buffers = 99999;
    EXPECT(FL_OK, fl_pattern_open(&options, &station));
    fl_station_close(&station);

    /* A program of a later version, with fields that this library does not know. */
    struct {
        fl_pattern_options known;
        uint64_t later[4];
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.known.size = sizeof longer;
    longer.known.width = 64;
    longer.known.height = 48;
    EXPECT(FL_OK, fl_pattern_open(&longer.known, &station));
    fl_station_close(&station);
    longer.later[3] = 1;
    EXPECT(FL_ERROR_UNSUPPORTED, fl_pattern_open(&longer.known, &station));
    EXPECT(0, station != NULL);

    /* The bytes after an event are not touched. */
    station = pattern();
    struct {
        fl_event event;
        uint8_t after[16];
    } guarded;
    memset(&guarded, 0x5a, sizeof guarded);
    guarded.event.size = sizeof guarded.event;
    EXPECT(FL_OK, fl_station_recv(station, 5000, &guarded.event));
    for (size_t i = 0; i < sizeof guarded.after; i++) {
        EXPECT(0x5a, guarded.after[i]);
    }
    fl_event_clear(&guarded.event);
    /* An event without room for a handle would lose it. */
    guarded.event.size = offsetof(fl_event, buffer);
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_station_recv(station, 5000, &guarded.event));
    EXPECT_TEXT("FL_INIT", station);
    fl_station_close(&station);

    /* A bool that is neither 0 nor 1, as uninitialized memory has: true. */
    fl_tensor_options shape = FL_INIT(fl_tensor_options);
    shape.width = 1;
    shape.height = 2;
    shape.element = FL_ELEMENT_U8;
    fl_layout layout = FL_INIT(fl_layout);
    EXPECT(FL_OK, fl_layout_make(FL_FOURCC('R', 'G', 'B', '3'), 1, 2, 0, &layout));
    fl_pool *pool = NULL;
    fl_buffer *buffer = NULL;
    fl_frame *frame = NULL;
    const uint8_t colors[6] = {1, 2, 3, 4, 5, 6};
    EXPECT(FL_OK, fl_pool_create("memfd", &layout, 1, &pool));
    EXPECT(FL_OK, fl_pool_acquire(pool, 0, &buffer));
    EXPECT(FL_OK, fl_buffer_write_rows(buffer, 0, 0, 2, colors, 3, 3));
    EXPECT(FL_OK, fl_buffer_freeze(&buffer, 1, 1, &frame));
    for (unsigned char byte = 0; byte < 3; byte++) {
        fl_tensor *tensor = NULL;
        uint8_t numbers[6] = {0};
        memcpy(&shape.is_hwc, &byte, 1);
        EXPECT(FL_OK, fl_tensor_create(&shape, &tensor));
        EXPECT(FL_OK, fl_tensor_write(tensor, frame, numbers, sizeof numbers, NULL));
        EXPECT(byte ? 2 : 4, numbers[1]);
        fl_tensor_close(&tensor);
    }
    fl_frame_unref(&frame);
    fl_pool_close(&pool);
}

static void numbers(void) {
    fl_station *station = NULL;
    fl_pattern_options options = FL_INIT(fl_pattern_options);
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));
    options.width = 64;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));
    options.height = 48;
    options.interval.numerator = 1;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));
    options.interval.numerator = 0;
    options.fourcc = FL_FOURCC('n', 'o', 'n', 'e');
    EXPECT(FL_ERROR_UNSUPPORTED, fl_pattern_open(&options, &station));
    options.fourcc = 0;
    options.allocator = "nothing";
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));
    EXPECT_TEXT("udmabuf", NULL);
    options.allocator = "/dev/null/heap";
    EXPECT(1, fl_pattern_open(&options, &station) < 0);
    options.allocator = "\xff\xfe";
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pattern_open(&options, &station));

    fl_camera_options camera = FL_INIT(fl_camera_options);
    camera.serial = "no camera has this serial number";
    camera.bus = "no bus";
    EXPECT(FL_ERROR_NOT_FOUND, fl_camera_open(&camera, &station));
    camera.serial = "\xff";
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_camera_open(&camera, &station));
    EXPECT_TEXT("serial", NULL);

    fl_encoder_options coded = FL_INIT(fl_encoder_options);
    fl_station *source = pattern();
    fl_buffers *buffers = NULL;
    EXPECT(FL_OK, fl_station_buffers(source, &buffers));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_open(&coded, buffers, &station));
    EXPECT_TEXT("fl_codec", NULL);
    fl_setting settings[] = {FL_INIT(fl_setting), FL_INIT(fl_setting)};
    settings[0].id = 9999;
    coded.codec = FL_CODEC_H264;
    coded.settings = settings;
    coded.setting_count = 1;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_open(&coded, buffers, &station));
    EXPECT_TEXT("fl_setting_id", NULL);
    settings[0].id = FL_SETTING_GOP;
    settings[0].value = -1;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_open(&coded, buffers, &station));
    settings[0].value = 30;
    settings[1].size = 0;
    coded.setting_count = 2;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_open(&coded, buffers, &station));
    EXPECT_TEXT("setting 1", NULL);
    coded.settings = NULL;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_open(&coded, buffers, &station));
    coded.setting_count = SIZE_MAX;
    coded.settings = settings;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_open(&coded, buffers, &station));
    EXPECT(0, station != NULL);
    fl_buffers_close(&buffers);
    fl_station_close(&source);
    /* One pointer has room for one handle. */
    fl_pattern_options bars = FL_INIT(fl_pattern_options);
    coded.width = bars.width = 64;
    coded.height = bars.height = 48;
    coded.setting_count = 0;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_negotiate(NULL, &bars, &coded, 0, &station, &station, NULL));
    EXPECT_TEXT("same pointer", NULL);

    fl_layout layout = FL_INIT(fl_layout);
    EXPECT(FL_OK, fl_layout_make(FL_FOURCC('N', 'V', '1', '2'), 64, 48, 64, &layout));
    EXPECT(2, layout.plane_count);
    EXPECT(64, layout.planes[0].stride_bytes);
    fl_pool *pool = NULL;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_create("memfd", &layout, 0, &pool));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_create("memfd", &layout, 65, &pool));
    layout.planes[1].offset_bytes = UINT32_MAX;
    EXPECT(FL_ERROR_MISMATCH, fl_pool_create("memfd", &layout, 1, &pool));
    layout.plane_count = 5;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_create("memfd", &layout, 1, &pool));
    EXPECT(0, pool != NULL);

    /* Two pictures side by side. A layer without its size is refused. */
    fl_layout grey = FL_INIT(fl_layout);
    EXPECT(FL_OK, fl_layout_make(FL_FOURCC('G', 'R', 'E', 'Y'), 8, 8, 0, &grey));
    fl_layout sources[2];
    fl_layer layers[2];
    for (int i = 0; i < 2; i++) {
        sources[i] = grey;
        layers[i] = FL_INIT(fl_layer);
        layers[i].place.left = 8 * i;
        layers[i].place.width = 8;
        layers[i].place.height = 8;
    }
    fl_converter_options compose = FL_INIT(fl_converter_options);
    compose.backend = FL_BACKEND_CPU;
    compose.fourcc = grey.fourcc;
    compose.width = 16;
    compose.height = 8;
    compose.sources = sources;
    compose.layers = layers;
    compose.source_count = 2;
    EXPECT(FL_OK, fl_converter_open(&compose, &station));
    fl_layout target = FL_INIT(fl_layout);
    EXPECT(FL_OK, fl_converter_get_target(station, &target));
    fl_buffer *buffer = NULL;
    fl_frame *frames[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        EXPECT(FL_OK, fl_pool_create("memfd", &grey, 1, &pool));
        EXPECT(FL_OK, fl_pool_acquire(pool, 0, &buffer));
        EXPECT(FL_OK, fl_buffer_freeze(&buffer, 1, 1, &frames[i]));
        fl_pool_close(&pool);
    }
    EXPECT(FL_OK, fl_pool_create("memfd", &target, 1, &pool));
    EXPECT(FL_OK, fl_pool_acquire(pool, 0, &buffer));
    EXPECT(1, fl_converter_submit(station, frames, 1, &buffer) < 0);
    EXPECT(1, buffer != NULL);
    EXPECT(FL_OK, fl_converter_submit(station, frames, 2, &buffer));
    EXPECT(0, buffer != NULL);
    fl_frame_unref(&frames[0]);
    fl_frame_unref(&frames[1]);
    fl_pool_close(&pool);
    fl_station_close(&station);
    layers[1].size = 0;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_converter_open(&compose, &station));
    EXPECT_TEXT("layer 1", NULL);
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_jpeg_decoder_open(NULL, 0, &station));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_jpeg_decoder_open(NULL, 65, &station));
}

/* Numbers beyond a limit are refused, not changed. */
#define REFUSED(type, options, field, value, open) \
    do { \
        type kept_ = options; \
        options.field = value; \
        EXPECT(FL_ERROR_INVALID_ARGUMENT, open); \
        EXPECT_TEXT(#field " is " #value ": ", NULL); \
        options = kept_; \
    } while (0)

static void limits(const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/limits", folder);
    fl_station *station = NULL;
    fl_rtp_options rtp = FL_INIT(fl_rtp_options);
    rtp.set_dscp = true;
    REFUSED(fl_rtp_options, rtp, mtu, 127, fl_rtp_open(FL_CODEC_H264, &rtp, &station));
    REFUSED(fl_rtp_options, rtp, mtu, 9001, fl_rtp_open(FL_CODEC_H264, &rtp, &station));
    REFUSED(fl_rtp_options, rtp, spread_percent, 101, fl_rtp_open(FL_CODEC_H264, &rtp, &station));
    REFUSED(fl_rtp_options, rtp, ttl, 256, fl_rtp_open(FL_CODEC_H264, &rtp, &station));
    REFUSED(fl_rtp_options, rtp, dscp, 64, fl_rtp_open(FL_CODEC_H264, &rtp, &station));
    rtp.mtu = 9000;
    rtp.spread_percent = 100;
    rtp.ttl = 255;
    rtp.dscp = 63;
    EXPECT(FL_OK, fl_rtp_open(FL_CODEC_H264, &rtp, &station));
    fl_station_close(&station);

    fl_publisher_options shared_by = FL_INIT(fl_publisher_options);
    shared_by.path = path;
    shared_by.lease_revoke_ms = 100;
    REFUSED(fl_publisher_options, shared_by, max_subscribers, 65, fl_publisher_open(&shared_by, &station));
    REFUSED(fl_publisher_options, shared_by, lease_end_ms, 99, fl_publisher_open(&shared_by, &station));
    shared_by.max_subscribers = 64;
    shared_by.lease_end_ms = 100;
    EXPECT(FL_OK, fl_publisher_open(&shared_by, &station));
    fl_station_close(&station);

    fl_user users[] = {FL_INIT(fl_user), FL_INIT(fl_user)};
    users[0].name = users[1].name = "viewer";
    users[0].password = users[1].password = "secret";
    fl_rtsp_options server = FL_INIT(fl_rtsp_options);
    server.address = "127.0.0.1:0";
    server.users = users;
    server.user_count = 2;
    REFUSED(fl_rtsp_options, server, session_ms, 999, fl_rtsp_open(&server, &station));
    EXPECT(FL_OK, fl_rtsp_open(&server, &station));
    fl_station_close(&station);
    users[1].size = 0;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_rtsp_open(&server, &station));
    EXPECT_TEXT("user 1", NULL);
    EXPECT(0, station != NULL);
}

/* Each kind of station is given the calls of the others. */
static void kinds(const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/kinds", folder);
    fl_station *source = pattern(), *publisher = NULL, *sender = NULL;
    fl_publisher_options options = FL_INIT(fl_publisher_options);
    options.path = path;
    EXPECT(FL_OK, fl_publisher_open(&options, &publisher));
    EXPECT(FL_OK, fl_rtp_open(FL_CODEC_H264, NULL, &sender));
    fl_frame *frame = next(source);

    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_encoder_force_key(source));
    EXPECT_TEXT("needs an encoder", source);
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_publisher_pause(source, 0));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_rtsp_unmount(sender, 1));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_recorder_finish(publisher));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_decoder_flush(publisher));
    EXPECT(FL_ERROR_UNSUPPORTED, fl_station_submit(source, frame, 0));
    EXPECT(FL_ERROR_UNSUPPORTED, fl_station_submit(sender, frame, 0));
    EXPECT(FL_ERROR_UNSUPPORTED, fl_station_reopen(publisher));
    fl_buffers *buffers = NULL;
    EXPECT(FL_ERROR_UNSUPPORTED, fl_station_buffers(publisher, &buffers));
    /* Numbers that no call gave. */
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_rtp_remove(sender, 0));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_rtp_remove(sender, 7));
    uint32_t destination = 0;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_rtp_add(sender, "nowhere", &destination));
    EXPECT(FL_OK, fl_rtp_add(sender, "127.0.0.1:5004", &destination));
    EXPECT(FL_OK, fl_rtp_remove(sender, destination));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_rtp_remove(sender, destination));
    /* The message of a station is that of its own last error. */
    EXPECT_TEXT("a camera or a test pattern does not take frames", source);

    fl_error error = FL_INIT(fl_error);
    EXPECT(FL_OK, fl_error_get(sender, &error));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, error.status);
    EXPECT(0, strcmp(error.message, fl_message(sender)));

    fl_frame_unref(&frame);
    fl_station_close(&sender);
    fl_station_close(&publisher);
    fl_station_close(&source);
    fl_station_close(&source); /* twice */
}

/* Frames and buffers outlive what gave them. */
static void lives(void) {
    fl_station *source = pattern();
    fl_frame *frame = next(source), *same = fl_frame_ref(frame);
    fl_mapping *mapping = NULL;
    EXPECT(FL_OK, fl_frame_map(frame, 1000, &mapping));
    fl_station_close(&source);
    fl_frame_unref(&frame);
    fl_frame_unref(&frame);
    fl_pixels pixels;
    EXPECT(FL_OK, fl_mapping_plane(mapping, 0, &pixels));
    unsigned sum = 0;
    for (size_t i = 0; i < pixels.bytes; i++) {
        sum += pixels.data[i];
    }
    EXPECT(1, sum > 0);
    EXPECT(1, fl_mapping_plane(mapping, 9, &pixels) < 0);
    EXPECT(0, pixels.data != NULL);
    uint8_t row[64];
    EXPECT(FL_OK, fl_mapping_copy_row(mapping, 0, 0, row, sizeof row));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_mapping_copy_row(mapping, 0, 0, row, 7));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_mapping_copy_row(mapping, 0, 48, row, sizeof row));
    fl_mapping_close(&mapping);
    fl_mapping_close(&mapping);
    fl_frame_info info = FL_INIT(fl_frame_info);
    EXPECT(FL_OK, fl_frame_get_info(same, &info));
    EXPECT(1, info.memory[0].fd >= 0);
    EXPECT(1, fl_frame_is_valid(same));
    fl_frame_unref(&same);

    /* A pool's buffer outlives the pool. */
    fl_layout layout = FL_INIT(fl_layout);
    fl_pool *pool = NULL;
    fl_buffer *buffer = NULL, *none = NULL;
    EXPECT(FL_OK, fl_layout_make(FL_FOURCC('G', 'R', 'E', 'Y'), 8, 8, 0, &layout));
    EXPECT(FL_OK, fl_pool_create("memfd", &layout, 1, &pool));
    EXPECT(FL_OK, fl_pool_acquire(pool, 0, &buffer));
    EXPECT(FL_NOTHING, fl_pool_acquire(pool, 1, &none));
    fl_pool_close(&pool);
    memset(&info, 0x5a, sizeof info);
    info.size = sizeof info;
    EXPECT(FL_OK, fl_buffer_get_info(buffer, &info));
    EXPECT(1, info.memory_count);
    EXPECT(0, info.sequence);
    EXPECT(64, info.memory[0].bytes);
    EXPECT(1, info.memory[0].size_bytes >= 64);
    struct stat status;
    EXPECT(0, fstat(info.memory[0].fd, &status));
    EXPECT(info.memory[0].size_bytes, status.st_size);
    EXPECT(-1, info.memory[1].fd);
    memset(row, 7, sizeof row);
    EXPECT(FL_OK, fl_buffer_write_rows(buffer, 0, 0, 8, row, 8, 8));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_write_rows(buffer, 0, 1, 8, row, 8, 8));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_write_rows(buffer, 0, UINT32_MAX, 8, row, 8, 8));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_write_rows(buffer, 0, 0, 2, row, 4, 8));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_write_rows(buffer, 0, 0, UINT32_MAX, row, SIZE_MAX, 8));
    EXPECT(FL_OK, fl_buffer_freeze(&buffer, 1, 2, &frame));
    EXPECT(0, buffer != NULL);
    fl_frame *second = NULL;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_freeze(&buffer, 1, 2, &second));
    EXPECT(FL_OK, fl_frame_map(frame, 1000, &mapping));
    EXPECT(FL_OK, fl_mapping_copy_row(mapping, 0, 7, row, 8));
    EXPECT(7, row[0]);
    fl_mapping_close(&mapping);
    fl_frame_unref(&frame);
}

/* Buffers that were allocated elsewhere, and a frame with facts of the program's. */
static void foreign(void) {
    fl_layout layout = FL_INIT(fl_layout);
    EXPECT(FL_OK, fl_layout_make(FL_FOURCC('G', 'R', 'E', 'Y'), 8, 8, 0, &layout));
    fl_pool *pool = NULL;
    int fds[2], second, file = open("/dev/null", O_RDWR);
    for (int i = 0; i < 2; i++) {
        fds[i] = memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        EXPECT(0, ftruncate(fds[i], 4096));
    }
    EXPECT(FL_ERROR_WRONG_FILE, fl_pool_from_fds(&layout, fds, 2, &pool)); /* could shrink */
    EXPECT(0, fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK));
    EXPECT(0, fcntl(fds[1], F_ADD_SEALS, F_SEAL_SHRINK));
    second = fds[1];
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_from_fds(&layout, fds, 0, &pool));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_from_fds(&layout, fds, 65, &pool));
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_from_fds(&layout, NULL, 2, &pool));
    fds[1] = file;
    EXPECT(FL_ERROR_WRONG_FILE, fl_pool_from_fds(&layout, fds, 2, &pool));
    close(file);
    fds[1] = -1;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_pool_from_fds(&layout, fds, 2, &pool));
    fds[1] = second;
    struct rlimit limit, none_left;
    EXPECT(0, getrlimit(RLIMIT_NOFILE, &limit));
    none_left = limit;
    none_left.rlim_cur = (rlim_t)file + 1; /* the lower ones are open */
    EXPECT(0, setrlimit(RLIMIT_NOFILE, &none_left));
    EXPECT(FL_ERROR_EXHAUSTED, fl_pool_from_fds(&layout, fds, 2, &pool));
    EXPECT(0, setrlimit(RLIMIT_NOFILE, &limit));
    layout.memory_count = 0;
    EXPECT(FL_ERROR_MISMATCH, fl_pool_from_fds(&layout, fds, 2, &pool));
    layout.memory_count = 1;
    layout.memory_bytes[0] = 1 << 30;
    EXPECT(FL_ERROR_MISMATCH, fl_pool_from_fds(&layout, fds, 2, &pool));
    layout.memory_bytes[0] = 64;
    EXPECT(0, pool != NULL);
    EXPECT(FL_OK, fl_pool_from_fds(&layout, fds, 2, &pool));
    EXPECT(0, close(fds[0])); /* still the program's */
    EXPECT(0, close(fds[1]));
    fl_buffers *buffers = NULL;
    fl_memory memory[3];
    EXPECT(FL_OK, fl_pool_buffers(pool, &buffers));
    EXPECT(FL_OK, fl_buffers_get_memory(buffers, 0, 0, &memory[0]));
    EXPECT(FL_OK, fl_buffers_get_memory(buffers, 1, 0, &memory[1]));
    EXPECT(1, memory[0].fd >= 0 && memory[1].fd >= 0 && memory[0].fd != memory[1].fd);
    EXPECT(64, memory[1].bytes);
    EXPECT(4096, memory[1].size_bytes);
    EXPECT(FL_ENDED, fl_buffers_get_memory(buffers, 2, 0, &memory[2]));
    EXPECT(FL_ENDED, fl_buffers_get_memory(buffers, 0, 1, &memory[2]));
    EXPECT(-1, memory[2].fd);
    fl_buffers_close(&buffers);

    fl_buffer *buffer = NULL;
    fl_frame *frame = NULL;
    fl_frame_info info = FL_INIT(fl_frame_info), got = FL_INIT(fl_frame_info);
    uint8_t row[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    EXPECT(FL_OK, fl_pool_acquire(pool, 0, &buffer));
    EXPECT(FL_OK, fl_buffer_write_rows(buffer, 0, 0, 1, row, 8, 8));
    EXPECT(FL_OK, fl_buffer_get_info(buffer, &info));
    info.sequence = 7;
    info.timestamp_ns = 9;
    info.lost = 2;
    info.flags = 1u << 31;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_freeze_with(&buffer, &info, &frame));
    info.flags = FL_FRAME_INTERLACED | FL_FRAME_DAMAGED;
    info.memory[0].offset_bytes = UINT32_MAX;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_freeze_with(&buffer, &info, &frame));
    EXPECT_TEXT("memory 0", NULL);
    EXPECT(1, buffer != NULL && frame == NULL);
    info.memory[0].offset_bytes = 0;
    info.memory[0].bytes = 63;
    EXPECT(FL_OK, fl_buffer_freeze_with(&buffer, &info, &frame));
    EXPECT(0, buffer != NULL);
    fl_frame *none = NULL;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_buffer_freeze_with(&buffer, &info, &none));
    EXPECT(FL_OK, fl_frame_get_info(frame, &got));
    EXPECT(7, got.sequence);
    EXPECT(9, got.timestamp_ns);
    EXPECT(2, got.lost);
    EXPECT(63, got.memory[0].bytes);
    EXPECT(FL_FRAME_INTERLACED | FL_FRAME_DAMAGED, got.flags);
    fl_frame_unref(&frame);
    fl_pool_close(&pool);
}

/* A disk that is full, and a folder that does not exist. */
static void disks(const char *folder) {
    fl_station *recorder = NULL;
    fl_recorder_options options = FL_INIT(fl_recorder_options);
    options.path = "/nonexistent/folder/file.mkv";
    options.container = 99;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_recorder_open(&options, &recorder));
    options.container = FL_CONTAINER_BY_NAME;
    fl_status opened = fl_recorder_open(&options, &recorder);
    static const uint8_t key[] = {0, 0, 0, 1, 0x67, 66, 0xc0, 30, 0xda, 5, 7, 0xe8, 0x40, 0, 0, 0, 1, 0x68, 0xce, 6,
                                  0xe2, 0, 0, 0, 1, 0x65, 0x88, 0x84, 0x21, 0xa0};
    fl_packet_info info = FL_INIT(fl_packet_info);
    info.data = key;
    info.bytes = sizeof key;
    info.codec = FL_CODEC_H264;
    info.width = 320;
    info.height = 240;
    info.flags = FL_FRAME_KEY | FL_FRAME_MONOTONIC;
    fl_packet *packet = NULL;
    EXPECT(FL_OK, fl_packet_create(&info, &packet));
    if (opened == FL_OK) {
        EXPECT(1, fl_station_submit_packet(recorder, packet, 0) < 0);
        EXPECT_TEXT("/nonexistent", recorder);
    } else {
        EXPECT_TEXT("/nonexistent", NULL);
    }
    fl_station_close(&recorder);

    /* A pipe whose reader is gone: no SIGPIPE. */
    char path[4096];
    snprintf(path, sizeof path, "%s/pipe", folder);
    remove(path);
    EXPECT(0, mkfifo(path, 0600));
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    options.path = path;
    options.container = FL_CONTAINER_MATROSKA;
    EXPECT(FL_OK, fl_recorder_open(&options, &recorder));
    EXPECT(FL_OK, fl_station_submit_packet(recorder, packet, 0));
    close(reader);
    EXPECT(FL_ERROR_DISCONNECTED, fl_station_submit_packet(recorder, packet, 0));
    fl_station_close(&recorder);

    /* A file's event has its size and its duration. */
    snprintf(path, sizeof path, "%s/file.mkv", folder);
    options.path = path;
    EXPECT(FL_OK, fl_recorder_open(&options, &recorder));
    EXPECT(FL_OK, fl_station_submit_packet(recorder, packet, 0));
    fl_packet *later = NULL;
    info.timestamp_ns = 40000000;
    EXPECT(FL_OK, fl_packet_create(&info, &later));
    EXPECT(FL_OK, fl_station_submit_packet(recorder, later, 0));
    fl_packet_unref(&later);
    EXPECT(FL_OK, fl_recorder_finish(recorder));
    fl_event done = FL_INIT(fl_event);
    EXPECT(FL_OK, fl_station_recv(recorder, 0, &done));
    EXPECT(FL_EVENT_FILE, done.kind);
    struct stat file;
    EXPECT(0, stat(done.text, &file));
    EXPECT(file.st_size, done.bytes);
    EXPECT(1, done.duration_ms >= 40);
    remove(done.text);
    fl_event_clear(&done);
    EXPECT(0, done.bytes);
    fl_station_close(&recorder);

    options.path = "/dev/full";
    options.container = FL_CONTAINER_MATROSKA;
    EXPECT(FL_OK, fl_recorder_open(&options, &recorder));
    int failures = 0;
    for (int i = 0; i < 200; i++) {
        failures += fl_station_submit_packet(recorder, packet, 0) < 0;
    }
    fl_event event = FL_INIT(fl_event);
    fl_recorder_finish(recorder);
    while (fl_station_recv(recorder, 0, &event) == FL_OK) {
        failures += event.kind == FL_EVENT_FAILED && event.status == FL_ERROR_EXHAUSTED;
        fl_event_clear(&event);
    }
    EXPECT(1, failures > 0);
    fl_station_close(&recorder);
    info.bytes = 0;
    fl_packet *empty = NULL;
    fl_packet_create(&info, &empty);
    fl_packet_unref(&empty);
    fl_packet_unref(&packet);
}

static fl_station *shared;
static int busy;

static void *receives(void *unused) {
    fl_event event = FL_INIT(fl_event);
    (void)unused;
    fl_station_recv(shared, 500, &event);
    fl_event_clear(&event);
    return NULL;
}

/* Two threads in one station: one of them is refused. */
static void threads(void) {
    fl_station *hotplug = NULL;
    EXPECT(FL_OK, fl_hotplug_open(&hotplug)); /* waits: the device nodes do not change */
    shared = hotplug;
    pthread_t thread;
    pthread_create(&thread, NULL, receives, NULL);
    for (int i = 0; i < 1000 && !busy; i++) {
        poll(NULL, 0, 1);
        busy = fl_station_dispatch(hotplug) == FL_ERROR_BUSY;
    }
    EXPECT_TEXT("another thread", NULL);
    /* Not the station's error: the thread that uses the station may read that text now. */
    EXPECT_TEXT("no call has failed", hotplug);
    pthread_join(thread, NULL);
    EXPECT(1, busy);
    EXPECT(FL_OK, fl_station_dispatch(hotplug));
    fl_station_close(&hotplug);
}

static void ends(void *unused) {
    (void)unused;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_frame_get_info(NULL, NULL));
    EXPECT_TEXT("no call has failed", NULL);
}

static void *fails(void *key) {
    pthread_setspecific(*(pthread_key_t *)key, key);
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_frame_get_info(NULL, NULL));
    EXPECT_TEXT("frame is NULL", NULL);
    return NULL;
}

/* A call that fails in the destructor of a thread, after those of the library. */
static void destructors(void) {
    pthread_key_t key;
    pthread_t thread;
    pthread_key_create(&key, ends);
    pthread_create(&thread, NULL, fails, &key);
    pthread_join(thread, NULL);
    pthread_key_delete(key);
}

/* Serves a publisher until a subscriber has joined. */
static void *serves(void *unused) {
    (void)unused;
    fl_event event = FL_INIT(fl_event);
    for (int i = 0; i < 100 && event.kind != FL_EVENT_JOINED; i++) {
        fl_event_clear(&event);
        fl_station_recv(shared, 100, &event);
    }
    fl_event_clear(&event);
    return NULL;
}

/* A publisher that refuses, and one that is gone. */
static void peers(const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/peers", folder);
    fl_station *source = pattern(), *publisher = NULL, *subscriber = NULL, *second = NULL;
    fl_publisher_options options = FL_INIT(fl_publisher_options);
    options.path = path;
    options.reserve = 1;
    EXPECT(FL_OK, fl_publisher_open(&options, &publisher));
    EXPECT(FL_ERROR_BUSY, fl_publisher_open(&options, &second));
    fl_buffers *buffers = NULL;
    EXPECT(FL_OK, fl_station_buffers(source, &buffers));
    EXPECT(FL_OK, fl_publisher_announce(publisher, buffers));
    fl_buffers_close(&buffers);
    /* The publisher's process does not run meanwhile: the subscriber's wait ends. */
    fl_subscriber_options wanted = FL_INIT(fl_subscriber_options);
    wanted.path = path;
    wanted.every_nth = 2;
    wanted.milli_fps = 1000;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_subscriber_open(&wanted, 10, &subscriber));
    wanted.milli_fps = wanted.every_nth = 0;
    wanted.policy = 17;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_subscriber_open(&wanted, 10, &subscriber));
    wanted.policy = FL_POLICY_LATEST;
    EXPECT(FL_ERROR_TIMEOUT, fl_subscriber_open(&wanted, 10, &subscriber));
    /* A thread serves the publisher, which has no `fence_ms`. */
    wanted.fences = true;
    shared = publisher;
    pthread_t thread;
    pthread_create(&thread, NULL, serves, NULL);
    EXPECT(FL_ERROR_UNSUPPORTED, fl_subscriber_open(&wanted, 10000, &subscriber));
    EXPECT_TEXT("does not wait for fences", NULL);
    pthread_join(thread, NULL);
    fl_station_close(&publisher);
    EXPECT(FL_ERROR_NOT_FOUND, fl_subscriber_open(&wanted, 10, &subscriber));
    EXPECT(0, subscriber != NULL);
    fl_station_close(&source);
}

/* A socket that a service manager made. */
static void listener(const char *folder) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET, 0), back = open(".", O_RDONLY);
    EXPECT(0, chdir(folder)); /* the folder's name can be longer than an address */
    strcpy(address.sun_path, "listener");
    remove(address.sun_path);
    EXPECT(0, bind(socket_fd, (struct sockaddr *)&address, sizeof address));
    fl_publisher_options options = FL_INIT(fl_publisher_options);
    options.path = address.sun_path;
    options.has_listener = true;
    options.listener_fd = -1;
    fl_station *publisher = NULL, *subscriber = NULL;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_publisher_open(&options, &publisher));
    options.listener_fd = 0x7fffffff;
    EXPECT(FL_ERROR_INVALID_ARGUMENT, fl_publisher_open(&options, &publisher));
    EXPECT_TEXT("listener_fd", NULL);
    options.listener_fd = socket_fd;
    EXPECT(FL_ERROR_WRONG_FILE, fl_publisher_open(&options, &publisher)); /* does not listen */
    EXPECT(0, listen(socket_fd, 8));
    EXPECT(FL_OK, fl_publisher_open(&options, &publisher));
    EXPECT(0, close(socket_fd)); /* still the program's */
    fl_subscriber_options wanted = FL_INIT(fl_subscriber_options);
    wanted.path = options.path;
    EXPECT(FL_ERROR_TIMEOUT, fl_subscriber_open(&wanted, 10, &subscriber));
    fl_event event = FL_INIT(fl_event);
    EXPECT(FL_OK, fl_station_dispatch(publisher));
    while (fl_station_recv(publisher, 100, &event) == FL_OK) {
        EXPECT(0, event.kind == FL_EVENT_NONE);
        fl_event_clear(&event);
    }
    fl_station_close(&publisher);
    EXPECT(0, access(options.path, F_OK));
    EXPECT(0, fchdir(back));
    close(back);
}

/* The sessions of an RTSP server. */
static void clients(void) {
    fl_rtsp_options options = FL_INIT(fl_rtsp_options);
    options.address = "127.0.0.1:0";
    fl_station *server = NULL;
    uint32_t port = 0, mount = 0;
    EXPECT(FL_OK, fl_rtsp_open(&options, &server));
    EXPECT(FL_OK, fl_rtsp_mount(server, "/live", FL_CODEC_H264, NULL, NULL, &mount));
    EXPECT(FL_OK, fl_rtsp_get_port(server, &port));
    fl_rtsp_client info = FL_INIT(fl_rtsp_client);
    EXPECT(FL_ENDED, fl_rtsp_get_client(server, 0, &info));
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(0, connect(client, (struct sockaddr *)&address, sizeof address));
    socklen_t length = sizeof address;
    EXPECT(0, getsockname(client, (struct sockaddr *)&address, &length));
    static const char setup[] = "SETUP rtsp://127.0.0.1/live/video RTSP/1.0\r\nCSeq: 1\r\n"
                                "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
    EXPECT((int)sizeof setup - 1, send(client, setup, sizeof setup - 1, 0));
    fl_event event = FL_INIT(fl_event);
    for (int i = 0; i < 500 && fl_rtsp_get_client(server, 0, &info) == FL_ENDED; i++) {
        fl_station_recv(server, 10, &event);
        fl_event_clear(&event);
    }
    char expected[32];
    snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(address.sin_port));
    EXPECT(1, info.address != NULL && strcmp(info.address, expected) == 0);
    EXPECT(1, info.path != NULL && strcmp(info.path, "/live") == 0);
    EXPECT(FL_TRANSPORT_TCP, info.transport);
    EXPECT(false, info.is_playing);
    EXPECT(0, info.packets);
    EXPECT(FL_ENDED, fl_rtsp_get_client(server, 1, &info));
    close(client);
    for (int i = 0; i < 500 && fl_rtsp_get_client(server, 0, &info) == FL_OK; i++) {
        fl_station_recv(server, 10, &event);
        fl_event_clear(&event);
    }
    EXPECT(FL_ENDED, fl_rtsp_get_client(server, 0, &info));
    fl_station_close(&server);
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    EXPECT(0, strcmp(fl_message(NULL), "no call has failed"));
    sizes();
    numbers();
    limits(folder);
    kinds(folder);
    lives();
    foreign();
    listener(folder);
    clients();
    disks(folder);
    threads();
    destructors();
    peers(folder);
    if (wrong == 0) {
        puts("misuse: all as expected");
    }
    return wrong ? 1 : 0;
}
