/* SPDX-License-Identifier: MIT */
#include "consumers/consumers.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <syslog.h>

#include "basic/contract.h"
#include "basic/files.h"
#include "basic/text.h"
#include "config/conf.h"
#include "config/settings.h"
#include "consumers/change.h"
#include "consumers/units.h"

static void say(int level, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void say(int level, const char *name, const char *format, ...) {
        va_list ap;

        (void) fprintf(stderr, "<%d>%s: ", level, name);
        va_start(ap, format);
        (void) vfprintf(stderr, format, ap);
        va_end(ap);
        (void) fputc('\n', stderr);
}

/* ---- which units ---- */

static bool is_roots(const char *path, struct stat *ret) {
        return stat(path, ret) >= 0 && ret->st_uid == 0 && !(ret->st_mode & 022);
}

/* Whoever can change a line can have any unit restarted, so it must be root alone. The directory counts, too: who can write
 * to it can replace the file. */
static bool line_is_trusted(const ConfLine *line, const char *name) {
        _cleanup_(freep) char *copy = strdup(line->file);
        const char *path = line->file;
        struct stat st = { 0 };

        if (copy && is_roots(path, &st)) {
                path = dirname(copy);
                if (is_roots(path, &st))
                        return true;
        }
        say(LOG_ERR, name,
            "%s:%u: %s= is not followed, because not only root can write to %s (owner %u, mode %04o): "
            "chown root %s; chmod go-w %s",
            line->file, line->line, line->key, path, (unsigned) st.st_uid, (unsigned) st.st_mode & 07777,
            path, path);
        return false;
}

static bool lines_are_trusted(const Conf *conf, const char *name) {
        for (size_t k = 0; conf && k < conf->n_lines; k++) {
                const ConfLine *line = &conf->lines[k];

                if (streq(line->section, "Hub") &&
                    (streq(line->key, "RestartUnits") || streq(line->key, "ReloadUnits")) &&
                    !line_is_trusted(line, name))
                        return false;
        }
        return true;
}

/* Faults elsewhere in the files are reported by the daemon, and do not concern the units. 0: there are no
 * units, or root has not named them. */
static int read_units(const Consumers *c, const char *name, Settings **ret) {
        _cleanup_(conf_freep) Conf *defaults = NULL, *own = NULL;
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(settings_unrefp) Settings *s = NULL;
        int r;

        r = conf_load(c->directories, "dpsd", &report, &defaults);
        if (r >= 0 || r == -ENOENT)
                r = conf_load(c->directories, name, &report, &own);
        if (r < 0)
                return r == -ENOENT ? 0 : r; /* it was removed in the meantime */
        r = settings_from_conf(defaults, own, &report, &s);
        if (r < 0)
                return r;
        if ((!s->restart_units && !s->reload_units) || !lines_are_trusted(defaults, name) ||
            !lines_are_trusted(own, name))
                return 0;
        *ret = TAKE_PTR(s);
        return 1;
}

/* ---- what has changed ---- */

static int read_files(const Consumers *c, const char *name, Digests *ret, uint64_t *ret_changed_at_usec) {
        _cleanup_(closep) int fd =
                openat(c->runtime_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? -errno : digests_read(fd, ret, ret_changed_at_usec);
}

static Change find_change(const Consumers *c, const char *name, const Digests *now) {
        _cleanup_(freep) char *text = NULL;
        Digests old;
        bool is_known;

        is_known = file_read_at(c->state_fd, name, DIGESTS_TEXT_MAX, &text, NULL) >= 0 &&
                   digests_from_text(text, &old) >= 0;
        return digests_compare(is_known ? &old : NULL, now);
}

static int remember(const Consumers *c, const char *name, const Digests *d) {
        char text[DIGESTS_TEXT_MAX];

        digests_to_text(d, text);
        return file_write_atomic(c->state_fd, name, text, strlen(text), 0600, (gid_t) -1);
}

/* ---- telling ---- */

static int tell_units(const Consumers *c, const char *name, char *const *units, char *const *others,
                      UnitVerb verb, Change change, uint64_t changed_at_usec) {
        int result = 0;

        STRV_FOREACH(unit, units) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                int r;

                if (strv_contains(others, *unit))
                        continue;
                r = unit_tell(c->bus, *unit, verb, changed_at_usec, &error);
                if (r > 0)
                        say(LOG_INFO, name, "%s is %s, because %s", *unit,
                            verb == UNIT_RESTART ? "restarted" : "reloaded",
                            change == CHANGE_CONNECTION ? "its connection to the hub has changed"
                                                        : "its credential is new");
                else if (r == -ENOENT)
                        say(LOG_WARNING, name, "there is no unit %s, which %s= names; correct its name",
                            *unit, verb == UNIT_RESTART ? "RestartUnits" : "ReloadUnits");
                else if (r < 0) {
                        say(LOG_ERR, name, "%s cannot be %s, trying again in 30 s: %s", *unit,
                            verb == UNIT_RESTART ? "restarted" : "reloaded", error.message ?: strerror(-r));
                        result = -EAGAIN;
                }
        }
        return result;
}

int consumers_tell(const Consumers *c, const char *name) {
        _cleanup_(settings_unrefp) Settings *s = NULL;
        uint64_t changed_at_usec;
        bool is_large;
        Change change;
        Digests now;
        int r, k;

        r = read_units(c, name, &s);
        if (r == 0)
                return 0;
        if (r > 0)
                r = read_files(c, name, &now, &changed_at_usec);
        if (r == -ENOENT)
                return 0; /* there is no assignment any more; the next one raises the flag again */
        if (r < 0) {
                say(LOG_ERR, name, "its units cannot be told of a change, trying again in 30 s: %s",
                    strerror(-r));
                return -EAGAIN;
        }
        change = find_change(c, name, &now);
        if (change == CHANGE_NONE)
                return 0;
        /* A unit that is named twice is reloaded for a credential, and restarted for anything else. */
        is_large = change == CHANGE_CONNECTION;
        r = tell_units(c, name, s->restart_units, is_large ? NULL : s->reload_units, UNIT_RESTART, change,
                       changed_at_usec);
        k = tell_units(c, name, s->reload_units, is_large ? s->restart_units : NULL, UNIT_RELOAD, change,
                       changed_at_usec);
        if (r < 0 || k < 0)
                return -EAGAIN;
        r = remember(c, name, &now);
        if (r < 0)
                say(LOG_ERR, name, "what its units were told cannot be saved, so they may be told again: %s",
                    strerror(-r));
        return 0;
}

/* ---- flags ---- */

/* In our own directory, since what we put into dpsd's it could not remove: a flag with this before the name. No name of an
 * identity begins so. */
#define AGAIN "+"

static bool is_entry(const char *name) {
        return !streq(name, ".") && !streq(name, "..");
}

static bool is_again(const char *name) {
        return startswith(name, AGAIN) && conf_name_is_valid(name + strlen(AGAIN));
}

/* Takes a flag of ours down if it is up, or puts it up. */
static int set_again(const Consumers *c, const char *name, bool again) {
        char flag[NAME_MAX + 1];

        (void) snprintf(flag, sizeof(flag), AGAIN "%s", name);
        if (again)
                return mkdirat(c->state_fd, flag, 0700) < 0 && errno != EEXIST ? -errno : 0;
        return unlinkat(c->state_fd, flag, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int tell(const Consumers *c, const char *name) {
        int r = consumers_tell(c, name), k = set_again(c, name, r < 0);

        return r < 0 ? r : k;
}

/* Takes down dpsd's flags before their units are told, so that a change from then on raises them again. What dpsd would not
 * put there must go, too, or the path unit would start us for ever. */
static int tell_flagged(const Consumers *c) {
        _cleanup_(closep) int fd =
                openat(c->runtime_fd, CONSUMERS_FLAGS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_(strv_freep) char **names = NULL;
        int result = 0, r;

        r = fd < 0 ? -errno : directory_list(fd, is_entry, &names);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        STRV_FOREACH(name, names) {
                r = unlinkat(fd, *name, AT_REMOVEDIR) >= 0 ||
                                    (errno == ENOTDIR && unlinkat(fd, *name, 0) >= 0)
                            ? 0
                            : -errno;
                if (r == 0 && conf_name_is_valid(*name))
                        r = tell(c, *name);
                if (r < 0 && r != -ENOENT)
                        result = r;
        }
        return result;
}

int consumers_tell_all(const Consumers *c) {
        _cleanup_(strv_freep) char **again = NULL;
        int result, r;

        r = directory_list(c->state_fd, is_again, &again);
        if (r < 0)
                return r;
        result = tell_flagged(c);
        STRV_FOREACH(name, again) {
                r = tell(c, *name + strlen(AGAIN));
                if (r < 0)
                        result = r;
        }
        return result;
}
