/* SPDX-License-Identifier: MIT */
#include "dpsd/manager.h"

#include <errno.h>
#include <malloc.h>

#include "basic/text.h"
#include "basic/times.h"
#include "transport/mqtt.h"

/*
 * How many attempts may be in flight, of all and of each ID scope, and what they share. Who comes when no slot is free
 * waits; slots go round, so that nobody waits for ever.
 */

struct SharedTls {
        char *host;
        char **ca_files;
        TlsContext *context;
};

/* ---- scopes ---- */

static Scope *find_scope(Manager *m, const char *id_scope) {
        Scope *scopes;
        char *name;

        for (size_t k = 0; k < m->n_scopes; k++)
                if (streq(m->scopes[k].id_scope, id_scope))
                        return &m->scopes[k];

        name = strdup(id_scope);
        scopes = reallocarray(m->scopes, m->n_scopes + 1, sizeof(*scopes));
        if (scopes)
                m->scopes = scopes;
        if (!scopes || !name) {
                free(name);
                return NULL;
        }

        m->scopes[m->n_scopes] = (Scope){ .id_scope = name, .window = UINT_MAX };
        return &m->scopes[m->n_scopes++];
}

void manager_scope_throttled(Manager *m, const Identity *by, uint64_t until_usec) {
        Scope *scope = find_scope(m, by->settings->id_scope);

        if (!scope)
                return;

        scope->window = MAX(MIN(scope->window, m->settings.max_attempts) / 2, 1U);
        if (until_usec <= scope->paused_until_usec)
                return;

        scope->paused_until_usec = until_usec;
        for (size_t k = 0; k < m->n_identities; k++) {
                Identity *i = m->identities[k];

                if (i != by && i->settings && streq(i->settings->id_scope, scope->id_scope))
                        identity_on_scope_paused(i, until_usec);
        }
}

void manager_scope_succeeded(Manager *m, const char *id_scope) {
        Scope *scope = find_scope(m, id_scope);

        if (scope && scope->window < m->settings.max_attempts)
                scope->window++;
}

uint64_t manager_scope_paused_until_usec(Manager *m, const char *id_scope) {
        const Scope *scope = find_scope(m, id_scope);

        return scope ? scope->paused_until_usec : 0;
}

/* ---- slots ---- */

static bool take_slot(Manager *m, Identity *i) {
        Scope *scope = find_scope(m, i->settings->id_scope);

        if (m->n_in_flight >= m->settings.max_attempts || !scope || scope->n_in_flight >= scope->window)
                return false;

        scope->n_in_flight++;
        m->n_in_flight++;
        m->is_littered = true;
        i->slot_scope = scope->id_scope;
        i->has_slot = true;
        return true;
}

bool manager_acquire_slot(Manager *m, Identity *i) {
        if (i->has_slot)
                return true;
        /* Those who wait already come first. */
        if (m->n_wanting == 0 && take_slot(m, i))
                return true;

        if (!i->wants_slot) {
                i->wants_slot = true;
                m->n_wanting++;
        }
        return false;
}

void manager_release_slot(Manager *m, Identity *i) {
        if (i->wants_slot) {
                i->wants_slot = false;
                m->n_wanting--;
        }
        if (!i->has_slot)
                return;

        i->has_slot = false;
        find_scope(m, i->slot_scope)->n_in_flight--;
        m->n_in_flight--;
}

static void give_slots(Manager *m) {
        for (size_t k = 0; k < m->n_identities && m->n_wanting > 0; k++) {
                Identity *i = m->identities[m->next_slot++ % m->n_identities];

                if (m->n_in_flight >= m->settings.max_attempts)
                        return;
                if (!i->wants_slot || !take_slot(m, i))
                        continue;

                i->wants_slot = false;
                m->n_wanting--;
                identity_on_slot(i);
        }
}

/* ---- what attempts share ---- */

int manager_resolver(Manager *m, Resolver **ret) {
        int r;

        if (!m->resolver) {
                r = mqtt_init();
                if (r < 0)
                        return r;
                r = resolver_new(m->event, &m->resolver);
                if (r < 0)
                        return r;
        }

        *ret = m->resolver;
        return 0;
}

static void shared_tls_done(struct SharedTls *t) {
        free(t->host);
        strv_free(t->ca_files);
        tls_context_unref(t->context);
}

int manager_tls_context(Manager *m, const char *host, char *const *ca_files, TlsContext **ret,
                        DpsError *error) {
        _cleanup_(shared_tls_done) struct SharedTls t = { 0 };
        struct SharedTls *tls;
        int r;

        for (size_t k = 0; k < m->n_tls; k++)
                if (streq(m->tls[k].host, host) && strv_equal(m->tls[k].ca_files, ca_files)) {
                        *ret = tls_context_ref(m->tls[k].context);
                        return 0;
                }

        r = tls_context_new(host, ca_files, NULL, NULL, &t.context, error);
        if (r < 0)
                return r;
        t.host = strdup(host);
        r = strv_extend(&t.ca_files, ca_files);
        tls = reallocarray(m->tls, m->n_tls + 1, sizeof(*tls));
        if (tls)
                m->tls = tls;
        if (!t.host || r < 0 || !tls)
                return -ENOMEM;

        *ret = tls_context_ref(t.context);
        m->tls[m->n_tls++] = t;
        t = (struct SharedTls){ 0 };
        return 0;
}

/* Trust is read anew with the next attempt: files change. */
static void drop_tls(Manager *m) {
        for (size_t k = 0; k < m->n_tls; k++)
                shared_tls_done(&m->tls[k]);
        free(m->tls);
        m->tls = NULL;
        m->n_tls = 0;
}

void manager_tend_window(Manager *m) {
        give_slots(m);
        if (m->n_in_flight > 0 || m->n_wanting > 0 || !m->is_littered)
                return;

        m->is_littered = false;
        drop_tls(m);
#ifdef __GLIBC__ /* which else keeps for days what the connections needed for a moment */
        (void) malloc_trim(0);
#endif
}

void manager_window_done(Manager *m) {
        drop_tls(m);
        if (m->resolver) {
                resolver_free(m->resolver);
                mqtt_done();
        }
        for (size_t k = 0; k < m->n_scopes; k++)
                free(m->scopes[k].id_scope);
        free(m->scopes);
}
