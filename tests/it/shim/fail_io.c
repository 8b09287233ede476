/* Answers one kind of call with an error from the n-th on, for files with a name: what a dying disk does.
 * Compiled by tests/it/io_errors.rs and preloaded into the process under test.
 *   FAIL_IO_CALL      pwrite64, fdatasync, fsync or sync_file_range
 *   FAIL_IO_AFTER     calls that still work
 *   FAIL_IO_ERRNO     the number of the error; 0 with pwrite64: more bytes are written than were given, which
 *                     makes Rust's standard library panic
 *   FAIL_IO_PATH      a part of the file's path
 *   FAIL_IO_BYTES_MIN only calls for so many bytes are counted, and fail (default 0)
 *   FAIL_IO_DELAY_MS  how long a failing call takes (default 0) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *variable) {
    const char *text = getenv(variable);
    return text ? atol(text) : 0;
}

static int fails(const char *call, int fd, size_t bytes) {
    const char *wanted = getenv("FAIL_IO_CALL"), *part = getenv("FAIL_IO_PATH");
    char link[64], path[4096];
    if (!wanted || !part || strcmp(wanted, call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, part)) return 0;
    if ((long)bytes < number("FAIL_IO_BYTES_MIN")) return 0;
    if (atomic_fetch_add(&calls, 1) < number("FAIL_IO_AFTER")) return 0;
    usleep(1000 * number("FAIL_IO_DELAY_MS"));
    errno = (int)number("FAIL_IO_ERRNO");
    return 1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (!fails("pwrite64", fd, count)) return real(fd, bytes, count, at);
    return errno ? -1 : (ssize_t)count + 1;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return fails("fdatasync", fd, 0) ? -1 : real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return fails("fsync", fd, 0) ? -1 : real(fd);
}

int sync_file_range(int fd, off64_t at, off64_t count, unsigned flags) {
    static int (*real)(int, off64_t, off64_t, unsigned);
    if (!real) real = dlsym(RTLD_NEXT, "sync_file_range");
    return fails("sync_file_range", fd, (size_t)count) ? -1 : real(fd, at, count, flags);
}
