/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The life of one identity: what it is to be (Configuration), what it has (Keeper), how it asks DPS (Client), and what
 * programs on the machine get. It decides nothing: it gathers the facts, has the plan made, and carries it out.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "client/client.h"
#include "credential/credential.h"
#include "dps/hub.h"
#include "dpsd/configuration.h"
#include "dpsd/core.h"
#include "dpsd/keeper.h"
#include "dpsd/plan.h"
#include "dpsd/ratelimit.h"

/* The longest wait that is believed when it was remembered: a day, and a quarter for the spread. */
#define IDENTITY_WAIT_MAX_USEC (USEC_PER_DAY + USEC_PER_DAY / 4)

/* Of what happens on the machine, and ends a wait or is a reason to ask DPS. */
#define EVENTS_PER_HOUR_MAX 3

/* A credential, and what is known of it. */
typedef struct CredentialCare {
        CredentialState state;
        Credential *credential; /* only while LOADED */
        CredentialQuery *query; /* only while LOADING */
        Method method;          /* as found by the last look; _METHOD_MAX: not yet */
        char fingerprint[65];
        DpsError error; /* of the last look; id NONE: there was no failure */
        Retry retry;
} CredentialCare;

/* Calls the handler with the credential for the hub, or with NULL and why there is none. */
typedef void (*identity_credential_handler_t)(Identity *i, Credential *credential, const DpsError *error,
                                              void *userdata);

/* Who waits for a look at the credential. */
typedef struct Waiter {
        struct Waiter *next;
        identity_credential_handler_t handler;
        void *userdata;
} Waiter;

/* A new assignment is told of, and its jobs end, when programs have got it, or cannot. */
typedef enum AnnouncementState {
        ANNOUNCEMENT_NONE,
        ANNOUNCEMENT_FIRST, /* there was no assignment before */
        ANNOUNCEMENT_MOVED,
        ANNOUNCEMENT_RENEWED,
        _ANNOUNCEMENT_STATE_MAX,
} AnnouncementState;

typedef struct Announcement {
        AnnouncementState state;
        char *old_hub, *old_device_id; /* of MOVED */
        Jobs jobs;
} Announcement;

struct Identity {
        Core *core;
        char *name;

        Configuration configuration;
        FileWatch *files; /* of keys and certificates */
        Method method;    /* by which DPS is asked; _METHOD_MAX: not chosen yet */

        Keeper keeper;
        CredentialCare for_dps, for_hub; /* the latter only where for_dps does not serve both */
        char proven[65];          /* the fingerprint of the credential that DPS took last; "": not known */
        CredentialQuery *signing; /* of the token that is to be published, by a slow key */
        Announcement announcement;

        FolderState folder;
        gid_t folder_gid;
        OutputsState outputs;
        Retry publishing;
        uint64_t certificate_expires_at_usec; /* CLOCK_REALTIME; 0: not known */
        bool certificate_was_warned_of;

        Client *client;
        IdentityReason asked;       /* see Facts */
        IdentityReason wanted;      /* why DPS is to be asked, by the last plan … */
        uint64_t wanted_since_usec; /* … and since when (CLOCK_BOOTTIME) */
        uint64_t begin_not_before_usec;

        DpsHubHealth hub;
        uint64_t hub_last_seen_at_usec;
        RateLimit requests;
        uint64_t events_usec[EVENTS_PER_HOUR_MAX]; /* CLOCK_BOOTTIME: the last ones acted on, in a ring */
        unsigned n_events;
        Waiter *waiters;
        Waiter *end_waiters; /* are told when the identity goes */

        Plan plan; /* the last one */
        unsigned news;
        enum {
                ADVANCE_NOT,
                ADVANCE_NOW,   /* a plan is being carried out */
                ADVANCE_AGAIN, /* … and something has changed meanwhile */
        } advance;
        Timer *wakeup;
        IdentityState state;       /* as it is shown */
        uint64_t state_since_usec; /* CLOCK_REALTIME */
        DpsErrorId logged_error;   /* the same one is not logged again */

        /* The manager's: */
        struct Identity *next_changed;
        bool is_changed;
        unsigned bucket;
        bool is_counted_for_network, is_counted_for_clock, is_counted_for_serving;
        void *bus_slot; /* what listeners on the bus were told */
};

int identity_new(Core *core, const char *name, Identity **ret);
Identity *identity_free(Identity *i);
DEFINE_FREEP(Identity, identity_free)

/* What is remembered from before. Comes first. Fails only where that cannot be told: it is not to be written over then. */
int identity_load(Identity *i);
/* What NAME.conf says now. Takes the settings; if `fault` is set they are not good, and it says why. */
void identity_configure(Identity *i, Settings *settings, const char *fault);
/* Another identity (its name) is the same device; NULL: none is. */
void identity_set_twin(Identity *i, const char *twin);
/* Somebody asked to look again: what failed on this machine is tried at once. */
void identity_look_again(Identity *i);
/* Plans, and does what follows. */
void identity_advance(Identity *i);
/* The file vanished: outputs go, the record stays. */
void identity_retire(Identity *i);
/* At exit: what binds us goes to the store, and DPS gets a goodbye. */
void identity_stop(Identity *i);

/* The world changed. */
void identity_on_network(Identity *i);
void identity_on_clock(Identity *i);
void identity_on_group(Identity *i, const char *group);

/* Has the credential for the hub loaded. The handler may be called from within. -ENOMEM. */
int identity_with_credential(Identity *i, identity_credential_handler_t handler, void *userdata);
/* Has the handler called with NULL and an error when the identity goes, unless it is forgotten before. -ENOMEM. */
int identity_wait_for_end(Identity *i, identity_credential_handler_t handler, void *userdata);
/* No handler with this userdata is called any more. */
void identity_forget_waiter(Identity *i, void *userdata);

/* Who may use it. */
static inline const char *identity_group(const Identity *i) {
        const Settings *s = configuration_settings(&i->configuration);

        return s && s->group ? s->group : GROUP_DEFAULT;
}

static inline const Assignment *identity_assignment(const Identity *i) {
        return i->keeper.record->assignment;
}

void identity_log(const Identity *i, int level, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* With the fields of an error, and the id of a catalog entry (may be NULL). */
void identity_log_error(const Identity *i, int level, const char *message_id, const DpsError *error,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));
