/* SPDX-License-Identifier: MIT */
#include "dpsd/refusal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Users are shown as numbers: their names may come from a network that does not answer. */
static int tell_owner(const char *path, const char *option, char *buffer, size_t size) {
        struct stat st;

        if (lstat(path, &st) < 0 || st.st_uid == geteuid())
                return 0;
        return snprintf(buffer, size, ": user %u owns it (mode %04o); run: chown %s%u:%u %s",
                        (unsigned) st.st_uid, (unsigned) st.st_mode & 07777, option, (unsigned) geteuid(),
                        (unsigned) getegid(), path);
}

const char *refusal_text(const char *directory, const char *name, int r,
                         char buffer[static REFUSAL_TEXT_MAX]) {
        size_t n = (size_t) snprintf(buffer, REFUSAL_TEXT_MAX, "%s", strerror(-r));
        char path[PATH_MAX];

        if (r == -EMFILE)
                (void) snprintf(buffer + n, REFUSAL_TEXT_MAX - n, ": raise LimitNOFILE= of the unit");
        else if (r == -EIO)
                (void) snprintf(buffer + n, REFUSAL_TEXT_MAX - n, ": the disk is broken or gone, see dmesg");
        if (r != -EACCES && r != -EPERM)
                return buffer;

        (void) snprintf(path, sizeof(path), "%s/%s", directory, name);
        if (tell_owner(directory, "-R ", buffer + n, REFUSAL_TEXT_MAX - n) == 0)
                (void) tell_owner(path, "", buffer + n, REFUSAL_TEXT_MAX - n);
        return buffer;
}
