/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <errno.h>
#include <openssl/ec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "config/pkcs11-uri.h"
#include "credential/device.h"
#include "credential/hardware-key.h"
#include "credential/pin.h"
#include "credential/pkcs11-api.h"

/*
 * Speaks PKCS#11 with the token's module, without OpenSSL's engine or provider for it: Debian 12 has only the
 * one and Debian 13 only the other, both keep a PIN and try it again by themselves, and an engine that hangs
 * holds a lock that all of OpenSSL needs.
 */

#define DEFAULT_MODULE "p11-kit-proxy.so"
#define SLOTS_MAX 64
#define LOCKED_TEXT "unlock it with the token's own tools"

/* Loaded once, and never unloaded: many modules do not survive that. */
typedef struct Module {
        struct Module *next;
        char *path;
        const CkFunctions *functions;
} Module;

/* One use of the token. */
typedef struct Use {
        const HardwareKey *key;
        const char *module;
        const CkFunctions *f;
        Pkcs11Uri uri;
        CkUlong slot, session, object;
        CkTokenInfo token;
        char token_name[80]; /* label and serial number, for pin.h */
        Pin pin;
        bool is_open;
        DpsError *error;
} Use;

/* --- errors --------------------------------------------------------------------------------------------- */

static int use_error(const Use *u, int r, const char *what) {
        return hardware_key_error(u->key, u->error, r, "PrivateKey", "%s: %s", u->key->reference, what);
}

static int pin_error(const Use *u, int r, const char *what) {
        _cleanup_(freep) char *label =
                text_for_people(u->token.label, sizeof(u->token.label), sizeof(u->token.label));

        for (size_t n = label ? strlen(label) : 0; n > 0 && label[n - 1] == ' ';)
                label[--n] = 0;
        return hardware_key_error(u->key, u->error, r, "Pin", "token '%s': %s", label ?: "", what);
}

/* Errors of PKCS#11 that say what to do; others have only their number. */
static int call_error(const Use *u, CkUlong code, const char *call) {
        char text[160];

        switch (code) {
        case CKR_SLOT_ID_INVALID:
        case CKR_TOKEN_NOT_PRESENT:
        case CKR_TOKEN_NOT_RECOGNIZED:
        case CKR_DEVICE_REMOVED:
                return use_error(u, -ENODEV, "the token has been removed: plug it in");
        case CKR_MECHANISM_INVALID:
                return use_error(u, -EINVAL,
                                 "the token cannot make the signatures that TLS needs with this key: use an "
                                 "EC key (P-256)");
        case CKR_KEY_FUNCTION_NOT_PERMITTED:
                return use_error(u, -EINVAL, "the key in the token may not sign: it needs CKA_SIGN");
        default:
                (void) snprintf(text, sizeof(text), "%s of the PKCS#11 module %s failed with error 0x%lx",
                                call, u->module, code);
                return use_error(u, -ENODEV, text);
        }
}

/* --- the module ----------------------------------------------------------------------------------------- */

static int load_functions(const Use *u, const CkFunctions **ret) {
        CkInitializeArguments arguments = { .flags = CKF_OS_LOCKING_OK };
        CkGetFunctionList get = NULL;
        CkFunctions *f = NULL;
        CkUlong code;
        void *library;

        library = dlopen(u->module, RTLD_NOW | RTLD_LOCAL);
        if (!library && !u->key->settings->pkcs11_module)
                return hardware_key_error(u->key, u->error, -ENODEV, "PrivateKey",
                                          "%s: there is no PKCS#11 module: install p11-kit-modules, or name "
                                          "the token's own module with Pkcs11Module=",
                                          u->key->reference);
        if (!library)
                return hardware_key_error(u->key, u->error, -ENODEV, "Pkcs11Module",
                                          "%s: the module cannot be loaded: %s", u->module,
                                          dlerror() ?: "unknown error");
        *(void **) &get = dlsym(library, "C_GetFunctionList");
        if (!get || get(&f) != CKR_OK || !f) {
                (void) dlclose(library);
                return hardware_key_error(u->key, u->error, -EINVAL, "Pkcs11Module",
                                          "%s: this is not a PKCS#11 module", u->module);
        }
        code = f->initialize(&arguments);
        if (code != CKR_OK && code != CKR_CRYPTOKI_ALREADY_INITIALIZED)
                return call_error(u, code, "C_Initialize");
        *ret = f;
        return 0;
}

/* The device must be held. */
static int find_module(Use *u) {
        static Module *modules; /* each has its device, but they share this list */
        Module *m;
        int r;

        for (m = __atomic_load_n(&modules, __ATOMIC_ACQUIRE); m; m = m->next)
                if (streq(m->path, u->module)) {
                        u->f = m->functions;
                        return 0;
                }
        r = load_functions(u, &u->f);
        if (r < 0)
                return r;

        /* Without memory, it is initialized again next time, which does no harm. */
        m = calloc(1, sizeof(*m));
        if (!m || !(m->path = strdup(u->module))) {
                free(m);
                return 0;
        }
        m->functions = u->f;
        m->next = __atomic_load_n(&modules, __ATOMIC_ACQUIRE);
        while (!__atomic_compare_exchange_n(&modules, &m->next, m, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
                ;
        return 0;
}

/* --- the token ------------------------------------------------------------------------------------------ */

static bool is_value(const Pkcs11Value *value, const CkByte *text, size_t size) {
        if (!value->is_set)
                return true;
        while (size > 0 && text[size - 1] == ' ')
                size--;
        return value->size == size && memcmp(value->bytes, text, size) == 0;
}

static bool is_token(const Use *u, CkUlong slot, const CkTokenInfo *t) {
        const Pkcs11Value *v = u->uri.values;
        char number[24];
        int n = snprintf(number, sizeof(number), "%lu", slot);

        return (t->flags & CKF_TOKEN_INITIALIZED) && is_value(&v[PKCS11_TOKEN], t->label, sizeof(t->label)) &&
               is_value(&v[PKCS11_MANUFACTURER], t->manufacturer, sizeof(t->manufacturer)) &&
               is_value(&v[PKCS11_SERIAL], t->serial, sizeof(t->serial)) &&
               is_value(&v[PKCS11_MODEL], t->model, sizeof(t->model)) &&
               is_value(&v[PKCS11_SLOT_ID], (const CkByte *) number, (size_t) n);
}

/* A PIN that is sent to another token may lock it, so there must be only one. */
static int find_token(Use *u) {
        CkUlong slots[SLOTS_MAX], n = SLOTS_MAX, code;
        unsigned n_found = 0;

        code = u->f->get_slot_list(1, slots, &n);
        if (code != CKR_OK)
                return call_error(u, code, "C_GetSlotList");
        for (CkUlong i = 0; i < MIN(n, (CkUlong) SLOTS_MAX); i++) {
                CkTokenInfo t = { 0 };

                if (u->f->get_token_info(slots[i], &t) != CKR_OK || !is_token(u, slots[i], &t))
                        continue;
                u->slot = slots[i];
                u->token = t;
                n_found++;
        }
        if (n_found == 0)
                return use_error(u, -ENODEV,
                                 "this token is not present: plug it in, or compare with the tokens that "
                                 "pkcs11-tool --list-slots shows");
        if (n_found > 1)
                return use_error(u, -EINVAL,
                                 "there are several such tokens: name one of them with token= or serial=");
        (void) snprintf(u->token_name, sizeof(u->token_name), "%.32s %.16s", (const char *) u->token.label,
                        (const char *) u->token.serial);
        return 0;
}

/* --- the PIN -------------------------------------------------------------------------------------------- */

static int log_in_error(const Use *u, CkUlong code) {
        switch (code) {
        case CKR_PIN_INCORRECT:
        case CKR_PIN_INVALID:
        case CKR_PIN_LEN_RANGE:
                pin_note_refused(&u->pin, u->token_name);
                return pin_error(u, -EINVAL,
                                 "the PIN is wrong; it is not tried again until its file is written anew");
        case CKR_PIN_LOCKED:
                return pin_error(u, -EINVAL, "the PIN is locked: " LOCKED_TEXT);
        case CKR_PIN_EXPIRED:
                return pin_error(u, -EINVAL, "the PIN has expired: change it with the token's own tools");
        case CKR_USER_PIN_NOT_INITIALIZED:
                return pin_error(u, -EINVAL, "the token has no PIN yet: set one with the token's own tools");
        default:
                return call_error(u, code, "C_Login");
        }
}

/* Never with the last try: somebody who types it can still see what happens. */
static int check_pin(const Use *u) {
        if (u->token.flags & CKF_USER_PIN_LOCKED)
                return pin_error(u, -EINVAL, "the PIN is locked: " LOCKED_TEXT);
        if (pin_was_refused(&u->pin, u->token_name))
                return pin_error(u, -EINVAL,
                                 "the token has refused this PIN already; it is not tried again until its "
                                 "file is written anew");
        if (u->token.flags & CKF_USER_PIN_FINAL_TRY)
                return pin_error(u, -EINVAL,
                                 "one more wrong PIN locks the token, so that this one is not tried: log in "
                                 "once with the token's own tools");
        return 0;
}

static int log_in(Use *u) {
        CkUlong code;
        int r;

        if (!(u->token.flags & CKF_LOGIN_REQUIRED) || !u->pin.text)
                return 0;
        r = check_pin(u);
        if (r < 0)
                return r;
        code = u->f->login(u->session, CKU_USER, (const CkByte *) u->pin.text, u->pin.size);
        return code == CKR_OK || code == CKR_USER_ALREADY_LOGGED_IN ? 0 : log_in_error(u, code);
}

/* --- the key -------------------------------------------------------------------------------------------- */

static size_t add_attribute(CkAttribute *attributes, size_t n, CkUlong type, Pkcs11Value *v) {
        if (v->is_set)
                attributes[n++] = (CkAttribute){ type, v->bytes, v->size };
        return n;
}

static int find_object(Use *u) {
        static CkUlong private_key = CKO_PRIVATE_KEY;
        CkAttribute attributes[3] = { { CKA_CLASS, &private_key, sizeof(private_key) } };
        CkUlong found[2], n_found = 0, code;
        size_t n = 1;

        n = add_attribute(attributes, n, CKA_LABEL, &u->uri.values[PKCS11_OBJECT]);
        n = add_attribute(attributes, n, CKA_ID, &u->uri.values[PKCS11_ID]);
        code = u->f->find_objects_init(u->session, attributes, n);
        if (code == CKR_OK) {
                code = u->f->find_objects(u->session, found, 2, &n_found);
                (void) u->f->find_objects_final(u->session);
        }
        if (code != CKR_OK)
                return call_error(u, code, "C_FindObjects");
        if (n_found == 0 && (u->token.flags & CKF_LOGIN_REQUIRED) && !u->pin.text)
                return use_error(u, -EINVAL,
                                 "the token shows no such key without a PIN: name the PIN's file with Pin=");
        if (n_found == 0)
                return use_error(u, -ENOENT,
                                 "the token has no such private key: compare with what pkcs11-tool --login "
                                 "--list-objects shows");
        if (n_found > 1)
                return use_error(u, -EINVAL,
                                 "the token has several such private keys: name one of them with id=");
        u->object = found[0];
        return 0;
}

/* Attributes that a token does not know keep their value. */
static int check_object(const Use *u, bool *ret_asks_each_time) {
        CkUlong type = u->key->type == EVP_PKEY_EC ? CKK_EC : CKK_RSA, wanted = type;
        CkByte asks = 0;
        CkAttribute a = { CKA_KEY_TYPE, &type, sizeof(type) },
                    b = { CKA_ALWAYS_AUTHENTICATE, &asks, sizeof(asks) };

        if (u->f->get_attribute_value(u->session, u->object, &a, 1) != CKR_OK)
                type = wanted;
        if (u->f->get_attribute_value(u->session, u->object, &b, 1) != CKR_OK)
                asks = 0;
        if (type != wanted)
                return use_error(u, -EINVAL, "not the key of the first certificate in Certificate=");
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

static int sign(const Use *u, Signature *s) {
        static const CkUlong mechanisms[] = { [SIGNATURE_ECDSA] = CKM_ECDSA,
                                              [SIGNATURE_RSA_PKCS1] = CKM_RSA_PKCS,
                                              [SIGNATURE_RSA_RAW] = CKM_RSA_X_509 };
        CkMechanism mechanism = { .mechanism = mechanisms[s->scheme] };
        unsigned char raw[SIGNATURE_SIZE_MAX];
        bool asks_each_time = false;
        CkUlong size = sizeof(raw), code;
        int r;

        r = check_object(u, &asks_each_time);
        if (r < 0)
                return r;
        code = u->f->sign_init(u->session, &mechanism, u->object);
        if (code != CKR_OK)
                return call_error(u, code, "C_SignInit");
        if (asks_each_time && u->pin.text) {
                code = u->f->login(u->session, CKU_CONTEXT_SPECIFIC, (const CkByte *) u->pin.text,
                                   u->pin.size);
                if (code != CKR_OK)
                        return log_in_error(u, code);
        }
        code = u->f->sign(u->session, s->input, s->input_size, raw, &size);
        if (code != CKR_OK)
                return call_error(u, code, "C_Sign");
        if (size == 0 || size > sizeof(raw) || (s->scheme == SIGNATURE_ECDSA && size % 2 != 0))
                return use_error(u, -EINVAL, "the token returned a signature that is none");
        if (s->scheme == SIGNATURE_ECDSA)
                return encode_ecdsa(raw, size, s) < 0 ? use_error(u, -ENOMEM, "") : 0;
        memcpy(s->output, raw, size);
        s->output_size = size;
        return 0;
}

static int use_token(Use *u, Signature *s) {
        CkUlong code;
        int r;

        r = find_module(u);
        if (r >= 0)
                r = find_token(u);
        if (r < 0)
                return r;
        code = u->f->open_session(u->slot, CKF_SERIAL_SESSION, NULL, NULL, &u->session);
        if (code != CKR_OK)
                return call_error(u, code, "C_OpenSession");
        u->is_open = true;

        r = log_in(u);
        if (r >= 0)
                r = find_object(u);
        return r < 0 ? r : sign(u, s);
}

int pkcs11_sign(const HardwareKey *k, Signature *s, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        _cleanup_(device_releasep) Device *device = NULL;
        Use u = { .key = k, .module = k->settings->pkcs11_module ?: DEFAULT_MODULE, .error = error };
        int r;

        if (pkcs11_uri_parse(k->reference, &u.uri, &reason) < 0)
                return use_error(&u, -EINVAL, reason ?: "");
        r = pin_read(k->settings, &u.pin, &reason);
        if (r < 0)
                return hardware_key_error(k, error, r, "Pin", "%s", reason ?: strerror(-r));
        r = device_acquire(u.module, &device);
        if (r == -ETIMEDOUT)
                r = hardware_key_error(k, error, -ENODEV, "PrivateKey",
                                       "%s: the PKCS#11 module %s does not return from an earlier call",
                                       k->reference, u.module);
        else
                r = r < 0 ? use_error(&u, r, "") : use_token(&u, s);
        if (u.is_open)
                (void) u.f->close_session(u.session); /* the last one logs out, too */
        pin_done(&u.pin);
        return r;
}
