/* SPDX-License-Identifier: MIT */
#include "transport/approach.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"
#include "transport/failure.h"

#define DEADLINE_USEC (20 * USEC_PER_SEC)
#define TIMER_ACCURACY_USEC (250 * USEC_PER_MSEC)

/* ---- what is shared ---- */

void approaches_init(Approaches *a, World *world) {
        *a = (Approaches){ .world = world, .tls_cache.world = world, .is_rested = true };
}

void approaches_rest(Approaches *a) {
        if (a->is_rested)
                return;

        a->is_rested = true;
        tls_cache_clear(&a->tls_cache);
#ifdef __GLIBC__ /* which would otherwise keep for days what the connections needed for a moment */
        (void) malloc_trim(0);
#endif
}

void approaches_done(Approaches *a) {
        tls_cache_done(&a->tls_cache);
        resolver_free(a->resolver);
}

/* ---- names for people ---- */

int approach_name_peer(const Approach *a, const char *address, char **peer) {
        const char *open = "", *close = "", *before = "", *host = "", *after = "";
        _cleanup_(freep) char *proxy = NULL;
        char *text;

        if (a->proxy && proxy_to_text(a->proxy, &proxy) < 0)
                return -ENOMEM;
        if (address && strchr(address, ':'))
                open = "[", close = "]";
        if (address && !streq(address, a->host))
                before = " (", host = a->host, after = ")";
        if (!address)
                text = text_format("proxy %s", proxy);
        else
                text = text_format("%s%s%s:%u%s%s%s%s%s", open, address, close, a->port, before, host, after,
                                   proxy ? " through proxy " : "", proxy ?: "");
        if (!text)
                return -ENOMEM;
        free(*peer);
        *peer = text;
        return 0;
}

/* ---- the answer ---- */

static void answer(Approach *a, const DpsError *error) {
        timer_set(a->timer, USEC_INFINITY, 0);
        a->handler(error, a->userdata);
}

static void fail_by_memory(Approach *a) {
        dps_error_set(&a->error, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "%s cannot be reached: out of memory",
                      a->host);
        answer(a, &a->error);
}

static void note_unresolved(Approach *a, Failure f) {
        _cleanup_(freep) char *proxy = NULL;
        DpsErrorId id = a->proxy && f.id != DPS_ERROR_MEMORY ? DPS_ERROR_PROXY : f.id;

        if (a->proxy && approach_name_peer(a, NULL, &proxy) < 0)
                proxy = NULL;
        dps_error_set(&a->error, id, DPS_STEP_RESOLVE, "%s %s: %s", proxy ?: a->names[a->n_asked - 1], f.what,
                      f.why);
}

static void on_resolved(const ResolverAnswer *found, void *userdata);

static void resolve_next(Approach *a) {
        const char *name = a->names[a->n_asked];

        if (!name)
                return answer(a, a->addresses ? NULL : &a->error);
        a->n_asked++;
        if (resolver_lookup(a->shared->resolver, name, on_resolved, a, &a->resolving) < 0)
                fail_by_memory(a);
}

static void on_resolved(const ResolverAnswer *found, void *userdata) {
        Approach *a = userdata;

        a->resolving = resolver_query_free(a->resolving);
        if (found->error != 0)
                note_unresolved(a, failure_from_resolver(found->error));
        else if (strv_extend(&a->addresses, found->addresses) < 0)
                return fail_by_memory(a);
        resolve_next(a);
}

static void on_tls(TlsContext *context, const DpsError *error, void *userdata) {
        Approach *a = userdata;

        a->reading = tls_query_free(a->reading);
        if (error) {
                a->error = *error;
                return answer(a, &a->error);
        }
        tls_context_unref(a->tls);
        a->tls = tls_context_ref(context);
        if (a->with_bundle)
                return answer(a, NULL);
        resolve_next(a);
}

static void on_timer(void *userdata) {
        Approach *a = userdata;

        if (a->reading)
                dps_error_set(&a->error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                              "%s%s cannot be read: the disk does not answer",
                              a->ca_files ? "CaFile=" : "what the system trusts",
                              a->ca_files ? a->ca_files[0] : "");
        else if (!a->addresses)
                note_unresolved(a, (Failure){ .id = DPS_ERROR_DNS,
                                              .what = "cannot be resolved",
                                              .why = "no name server answers" });
        a->reading = tls_query_free(a->reading);
        a->resolving = resolver_query_free(a->resolving);
        answer(a, a->addresses && !a->with_bundle ? NULL
                                                  : &a->error); /* the names that are left do not matter */
}

/* ---- life ---- */

static int copy_target(Approach *a, const TransportTarget *target) {
        char *const alone[] = { (char *) (target->proxy ? target->proxy->host : target->host), NULL };
        int r;

        a->port = target->port;
        a->host = strdup(target->host);
        a->asked = strdup(target->addresses ? target->addresses[0] : target->host);
        if (!a->host || !a->asked)
                return -ENOMEM;
        r = target->proxy ? proxy_copy(target->proxy, &a->proxy) : 0;
        if (r >= 0)
                r = strv_extend(&a->names, target->addresses && !target->proxy ? target->addresses : alone);
        if (r >= 0)
                r = strv_extend(&a->ca_files, target->ca_files);
        if (r < 0 || !target->certificates)
                return r;
        a->chain = X509_chain_up_ref(target->certificates);
        if (!a->chain)
                return -ENOMEM;
        (void) EVP_PKEY_up_ref(target->key);
        a->key = target->key;
        return 0;
}

static int ask(Approach *a) {
        uint64_t now_usec = world_now_usec(a->shared->world, CLOCK_BOOTTIME);
        const TlsWish wish = { .host = a->host,
                               .ca_files = a->ca_files,
                               .chain = a->chain,
                               .key = a->key,
                               .with_bundle = a->with_bundle };

        timer_set(a->timer, usec_add(now_usec, DEADLINE_USEC), TIMER_ACCURACY_USEC);
        return tls_cache_ask(&a->shared->tls_cache, &wish, on_tls, a, &a->reading);
}

bool approach_read_bundle(Approach *a) {
        if (a->with_bundle)
                return false;
        a->with_bundle = true;
        return ask(a) >= 0;
}

/* The resolver is made for the first connection, so that a start with a cached assignment need not pay
 * for it. */
static int begin(Approach *a) {
        int r;

        a->shared->is_rested = false;
        r = a->shared->resolver ? 0 : resolver_new(a->shared->world, &a->shared->resolver);
        if (r >= 0)
                r = timer_new(a->shared->world, on_timer, a, &a->timer);
        return r < 0 ? r : ask(a);
}

int approach_new(Approaches *shared, const TransportTarget *target, approach_handler_t handler,
                 void *userdata, Approach **ret) {
        _cleanup_(approach_freep) Approach *a = calloc(1, sizeof(*a));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Approach){ .shared = shared, .handler = handler, .userdata = userdata };
        r = copy_target(a, target);
        if (r >= 0)
                r = begin(a);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

Approach *approach_free(Approach *a) {
        if (!a)
                return NULL;

        tls_query_free(a->reading);
        resolver_query_free(a->resolving);
        timer_free(a->timer);
        tls_context_unref(a->tls);
        sk_X509_pop_free(a->chain, X509_free);
        EVP_PKEY_free(a->key);
        strv_free(a->ca_files);
        strv_free(a->addresses);
        strv_free(a->names);
        proxy_free(a->proxy);
        free(a->asked);
        free(a->host);
        free(a);
        return NULL;
}
