/* SPDX-License-Identifier: MIT */
#include "dpsd/groups.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>

#include "basic/text.h"

/* Enough for a group of some ten thousand members. */
#define ENTRY_MAX (1024U * 1024)

typedef struct Group {
        struct Group *next;
        Groups *groups;
        char *name;
        int answer; /* what groups_find() returns; 0: not known yet */
        gid_t gid;
        bool is_current;  /* looked up since the last groups_forget() */
        Work *lookup;     /* NULL: no lookup is under way */
        bool is_repeated; /* groups_forget() came during the lookup: another lookup follows it */
} Group;

struct Groups {
        World *world;
        groups_lookup_t lookup;
        groups_handler_t on_found;
        void *userdata;
        Group *groups; /* all that anybody ever asked for */
};

typedef struct Lookup {
        Group *group; /* used only in the loop */
        groups_lookup_t function;
        int r;
        gid_t gid;
        char name[];
} Lookup;

static bool says_that_there_is_none(int error) {
        return error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
}

static int look_up(const char *name, gid_t *ret) {
        for (size_t size = 1024; size <= ENTRY_MAX; size *= 4) {
                _cleanup_(freep) char *text = malloc(size);
                struct group buffer, *found = NULL;
                int error;

                if (!text)
                        return -ENOMEM;
                error = getgrnam_r(name, &buffer, text, size, &found);
                if (error == ERANGE)
                        continue;
                if (!found)
                        return says_that_there_is_none(error) ? -ENOENT : -error;
                *ret = found->gr_gid;
                return 0;
        }
        return -ENOMEM;
}

/* --- one lookup ----------------------------------------------------------------------------------------- */

static void lookup_run(void *task) {
        Lookup *l = task;

        l->r = l->function(l->name, &l->gid);
}

static int begin_lookup(Group *group);

static void lookup_done(void *task) {
        Lookup *l = task;
        Group *group = l->group;
        const Groups *g = group->groups;
        bool is_again = false;

        group->lookup = NULL;
        if (group->is_repeated) {
                group->is_repeated = false;
                is_again = begin_lookup(group) >= 0;
        }
        if (!is_again) {
                group->answer = l->r < 0 ? l->r : 1;
                group->gid = l->gid;
                group->is_current = true;
        }
        free(l);
        if (!is_again)
                g->on_found(group->name, g->userdata);
}

static const WorkClass lookup_class = {
        .queue = WORK_GROUPS,
        .run = lookup_run,
        .done = lookup_done,
        .free = free,
};

static int begin_lookup(Group *group) {
        const Groups *g = group->groups;
        size_t size = strlen(group->name) + 1;
        Lookup *l = malloc(sizeof(*l) + size);
        int r;

        if (!l)
                return -ENOMEM;
        *l = (Lookup){ .group = group, .function = g->lookup };
        memcpy(l->name, group->name, size);
        r = work_begin(g->world, &lookup_class, l, &group->lookup);
        if (r < 0)
                free(l);
        return r;
}

/* --- what is known -------------------------------------------------------------------------------------- */

int groups_new(World *w, groups_lookup_t lookup, groups_handler_t on_found, void *userdata, Groups **ret) {
        Groups *g = malloc(sizeof(*g));

        if (!g)
                return -ENOMEM;
        *g = (Groups){ .world = w, .lookup = lookup ?: look_up, .on_found = on_found, .userdata = userdata };

        *ret = g;
        return 0;
}

Groups *groups_free(Groups *g) {
        Group *next;

        if (!g)
                return NULL;

        for (Group *i = g->groups; i; i = next) {
                next = i->next;
                work_forget(i->lookup);
                free(i->name);
                free(i);
        }
        free(g);
        return NULL;
}

static Group *find(const Groups *g, const char *name) {
        for (Group *i = g->groups; i; i = i->next)
                if (streq(i->name, name))
                        return i;
        return NULL;
}

static int add(Groups *g, const char *name, Group **ret) {
        Group *i = malloc(sizeof(*i));

        if (!i)
                return -ENOMEM;
        *i = (Group){ .groups = g, .next = g->groups, .name = strdup(name) };
        if (!i->name) {
                free(i);
                return -ENOMEM;
        }
        g->groups = i;

        *ret = i;
        return 0;
}

int groups_find(Groups *g, const char *name, gid_t *ret) {
        Group *i = find(g, name);
        int r;

        if (!i) {
                r = add(g, name, &i);
                if (r < 0)
                        return r;
        }
        if (i->is_current)
                return groups_recall(g, name, ret);
        return i->lookup ? 0 : begin_lookup(i);
}

int groups_recall(const Groups *g, const char *name, gid_t *ret) {
        const Group *i = find(g, name);

        if (!i)
                return 0;
        if (i->answer > 0)
                *ret = i->gid;
        return i->answer;
}

void groups_forget(Groups *g) {
        for (Group *i = g->groups; i; i = i->next) {
                i->is_current = false;
                i->is_repeated = i->lookup;
        }
}
