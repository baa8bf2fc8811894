/* SPDX-License-Identifier: MIT */

/*
 * This library is preloaded into a program (LD_PRELOAD), and makes its disk fail, once or always. $DPS_TEST_DISK has the
 * form "CALL WHEN WHAT". WHEN is the number of the call of that name, counted over all threads from 1; 0 means every
 * call. WHAT is an errno, "kill", or a delay in milliseconds such as "250ms". Only calls on files count, and only on files
 * in $STATE_DIRECTORY unless WHAT is "kill". A write that fails has written half of its data.
 */

#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char call[16], what[16];
static int when;
static atomic_int n_calls;

__attribute__((constructor)) static void set_up(void) {
        const char *text = getenv("DPS_TEST_DISK");

        if (text && sscanf(text, "%15s %d %15s", call, &when, what) != 3)
                abort();
}

static bool is_on_disk(int fd) {
        const char *disk = getenv("STATE_DIRECTORY");
        char link[64], path[4096] = "";

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        return disk && readlink(link, path, sizeof(path) - 1) > 0 && strncmp(path, disk, strlen(disk)) == 0;
}

static bool is_due(const char *name, int fd) {
        int n;

        if (strcmp(name, call) != 0 || (strcmp(what, "kill") != 0 && !is_on_disk(fd)))
                return false;
        n = atomic_fetch_add(&n_calls, 1) + 1;
        return when == 0 || n == when;
}

/* Returns whether the call must fail. */
static bool strike(void) {
        long value = strtol(what, NULL, 10);

        if (strcmp(what, "kill") == 0) {
                kill(getpid(), SIGKILL);
                for (;;)
                        pause();
        }
        if (strstr(what, "ms")) {
                nanosleep(&(struct timespec){ .tv_sec = value / 1000, .tv_nsec = value % 1000 * 1000000 },
                          NULL);
                return false;
        }
        errno = (int) value;
        return true;
}

/* Symbols are hidden everywhere else in this repository, but must be visible here. */
#pragma GCC visibility push(default)

int fsync(int fd) {
        call_on_file_begins("fsync", fd);
        return is_due("fsync", fd) && strike() ? -1 : (int) syscall(SYS_fsync, fd);
}

int flock(int fd, int operation) {
        return is_due("flock", fd) && strike() ? -1 : (int) syscall(SYS_flock, fd, operation);
}

int fchmod(int fd, mode_t mode) {
        return is_due("fchmod", fd) && strike() ? -1 : (int) syscall(SYS_fchmod, fd, mode);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        call_begins("rename", to);
        return is_due("renameat", to_fd) && strike()
                       ? -1
                       : (int) syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

ssize_t write(int fd, const void *data, size_t size) {
        struct stat st;

        if (call[0] == 'w' && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && is_due("write", fd)) {
                (void) syscall(SYS_write, fd, data, size / 2);
                if (strike())
                        return -1;
                (void) lseek(fd, -(off_t) (size / 2), SEEK_CUR);
        }
        return syscall(SYS_write, fd, data, size);
}
