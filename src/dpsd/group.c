/* SPDX-License-Identifier: MIT */
#include "dpsd/group.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

#include "basic/cleanup.h"

/* A group of some ten thousand members. */
#define ENTRY_MAX (1024U * 1024)

gid_t group_to_gid(const char *name) {
        for (size_t size = 1024; size <= ENTRY_MAX; size *= 4) {
                _cleanup_(freep) char *text = malloc(size);
                struct group buffer, *found = NULL;

                if (!text || getgrnam_r(name, &buffer, text, size, &found) == ERANGE)
                        continue;
                return found ? found->gr_gid : getegid();
        }
        return getegid();
}
