/* SPDX-License-Identifier: MIT */
#include "token.h"

#include <errno.h>
#include <openssl/ec.h>
#include <stdlib.h>
#include <string.h>

#include "basic/module.h"
#include "basic/text.h"
#include "checks.h"
#include "config/pem.h"
#include "credential/hardware-key.h"
#include "hang.h"
#include "memory.h"

/* These take the place of pkcs11.c, pkcs11-make.c and tpm-provider.c. */

#define POOL_MAX                                                                                             \
        16 /* real keys, which are used in turn: to make one takes longer than the rest of a registration */

typedef struct TokenKey {
        struct TokenKey *next;
        char *reference; /* its URI, or the text of its file */
        EVP_PKEY *key;
        bool is_there, is_taken; /* `is_taken`: by somebody else */
        bool is_of_tpm;
} TokenKey;

static struct {
        Sim *sim;
        TokenFault fault;
        TokenKey *keys; /* the newest one first */
        unsigned n_made;
} token;

static const char *const places[_KEY_PLACE_MAX] = { "file", "pkcs11:token=sim;object=hub", "tpm" };

const char *key_place_to_string(KeyPlace place) {
        return places[place];
}

/* ---- what is in them ---- */

static TokenKey *find(const char *reference) {
        size_t size = strcspn(reference, "\n");

        if (startswith(reference, PEM_TSS2_BEGIN))
                size = strlen(reference);
        for (TokenKey *k = token.keys; k; k = k->next)
                if (strlen(k->reference) == size && memcmp(k->reference, reference, size) == 0)
                        return k;
        return NULL;
}

EVP_PKEY *token_key(const char *reference) {
        TokenKey *k = find(reference);

        return k ? k->key : NULL;
}

bool token_can_serve(const char *reference) {
        TokenKey *k = find(reference);

        return k && (k->is_there || k->is_taken);
}

unsigned token_n_keys(void) {
        unsigned n = 0;

        for (const TokenKey *k = token.keys; k; k = k->next)
                n += k->is_there && !k->is_of_tpm;
        return n;
}

static TokenKey *add(const char *reference, bool is_of_tpm) {
        static EVP_PKEY *pool[POOL_MAX];
        EVP_PKEY **key = &pool[token.n_made++ % POOL_MAX];
        TokenKey *k = sim_alloc(sizeof(*k));

        if (!*key)
                *key = EVP_EC_gen("P-256");
        *k = (TokenKey){ .next = token.keys,
                         .reference = sim_copy(reference),
                         .key = *key,
                         .is_there = true,
                         .is_of_tpm = is_of_tpm };
        token.keys = k;
        return k;
}

void token_init(Sim *s) {
        token_done();
        token.sim = s;
}

void token_done(void) {
        for (TokenKey *k = token.keys, *next; k; k = next) {
                next = k->next;
                sim_free(k->reference);
                sim_free(k);
        }
        token.sim = NULL;
        token.fault = TOKEN_GOOD;
        token.keys = NULL;
        token.n_made = 0;
}

void token_set_fault(TokenFault fault) {
        token.fault = fault;
}

static void take_away(TokenKey *k) {
        k->is_there = false;
        k->is_taken = true;
}

void token_lose(uint64_t which, bool all) {
        unsigned n = token_n_keys(), number = 0;

        for (TokenKey *k = token.keys; k; k = k->next)
                if (k->is_there && !k->is_of_tpm && (number++ == which % n || all))
                        take_away(k);
}

void tpm_clear(void) {
        for (TokenKey *k = token.keys; k; k = k->next)
                if (k->is_there && k->is_of_tpm)
                        take_away(k);
}

/* ---- what the module asks of them ---- */

static int fail(const HardwareKey *k, DpsError *error, int r, const char *what) {
        return hardware_key_error(k, error, r, "PrivateKey", "%s: %s", k->reference, what);
}

static int enter(const HardwareKey *k, bool is_use, DpsError *error) {
        int r = hang_enter(ISSUED_IDENTITY, is_use, error);

        if (r < 0)
                return r;
        return token.fault == TOKEN_ABSENT ? fail(k, error, -ENODEV, "there is no such token") : 0;
}

static int sign(const HardwareKey *k, const char *reference, Signature *s, DpsError *error) {
        int r = enter(k, true, error);
        EVP_PKEY_CTX *c;
        TokenKey *key;
        bool good;

        if (r < 0)
                return r;
        key = find(reference);
        if (!key || !key->is_there)
                return fail(k, error, -ENOENT, "there is no such key");
        c = EVP_PKEY_CTX_new(key->key, NULL);
        s->output_size = sizeof(s->output);
        good = c && s->scheme == SIGNATURE_ECDSA && EVP_PKEY_sign_init(c) == 1 &&
               EVP_PKEY_sign(c, s->output, &s->output_size, s->input, s->input_size) == 1;
        EVP_PKEY_CTX_free(c);
        if (!good)
                abort();
        return 0;
}

int pkcs11_sign(const HardwareKey *k, Signature *s, DpsError *error) {
        return sign(k, k->reference, s, error);
}

int tpm_provider_sign(const HardwareKey *k, Signature *s, DpsError *error) {
        return sign(k, k->text, s, error);
}

int pkcs11_look(const HardwareKey *k, DpsError *error) {
        return enter(k, false, error);
}

int tpm_provider_look(const HardwareKey *k, DpsError *error) {
        return enter(k, false, error);
}

static int make(const HardwareKey *k, const char *reference, bool is_of_tpm, EVP_PKEY **ret_public) {
        unsigned depth = core_pause();
        TokenKey *key = add(reference, is_of_tpm);

        EVP_PKEY_up_ref(key->key);
        *ret_public = key->key;
        trace(token.sim, "token: %u keys of ours", token_n_keys());
        if (!is_of_tpm)
                checks_key_made(token.sim, reference);
        core_resume(depth);
        return 0;
}

int pkcs11_make(const HardwareKey *k, KeyType type, EVP_PKEY **ret_public, DpsError *error) {
        int r = enter(k, true, error);

        if (r < 0)
                return r;
        if (token.fault == TOKEN_FULL)
                return fail(k, error, -ENODEV, "the token is full");
        return make(k, k->reference, false, ret_public);
}

int tpm_provider_make(const HardwareKey *k, KeyType type, EVP_PKEY **ret_public, char **ret_text,
                      DpsError *error) {
        int r = enter(k, true, error);

        if (r < 0)
                return r;
        if (asprintf(ret_text, PEM_TSS2_BEGIN "\n%08u\n-----END TSS2 PRIVATE KEY-----\n", token.n_made) < 0) {
                *ret_text = NULL;
                return fail(k, error, -ENOMEM, "");
        }
        return make(k, *ret_text, true, ret_public);
}

int pkcs11_remove(const HardwareKey *k, DpsError *error) {
        int r = enter(k, true, error);
        TokenKey *key;

        if (r < 0)
                return r;
        if (token.fault == TOKEN_KEEPS)
                return fail(k, error, -ENODEV, "the token does not let it be removed");
        key = find(k->reference);
        if (key && key->is_there) {
                key->is_there = false;
                trace(token.sim, "token: a key is removed, %u are left", token_n_keys());
                checks_key_removed(token.sim, k->reference);
        }
        return 0;
}

/* ---- the module ---- */

#pragma GCC visibility push(default)
extern const Module dps_module;
int __real_module_load(const char *directory, const char *name, const char *kind, const void **ret_class,
                       char **ret_why);
int __wrap_module_load(const char *directory, const char *name, const char *kind, const void **ret_class,
                       char **ret_why);
#pragma GCC visibility pop

int __wrap_module_load(const char *directory, const char *name, const char *kind, const void **ret_class,
                       char **ret_why) {
        if (!streq(name, dps_module.name))
                return __real_module_load(directory, name, kind, ret_class, ret_why);
        *ret_class = dps_module.class;
        return 0;
}
