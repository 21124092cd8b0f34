/* GStreamer's two ways between processes: shmsink/shmsrc ("shm") and unixfdsink/unixfdsrc ("unixfd").
 *
 * The source is a bare pad that pushes the same few buffers over and over, from this thread: no element, queue or
 * thread of a source is in the figure. For unixfd the buffers are memfds, which it passes on without a copy; for shm
 * they are plain memory, as good as a camera's buffers are to shmsink: it copies both. */
#define _GNU_SOURCE
#include "contender.h"

#include <gst/allocators/gstfdmemory.h>
#include <gst/gst.h>
#include <glib-unix.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *sink_of(const struct job *job)
{
    static char line[512];
    if (strcmp(job->transport, "shm") == 0)
        /* Room for what consumers may hold. */
        snprintf(line, sizeof line, "shmsink socket-path=%s shm-size=%zu wait-for-connection=false", job->socket,
                 job->bytes * job->pool);
    else if (strcmp(job->transport, "unixfd") == 0)
        snprintf(line, sizeof line, "unixfdsink socket-path=%s", job->socket);
    else
        snprintf(line, sizeof line, "fakesink");
    return line;
}

static GstElement *pipeline_of(const char *line)
{
    GError *error = NULL;
    GstElement *pipeline = gst_parse_launch(line, &error);
    if (!pipeline || error) {
        fprintf(stderr, "%s: %s\n", line, error ? error->message : "no pipeline");
        exit(1);
    }
    return pipeline;
}

static GstMemory *memory_of(const struct job *job, GstAllocator *allocator, uint8_t **pixels)
{
    if (!allocator) {
        *pixels = malloc(job->bytes);
        memset(*pixels, 16, job->bytes);
        return gst_memory_new_wrapped(0, *pixels, job->bytes, 0, job->bytes, NULL, NULL);
    }
    int fd = memfd_create("gst", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)job->bytes) < 0)
        die("memfd_create");
    *pixels = mmap(NULL, job->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(*pixels, 16, job->bytes);
    return gst_fd_allocator_alloc(allocator, fd, job->bytes, GST_FD_MEMORY_FLAG_NONE);
}

static void produce(const struct job *job)
{
    char line[600];
    snprintf(line, sizeof line, "%s name=sink sync=false async=false", sink_of(job));
    GstElement *pipeline = gst_pipeline_new(NULL), *sink = pipeline_of(line);
    gst_bin_add(GST_BIN(pipeline), sink);
    GstPad *into = gst_element_get_static_pad(sink, "sink"), *pad = gst_pad_new("src", GST_PAD_SRC);
    gst_pad_set_active(pad, TRUE);
    if (gst_pad_link(pad, into) != GST_PAD_LINK_OK ||
        gst_element_set_state(pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE ||
        gst_element_get_state(pipeline, NULL, NULL, 5 * GST_SECOND) == GST_STATE_CHANGE_FAILURE) {
        fprintf(stderr, "%s does not start\n", line);
        exit(1);
    }
    GstCaps *caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "NV12", "width", G_TYPE_INT,
                                        (int)job->width, "height", G_TYPE_INT, (int)job->height, "framerate",
                                        GST_TYPE_FRACTION, (int)job->fps, 1, NULL);
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_pad_push_event(pad, gst_event_new_stream_start("rival"));
    gst_pad_push_event(pad, gst_event_new_caps(caps));
    gst_pad_push_event(pad, gst_event_new_segment(&segment));

    bool shm = strcmp(job->transport, "shm") == 0;
    GstAllocator *allocator = strcmp(job->transport, "unixfd") == 0 ? gst_fd_allocator_new() : NULL;
    GstBuffer *buffers[MAX_POOL];
    uint8_t *pixels[MAX_POOL];
    /* A copied frame goes back at once. */
    unsigned count = allocator ? job->pool : 4;
    for (unsigned i = 0; i < count; i++) {
        buffers[i] = gst_buffer_new();
        gst_buffer_append_memory(buffers[i], memory_of(job, allocator, &pixels[i]));
    }
    uint64_t sequence = 0, interval = 1000000000u / job->fps, next = now_ns();
    say_ready();
    while (!is_over) {
        next += interval;
        struct timespec until = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)};
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
            continue;
        unsigned slot = 0;
        while (slot < count && GST_MINI_OBJECT_REFCOUNT_VALUE(buffers[slot]) > 1)
            slot++;
        uint64_t stamp[2] = {sequence++, now_ns()};
        if (slot == count)
            continue; /* all are held: the frame is lost */
        /* shm carries bytes and nothing else, unixfd carries a buffer's numbers. */
        if (shm)
            memcpy(pixels[slot], stamp, sizeof stamp);
        GST_BUFFER_OFFSET(buffers[slot]) = stamp[0];
        GST_BUFFER_OFFSET_END(buffers[slot]) = stamp[1];
        if (gst_pad_push(pad, gst_buffer_ref(buffers[slot])) != GST_FLOW_OK) {
            fprintf(stderr, "the sink takes no more\n");
            exit(1);
        }
    }
    _exit(0);
}

static GstPadProbeReturn take(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    (void)pad;
    const struct job *job = user;
    GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER(info);
    bool shm = strcmp(job->transport, "shm") == 0;
    GstMapInfo map;
    if (!shm)
        received(GST_BUFFER_OFFSET(buffer), GST_BUFFER_OFFSET_END(buffer));
    if ((shm || job->reads) && gst_buffer_map(buffer, &map, GST_MAP_READ)) {
        if (shm) {
            uint64_t stamp[2];
            memcpy(stamp, map.data, sizeof stamp);
            received(stamp[0], stamp[1]);
        }
        if (job->reads)
            add_up(map.data, map.size);
        gst_buffer_unmap(buffer, &map);
    }
    return GST_PAD_PROBE_OK;
}

static void consume(const struct job *job)
{
    char line[600];
    snprintf(line, sizeof line, "%ssrc socket-path=%s ! fakesink name=sink sync=false async=false", job->transport,
             job->socket);
    GstElement *pipeline = pipeline_of(line), *sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
    gst_pad_add_probe(gst_element_get_static_pad(sink, "sink"), GST_PAD_PROBE_TYPE_BUFFER, take, (gpointer)job, NULL);
    if (gst_element_set_state(pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE) {
        fprintf(stderr, "%s does not start\n", line);
        exit(1);
    }
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGTERM, G_SOURCE_FUNC(g_main_loop_quit), loop);
    g_main_loop_run(loop);
    report();
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct job job = parse(argc, argv);
    gst_init(NULL, NULL);
    if (job.produces)
        produce(&job);
    else
        consume(&job);
}
