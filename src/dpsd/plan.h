/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an identity is, and what it does next: one pure function from facts to State, Waiting, the next action
 * and its time. Nothing else decides these. The identity gathers the facts, carries out the action, and asks
 * for a new plan, until there is nothing left to do but wait.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/times.h"
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

/* What must happen before the next step. */
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

/* Why DPS must be asked. */
typedef enum IdentityReason {
        REASON_NONE,
        REASON_FIRST,      /* there is no assignment */
        REASON_CONFIG,     /* scope, endpoint or method have changed */
        REASON_CREDENTIAL, /* there is a new key or certificate that DPS has not accepted yet */
        REASON_RENEWAL,    /* the token is about to expire, or an earlier run had begun a renewal */
        REASON_ISSUANCE,   /* there is no issued certificate, but [Issuance] asks for one */
        REASON_HUB,        /* the hub refused a program on this machine */
        REASON_REQUEST,    /* somebody asked */
        _IDENTITY_REASON_MAX,
} IdentityReason;

/* ---- facts ---- */

typedef enum ConfigurationState {
        CONFIGURATION_NONE,       /* no usable file was ever read */
        CONFIGURATION_UNRESOLVED, /* a specifier has no value now */
        CONFIGURATION_TWIN,       /* another identity is the same device */
        CONFIGURATION_GOOD,
        _CONFIGURATION_STATE_MAX,
} ConfigurationState;

typedef enum CredentialState {
        CREDENTIAL_UNKNOWN, /* not looked at since the last change */
        CREDENTIAL_LOADING,
        CREDENTIAL_LOADED,
        CREDENTIAL_KNOWN, /* it was loaded, and wiped afterwards */
        CREDENTIAL_FAILED,
        _CREDENTIAL_STATE_MAX,
} CredentialState;

/* The state of the assignment that is durable or being saved. */
typedef enum AssignmentState {
        ASSIGNMENT_NONE,
        ASSIGNMENT_FOREIGN,   /* it belongs to another device */
        ASSIGNMENT_ELSEWHERE, /* scope, endpoint or method have changed: served until replaced */
        ASSIGNMENT_OURS,
        _ASSIGNMENT_STATE_MAX,
} AssignmentState;

typedef enum SavingState {
        SAVING_NOTHING,
        SAVING_ANSWER, /* the assignment from DPS */
        SAVING_TOKEN,  /* the expiry of a new token */
        _SAVING_STATE_MAX,
} SavingState;

typedef enum DiskState {
        DISK_TAKES,   /* also if nothing was saved yet */
        DISK_REFUSES, /* the record in memory is newer than the one on disk */
        _DISK_STATE_MAX,
} DiskState;

/* The directory of the files for programs. */
typedef enum FolderState {
        FOLDER_UNPREPARED,
        FOLDER_ASKS_GROUP, /* the system looks up the group */
        FOLDER_READY,
        FOLDER_REFUSED,
        _FOLDER_STATE_MAX,
} FolderState;

/* The files in it, of the durable assignment. */
typedef enum OutputsState {
        OUTPUTS_STALE,    /* not looked at since the last change */
        OUTPUTS_SIGNING,  /* a slow key is signing the token for them */
        OUTPUTS_BARE,     /* without a credential */
        OUTPUTS_COMPLETE, /* with it */
        OUTPUTS_REFUSED,  /* they could not be written */
        _OUTPUTS_STATE_MAX,
} OutputsState;

/* The files that exist already for the same generation, perhaps from an earlier run. */
typedef enum Standing {
        STANDING_NOTHING,
        STANDING_BARE,     /* without a credential, or with an expired one */
        STANDING_COMPLETE, /* with a credential that is still valid */
        STANDING_UNKNOWN,  /* not looked at yet */
        _STANDING_MAX,
} Standing;

/* Whether DPS has accepted the credential that is in force. */
typedef enum Proof {
        PROOF_GIVEN,
        PROOF_WANTED,
        _PROOF_MAX,
} Proof;

typedef enum ClockState {
        CLOCK_TRUSTED,    /* it is right, or we have waited for it long enough */
        CLOCK_WAITED_FOR, /* it is behind, and we expect it to be set soon */
        _CLOCK_STATE_MAX,
} ClockState;

/* What has happened since the last plan. */
typedef enum News {
        NEWS_NETWORK = 1 << 0, /* a link, an address or a route appeared */
        NEWS_CLOCK = 1 << 1,   /* it was set, or synchronised */
        NEWS_FILES = 1 << 2,   /* a key or certificate file has changed */
        NEWS_REQUEST = 1 << 3, /* somebody asked to provision again */
} News;

/* Times are CLOCK_BOOTTIME unless their name says otherwise. */
typedef struct Facts {
        uint64_t now_usec, realtime_usec;
        unsigned news;

        ClockState clock;
        bool clock_is_plausible;
        uint64_t clock_until_usec; /* how long we wait for it */

        bool is_unread;        /* the record of an earlier run was not read yet, and is waited for */
        DpsErrorId read_error; /* why it could not be read; NONE: it was not tried yet, or is being read */
        uint64_t read_at_usec, read_until_usec;

        ConfigurationState configuration;
        bool has_settings; /* good settings are in force, perhaps older than those in the file; not a twin's */
        bool is_faulty;    /* the file differs from what is in force, or cannot be used */
        DpsErrorId configuration_error;
        bool is_expanding;        /* what the specifiers name is being read */
        uint64_t resolve_at_usec; /* when the specifiers are tried again */
        Renew renew;
        uint64_t splay_usec; /* the random delay of this device */

        CredentialState for_dps, for_hub; /* the credentials for DPS and for the hub, often the same one */
        DpsErrorId for_dps_error;         /* of the last look; NONE: it succeeded */
        uint64_t for_dps_at_usec, for_hub_at_usec; /* when a failed one is looked at again */
        uint64_t key_until_usec; /* how long we wait for what is being loaded or signed; 0: nothing is */

        AssignmentState assignment;
        bool is_durable;   /* an assignment is durable, perhaps an older one than `assignment` describes */
        bool is_announced; /* programs have had it, or could not have it */
        bool has_announcement; /* an assignment, or the end of the jobs that waited for it */
        SavingState saving;
        DiskState disk;
        bool pair_is_unsaved;     /* an issued certificate is in memory only … */
        bool pair_is_being_saved; /* … its file is being written */
        uint64_t pair_at_usec;    /* … or is to be, at this time */
        uint64_t save_at_usec;    /* when a save that the disk refused is tried again */
        Proof proof;
        bool is_recorded; /* the credential for the hub is the one that the record names */

        bool has_token; /* programs show tokens to the hub */
        bool is_issued; /* programs show the hub a certificate that DPS has issued */
        uint64_t issued_expires_realtime_usec;
        bool wants_certificate;       /* the settings in force ask for one */
        bool was_refused_certificate; /* DPS issued none when it was asked last, and is not asked again for that */
        uint64_t certificate_not_before_usec; /* no other one is asked for before this */
        DpsErrorId for_hub_error;             /* why the credential for the hub could not be loaded */
        uint64_t expires_realtime_usec, renew_realtime_usec,
                lifetime_usec;                      /* of the token; 0: there is none */
        uint64_t renew_before_usec;                 /* before the token's expiry */
        uint64_t renewal_not_before_usec;           /* DPS has answered just before */
        uint64_t certificate_expires_realtime_usec; /* 0: unknown, or no certificate */
        bool certificate_was_warned_of;

        FolderState folder;
        OutputsState outputs;
        Standing standing; /* valid only while the outputs are stale */
        uint64_t publish_at_usec;

        ClientState client;
        DpsErrorId client_error; /* of the last attempt, perhaps in an earlier run */
        uint64_t client_next_usec, client_told_usec;
        uint64_t bound_until_usec; /* an earlier registration or run forbids one before this */
        uint32_t attempts, finals; /* failures in a row, and how many of them were final answers */

        bool has_jobs;                  /* somebody waits for an answer of DPS */
        size_t n_waiters;               /* that wait for the credential for the hub */
        uint64_t begin_not_before_usec; /* set when there was no memory to begin a registration */
        IdentityReason asked;           /* RENEWAL, HUB or REQUEST: begun or wanted, but not answered yet */
        uint64_t wanted_since_usec;     /* since when this reason to ask DPS exists; 0: it is new */
        uint64_t event_at_usec;         /* when an event on this machine may be acted on again */
} Facts;

/* ---- the plan ---- */

/* A hastened attempt begins at a random time within this. */
#define HASTEN_SPREAD_USEC (2 * USEC_PER_SEC)

typedef enum Action {
        ACTION_WAIT,
        ACTION_READ_RECORD,        /* or end a read that takes too long */
        ACTION_RESOLVE,            /* expand the specifiers */
        ACTION_DROP_ASSIGNMENT,    /* and its files */
        ACTION_PREPARE_FOLDER,     /* for programs */
        ACTION_LOOK_AT_FILES,      /* that are published already */
        ACTION_LOAD_FOR_DPS,       /* look at the credential for DPS */
        ACTION_LOAD_FOR_HUB,       /* look at the one that the assignment needs */
        ACTION_STOP_WAITING,       /* the key that is waited for does not come */
        ACTION_MINT,               /* give the token a new expiry, and save that */
        ACTION_PUBLISH,            /* write the files for programs, with the credential */
        ACTION_PUBLISH_BARE,       /* without it, since it cannot be used yet */
        ACTION_KEEP_FILES,         /* the published files stay until DPS has accepted the new credential */
        ACTION_KEEP_FILES_FOR_NOW, /* they stay until the credential can be used */
        ACTION_ANNOUNCE,           /* tell people and callers of the assignment that programs have now */
        ACTION_SAVE,               /* save the record again */
        ACTION_SAVE_PAIR,          /* write the file of the issued certificate again */
        ACTION_DROP_ISSUED, /* the issued certificate has expired, is lost or is not wanted: go on without */
        ACTION_WARN_OF_EXPIRY,   /* that of the certificate */
        ACTION_GIVE_UP,          /* end the registration: there is nothing to ask DPS with */
        ACTION_BEGIN,            /* begin a registration for `reason` */
        ACTION_ATTEMPT,          /* let the client continue */
        ACTION_HASTEN,           /* shorten the client's wait to a moment: an event may help */
        ACTION_HASTEN_NOW,       /* end the client's wait at once: somebody asked */
        ACTION_WIPE_CREDENTIALS, /* nobody needs them in memory any longer */
        _ACTION_MAX,
} Action;

typedef struct Plan {
        Action action;
        IdentityReason reason; /* why DPS must be asked, now or later; NONE: it need not be */
        uint64_t wake_usec;    /* when to plan again if nothing happens before; USEC_INFINITY: never */

        IdentityState state;
        IdentityWaiting waiting;
        uint64_t next_attempt_realtime_usec;     /* 0: it is in flight, or none is planned */
        bool waits_for_network, waits_for_clock; /* a change there may help */
        bool is_settled; /* assigned and completely served, or failed: --once may end */
        bool is_serving; /* what could be served at start is served, or the next step is known */
} Plan;

/* DPS is not asked for a renewal sooner than this after it has answered. */
#define RENEWAL_INTERVAL_MIN_USEC USEC_PER_MINUTE
/* Nor is RenewAt sooner, which is determined a moment before the answer counts. */
#define RENEW_AT_MIN_USEC (RENEWAL_INTERVAL_MIN_USEC + USEC_PER_SEC)

/* From this long before its end on, the expiry of a certificate is warned of. */
#define CERTIFICATE_WARNING_USEC (30 * USEC_PER_DAY)

void plan_make(const Facts *f, Plan *ret);

const char *identity_state_to_string(IdentityState s);
const char *identity_waiting_to_string(IdentityWaiting w);
const char *action_to_string(Action a);
