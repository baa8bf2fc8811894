/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/ec.h>
#include <string.h>

#include "credential/pkcs11-token.h"

#define ECDSA_SIZE_MAX 132U /* of P-521 */

/* --- the key -------------------------------------------------------------------------------------------- */

static int find_object(Pkcs11Use *u, CkUlong *ret) {
        static const CkUlong private_key = CKO_PRIVATE_KEY;
        CkAttribute attributes[PKCS11_NAME_MAX];
        CkUlong found[2] = { 0 }, n_found = 0;
        int r;

        r = pkcs11_find(u, attributes, pkcs11_object_name(u, &private_key, attributes), found, 2, &n_found);
        if (r < 0)
                return r;
        if (n_found == 0 && (u->token.flags & CKF_LOGIN_REQUIRED) && !u->pin.text)
                return pkcs11_use_error(
                        u, -EINVAL,
                        "the token shows no such key without a PIN: name the PIN's file with Pin=");
        if (n_found == 0)
                return pkcs11_use_error(
                        u, -ENOENT,
                        "the token has no such private key: compare with what pkcs11-tool --login "
                        "--list-objects shows");
        if (n_found > 1)
                return pkcs11_use_error(u, -EINVAL,
                                        "the token has several such private keys: name one of them with id=");
        *ret = found[0];
        return 0;
}

/* Attributes that a token does not know keep their value. */
static int check_object(const Pkcs11Use *u, CkUlong object, bool *ret_asks_each_time) {
        CkUlong type = u->key->type == EVP_PKEY_EC ? CKK_EC : CKK_RSA, wanted = type;
        CkByte asks = 0;
        CkAttribute a = { CKA_KEY_TYPE, &type, sizeof(type) },
                    b = { CKA_ALWAYS_AUTHENTICATE, &asks, sizeof(asks) };

        if (u->f->get_attribute_value(u->session, object, &a, 1) != CKR_OK)
                type = wanted;
        if (u->f->get_attribute_value(u->session, object, &b, 1) != CKR_OK)
                asks = 0;
        if (type != wanted)
                return pkcs11_use_error(u, -EINVAL, "not the key of the first certificate in Certificate=");
        *ret_asks_each_time = asks;
        return 0;
}

/* --- the signature -------------------------------------------------------------------------------------- */

static int encode_ecdsa(const unsigned char *raw, size_t size, Signature *s) {
        ECDSA_SIG *sig = ECDSA_SIG_new();
        BIGNUM *a = BN_bin2bn(raw, (int) size / 2, NULL),
               *b = BN_bin2bn(raw + size / 2, (int) size / 2, NULL);
        unsigned char *end = s->output;
        int n = -1;

        if (sig && a && b && ECDSA_SIG_set0(sig, a, b) == 1) {
                a = b = NULL;
                n = i2d_ECDSA_SIG(sig, NULL);
                n = n > 0 && (size_t) n <= sizeof(s->output) ? i2d_ECDSA_SIG(sig, &end) : -1;
        }
        BN_free(a);
        BN_free(b);
        ECDSA_SIG_free(sig);
        if (n <= 0)
                return -ENOMEM;
        s->output_size = (size_t) n;
        return 0;
}

static int sign(const Pkcs11Use *u, CkUlong object, Signature *s) {
        static const CkUlong mechanisms[] = { [SIGNATURE_ECDSA] = CKM_ECDSA,
                                              [SIGNATURE_RSA_PKCS1] = CKM_RSA_PKCS,
                                              [SIGNATURE_RSA_RAW] = CKM_RSA_X_509 };
        CkMechanism mechanism = { .mechanism = mechanisms[s->scheme] };
        unsigned char raw[SIGNATURE_SIZE_MAX] = { 0 };
        bool asks_each_time = false;
        CkUlong size = sizeof(raw), code;
        int r;

        r = check_object(u, object, &asks_each_time);
        if (r < 0)
                return r;
        code = u->f->sign_init(u->session, &mechanism, object);
        if (code != CKR_OK)
                return pkcs11_call_error(u, code, "C_SignInit");
        if (asks_each_time && u->pin.text) {
                code = u->f->login(u->session, CKU_CONTEXT_SPECIFIC, (const CkByte *) u->pin.text,
                                   u->pin.size);
                if (code != CKR_OK)
                        return pkcs11_log_in_error(u, code);
        }
        code = u->f->sign(u->session, s->input, s->input_size, raw, &size);
        if (code != CKR_OK)
                return pkcs11_call_error(u, code, "C_Sign");
        if (size == 0 || size > sizeof(raw) ||
            (s->scheme == SIGNATURE_ECDSA && (size % 2 != 0 || size > ECDSA_SIZE_MAX)))
                return pkcs11_use_error(u, -EINVAL, "the token returned an invalid signature");
        if (s->scheme == SIGNATURE_ECDSA)
                return encode_ecdsa(raw, size, s) < 0 ? pkcs11_use_error(u, -ENOMEM, "") : 0;
        memcpy(s->output, raw, size);
        s->output_size = size;
        return 0;
}

int pkcs11_sign(const HardwareKey *k, Signature *s, DpsError *error) {
        _cleanup_(pkcs11_use_done) Pkcs11Use u;
        CkUlong object = 0;
        int r;

        r = pkcs11_use_begin(&u, k, false, error);
        if (r >= 0)
                r = find_object(&u, &object);
        return r < 0 ? r : sign(&u, object, s);
}
