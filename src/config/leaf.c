/* SPDX-License-Identifier: MIT */
#include "config/leaf.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "basic/text.h"

#define NAME_MAX_FOR_PEOPLE 64

static void copy_name(const X509_NAME *name, char buffer[static LEAF_TEXT_MAX]) {
        static const int kinds[] = { NID_commonName, NID_organizationName };

        (void) snprintf(buffer, LEAF_TEXT_MAX, "a CA without a name");
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                int at = X509_NAME_get_index_by_NID(name, kinds[k], -1);
                const ASN1_STRING *value =
                        at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
                _cleanup_(freep) char *text =
                        value ? text_for_people(ASN1_STRING_get0_data(value),
                                                (size_t) ASN1_STRING_length(value), NAME_MAX_FOR_PEOPLE)
                              : NULL;

                if (!text)
                        continue;
                (void) snprintf(buffer, LEAF_TEXT_MAX, "%s", text);
                return;
        }
}

const char *leaf_missing_issuer(X509 *leaf, X509 *above, char buffer[static LEAF_TEXT_MAX]) {
        if (X509_check_issued(leaf, leaf) == X509_V_OK)
                return NULL;
        if (above && X509_check_issued(above, leaf) == X509_V_OK)
                return NULL;
        copy_name(X509_get_issuer_name(leaf), buffer);
        return buffer;
}

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
