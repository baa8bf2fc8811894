/* SPDX-License-Identifier: MIT */
#pragma once

/* The meaning of the lines of a Conf: every key of dps.conf(5), checked, and with its default. */

#include <stdbool.h>
#include <stdint.h>

#include "config/conf.h"
#include "config/specifier.h"

/* The group may not exist: not every device runs programs of other users. */
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

typedef enum KeyType {
        KEY_TYPE_EC_P256,  /* "ec-p256" */
        KEY_TYPE_EC_P384,  /* "ec-p384" */
        KEY_TYPE_RSA_2048, /* "rsa-2048" */
        _KEY_TYPE_MAX,
} KeyType;

/* Where a value was written, for faults that are found later, such as a key file that cannot be read. */
typedef struct Place {
        char *file;
        unsigned line;
} Place;

/* They do not change after they are made, so that several threads may read them. */
typedef struct Settings {
        unsigned n_more_references; /* beside the first, so that zeroed settings have one */
        char *name;

        /* [Provisioning] */
        char *id_scope; /* may hold specifiers, as all members that are not marked: settings_expand() */
        char *registration_id;
        char *endpoint;
        char **addresses; /* NULL: those of the endpoint's name; no specifiers */
        uint16_t mqtt_port, https_port;
        TransportChoice transport;
        char *api_version; /* no specifiers */
        char *payload;     /* JSON text */
        char *payload_file;
        uint64_t splay_usec;
        bool required_for_provisioned;
        char *proxy;          /* a URL or "none"; NULL: the environment's; never print it; no specifiers */
        char *proxy_password; /* a reference */
        char **no_proxy;      /* NULL: the environment's; no specifiers */
        char **ca_files;      /* NULL: the CAs of the system */

        /* [Attestation] */
        Method methods[_METHOD_MAX]; /* in order of preference */
        unsigned n_methods;
        char **keys; /* references, credential:NAME or an absolute path; never the keys themselves */
        char **group_keys;
        char **certificates;
        char **private_keys;      /* references, or URIs (pkcs11:, handle:), which have no specifiers */
        char *pin;                /* a reference, of the token or of the key in the TPM; NULL: none */
        char *pkcs11_module;      /* NULL: p11-kit's proxy; no specifiers */
        Place keys_place;         /* of the last line that set Key= or GroupKey= */
        Place certificates_place; /* of the last line that set Certificate= or PrivateKey= */
        char *tcti;               /* how to talk to the TPM; no specifiers */
        uint32_t ek_handle, srk_handle, tpm_key_handle; /* in the TPM */
        char *tpm_owner_auth, *tpm_endorsement_auth;    /* references; NULL: the auths are empty */

        /* [Hub] */
        uint64_t token_lifetime_usec;
        unsigned renew_before_percent; /* 0: renew_before_usec is used */
        uint64_t renew_before_usec;
        Renew renew;
        char **restart_units, **reload_units; /* NULL: none; no specifiers */

        /* [Issuance] */
        bool issuance_requested; /* DPS is asked for a certificate */
        bool api_version_steps;  /* ApiVersion= is not set: an older version that issues will do */
        char *issuance_key;      /* where the key is made: a URI (pkcs11:), "tpm" or "file"; NULL: file */
        Place issuance_place;    /* of the last line that set it */
        KeyType issuance_key_type;
        unsigned issuance_renew_percent; /* of a certificate's life; 0: issuance_renew_before_usec is used */
        uint64_t issuance_renew_before_usec;

        /* [Access] */
        char *group; /* no specifiers */
        bool share_key;
        bool api; /* there is a socket for HTTP */

        struct ValuePlace *specifiers; /* where values with specifiers were written: settings-internal.h */
        size_t n_specifiers;           /* 0: there are none, or they are expanded */
} Settings;

/* `defaults` is dpsd.conf, or NULL. What the identity assigns replaces its defaults, also those of lists. Fails
 * only with -ENOMEM: if there are errors in the report, `ret` is set but must not be used, except for the units
 * in [Hub]. A setting that this build cannot carry out is an error, too. */
int settings_from_conf(const Conf *defaults, const Conf *own, ConfReport *report, Settings **ret);
/* In any thread. */
Settings *settings_ref(Settings *s);
Settings *settings_unref(Settings *s);
DEFINE_FREEP(Settings, settings_unref)
/* Whether the key of an issued certificate is made in a token or a TPM. */
static inline bool settings_issue_in_hardware(const Settings *s) {
        return s->issuance_key && s->issuance_key[0] != 'f';
}
/* A copy with all specifiers expanded and their values checked. Fails as specifier_expand() does; `ret_why`
 * also names file, line and key. If the context has no certificate, %{cert-cn} is of the first
 * Certificate=. */
int settings_expand(const Settings *s, const SpecifierContext *context, Settings **ret, char **ret_why);
/* Whether the device's key is derived from a group key and from a registration id with capital letters. */
bool settings_derive_from_capitals(const Settings *s);
bool registration_id_has_capitals(const char *id);
#define SETTINGS_CAPITALS_WARNING                                                                            \
        "has capital letters, and the device's key is derived from it: DPS refuses the key if it knows the " \
        "id in lower case; lower case is safe"
/* Whether two settings are the same, so that a reload does not disturb the identity. */
bool settings_equal(const Settings *a, const Settings *b);

/* [Daemon] of dpsd.conf. `conf` may be NULL. Faults in the defaults for identities are reported as well. */
typedef struct DaemonSettings {
        unsigned max_attempts; /* at the same time; default 50 */
} DaemonSettings;
void daemon_settings_from_conf(const Conf *conf, ConfReport *report, DaemonSettings *ret);

const char *method_to_string(Method m);
int method_from_string(const char *word, Method *ret);
const char *transport_choice_to_string(TransportChoice t);

/* Reads PayloadFile=. On failure, `ret_why` says why, after the path. */
int payload_read(const char *path, char **ret, char **ret_why);

/* Whether a value of PrivateKey= names a key in hardware, not a file. */
bool private_key_is_uri(const char *value);

/* Whether `dpsctl cat-config` hides the values of this key. It hides those of unknown keys, too: the key may
 * be a misspelt one whose value is secret. */
bool settings_key_is_secret(const char *section, const char *key);
