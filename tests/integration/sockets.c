/* SPDX-License-Identifier: MIT */

/*
 * This library is preloaded into a program (LD_PRELOAD). If $DPS_TEST_SOCKETS is set, its sockets hold no more than the kernel
 * gives to anybody, so that a peer who does not read is noticed soon.
 */

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC visibility push(default)

int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
        if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_SNDBUFFORCE) &&
            getenv("DPS_TEST_SOCKETS"))
                return 0;
        return (int) syscall(SYS_setsockopt, fd, level, name, value, size);
}
