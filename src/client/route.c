/* SPDX-License-Identifier: MIT */
#include "client/route.h"

#include <errno.h>
#include <string.h>

#include "basic/text.h"
#include "config/secret.h"
#include "credential/credential-error.h"

/* What a thread of the worker touches. */
typedef struct Task {
        Settings *settings;
        Proxy *proxy;
        DpsError error;
        RouteQuery *query; /* the loop's only */
} Task;

struct RouteQuery {
        Work *work; /* NULL: it was answered */
        route_handler_t handler;
        void *userdata;
};

int route_choose(const Settings *s, const char *host, Proxy **ret, char **ret_why) {
        const ProxyRules rules = { .url = s->proxy, .no_proxy = s->no_proxy };
        const ProxyEnvironment environment = proxy_environment();

        return proxy_choose(&rules, &environment, host, ret, ret_why);
}

static DpsErrorId id_from_errno(int r) {
        if (r == -ENOMEM)
                return DPS_ERROR_MEMORY;
        return r == -EAGAIN || r == -ENOENT || r == -ENOTDIR ? DPS_ERROR_KEY : DPS_ERROR_CONFIG;
}

/* Removes the line break that an editor adds. False: what is left is empty, or has characters that an HTTP
 * header cannot carry. */
static bool tidy_password(char *text, size_t size) {
        if (size > 0 && text[size - 1] == '\n')
                text[--size] = 0;
        if (size > 0 && text[size - 1] == '\r')
                text[--size] = 0;
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) text[i] < ' ' || text[i] == 0x7f)
                        return false;
        return size > 0;
}

static void read_into(Proxy *proxy, const char *reference, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        size_t size;
        int r;

        r = secret_read(reference, &proxy->password, &size, &reason);
        if (r < 0) {
                dps_error_set(error, id_from_errno(r), DPS_STEP_CONFIG, "ProxyPassword=: %s",
                              reason ?: strerror(-r));
                return;
        }
        if (tidy_password(proxy->password, size))
                return;

        explicit_bzero(proxy->password, size);
        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                      "ProxyPassword=: %s must hold one line, without control characters", reference);
}

static void run(void *task) {
        Task *t = task;

        read_into(t->proxy, t->settings->proxy_password, &t->error);
}

static void task_free(void *task) {
        Task *t = task;

        proxy_free(t->proxy);
        settings_unref(t->settings);
        free(t);
}

static void done(void *task) {
        Task *t = task;
        RouteQuery *q = t->query;
        Proxy *proxy = t->error.id == DPS_ERROR_NONE ? TAKE_PTR(t->proxy) : NULL;
        const DpsError error = t->error;

        task_free(t);
        q->work = NULL;
        q->handler(proxy, error.id == DPS_ERROR_NONE ? NULL : &error, q->userdata);
}

static const char *whose(const void *task) {
        const Task *t = task;

        return t->settings->name;
}

static int read_password(World *world, Settings *s, Proxy *proxy, RouteQuery *q) {
        static const WorkClass class = {
                .queue = WORK_KEYS, .run = run, .done = done, .free = task_free, .whose = whose
        };
        Task *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;

        *t = (Task){ .settings = settings_ref(s), .proxy = proxy, .query = q };
        r = work_begin(world, &class, t, &q->work);
        if (r < 0) {
                t->proxy = NULL; /* the caller's */
                task_free(t);
        }
        return r;
}

static int begin(World *world, Settings *s, Proxy **proxy, route_handler_t handler, void *userdata,
                 RouteQuery **ret) {
        RouteQuery *q = calloc(1, sizeof(*q));
        int r;

        if (!q)
                return -ENOMEM;

        *q = (RouteQuery){ .handler = handler, .userdata = userdata };
        r = read_password(world, s, *proxy, q);
        if (r < 0) {
                free(q);
                return r;
        }
        TAKE_PTR(*proxy);
        *ret = q;
        return 0;
}

/* The environment's proxy has its password with it, and must not get that of the configuration. */
static bool needs_password(const Settings *s, const Proxy *proxy) {
        return proxy && proxy->user && s->proxy && s->proxy_password;
}

static int choose(const Settings *s, const char *host, Proxy **ret, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        int r;

        error_set_memory(error, DPS_STEP_CONFIG);
        r = route_choose(s, host, ret, &reason);
        if (r < 0 && reason)
                dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "%s", reason);
        return r;
}

int route_read(const Settings *s, const char *host, Proxy **ret, DpsError *error) {
        _cleanup_(proxy_freep) Proxy *proxy = NULL;
        DpsError why = { 0 };
        int r;

        r = choose(s, host, &proxy, error);
        if (r < 0)
                return r;
        if (needs_password(s, proxy))
                read_into(proxy, s->proxy_password, &why);
        if (why.id != DPS_ERROR_NONE) {
                *error = why;
                return -EINVAL;
        }
        *ret = TAKE_PTR(proxy);
        return 0;
}

int route_find(World *world, Settings *s, const char *host, route_handler_t handler, void *userdata,
               Proxy **ret, RouteQuery **ret_query, DpsError *error) {
        _cleanup_(proxy_freep) Proxy *proxy = NULL;
        int r;

        r = choose(s, host, &proxy, error);
        if (r < 0)
                return r;
        if (needs_password(s, proxy))
                return begin(world, s, &proxy, handler, userdata, ret_query);

        *ret = TAKE_PTR(proxy);
        return 1;
}

RouteQuery *route_query_free(RouteQuery *q) {
        if (!q)
                return NULL;

        work_forget(q->work);
        free(q);
        return NULL;
}
