/* SPDX-License-Identifier: MIT */
#include "credential/pkcs11-token.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

#define DEFAULT_MODULE "p11-kit-proxy.so"
#define SLOTS_MAX 64
#define LOCKED_TEXT "unlock it with the token's own tools"

/* Loaded once, and never unloaded: many modules do not survive that. */
typedef struct Module {
        struct Module *next;
        char *path;
        const CkFunctions *functions;
} Module;

/* --- errors --------------------------------------------------------------------------------------------- */

int pkcs11_use_error(const Pkcs11Use *u, int r, const char *what) {
        return hardware_key_error(u->key, u->error, r, "PrivateKey", "%s: %s", u->key->reference, what);
}

static int pin_error(const Pkcs11Use *u, int r, const char *what) {
        _cleanup_(freep) char *label =
                text_for_people(u->token.label, sizeof(u->token.label), sizeof(u->token.label));

        for (size_t n = label ? strlen(label) : 0; n > 0 && label[n - 1] == ' ';)
                label[--n] = 0;
        return hardware_key_error(u->key, u->error, r, "Pin", "token '%s': %s", label ?: "", what);
}

/* Errors of PKCS#11 that say what to do; others have only their number. */
int pkcs11_call_error(const Pkcs11Use *u, CkUlong code, const char *call) {
        char text[160];

        switch (code) {
        case CKR_SLOT_ID_INVALID:
        case CKR_TOKEN_NOT_PRESENT:
        case CKR_TOKEN_NOT_RECOGNIZED:
        case CKR_DEVICE_REMOVED:
                return pkcs11_use_error(u, -ENODEV, "the token has been removed: plug it in");
        case CKR_MECHANISM_INVALID:
                return pkcs11_use_error(
                        u, -EINVAL,
                        "the token cannot make the signatures that TLS needs with this key: use an "
                        "EC key (P-256)");
        case CKR_SESSION_READ_ONLY:
        case CKR_TOKEN_WRITE_PROTECTED:
                return pkcs11_use_error(
                        u, -EINVAL,
                        "the token is read-only: allow writing with the token's own tools, or "
                        "set Key= in [Issuance] to another place");
        case CKR_DEVICE_MEMORY:
                return pkcs11_use_error(u, -ENODEV,
                                        "the token is full: a new key needs room beside the one in use; "
                                        "pkcs11-tool --login --list-objects shows what is in it");
        case CKR_KEY_FUNCTION_NOT_PERMITTED:
                return pkcs11_use_error(u, -EINVAL, "the key in the token may not sign: it needs CKA_SIGN");
        default:
                (void) snprintf(text, sizeof(text), "%s of the PKCS#11 module %s failed with error 0x%lx",
                                call, u->module, code);
                return pkcs11_use_error(u, -ENODEV, text);
        }
}

/* --- the module ----------------------------------------------------------------------------------------- */

static int load_functions(const Pkcs11Use *u, const CkFunctions **ret) {
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
                return pkcs11_call_error(u, code, "C_Initialize");
        *ret = f;
        return 0;
}

/* The device must be held. */
static int find_module(Pkcs11Use *u) {
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

        /* If memory runs out, it is initialized again next time, which does no harm. */
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

static bool is_token(const Pkcs11Use *u, CkUlong slot, const CkTokenInfo *t) {
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
static int find_token(Pkcs11Use *u) {
        CkUlong slots[SLOTS_MAX], n = SLOTS_MAX, code;
        unsigned n_found = 0;

        code = u->f->get_slot_list(1, slots, &n);
        if (code != CKR_OK)
                return pkcs11_call_error(u, code, "C_GetSlotList");
        for (CkUlong i = 0; i < MIN(n, (CkUlong) SLOTS_MAX); i++) {
                CkTokenInfo t = { 0 };

                if (u->f->get_token_info(slots[i], &t) != CKR_OK || !is_token(u, slots[i], &t))
                        continue;
                u->slot = slots[i];
                u->token = t;
                n_found++;
        }
        if (n_found == 0)
                return pkcs11_use_error(
                        u, -ENODEV,
                        "this token is not present: plug it in, or compare with the tokens that "
                        "pkcs11-tool --list-slots shows");
        if (n_found > 1)
                return pkcs11_use_error(
                        u, -EINVAL, "there are several such tokens: name one of them with token= or serial=");
        (void) snprintf(u->token_name, sizeof(u->token_name), "%.32s %.16s", (const char *) u->token.label,
                        (const char *) u->token.serial);
        return 0;
}

/* --- the PIN -------------------------------------------------------------------------------------------- */

int pkcs11_log_in_error(const Pkcs11Use *u, CkUlong code) {
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
                return pkcs11_call_error(u, code, "C_Login");
        }
}

/* The last try is left to a person, who can still see what happens. */
static int check_pin(const Pkcs11Use *u) {
        if (u->token.flags & CKF_USER_PIN_LOCKED)
                return pin_error(u, -EINVAL, "the PIN is locked: " LOCKED_TEXT);
        if (pin_was_refused(&u->pin, u->token_name))
                return pin_error(u, -EINVAL,
                                 "the token has refused this PIN already; it is not tried again until its "
                                 "file is written anew");
        if (u->token.flags & CKF_USER_PIN_FINAL_TRY)
                return pin_error(u, -EINVAL,
                                 "one more wrong PIN locks the token, so this one is not tried: log in "
                                 "once with the token's own tools");
        return 0;
}

static int log_in(Pkcs11Use *u) {
        CkUlong code;
        int r;

        if (!(u->token.flags & CKF_LOGIN_REQUIRED) || !u->pin.text)
                return 0;
        r = check_pin(u);
        if (r < 0)
                return r;
        code = u->f->login(u->session, CKU_USER, (const CkByte *) u->pin.text, u->pin.size);
        return code == CKR_OK || code == CKR_USER_ALREADY_LOGGED_IN ? 0 : pkcs11_log_in_error(u, code);
}

/* --- objects -------------------------------------------------------------------------------------------- */

static size_t add_attribute(CkAttribute *attributes, size_t n, CkUlong type, Pkcs11Value *v) {
        if (v->is_set)
                attributes[n++] = (CkAttribute){ type, v->bytes, v->size };
        return n;
}

size_t pkcs11_object_name(Pkcs11Use *u, const CkUlong *class, CkAttribute ret[static PKCS11_NAME_MAX]) {
        size_t n = 0;

        ret[n++] = (CkAttribute){ CKA_CLASS, (void *) class, sizeof(*class) };
        n = add_attribute(ret, n, CKA_LABEL, &u->uri.values[PKCS11_OBJECT]);
        return add_attribute(ret, n, CKA_ID, &u->uri.values[PKCS11_ID]);
}

int pkcs11_find(Pkcs11Use *u, CkAttribute *attributes, size_t n, CkUlong *found, CkUlong max,
                CkUlong *ret_n_found) {
        CkUlong code, n_found = 0;

        code = u->f->find_objects_init(u->session, attributes, n);
        if (code == CKR_OK) {
                code = u->f->find_objects(u->session, found, max, &n_found);
                (void) u->f->find_objects_final(u->session);
        }
        if (code != CKR_OK)
                return pkcs11_call_error(u, code, "C_FindObjects");
        *ret_n_found = MIN(n_found, max);
        return 0;
}

/* --- the session ---------------------------------------------------------------------------------------- */

static int open_session(Pkcs11Use *u, bool writes) {
        CkUlong code;
        int r;

        r = find_module(u);
        if (r >= 0)
                r = find_token(u);
        if (r < 0)
                return r;
        if (writes && (u->token.flags & CKF_WRITE_PROTECTED))
                return pkcs11_call_error(u, CKR_TOKEN_WRITE_PROTECTED, "C_GetTokenInfo");
        if (writes && (u->token.flags & CKF_LOGIN_REQUIRED) && !u->pin.text)
                return pkcs11_use_error(
                        u, -EINVAL, "the token changes nothing without a PIN: name the PIN's file with Pin=");
        code = u->f->open_session(u->slot, CKF_SERIAL_SESSION | (writes ? CKF_RW_SESSION : 0), NULL, NULL,
                                  &u->session);
        if (code != CKR_OK)
                return pkcs11_call_error(u, code, "C_OpenSession");
        u->is_open = true;
        return log_in(u);
}

int pkcs11_use_begin(Pkcs11Use *u, const HardwareKey *k, bool writes, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        int r;

        *u = (Pkcs11Use){ .key = k, .module = k->settings->pkcs11_module ?: DEFAULT_MODULE, .error = error };
        if (pkcs11_uri_parse(k->reference, &u->uri, &reason) < 0)
                return pkcs11_use_error(u, -EINVAL, reason ?: "");
        r = pin_read(k->settings, &u->pin, &reason);
        if (r < 0)
                return hardware_key_error(k, error, r, "Pin", "%s", reason ?: strerror(-r));
        r = device_acquire(u->module, &u->device);
        if (r == -ETIMEDOUT)
                return hardware_key_error(k, error, -ENODEV, "PrivateKey",
                                          "%s: the PKCS#11 module %s does not return from an earlier call",
                                          k->reference, u->module);
        return r < 0 ? pkcs11_use_error(u, r, "") : open_session(u, writes);
}

void pkcs11_use_done(Pkcs11Use *u) {
        if (u->is_open)
                (void) u->f->close_session(u->session); /* the last one logs out, too */
        device_release(u->device);
        pin_done(&u->pin);
}
