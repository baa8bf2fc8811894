/* SPDX-License-Identifier: MIT */
#include "config/secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/text.h"
#include "basic/why.h"
#include "config/conf.h"

#define CREDENTIAL_PREFIX "credential:"

static int refuse_reference(char **ret_why) {
        _cleanup_(freep) char *directory = conf_directory_shown();

        return why(ret_why, -EINVAL,
                   "must be credential:NAME or the absolute path of a file (the value is not shown); to put "
                   "this secret into a file: " SECRET_INSTALL " /dev/stdin %s/NAME.key",
                   directory ?: "/etc/dps");
}

/* --- references ----------------------------------------------------------------------------------------- */

bool credential_name_is_valid(const char *name) {
        if (isempty(name) || strlen(name) > NAME_MAX || streq(name, ".") || streq(name, ".."))
                return false;
        for (const char *p = name; *p; p++)
                if (*p <= ' ' || *p >= 0x7f || *p == '/' || *p == ':')
                        return false;
        return true;
}

/* One key in 64 begins with a slash in base64, as a path does. No path ends with the padding of base64. */
static bool looks_like_base64(const char *text) {
        for (const char *p = text; *p && *p != '='; p++)
                if (!isalnum((unsigned char) *p) && *p != '+' && *p != '/')
                        return false;
        return endswith(text, "=");
}

int secret_check(const char *reference, char **ret_why) {
        const char *name = reference;

        if (scan_literal(&name, CREDENTIAL_PREFIX)) {
                if (credential_name_is_valid(name))
                        return 0;
                return why(ret_why, -EINVAL,
                           "the name after credential: must be 1 to 255 printable ASCII characters without "
                           "space, slash or colon");
        }

        if (*reference != '/' || strlen(reference) >= PATH_MAX || looks_like_base64(reference))
                return refuse_reference(ret_why);
        return 0;
}

int credential_find(const char *directory, const char *name, char **ret) {
        static const char *const prefixes[] = { "", "dps_" };

        directory = directory ?: getenv("CREDENTIALS_DIRECTORY");
        for (size_t i = 0; !isempty(directory) && i < ELEMENTSOF(prefixes); i++) {
                _cleanup_(freep) char *path = text_format("%s/%s%s", directory, prefixes[i], name);
                struct stat st;

                if (!path)
                        return -ENOMEM;
                if (stat(path, &st) < 0 && errno == ENOENT)
                        continue;
                *ret = TAKE_PTR(path);
                return 0;
        }
        return -ENOENT;
}

int secret_path(const char *reference, char **ret, char **ret_why) {
        const char *name = reference;
        char *path;
        int r;

        r = secret_check(reference, ret_why);
        if (r < 0)
                return r;
        if (scan_literal(&name, CREDENTIAL_PREFIX)) {
                r = credential_find(NULL, name, ret);
                if (r != -ENOENT)
                        return r;
                return why(ret_why, -EAGAIN,
                           "credential:%s: there is no credential %s or dps_%s; add it to LoadCredential= in "
                           "dpsd's unit",
                           name, name, name);
        }

        path = strdup(reference);
        if (!path)
                return -ENOMEM;
        *ret = path;
        return 0;
}

/* --- who may read the file ------------------------------------------------------------------------------ */

#define OWNER_TEXT_MAX 64
#define DAEMON_GROUP "dpsd"

/* An entry of a user or group with its texts. Several threads of the worker read secrets at a time. */
#define ENTRY_SIZE_MAX 4096

/* The group that may read secrets. */
static gid_t own_gid(void) {
        struct group entry, *group = NULL;
        char texts[ENTRY_SIZE_MAX];

        if (geteuid() == 0)
                (void) getgrnam_r(DAEMON_GROUP, &entry, texts, sizeof(texts), &group);
        return group ? group->gr_gid : getegid();
}

static uid_t own_uid(void) {
        struct passwd entry, *user = NULL;
        char texts[ENTRY_SIZE_MAX];

        if (geteuid() == 0)
                (void) getpwnam_r(DAEMON_GROUP, &entry, texts, sizeof(texts), &user);
        return user ? user->pw_uid : geteuid();
}

/* The owner of a file can let others read it at any time. */
static bool is_foreign(const struct stat *st) {
        return st->st_uid != 0 && st->st_uid != own_uid();
}

/* "root:adm". A user or group without a name is shown as a number. */
static const char *format_owner(uid_t uid, gid_t gid, char buffer[static OWNER_TEXT_MAX]) {
        struct passwd user_entry, *user = NULL;
        struct group group_entry, *group = NULL;
        char texts[ENTRY_SIZE_MAX];
        size_t n;

        (void) getpwuid_r(uid, &user_entry, texts, sizeof(texts), &user);
        if (user)
                (void) snprintf(buffer, OWNER_TEXT_MAX / 2, "%s", user->pw_name);
        else
                (void) snprintf(buffer, OWNER_TEXT_MAX / 2, "%u", (unsigned) uid);
        n = strlen(buffer);
        (void) getgrgid_r(gid, &group_entry, texts, sizeof(texts), &group);
        if (group)
                (void) snprintf(buffer + n, OWNER_TEXT_MAX - n, ":%s", group->gr_name);
        else
                (void) snprintf(buffer + n, OWNER_TEXT_MAX - n, ":%u", (unsigned) gid);
        return buffer;
}

/* The path with the quotes that a shell needs. */
static char *shell_quote(const char *path) {
        char *quoted, *p;

        if (path[strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+:@%")] == 0)
                return strdup(path);

        p = quoted = malloc(4 * strlen(path) + 3);
        if (!quoted)
                return NULL;
        *p++ = '\'';
        for (; *path; path++)
                if (*path == '\'')
                        p = stpcpy(p, "'\\''");
                else
                        *p++ = *path;
        (void) stpcpy(p, "'");
        return quoted;
}

/* Tells of a file on a mount of its own that it must be changed elsewhere, or returns NULL. Secrets of containers are on mounts
 * that are read-only for us; those of Podman are not, and are known by their directory. The sandbox of our unit makes everything
 * read-only for us, and what is on the root file system can be changed outside of it. */
static const char *foreign_mount(const char *path, const struct stat *st) {
        struct statvfs fs;
        struct stat root;

        if (stat("/", &root) < 0 || root.st_dev == st->st_dev)
                return NULL;
        if (statvfs(path, &fs) >= 0 && (fs.f_flag & ST_RDONLY))
                return ", on a mount that is read-only here: where it comes from, set";
        return startswith(path, "/run/secrets/") ? ", a secret from outside: where it comes from, set" : NULL;
}

/* What to do where the file is mounted from, so that this process, and nobody else, can read it. */
static char *correcting_mount(void) {
        if (geteuid() == 0)
                return strdup("mode=0400,uid=0 (Kubernetes: defaultMode: 0400)");
        return text_format("mode=0400,uid=%u (Kubernetes: defaultMode: 0440, fsGroup: %u)",
                           (unsigned) geteuid(), (unsigned) getegid());
}

/* The command after which the daemon and root can read the file, and nobody else. */
static char *correcting_command(const char *path, const struct stat *st) {
        _cleanup_(freep) char *quoted = shell_quote(path);
        bool is_kept = !is_foreign(st);
        gid_t gid = own_gid();
        char owner[OWNER_TEXT_MAX];

        if (!quoted)
                return NULL;
        if (is_kept && (geteuid() == 0 ? gid == 0 : st->st_uid == geteuid()))
                return text_format("chmod 0600 %s", quoted);
        if (is_kept && st->st_gid == gid)
                return text_format("chmod 0640 %s", quoted);
        return text_format("chown %s %s && chmod 0640 %s", format_owner(0, gid, owner), quoted, quoted);
}

static int explain_file(const char *path, const struct stat *st, const char *what, int r, char **ret_why) {
        const char *mount = foreign_mount(path, st);
        _cleanup_(freep) char *remedy = mount ? correcting_mount() : correcting_command(path, st);
        char owner[OWNER_TEXT_MAX];

        if (!remedy)
                return -ENOMEM;
        return why(ret_why, r, "%s: %s (owner %s, mode %04o)%s %s", path, what,
                   format_owner(st->st_uid, st->st_gid, owner), (unsigned) st->st_mode & 07777,
                   mount ?: ": run", remedy);
}

static const char *exposure(const struct stat *st) {
        if (st->st_mode & S_IROTH)
                return "everybody can read it";
        if (st->st_mode & S_IWOTH)
                return "everybody can change it";
        if (st->st_mode & S_IWGRP)
                return "its group can change it";
        if ((st->st_mode & S_IRGRP) && st->st_gid != 0 && st->st_gid != own_gid())
                return "a group other than ours can read it";
        if (is_foreign(st))
                return "a user other than ours owns it";
        return NULL;
}

/* An entry of an ACL as the kernel hands it out, in little endian: after 4 bytes of version, tag (2), permissions (2), id (4). */
#define ACL_VERSION_SIZE 4U
#define ACL_ENTRY_SIZE 8U
#define ACL_ENTRIES_MAX 64U
enum { ACL_NAMED_USER = 2, ACL_NAMED_GROUP = 8 };

/* Whether an ACL lets in somebody whom the mode does not show. The bits of the group are a mask for all of them. */
static bool acl_lets_others_in(int fd, const struct stat *st) {
        uint8_t acl[ACL_VERSION_SIZE + ACL_ENTRIES_MAX * ACL_ENTRY_SIZE];
        ssize_t n = fgetxattr(fd, "system.posix_acl_access", acl, sizeof(acl));

        if (n < 0 || !(st->st_mode & S_IRWXG))
                return n < 0 && errno == ERANGE;
        for (const uint8_t *e = acl + ACL_VERSION_SIZE; e + ACL_ENTRY_SIZE <= acl + n; e += ACL_ENTRY_SIZE) {
                uint32_t id = e[4] | (uint32_t) e[5] << 8 | (uint32_t) e[6] << 16 | (uint32_t) e[7] << 24;

                if (e[2] && id != 0 &&
                    ((e[0] == ACL_NAMED_USER && id != own_uid()) ||
                     (e[0] == ACL_NAMED_GROUP && id != own_gid())))
                        return true;
        }
        return false;
}

/* Whoever can write to the directory can put another file there, and without the sticky bit even in place of
 * ours. */
static bool everybody_can_replace(const char *path, char directory[static PATH_MAX]) {
        const char *slash = strrchr(path, '/');
        struct stat st;

        (void) snprintf(directory, PATH_MAX, "%.*s/", slash ? (int) (slash - path) : 0, path);
        return stat(directory, &st) >= 0 && (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX);
}

static int check_others(const char *path, int fd, const struct stat *st, char **ret_why) {
        _cleanup_(freep) char *quoted = NULL;
        char directory[PATH_MAX];
        const char *what = exposure(st);
        bool has_acl;

        if (what)
                return explain_file(path, st, what, -EPERM, ret_why);
        has_acl = acl_lets_others_in(fd, st);
        if (!has_acl && !everybody_can_replace(path, directory))
                return 0;
        quoted = shell_quote(has_acl ? path : directory);
        if (!quoted)
                return -ENOMEM;
        if (has_acl)
                return why(ret_why, -EPERM, "%s: an ACL gives others access to it: run setfacl -b %s", path,
                           quoted);
        return why(ret_why, -EPERM,
                   "%s: everybody can replace it, as everybody can write in its directory: run chmod o-w %s",
                   path, quoted);
}

static int explain_errno(const char *path, int r, char **ret_why) {
        struct stat st;

        if (r == -EACCES && stat(path, &st) >= 0)
                return explain_file(path, &st, "we cannot read it", r, ret_why);
        return why(ret_why, r, "%s: %s", path, r == -EFBIG ? "larger than 64 kB" : strerror(-r));
}

int secret_read(const char *reference, char **ret, size_t *ret_size, char **ret_why) {
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        struct stat st;
        int r;

        r = secret_path(reference, &path, ret_why);
        if (r < 0)
                return r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0)
                return explain_errno(path, -errno, ret_why);

        if (!S_ISREG(st.st_mode))
                return why(ret_why, -ENOTSUP, "%s: not a regular file", path);
        r = check_others(path, fd, &st, ret_why);
        if (r < 0)
                return r;
        r = file_read_fd(fd, SECRET_SIZE_MAX, ret, ret_size);
        return r < 0 ? explain_errno(path, r, ret_why) : 0;
}
