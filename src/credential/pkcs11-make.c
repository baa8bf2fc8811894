/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <string.h>

#include "basic/text.h"
#include "credential/pkcs11-token.h"

/* Keys of issued certificates: made in a token, where they stay, and removed from it. What the token says about
 * a key is not trusted: its sizes are checked, and a signature proves the key. */

#define POINT_SIZE_MAX 256 /* of P-521, 133 bytes */
#define MODULUS_SIZE_MAX 1024
#define REMOVED_MAX 8
#define RSA_BITS 2048

typedef struct KeyKind {
        const char *name;
        CkUlong mechanism;
        const char *curve; /* NULL: RSA */
        CkUlong point_size;
        CkByte parameters[10]; /* the curve's object identifier, DER */
        CkUlong parameters_size;
} KeyKind;

static const KeyKind kinds[_KEY_TYPE_MAX] = {
        [KEY_TYPE_EC_P256] = { "ec-p256",
                               CKM_EC_KEY_PAIR_GEN,
                               "P-256",
                               65,
                               { 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 },
                               10 },
        [KEY_TYPE_EC_P384] = { "ec-p384",
                               CKM_EC_KEY_PAIR_GEN,
                               "P-384",
                               97,
                               { 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22 },
                               7 },
        [KEY_TYPE_RSA_2048] = { .name = "rsa-2048", .mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN },
};

/* --- the public half ------------------------------------------------------------------------------------ */

static int told_nonsense(const Pkcs11Use *u) {
        return pkcs11_use_error(u, -ENODEV,
                                "the token made a key and describes it wrongly: its module or its "
                                "firmware is broken");
}

static int read_attribute(const Pkcs11Use *u, CkUlong object, CkUlong type, CkByte *ret, CkUlong max,
                          CkUlong *ret_size) {
        CkAttribute a = { type, ret, max };
        CkUlong code = u->f->get_attribute_value(u->session, object, &a, 1);

        if (code != CKR_OK)
                return pkcs11_call_error(u, code, "C_GetAttributeValue");
        if (a.size == 0 || a.size > max) /* all bits set: it does not tell */
                return told_nonsense(u);
        *ret_size = a.size;
        return 0;
}

/* A point must be on its curve. */
static int make_public(const Pkcs11Use *u, const char *type, OSSL_PARAM *parameters, EVP_PKEY **ret) {
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, type, NULL), *check = NULL;
        EVP_PKEY *key = NULL;
        bool good;

        good = c && EVP_PKEY_fromdata_init(c) == 1 &&
               EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, parameters) == 1;
        if (good)
                check = EVP_PKEY_CTX_new(key, NULL);
        good = check && EVP_PKEY_public_check(check) == 1;
        EVP_PKEY_CTX_free(check);
        EVP_PKEY_CTX_free(c);
        if (!good) {
                EVP_PKEY_free(key);
                return told_nonsense(u);
        }
        *ret = key;
        return 0;
}

/* The standard wraps the point in an octet string, which some tokens leave out. */
static int read_ec(const Pkcs11Use *u, CkUlong object, const KeyKind *kind, EVP_PKEY **ret) {
        CkByte bytes[POINT_SIZE_MAX] = { 0 }, *point = bytes;
        OSSL_PARAM parameters[3];
        CkUlong size = 0;
        int r;

        r = read_attribute(u, object, CKA_EC_POINT, bytes, sizeof(bytes), &size);
        if (r < 0)
                return r;
        if (size == kind->point_size + 2 && bytes[0] == 0x04 && bytes[1] == kind->point_size) {
                point += 2;
                size -= 2;
        }
        if (size != kind->point_size)
                return told_nonsense(u);
        parameters[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *) kind->curve, 0);
        parameters[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, size);
        parameters[2] = OSSL_PARAM_construct_end();
        return make_public(u, "EC", parameters, ret);
}

static int read_rsa(const Pkcs11Use *u, CkUlong object, EVP_PKEY **ret) {
        CkByte modulus[MODULUS_SIZE_MAX] = { 0 }, exponent[8] = { 0 };
        CkUlong n_size = 0, e_size = 0;
        OSSL_PARAM_BLD *builder;
        OSSL_PARAM *parameters = NULL;
        BIGNUM *n, *e;
        int r;

        r = read_attribute(u, object, CKA_MODULUS, modulus, sizeof(modulus), &n_size);
        if (r >= 0)
                r = read_attribute(u, object, CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent), &e_size);
        if (r < 0)
                return r;
        builder = OSSL_PARAM_BLD_new();
        n = BN_bin2bn(modulus, (int) n_size, NULL);
        e = BN_bin2bn(exponent, (int) e_size, NULL);
        if (builder && n && e && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
            OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
                parameters = OSSL_PARAM_BLD_to_param(builder);
        if (!parameters)
                r = pkcs11_use_error(u, -ENOMEM, "");
        else
                r = BN_num_bits(n) == RSA_BITS ? make_public(u, "RSA", parameters, ret) : told_nonsense(u);
        OSSL_PARAM_free(parameters);
        OSSL_PARAM_BLD_free(builder);
        BN_free(n);
        BN_free(e);
        return r;
}

/* --- to make one ---------------------------------------------------------------------------------------- */

static int make_error(const Pkcs11Use *u, CkUlong code, const KeyKind *kind) {
        switch (code) {
        case CKR_MECHANISM_INVALID:
        case CKR_MECHANISM_PARAM_INVALID:
        case CKR_FUNCTION_NOT_SUPPORTED:
        case CKR_DOMAIN_PARAMS_INVALID:
        case CKR_CURVE_NOT_SUPPORTED:
        case CKR_KEY_SIZE_RANGE:
        case CKR_ATTRIBUTE_VALUE_INVALID:
        case CKR_TEMPLATE_INCONSISTENT:
                return hardware_key_error(u->key, u->error, -EINVAL, "PrivateKey",
                                          "%s: the token cannot make %s keys (error 0x%lx): pkcs11-tool "
                                          "--list-mechanisms shows what it can; set KeyType=",
                                          u->key->reference, kind->name, code);
        default:
                return pkcs11_call_error(u, code, "C_GenerateKeyPair");
        }
}

static int generate(Pkcs11Use *u, const KeyKind *kind, CkUlong *ret_public, CkUlong *ret_private) {
        static CkByte yes = 1, no = 0, exponent[] = { 1, 0, 1 };
        Pkcs11Value *label = &u->uri.values[PKCS11_OBJECT], *id = &u->uri.values[PKCS11_ID];
        CkMechanism mechanism = { .mechanism = kind->mechanism };
        CkUlong bits = RSA_BITS, n = 0, code;
        CkAttribute public_key[6], private_key[] = {
                { CKA_TOKEN, &yes, 1 },          { CKA_PRIVATE, &yes, 1 },
                { CKA_SENSITIVE, &yes, 1 },      { CKA_EXTRACTABLE, &no, 1 },
                { CKA_SIGN, &yes, 1 },           { CKA_LABEL, label->bytes, label->size },
                { CKA_ID, id->bytes, id->size },
        };

        public_key[n++] = (CkAttribute){ CKA_TOKEN, &yes, 1 };
        public_key[n++] = (CkAttribute){ CKA_VERIFY, &yes, 1 };
        public_key[n++] = (CkAttribute){ CKA_LABEL, label->bytes, label->size };
        public_key[n++] = (CkAttribute){ CKA_ID, id->bytes, id->size };
        if (kind->curve)
                public_key[n++] =
                        (CkAttribute){ CKA_EC_PARAMS, (void *) kind->parameters, kind->parameters_size };
        else {
                public_key[n++] = (CkAttribute){ CKA_MODULUS_BITS, &bits, sizeof(bits) };
                public_key[n++] = (CkAttribute){ CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent) };
        }
        code = u->f->generate_key_pair(u->session, &mechanism, public_key, n, private_key,
                                       ELEMENTSOF(private_key), ret_public, ret_private);
        return code == CKR_OK ? 0 : make_error(u, code, kind);
}

int pkcs11_look(const HardwareKey *k, DpsError *error) {
        _cleanup_(pkcs11_use_done) Pkcs11Use u;

        return pkcs11_use_begin(&u, k, true, error);
}

int pkcs11_make(const HardwareKey *k, KeyType type, EVP_PKEY **ret_public, DpsError *error) {
        _cleanup_(pkcs11_use_done) Pkcs11Use u;
        const KeyKind *kind = &kinds[type];
        CkUlong public_key = 0, private_key = 0;
        int r;

        r = pkcs11_use_begin(&u, k, true, error);
        if (r >= 0)
                r = generate(&u, kind, &public_key, &private_key);
        if (r < 0)
                return r;
        return kind->curve ? read_ec(&u, public_key, kind, ret_public) : read_rsa(&u, public_key, ret_public);
}

/* --- to remove one -------------------------------------------------------------------------------------- */

int pkcs11_remove(const HardwareKey *k, DpsError *error) {
        static const CkUlong classes[] = { CKO_PRIVATE_KEY, CKO_PUBLIC_KEY };
        _cleanup_(pkcs11_use_done) Pkcs11Use u;
        int r;

        r = pkcs11_use_begin(&u, k, true, error);
        /* Only what has both is ours. */
        if (r >= 0 && (!u.uri.values[PKCS11_OBJECT].is_set || !u.uri.values[PKCS11_ID].is_set))
                return pkcs11_use_error(&u, -EINVAL, "the note of this key is damaged");
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(classes); i++) {
                CkAttribute name[PKCS11_NAME_MAX];
                CkUlong found[REMOVED_MAX] = { 0 }, n_found = 0, code = CKR_OK;

                r = pkcs11_find(&u, name, pkcs11_object_name(&u, &classes[i], name), found, REMOVED_MAX,
                                &n_found);
                for (CkUlong j = 0; r >= 0 && j < n_found && code == CKR_OK; j++)
                        code = u.f->destroy_object(u.session, found[j]);
                if (code != CKR_OK)
                        r = pkcs11_call_error(&u, code, "C_DestroyObject");
        }
        return r;
}
