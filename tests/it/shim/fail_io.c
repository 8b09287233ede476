/* Answers one kind of call with an error from the n-th on, for files below one directory: what a dying disk
 * does. Compiled by tests/it/io_errors.rs and preloaded into the process under test.
 *   FAIL_IO_CALL   pwrite64, fdatasync, fsync or sync_file_range
 *   FAIL_IO_AFTER  calls that still work
 *   FAIL_IO_ERRNO  the number of the error
 *   FAIL_IO_BELOW  the directory */
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

static int fails(const char *call, int fd) {
    const char *wanted = getenv("FAIL_IO_CALL"), *below = getenv("FAIL_IO_BELOW");
    char link[64], path[4096];
    if (!wanted || !below || strcmp(wanted, call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, below)) return 0;
    if (atomic_fetch_add(&calls, 1) < atol(getenv("FAIL_IO_AFTER"))) return 0;
    errno = atoi(getenv("FAIL_IO_ERRNO"));
    return 1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return fails("pwrite64", fd) ? -1 : real(fd, bytes, count, at);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return fails("fdatasync", fd) ? -1 : real(fd);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return fails("fsync", fd) ? -1 : real(fd);
}

int sync_file_range(int fd, off64_t at, off64_t count, unsigned flags) {
    static int (*real)(int, off64_t, off64_t, unsigned);
    if (!real) real = dlsym(RTLD_NEXT, "sync_file_range");
    return fails("sync_file_range", fd) ? -1 : real(fd, at, count, flags);
}
