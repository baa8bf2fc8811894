/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The life of one identity: what it is meant to be (Configuration), what it has (Keeper), how it asks DPS
 * (Client), and the files that programs get. It decides nothing: it gathers the facts, has the plan made, and
 * carries out the action.
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
#include "dpsd/publication.h"
#include "dpsd/ratelimit.h"

/* A longer remembered wait is not believed: a day, and a quarter of it for the random spread. */
#define IDENTITY_WAIT_MAX_USEC (USEC_PER_DAY + USEC_PER_DAY / 4)

/* At most this many events on this machine may end a wait, or be a reason to ask DPS, in one hour. */
#define EVENTS_PER_HOUR_MAX 3

/* A credential, and what we know about it. */
typedef struct CredentialCare {
        CredentialState state;
        Credential *credential; /* only while LOADED */
        CredentialQuery *query; /* only while LOADING … */
        uint64_t until_usec;    /* … and only until then (CLOCK_BOOTTIME) */
        Method method;          /* found by the last look; _METHOD_MAX: not known yet */
        char fingerprint[FINGERPRINT_SIZE];
        DpsError *error; /* of the last look, see kept-error.h; NULL: it succeeded */
        Retry retry;
} CredentialCare;

/* Calls the handler with the credential for the hub, or with NULL and the error. */
typedef void (*identity_credential_handler_t)(Identity *i, Credential *credential, const DpsError *error,
                                              void *userdata);

/* A request that waits for the credential to be looked at. */
typedef struct Waiter {
        struct Waiter *next;
        identity_credential_handler_t handler;
        void *userdata;
} Waiter;

/* A new assignment is announced, and its jobs end, once programs have it, or cannot have it. */
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
        FileWatch *files;         /* watches the key and certificate files */
        FileWatch *outputs_watch; /* watches the directory for programs; NULL: nothing was published yet */
        Method method;            /* the method by which DPS is asked; _METHOD_MAX: not chosen yet */

        Keeper keeper;
        CredentialCare for_dps, for_hub; /* for_hub is used only if for_dps does not serve both */
        char proven
                [FINGERPRINT_SIZE]; /* the fingerprint of the credential that DPS accepted last; "": not known */
        CredentialQuery *naming;    /* asks the TPM for the registration id … */
        uint64_t naming_until_usec; /* … until then (CLOCK_BOOTTIME) */
        CredentialQuery *signing;   /* by a slow key, of the token to be published */
        Announcement announcement;

        /* A pair of key and issued certificate whose file is not durable yet. */
        char *pair_text, *pair_file; /* the first is a secret */
        Work *pair_saving;
        Credential *issued_credential; /* of a pair whose assignment does not count yet */
        Retry pair_retry;
        bool has_old_pairs;                   /* to be removed once the record on disk does not name them */
        uint64_t certificate_not_before_usec; /* CLOCK_BOOTTIME: see Facts */
        unsigned n_fruitless_certificates;    /* in a row, that were to be renewed at once */
        /* Of the assignment that counts, see kept-error.h; NULL: it is as it should be. */
        DpsError *issuance_error;

        FolderState folder;
        gid_t folder_gid;
        OutputsState outputs;
        bool units_are_due;  /* RestartUnits= and the like are to be told of files that are written already */
        Assignment *served;  /* the one before, while the token of the newest is being signed; or NULL */
        Published published; /* looked at when `outputs` became stale */
        Retry publishing;
        uint64_t certificate_expires_at_usec; /* CLOCK_REALTIME; 0: not known */
        bool certificate_was_warned_of;

        Client *client;
        IdentityReason asked;       /* see Facts */
        IdentityReason wanted;      /* why DPS is to be asked, according to the last plan … */
        uint64_t wanted_since_usec; /* … and since when (CLOCK_BOOTTIME) */
        uint64_t begin_not_before_usec;

        DpsHubHealth hub;
        uint64_t hub_last_seen_at_usec, hub_failed_at_usec; /* CLOCK_REALTIME */
        char *hub_failure; /* the last one that was reported; NULL: none since programs were let in */
        RateLimit requests;
        uint64_t events_usec[EVENTS_PER_HOUR_MAX]; /* CLOCK_BOOTTIME: the last ones acted on, in a ring */
        unsigned n_events;
        Waiter *waiters;      /* for the credential for the hub */
        Waiter *look_waiters; /* for the end of the look at the credential for DPS */
        Waiter *end_waiters;  /* called when the identity is freed */

        Plan plan; /* the last one */
        unsigned news;
        enum {
                ADVANCE_NOT,
                ADVANCE_NOW,   /* a plan is being carried out */
                ADVANCE_AGAIN, /* … and something has changed meanwhile */
                ADVANCE_NEVER, /* the identity is about to be freed */
        } advance;
        Timer *wakeup;
        IdentityState state;         /* as it is shown */
        uint64_t state_since_usec;   /* CLOCK_REALTIME */
        uint64_t attempt_since_usec; /* CLOCK_REALTIME; 0: none is in flight */
        DpsErrorId logged_error;     /* the same one is not logged again */

        /* Used by the manager: */
        struct Identity *next_changed, *next_device;
        uint64_t device_hash; /* by which it was found last; 0: not yet */
        bool is_changed;
        unsigned bucket;
        bool is_counted_for_network, is_counted_for_clock, is_counted_for_serving;
        bool is_in_other_state, is_in_other_runtime;
        bool is_untold; /* listeners on the bus were not told of the last change */
        void *bus_slot; /* what listeners on the bus were told last */
};

int identity_new(Core *core, const char *name, Identity **ret);
Identity *identity_free(Identity *i);
DEFINE_FREEP(Identity, identity_free)

/* Loads the record of an earlier run. Call it first, at the start; later, keeper_read_again() leaves it to the plan. A record
 * that cannot be read now is tried again. */
void identity_load(Identity *i);
/* Takes the settings that NAME.conf holds now. If `fault` is set they cannot be used, and it says why. */
void identity_configure(Identity *i, Settings *settings, const char *fault);
/* `twin` is the name of another identity that is the same device; NULL: there is none. */
void identity_set_twin(Identity *i, const char *twin);
/* Somebody asked to look again: everything that failed on this machine is tried again at once. */
void identity_look_again(Identity *i);
/* The directory of the records, or of the files for programs, is another one now. This is only noted … */
void identity_on_other_state(Identity *i);
void identity_on_other_runtime(Identity *i);
/* … until this is called. Returns true if there was something to do. */
bool identity_write_again(Identity *i);
/* Makes the plan and carries out its actions. */
void identity_advance(Identity *i);
/* The configuration file is gone: the outputs are removed, the record stays. */
void identity_retire(Identity *i);
/* At exit: saves the waits that bind us, and disconnects from DPS properly. */
void identity_stop(Identity *i);

/* The surroundings changed. */
void identity_on_network(Identity *i);
void identity_on_clock(Identity *i);
void identity_on_group(Identity *i, const char *group);
/* Programs are let in by the hub, or there is another hub. */
void identity_forget_hub_failure(Identity *i);

/* Has the credential for the hub loaded. The handler may be called before this returns. -ENOMEM. */
int identity_with_credential(Identity *i, identity_credential_handler_t handler, void *userdata);
/* Calls the handler when nobody looks at the credential for DPS any more. It gets no credential, and an error
 * only if the identity is gone. -ENOMEM. */
int identity_wait_for_look(Identity *i, identity_credential_handler_t handler, void *userdata);
/* Calls the handler with NULL and an error when the identity goes, unless identity_forget_waiter() was called
 * before. -ENOMEM. */
int identity_wait_for_end(Identity *i, identity_credential_handler_t handler, void *userdata);
/* After this, no handler with this userdata is called. */
void identity_forget_waiter(Identity *i, void *userdata);

/* The group that may use the identity. */
static inline const char *identity_group(const Identity *i) {
        const Settings *s = configuration_settings(&i->configuration);

        return s && s->group ? s->group : GROUP_DEFAULT;
}

static inline const Assignment *identity_assignment(const Identity *i) {
        return i->keeper.record->assignment;
}

void identity_log(const Identity *i, int level, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* Logs with the fields of an error, and with the id of a catalog entry (may be NULL). */
void identity_log_error(const Identity *i, int level, const char *message_id, const DpsError *error,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));
