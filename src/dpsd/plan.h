/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an identity is, and what it does next: one pure function from facts to State, Waiting, the next action and its time.
 * Nobody else decides these. The identity gathers the facts, carries out the action, and asks again, until there is nothing
 * left to do but to wait.
 */

#include <stdbool.h>
#include <stdint.h>

#include "client/client.h"
#include "config/settings.h"
#include "dps/error.h"

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
        REASON_NONE,
        REASON_FIRST,      /* there is no assignment */
        REASON_CONFIG,     /* scope, endpoint or method have changed */
        REASON_CREDENTIAL, /* there is a new key or certificate, and DPS has not seen it yet */
        REASON_RENEWAL,    /* the token is about to expire, or an earlier run was at it */
        REASON_HUB,        /* the hub refused a program on this machine */
        REASON_REQUEST,    /* somebody asked */
        _IDENTITY_REASON_MAX,
} IdentityReason;

/* ---- facts ---- */

typedef enum ConfigurationState {
        CONFIGURATION_NONE,       /* no file that can be used was ever read */
        CONFIGURATION_UNRESOLVED, /* a specifier has no value now */
        CONFIGURATION_TWIN,       /* another identity is the same device */
        CONFIGURATION_GOOD,
        _CONFIGURATION_STATE_MAX,
} ConfigurationState;

typedef enum CredentialState {
        CREDENTIAL_UNKNOWN, /* not looked at since something changed */
        CREDENTIAL_LOADING,
        CREDENTIAL_LOADED,
        CREDENTIAL_KNOWN, /* it was loaded, and wiped since */
        CREDENTIAL_FAILED,
        _CREDENTIAL_STATE_MAX,
} CredentialState;

/* Of the assignment that is durable, or being saved. */
typedef enum AssignmentState {
        ASSIGNMENT_NONE,
        ASSIGNMENT_FOREIGN,   /* it is another device's */
        ASSIGNMENT_ELSEWHERE, /* scope, endpoint or method are to be others: served until there is a new one */
        ASSIGNMENT_OURS,
        _ASSIGNMENT_STATE_MAX,
} AssignmentState;

typedef enum SavingState {
        SAVING_NOTHING,
        SAVING_ANSWER, /* what DPS has assigned */
        SAVING_TOKEN,  /* the expiry of a new token */
        _SAVING_STATE_MAX,
} SavingState;

typedef enum DiskState {
        DISK_TAKES,   /* or was not asked yet */
        DISK_REFUSES, /* the record on disk is older than the one in memory */
        _DISK_STATE_MAX,
} DiskState;

/* The directory of the files for programs. */
typedef enum FolderState {
        FOLDER_UNPREPARED,
        FOLDER_ASKS_GROUP, /* the system looks up whose it is */
        FOLDER_READY,
        FOLDER_REFUSED,
        _FOLDER_STATE_MAX,
} FolderState;

/* The files in it, of the assignment that is durable. */
typedef enum OutputsState {
        OUTPUTS_STALE,    /* not looked at since something changed */
        OUTPUTS_SIGNING,  /* a slow key signs the token for them */
        OUTPUTS_BARE,     /* without a credential */
        OUTPUTS_COMPLETE, /* with it */
        OUTPUTS_REFUSED,  /* they could not be written */
        _OUTPUTS_STATE_MAX,
} OutputsState;

/* What stands there already, of the same generation, perhaps from an earlier run. */
typedef enum Standing {
        STANDING_NOTHING,
        STANDING_BARE,     /* without a credential, or with an expired one */
        STANDING_COMPLETE, /* with one that is still good */
        _STANDING_MAX,
} Standing;

/* Whether DPS has seen the credential that is in force. */
typedef enum Proof {
        PROOF_GIVEN,
        PROOF_WANTED,
        _PROOF_MAX,
} Proof;

typedef enum ClockState {
        CLOCK_TRUSTED,    /* it is right, or long enough was waited for it */
        CLOCK_WAITED_FOR, /* it is behind, and will be right soon */
        _CLOCK_STATE_MAX,
} ClockState;

/* What happened since the last plan. */
typedef enum News {
        NEWS_NETWORK = 1 << 0, /* a link, an address or a route appeared */
        NEWS_CLOCK = 1 << 1,   /* it was set, or synchronised */
        NEWS_FILES = 1 << 2,   /* a key or certificate has changed */
        NEWS_REQUEST = 1 << 3, /* somebody asked to provision again */
} News;

/* Times are CLOCK_BOOTTIME unless their name says otherwise. */
typedef struct Facts {
        uint64_t now_usec, realtime_usec;
        unsigned news;

        ClockState clock;
        bool clock_is_plausible;
        uint64_t clock_until_usec; /* so long it is waited for */

        ConfigurationState configuration;
        bool has_settings; /* good ones are in force, perhaps older ones than the file's */
        bool is_faulty;    /* the file says something else than what is in force, or cannot be used */
        DpsErrorId configuration_error;
        uint64_t resolve_at_usec; /* when specifiers are tried again */
        Renew renew;
        uint64_t splay_usec; /* this device's part of it */

        CredentialState for_dps, for_hub; /* the credentials for the one and the other, often the same */
        DpsErrorId for_dps_error;         /* of the last look; NONE: there was no failure */
        uint64_t for_dps_at_usec, for_hub_at_usec; /* when a failed one is looked at again */

        AssignmentState assignment;
        bool is_durable;   /* one is, perhaps an older one than `assignment` is about */
        bool is_announced; /* and programs have had it, or could not */
        SavingState saving;
        DiskState disk;
        uint64_t save_at_usec; /* when a disk that refused is tried again */
        Proof proof;
        bool is_recorded; /* the credential for the hub is the one that the record names */

        bool has_token;                                                     /* the hub is shown tokens */
        uint64_t expires_realtime_usec, renew_realtime_usec, lifetime_usec; /* of it; 0: there is none */
        uint64_t renew_before_usec;                                         /* how long before its expiry */
        uint64_t certificate_expires_realtime_usec;                         /* 0: not known, or none */
        bool certificate_was_warned_of;

        FolderState folder;
        OutputsState outputs;
        Standing standing; /* only where the outputs are stale */
        uint64_t publish_at_usec;

        ClientState client;
        DpsErrorId client_error; /* of its last attempt, perhaps in an earlier run */
        uint64_t client_next_usec, client_told_usec;
        uint64_t bound_until_usec; /* an earlier registration, or run, binds the next one so long */
        uint32_t attempts, finals; /* failures in a row, of them final answers */

        bool has_jobs;                  /* somebody waits for an answer of DPS */
        size_t n_waiters;               /* for a look at the credential */
        uint64_t begin_not_before_usec; /* there was no memory to begin a registration */
        IdentityReason asked;           /* RENEWAL, HUB or REQUEST: begun or wanted, and not answered yet */
        uint64_t
                wanted_since_usec; /* since when DPS is to be asked for the reason that is found now; 0: not yet */
        uint64_t event_at_usec; /* when something that happens on this machine may be acted on again */
} Facts;

/* ---- the plan ---- */

typedef enum Action {
        ACTION_WAIT,
        ACTION_RESOLVE,          /* expand the specifiers */
        ACTION_DROP_ASSIGNMENT,  /* with its files */
        ACTION_PREPARE_FOLDER,   /* for programs */
        ACTION_LOAD_FOR_DPS,     /* look at the credential */
        ACTION_LOAD_FOR_HUB,     /* … for the one that the assignment needs */
        ACTION_MINT,             /* give the token a new expiry, and save that */
        ACTION_PUBLISH,          /* write the files for programs */
        ACTION_SAVE,             /* try the disk again */
        ACTION_WARN_OF_EXPIRY,   /* of the certificate */
        ACTION_GIVE_UP,          /* the registration cannot go on: there is nothing to ask DPS with */
        ACTION_BEGIN,            /* a registration for `reason` */
        ACTION_ATTEMPT,          /* let the client go on */
        ACTION_HASTEN,           /* end the client's wait in a moment: something may help */
        ACTION_HASTEN_NOW,       /* … at once: somebody asks */
        ACTION_WIPE_CREDENTIALS, /* nobody needs them in memory any more */
        _ACTION_MAX,
} Action;

typedef struct Plan {
        Action action;
        IdentityReason reason; /* for which DPS is to be asked, now or later; NONE: for none */
        uint64_t wake_usec;    /* when to plan again, if nothing happens before; USEC_INFINITY: never */

        IdentityState state;
        IdentityWaiting waiting;
        uint64_t next_attempt_realtime_usec; /* the next contact with DPS; 0: in flight, or none is planned */
        bool waits_for_network, waits_for_clock; /* an event of them may help */
        bool is_settled; /* assigned and all of it served, or failed: --once may end */
        bool is_serving; /* what can be served at start is served, and otherwise it is known what comes next */
} Plan;

void plan_make(const Facts *f, Plan *ret);

const char *identity_state_to_string(IdentityState s);
const char *identity_waiting_to_string(IdentityWaiting w);
const char *action_to_string(Action a);
