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
#include "transport/tls.h"

/* One ID scope's share of patience: DPS throttles scopes, so a 429 to one of its identities is for all. */
typedef struct Scope {
        char *id_scope;
        uint64_t paused_until_usec; /* CLOCK_BOOTTIME */
        unsigned window;            /* attempts in flight: any; halved by a 429, one more with each success */
        unsigned n_in_flight;
} Scope;

/* As what an identity is counted. */
typedef enum Bucket {
        BUCKET_NONE, /* not counted yet */
        BUCKET_ASSIGNED,
        BUCKET_ASSIGNED_TROUBLED,
        BUCKET_UNASSIGNED, /* on its way */
        BUCKET_UNASSIGNED_TROUBLED,
        _BUCKET_MAX,
} Bucket;

/* What is wrong with a group that identities name in Group=. */
typedef struct GroupLack {
        char *group;
        const char *lack; /* a literal; NULL: nothing */
} GroupLack;

typedef struct Manager {
        sd_event *event;
        Store *store;
        Outputs *outputs;
        Clock *clock;
        uint64_t clock_deadline_usec; /* CLOCK_BOOTTIME: until then a wrong clock is waited for */
        Network *network;
        Notify *notify;
        sd_bus *bus; /* manager-bus.c's; NULL: there is none (yet) */
        void *bus_state;

        char **directories; /* of the configuration */
        char **only;        /* --once NAME…: no others; NULL: all */
        ConfReport report;  /* of the last (re)load */
        DaemonSettings settings;
        Identity **identities; /* sorted by name */
        size_t n_identities;
        GroupLack *groups; /* that once lacked something */
        size_t n_groups;
        uint64_t last_job;

        /* manager-window.c's */
        Resolver *resolver; /* made when first needed, as is libmosquitto */
        struct SharedTls *tls;
        size_t n_tls;
        Scope *scopes;
        size_t n_scopes;
        unsigned n_in_flight;
        size_t n_wanting;
        size_t next_slot; /* whose turn it is to be looked at first */
        bool is_littered; /* attempts have left behind what can be dropped */

        /* The end of a turn of the loop: what changed in it is counted, and told. */
        sd_event_source *turn;
        Identity *changed; /* a list, so that there is always room */
        unsigned counts[_BUCKET_MAX];
        unsigned n_waiting_for_network, n_waiting_for_clock;

        bool once;               /* --once: no bus, ends when all is done */
        bool is_ready;           /* READY=1 was sent */
        bool bus_settled;        /* the name is ours, or waited long enough for */
        sd_event_source *settle; /* READY=1 without a bus, after 3 s */
} Manager;

/* Directories are those of the environment ($STATE_DIRECTORY, $RUNTIME_DIRECTORY …), else the usual ones. -EBUSY: another
 * dpsd has the state; it is said which. */
int manager_new(Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_FREEP(Manager, manager_free)

/* Removes what is left of an identity without a conf: state and outputs. -EBUSY: it has one; -ENOENT: nothing is left. */
int manager_forget(Manager *m, const char *name);

/* Reads the configuration and serves what is cached. */
int manager_start(Manager *m);
/* --once: whether all that was to be provisioned is, or cannot be; `ret_assigned`: whether it is. */
bool manager_is_done(const Manager *m, bool *ret_assigned);
/* Ends the loop with this code, from within it, as a loop that has ended takes no more work: what is to be remembered is on
 * disk when it returns. */
void manager_leave(Manager *m, int code);
/* For manager_start(). */
int manager_load(Manager *m);
/* Reads it again; what is wrong is in m->report: -EBADMSG if any error is. */
int manager_reload(Manager *m);
Identity *manager_find(const Manager *m, const char *name);

/* "idle", "ok", "provisioning" or "degraded". */
const char *manager_state(const Manager *m);
unsigned manager_n_assigned(const Manager *m);

/* For identity.c */
/* Another identity with the same scope and registration id that comes before i by name; NULL: none. */
Identity *manager_find_twin(const Manager *m, const Identity *i);
/* Those that come after i, and have i for a twin now. */
void manager_reconsider_twins(Manager *m, const Identity *i);
/* Whether it is news that the group lacks this (a literal; NULL: nothing): many identities may name it. */
bool manager_group_lacks(Manager *m, const char *group, const char *lack);
/* The clock is wrong, and not long enough has been waited for it. `ret_until_usec` (CLOCK_BOOTTIME) may be NULL. */
bool manager_waits_for_clock(const Manager *m, uint64_t *ret_until_usec);
/* Made when first needed: a cached start needs no network. */
int manager_resolver(Manager *m, Resolver **ret);
/* True: the slot is i's. False: identity_on_slot() follows. */
bool manager_acquire_slot(Manager *m, Identity *i);
/* Gives it back, or the wish for it up; harmless with neither. */
void manager_release_slot(Manager *m, Identity *i);
/* Slots that are free go to those who want one; what nobody uses any more is dropped. */
void manager_tend_window(Manager *m);
void manager_window_done(Manager *m);
/* DPS throttled this scope (until: CLOCK_BOOTTIME), or took a registration. */
void manager_scope_throttled(Manager *m, const Identity *by, uint64_t until_usec);
void manager_scope_succeeded(Manager *m, const char *id_scope);
uint64_t manager_scope_paused_until_usec(Manager *m, const char *id_scope);
/* Something that the bus, the status or the order of things shows has changed. */
void manager_identity_changed(Manager *m, Identity *i);
/* The same for what is not about one identity. */
void manager_changed(Manager *m);
/* It is not one of ours any more. */
void manager_identity_gone(Manager *m, Identity *i);
/* An attempt that somebody waited for has ended. */
void manager_job_finished(Manager *m, Identity *i, uint64_t job, bool ok, const char *error);
/* The bus name is owned. */
void manager_bus_settled(Manager *m);
/* One TLS context per endpoint and CA files is shared by all that have no client certificate. */
int manager_tls_context(Manager *m, const char *host, char *const *ca_files, TlsContext **ret,
                        DpsError *error);
