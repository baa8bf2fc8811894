/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "check/inspection.h"
#include "dpsd/identity-request.h"
#include "dpsd/manager.h"
#include "dpsd/module-load.h"
#include "transport/transport-module.h"

/* The checks under way, and what an identity tells them. */

#define HUB_TOKEN_LIFETIME_SEC 300

typedef struct ManagerCheck {
        struct ManagerCheck *next;
        Manager *manager;
        char *name;
        bool offline, hub_login, has_ended;
        Work *loading; /* the module */
        const CheckClass *class;
        CheckSubject *subject;  /* until the inspection begins */
        Identity *identity;     /* while it is asked for what the hub wants */
        Inspection *inspection; /* NULL: it has not begun yet */
        manager_check_handler_t handler;
        void *userdata;
} ManagerCheck;

static void unlink_check(ManagerCheck *c) {
        for (ManagerCheck **p = &c->manager->checks; *p; p = &(*p)->next)
                if (*p == c) {
                        *p = c->next;
                        c->manager->n_checks--;
                        return;
                }
}

static void free_check(ManagerCheck *c) {
        work_forget(c->loading);
        if (c->class) {
                c->class->inspection_free(c->inspection);
                c->class->subject_unref(c->subject);
        }
        free(c->name);
        free(c);
}

/* Owns `json`. */
static void end_check(ManagerCheck *c, int r, char *json) {
        unlink_check(c);
        c->handler(r, json, c->userdata);
        free_check(c);
}

static void on_inspected(Inspection *i, const Checks *checks, const CheckSubject *subject, void *userdata) {
        ManagerCheck *c = userdata;
        char *json = NULL;
        int r = subject->r;

        if (r >= 0)
                r = c->class->to_json(checks, subject, &json);
        end_check(c, r, json);
}

static bool registers(const Identity *i) {
        ClientState state = client_state(i->client);

        return state == CLIENT_QUEUED || state == CLIENT_IN_FLIGHT;
}

static int begin(ManagerCheck *c) {
        const Core *core = &c->manager->core;
        const InspectionParts parts = { core->world, core->transports, core->window };
        const InspectionWish wish = { .offline = c->offline };
        const Identity *i = manager_find(c->manager, c->name);
        int r;

        r = c->class->inspection_new(&parts, TAKE_PTR(c->subject), &wish, on_inspected, c, &c->inspection);
        if (r >= 0 && i && registers(i))
                c->class->give_way(c->inspection);
        return r;
}

/* ---- what the hub is shown ---- */

/* A check that was ended meanwhile is only freed. */
static void begin_late(ManagerCheck *c) {
        int r;

        c->identity = NULL;
        if (c->has_ended) {
                free_check(c);
                return;
        }
        r = begin(c);
        if (r < 0)
                end_check(c, r, NULL);
}

static void on_hub_token(int r, char *token, uint64_t expires_at_usec, const DpsError *error,
                         void *userdata) {
        ManagerCheck *c = userdata;

        c->subject->hub.token = token;
        if (r < 0)
                c->subject->hub.why_not = strdup(error ? error->message : strerror(-r));
        begin_late(c);
}

static void on_hub_credential(Identity *i, Credential *credential, const DpsError *error, void *userdata) {
        ManagerCheck *c = userdata;

        if (credential)
                c->subject->hub.credential = credential_ref(credential);
        else
                c->subject->hub.why_not = strdup(error->message);
        begin_late(c);
}

/* 1: the check begins later. */
static int ask_for_hub(ManagerCheck *c, Identity *i) {
        const Assignment *a = identity_assignment(i);
        int r;

        c->identity = i;
        r = assignment_hub_auth(a) == HUB_AUTH_X509
                    ? identity_with_credential(i, on_hub_credential, c)
                    : identity_token(i, HUB_TOKEN_LIFETIME_SEC, on_hub_token, c);
        if (r >= 0)
                return 1;
        c->identity = NULL;
        if (r == -ENOMEM)
                return r;
        c->subject->hub.why_not = strdup(
                r == -ETIME ? "no hub accepts a token made with this clock: timedatectl" : strerror(-r));
        return 0;
}

/* ---- begin and end ---- */

static int tell_subject(const Manager *m, const Identity *i, CheckSubject *s) {
        const Assignment *a = i ? identity_assignment(i) : NULL;

        s->is_synchronized = clock_is_synchronized(m->core.clock);
        s->behind_usec = clock_behind_usec(m->core.clock);
        s->is_unread = !i;
        if (i && i->configuration.settings)
                s->known = settings_ref(i->configuration.settings);
        if (i && i->configuration.twin) {
                s->twin = strdup(i->configuration.twin);
                if (!s->twin)
                        return -ENOMEM;
        }
        if (a) {
                s->hub.host = strdup(a->hub);
                s->hub.device_id = strdup(a->device_id);
                if (!s->hub.host || !s->hub.device_id)
                        return -ENOMEM;
        }
        return conf_directories(NULL, &s->directories);
}

/* The module is there. */
static void begin_loaded(ManagerCheck *c) {
        Identity *i = manager_find(c->manager, c->name);
        bool asks_hub = i && c->hub_login && !c->offline && identity_assignment(i);
        int r;

        r = c->class->subject_new(c->name, &c->subject);
        if (r >= 0)
                r = tell_subject(c->manager, i, c->subject);
        if (r >= 0) {
                c->subject->hub.is_asked = c->hub_login;
                r = asks_hub ? ask_for_hub(c, i) : 0;
        }
        if (r == 0)
                r = begin(c);
        if (r < 0)
                end_check(c, r, NULL);
}

static void on_loaded(const void *class, const char *why, void *userdata) {
        ManagerCheck *c = userdata;

        c->loading = NULL;
        c->class = class;
        if (class)
                begin_loaded(c);
        else
                end_check(c, why ? -EOPNOTSUPP : -ENOMEM, why ? strdup(why) : NULL);
}

int manager_check(Manager *m, const ManagerCheckWish *wish, manager_check_handler_t handler, void *userdata) {
        ManagerCheck *c;
        int r = -ENOMEM;

        if (m->n_checks == MANAGER_CHECKS_MAX)
                return -EBUSY;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        *c = (ManagerCheck){ .manager = m,
                             .offline = wish->offline,
                             .hub_login = wish->hub_login,
                             .handler = handler,
                             .userdata = userdata };
        c->name = strdup(wish->name);
        if (c->name)
                r = module_load_later(m->core.world, TRANSPORT_SHARED_MODULE, CHECK_MODULE, CHECK_MODULE_KIND,
                                      on_loaded, c, &c->loading);
        if (r < 0) {
                free_check(c);
                return r;
        }
        c->next = m->checks;
        m->checks = c;
        m->n_checks++;
        return 0;
}

void manager_checks_on_changed(Manager *m, const Identity *i) {
        ManagerCheck *next;

        for (ManagerCheck *c = m->checks; c; c = next) {
                next = c->next;
                if (c->inspection && registers(i) && streq(c->name, i->name))
                        c->class->give_way(c->inspection);
        }
}

void manager_checks_end(Manager *m) {
        ManagerCheck *c;

        while ((c = m->checks)) {
                if (!c->identity) {
                        end_check(c, -ECANCELED, NULL);
                        continue;
                }
                /* The identity calls back before it goes. */
                unlink_check(c);
                c->handler(-ECANCELED, NULL, c->userdata);
                c->has_ended = true;
        }
}
