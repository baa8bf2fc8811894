/* SPDX-License-Identifier: MIT */
#include "basic/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "basic/cleanup.h"

int file_read_fd(int fd, size_t max, char **ret, size_t *ret_size) {
        _cleanup_(freep) char *data = NULL;
        size_t size = 0;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
        if (st.st_size > 0 && (uint64_t) st.st_size > max)
                return -EFBIG;

        /* Not st_size: files of /proc and /sys do not know theirs. */
        data = malloc(max + 2);
        if (!data)
                return -ENOMEM;
        while (size <= max) {
                ssize_t n = read(fd, data + size, max + 1 - size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        int saved = errno;

                        explicit_bzero(data, size);
                        return -saved;
                }
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        if (size > max) {
                explicit_bzero(data, size);
                return -EFBIG;
        }

        data[size] = 0;
        *ret = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int file_read_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_(closep) int fd = -1;

        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        return file_read_fd(fd, max, ret, ret_size);
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_size) {
        return file_read_at(AT_FDCWD, path, max, ret, ret_size);
}

static int write_whole(int fd, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

static int write_and_rename(int dir_fd, int fd, const char *temporary, const char *name, const void *data,
                            size_t size, mode_t mode, gid_t gid, FileWriteFlags flags) {
        int r;

        if (gid != (gid_t) -1 && fchown(fd, (uid_t) -1, gid) < 0)
                return -errno;
        if (fchmod(fd, mode) < 0)
                return -errno;
        r = write_whole(fd, data, size);
        if (r < 0)
                return r;
        if ((flags & FILE_WRITE_SYNC) && fsync(fd) < 0)
                return -errno;
        if (renameat(dir_fd, temporary, dir_fd, name) < 0)
                return -errno;
        if ((flags & FILE_WRITE_SYNC) && fsync(dir_fd) < 0)
                return -errno;
        return 0;
}

int file_write_atomic(int dir_fd, const char *name, const void *data, size_t size, mode_t mode, gid_t gid,
                      FileWriteFlags flags) {
        _cleanup_(freep) char *temporary = NULL;
        _cleanup_(closep) int fd = -1;
        uint64_t random;
        int r;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        if (asprintf(&temporary, ".#%s%016lx", name, (unsigned long) random) < 0)
                return -ENOMEM;

        fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        r = write_and_rename(dir_fd, fd, temporary, name, data, size, mode, gid, flags);
        if (r < 0)
                (void) unlinkat(dir_fd, temporary, 0);
        return r;
}

int directory_make_at(int dir_fd, const char *name, mode_t mode, gid_t gid, int *ret_fd) {
        _cleanup_(closep) int fd = -1;

        if (mkdirat(dir_fd, name, mode) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (gid != (gid_t) -1 && fchown(fd, (uid_t) -1, gid) < 0)
                return -errno;
        if (fchmod(fd, mode) < 0)
                return -errno;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

int directory_make_path(const char *path, mode_t mode) {
        _cleanup_(freep) char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;

        for (char *slash = copy; (slash = strchr(slash + 1, '/'));) {
                *slash = 0;
                if (mkdir(copy, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}
