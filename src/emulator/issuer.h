/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Issues certificates for the CSR of a register, as DPS does where the enrollment has a credential policy. Its
 * root and its intermediate CA live as long as the service, as what it knows of devices does.
 */

#include <openssl/x509.h>

#include "emulator/reader.h"

/* What is issued, so that a client can be tested with chains that DPS should not send. */
typedef enum IssuedVariant {
        ISSUED_WHOLE, /* leaf, intermediate, root, as DPS does */
        ISSUED_WITHOUT_ROOT,
        ISSUED_LEAF, /* alone */
        ISSUED_ROOT_FIRST,
        ISSUED_PEM,         /* the text of PEM inside the base64 */
        ISSUED_FOREIGN_KEY, /* for another key */
        ISSUED_OTHER_NAME,  /* for another registration id */
        ISSUED_EXPIRED,
        ISSUED_BROKEN, /* with a certificate that has nothing to do with the others */
} IssuedVariant;

/* Which certificate the hub takes, where the device has been issued one. */
typedef enum HubAccepts {
        HUB_ACCEPTS_BOTH,
        HUB_ACCEPTS_ISSUED,
        HUB_ACCEPTS_ONBOARDING, /* the hub does not know the CA yet */
} HubAccepts;

/* The member "issuance" of an enrollment. All 0: there is no policy, so nothing is issued. */
typedef struct IssuancePolicy {
        bool is_set;
        uint64_t lifetime_sec;
        IssuedVariant variant;
        HubAccepts hub;
        uint32_t
                failure_code; /* the code with which operations that ask for a certificate fail; 0: they do not */
} IssuancePolicy;

int issuance_policy_read(const Reader *enrollment, IssuancePolicy *ret);

typedef struct Issuer Issuer;

int issuer_new(uint64_t now_usec, Issuer **ret);
Issuer *issuer_free(Issuer *i);

/* Issues what the policy says for a CSR in base64. `ret`: base64 of each certificate. -EBADMSG: the CSR cannot be used, and
 * `ret_code` and `ret_why` (a literal) are the refusal. */
int issuer_issue(const Issuer *i, const IssuancePolicy *policy, const char *csr, const char *registration_id,
                 uint64_t now_usec, char ***ret, uint32_t *ret_code, const char **ret_why);
/* Whether it has issued this certificate, which is still valid. `i` may be NULL. */
bool issuer_knows(const Issuer *i, X509 *certificate, uint64_t now_usec);
