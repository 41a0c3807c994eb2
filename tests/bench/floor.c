/* The yardstick for a load client: the same request N times over C connections in a closed loop, with nothing
 * but epoll, recvmsg with the kernel's arrival time stamp, and the clock after every read. Nothing is parsed: a
 * response has ended when a read ends in the last chunk of HTTP's chunked coding. Less work than this cannot
 * measure a stream; what a client takes beyond it is the client's own.
 *
 * floor PORT CONNECTIONS REQUESTS FILE    FILE holds one whole HTTP/1.1 request. Prints one JSON object. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/net_tstamp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 65536
#define EVENTS 1024
static const char END[] = "0\r\n\r\n";
enum { TAIL = sizeof END - 1 };

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int open_connection(int port) {
    int one = 1, stamps = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    return fd;
}

static void send_request(int fd, const char *request, size_t length) {
    for (size_t at = 0; at < length;) { /* blocks: the server reads whatever it is doing */
        ssize_t sent = send(fd, request + at, length - at, MSG_NOSIGNAL);
        if (sent < 0) die("send");
        at += sent;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "floor PORT CONNECTIONS REQUESTS FILE\n"); return 2; }
    int port = atoi(argv[1]), connections = atoi(argv[2]);
    long requests = atol(argv[3]), sent = 0, ended = 0, reads = 0, bytes = 0, stamped = 0;
    FILE *file = fopen(argv[4], "rb");
    if (!file) die(argv[4]);
    fseek(file, 0, SEEK_END);
    size_t length = ftell(file);
    rewind(file);
    char *request = malloc(length), *data = malloc(READ_BYTES);
    if (fread(request, 1, length, file) != length) die(argv[4]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int poll = epoll_create1(0), *fds = malloc(connections * sizeof *fds);
    char (*tails)[TAIL] = calloc(connections, TAIL); /* the last bytes of each connection, over reads */
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        fds[i] = open_connection(port);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event)) die("epoll_ctl");
    }
    double start = now(), start_cpu = cpu(), last_read = start;
    for (int i = 0; i < connections && sent < requests; i++, sent++) send_request(fds[i], request, length);
    struct epoll_event events[EVENTS];
    while (ended < requests) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        for (int e = 0; e < ready; e++) {
            int i = events[e].data.u32;
            char control[128];
            struct iovec into = {.iov_base = data, .iov_len = READ_BYTES};
            struct msghdr message = {
                .msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
            ssize_t got = recvmsg(fds[i], &message, MSG_DONTWAIT);
            last_read = now();
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) { fprintf(stderr, "connection closed after %ld responses\n", ended); return 1; }
            reads++;
            bytes += got;
            stamped += CMSG_FIRSTHDR(&message) != NULL;
            ssize_t keep = got < TAIL ? TAIL - got : 0, fresh = TAIL - keep;
            memmove(tails[i], tails[i] + TAIL - keep, keep);
            memcpy(tails[i] + keep, data + got - fresh, fresh);
            if (memcmp(tails[i], END, TAIL)) continue;
            memset(tails[i], 0, TAIL);
            ended++;
            if (sent < requests) { sent++; send_request(fds[i], request, length); }
        }
    }
    printf("{\"requests\": %ld, \"reads\": %ld, \"stamped\": %ld, \"bytes\": %ld, \"wall_s\": %.6f, \"cpu_s\": %.6f}\n",
           ended, reads, stamped, bytes, last_read - start, cpu() - start_cpu);
    return 0;
}
