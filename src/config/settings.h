/* SPDX-License-Identifier: MIT */
#pragma once

/* What the lines of a Conf mean: every key of dps.conf(5), checked and with its default. */

#include <stdbool.h>
#include <stdint.h>

#include "config/conf.h"
#include "config/specifier.h"

/* Not every box has programs of other users: it may not exist. */
#define GROUP_DEFAULT "dps"

typedef enum Method {
        METHOD_SYMMETRIC_KEY, /* "symmetric-key" */
        METHOD_X509,          /* "x509" */
        METHOD_TPM,           /* "tpm" */
        _METHOD_MAX,
} Method;

typedef enum TransportChoice {
        TRANSPORT_AUTO,
        TRANSPORT_MQTT,
        TRANSPORT_HTTPS,
        _TRANSPORT_MAX,
} TransportChoice;

typedef enum Renew {
        RENEW_PROVISION,
        RENEW_TOKEN,
        _RENEW_MAX,
} Renew;

/* A value and where it was written, for errors that are found later (a key file that cannot be read). */
typedef struct Place {
        char *file;
        unsigned line;
} Place;

/* They do not change after they are made, so that several threads may read them. */
typedef struct Settings {
        unsigned n_more_references; /* beside the first, so that zeroed settings have one */
        char *name;

        /* [Provisioning] */
        char *id_scope; /* may hold specifiers, as may all that are not marked: settings_expand() */
        char *registration_id;
        char *endpoint;
        uint16_t mqtt_port, https_port;
        TransportChoice transport;
        char *api_version; /* no specifiers */
        char *payload;     /* JSON text */
        char *payload_file;
        uint64_t splay_usec;
        bool required_for_provisioned;
        char *proxy;          /* a secret may be in it: never print; no specifiers */
        char *proxy_password; /* a reference */
        char **no_proxy;      /* no specifiers */
        char **ca_files;      /* NULL: system */

        /* [Attestation] */
        Method methods[_METHOD_MAX]; /* in order of preference */
        unsigned n_methods;
        char **keys; /* references: credential:NAME or absolute path, not expanded text of keys */
        char **group_keys;
        char **certificates;
        char **private_keys; /* references, or URIs (pkcs11:, handle:) without specifiers */
        Place keys_place,
                certificates_place; /* of the last line that set Key=/GroupKey=, Certificate=/PrivateKey= */

        /* [Hub] */
        uint64_t token_lifetime_usec;
        unsigned renew_before_percent; /* 0: renew_before_usec counts */
        uint64_t renew_before_usec;
        Renew renew;

        /* [Access] */
        char *group; /* no specifiers */
        bool share_key;

        struct ValuePlace *specifiers; /* settings-internal.h's: where values with specifiers are from */
        size_t n_specifiers;           /* 0: expanded */
} Settings;

/* `defaults` (of dpsd.conf, its sections for identities) may be NULL; what the identity assigns replaces them, lists
 * too. Always gives settings where memory lasts: with errors in the report they are not to be used. What this version
 * cannot do is an error as well. */
int settings_from_conf(const Conf *defaults, const Conf *own, ConfReport *report, Settings **ret);
/* In any thread. */
Settings *settings_ref(Settings *s);
Settings *settings_unref(Settings *s);
DEFINE_FREEP(Settings, settings_unref)
/* A copy with all specifiers expanded, and checked; errors as specifier_expand(), and `ret_why` names file, line and key too.
 * %{cert-cn} is of the first Certificate= where the context names none. */
int settings_expand(const Settings *s, const SpecifierContext *context, Settings **ret, char **ret_why);
/* Whether a reload has to disturb the identity. */
bool settings_equal(const Settings *a, const Settings *b);

/* [Daemon] of dpsd.conf. `conf` may be NULL. What is wrong with the defaults for identities is reported as well. */
typedef struct DaemonSettings {
        unsigned max_attempts; /* in flight, default 50 */
} DaemonSettings;
void daemon_settings_from_conf(const Conf *conf, ConfReport *report, DaemonSettings *ret);

const char *method_to_string(Method m);
int method_from_string(const char *word, Method *ret);
const char *transport_choice_to_string(TransportChoice t);

/* Whether a value of PrivateKey= names a key in hardware, not a file. */
bool private_key_is_uri(const char *value);

/* For `dpsctl cat-config`: values of this key are never shown; nor are those of unknown keys, misspelt as they are. */
bool settings_key_is_secret(const char *section, const char *key);
