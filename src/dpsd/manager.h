/* SPDX-License-Identifier: MIT */
#pragma once

/* The daemon: all identities and what they share. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "config/conf.h"
#include "dpsd/clock.h"
#include "dpsd/identity.h"
#include "dpsd/network.h"
#include "dpsd/notify.h"
#include "dpsd/outputs.h"
#include "dpsd/store.h"

/* One ID scope's share of patience: DPS throttles scopes, so a 429 to one of its identities is for all. */
typedef struct Scope {
        char *id_scope;
        uint64_t paused_until_usec; /* CLOCK_BOOTTIME */
        unsigned window;            /* attempts in flight: halved by a 429, one more with each success */
        unsigned n_in_flight;
} Scope;

typedef struct Manager {
        sd_event *event;
        Store *store;
        Outputs *outputs;
        Clock *clock;
        Network *network;
        Notify *notify;
        Resolver *resolver; /* made when first needed, as is libmosquitto */
        struct SharedTls *tls;
        size_t n_tls;
        sd_bus *bus; /* manager-bus.c's; NULL: there is none (yet) */
        void *bus_state;

        char **directories; /* of the configuration */
        ConfReport report;  /* of the last (re)load */
        DaemonSettings settings;
        Identity **identities; /* sorted by name */
        size_t n_identities;
        size_t next_slot; /* whose turn it is to be looked at first */
        Scope *scopes;
        size_t n_scopes;
        unsigned n_in_flight;
        uint64_t last_job;

        bool once;                   /* --once: no bus, ends when all is done */
        bool is_ready;               /* READY=1 was sent */
        bool bus_settled;            /* the name is ours, or waited long enough for */
        sd_event_source *settle;     /* READY=1 without a bus, after 3 s */
        sd_event_source *turn;       /* runs at the end of a turn of the loop: bus signals, status, slots */
        sd_event_source *sources[4]; /* signals */
} Manager;

int manager_new(Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_FREEP(Manager, manager_free)

/* Removes what is left of an identity without a conf: state and outputs. -EBUSY: it has one; -ENOENT: nothing is left. */
int manager_forget(Manager *m, const char *name);

/* Reads the configuration and serves what is cached. */
int manager_start(Manager *m);
/* Reads it again; what is wrong is in m->report: -EBADMSG if any error is. */
int manager_reload(Manager *m);
Identity *manager_find(const Manager *m, const char *name);

/* "idle", "ok", "provisioning" or "degraded". */
const char *manager_state(const Manager *m);
unsigned manager_n_assigned(const Manager *m);

/* For identity.c */
/* Another identity with the same scope and registration id that comes before i by name; NULL: none. */
Identity *manager_find_twin(const Manager *m, const Identity *i);
/* The clock is wrong, and not long enough has been waited for it. */
bool manager_waits_for_clock(const Manager *m, uint64_t *ret_until_usec);
/* Made when first needed: a cached start needs no network. */
int manager_resolver(Manager *m, Resolver **ret);
/* True: the slot is i's. False: identity_on_slot() follows. */
bool manager_acquire_slot(Manager *m, Identity *i);
void manager_release_slot(Manager *m, Identity *i);
/* DPS throttled this scope (until: CLOCK_BOOTTIME), or took a registration. */
void manager_scope_throttled(Manager *m, const char *id_scope, uint64_t until_usec);
void manager_scope_succeeded(Manager *m, const char *id_scope);
uint64_t manager_scope_paused_until_usec(Manager *m, const char *id_scope);
/* Something that the bus, the status or the order of things shows has changed. */
void manager_identity_changed(Manager *m, Identity *i);
/* An attempt that somebody waited for has ended. */
void manager_job_finished(Manager *m, Identity *i, uint64_t job, bool ok, const char *error);
/* The bus name is owned. */
void manager_bus_settled(Manager *m);
/* One TLS context per endpoint and CA files is shared by all that have no client certificate. */
int manager_tls_context(Manager *m, const char *host, char *const *ca_files, TlsContext **ret,
                        DpsError *error);
