/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How an identity proves who it is: by a key or a certificate. It is loaded once, and then used for
 * everything in one registration or one start of the daemon. Loading runs on the world's worker, since a file
 * system or a chip may be slow. The id of an error is `config` if a file or its content is wrong (unreadable,
 * too open, bad base64, key and certificate differ), `key` if the file does not exist yet, and `memory` if
 * there was not enough memory.
 */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/folder.h"
#include "basic/world.h"
#include "config/settings.h"
#include "dps/error.h"

typedef struct Credential Credential;
typedef struct CredentialQuery CredentialQuery;

/* Which credential is wanted. */
typedef struct CredentialWish {
        Settings *settings;          /* the query takes a reference */
        const char *registration_id; /* copied; from the assignment if the settings have no valid one */
        /* The query takes the first possible method of Method=: this build supports it, and one of its
         * credentials can be loaded. But the kept method is used as long as it is in Method= and the
         * configuration names keys for it; if they cannot be loaded, the query fails. _METHOD_MAX: no method
         * is kept. */
        Method kept;
        /* If there are several keys or certificates of the kept method (or of each method if none is kept),
         * the one to try first. The first one if the list has become shorter. */
        unsigned index;
        bool only; /* try no other index */
        /* The certificate that DPS has issued, in this file, and nothing else. NULL: none. The folders must
         * outlive the query; the name is copied. */
        Folder *issued_folder,
                *issued_fallback; /* the second is looked at if the first has no such file; may be NULL */
        const char *issued_file;
        char **issued_text; /* for credential_load() itself: what was read of the file; the text is a secret */
        bool exact;         /* use the kept method even if it is not in Method=, and no other method */
} CredentialWish;

/* Exactly one of `credential` and `error` is set. The handler owns the reference. It is called from the loop,
 * never before credential_load() returns. */
typedef void (*credential_handler_t)(Credential *credential, const DpsError *error, void *userdata);

/* `ret` is valid until the handler is called or the query is freed. It may be NULL if the caller never frees
 * the query. -ENOMEM. */
int credential_load(World *w, const CredentialWish *wish, credential_handler_t handler, void *userdata,
                    CredentialQuery **ret);
/* The handler will not be called. */
CredentialQuery *credential_query_free(CredentialQuery *q);
DEFINE_FREEP(CredentialQuery, credential_query_free)

/* A credential is immutable. References may be taken and dropped in any thread; dropping the last one wipes
 * its secrets. */
Credential *credential_ref(Credential *c);
Credential *credential_unref(Credential *c);
DEFINE_FREEP(Credential, credential_unref)

Method credential_method(const Credential *c);
unsigned credential_index(const Credential *c);
/* Identifies the credential, in hex: the same key or certificate always has the same fingerprint, and others
 * have different ones. It reveals nothing about a secret. */
#define FINGERPRINT_SIZE 65
const char *credential_fingerprint(const Credential *c);
/* CLOCK_REALTIME; 0: it does not expire. */
uint64_t credential_expires_at_usec(const Credential *c);

/* The handler owns the token: it erases and frees it. If `token` is NULL, `error` says why. */
typedef void (*credential_token_handler_t)(char *token, const DpsError *error, void *userdata);
/* Signs a SAS token; not for X.509, which has no tokens. 1: `ret` is the token, which the caller erases and
 * frees. 0: the key is slow, so the handler gets the token later, from the loop; `ret_query` is as for
 * credential_load(). On failure `error` is set. `policy` may be NULL. */
int credential_sign(Credential *c, World *w, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, credential_token_handler_t handler, void *userdata,
                    CredentialQuery **ret_query, DpsError *error);

typedef struct ClientCertificate {
        STACK_OF(X509) * chain; /* leaf first */
        EVP_PKEY *key;
        char *pem;           /* the chain as text */
        char *key_pem;       /* only with ShareKey=yes and a key file; a secret */
        char *key_reference; /* the path of the key, or its URI */
        bool is_slow;        /* the key is in a chip: in a handshake it pauses (basic/pause.h) */
        char *common_name;
        uint64_t not_before_usec, not_after_usec;
} ClientCertificate;
/* Owned by the credential; NULL for methods other than X.509. */
const ClientCertificate *credential_certificate(const Credential *c);

/* What DPS is told about a TPM: the public parts of its keys, TPM2B_PUBLIC in base64. */
typedef struct TpmKeys {
        char *endorsement_key, *storage_root_key;
        char *registration_id; /* for a device that is configured without one */
} TpmKeys;
/* Owned by the credential; NULL for methods other than TPM. */
const TpmKeys *credential_tpm_keys(const Credential *c);
/* Whether it can prove itself to DPS, but has no key yet that a hub knows: DPS sends one to a TPM. */
bool credential_lacks_hub_key(const Credential *c);
/* Has the TPM take a key that DPS sent. The handler gets a new credential, which signs with that key. `keep`:
 * the key is for the hub, and takes the place of the one in the TPM; otherwise it leaves nothing in the TPM.
 * As credential_load(). -EOPNOTSUPP: this credential is not of a TPM. */
int credential_answer(Credential *c, World *w, const char *authentication_key, bool keep,
                      credential_handler_t handler, void *userdata, CredentialQuery **ret);
/* Loads one credential and has it sign a nonce, so that what is wrong with it is found out before DPS is asked. Blocks. On
 * failure `error` is set as by credential_load(). */
int credential_prove(Settings *s, const char *registration_id, Method method, unsigned index,
                     Credential **ret, DpsError *error);

/* The number of credentials of the method in the settings. If DPS refuses one, the next is tried. */
unsigned credential_count(const Settings *s, Method method);
/* The files to watch for changes: keys, certificates, the proxy's password, systemd credentials. */
int credential_paths(const Settings *s, char ***ret);
