/* The server and the client of rivals.py, and the relay of two plain copies that it compares with.

     rivals hello                     writes the time of its start, and when its input has ended, the time of its end
     rivals answer REQUEST RESPONSE   answers calls of REQUEST bytes with RESPONSE bytes each
     rivals call FIRST COUNT REQUEST RESPONSE   makes COUNT such calls on its streams, one after the other, from number
                                      FIRST on, and writes the median of their times to stderr, in nanoseconds
     rivals source COUNT SIZE         waits for a byte, then writes COUNT notifications of SIZE bytes
     rivals copies COMMAND...         runs COMMAND between two plain copies, as two `cat`s are

   Sizes are without the line's end. A letter that depends on the message's number pads it, so that both sides can make
   and compare every byte. Exit status 9 if a message was changed or a stream failed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Numbers of calls begin here, so all have the same count of digits. */
enum { FIRST = 10000000, CHUNK = 1 << 16, LETTERS = 26 };

static const char CALL[] =
    "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"tools/call\",\"params\":{\"name\":\"e\",\"arguments\":{\"pad\":\"";
static const char CALL_END[] = "\"}}}\n";
static const char ANSWER[] =
    "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"result\":{\"isError\":false,\"content\":[{\"type\":\"text\",\"text\":\"";
static const char ANSWER_END[] = "\"}]}}\n";
static const char NOTE[] =
    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"";
static const char NOTE_END[] = "\"}}\n";

static void put(int to, const char *from, size_t left) {
    while (left > 0) {
        ssize_t written = write(to, from, left);
        if (written <= 0) exit(9);
        from += written, left -= written;
    }
}

/* Makes the message `number` of `size` bytes and a line's end in `out`. `head` has a place for the number, or none. */
static void make(char *out, size_t size, const char *head, const char *end, long number) {
    size_t filled = snprintf(out, size, head, number), last = size + 1 - strlen(end);
    memset(out + filled, 'a' + number % LETTERS, last - filled);
    memcpy(out + last, end, strlen(end));
}

static void answer(size_t request, size_t response) {
    char *got = malloc(request + 1), *expected = malloc(request + 1), *reply = malloc(response + 1);
    for (long number = FIRST;; number++) {
        for (size_t filled = 0; filled <= request;) {
            ssize_t count = read(0, got + filled, request + 1 - filled);
            if (count <= 0) exit(count == 0 && filled == 0 ? 0 : 9);
            filled += count;
        }
        make(expected, request, CALL, CALL_END, number);
        if (memcmp(got, expected, request + 1) != 0) exit(9);
        make(reply, response, ANSWER, ANSWER_END, number);
        put(1, reply, response + 1);
    }
}

static int compare(const void *a, const void *b) {
    const long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static long clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static void tell_time(void) {
    printf("%s%020ld%s", NOTE, clock_now(), NOTE_END);
    fflush(stdout);
}

static void hello(void) {
    char rest[CHUNK];
    tell_time();
    while (read(0, rest, sizeof rest) > 0) {}
    tell_time();
}

static void call(long first, long count, size_t request, size_t response) {
    char *sent = malloc(request + 1), *got = malloc(response + 1), *expected = malloc(response + 1);
    long *times = malloc(count * sizeof(long));
    for (long n = 0; n < count; n++) {
        make(sent, request, CALL, CALL_END, FIRST + first + n);
        make(expected, response, ANSWER, ANSWER_END, FIRST + first + n);
        const long begun = clock_now();
        put(1, sent, request + 1);
        for (size_t filled = 0; filled <= response;) {
            ssize_t received = read(0, got + filled, response + 1 - filled);
            if (received <= 0) exit(9);
            filled += received;
        }
        times[n] = clock_now() - begun;
        if (memcmp(got, expected, response + 1) != 0) exit(9);
    }
    qsort(times, count, sizeof(long), compare);
    fprintf(stderr, "%ld\n", times[count / 2]);
}

static void source(long count, size_t size) {
    size_t at_once = CHUNK / (size + 1) > 0 ? CHUNK / (size + 1) : 1;
    char *frames = malloc((LETTERS + at_once) * (size + 1)), byte;
    for (size_t n = 0; n < LETTERS + at_once; n++) make(frames + n * (size + 1), size, NOTE, NOTE_END, n);
    if (read(0, &byte, 1) != 1) exit(9);
    for (long sent = 0; sent < count; sent += at_once) {
        long now = count - sent < (long)at_once ? count - sent : (long)at_once;
        put(1, frames + sent % LETTERS * (size + 1), now * (size + 1));
    }
    while (read(0, &byte, 1) > 0) {}
}

static void *copy(void *ends) {
    const int from = ((int *)ends)[0], to = ((int *)ends)[1];
    char *buffer = malloc(CHUNK);
    for (ssize_t count; (count = read(from, buffer, CHUNK)) > 0;) put(to, buffer, count);
    close(to);
    return NULL;
}

static void copies(char **command) {
    int in[2], out[2], status;
    if (pipe(in) != 0 || pipe(out) != 0) exit(9);
    pid_t server = vfork();
    if (server == 0) {
        dup2(in[0], 0), dup2(out[1], 1);
        close(in[0]), close(in[1]), close(out[0]), close(out[1]);
        execvp(command[0], command);
        _exit(9);
    }
    close(in[0]), close(out[1]);
    int to_server[2] = {0, in[1]}, to_client[2] = {out[0], 1};
    pthread_t thread;
    if (server < 0 || pthread_create(&thread, NULL, copy, to_server) != 0) exit(9);
    copy(to_client);
    if (waitpid(server, &status, 0) != server || status != 0) exit(9);
    exit(0);
}

int main(int count, char **words) {
    if (count == 4 && strcmp(words[1], "answer") == 0) answer(atol(words[2]), atol(words[3]));
    if (count == 2 && strcmp(words[1], "hello") == 0) hello(), exit(0);
    if (count == 6 && strcmp(words[1], "call") == 0)
        call(atol(words[2]), atol(words[3]), atol(words[4]), atol(words[5])), exit(0);
    if (count == 4 && strcmp(words[1], "source") == 0) source(atol(words[2]), atol(words[3])), exit(0);
    if (count > 2 && strcmp(words[1], "copies") == 0) copies(words + 2);
    return 9;
}
