/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The steps of `dpsctl check`. Each looks at one thing that a registration needs, and adds rows that say what it found.
 * Steps block, so they run on the worker. inspection.h runs them in order, and does what needs the loop.
 *
 *      check.c           the rows, and what the steps share
 *      check-system.c    this device: its clock and its configuration
 *      check-keys.c      keys and certificates
 *      check-trust.c     the CAs that Azure's certificates come from
 *      check-network.c   names, connections, TLS
 *      check-hub.c       a log-in at the hub
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/json.h"
#include "config/proxy.h"
#include "config/settings.h"
#include "credential/credential.h"

typedef enum CheckResult {
        CHECK_OK,
        CHECK_SKIPPED,
        CHECK_WARNING,
        CHECK_FAILURE,
        _CHECK_RESULT_MAX,
} CheckResult;

typedef struct CheckRow {
        const char *about; /* a literal */
        CheckResult result;
        char *text; /* the state; or what is wrong and what to do */
} CheckRow;

typedef struct Checks {
        CheckRow *rows;
        size_t n;
        bool failed; /* out of memory */
} Checks;

#define CHECK_CREDENTIALS_MAX 4U

/* What the hub is shown. */
typedef struct CheckHub {
        char *host, *device_id;
        bool is_asked; /* to log in there */
        char *token;   /* a secret; NULL: the certificate is shown */
        Credential *credential;
        char *why_not; /* why nothing can be shown; NULL: something can */
} CheckHub;

/* What is looked at, and what the steps found out for the next ones. One step runs at a time; one that hangs keeps its
 * reference, and nobody else looks at what it would have found out. */
typedef struct CheckSubject {
        unsigned n_references;
        char *name;         /* "": this device */
        char **directories; /* of the configuration */
        char *twin;         /* another identity that keeps the same device; NULL: none */
        bool is_unread;     /* the daemon has not read the file yet */
        Settings *known;    /* that the daemon uses; NULL: none, or it was not asked */
        bool is_synchronized;
        uint64_t behind_usec; /* of the clock, as far as known */

        int r;                    /* -ENOENT: the identity has no file */
        char **names;             /* this device: its identities */
        Settings *settings;       /* NULL: they have errors */
        Proxy *proxy;             /* on the way to the endpoint; NULL: none */
        bool is_lost;             /* the way to the endpoint cannot be found */
        bool is_reached;          /* the endpoint's MQTT port does TLS as it should */
        bool is_reached_by_https; /* its HTTPS port does, or is not looked at */
        Credential *credentials[CHECK_CREDENTIALS_MAX];
        unsigned n_credentials;
        CheckHub hub; /* its host NULL: not assigned */
} CheckSubject;

int check_subject_new(const char *name, CheckSubject **ret);
CheckSubject *check_subject_ref(CheckSubject *s);
CheckSubject *check_subject_unref(CheckSubject *s);
DEFINE_FREEP(CheckSubject, check_subject_unref)

void checks_add(Checks *c, const char *about, CheckResult result, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* Appends the rows of `more`, and empties it. */
void checks_take(Checks *c, Checks *more);
void checks_done(Checks *c);
const char *check_result_to_string(CheckResult r);
/* {"version":1,"checks":[…],…}: what Check() of the Manager answers. -ENOMEM. */
int check_to_json(const Checks *c, const CheckSubject *s, char **ret);

void check_device(Checks *c, CheckSubject *s);
void check_configuration(Checks *c, CheckSubject *s);
void check_keys(Checks *c, CheckSubject *s);
void check_trust(Checks *c, CheckSubject *s);
/* Which proxy is on the way; its password is read. */
void check_route(Checks *c, CheckSubject *s);
void check_names(Checks *c, CheckSubject *s);
void check_mqtt(Checks *c, CheckSubject *s);
void check_https(Checks *c, CheckSubject *s);
void check_hub(Checks *c, CheckSubject *s);
void check_hub_login(Checks *c, CheckSubject *s);

/* "The clock is 3 days behind, which may be the reason", or "". */
#define CHECK_CLOCK_TEXT_MAX 160
const char *check_clock_hint(const CheckSubject *s, char buffer[static CHECK_CLOCK_TEXT_MAX]);

/* What to do about an error, but not to check. */
#define CHECK_ADVICE_MAX 512
const char *check_advice(const DpsError *error, char buffer[static CHECK_ADVICE_MAX]);

/* Whether a name belongs to DPS or IoT Hub in one of Azure's clouds. */
typedef enum AzureCloud {
        AZURE_GLOBAL,
        AZURE_CHINA,
        AZURE_US_GOVERNMENT,
        _AZURE_CLOUD_MAX, /* none of them */
} AzureCloud;
AzureCloud azure_cloud_of(const char *host);
