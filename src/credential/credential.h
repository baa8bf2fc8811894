/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How an identity proves who it is: a key or a certificate, loaded once and then used for everything that one registration
 * or one start needs. Loading runs on the world's worker, since a file system or a chip may be slow. Errors have the id
 * `config` where a file or its content is wrong (unreadable, too open, bad base64, key and certificate differ), `key` where
 * it is not there yet, `memory` where there was not enough memory to look.
 */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"
#include "config/settings.h"
#include "dps/error.h"

typedef struct Credential Credential;
typedef struct CredentialQuery CredentialQuery;

/* Which credential is wanted. */
typedef struct CredentialWish {
        Settings *settings;          /* the query takes a reference */
        const char *registration_id; /* copied; the assignment's, where the settings have no valid one */
        /* The first possible method of Method= is taken: one that this build supports and one of whose credentials can be
         * loaded. But this one stays while it is in Method= and has keys in the configuration: if they cannot be loaded,
         * the query fails. _METHOD_MAX: none is kept. */
        Method kept;
        /* Of several keys or certificates of the kept method (or of each method, where none is kept) the one to try first;
         * the first one, where the list has become shorter. */
        unsigned index;
        bool only;  /* no other index is tried */
        bool exact; /* the kept method is taken though it is not in Method=, and no other is */
} CredentialWish;

/* Exactly one of `credential` and `error` is set. The handler owns the reference. It is called from the loop, never from
 * within credential_load(). */
typedef void (*credential_handler_t)(Credential *credential, const DpsError *error, void *userdata);

/* `ret` is valid until the handler is called or it is freed; NULL where nobody will want to free it. -ENOMEM. */
int credential_load(World *w, const CredentialWish *wish, credential_handler_t handler, void *userdata,
                    CredentialQuery **ret);
/* The handler is not called any more. */
CredentialQuery *credential_query_free(CredentialQuery *q);
DEFINE_FREEP(CredentialQuery, credential_query_free)

/* A credential does not change. References may be taken and dropped in any thread; the last one wipes its secrets. */
Credential *credential_ref(Credential *c);
Credential *credential_unref(Credential *c);
DEFINE_FREEP(Credential, credential_unref)

Method credential_method(const Credential *c);
unsigned credential_index(const Credential *c);
/* Distinguishes this credential from all others, in hex: always the same for the same key or certificate. It reveals nothing
 * about a secret. */
const char *credential_fingerprint(const Credential *c);
/* CLOCK_REALTIME; 0: it does not expire. */
uint64_t credential_expires_at_usec(const Credential *c);

/* The handler owns the token: it erases and frees it. NULL: `error` says why. */
typedef void (*credential_token_handler_t)(char *token, const DpsError *error, void *userdata);
/* Signs a SAS token; not for X.509, which has none. 1: `ret` is the token, which the caller erases and frees. 0: the key
 * is slow, and the handler gets the token later, from the loop; `ret_query` is as credential_load()'s. On failure `error`
 * is set. `policy` may be NULL. */
int credential_sign(Credential *c, World *w, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, credential_token_handler_t handler, void *userdata,
                    CredentialQuery **ret_query, DpsError *error);

typedef struct ClientCertificate {
        STACK_OF(X509) * chain; /* leaf first */
        EVP_PKEY *key;
        char *pem;           /* the chain as text */
        char *key_pem;       /* only with ShareKey=yes and a key file; a secret */
        char *key_reference; /* the path of the key, or its URI */
        char *common_name;
        uint64_t not_before_usec, not_after_usec;
} ClientCertificate;
/* Owned by the credential; NULL for other methods than X.509. */
const ClientCertificate *credential_certificate(const Credential *c);

/* How many credentials the method has in the settings, to be tried in turn when DPS refuses one. */
unsigned credential_count(const Settings *s, Method method);
/* The files to watch for changes: keys, certificates, systemd credentials. */
int credential_paths(const Settings *s, char ***ret);
