/* SPDX-License-Identifier: MIT */
#pragma once

/* A kind of credential, one for each method. For the files that implement one, and for modules that add one. */

#include "credential/credential.h"

/* Where a credential comes from. */
typedef struct CredentialSource {
        Settings *settings;
        const char *registration_id;
        unsigned index; /* of the method's list in the settings; always within it, or 0 where it is empty */
} CredentialSource;

typedef struct CredentialClass {
        Method method;
        size_t size;  /* of its struct, whose first member is the Credential */
        bool is_slow; /* sign() runs on the worker */

        /* How many credentials of this kind the settings name. */
        unsigned (*count)(const Settings *s);
        /* On the worker: fills in a zeroed struct: its own members, and those of Credential that are marked. -EOPNOTSUPP:
         * this build cannot load it at all. On failure `error` is set, and done() is called. */
        int (*load)(Credential *c, const CredentialSource *source, DpsError *error);
        /* NULL: it signs no tokens. Where it is slow it may be called by several threads at once. */
        int (*sign)(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, DpsError *error);
        /* Frees, and wipes, what load() has put into the struct, but not the struct. */
        void (*done)(Credential *c);
} CredentialClass;

#define FINGERPRINT_SIZE 65

struct Credential {
        const CredentialClass *class;
        Settings *settings; /* a reference, for errors that name the line of the configuration */
        unsigned n_references;
        unsigned index;

        /* These are for load() to fill in. */
        char fingerprint[FINGERPRINT_SIZE];
        uint64_t expires_at_usec;
        const ClientCertificate *certificate; /* owned by the class's struct */
};

/* NULL: this build does not support the method. */
const CredentialClass *credential_class(Method method);
/* Adds a class, or replaces it; a class is valid for ever. NULL takes it away. */
void credential_set_class(Method method, const CredentialClass *class);
