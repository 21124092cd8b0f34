/* The floor: a program that does only what has to be done. SEQPACKET; descriptors are sent once; a frame is a message
 * of 64 bytes, its return one of 16; epoll; a count of holders. It has no quotas, no late joiners, no checks.
 *
 * As transports "ping" and "memcpy" it prints what a message there and back, and a copy of a frame, cost here (ns). */
#define _GNU_SOURCE
#include "contender.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

struct announce {
    uint64_t sequence, published_ns;
    uint32_t slot;
    uint8_t rest[44];
};

struct release {
    uint32_t slot;
    uint8_t rest[12];
};

_Static_assert(sizeof(struct announce) == 64 && sizeof(struct release) == 16, "messages");

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(MAX_POOL * sizeof(int))];
};

static int bound(const struct job *job, int (*attach)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", job->socket);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || attach(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(job->socket);
    return fd;
}

static void send_buffers(int to, const int *fds, unsigned count)
{
    union control control = {0};
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(count * sizeof(int)),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    if (sendmsg(to, &message, MSG_NOSIGNAL) < 0)
        die("sendmsg");
}

static void produce(const struct job *job)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = bound(job, bind);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    long interval = 1000000000L / (long)job->fps;
    struct itimerspec pace = {{0, interval}, {0, interval}};
    if (listen(listener, 64) < 0 || timerfd_settime(timer, 0, &pace, NULL) < 0)
        die("listen");
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.fd = listener}});
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &(struct epoll_event){EPOLLIN, {.fd = timer}});
    int buffers[MAX_POOL];
    unsigned holders[MAX_POOL] = {0};
    for (unsigned i = 0; i < job->pool; i++) {
        buffers[i] = memfd_create("floor", MFD_CLOEXEC);
        if (buffers[i] < 0 || ftruncate(buffers[i], (off_t)job->bytes) < 0)
            die("memfd_create");
        void *pixels = mmap(NULL, job->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffers[i], 0);
        memset(pixels, 16, job->bytes);
    }
    int clients[64];
    unsigned client_count = 0;
    uint64_t sequence = 0;
    say_ready();
    while (!is_over) {
        struct epoll_event events[16];
        int count = epoll_wait(epoll, events, 16, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (client < 0 || client_count == 64)
                    die("accept");
                send_buffers(client, buffers, job->pool);
                clients[client_count++] = client;
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &(struct epoll_event){EPOLLIN, {.fd = client}});
            } else if (fd == timer) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0)
                    continue;
                unsigned slot = 0;
                while (slot < job->pool && holders[slot] > 0)
                    slot++;
                struct announce frame = {.sequence = sequence++, .published_ns = now_ns(), .slot = slot};
                if (slot == job->pool)
                    continue; /* all are held: the frame is lost */
                for (unsigned c = 0; c < client_count; c++)
                    if (send(clients[c], &frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof frame)
                        holders[slot]++;
            } else {
                struct release back;
                if (recv(fd, &back, sizeof back, MSG_DONTWAIT) == sizeof back)
                    holders[back.slot % job->pool]--;
                else
                    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
            }
        }
    }
}

static void consume(const struct job *job)
{
    int fd = bound(job, connect);
    union control control = {0};
    char byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1 || message.msg_flags & MSG_CTRUNC)
        die("recvmsg");
    int buffers[MAX_POOL];
    memcpy(buffers, CMSG_DATA(CMSG_FIRSTHDR(&message)), job->pool * sizeof(int));
    const void *pixels[MAX_POOL] = {0};
    struct announce frame;
    while (!is_over && recv(fd, &frame, sizeof frame, 0) == sizeof frame) {
        received(frame.sequence, frame.published_ns);
        if (job->reads) {
            const void **map = &pixels[frame.slot % job->pool];
            if (!*map)
                *map = mmap(NULL, job->bytes, PROT_READ, MAP_SHARED, buffers[frame.slot % job->pool], 0);
            add_up(*map, job->bytes);
        }
        struct release back = {.slot = frame.slot};
        if (send(fd, &back, sizeof back, MSG_NOSIGNAL) < 0)
            break;
    }
    report();
}

/* The source alone. */
static void tick(const struct job *job)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    long interval = 1000000000L / (long)job->fps;
    struct itimerspec pace = {{0, interval}, {0, interval}};
    timerfd_settime(timer, 0, &pace, NULL);
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &(struct epoll_event){EPOLLIN, {.fd = timer}});
    say_ready();
    while (!is_over) {
        struct epoll_event event;
        uint64_t ticks;
        if (epoll_wait(epoll, &event, 1, -1) == 1 && read(timer, &ticks, sizeof ticks) < 0)
            break;
    }
}

/* Between two processes, both of which sleep for it. */
static void ping(void)
{
    int pair[2], rounds = 20000;
    char message[64] = {0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die("socketpair");
    if (fork() == 0) {
        close(pair[0]);
        while (recv(pair[1], message, sizeof message, 0) > 0)
            send(pair[1], message, 16, MSG_NOSIGNAL);
        _exit(0);
    }
    close(pair[1]);
    uint64_t begun = now_ns();
    for (int i = 0; i < rounds; i++)
        if (send(pair[0], message, sizeof message, MSG_NOSIGNAL) < 0 || recv(pair[0], message, sizeof message, 0) < 0)
            die("ping");
    printf("ns %" PRIu64 "\n", (now_ns() - begun) / (uint64_t)rounds);
}

/* Between more buffers than the caches hold, as frames come and go. */
static void copy(const struct job *job)
{
    enum { BUFFERS = 8, ROUNDS = 64 };
    char *buffers[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) {
        buffers[i] = malloc(job->bytes);
        memset(buffers[i], i, job->bytes);
    }
    uint64_t begun = now_ns();
    for (int i = 0; i < ROUNDS; i++) {
        memcpy(buffers[(i + 1) % BUFFERS], buffers[i % BUFFERS], job->bytes);
        sum += (uint64_t)buffers[(i + 1) % BUFFERS][i];
    }
    printf("ns %" PRIu64 "\n", (now_ns() - begun) / ROUNDS);
    printf("sum %" PRIu64 "\n", sum);
}

int main(int argc, char **argv)
{
    struct job job = parse(argc, argv);
    if (!job.produces)
        consume(&job);
    else if (strcmp(job.transport, "none") == 0)
        tick(&job);
    else if (strcmp(job.transport, "ping") == 0)
        ping();
    else if (strcmp(job.transport, "memcpy") == 0)
        copy(&job);
    else
        produce(&job);
}
