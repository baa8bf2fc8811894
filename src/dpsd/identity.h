/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The life of one identity: what it is (settings), what it has (assignment), what it is doing about it
 * (registration), and what programs on the box get from it. Never names a bus: identity-bus.c looks in from outside.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/settings.h"
#include "dps/error.h"
#include "dps/hub.h"
#include "dps/registration.h"
#include "dpsd/filewatch.h"
#include "dpsd/outputs.h"
#include "dpsd/ratelimit.h"
#include "dpsd/state.h"
#include "transport/transport.h"

/* Of what happens on the box, and ends a wait or is a reason to ask DPS. */
#define EVENTS_PER_HOUR_MAX 3

typedef struct Manager Manager;

typedef enum IdentityState {
        IDENTITY_UNPROVISIONED,
        IDENTITY_PROVISIONING,
        IDENTITY_ASSIGNED,
        IDENTITY_FAILED,
        _IDENTITY_STATE_MAX,
} IdentityState;

/* What the next step waits for. */
typedef enum IdentityWaiting {
        WAITING_NOTHING,
        WAITING_RETRY,
        WAITING_THROTTLED,
        WAITING_NETWORK,
        WAITING_CLOCK,
        WAITING_KEY,
        WAITING_CONFIG,
        _IDENTITY_WAITING_MAX,
} IdentityWaiting;

/* Why DPS is asked. */
typedef enum IdentityReason {
        /* These are seen again whenever it is looked at: */
        REASON_FIRST,      /* nothing is cached */
        REASON_CONFIG,     /* scope, endpoint or method changed */
        REASON_CREDENTIAL, /* there is a new key or certificate, and it is to be proven */
        /* And these are not: */
        REASON_RENEWAL, /* the token is about to expire */
        REASON_HUB,     /* the hub refused a program of ours */
        REASON_REQUEST, /* somebody asked */
} IdentityReason;

typedef struct Identity {
        Manager *manager; /* owns us */
        char *name;

        /* What we are to be */
        Settings *written; /* the last good configuration, as written; NULL: there never was any */
        Settings *
                settings; /* of it, with specifiers expanded, the same where there are none; NULL: not resolved (yet) */
        Settings *
                faulty; /* of a file with errors, where nothing good is known: only to find the keys of a cache */
        bool config_is_faulty;  /* the file on disk is not what `written` says, or cannot be used */
        DpsError *config_error; /* why; see identity_config_error() */
        uint64_t config_error_at_usec;
        bool is_to_resolve; /* `settings` do not stand for `written` yet */
        uint64_t who_hash;  /* of scope and registration id, so that twins are found fast */
        Method method;      /* chosen; _METHOD_MAX: not yet */
        FileWatch *files;   /* keys and certificates */

        /* What we have */
        IdentityState state;
        IdentityWaiting waiting;
        uint64_t state_since_usec;        /* CLOCK_REALTIME, as all but those marked */
        State *memory;                    /* what is persisted: assignment, counters, history; never NULL */
        Assignment *pending;              /* new, and not yet durable */
        uint64_t pending_success_at_usec; /* DPS has said so then; 0: only a new token */
        uint64_t answered_usec;           /* CLOCK_BOOTTIME: when it said so last; 0: not in this run */
        bool has_failed_since; /* something has; the clock does not tell the order, it may be set */
        unsigned n_saving;     /* saves of it that are under way */
        bool is_published;     /* the assignment is in /run/dps/NAME … */
        bool has_credential;   /* … with its token or certificate */
        bool is_unproven;      /* … which DPS has not seen yet */
        bool outputs_refused;  /* its files could not be written */
        uint64_t certificate_expires_at_usec;
        bool certificate_was_warned_of;

        /* What we do about it */
        DpsRegistration *registration; /* only while there is something to get */
        IdentityReason reason;         /* of it, or of the splayed one */
        uint64_t last_poll_usec;       /* CLOCK_BOOTTIME; 0: none. Polls count on from one to the next */
        bool is_begun;                 /* it was given its first event */
        bool is_cut_off;               /* one for `reason` was, and goes on when it can */
        uint64_t wake_usec;            /* CLOCK_BOOTTIME; when it wants to be woken */
        char shown_id[65];         /* of the key or certificate on disk when it connected last; "": none */
        Transport *transport;      /* only while it is connected, or connecting */
        bool has_slot, wants_slot; /* of the manager's window … */
        const char *slot_scope;    /* … and whose: the scope that its slot is counted in */
        bool waits_for_clock;      /* until it is right, or long enough was waited */
        IdentityWaiting trouble;   /* at home: there is nothing to ask DPS before it is over */

        uint64_t counters_saved_at_usec; /* CLOCK_BOOTTIME */
        DpsErrorId logged_error;         /* the same one is not logged again */
        DpsHubHealth hub;
        uint64_t hub_last_seen_at_usec;

        uint64_t *jobs; /* who asked for a reprovision and waits for the attempt to end */
        size_t n_jobs;
        RateLimit requests;
        uint64_t events_usec[EVENTS_PER_HOUR_MAX]; /* CLOCK_BOOTTIME: the last ones acted on, in a ring */
        unsigned n_events;

        uint64_t begin_at_usec; /* CLOCK_BOOTTIME: a splayed registration; 0: none */
        uint64_t
                again_at_usec; /* CLOCK_BOOTTIME: local trouble (a file, the disk) is looked at again; 0: none */
        unsigned n_again;
        sd_event_source *wakeup; /* the only timer: whatever is due next */

        bool is_changed;               /* the bus is told at the end of this turn of the loop … */
        struct Identity *next_changed; /* … after these */
        unsigned bucket;               /* manager.c's: as what it is counted … */
        bool is_counted_for_network, is_counted_for_clock;
        void *bus_slot; /* identity-bus.c's */
} Identity;

/* The configuration as far as it is known; NULL: there never was a good one. */
static inline const Settings *identity_settings(const Identity *i) {
        return i->settings ?: i->written;
}

/* Who may use it. */
static inline const char *identity_group(const Identity *i) {
        const Settings *s = identity_settings(i);

        return s && s->group ? s->group : GROUP_DEFAULT;
}

const char *identity_state_to_string(IdentityState s);
const char *identity_waiting_to_string(IdentityWaiting w);

/* When it contacts DPS next, for any reason (CLOCK_REALTIME); 0: in flight, or never by itself. */
uint64_t identity_next_attempt_at_usec(const Identity *i);
/* What is wrong with the file on disk; DPS_ERROR_NONE: nothing. */
const DpsError *identity_config_error(const Identity *i);
/* Assigned, and no error since. */
bool identity_is_healthy(const Identity *i);

/* Asks DPS again. An attempt in flight is joined. Gives the id that identity_on_job_finished() will name.
 * -EBUSY: too often; `ret_retry_usec` says how long to wait. -EINVAL: no usable configuration;
 * -ENOKEY: no key. */
int identity_reprovision(Identity *i, uint64_t *ret_job, uint64_t *ret_retry_usec);

/* connection.json as of now, with a valid token. The caller erases and frees it. -ENODATA: not assigned. */
int identity_connection(Identity *i, char **ret_json);
/* A hub token. `lifetime_sec` 0: the default; capped at TokenLifetime=. -ENODATA: not assigned; -ENOTSUP: X.509;
 * -ETIME: the clock cannot be trusted; -ENOKEY: `error` says why the key cannot be used. */
int identity_token(Identity *i, uint64_t lifetime_sec, char **ret_token, uint64_t *ret_expires_at_usec,
                   DpsError *error);

/* The hub refused a program that used `generation`. A stale one changes nothing ("already moved"): -ESTALE. */
int identity_report_hub_failure(Identity *i, uint64_t generation, DpsHubFailure kind, uint32_t code,
                                const char *detail, bool *ret_registering,
                                uint64_t *ret_next_attempt_at_usec);
int identity_report_hub_connected(Identity *i, uint64_t generation);

/* For manager.c */
int identity_new(Manager *m, const char *name, Identity **ret);
Identity *identity_free(Identity *i);
DEFINE_FREEP(Identity, identity_free)
/* What is remembered from before. Comes first. */
/* Fails only where that cannot be told: it is not to be written over then. */
int identity_load(Identity *i);
/* What NAME.conf says now. Takes the settings; if `fault` is set they are not good, and `fault` says why. Disturbs
 * nothing where nothing changed. What follows from it comes with identity_reconsider(). */
void identity_configure(Identity *i, Settings *settings, const char *fault);
/* Looks at what it is to be and what it has, and does what follows: when all are configured, so that twins are seen. */
void identity_reconsider(Identity *i);
/* The file vanished: outputs go, the state stays. */
void identity_retire(Identity *i);
/* Its turn: a slot of the window is free. */
void identity_on_slot(Identity *i);
/* The world changed: something that may help a wait. */
void identity_on_network(Identity *i);
void identity_on_clock(Identity *i);
void identity_on_scope_paused(Identity *i, uint64_t until_usec); /* CLOCK_BOOTTIME */
/* Assigned, and all of it served; or failed: --once may end. */
bool identity_is_settled(const Identity *i);
/* What it waits for may come as an event of the network, or of the clock. */
bool identity_waits_for_network(const Identity *i);
bool identity_waits_for_clock(const Identity *i);
/* "throttled, next try in 4 min": what happens next. `lasting`: for text that stands for a while, with the time of day. */
void identity_describe(const Identity *i, bool lasting, char *buffer, size_t size);
/* At exit: counters to the store, goodbye to DPS. */
void identity_stop(Identity *i);
