/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "basic/files.h"
#include "basic/text.h"
#include "checks.h"
#include "disk.h"
#include "dpsd/identity-view.h"
#include "machine.h"
#include "memory.h"

#define N_FAR 2     /* file systems to which links lead from the files of one identity … */
#define N_SYSTEMS 3 /* … and the one on which a directory of the search path is */
#define DAEMON IDENTITIES_MAX
/* In so much time a file that answers again has been read: the longest wait between two looks is 10 minutes. */
#define BACK_USEC (12 * USEC_PER_MINUTE)

static const char *const systems[N_SYSTEMS] = { "far-0", "far-1", "more" };

typedef struct ConfFile {
        ConfPlace place;
        unsigned system;
        char *main, *drop_in;   /* as they are to be; NULL: not there */
        bool is_written;        /* and they are so */
        uint64_t there_usec;    /* since when there is a file; 0: there is none */
        bool is_doubtful;       /* it cannot be expected that dpsd has it right … */
        uint64_t doubtful_usec; /* … or could not be then */
} ConfFile;

struct Files {
        Sim *sim;
        char root[PATH_MAX];
        ConfFile confs[IDENTITIES_MAX + 1];
        bool hang[N_SYSTEMS];
        unsigned n_hanging;
        bool is_slow_load; /* one that was under way while the machine stalled is not over yet */
        Event *end;        /* of what hangs */
};

static Files *files; /* of the simulation that runs */

/* ---- where they are ---- */

/* Behind the directory and the name. */
static const struct {
        bool main_is_far;
        const char *drop_in; /* far; NULL: what it would hold is in the main file */
        const char *link;    /* in the directory of the configuration … */
        const char *target;  /* … to this, of the directory of all, the file system and the name */
} forms[_CONF_PLACE_MAX] = {
        [CONF_LINK] = { true, NULL, ".conf", "%s/%s/%s.conf" },
        [CONF_DROP_IN] = { false, ".drop-in", ".conf.d/10.conf", "%s/%s/%s.drop-in" },
        [CONF_DROP_INS] = { false, ".conf.d/10.conf", ".conf.d", "%s/%s/%s.conf.d" },
        [CONF_DIRECTORY] = { true, NULL, NULL, NULL },
};

static char *path_below(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *path_below(const char *format, ...) {
        char rest[NAME_MAX];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(rest, sizeof(rest), format, ap);
        va_end(ap);
        return sim_format("%s/%s", files->sim->options.directory, rest);
}

static void name_of(const ConfFile *c, char ret[static 16]) {
        unsigned k = (unsigned) (c - files->confs);

        if (k == DAEMON)
                memcpy(ret, "dpsd", 5);
        else
                machine_name(k, ret);
}

/* NULL: there is no such file. */
static char *path_of(const ConfFile *c, bool is_far, const char *suffix) {
        char name[16];

        name_of(c, name);
        return suffix ? path_below("%s/%s%s", is_far ? systems[c->system] : "etc", name, suffix) : NULL;
}

static char *main_path(const ConfFile *c) {
        return path_of(c, forms[c->place].main_is_far, ".conf");
}

static void make_directory_of(const char *path) {
        char *directory = sim_copy(path);

        *strrchr(directory, '/') = 0;
        if (mkdir(directory, 0700) < 0 && errno != EEXIST)
                abort();
        sim_free(directory);
}

/* `text` NULL: it is removed. Takes the path. */
static void write_file(char *path, const char *text) {
        FILE *file;

        if (path && !text)
                (void) unlink(path);
        else if (path) {
                make_directory_of(path);
                file = fopen(path, "we");
                if (!file || fputs(text, file) < 0 || fclose(file) != 0)
                        abort();
        }
        sim_free(path);
}

static void make_link(const ConfFile *c) {
        char *link = path_of(c, false, forms[c->place].link), *target, name[16];

        if (!link)
                return;
        name_of(c, name);
        target = sim_format(forms[c->place].target, files->root, systems[c->system], name);
        make_directory_of(link);
        if (symlink(target, link) < 0 && errno != EEXIST)
                abort();
        sim_free(target);
        sim_free(link);
}

static void remove_directory(char *path) {
        (void) rmdir(path);
        sim_free(path);
}

static void remove_all(const ConfFile *c) {
        char name[16];

        name_of(c, name);
        write_file(path_of(c, false, forms[c->place].link), NULL);
        write_file(main_path(c), NULL);
        write_file(path_of(c, true, forms[c->place].drop_in), NULL);
        remove_directory(path_below("etc/%s.conf.d", name));
        remove_directory(path_below("%s/%s.conf.d", systems[c->system], name));
}

static bool is_far(const ConfFile *c) {
        return c->place != CONF_HERE;
}

static bool hangs(const ConfFile *c) {
        return is_far(c) && files->hang[c->system];
}

static void write_all(ConfFile *c) {
        bool has_drop_in = forms[c->place].drop_in;
        char *text;

        if (c->is_written || (hangs(c) && c->place != CONF_NAMES_FILES))
                return;
        c->is_written = true;
        if (!c->main) {
                remove_all(c);
                c->there_usec = 0;
                return;
        }
        text = sim_format("%s%s", c->main, has_drop_in || !c->drop_in ? "" : c->drop_in);
        write_file(main_path(c), text);
        write_file(path_of(c, true, forms[c->place].drop_in), c->drop_in);
        make_link(c);
        sim_free(text);
        if (c->there_usec == 0)
                c->there_usec = files->sim->now_usec + 1;
}

void files_put(Files *f, unsigned k, const char *main, const char *drop_in) {
        ConfFile *c = &f->confs[k];

        if (!streq_ptr(c->main, main) || !streq_ptr(c->drop_in, drop_in)) {
                sim_free(c->main);
                sim_free(c->drop_in);
                c->main = sim_copy(main);
                c->drop_in = sim_copy(drop_in);
                c->is_written = false;
                c->is_doubtful = true;
        }
        write_all(c);
}

const char *files_registration_id(const Files *f, unsigned k, const char *id) {
        const ConfFile *c = &f->confs[k];
        static char text[PATH_MAX];
        char *path = path_below("%s/%s", systems[c->system], id);

        if (c->place == CONF_NAMES_FILES) {
                write_file(sim_copy(path), id);
                (void) snprintf(text, sizeof(text), "%%{file:%s}", path);
        } else
                (void) snprintf(text, sizeof(text), "%s", id);
        sim_free(path);
        return text;
}

/* ---- what hangs ---- */

bool files_any_hangs(const Files *f) {
        return f->n_hanging > 0;
}

/* A directory of the search path may hold drop-ins for everybody, and dpsd.conf has what all have in common. */
bool files_are_hidden(const Files *f, unsigned k) {
        return f->hang[N_FAR] || hangs(&f->confs[DAEMON]) || hangs(&f->confs[k]);
}

bool files_hang_at(const char *path, bool follows) {
        size_t n = strlen(files->root);
        char parent[PATH_MAX], real[PATH_MAX];
        const char *slash = strrchr(path, '/');

        if (files->n_hanging == 0 || !slash)
                return false;
        (void) snprintf(parent, sizeof(parent), "%.*s", (int) (slash - path), path);
        if (!(follows && realpath(path, real)) && !realpath(parent, real))
                return false;
        for (unsigned k = 0; k < N_SYSTEMS; k++)
                if (files->hang[k] && startswith(real, files->root) && real[n] == '/' &&
                    startswith(real + n + 1, systems[k]))
                        return true;
        return false;
}

int files_statx(const char *path, struct statx *ret) {
        size_t n = strlen(files->root);
        char real[PATH_MAX];

        if (files_hang_at(path, false) || statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, ret) < 0)
                return -1;
        for (unsigned k = 0; k < N_SYSTEMS; k++)
                if (!S_ISLNK(ret->stx_mode) && realpath(path, real) && startswith(real, files->root) &&
                    real[n] == '/' && streq(real + n + 1, systems[k]))
                        ret->stx_attributes |= STATX_ATTR_MOUNT_ROOT;
        return 0;
}

bool files_hold(const WorkClass *class, const void *task) {
        const char *name = class->queue == WORK_KEYS && class->whose ? class->whose(task) : "";
        const ConfFile *c;

        if (files->n_hanging == 0 || !startswith(name, "id"))
                return false;
        c = &files->confs[(unsigned) atoi(name + 2) % IDENTITIES_MAX];
        return c->place == CONF_NAMES_FILES && hangs(c);
}

static void set_hanging(unsigned system, bool on) {
        files->n_hanging += (unsigned) on - (unsigned) files->hang[system];
        files->hang[system] = on;
}

/* Returns whether somebody has waited to write, and tells dpsd of it now. */
static bool answer_all(Sim *s) {
        bool has_written = false;

        for (unsigned k = 0; k < N_SYSTEMS; k++)
                set_hanging(k, false);
        for (unsigned k = 0; k <= DAEMON; k++) {
                has_written = has_written || !s->files->confs[k].is_written;
                write_all(&s->files->confs[k]);
        }
        core_enter();
        looks_go_on();
        core_leave();
        if (s->machine->world)
                sim_world_go_on(s->machine->world);
        return has_written;
}

/* Promise: what may hang is only touched by threads that may hang with it. */
static bool touches(const char *path, bool follows, const char *what) {
        if (!files || !files_hang_at(path, follows))
                return false;
        found(files->sim, "what hangs is asked by threads of its own", "%s: %s", what, path);
        errno = ETIMEDOUT;
        return true;
}

#pragma GCC visibility push(default)
int __real_stat(const char *path, struct stat *ret);
int __wrap_stat(const char *path, struct stat *ret);
int __real_lstat(const char *path, struct stat *ret);
int __wrap_lstat(const char *path, struct stat *ret);
int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
int __real_file_read(const char *path, size_t max, char **ret, size_t *ret_size);
int __wrap_file_read(const char *path, size_t max, char **ret, size_t *ret_size);
#pragma GCC visibility pop

int __wrap_stat(const char *path, struct stat *ret) {
        return touches(path, true, "stat") ? -1 : __real_stat(path, ret);
}

int __wrap_lstat(const char *path, struct stat *ret) {
        return touches(path, false, "lstat") ? -1 : __real_lstat(path, ret);
}

int __wrap_access(const char *path, int mode) {
        return touches(path, true, "access") ? -1 : __real_access(path, mode);
}

DIR *__wrap_opendir(const char *path) {
        return touches(path, true, "opendir") ? NULL : __real_opendir(path);
}

int __wrap_file_read(const char *path, size_t max, char **ret, size_t *ret_size) {
        return touches(path, true, "read") ? -ETIMEDOUT : __real_file_read(path, max, ret, ret_size);
}

/* ---- deeds ---- */

static void move(ConfFile *c, ConfPlace place, unsigned system) {
        if (hangs(c) || files->hang[system])
                return;
        remove_all(c);
        c->place = place;
        c->system = place == CONF_DIRECTORY ? N_FAR : system;
        c->is_written = false;
        write_all(c);
}

void files_hang(Sim *s, unsigned k) {
        const ConfFile *c = &s->files->confs[k];

        set_hanging(c->system, true);
        trace(s, "files: %s hangs", systems[c->system]);
}

static void on_end(Sim *s, void *userdata) {
        Machine *m = s->machine;
        Random r = random_of(s->options.seed, "files answer", s->now_usec);

        s->files->end = NULL;
        trace(s, "files: all answer");
        if (answer_all(s))
                machine_reload(m);
        if (m->manager && random_chance(&r, 30)) { /* it was mounted anew */
                core_enter();
                loader_look(&m->loader);
                core_leave();
        }
        checks_step(s);
}

void files_disturb(Sim *s, Random *r) {
        static const uint64_t waits[] = { 10 * USEC_PER_SEC, 10 * USEC_PER_MINUTE, USEC_PER_DAY };
        unsigned n = s->options.n_identities, chosen = (unsigned) random_below(r, n + 1),
                 k = chosen < n ? chosen : DAEMON, system = (unsigned) random_below(r, N_FAR);
        ConfFile *c = &s->files->confs[k];
        ConfPlace place = (ConfPlace) random_below(r, _CONF_PLACE_MAX);
        uint64_t wait = random_wait_usec(r, waits[random_below(r, ELEMENTSOF(waits))]);

        if (random_chance(r, 60)) {
                move(c, k == DAEMON && place != CONF_HERE ? CONF_LINK : place, system);
                trace(s, "files: configuration %u is at place %d now", k, (int) c->place);
                machine_reload(s->machine);
        }
        if (!is_far(c) || random_chance(r, 20))
                return;
        files_hang(s, k);
        event_cancel(s, s->files->end);
        s->files->end = event_add(s, s->now_usec + wait, on_end, NULL);
        if (random_chance(r, 60))
                machine_reload(s->machine);
        else if (random_chance(r, 60) && s->machine->manager) {
                machine_kill(s->machine, 0);
                machine_start_later(s->machine, random_wait_usec(r, 2 * USEC_PER_SEC));
        }
}

void files_mend(Sim *s) {
        s->files->end = event_cancel(s, s->files->end);
        (void) answer_all(s);
}

void files_place(Sim *s, unsigned k, ConfPlace place) {
        for (unsigned j = 0; j <= DAEMON; j++)
                move(&s->files->confs[j], CONF_HERE, 0);
        move(&s->files->confs[k], place, 0);
        trace(s, "files: configuration %u is at place %d now, all others are here", k, (int) place);
        machine_reload(s->machine);
}

/* ---- what must hold ---- */

static bool is_doubtful(const Sim *s, unsigned k) {
        const ConfFile *c = &s->files->confs[k];
        const Machine *m = s->machine;

        return !m->manager || files_are_hidden(s->files, k) || m->confs[k].is_broken || c->there_usec == 0 ||
               !c->is_written || m->is_to_reload || s->files->is_slow_load;
}

/* Promise: what answers again is read again, and nobody has to ask for it. */
void files_step(Sim *s, bool had_memory) {
        Files *f = s->files;

        f->is_slow_load =
                s->machine->slowness.usec[WORK_KEYS] > 0 || (f->is_slow_load && s->machine->loader.task);
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                ConfFile *c = &f->confs[k];
                const Identity *i = machine_identity(s->machine, k);
                bool was_doubtful = c->is_doubtful;

                c->is_doubtful = !had_memory || is_doubtful(s, k);
                if (c->is_doubtful || was_doubtful)
                        c->doubtful_usec = s->now_usec;
                else if (s->now_usec > c->doubtful_usec + BACK_USEC && (!i || i->configuration.fault))
                        found(s, "a configuration that answers again is read again", "identity %u: %s", k,
                              i ? i->configuration.fault->message : "it is not there");
        }
}

/* Promise: who was assigned is served from the start on, whatever its configuration does. */
void files_started(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++)
                if (s->files->confs[k].there_usec > 0 && checks_record_is_served(s, k) &&
                    disk_fault(s->disk) != DISK_FAULT_BROKEN && !machine_identity(s->machine, k))
                        found(s, "who was assigned is served from the start on", "identity %u is not there",
                              k);
}

/* Promise: nobody is retired whose file is there. What the load has not seen yet does not count. */
void files_removed(Sim *s, unsigned k) {
        uint64_t there = s->files->confs[k].there_usec;

        if (there > 0 && there < s->machine->load_usec)
                found(s, "nobody is retired whose configuration is there", "identity %u", k);
}

static void check_identity(Sim *s, const char *promise, unsigned k) {
        const Identity *i = machine_identity(s->machine, k);

        if (!i || i->state != IDENTITY_ASSIGNED ||
            (!files_are_hidden(s->files, k) && (i->outputs != OUTPUTS_COMPLETE || !identity_is_healthy(i))))
                found(s, promise, "identity %u is %s: %s", k,
                      i ? identity_state_to_string(i->state) : "not there",
                      i && i->configuration.fault ? i->configuration.fault->message : "");
}

void files_check_all(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++)
                check_identity(s,
                               files_any_hangs(s->files)
                                       ? "while a configuration hangs, everybody is served"
                                       : "when a configuration answers again, everybody is healthy",
                               k);
}

/* ---- begin and end ---- */

static void make_directory(const char *name) {
        char *path = path_below("%s", name);

        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                abort();
        sim_free(path);
}

Files *files_new(Sim *s) {
        char *search, *elsewhere;

        files = s->files = sim_alloc(sizeof(*files));
        files->sim = s;
        if (!realpath(s->options.directory, files->root))
                abort();
        for (unsigned k = 0; k <= DAEMON; k++)
                files->confs[k].is_written = true;
        make_directory("etc");
        for (unsigned k = 0; k < N_SYSTEMS; k++)
                make_directory(systems[k]);
        elsewhere = path_below("elsewhere");
        if (symlink(systems[N_FAR], elsewhere) < 0 && errno != EEXIST)
                abort();
        search = path_below("etc:%s", elsewhere);
        (void) setenv("CONFIGURATION_DIRECTORY", search, 1);
        sim_free(search);
        sim_free(elsewhere);
        return files;
}

static void remove_ids(unsigned k) {
        for (unsigned system = 0; system < N_FAR; system++) {
                write_file(path_below("%s/dev-%u", systems[system], k), NULL);
                write_file(path_below("%s/alt-%u", systems[system], k), NULL);
        }
}

Files *files_free(Files *f) {
        for (unsigned k = 0; k <= DAEMON; k++) {
                remove_all(&f->confs[k]);
                remove_ids(k);
                sim_free(f->confs[k].main);
                sim_free(f->confs[k].drop_in);
        }
        for (unsigned k = 0; k < N_SYSTEMS; k++)
                remove_directory(path_below("%s", systems[k]));
        remove_directory(path_below("etc"));
        write_file(path_below("elsewhere"), NULL);
        sim_free(f);
        return files = NULL;
}
