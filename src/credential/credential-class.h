/* SPDX-License-Identifier: MIT */
#pragma once

/* A kind of credential, one for each method. Included by files that implement a kind, and by modules that add
 * one. */

#include "credential/credential.h"

/* Where a credential comes from. */
typedef struct CredentialSource {
        Settings *settings;
        const char *registration_id;
        unsigned index;            /* within the method's list in the settings; 0 if that is empty */
        Folder *folder, *fallback; /* of an issued certificate, with its file */
        const char *file;
        const char *text; /* in place of the file; a secret */
        char **ret_text; /* what load() has read, if it returns -EINPROGRESS: to be its `text` the next time */
        EVP_PKEY *key;   /* of the text, if it is in memory already; NULL: it is not */
        World *world;    /* for keys that sign on the worker; NULL: their signatures block */
        /* Whether load() may wait for a chip. If not, it returns -EINPROGRESS where it would have to, and sets no
         * error. */
        bool may_wait;
} CredentialSource;

typedef struct CredentialClass {
        Method method;
        size_t size;  /* of its struct, whose first member is the Credential */
        bool is_slow; /* the key is in a chip: load() waits for it, and sign() runs on the worker */

        /* The number of credentials of this kind in the settings. */
        unsigned (*count)(const Settings *s);
        /* Called on the worker with a zeroed struct. Fills in the members of the class, and the marked
         * members of Credential. On failure, `error` is set, and done() is called. -EOPNOTSUPP: this build
         * cannot load it at all. */
        int (*load)(Credential *c, const CredentialSource *source, DpsError *error);
        /* NULL: this kind signs no tokens. If it is slow, several threads may call it at once. */
        int (*sign)(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, DpsError *error);
        /* NULL: this kind takes no keys. Called on the worker with a credential like that of load(), which has
         * the settings and the index of `c`, and which signs with the key that DPS sent: see
         * credential_answer(). */
        int (*answer)(const Credential *c, const char *authentication_key, bool keep, Credential *answered,
                      DpsError *error);
        /* Wipes and frees what load() has put into the struct, but not the struct itself. */
        void (*done)(Credential *c);
} CredentialClass;

struct Credential {
        const CredentialClass *class;
        Settings *settings; /* a reference; errors name the line of the configuration */
        unsigned n_references;
        unsigned index;

        /* load() fills in these members. */
        char fingerprint[FINGERPRINT_SIZE];
        uint64_t expires_at_usec;
        const ClientCertificate *certificate; /* owned by the class's struct */
        bool lacks_hub_key;
        const TpmKeys *tpm_keys; /* owned by the class's struct */
};

/* NULL: this build does not support the method. */
const CredentialClass *credential_class(Method method);
/* The same, but loads the module that has the class, if there is one. Blocks. If it is NULL, `ret_why` says
 * why, or is NULL if no module could help. */
const CredentialClass *credential_class_load(Method method, char **ret_why);
/* Adds or replaces a class, which must stay valid for ever. NULL removes it. */
void credential_set_class(Method method, const CredentialClass *class);
