/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How an identity proves who it is: a key or a certificate, loaded once and then used for all that one registration or one
 * start needs. Loading runs in the world's worker, since a file system or a chip may be slow. Errors have the id `config`
 * where a file or what is in it is wrong (unreadable, too open, bad base64, key and certificate differ), `key` where it is
 * not there yet, `memory` where there was no memory to look.
 */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"
#include "config/settings.h"
#include "dps/error.h"

typedef struct Credential Credential;
typedef struct CredentialQuery CredentialQuery;

/* Which credential is wanted. */
typedef struct CredentialWish {
        Settings *settings; /* a reference is taken while it is loaded */
        const char *
                registration_id; /* copied; that of an assignment where the settings have none that is good */
        Method kept; /* stays while it is in Method= and has keys; then no other is tried. _METHOD_MAX: none is kept */
        unsigned index; /* of several keys or certificates the one to try first */
        bool only;      /* no other index is tried */
} CredentialWish;

/* One of `credential`, a reference that the handler owns, and `error` is set. Called from the loop, never from within
 * credential_load(). */
typedef void (*credential_handler_t)(Credential *credential, const DpsError *error, void *userdata);

int credential_load(World *w, const CredentialWish *wish, credential_handler_t handler, void *userdata,
                    CredentialQuery **ret);
/* The handler is not called any more. */
CredentialQuery *credential_query_free(CredentialQuery *q);
DEFINE_FREEP(CredentialQuery, credential_query_free)

Credential *credential_ref(Credential *c);
Credential *credential_unref(Credential *c);
DEFINE_FREEP(Credential, credential_unref)

Method credential_method(const Credential *c);
unsigned credential_index(const Credential *c);
/* What tells this credential from another one, in hex; the same for the same key or certificate for ever, and nothing
 * about it. */
const char *credential_fingerprint(const Credential *c);
/* CLOCK_REALTIME; 0: it does not expire. */
uint64_t credential_expires_at_usec(const Credential *c);

/* Signs a SAS token, for methods that have them. 1: `ret` is the token, which the caller erases and frees; 0: the handler
 * will have it, since the key is slow. Fills `error` on failure. */
typedef void (*credential_token_handler_t)(char *token, const DpsError *error, void *userdata);
int credential_sign(Credential *c, World *w, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, credential_token_handler_t handler, void *userdata,
                    CredentialQuery **ret_query, DpsError *error);

/* Of X.509; NULL for other methods. Owned by the credential. */
typedef struct ClientCertificate {
        STACK_OF(X509) * chain; /* leaf first */
        EVP_PKEY *key;
        char *pem;           /* the chain as text */
        char *key_pem;       /* only with ShareKey=yes and a key file; a secret */
        char *key_reference; /* the path of the key, or its URI */
        char *common_name;
        uint64_t not_before_usec, not_after_usec;
} ClientCertificate;
const ClientCertificate *credential_certificate(const Credential *c);

/* How many credentials the method has in the settings, to be tried in turn when DPS refuses one. */
unsigned credential_count(const Settings *s, Method method);
/* The files to watch for changes: keys, certificates, systemd credentials. */
int credential_paths(const Settings *s, char ***ret);
