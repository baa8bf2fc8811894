/* SPDX-License-Identifier: MIT */
#include "basic/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/text.h"
#include "basic/why.h"

#define MODULE_SIZE_MAX (64U * 1024 * 1024)

static const ModuleStamp our_stamp = MODULE_STAMP;

const char *module_directory(void) {
        return secure_getenv("DPS_MODULE_DIRECTORY") ?: DPS_MODULE_DIR;
}

/* Whoever can write to a module can make the program do anything. */
static int check_owner(int fd, const char *path, char **ret_why) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return why(ret_why, -errno, "%s cannot be examined: %s", path, strerror(errno));
        if ((st.st_uid == 0 || st.st_uid == geteuid()) && !(st.st_mode & (S_IWGRP | S_IWOTH)))
                return 0;
        return why(ret_why, -EPERM,
                   "%s belongs to uid %u and has mode %04o: nobody but root may be able to change it", path,
                   (unsigned) st.st_uid, (unsigned) st.st_mode & 07777);
}

/* Opens the module after a check of its directory. */
static int open_module(const char *directory, const char *name, const char *path, int *ret_fd,
                       char **ret_why) {
        _cleanup_(closep) int directory_fd = -1, fd = -1;
        int r;

        directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (directory_fd >= 0) {
                r = check_owner(directory_fd, directory, ret_why);
                if (r < 0)
                        return r;
                fd = openat(directory_fd, strrchr(path, '/') + 1,
                            O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        }
        if (fd < 0 && errno == ENOENT)
                return why(ret_why, -ENOENT,
                           "module %s is not installed: there is no %s; install the package dps-%s, or dpsd "
                           "again",
                           name, path, name);
        if (fd < 0)
                return why(ret_why, -errno, "module %s cannot be opened: %s: %s", name, path,
                           strerror(errno));

        r = check_owner(fd, path, ret_why);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int check_stamp(ModuleStamp stamp, const char *name, char **ret_why) {
        if (memcmp(&stamp, &our_stamp, sizeof(stamp)) == 0)
                return 0;

        text_make_presentable(stamp.version, strnlen(stamp.version, sizeof(stamp.version) - 1),
                              sizeof(stamp.version), stamp.version);
        text_make_presentable(stamp.build_id, strnlen(stamp.build_id, sizeof(stamp.build_id) - 1),
                              sizeof(stamp.build_id), stamp.build_id);
        return why(
                ret_why, -ESTALE,
                "module %s is of dps %s (build %s), this is dps %s (build %s): install both from one build",
                name, stamp.version, stamp.build_id, our_stamp.version, our_stamp.build_id);
}

/* The stamp has the same bytes in the file as in memory. */
static int check_file(int fd, const char *name, const char *path, char **ret_why) {
        _cleanup_(freep) char *data = NULL;
        const char *found = NULL;
        ModuleStamp stamp;
        size_t size;
        int r;

        r = file_read_fd(fd, MODULE_SIZE_MAX, &data, &size);
        if (r < 0 && r != -ENOTSUP && r != -EISDIR)
                return why(ret_why, r, "module %s cannot be read: %s: %s", name, path, strerror(-r));
        if (r >= 0)
                found = memmem(data, size, our_stamp.magic, sizeof(our_stamp.magic));
        if (!found || size - (size_t) (found - data) < sizeof(stamp))
                return why(ret_why, -ENOEXEC, "%s is not a module of dps", path);

        memcpy(&stamp, found, sizeof(stamp));
        return check_stamp(stamp, name, ret_why);
}

int module_load(const char *directory, const char *name, const char *kind, const void **ret_class,
                char **ret_why) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        const Module *module;
        void *handle;
        int r;

        if (isempty(name) || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")])
                return why(ret_why, -EINVAL, "\"%s\" cannot be the name of a module", name);
        path = text_format("%s/%s.so", directory, name);
        if (!path)
                return why(ret_why, -ENOMEM, "there is no memory to load module %s", name);
        r = open_module(directory, name, path, &fd, ret_why);
        if (r < 0)
                return r;
        r = check_file(fd, name, path, ret_why);
        if (r < 0)
                return r;

        /*
         * All symbols at once: a missing one is an error now, and not a crash at its first call. Never
         * closed.
         */
        handle = dlopen(path,
                        RTLD_NOW | RTLD_NODELETE | (streq(kind, MODULE_SHARED) ? RTLD_GLOBAL : RTLD_LOCAL));
        module = handle ? dlsym(handle, "dps_module") : NULL;
        if (!module)
                return why(ret_why, -ELIBACC, "module %s cannot be loaded: %s", name, dlerror());
        /* An upgrade may have replaced the file in between. */
        r = check_stamp(module->stamp, name, ret_why);
        if (r < 0)
                return r;
        if (!streq(module->name, name) || !streq(module->kind, kind))
                return why(ret_why, -ENOEXEC, "%s is the %s module %s, not the %s module %s", path,
                           module->kind, module->name, kind, name);

        *ret_class = module->class;
        return 0;
}

int module_load_with_shared(const char *directory, const char *shared, const char *name, const char *kind,
                            const void **ret_class, char **ret_why) {
        const void *none;
        int r;

        r = module_load(directory, shared, MODULE_SHARED, &none, ret_why);
        if (r < 0)
                return r;
        return module_load(directory, name, kind, ret_class, ret_why);
}
