/* The floor: what a receiver costs when it does nothing but receive.
 *
 * One thread per connection, one buffer of 1 MiB per thread, recv() and write() in turn.
 * It knows PUT with a Content-Length and keep-alive connections, and nothing else: no limits,
 * no names judged beyond their last component, no publication, no time-outs.
 *
 * usage: floor PORT DIR plain|fdatasync
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, HEAD_MAX = 16 << 10 };

static int root;
static int sync_data;

static int send_all(int sock, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t n = send(sock, text, left, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static int write_all(int file, const char *data, size_t left)
{
    while (left > 0) {
        ssize_t n = write(file, data, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        left -= (size_t)n;
    }
    return 0;
}

/* Fills `name` and `length` from a head that ends in a NUL; 0 when it is a PUT we can serve. */
static int parse_head(char *head, char *name, size_t name_size, uint64_t *length)
{
    if (strncmp(head, "PUT ", 4) != 0)
        return -1;
    char *path = head + 4;
    char *end = strchr(path, ' ');
    char *field = strcasestr(head, "\r\ncontent-length:");
    if (end == NULL || field == NULL)
        return -1;
    *length = strtoull(field + 17, NULL, 10);
    *end = '\0';
    char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    if (*last == '\0' || *last == '.' || strlen(last) >= name_size)
        return -1;
    strcpy(name, last);
    return 0;
}

/* One body: what came with the head, then recv and write until `length` bytes are stored. */
static int receive(int sock, int file, char *buffer, size_t have, uint64_t length)
{
    if (have > length)
        have = (size_t)length; /* no pipelining */
    if (write_all(file, buffer, have) < 0)
        return -1;
    uint64_t left = length - have;
    while (left > 0) {
        ssize_t n = recv(sock, buffer, left < BUFFER ? (size_t)left : BUFFER, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || write_all(file, buffer, (size_t)n) < 0)
            return -1;
        left -= (uint64_t)n;
    }
    return sync_data ? fdatasync(file) : 0;
}

/* One request. 0: go on with the next one on this connection. */
static int serve_one(int sock, char *buffer)
{
    char head[HEAD_MAX + 1], name[256];
    size_t have = 0;
    char *end = NULL;
    while (end == NULL) {
        if (have >= HEAD_MAX)
            return -1;
        ssize_t n = recv(sock, buffer + have, BUFFER - have, 0);
        if (n <= 0)
            return -1;
        have += (size_t)n;
        end = memmem(buffer, have < HEAD_MAX ? have : HEAD_MAX, "\r\n\r\n", 4);
    }
    size_t head_size = (size_t)(end - buffer);
    memcpy(head, buffer, head_size);
    head[head_size] = '\0';
    uint64_t length;
    if (parse_head(head, name, sizeof name, &length) < 0) {
        send_all(sock, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return -1;
    }
    memmove(buffer, end + 4, have - head_size - 4);
    int file = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int failed = file < 0 || receive(sock, file, buffer, have - head_size - 4, length) < 0;
    if (file >= 0 && close(file) < 0)
        failed = 1;
    if (failed) {
        send_all(sock, "HTTP/1.1 500 Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return -1;
    }
    return send_all(sock, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
}

static void *serve(void *argument)
{
    int sock = (int)(intptr_t)argument;
    char *buffer = malloc(BUFFER);
    while (buffer != NULL && serve_one(sock, buffer) == 0)
        ;
    free(buffer);
    close(sock);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: floor PORT DIR plain|fdatasync\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sync_data = strcmp(argv[3], "fdatasync") == 0;
    root = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (root < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1024) < 0) {
        perror("floor");
        return 1;
    }
    for (;;) {
        int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (sock < 0)
            continue;
        setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, 128 << 10);
        if (pthread_create(&thread, &attributes, serve, (void *)(intptr_t)sock) != 0)
            close(sock);
        pthread_attr_destroy(&attributes);
    }
}
