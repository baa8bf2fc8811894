/* SPDX-License-Identifier: MIT */
#include <openssl/evp.h>
#include <stdio.h>

#include "config/leaf.h"

const char *leaf_issuer_warning(X509 *leaf, X509 *above, char buffer[static LEAF_TEXT_MAX]) {
        char name[LEAF_TEXT_MAX];

        if (!leaf_missing_issuer(leaf, above, name))
                return NULL;
        (void) snprintf(
                buffer, LEAF_TEXT_MAX,
                "the certificate of the device's issuer, \"%.80s\", is not in the file; unless the "
                "enrollment names the device's certificate or that issuer, append those of all CAs below "
                "the one that it names",
                name);
        return buffer;
}

const char *leaf_key_warning(X509 *leaf, char buffer[static LEAF_TEXT_MAX]) {
        const EVP_PKEY *key = X509_get0_pubkey(leaf);
        int kind = key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;

        if (!key || kind == EVP_PKEY_RSA || kind == EVP_PKEY_EC)
                return NULL;
        (void) snprintf(
                buffer, LEAF_TEXT_MAX,
                "its key is of type %.40s, but Azure takes RSA and EC keys only: get a certificate for one "
                "of these",
                OBJ_nid2sn(kind));
        return buffer;
}
