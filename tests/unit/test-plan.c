/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dpsd/plan.h"

/*
 * Each row is one situation in the life of an identity, and the plan that follows from it. A row names only
 * the facts that differ from those of a healthy identity, which is assigned and has nothing to do.
 */

#define NOW (1000 * USEC_PER_SEC)
#define TODAY (UINT64_C(1800000000) * USEC_PER_SEC)
#define LATER (NOW + USEC_PER_HOUR)

/* A symmetric key, a token of 30 days that is renewed on day 27. */
static Facts healthy(void) {
        return (Facts){
                .now_usec = NOW,
                .realtime_usec = TODAY,
                .clock_is_plausible = true,
                .configuration = CONFIGURATION_GOOD,
                .has_settings = true,
                .for_dps = CREDENTIAL_KNOWN,
                .for_hub = CREDENTIAL_KNOWN,
                .assignment = ASSIGNMENT_OURS,
                .is_durable = true,
                .is_announced = true,
                .is_recorded = true,
                .has_token = true,
                .lifetime_usec = 30 * USEC_PER_DAY,
                .renew_before_usec = 3 * USEC_PER_DAY,
                .expires_realtime_usec = TODAY + 20 * USEC_PER_DAY,
                .renew_realtime_usec = TODAY + 17 * USEC_PER_DAY,
                .folder = FOLDER_READY,
                .outputs = OUTPUTS_COMPLETE,
                .client_next_usec = USEC_INFINITY,
        };
}

/* Nothing is cached, and there are no errors. */
static Facts fresh(void) {
        Facts f = healthy();

        f.assignment = ASSIGNMENT_NONE;
        f.is_durable = f.is_recorded = f.has_token = false;
        f.outputs = OUTPUTS_STALE;
        f.expires_realtime_usec = f.renew_realtime_usec = 0;
        return f;
}

static Facts fresh_between(DpsErrorId error) {
        Facts f = fresh();

        f.client = CLIENT_BETWEEN;
        f.client_error = error;
        f.client_next_usec = LATER;
        f.attempts = 1;
        return f;
}

static Facts starting(void) {
        Facts f = healthy();

        f.for_dps = f.for_hub = CREDENTIAL_UNKNOWN;
        f.folder = FOLDER_UNPREPARED;
        f.outputs = OUTPUTS_STALE;
        return f;
}

#define WITH(base, ...)                                                                                      \
        ({                                                                                                   \
                Facts f = (base);                                                                            \
                __VA_ARGS__;                                                                                 \
                f;                                                                                           \
        })

typedef struct Row {
        const char *promise;
        Facts facts;
        Action action;
        IdentityState state;
        IdentityWaiting waiting;
        uint64_t wake_usec; /* 0: the row does not check it */
} Row;

static Row rows[160];
static size_t n_rows;

static void row(const char *promise, Facts facts, Action action, IdentityState state, IdentityWaiting waiting,
                uint64_t wake_usec) {
        assert_true(n_rows < ELEMENTSOF(rows));
        rows[n_rows++] = (Row){ promise, facts, action, state, waiting, wake_usec };
}

static void rows_about_the_configuration(void) {
        row("without a usable file the identity has failed, and waits for one",
            WITH(fresh(), f.configuration = CONFIGURATION_NONE, f.has_settings = false, f.is_faulty = true,
                 f.configuration_error = DPS_ERROR_CONFIG),
            ACTION_WAIT, IDENTITY_FAILED, WAITING_CONFIG, USEC_INFINITY);
        row("a faulty file does not end a cached assignment",
            WITH(healthy(), f.configuration = CONFIGURATION_NONE, f.has_settings = false, f.is_faulty = true,
                 f.configuration_error = DPS_ERROR_CONFIG),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_CONFIG, 0);
        row("a faulty file is reported, and older settings stay in force",
            WITH(healthy(), f.is_faulty = true, f.configuration_error = DPS_ERROR_CONFIG), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_CONFIG, NOW + 17 * USEC_PER_DAY);
        row("a record that could not be read is waited for before DPS is asked",
            WITH(fresh(), f.is_unread = true, f.read_error = DPS_ERROR_DISK, f.read_at_usec = LATER,
                 f.read_until_usec = USEC_INFINITY),
            ACTION_WAIT, IDENTITY_UNPROVISIONED, WAITING_RETRY, LATER);
        row("… and read again",
            WITH(fresh(), f.is_unread = true, f.read_error = DPS_ERROR_DISK,
                 f.read_until_usec = USEC_INFINITY),
            ACTION_READ_RECORD, IDENTITY_UNPROVISIONED, WAITING_RETRY, 0);
        row("… and meanwhile specifiers are expanded",
            WITH(fresh(), f.is_unread = true, f.read_error = DPS_ERROR_DISK, f.read_at_usec = LATER,
                 f.read_until_usec = USEC_INFINITY, f.configuration = CONFIGURATION_UNRESOLVED,
                 f.has_settings = false),
            ACTION_RESOLVE, IDENTITY_UNPROVISIONED, WAITING_RETRY, LATER);
        row("while a record is read for the first time, nothing else is done",
            WITH(fresh(), f.is_unread = true, f.read_at_usec = LATER, f.read_until_usec = USEC_INFINITY,
                 f.configuration = CONFIGURATION_UNRESOLVED, f.has_settings = false, f.has_jobs = true),
            ACTION_WAIT, IDENTITY_UNPROVISIONED, WAITING_NOTHING, 0);
        row("specifiers are expanded first",
            WITH(fresh(), f.configuration = CONFIGURATION_UNRESOLVED, f.has_settings = false), ACTION_RESOLVE,
            IDENTITY_UNPROVISIONED, WAITING_NOTHING, 0);
        row("a missing interface is waited for, and looked for again",
            WITH(fresh(), f.configuration = CONFIGURATION_UNRESOLVED, f.has_settings = false,
                 f.configuration_error = DPS_ERROR_UNREACHABLE, f.resolve_at_usec = LATER),
            ACTION_WAIT, IDENTITY_UNPROVISIONED, WAITING_NETWORK, LATER);
        row("an impossible value is a fault",
            WITH(fresh(), f.configuration = CONFIGURATION_UNRESOLVED, f.has_settings = false,
                 f.is_faulty = true, f.configuration_error = DPS_ERROR_CONFIG, f.resolve_at_usec = LATER),
            ACTION_WAIT, IDENTITY_FAILED, WAITING_CONFIG, LATER);
        row("a twin has failed and does not ask DPS",
            WITH(fresh(), f.configuration = CONFIGURATION_TWIN, f.is_faulty = true,
                 f.configuration_error = DPS_ERROR_CONFIG),
            ACTION_WAIT, IDENTITY_FAILED, WAITING_CONFIG, USEC_INFINITY);
        row("a twin that was registering gives up",
            WITH(fresh(), f.configuration = CONFIGURATION_TWIN, f.client = CLIENT_IN_FLIGHT), ACTION_GIVE_UP,
            IDENTITY_FAILED, WAITING_CONFIG, 0);
        row("another device's assignment is dropped", WITH(healthy(), f.assignment = ASSIGNMENT_FOREIGN),
            ACTION_DROP_ASSIGNMENT, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
}

static void rows_about_credentials(void) {
        row("the credential is looked at before anything else is done with it",
            WITH(fresh(), f.for_dps = CREDENTIAL_UNKNOWN), ACTION_LOAD_FOR_DPS, IDENTITY_UNPROVISIONED,
            WAITING_NOTHING, 0);
        row("a key that is being loaded is waited for",
            WITH(fresh(), f.for_dps = CREDENTIAL_LOADING, f.key_until_usec = LATER), ACTION_WAIT,
            IDENTITY_UNPROVISIONED, WAITING_NOTHING, LATER);
        row("… but not for ever", WITH(fresh(), f.for_dps = CREDENTIAL_LOADING, f.key_until_usec = NOW),
            ACTION_STOP_WAITING, IDENTITY_UNPROVISIONED, WAITING_NOTHING, 0);
        row("while the credential is loaded nothing else is done",
            WITH(fresh(), f.for_dps = CREDENTIAL_LOADING), ACTION_WAIT, IDENTITY_UNPROVISIONED,
            WAITING_NOTHING, USEC_INFINITY);
        row("a missing key is waited for, and looked for again",
            WITH(fresh(), f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_KEY,
                 f.for_dps_at_usec = LATER),
            ACTION_WAIT, IDENTITY_UNPROVISIONED, WAITING_KEY, LATER);
        row("a key is still missing while it is looked for again",
            WITH(fresh(), f.for_dps = CREDENTIAL_LOADING, f.for_dps_error = DPS_ERROR_KEY), ACTION_WAIT,
            IDENTITY_UNPROVISIONED, WAITING_KEY, USEC_INFINITY);
        row("a wrong key file is a configuration error",
            WITH(fresh(), f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_CONFIG,
                 f.for_dps_at_usec = LATER),
            ACTION_WAIT, IDENTITY_FAILED, WAITING_CONFIG, LATER);
        row("a credential that failed is looked at again in time",
            WITH(fresh(), f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_KEY,
                 f.for_dps_at_usec = NOW),
            ACTION_LOAD_FOR_DPS, IDENTITY_UNPROVISIONED, WAITING_KEY, 0);
        row("a key that disappears does not end the assignment",
            WITH(healthy(), f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_KEY,
                 f.for_dps_at_usec = LATER),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_KEY, LATER);
        row("a registration whose key disappears is given up",
            WITH(fresh(), f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_KEY,
                 f.for_dps_at_usec = LATER, f.client = CLIENT_IN_FLIGHT),
            ACTION_GIVE_UP, IDENTITY_UNPROVISIONED, WAITING_KEY, 0);
        row("no key stays in memory when nothing is left to do",
            WITH(healthy(), f.for_dps = f.for_hub = CREDENTIAL_LOADED), ACTION_WIPE_CREDENTIALS,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("the key stays while the assignment that needs it is saved",
            WITH(fresh(), f.for_dps = f.for_hub = CREDENTIAL_LOADED, f.assignment = ASSIGNMENT_OURS,
                 f.saving = SAVING_ANSWER),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NOTHING, USEC_INFINITY);
}

static void rows_about_the_first_assignment(void) {
        row("without a cached assignment DPS is asked", fresh(), ACTION_BEGIN, IDENTITY_UNPROVISIONED,
            WAITING_NOTHING, 0);
        row("a registration that was begun is attempted",
            WITH(fresh(), f.client = CLIENT_BEGUN, f.client_next_usec = 0), ACTION_ATTEMPT,
            IDENTITY_UNPROVISIONED, WAITING_NOTHING, 0);
        row("in flight it is provisioning and waits for nothing", WITH(fresh(), f.client = CLIENT_IN_FLIGHT),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NOTHING, USEC_INFINITY);
        row("an attempt that waits for a slot is provisioning", WITH(fresh(), f.client = CLIENT_QUEUED),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NOTHING, USEC_INFINITY);
        row("a wait that DPS demands during an attempt is kept",
            WITH(fresh(), f.client = CLIENT_PARKED, f.client_next_usec = LATER), ACTION_WAIT,
            IDENTITY_PROVISIONING, WAITING_NOTHING, LATER);
        row("after a failure that may pass it waits to try again", fresh_between(DPS_ERROR_REFUSED),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_RETRY, LATER);
        row("a throttled identity waits as throttled", fresh_between(DPS_ERROR_THROTTLED), ACTION_WAIT,
            IDENTITY_PROVISIONING, WAITING_THROTTLED, LATER);
        row("without a route it waits for the network", fresh_between(DPS_ERROR_UNREACHABLE), ACTION_WAIT,
            IDENTITY_PROVISIONING, WAITING_NETWORK, LATER);
        row("without names it waits for the network", fresh_between(DPS_ERROR_DNS), ACTION_WAIT,
            IDENTITY_PROVISIONING, WAITING_NETWORK, LATER);
        row("a refusal that a wrong clock may have caused waits for the clock",
            fresh_between(DPS_ERROR_CLOCK), ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_CLOCK, LATER);
        row("throttling of another identity delays this one too",
            WITH(fresh_between(DPS_ERROR_NONE), f.client_told_usec = LATER), ACTION_WAIT,
            IDENTITY_PROVISIONING, WAITING_THROTTLED, LATER);
        row("a final answer is a failure that is tried again rarely",
            WITH(fresh_between(DPS_ERROR_ENROLLMENT_DISABLED), f.finals = 1), ACTION_WAIT, IDENTITY_FAILED,
            WAITING_RETRY, LATER);
        row("throttling after a final answer is not a failure",
            WITH(fresh_between(DPS_ERROR_THROTTLED), f.finals = 1), ACTION_WAIT, IDENTITY_PROVISIONING,
            WAITING_THROTTLED, LATER);
        row("without network after a final answer, the network is waited for",
            WITH(fresh_between(DPS_ERROR_DNS), f.finals = 1), ACTION_WAIT, IDENTITY_PROVISIONING,
            WAITING_NETWORK, LATER);
        row("the next attempt comes when it is time",
            WITH(fresh_between(DPS_ERROR_REFUSED), f.client_next_usec = NOW), ACTION_ATTEMPT,
            IDENTITY_PROVISIONING, WAITING_RETRY, 0);
        row("a registration that failed in an earlier run continues", WITH(fresh(), f.attempts = 3),
            ACTION_BEGIN, IDENTITY_PROVISIONING, WAITING_NOTHING, 0);
        row("an assignment that is being saved outranks a fault of the configuration",
            WITH(fresh(), f.assignment = ASSIGNMENT_OURS, f.saving = SAVING_ANSWER,
                 f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_CONFIG,
                 f.for_dps_at_usec = LATER),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NOTHING, LATER);
        row("an assignment that is being saved outranks a failed attempt",
            WITH(fresh_between(DPS_ERROR_AUTH), f.finals = 2, f.assignment = ASSIGNMENT_OURS,
                 f.saving = SAVING_ANSWER),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NOTHING, LATER);
        row("a durable assignment is published at once",
            WITH(healthy(), f.is_announced = false, f.outputs = OUTPUTS_STALE,
                 f.for_dps = f.for_hub = CREDENTIAL_LOADED),
            ACTION_PUBLISH, IDENTITY_PROVISIONING, WAITING_NOTHING, 0);
        row("an assignment is announced once programs have it",
            WITH(healthy(), f.is_announced = false, f.has_announcement = true), ACTION_ANNOUNCE,
            IDENTITY_PROVISIONING, WAITING_NOTHING, 0);
        row("an assignment is announced even if the files cannot be written",
            WITH(healthy(), f.has_announcement = true, f.outputs = OUTPUTS_REFUSED,
                 f.publish_at_usec = LATER),
            ACTION_ANNOUNCE, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("an assignment is not announced while its token is signed",
            WITH(healthy(), f.has_announcement = true, f.outputs = OUTPUTS_SIGNING), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + 17 * USEC_PER_DAY);
        row("while an assignment is saved, another one is asked for only on request",
            WITH(fresh(), f.assignment = ASSIGNMENT_OURS, f.saving = SAVING_ANSWER, f.attempts = 1),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NOTHING, USEC_INFINITY);
        row("a request during a save gets its own registration",
            WITH(fresh(), f.assignment = ASSIGNMENT_OURS, f.saving = SAVING_ANSWER, f.has_jobs = true),
            ACTION_BEGIN, IDENTITY_PROVISIONING, WAITING_NOTHING, 0);
}

static void rows_about_a_start_from_cache(void) {
        row("at the start, the directory for programs is made first", starting(), ACTION_PREPARE_FOLDER,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("at the start, the credential is loaded after the directory is made",
            WITH(starting(), f.folder = FOLDER_READY), ACTION_LOAD_FOR_DPS, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("at the start, the cached assignment is served after the credential is loaded",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_LOADED),
            ACTION_PUBLISH, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("the published files are looked at before anything else is done about them",
            WITH(starting(), f.folder = FOLDER_READY, f.standing = STANDING_UNKNOWN), ACTION_LOOK_AT_FILES,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("without an assignment nobody looks at the published files",
            WITH(fresh(), f.standing = STANDING_UNKNOWN), ACTION_BEGIN, IDENTITY_UNPROVISIONED,
            WAITING_NOTHING, 0);
        row("files that the disk has refused are looked at again when they are tried again",
            WITH(healthy(), f.outputs = OUTPUTS_REFUSED, f.publish_at_usec = NOW,
                 f.standing = STANDING_UNKNOWN),
            ACTION_LOOK_AT_FILES, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("files that the disk has refused are left alone until then",
            WITH(healthy(), f.outputs = OUTPUTS_REFUSED, f.publish_at_usec = LATER,
                 f.standing = STANDING_UNKNOWN),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, LATER);
        row("DPS is not asked while the assignment is valid", healthy(), ACTION_WAIT, IDENTITY_ASSIGNED,
            WAITING_NOTHING, NOW + 17 * USEC_PER_DAY);
        row("nothing is written while the group is looked up",
            WITH(starting(), f.folder = FOLDER_ASKS_GROUP, f.for_dps = f.for_hub = CREDENTIAL_LOADED),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("without the key the hub is still published",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_FAILED,
                 f.for_dps_error = DPS_ERROR_KEY, f.for_dps_at_usec = LATER, f.for_hub_at_usec = LATER),
            ACTION_PUBLISH_BARE, IDENTITY_ASSIGNED, WAITING_KEY, 0);
        row("without the key, files of an earlier run stay",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_FAILED,
                 f.for_dps_error = DPS_ERROR_KEY, f.for_dps_at_usec = LATER, f.for_hub_at_usec = LATER,
                 f.standing = STANDING_COMPLETE),
            ACTION_KEEP_FILES_FOR_NOW, IDENTITY_ASSIGNED, WAITING_KEY, 0);
        row("with a wrong clock, files of an earlier run stay",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_KNOWN,
                 f.clock = CLOCK_WAITED_FOR, f.clock_until_usec = LATER, f.standing = STANDING_BARE),
            ACTION_KEEP_FILES_FOR_NOW, IDENTITY_ASSIGNED, WAITING_CLOCK, 0);
        row("with a wrong clock the hub is published without a token",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_KNOWN,
                 f.clock = CLOCK_WAITED_FOR, f.clock_until_usec = LATER),
            ACTION_PUBLISH_BARE, IDENTITY_ASSIGNED, WAITING_CLOCK, 0);
        row("when the clock is right, the key for the token is loaded, and Waiting tells that the token is "
            "still to come",
            WITH(healthy(), f.outputs = OUTPUTS_BARE), ACTION_LOAD_FOR_HUB, IDENTITY_ASSIGNED, WAITING_CLOCK,
            0);
        row("the token follows once the clock is right and the key is loaded",
            WITH(healthy(), f.outputs = OUTPUTS_BARE, f.for_dps = f.for_hub = CREDENTIAL_LOADED),
            ACTION_PUBLISH, IDENTITY_ASSIGNED, WAITING_CLOCK, 0);
        row("a certificate needs no clock",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_LOADED,
                 f.has_token = false, f.clock = CLOCK_WAITED_FOR, f.clock_until_usec = LATER),
            ACTION_PUBLISH, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("if the token has expired, DPS is asked first",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_LOADED,
                 f.expires_realtime_usec = TODAY - USEC_PER_DAY,
                 f.renew_realtime_usec = TODAY - 4 * USEC_PER_DAY),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("if the token has expired, a new one is minted, whatever DPS says",
            WITH(starting(), f.folder = FOLDER_READY, f.for_dps = f.for_hub = CREDENTIAL_LOADED,
                 f.client = CLIENT_IN_FLIGHT, f.expires_realtime_usec = TODAY - USEC_PER_DAY,
                 f.renew_realtime_usec = TODAY - 4 * USEC_PER_DAY),
            ACTION_MINT, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a renewal that an earlier run did not finish continues", WITH(healthy(), f.attempts = 2),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("after a change of scope, endpoint or method, DPS is asked and the old assignment stays in use",
            WITH(healthy(), f.assignment = ASSIGNMENT_ELSEWHERE), ACTION_BEGIN, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("in a fleet that was reconfigured, each machine waits its own random delay",
            WITH(healthy(), f.assignment = ASSIGNMENT_ELSEWHERE, f.splay_usec = USEC_PER_MINUTE), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + USEC_PER_MINUTE);
        row("a reconfigured machine registers after its random delay",
            WITH(healthy(), f.assignment = ASSIGNMENT_ELSEWHERE, f.splay_usec = USEC_PER_MINUTE,
                 f.wanted_since_usec = NOW - USEC_PER_MINUTE),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a first registration is never put off", WITH(fresh(), f.splay_usec = USEC_PER_HOUR),
            ACTION_BEGIN, IDENTITY_UNPROVISIONED, WAITING_NOTHING, 0);
}

static void rows_about_renewal(void) {
        row("DPS is asked again when the token is to be renewed",
            WITH(healthy(), f.renew_realtime_usec = TODAY), ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING,
            0);
        row("a renewal that fails does not end the assignment",
            WITH(healthy(), f.client = CLIENT_BETWEEN, f.client_error = DPS_ERROR_TIMEOUT,
                 f.client_next_usec = LATER, f.attempts = 4, f.renew_realtime_usec = TODAY - USEC_PER_HOUR),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_RETRY, LATER);
        row("a renewal that DPS refuses does not end the assignment",
            WITH(healthy(), f.client = CLIENT_BETWEEN, f.client_error = DPS_ERROR_ENROLLMENT_DISABLED,
                 f.finals = 3, f.client_next_usec = LATER, f.attempts = 4),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_RETRY, LATER);
        row("before the old token expires the key for a new one is loaded",
            WITH(healthy(), f.client = CLIENT_BETWEEN, f.client_next_usec = LATER, f.attempts = 9,
                 f.renew_realtime_usec = TODAY - 2 * USEC_PER_DAY,
                 f.expires_realtime_usec = TODAY + USEC_PER_HOUR),
            ACTION_LOAD_FOR_HUB, IDENTITY_ASSIGNED, WAITING_RETRY, 0);
        row("a new token is minted before the old one expires",
            WITH(healthy(), f.client = CLIENT_BETWEEN, f.client_next_usec = LATER, f.attempts = 9,
                 f.for_dps = f.for_hub = CREDENTIAL_LOADED, f.renew_realtime_usec = TODAY - 2 * USEC_PER_DAY,
                 f.expires_realtime_usec = TODAY + USEC_PER_HOUR),
            ACTION_MINT, IDENTITY_ASSIGNED, WAITING_RETRY, 0);
        row("with Renew=token DPS is not asked",
            WITH(healthy(), f.renew = RENEW_TOKEN, f.renew_realtime_usec = TODAY), ACTION_LOAD_FOR_HUB,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a token made while the clock was ahead is replaced",
            WITH(healthy(), f.expires_realtime_usec = TODAY + 50 * USEC_PER_DAY,
                 f.renew_realtime_usec = TODAY + 47 * USEC_PER_DAY),
            ACTION_LOAD_FOR_HUB, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a token made while the clock was a little ahead is replaced too, if it were renewed too late",
            WITH(healthy(), f.expires_realtime_usec = TODAY + 33 * USEC_PER_DAY,
                 f.renew_realtime_usec = TODAY + f.lifetime_usec + USEC_PER_SEC),
            ACTION_LOAD_FOR_HUB, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a token that is renewed in time stays, although the clock was set",
            WITH(healthy(), f.expires_realtime_usec = TODAY + f.lifetime_usec + USEC_PER_DAY,
                 f.renew_realtime_usec = TODAY + f.lifetime_usec - USEC_PER_DAY),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + 29 * USEC_PER_DAY);
        row("no token is replaced while the clock may be behind",
            WITH(healthy(), f.clock_is_plausible = false, f.expires_realtime_usec = TODAY + 50 * USEC_PER_DAY,
                 f.renew_realtime_usec = TODAY + 47 * USEC_PER_DAY),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + 47 * USEC_PER_DAY);
        row("with a certificate nothing is renewed by time",
            WITH(healthy(), f.has_token = false, f.expires_realtime_usec = f.renew_realtime_usec = 0),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, USEC_INFINITY);
        row("a certificate that expires soon is reported",
            WITH(healthy(), f.has_token = false, f.expires_realtime_usec = f.renew_realtime_usec = 0,
                 f.certificate_expires_realtime_usec = TODAY + 29 * USEC_PER_DAY),
            ACTION_WARN_OF_EXPIRY, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("an expiring certificate is reported once, 30 days before",
            WITH(healthy(), f.has_token = false, f.expires_realtime_usec = f.renew_realtime_usec = 0,
                 f.certificate_expires_realtime_usec = TODAY + 31 * USEC_PER_DAY),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + USEC_PER_DAY);
        row("a changed certificate is proven by a registration",
            WITH(healthy(), f.has_token = false, f.proof = PROOF_WANTED, f.is_recorded = false), ACTION_BEGIN,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("the old certificate stays published until DPS has accepted the new one",
            WITH(healthy(), f.has_token = false, f.proof = PROOF_WANTED, f.is_recorded = false,
                 f.client = CLIENT_IN_FLIGHT, f.outputs = OUTPUTS_STALE, f.standing = STANDING_COMPLETE,
                 f.for_dps = f.for_hub = CREDENTIAL_LOADED),
            ACTION_KEEP_FILES, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("keys that change all the time do not cause a flood of requests",
            WITH(healthy(), f.proof = PROOF_WANTED, f.is_recorded = false, f.event_at_usec = LATER),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, LATER);
}

static void rows_about_requests_and_events(void) {
        row("on a request, DPS is asked at once", WITH(healthy(), f.has_jobs = true), ACTION_BEGIN,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a request joins the attempt in flight",
            WITH(healthy(), f.has_jobs = true, f.client = CLIENT_IN_FLIGHT), ACTION_WAIT, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("a request ends a wait between attempts",
            WITH(fresh_between(DPS_ERROR_REFUSED), f.has_jobs = true, f.news = NEWS_REQUEST),
            ACTION_HASTEN_NOW, IDENTITY_PROVISIONING, WAITING_RETRY, 0);
        row("a network that appears ends a wait",
            WITH(fresh_between(DPS_ERROR_UNREACHABLE), f.news = NEWS_NETWORK), ACTION_HASTEN,
            IDENTITY_PROVISIONING, WAITING_NETWORK, 0);
        row("a network that appears does not end the wait after a final answer",
            WITH(fresh_between(DPS_ERROR_ENROLLMENT_DISABLED), f.finals = 1, f.news = NEWS_NETWORK),
            ACTION_WAIT, IDENTITY_FAILED, WAITING_RETRY, LATER);
        row("a network that appears does not end a wait that DPS demanded",
            WITH(fresh_between(DPS_ERROR_THROTTLED), f.news = NEWS_NETWORK), ACTION_WAIT,
            IDENTITY_PROVISIONING, WAITING_THROTTLED, LATER);
        row("events end a wait at most three times an hour",
            WITH(fresh_between(DPS_ERROR_UNREACHABLE), f.news = NEWS_NETWORK, f.event_at_usec = LATER),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NETWORK, LATER);
        row("an attempt that comes in a moment is not hastened",
            WITH(fresh_between(DPS_ERROR_UNREACHABLE), f.news = NEWS_NETWORK,
                 f.client_next_usec = NOW + USEC_PER_SEC),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_NETWORK, NOW + USEC_PER_SEC);
        row("a clock that is set ends a wait", WITH(fresh_between(DPS_ERROR_CLOCK), f.news = NEWS_CLOCK),
            ACTION_HASTEN, IDENTITY_PROVISIONING, WAITING_CLOCK, 0);
        row("after a refusal by the hub, DPS is asked", WITH(healthy(), f.asked = REASON_HUB), ACTION_BEGIN,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("after a refusal by the hub, each machine waits its own random delay",
            WITH(healthy(), f.asked = REASON_HUB, f.splay_usec = USEC_PER_MINUTE), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + USEC_PER_MINUTE);
        row("a program that waits for a credential has it loaded", WITH(healthy(), f.n_waiters = 1),
            ACTION_LOAD_FOR_HUB, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
}

static void rows_about_clock_and_disk(void) {
        row("a renewal whose time has come begins", WITH(healthy(), f.renew_realtime_usec = TODAY),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("however early a renewal is wanted, DPS is not asked again within a minute",
            WITH(healthy(), f.renew_realtime_usec = TODAY - USEC_PER_HOUR,
                 f.renewal_not_before_usec = NOW + USEC_PER_MINUTE),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + USEC_PER_MINUTE);
        row("… nor for a certificate that is issued for seconds",
            WITH(healthy(), f.is_issued = f.wants_certificate = true, f.has_token = false,
                 f.issued_expires_realtime_usec = TODAY + USEC_PER_HOUR, f.renew_realtime_usec = TODAY,
                 f.renewal_not_before_usec = NOW + USEC_PER_MINUTE),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + USEC_PER_MINUTE);
        row("… but a token that expires meanwhile is made anew",
            WITH(healthy(), f.renew_realtime_usec = TODAY - USEC_PER_HOUR, f.expires_realtime_usec = TODAY,
                 f.for_hub = CREDENTIAL_LOADED, f.renewal_not_before_usec = NOW + USEC_PER_MINUTE),
            ACTION_MINT, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("… and somebody who asks is not told to wait",
            WITH(healthy(), f.has_jobs = true, f.renewal_not_before_usec = NOW + USEC_PER_MINUTE),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("if the clock is behind, DPS is asked only when it is right",
            WITH(fresh(), f.clock = CLOCK_WAITED_FOR, f.clock_until_usec = LATER), ACTION_WAIT,
            IDENTITY_UNPROVISIONED, WAITING_CLOCK, LATER);
        row("an attempt whose time has come waits for the clock too",
            WITH(fresh_between(DPS_ERROR_REFUSED), f.client_next_usec = NOW, f.clock = CLOCK_WAITED_FOR,
                 f.clock_until_usec = LATER),
            ACTION_WAIT, IDENTITY_PROVISIONING, WAITING_CLOCK, LATER);
        row("a save that the disk refused is tried again",
            WITH(healthy(), f.disk = DISK_REFUSES, f.save_at_usec = NOW), ACTION_SAVE, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("a save that the disk refused is not tried again too soon",
            WITH(healthy(), f.disk = DISK_REFUSES, f.save_at_usec = LATER), ACTION_WAIT, IDENTITY_ASSIGNED,
            WAITING_NOTHING, LATER);
        row("files that could not be written are tried again",
            WITH(healthy(), f.outputs = OUTPUTS_REFUSED, f.publish_at_usec = LATER), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, LATER);
        row("files that could not be written are tried again with their credential",
            WITH(healthy(), f.outputs = OUTPUTS_REFUSED, f.publish_at_usec = NOW), ACTION_LOAD_FOR_HUB,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("who waits for the credential of files that are to be written again does not wake up at once",
            WITH(healthy(), f.outputs = OUTPUTS_REFUSED, f.publish_at_usec = NOW,
                 f.for_hub = CREDENTIAL_LOADING),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a directory that could not be made is tried again",
            WITH(healthy(), f.folder = FOLDER_REFUSED, f.publish_at_usec = NOW), ACTION_PREPARE_FOLDER,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
}

static void check(void **state) {
        const Row *row = *state;
        Plan p;

        plan_make(&row->facts, &p);
        assert_string_equal(action_to_string(p.action), action_to_string(row->action));
        assert_string_equal(identity_state_to_string(p.state), identity_state_to_string(row->state));
        assert_string_equal(identity_waiting_to_string(p.waiting), identity_waiting_to_string(row->waiting));
        if (row->wake_usec > 0)
                assert_true(p.wake_usec == row->wake_usec);
        if (p.action == ACTION_WAIT) /* or it would spin */
                assert_true(p.wake_usec > row->facts.now_usec);
}

static Plan plan_of(Facts f) {
        Plan p;

        plan_make(&f, &p);
        return p;
}

/* ---- what is shown of the time ---- */

static void in_flight_there_is_no_time_of_the_next_attempt(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.client = CLIENT_IN_FLIGHT));
        assert_true(p.next_attempt_realtime_usec == 0);
}

static void the_next_contact_is_the_renewal(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.news = 0));
        assert_true(p.next_attempt_realtime_usec == TODAY + 17 * USEC_PER_DAY);
        p = plan_of(WITH(healthy(), f.renew = RENEW_TOKEN));
        assert_true(p.next_attempt_realtime_usec == 0);
        p = plan_of(WITH(healthy(), f.renew_realtime_usec = TODAY,
                         f.renewal_not_before_usec = NOW + USEC_PER_MINUTE));
        assert_true(p.next_attempt_realtime_usec == TODAY + USEC_PER_MINUTE);
}

static Facts issued(void) {
        Facts f = healthy();

        f.is_issued = f.wants_certificate = true;
        f.has_token = false;
        f.expires_realtime_usec = 0;
        f.issued_expires_realtime_usec = TODAY + 20 * USEC_PER_DAY;
        return f;
}

static void the_next_renewal_is_not_shown_while_one_is_saved(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.renew_realtime_usec = TODAY - USEC_PER_HOUR, f.saving = SAVING_ANSWER));
        assert_true(p.next_attempt_realtime_usec == 0);
}

static void the_time_of_a_request_that_waits_for_the_disk_is_not_shown(void **state) {
        Plan p;

        p = plan_of(WITH(issued(), f.has_jobs = true, f.saving = SAVING_ANSWER));
        assert_true(p.next_attempt_realtime_usec == 0);
}

static void a_renewal_waits_for_the_clock(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.renew_realtime_usec = TODAY + USEC_PER_MINUTE,
                         f.clock = CLOCK_WAITED_FOR, f.clock_until_usec = LATER));
        assert_true(p.next_attempt_realtime_usec == TODAY + USEC_PER_HOUR);
}

static void a_renewal_is_due_even_while_programs_cannot_get_the_token(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.renew_realtime_usec = TODAY + USEC_PER_MINUTE,
                         f.outputs = OUTPUTS_REFUSED, f.publish_at_usec = LATER));
        assert_true(p.next_attempt_realtime_usec == TODAY + USEC_PER_MINUTE);
        assert_true(p.wake_usec == NOW + USEC_PER_MINUTE);
}

static void the_next_contact_is_the_next_look_at_the_credential(void **state) {
        Plan p;

        p = plan_of(WITH(fresh(), f.for_dps = CREDENTIAL_FAILED, f.for_dps_error = DPS_ERROR_KEY,
                         f.for_dps_at_usec = LATER));
        assert_true(p.next_attempt_realtime_usec == TODAY + USEC_PER_HOUR);
}

static void cached_assignments_are_served_before_readiness(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.outputs = OUTPUTS_STALE));
        assert_false(p.is_serving);
        p = plan_of(WITH(healthy(), f.outputs = OUTPUTS_SIGNING));
        assert_false(p.is_serving);
        p = plan_of(WITH(healthy(), f.outputs = OUTPUTS_BARE));
        assert_true(p.is_serving);
        p = plan_of(WITH(fresh(), f.client = CLIENT_IN_FLIGHT));
        assert_true(p.is_serving);
}

static void once_ends_when_all_is_served_or_failed(void **state) {
        Plan p;

        p = plan_of(WITH(healthy(), f.news = 0));
        assert_true(p.is_settled);
        p = plan_of(WITH(healthy(), f.outputs = OUTPUTS_BARE, f.clock = CLOCK_WAITED_FOR,
                         f.clock_until_usec = LATER));
        assert_false(p.is_settled);
        p = plan_of(WITH(healthy(), f.saving = SAVING_TOKEN));
        assert_false(p.is_settled);
        /* A reader of the record would look for the pair in vain. */
        p = plan_of(WITH(healthy(), f.pair_is_unsaved = true, f.pair_at_usec = LATER));
        assert_false(p.is_settled);
        p = plan_of(WITH(healthy(), f.pair_is_unsaved = true, f.pair_is_being_saved = true));
        assert_false(p.is_settled);
        p = plan_of(WITH(healthy(), f.pair_is_unsaved = true, f.pair_at_usec = LATER, f.disk = DISK_REFUSES));
        assert_true(p.is_settled);
        p = plan_of(WITH(fresh_between(DPS_ERROR_AUTH), f.finals = 1));
        assert_true(p.is_settled);
        p = plan_of(WITH(fresh_between(DPS_ERROR_DNS), f.news = 0));
        assert_false(p.is_settled);
}

/* It asks for a certificate, has none, and was not told that there is none. */
static Facts unissued(void) {
        Facts f = healthy();

        f.wants_certificate = true;
        f.splay_usec = USEC_PER_MINUTE;
        f.wanted_since_usec = NOW;
        return f;
}

static void rows_about_issued_certificates(void) {
        row("an issued certificate is renewed at its time, whatever Renew= says",
            WITH(issued(), f.renew = RENEW_TOKEN), ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING,
            NOW + 17 * USEC_PER_DAY);
        row("DPS is asked when a certificate is to be renewed", WITH(issued(), f.renew_realtime_usec = TODAY),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a certificate is served while DPS refuses a new one",
            WITH(issued(), f.renew_realtime_usec = TODAY, f.client = CLIENT_BETWEEN,
                 f.client_next_usec = LATER, f.client_error = DPS_ERROR_ENROLLMENT_DISABLED),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_RETRY, LATER);
        row("an expired certificate gives way to the credential for DPS",
            WITH(issued(), f.issued_expires_realtime_usec = TODAY), ACTION_DROP_ISSUED, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("a clock that is wrong lets no certificate expire",
            WITH(issued(), f.issued_expires_realtime_usec = TODAY, f.clock_is_plausible = false), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a certificate that is lost is dropped",
            WITH(issued(), f.for_hub = CREDENTIAL_FAILED, f.for_hub_error = DPS_ERROR_ISSUANCE),
            ACTION_DROP_ISSUED, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a disk that does not read loses no certificate",
            WITH(issued(), f.for_hub = CREDENTIAL_FAILED, f.for_hub_error = DPS_ERROR_DISK), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_RETRY, 0);
        row("a token that is not there loses no certificate, and is waited for",
            WITH(issued(), f.for_hub = CREDENTIAL_FAILED, f.for_hub_error = DPS_ERROR_KEY), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_KEY, 0);
        row("a certificate that is not wanted any more is dropped",
            WITH(issued(), f.wants_certificate = false), ACTION_DROP_ISSUED, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("a faulty configuration drops no certificate",
            WITH(issued(), f.wants_certificate = false, f.has_settings = false, f.is_faulty = true,
                 f.configuration = CONFIGURATION_NONE, f.configuration_error = DPS_ERROR_CONFIG),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_CONFIG, 0);
        row("a certificate is not dropped while its successor is saved",
            WITH(issued(), f.issued_expires_realtime_usec = TODAY, f.saving = SAVING_ANSWER), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("the end of a certificate that dpsd renews is not warned of",
            WITH(issued(), f.certificate_expires_realtime_usec = TODAY + USEC_PER_DAY), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("a certificate that a changed configuration asks for is fetched after the splay", unissued(),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + USEC_PER_MINUTE);
        row("it is then asked for", WITH(unissued(), f.wanted_since_usec = NOW - USEC_PER_MINUTE),
            ACTION_BEGIN, IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("certificates that live for seconds are not asked for without end",
            WITH(unissued(), f.wanted_since_usec = NOW - USEC_PER_MINUTE,
                 f.certificate_not_before_usec = LATER),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, LATER);
        row("certificates that are due for renewal at once are not renewed without end",
            WITH(issued(), f.renew_realtime_usec = TODAY, f.certificate_not_before_usec = LATER), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, LATER);
        row("where DPS issues none it is not asked again", WITH(unissued(), f.was_refused_certificate = true),
            ACTION_WAIT, IDENTITY_ASSIGNED, WAITING_NOTHING, NOW + 17 * USEC_PER_DAY);
        row("a pair that the disk refused is written again when its time has come",
            WITH(issued(), f.pair_is_unsaved = true, f.pair_at_usec = NOW), ACTION_SAVE_PAIR,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("and not before", WITH(issued(), f.pair_is_unsaved = true, f.pair_at_usec = LATER), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, LATER);
        row("no key is made for a request while the pair before is being saved",
            WITH(issued(), f.has_jobs = true, f.pair_is_unsaved = f.pair_is_being_saved = true), ACTION_WAIT,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("nor while the answer before is being saved",
            WITH(issued(), f.has_jobs = true, f.saving = SAVING_ANSWER), ACTION_WAIT, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
        row("a disk that refuses the pair does not keep a request waiting",
            WITH(issued(), f.has_jobs = true, f.pair_is_unsaved = true, f.pair_at_usec = LATER), ACTION_BEGIN,
            IDENTITY_ASSIGNED, WAITING_NOTHING, 0);
        row("who wants no certificate makes no key and need not wait for the disk",
            WITH(healthy(), f.has_jobs = true, f.saving = SAVING_ANSWER), ACTION_BEGIN, IDENTITY_ASSIGNED,
            WAITING_NOTHING, 0);
}

int main(void) {
        static const struct CMUnitTest others[] = {
                cmocka_unit_test(in_flight_there_is_no_time_of_the_next_attempt),
                cmocka_unit_test(the_next_contact_is_the_renewal),
                cmocka_unit_test(the_next_renewal_is_not_shown_while_one_is_saved),
                cmocka_unit_test(the_time_of_a_request_that_waits_for_the_disk_is_not_shown),
                cmocka_unit_test(a_renewal_waits_for_the_clock),
                cmocka_unit_test(a_renewal_is_due_even_while_programs_cannot_get_the_token),
                cmocka_unit_test(the_next_contact_is_the_next_look_at_the_credential),
                cmocka_unit_test(cached_assignments_are_served_before_readiness),
                cmocka_unit_test(once_ends_when_all_is_served_or_failed),
        };
        struct CMUnitTest tests[ELEMENTSOF(rows) + ELEMENTSOF(others)] = { 0 };

        rows_about_the_configuration();
        rows_about_credentials();
        rows_about_the_first_assignment();
        rows_about_a_start_from_cache();
        rows_about_renewal();
        rows_about_requests_and_events();
        rows_about_clock_and_disk();
        rows_about_issued_certificates();
        for (size_t k = 0; k < n_rows; k++)
                tests[k] = (struct CMUnitTest){ .name = rows[k].promise,
                                                .test_func = check,
                                                .initial_state = &rows[k] };
        memcpy(tests + n_rows, others, sizeof(others));
        return _cmocka_run_group_tests("plan", tests, n_rows + ELEMENTSOF(others), NULL, NULL);
}
