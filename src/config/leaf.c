/* SPDX-License-Identifier: MIT */
#include "config/leaf.h"

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
