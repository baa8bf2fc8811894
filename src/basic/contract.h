/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What programs outside rely on: the names on D-Bus, the properties of an identity, the exit codes. In C they are listed
 * here and nowhere else: dpsd makes its vtable and its IdentityView from this list, dpsctl its table of properties. The
 * descriptions in data/ are compared with what the daemon says of itself by tests/integration/test_bus_description.py.
 * New names may be added; a name that is here never changes its meaning and never goes away.
 */

/* --- D-Bus -------------------------------------------------------------------------------------------------------- */

#define DPS_BUS_NAME "io.dpsd.dps1"
#define DPS_BUS_PATH "/io/dpsd/dps1"
#define DPS_BUS_IDENTITY_PREFIX "/io/dpsd/dps1/identity" /* with /NAME, by sd_bus_path_encode() */

#define DPS_BUS_MANAGER "io.dpsd.dps1.Manager"
#define DPS_BUS_IDENTITY "io.dpsd.dps1.Identity"

#define DPS_BUS_ERROR_NOT_ASSIGNED "io.dpsd.dps1.Error.NotAssigned"
#define DPS_BUS_ERROR_NO_SUCH_IDENTITY "io.dpsd.dps1.Error.NoSuchIdentity"
#define DPS_BUS_ERROR_CLOCK_NOT_TRUSTED "io.dpsd.dps1.Error.ClockNotTrusted"
#define DPS_BUS_ERROR_RATE_LIMITED "io.dpsd.dps1.Error.RateLimited"
#define DPS_BUS_ERROR_NOT_SUPPORTED "io.dpsd.dps1.Error.NotSupported"
#define DPS_BUS_ERROR_KEY_UNAVAILABLE "io.dpsd.dps1.Error.KeyUnavailable"
#define DPS_BUS_ERROR_CONFIG "io.dpsd.dps1.Error.Config"

/* In the runtime directory: an entry NAME is a flag that the connection of this identity has changed. dpsd raises it,
 * dps-consumers takes it down. No identity has this name. */
#define CONSUMERS_FLAGS ".changed"

/* How private a property is, which is what `dpsctl --redact` goes by. */
typedef enum Privacy {
        PRIVACY_NONE, /* shown as it is */
        PRIVACY_TEXT, /* text for people: private values in it are masked, the rest is shown */
        PRIVACY_SCOPE,
        PRIVACY_ID,
        PRIVACY_HUB,
        PRIVACY_OTHER, /* no property: a value that a message marks as private (redact.c) */
        _PRIVACY_MAX,
} Privacy;

/*
 * The properties of io.dpsd.dps1.Identity, in the order in which dpsctl shows them. A row has the name, the D-Bus type,
 * the C member, whether PropertiesChanged is sent for it (EMITS_CHANGE), or not (UNTOLD), or it never changes (CONST), and
 * its privacy.
 * Times are microseconds of CLOCK_REALTIME, 0 where there is none.
 */
/* clang-format off */
#define IDENTITY_PROPERTIES(X)                                                                   \
        X("Name",                   s, name,                     CONST,        TEXT)             \
        X("State",                  s, state,                    EMITS_CHANGE, NONE)             \
        X("Waiting",                s, waiting,                  EMITS_CHANGE, NONE)             \
        X("Healthy",                b, healthy,                  EMITS_CHANGE, NONE)             \
        X("Configured",             b, configured,               EMITS_CHANGE, NONE)             \
        X("RequiredForProvisioned", b, required_for_provisioned, EMITS_CHANGE, NONE)             \
        X("IdScope",                s, id_scope,                 EMITS_CHANGE, SCOPE)            \
        X("RegistrationId",         s, registration_id,          EMITS_CHANGE, ID)               \
        X("Endpoint",               s, endpoint,                 EMITS_CHANGE, NONE)             \
        X("AttestationMethod",      s, attestation_method,       EMITS_CHANGE, NONE)             \
        X("HubAuthentication",      s, hub_authentication,       EMITS_CHANGE, NONE)             \
        X("CertificateKind",        s, certificate_kind,         EMITS_CHANGE, NONE)             \
        X("ConnectionProfile",      s, connection_profile,       EMITS_CHANGE, TEXT)             \
        X("Transport",              s, transport,                EMITS_CHANGE, NONE)             \
        X("AssignedHub",            s, assigned_hub,             EMITS_CHANGE, HUB)              \
        X("DeviceId",               s, device_id,                EMITS_CHANGE, ID)               \
        X("Substatus",              s, substatus,                EMITS_CHANGE, NONE)             \
        X("Generation",             t, generation,               EMITS_CHANGE, NONE)             \
        X("AssignedAt",             t, assigned_at,              EMITS_CHANGE, NONE)             \
        X("StateSince",             t, state_since,              EMITS_CHANGE, NONE)             \
        X("TokenExpiresAt",         t, token_expires_at,         EMITS_CHANGE, NONE)             \
        X("CertificateExpiresAt",   t, certificate_expires_at,   EMITS_CHANGE, NONE)             \
        X("RenewAt",                t, renew_at,                 EMITS_CHANGE, NONE)             \
        X("NextAttemptAt",          t, next_attempt_at,          EMITS_CHANGE, NONE)             \
        X("AttemptSince",           t, attempt_since,            EMITS_CHANGE, NONE)             \
        X("AttemptStep",            s, attempt_step,             UNTOLD,       NONE)             \
        X("LastSuccessAt",          t, last_success_at,          EMITS_CHANGE, NONE)             \
        X("HubLastSeenAt",          t, hub_last_seen_at,         EMITS_CHANGE, NONE)             \
        X("HubLastFailureAt",       t, hub_last_failure_at,      EMITS_CHANGE, NONE)             \
        X("HubLastFailure",         s, hub_last_failure,         EMITS_CHANGE, TEXT)             \
        X("HubFailures",            u, hub_failures,             EMITS_CHANGE, NONE)             \
        X("Attempts",               u, attempts,                 EMITS_CHANGE, NONE)             \
        X("FailingSince",           t, failing_since,            EMITS_CHANGE, NONE)             \
        X("LastErrorAt",            t, last_error_at,            EMITS_CHANGE, NONE)             \
        X("LastError",              s, last_error,               EMITS_CHANGE, TEXT)             \
        X("LastErrorId",            s, last_error_id,            EMITS_CHANGE, NONE)             \
        X("LastErrorStep",          s, last_error_step,          EMITS_CHANGE, NONE)             \
        X("LastErrorCode",          u, last_error_code,          EMITS_CHANGE, NONE)             \
        X("LastTrackingId",         s, last_tracking_id,         EMITS_CHANGE, NONE)
/* clang-format on */

/* --- exit codes --------------------------------------------------------------------------------------------------- */

/* Of dpsctl, and of dpsd --once. */
typedef enum Exit {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_NOT_ASSIGNED = 3,
        EXIT_NO_IDENTITY = 4,
        EXIT_NOT_PERMITTED = 5,
        EXIT_NO_DAEMON = 6,
        EXIT_TIMED_OUT = 7,
        EXIT_RATE_LIMITED = 8,
} Exit;
