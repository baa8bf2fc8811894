/* SPDX-License-Identifier: MIT */

/*
 * This library is preloaded into a program (LD_PRELOAD). It lists certain calls of the program, and holds one of them up for
 * as long as the test wants. calls.py is the other half. In the directory $DPS_TEST_CALLS, the file "list" gets a line for
 * each call, such as "open /etc/key" or "getgrnam_r staff", before the call is made. A call does not go on while the file
 * "held" exists and its content is a part of that line.
 */

/* The calls that take another offset type, or check their arguments, are functions of their own here. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "calls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_SIZE 4400

static int open_in_directory(const char *name, int flags) {
        const char *directory = getenv("DPS_TEST_CALLS");
        char path[4096];

        if (!directory)
                return -1;
        snprintf(path, sizeof(path), "%s/%s", directory, name);
        return (int) syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

/* One write, so that the lines of several threads are not mixed. */
static void list(const char *line) {
        int fd = open_in_directory("list", O_WRONLY | O_CREAT | O_APPEND);

        if (fd < 0)
                return;
        if (syscall(SYS_write, fd, line, strlen(line)) < 0)
                abort();
        syscall(SYS_close, fd);
}

static bool is_held(const char *line) {
        int fd = open_in_directory("held", O_RDONLY);
        char held[LINE_MAX_SIZE] = "";
        long n;

        if (fd < 0)
                return false;
        n = syscall(SYS_read, fd, held, sizeof(held) - 1);
        syscall(SYS_close, fd);
        return n > 0 && strstr(line, held);
}

void call_begins(const char *name, const char *argument) {
        char line[LINE_MAX_SIZE];

        if (!getenv("DPS_TEST_CALLS"))
                return;
        snprintf(line, sizeof(line), "%s %s\n", name, argument);
        list(line);
        while (is_held(line))
                nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

void call_on_file_begins(const char *name, int fd) {
        char link[64], path[4096] = "";

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof(path) - 1) > 0)
                call_begins(name, path);
}

static mode_t mode_of(int flags, va_list ap) {
        return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

/* Symbols are hidden everywhere else in this repository, but must be visible here. */
#pragma GCC visibility push(default)

int openat64(int dir_fd, const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        call_begins("open", path);
        return (int) syscall(SYS_openat, dir_fd, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return openat64(AT_FDCWD, path, flags, mode);
}

int openat(int dir_fd, const char *path, int flags, ...) __attribute__((alias("openat64")));
int open(const char *path, int flags, ...) __attribute__((alias("open64")));

int epoll_create1(int flags) {
        call_begins("epoll_create1", "");
        return (int) syscall(SYS_epoll_create1, flags);
}

int getgrnam_r(const char *name, struct group *group, char *buffer, size_t size, struct group **ret) {
        int (*next)(const char *, struct group *, char *, size_t, struct group **);

        *(void **) &next = dlsym(RTLD_NEXT, "getgrnam_r");
        call_begins("getgrnam_r", name);
        return next(name, group, buffer, size, ret);
}

/* Where no limit can be lifted, root may lock what it likes all the same: $DPS_TEST_MEMLOCK is the limit that the program sees. */
int getrlimit64(enum __rlimit_resource resource, struct rlimit64 *ret) {
        const char *limit = getenv("DPS_TEST_MEMLOCK");

        if (resource != RLIMIT_MEMLOCK || !limit)
                return (int) syscall(SYS_prlimit64, 0, resource, NULL, ret);
        ret->rlim_cur = ret->rlim_max = strtoull(limit, NULL, 10);
        return 0;
}
