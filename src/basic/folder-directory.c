/* SPDX-License-Identifier: MIT */
#include "basic/folder-directory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"

#define BATCH_MAX 64 /* open files */

typedef struct DirectoryFolder {
        Folder folder;
        char *path;
        mode_t mode;

        pthread_mutex_t mutex; /* protects all below, since commit() runs in another thread */
        int fd;                /* -1: it could not be opened yet; once open, it stays open */
        int lock_fd;           /* -1: not locked */
        char *lock_name;       /* NULL: no lock is wanted */
} DirectoryFolder;

static bool is_refusal(int r) {
        return r == -EROFS || r == -EACCES || r == -EPERM || r == -ENOSPC || r == -EDQUOT || r == -EIO;
}

/* --- the lock ------------------------------------------------------------------------------------------- */

static int open_lock(int dir_fd, const char *name, int access) {
        int fd;

        fd = openat(dir_fd, name, access | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        /* If the lock file cannot be created, the directory itself is locked. */
        if (fd < 0 && is_refusal(-errno))
                fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        else if (fd >= 0)
                (void) file_give_away(fd, dir_fd, (gid_t) -1);
        return fd < 0 ? -errno : fd;
}

static pid_t read_pid(int fd) {
        char text[32] = "";
        const char *p = text;
        uint64_t pid;

        if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || scan_u64(&p, &pid) < 0 || pid > INT32_MAX)
                return 0;
        return (pid_t) pid;
}

/* The pid is only for people; the lock does not need it. It always has the same width and is written over the one
 * before, because emptying a file is slow on some disks. */
static void write_pid(int dir_fd, const char *name) {
        _cleanup_(closep) int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd >= 0)
                (void) dprintf(fd, "%-10d\n", (int) getpid());
}

static int lock_by(int dir_fd, const char *name, int access, int *ret_fd, pid_t *ret_pid) {
        _cleanup_(closep) int fd = open_lock(dir_fd, name, access);

        if (fd < 0)
                return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                int r = errno == EWOULDBLOCK ? -EBUSY : -errno;

                if (r == -EBUSY)
                        *ret_pid = read_pid(fd);
                return r;
        }
        write_pid(dir_fd, name);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* The lock file is opened read-only if possible: a file that is open for writing prevents its file system
 * from being remounted read-only. */
static int lock_directory(int dir_fd, const char *name, int *ret_fd, pid_t *ret_pid) {
        int r = lock_by(dir_fd, name, O_RDONLY, ret_fd, ret_pid);

        if (r == -EBADF) /* NFS can lock only files that are open for writing */
                r = lock_by(dir_fd, name, O_RDWR, ret_fd, ret_pid);
        if (r >= 0)
                (void) directory_remove_temporaries(dir_fd);
        return r;
}

/* --- opening -------------------------------------------------------------------------------------------- */

/* The mutex must be held. */
static int open_and_lock(DirectoryFolder *d, pid_t *ret_pid) {
        _cleanup_(closep) int fd = -1;
        int r;

        if (d->fd >= 0)
                return 0;
        r = directory_make_path(d->path, d->mode);
        if (r < 0)
                return r;
        fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (d->lock_name) {
                r = lock_directory(fd, d->lock_name, &d->lock_fd, ret_pid);
                if (r < 0)
                        return r;
        }

        d->fd = TAKE_FD(fd);
        return 0;
}

static int fd_to_write(Folder *f) {
        DirectoryFolder *d = (DirectoryFolder *) f;
        pid_t other;
        int r;

        (void) pthread_mutex_lock(&d->mutex);
        r = open_and_lock(d, &other);
        if (r >= 0)
                r = d->fd;
        (void) pthread_mutex_unlock(&d->mutex);
        return r;
}

/* A directory that cannot be made has no files. One that is there, but cannot be opened, may have some. */
static int fd_to_read(Folder *f) {
        int fd = fd_to_write(f);

        return is_refusal(fd) && access(f->path, F_OK) < 0 && errno == ENOENT ? -ENOENT : fd;
}

/* --- operations ----------------------------------------------------------------------------------------- */

static int directory_folder_read(Folder *f, const char *name, size_t max, char **ret, size_t *ret_size) {
        int fd = fd_to_read(f);

        return fd < 0 ? fd : file_read_at(fd, name, max, ret, ret_size);
}

static int directory_folder_write(Folder *f, const char *name, const char *text, size_t size, mode_t mode,
                                  gid_t gid) {
        int fd = fd_to_write(f);

        return fd < 0 ? fd : file_write_atomic(fd, name, text, size, mode, gid);
}

/* Each slow step is done for all files before the next step begins. So the file system commits its journal a
 * few times, rather than once for every file. */
static void commit_batch(int fd, FileCommit *files, size_t n) {
        FileDraft drafts[BATCH_MAX];
        int r;

        for (size_t k = 0; k < n; k++)
                files[k].r = file_draft_write(&drafts[k], fd, files[k].name, files[k].text,
                                              strlen(files[k].text), 0600, (gid_t) -1);
        for (size_t k = 0; k < n; k++)
                if (files[k].r >= 0)
                        files[k].r = file_draft_sync(&drafts[k]);
        for (size_t k = 0; k < n; k++) {
                if (files[k].r >= 0)
                        files[k].r = file_draft_rename(&drafts[k], fd, files[k].name);
                if (files[k].r < 0)
                        file_draft_discard(&drafts[k], fd);
        }

        r = directory_sync(fd);
        for (size_t k = 0; k < n; k++)
                if (files[k].r >= 0)
                        files[k].r = r;
}

static void directory_folder_commit(Folder *f, FileCommit *files, size_t n) {
        int fd = fd_to_write(f);

        for (size_t k = 0; fd < 0 && k < n; k++)
                files[k].r = fd;
        for (size_t k = 0; fd >= 0 && k < n; k += BATCH_MAX)
                commit_batch(fd, files + k, MIN(n - k, (size_t) BATCH_MAX));
}

static int remove_by(Folder *f, const char *name, int flags) {
        int fd = fd_to_read(f);

        if (fd < 0)
                return fd;
        return unlinkat(fd, name, flags) < 0 ? -errno : 0;
}

static int directory_folder_remove(Folder *f, const char *name) {
        return remove_by(f, name, 0);
}

static int directory_folder_remove_folder(Folder *f, const char *name) {
        return remove_by(f, name, AT_REMOVEDIR);
}

static int directory_folder_rename(Folder *f, const char *from, const char *to) {
        int fd = fd_to_read(f);

        if (fd < 0)
                return fd;
        return renameat(fd, from, fd, to) < 0 ? -errno : 0;
}

static int directory_folder_sync(Folder *f) {
        int fd = fd_to_write(f);

        return fd < 0 ? fd : directory_sync(fd);
}

static int directory_folder_list(Folder *f, bool (*is_wanted)(const char *name), char ***ret) {
        int fd = fd_to_read(f);

        return fd < 0 ? fd : directory_list(fd, is_wanted, ret);
}

static int directory_folder_look(Folder *f, const char *name, FileFacts *ret) {
        int fd = fd_to_read(f);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        *ret = (FileFacts){ .is_regular = S_ISREG(st.st_mode),
                            .size = (size_t) st.st_size,
                            .mode = st.st_mode & 07777,
                            .uid = st.st_uid,
                            .gid = st.st_gid };
        return 0;
}

static Folder *directory_folder_free(Folder *f) {
        DirectoryFolder *d = (DirectoryFolder *) f;

        closep(&d->lock_fd);
        closep(&d->fd);
        (void) pthread_mutex_destroy(&d->mutex);
        free(d->lock_name);
        free(d->path);
        free(d);
        return NULL;
}

static int folder_new(const char *path, mode_t mode, Folder **ret);

/* Takes ownership of the descriptor if it succeeds. */
static int folder_inside(Folder *f, const char *name, int fd, Folder **ret) {
        _cleanup_(freep) char *path = text_format("%s/%s", f->path, name);
        int r;

        if (!path)
                return -ENOMEM;
        r = folder_new(path, 0, ret);
        if (r >= 0)
                ((DirectoryFolder *) *ret)->fd = fd;
        return r;
}

static int directory_folder_make_folder(Folder *f, const char *name, mode_t mode, gid_t gid, Folder **ret) {
        _cleanup_(closep) int fd = -1;
        int dir_fd = fd_to_write(f), r;

        if (dir_fd < 0)
                return dir_fd;
        r = directory_make_at(dir_fd, name, mode, gid, &fd);
        if (r < 0)
                return r;
        (void) directory_remove_temporaries(fd);
        r = folder_inside(f, name, fd, ret);
        if (r >= 0)
                (void) TAKE_FD(fd);
        return r;
}

static int directory_folder_open_folder(Folder *f, const char *name, Folder **ret) {
        _cleanup_(closep) int fd = -1;
        int dir_fd = fd_to_read(f), r;

        if (dir_fd < 0)
                return dir_fd;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        r = folder_inside(f, name, fd, ret);
        if (r >= 0)
                (void) TAKE_FD(fd);
        return r;
}

static const FolderOperations directory_folder_operations = {
        .read = directory_folder_read,
        .write = directory_folder_write,
        .commit = directory_folder_commit,
        .remove = directory_folder_remove,
        .rename = directory_folder_rename,
        .sync = directory_folder_sync,
        .list = directory_folder_list,
        .look = directory_folder_look,
        .make_folder = directory_folder_make_folder,
        .open_folder = directory_folder_open_folder,
        .remove_folder = directory_folder_remove_folder,
        .free = directory_folder_free,
};

static int folder_new(const char *path, mode_t mode, Folder **ret) {
        DirectoryFolder *d = malloc(sizeof(*d));

        if (!d)
                return -ENOMEM;
        *d = (DirectoryFolder){ .folder.operations = &directory_folder_operations,
                                .path = strdup(path),
                                .mode = mode,
                                .mutex = PTHREAD_MUTEX_INITIALIZER,
                                .fd = -1,
                                .lock_fd = -1 };
        d->folder.path = d->path;
        if (!d->path) {
                directory_folder_free(&d->folder);
                return -ENOMEM;
        }

        *ret = &d->folder;
        return 0;
}

int directory_folder_new(const char *path, mode_t mode, Folder **ret) {
        _cleanup_(folder_freep) Folder *f = NULL;
        int r;

        r = folder_new(path, mode, &f);
        if (r < 0)
                return r;
        r = fd_to_write(f);
        if (r < 0 && !is_refusal(r))
                return r;

        *ret = TAKE_PTR(f);
        return 0;
}

/* The mutex must be held. */
static int lock_folder(DirectoryFolder *d, pid_t *ret_pid) {
        int r;

        if (d->fd < 0)
                return open_and_lock(d, ret_pid);
        r = lock_directory(d->fd, d->lock_name, &d->lock_fd, ret_pid);
        if (r < 0) { /* without its lock the folder is not used */
                (void) close(d->fd);
                d->fd = -1;
        }
        return r;
}

int directory_folder_lock(Folder *f, const char *name, pid_t *ret_pid) {
        DirectoryFolder *d = (DirectoryFolder *) f;
        int r;

        *ret_pid = 0;
        assert(!d->lock_name);
        d->lock_name = strdup(name);
        if (!d->lock_name)
                return -ENOMEM;
        (void) pthread_mutex_lock(&d->mutex);
        r = lock_folder(d, ret_pid);
        (void) pthread_mutex_unlock(&d->mutex);
        return is_refusal(r) ? 0 : r;
}

/* The mutex must be held. */
static bool is_replaced(const DirectoryFolder *d) {
        struct stat ours, there;

        return fstat(d->fd, &ours) >= 0 &&
               (stat(d->path, &there) < 0 ? errno == ENOENT
                                          : ours.st_dev != there.st_dev || ours.st_ino != there.st_ino);
}

/* The mutex must be held. Other threads may be using the descriptor, so it keeps its number. */
static int open_other(DirectoryFolder *d, pid_t *ret_pid) {
        DirectoryFolder other = {
                .path = d->path, .mode = d->mode, .fd = -1, .lock_fd = -1, .lock_name = d->lock_name
        };
        int r;

        r = open_and_lock(&other, ret_pid);
        if (r < 0)
                return r;
        r = dup3(other.fd, d->fd, O_CLOEXEC) < 0 ? -errno : 1;
        closep(&other.fd);
        if (r > 0) {
                int lock_fd = d->lock_fd;

                d->lock_fd = other.lock_fd;
                other.lock_fd = lock_fd;
        }
        closep(&other.lock_fd);
        return r;
}

int directory_folder_renew(Folder *f, pid_t *ret_pid) {
        DirectoryFolder *d = (DirectoryFolder *) f;
        int r = 0;

        *ret_pid = 0;
        (void) pthread_mutex_lock(&d->mutex);
        if (d->fd < 0) {
                r = open_and_lock(d, ret_pid);
                r = r < 0 ? r : 1;
        } else if (is_replaced(d))
                r = open_other(d, ret_pid);
        (void) pthread_mutex_unlock(&d->mutex);
        return r;
}

bool directory_folder_is_open(Folder *f) {
        DirectoryFolder *d = (DirectoryFolder *) f;
        bool is_open;

        (void) pthread_mutex_lock(&d->mutex);
        is_open = d->fd >= 0;
        (void) pthread_mutex_unlock(&d->mutex);
        return is_open;
}
