/* SPDX-License-Identifier: MIT */

/*
 * A PKCS#11 module with one token, "gw", and one key pair, that lies as the variable $TOKEN_LIE says: test-hardware-key.c has
 * the list. Without a lie it finds the key, makes one, and signs with zero bytes.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "credential/pkcs11-api.h"

static bool lies(const char *how) {
        const char *lie = getenv("TOKEN_LIE");

        return lie && strcmp(lie, how) == 0;
}

static CkUlong initialize(void *arguments) {
        return lies("no initialize") ? (CkUlong) -1 : CKR_OK;
}

static CkUlong get_slot_list(CkByte has_token, CkUlong *slots, CkUlong *n) {
        CkUlong max = *n;

        slots[0] = 7;
        *n = lies("no slots") ? 0 : 1;
        for (CkUlong i = 0; lies("many slots") && i < max; i++)
                slots[i] = 7;
        if (lies("many slots"))
                *n = ULONG_MAX;
        return CKR_OK;
}

static CkUlong get_token_info(CkUlong slot, CkTokenInfo *ret) {
        memset(ret, lies("labels without an end") ? 0xff : ' ', sizeof(*ret));
        ret->flags = CKF_TOKEN_INITIALIZED | CKF_LOGIN_REQUIRED;
        if (!lies("labels without an end"))
                memcpy(ret->label, "gw", 2);
        return CKR_OK;
}

static CkUlong open_session(CkUlong slot, CkUlong flags, void *userdata, void *notify, CkUlong *ret) {
        *ret = 1;
        return CKR_OK;
}

static CkUlong close_session(CkUlong session) {
        return CKR_OK;
}

static CkUlong login(CkUlong session, CkUlong user, const CkByte *pin, CkUlong size) {
        return lies("an unknown code") ? 0xdeadbeef : CKR_OK;
}

static CkUlong find_objects_init(CkUlong session, CkAttribute *attributes, CkUlong n) {
        return CKR_OK;
}

static CkUlong find_objects(CkUlong session, CkUlong *objects, CkUlong max, CkUlong *ret_n) {
        objects[0] = 1;
        *ret_n = lies("many objects") ? ULONG_MAX : 1;
        return CKR_OK;
}

static CkUlong find_objects_final(CkUlong session) {
        return CKR_OK;
}

static CkUlong get_attribute_value(CkUlong session, CkUlong object, CkAttribute *a, CkUlong n) {
        static const struct {
                const char *lie;
                CkUlong size; /* of a point of P-256: 67, or 65 without its octet string */
        } sizes[] = {
                { "an empty point", 0 },
                { "a point without a size", ULONG_MAX },
                { "a point of a gigabyte", 1UL << 30 },
                { "a short point", 33 },
                { "a point of another curve", 99 },
        };

        if (a->type == CKA_KEY_TYPE || a->type == CKA_ALWAYS_AUTHENTICATE)
                return CKR_ARGUMENTS_BAD; /* so that they keep their values */
        if (lies("attributes that it does not write"))
                return CKR_OK;
        memset(a->value, 0x5a, a->size < 67 ? a->size : 67);
        a->size = 67;
        if (a->type == CKA_MODULUS)
                a->size = lies("a short modulus") ? 1 : lies("a huge modulus") ? 1UL << 20 : 256;
        if (a->type == CKA_PUBLIC_EXPONENT)
                a->size = lies("an exponent without a size") ? ULONG_MAX : 3;
        if (a->type == CKA_EC_POINT) {
                memcpy(a->value, "\x04\x41\x04", 3); /* and a place that is not on the curve */
                for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
                        if (lies(sizes[i].lie))
                                a->size = sizes[i].size;
        }
        return CKR_OK;
}

static CkUlong sign_init(CkUlong session, const CkMechanism *mechanism, CkUlong key) {
        return CKR_OK;
}

static CkUlong sign(CkUlong session, const CkByte *data, CkUlong size, CkByte *ret, CkUlong *ret_size) {
        CkUlong max = *ret_size;

        memset(ret, lies("a signature of ones") ? 0xff : 0, max);
        *ret_size = lies("an empty signature")       ? 0
                    : lies("half a signature")       ? 63
                    : lies("a huge signature")       ? ULONG_MAX
                    : lies("a signature that fills") ? max
                                                     : 64;
        return CKR_OK;
}

static CkUlong generate_key_pair(CkUlong session, const CkMechanism *mechanism, CkAttribute *public_key,
                                 CkUlong n_public, CkAttribute *private_key, CkUlong n_private,
                                 CkUlong *ret_public, CkUlong *ret_private) {
        *ret_public = *ret_private = lies("no handles") ? ULONG_MAX : 1;
        return CKR_OK;
}

static CkUlong destroy_object(CkUlong session, CkUlong object) {
        return lies("keys that stay") ? CKR_DEVICE_ERROR : CKR_OK;
}

CkUlong C_GetFunctionList(CkFunctions **ret);
__attribute__((visibility("default"))) CkUlong C_GetFunctionList(CkFunctions **ret) {
        static CkFunctions functions = {
                .initialize = initialize,
                .get_slot_list = get_slot_list,
                .get_token_info = get_token_info,
                .open_session = open_session,
                .close_session = close_session,
                .login = login,
                .destroy_object = destroy_object,
                .get_attribute_value = get_attribute_value,
                .find_objects_init = find_objects_init,
                .find_objects = find_objects,
                .find_objects_final = find_objects_final,
                .sign_init = sign_init,
                .sign = sign,
                .generate_key_pair = generate_key_pair,
        };

        *ret = &functions;
        return CKR_OK;
}
