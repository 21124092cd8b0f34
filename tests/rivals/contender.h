/* What every contender in C has in common: its job, its clock, its figures. src/lib.rs is the same in Rust.
 *
 *   PROGRAM produce|consume TRANSPORT SOCKET WIDTHxHEIGHT FPS CONSUMERS idle|read
 *
 * A producer says "ready" when it listens, and publishes a frame every 1/FPS s until SIGTERM. TRANSPORT "none" is the
 * source alone. A consumer says "ready" at its first frame and takes frames until SIGTERM; then it prints one line for
 * each: sequence, when it was published, when it was received (ns of CLOCK_MONOTONIC). "read" adds up every byte. */
#ifndef CONTENDER_H
#define CONTENDER_H

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_POOL 64
#define MAX_SAMPLES (1 << 17)

struct job {
    bool produces, reads;
    const char *transport, *socket;
    unsigned width, height, fps, consumers;
    size_t bytes; /* of an NV12 frame */
    unsigned pool; /* buffers: as many as framelease asks for */
};

struct sample {
    uint64_t sequence, published_ns, received_ns;
};

static struct sample samples[MAX_SAMPLES];
static size_t sample_count;
static uint64_t sum;
static volatile sig_atomic_t is_over;

static void end(int number)
{
    (void)number;
    is_over = 1;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void say_ready(void)
{
    puts("ready");
    fflush(stdout);
}

static struct job parse(int argc, char **argv)
{
    struct job job = {0};
    if (argc != 8 || sscanf(argv[4], "%ux%u", &job.width, &job.height) != 2) {
        fprintf(stderr, "usage: produce|consume TRANSPORT SOCKET WIDTHxHEIGHT FPS CONSUMERS idle|read\n");
        exit(2);
    }
    job.produces = strcmp(argv[1], "produce") == 0;
    job.transport = argv[2];
    job.socket = argv[3];
    job.fps = (unsigned)atoi(argv[5]);
    job.consumers = (unsigned)atoi(argv[6]);
    job.reads = strcmp(argv[7], "read") == 0;
    job.bytes = (size_t)job.width * job.height * 3 / 2;
    job.pool = 2 * job.consumers + 4;
    if (job.fps == 0 || job.pool > MAX_POOL) {
        fprintf(stderr, "too much is asked\n");
        exit(2);
    }
    /* Without SA_RESTART, so that a blocking receive ends. */
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    return job;
}

/* Every byte, as a consumer on the CPU would. */
static inline void add_up(const void *pixels, size_t bytes)
{
    const uint64_t *words = pixels;
    uint64_t total = 0;
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        total += words[i];
    sum += total;
}

static inline void received(uint64_t sequence, uint64_t published_ns)
{
    if (sample_count == 0)
        say_ready();
    if (sample_count < MAX_SAMPLES)
        samples[sample_count++] = (struct sample){sequence, published_ns, now_ns()};
}

static inline void report(void)
{
    for (size_t i = 0; i < sample_count; i++)
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", samples[i].sequence, samples[i].published_ns,
               samples[i].received_ns);
    /* Printed, so that no compiler leaves the reading out. */
    printf("sum %" PRIu64 "\n", sum);
}

#endif
