/* SPDX-License-Identifier: MIT */
#pragma once

/* Names a private key in a PKCS#11 token (RFC 7512): "pkcs11:token=gw;object=dps". */

#include <stdbool.h>
#include <stddef.h>

typedef enum Pkcs11Attribute {
        PKCS11_TOKEN,
        PKCS11_MANUFACTURER,
        PKCS11_SERIAL,
        PKCS11_MODEL,
        PKCS11_SLOT_ID, /* decimal */
        PKCS11_OBJECT,  /* the object's label */
        PKCS11_ID,
        _PKCS11_ATTRIBUTE_MAX,
} Pkcs11Attribute;

typedef struct Pkcs11Value {
        bool is_set;
        size_t size;
        unsigned char bytes[128];
} Pkcs11Value;

typedef struct Pkcs11Uri {
        Pkcs11Value values[_PKCS11_ATTRIBUTE_MAX];
} Pkcs11Uri;

/* -EINVAL: it cannot be used, and `ret_why` says why, without any part of the URI. `ret` may be NULL. A PIN in
 * the URI is refused: URIs are published. */
int pkcs11_uri_parse(const char *text, Pkcs11Uri *ret, char **ret_why);
