/* SPDX-License-Identifier: MIT */
#include "dpsd/group.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

#include "basic/cleanup.h"

/* A group of some ten thousand members. */
#define ENTRY_MAX (1024U * 1024)

int group_find(const char *name, gid_t *ret) {
        for (size_t size = 1024; size <= ENTRY_MAX; size *= 4) {
                _cleanup_(freep) char *text = malloc(size);
                struct group buffer, *found = NULL;

                if (!text || getgrnam_r(name, &buffer, text, size, &found) == ERANGE)
                        continue;
                if (!found)
                        return -ENOENT;
                *ret = found->gr_gid;
                return 0;
        }
        return -ENOMEM;
}

gid_t group_to_gid(const char *name) {
        gid_t gid;

        return group_find(name, &gid) >= 0 ? gid : getegid();
}
