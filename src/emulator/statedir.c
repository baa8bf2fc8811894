/* SPDX-License-Identifier: MIT */
#include "emulator/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/text.h"

int state_directory_default(char **ret) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        char *path;
        int r;

        r = isempty(runtime) ? asprintf(&path, "/tmp/dps-emulator-%u", (unsigned) getuid())
                             : asprintf(&path, "%s/dps-emulator", runtime);
        if (r < 0)
                return -ENOMEM;

        *ret = path;
        return 0;
}

static bool is_entry(const char *name) {
        return !streq(name, ".") && !streq(name, "..");
}

/* A directory with files of others, such as /tmp, must not be made private. */
static int check_content(const char *path) {
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        if (fd < 0)
                return -errno;
        r = directory_list(fd, is_entry, &names);
        if (r < 0)
                return r;
        return !names || strv_contains(names, LOCK_FILE) ? 0 : -ENOTEMPTY;
}

int state_directory_open(const char *path, char **ret) {
        struct stat st;
        char *absolute;
        int r;

        r = directory_make_path(path, 0700);
        if (r < 0)
                return r;

        /* In /tmp another user may have made it first. */
        if (lstat(path, &st) < 0)
                return -errno;
        if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
                return -EPERM;
        r = st.st_mode & 077 ? check_content(path) : 0;
        if (r < 0)
                return r;
        if (chmod(path, 0700) < 0)
                return -errno;

        absolute = realpath(path, NULL);
        if (!absolute)
                return -errno;

        *ret = absolute;
        return 0;
}
