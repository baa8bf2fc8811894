/* SPDX-License-Identifier: MIT */
#include "basic/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "basic/text.h"

#define TEMPORARY_PREFIX ".#"

static void closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

/* The content may be a secret. realloc() could leave a copy of it in freed memory. */
static int grow(char **data, size_t size, size_t *room, size_t max) {
        size_t wider = MIN(*room * 2, max);
        char *copy = malloc(wider + 1);

        if (!copy)
                return -ENOMEM;

        memcpy(copy, *data, size);
        explicit_bzero(*data, size);
        free(*data);
        *data = copy;
        *room = wider;
        return 0;
}

/* Reads at most `max` bytes and one more, which shows that the file is too large. `expected`: the likely
 * size. */
static int read_whole(int fd, size_t expected, size_t max, char **data, size_t *size) {
        size_t room = MIN(expected, max) + 1;

        *data = malloc(room + 1);
        if (!*data)
                return -ENOMEM;
        while (*size <= max) {
                ssize_t n;

                if (*size == room && grow(data, *size, &room, max + 1) < 0)
                        return -ENOMEM;
                n = read(fd, *data + *size, room - *size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                *size += (size_t) n;
        }
        return -EFBIG;
}

int file_read_fd(int fd, size_t max, char **ret, size_t *ret_size) {
        _cleanup_(freep) char *data = NULL;
        size_t size = 0;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
        if (st.st_size > 0 && (uint64_t) st.st_size > max)
                return -EFBIG;

        /* In /proc and /sys the size is 0 or wrong. */
        r = read_whole(fd, st.st_size > 0 ? (size_t) st.st_size : 4096, max, &data, &size);
        if (r < 0) {
                if (data)
                        explicit_bzero(data, size);
                return r;
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

const char *file_error(int r) {
        return r == -ENOTSUP     ? "it is not a regular file"
               : r == -EFBIG     ? "it is too large"
               : r == -ETIMEDOUT ? "its file system does not answer (is its server there?)"
                                 : strerror(-r);
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_size) {
        return file_read_at(AT_FDCWD, path, max, ret, ret_size);
}

char *path_directory(const char *path) {
        const char *slash = strrchr(path, '/');

        if (!slash)
                return strdup(".");
        return strndup(path, slash == path ? 1 : (size_t) (slash - path));
}

int path_follow_link(const char *path, char **ret) {
        _cleanup_(freep) char *directory = NULL;
        char target[PATH_MAX];
        ssize_t n;

        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        target[n] = 0;

        directory = path_directory(path);
        if (!directory)
                return -ENOMEM;
        *ret = target[0] == '/' ? strdup(target) : text_format("%s/%s", directory, target);
        return *ret ? 0 : -ENOMEM;
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

int file_give_away(int fd, int dir_fd, gid_t gid) {
        uid_t uid = (uid_t) -1;
        struct stat st;

        if (geteuid() == 0 && fstat(dir_fd, &st) >= 0 && st.st_uid != 0) {
                uid = st.st_uid;
                gid = gid == (gid_t) -1 ? st.st_gid : gid;
        }
        if (uid == (uid_t) -1 && gid == (gid_t) -1)
                return 0;
        return fchown(fd, uid, gid) < 0 ? -errno : 0;
}

static int fill_draft(int fd, int dir_fd, const void *data, size_t size, mode_t mode, gid_t gid) {
        int r;

        r = file_give_away(fd, dir_fd, gid);
        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0)
                return -errno;
        return write_whole(fd, data, size);
}

int file_draft_write(FileDraft *d, int dir_fd, const char *name, const void *data, size_t size, mode_t mode,
                     gid_t gid) {
        uint64_t random;
        int n, r;

        d->fd = -1;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        n = snprintf(d->temporary, sizeof(d->temporary), TEMPORARY_PREFIX "%s%016lx", name,
                     (unsigned long) random);
        if (n < 0 || (size_t) n >= sizeof(d->temporary))
                return -ENAMETOOLONG;

        d->fd = openat(dir_fd, d->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (d->fd < 0)
                return -errno;
        r = fill_draft(d->fd, dir_fd, data, size, mode, gid);
        if (r < 0)
                file_draft_discard(d, dir_fd);
        return r;
}

int file_draft_sync(FileDraft *d) {
        return fsync(d->fd) < 0 ? -errno : 0;
}

int file_draft_rename(FileDraft *d, int dir_fd, const char *name) {
        if (renameat(dir_fd, d->temporary, dir_fd, name) < 0)
                return -errno;
        (void) close(TAKE_FD(d->fd));
        return 0;
}

void file_draft_discard(FileDraft *d, int dir_fd) {
        if (d->fd < 0)
                return;
        (void) close(TAKE_FD(d->fd));
        (void) unlinkat(dir_fd, d->temporary, 0);
}

int file_write_atomic(int dir_fd, const char *name, const void *data, size_t size, mode_t mode, gid_t gid) {
        FileDraft d;
        int r;

        r = file_draft_write(&d, dir_fd, name, data, size, mode, gid);
        if (r < 0)
                return r;
        r = file_draft_rename(&d, dir_fd, name);
        if (r < 0)
                file_draft_discard(&d, dir_fd);
        return r;
}

int directory_sync(int fd) {
        /* Some network file systems do not support this, and do not need it. */
        if (fsync(fd) < 0 && errno != EINVAL)
                return -errno;
        return 0;
}

int directory_list(int fd, bool (*is_wanted)(const char *name), char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(closedirp) DIR *directory = copy < 0 ? NULL : fdopendir(copy);
        struct dirent *entry;

        if (!directory) {
                int r = -errno;

                if (copy >= 0)
                        (void) close(copy);
                return r;
        }
        while (errno = 0, (entry = readdir(directory))) {
                int r = is_wanted(entry->d_name) ? strv_append(&names, entry->d_name) : 0;

                if (r < 0)
                        return r;
        }
        if (errno != 0)
                return -errno;

        *ret = TAKE_PTR(names);
        return 0;
}

bool file_is_temporary(const char *name) {
        return startswith(name, TEMPORARY_PREFIX);
}

int directory_remove_temporaries(int fd) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = directory_list(fd, file_is_temporary, &names);
        if (r < 0)
                return r;
        STRV_FOREACH(name, names)
                if (unlinkat(fd, *name, 0) < 0 && r >= 0)
                        r = -errno;
        return r;
}

int directory_make_at(int dir_fd, const char *name, mode_t mode, gid_t gid, int *ret_fd) {
        _cleanup_(closep) int fd = -1;
        int r;

        if (mkdirat(dir_fd, name, mode) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        r = file_give_away(fd, dir_fd, gid);
        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0)
                return -errno;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* The mode does not depend on the umask. */
static int make(const char *path, mode_t mode) {
        if (mkdir(path, mode) < 0)
                return errno == EEXIST ? 0 : -errno;
        return chmod(path, mode) < 0 ? -errno : 0;
}

int directory_make_path(const char *path, mode_t mode) {
        _cleanup_(freep) char *copy = strdup(path);
        int r = 0;

        if (!copy)
                return -ENOMEM;

        for (char *slash = copy; r >= 0 && (slash = strchr(slash + 1, '/'));) {
                *slash = 0;
                r = make(copy, 0755);
                *slash = '/';
        }
        return r < 0 ? r : make(copy, mode);
}
