/* SPDX-License-Identifier: MIT */
#include "dpsd/module-load.h"

#include <errno.h>

#include "basic/module.h"

typedef struct LoadTask {
        const char *shared, *name, *kind; /* literals */
        const void *class;
        char *why;
        module_load_handler_t handler;
        void *userdata;
} LoadTask;

static void load_run(void *task) {
        LoadTask *t = task;

        if (t->shared)
                (void) module_load_with_shared(module_directory(), t->shared, t->name, t->kind, &t->class,
                                               &t->why);
        else
                (void) module_load(module_directory(), t->name, t->kind, &t->class, &t->why);
}

static void load_free(void *task) {
        LoadTask *t = task;

        free(t->why);
        free(t);
}

static void load_done(void *task) {
        LoadTask *t = task;

        t->handler(t->class, t->why, t->userdata);
        load_free(t);
}

int module_load_later(World *w, const char *shared, const char *name, const char *kind,
                      module_load_handler_t handler, void *userdata, Work **ret) {
        static const WorkClass class = {
                .queue = WORK_CHECKS, .run = load_run, .done = load_done, .free = load_free
        };
        LoadTask *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (LoadTask){
                .shared = shared, .name = name, .kind = kind, .handler = handler, .userdata = userdata
        };
        r = work_begin(w, &class, t, ret);
        if (r < 0)
                load_free(t);
        return r;
}
