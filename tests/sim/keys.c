/* SPDX-License-Identifier: MIT */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "chip.h"
#include "credential/credential-class.h"
#include "credential/issuance.h"
#include "hang.h"
#include "memory.h"
#include "notes.h"
#include "token.h"

struct Keys {
        Sim *sim;
        char *paths[IDENTITIES_MAX];
        KeyFile what[IDENTITIES_MAX];
};

/* The same in all simulations: they differ in what is done with them. */
const char *keys_text(unsigned k, unsigned which) {
        static char texts[IDENTITIES_MAX][3][48];
        char *text = texts[k][which];

        if (!*text) /* 32 bytes in base64, of letters only */
                (void) snprintf(text, sizeof(texts[k][which]),
                                "%c%cAbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMn8=", 'A' + (char) k,
                                'A' + (char) which);
        return text;
}

const char *keys_content(const Keys *keys, unsigned k) {
        if (chip_is_of(k))
                return NULL;
        switch (keys->what[k]) {
        case KEY_FILE_GOOD:
        case KEY_FILE_TOO_OPEN:
                return keys_text(k, 0);
        case KEY_FILE_OTHER:
                return keys_text(k, 1);
        case KEY_FILE_WRONG:
                return keys_text(k, 2);
        case KEY_FILE_BROKEN:
                return "this is no key";
        case KEY_FILE_MISSING:
        case _KEY_FILE_MAX:
                break;
        }
        return NULL;
}

void keys_put(Keys *keys, unsigned k, KeyFile what) {
        keys->what[k] = what;
        if (chip_is_of(k) && what != KEY_FILE_GOOD)
                chip_clear(k);
}

KeyFile keys_what(const Keys *keys, unsigned k) {
        return keys->what[k];
}

const char *keys_path(const Keys *keys, unsigned k) {
        return keys->paths[k];
}

bool keys_are_in(const Keys *keys, const char *text) {
        if (strstr(text, "&sig=") || strstr(text, "sig%3D"))
                return true;
        /* All keys have this in them. */
        return strstr(text, "AbCdEfGhIjKlMnOpQrStUvWxYz");
}

/* ---- keys of issued certificates ---- */

/* To make one takes longer than the rest of a registration. The first ones are real, and then they come again in turn, so
 * that those of one device that follow each other differ. */
#define REQUESTS_MAX 16

#pragma GCC visibility push(default)
int __real_issuance_request_new(Settings *s, const IssuancePlace *place, IssuanceRequest *ret,
                                DpsError *error);
int __wrap_issuance_request_new(Settings *s, const IssuancePlace *place, IssuanceRequest *ret,
                                DpsError *error);
#pragma GCC visibility pop

int __wrap_issuance_request_new(Settings *s, const IssuancePlace *place, IssuanceRequest *ret,
                                DpsError *error) {
        static struct {
                IssuanceRequest requests[REQUESTS_MAX];
                unsigned n;
        } devices[2]; /* both registration ids of ISSUED_IDENTITY */
        unsigned k = startswith(s->registration_id, "alt") ? 1 : 0;
        IssuanceRequest *known = &devices[k].requests[devices[k].n++ % REQUESTS_MAX];
        unsigned depth;

        if (memory_may_run_out() || s->issuance_key_type != KEY_TYPE_EC_P256 || settings_issue_in_hardware(s))
                return __real_issuance_request_new(s, place, ret, error);
        depth = core_pause();
        if (!known->key && __real_issuance_request_new(s, place, known, error) < 0)
                abort();
        EVP_PKEY_up_ref(known->key);
        *ret = (IssuanceRequest){ .key = known->key, .csr = strdup(known->csr), .module = known->module };
        core_resume(depth);
        return 0;
}

/* ---- the chip ---- */

static const CredentialClass *file_class;
static bool chip_is_absent;

/* Which chip a credential was loaded from is remembered by its fingerprint. */
static char fingerprints[IDENTITIES_MAX][FINGERPRINT_SIZE];

static int enter(const Credential *c, DpsError *error) {
        if (c->class->is_slow)
                for (unsigned k = 0; k < IDENTITIES_MAX; k++)
                        if (streq(fingerprints[k], c->fingerprint))
                                return hang_enter(k, true, error);
        return 0;
}

static int load_slowly(Credential *c, const CredentialSource *source, DpsError *error) {
        const char *number = source->settings->name + strcspn(source->settings->name, "0123456789");
        unsigned k = (unsigned) strtoul(number, NULL, 10) % IDENTITIES_MAX;
        int r = hang_enter(k, false, error);

        if (r >= 0)
                r = file_class->load(c, source, error);
        if (r >= 0)
                memcpy(fingerprints[k], c->fingerprint, sizeof(fingerprints[k]));
        return r;
}

static int chip_load(Credential *c, const CredentialSource *source, DpsError *error) {
        if (!chip_is_absent)
                return c->class->is_slow ? load_slowly(c, source, error) : file_class->load(c, source, error);
        dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the chip is not there");
        return -ENODEV;
}

static int chip_sign(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                     char **ret, DpsError *error) {
        int r = enter(c, error);

        if (r < 0)
                return r;
        if (!chip_is_absent)
                return file_class->sign(c, resource, expiry_sec, policy, ret, error);
        dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the chip is not there");
        return -ENODEV;
}

/* A credential keeps its class, so these two stay as they are. */
void keys_set_chip(Keys *keys, bool is_slow, bool is_absent) {
        static CredentialClass classes[2];

        file_class = file_class ?: credential_class(METHOD_SYMMETRIC_KEY);
        for (unsigned k = 0; k < 2; k++) {
                classes[k] = *file_class;
                classes[k].is_slow = k;
                classes[k].load = chip_load;
                classes[k].sign = chip_sign;
        }
        chip_is_absent = is_absent;
        chips_set_absent(is_absent);
        credential_set_class(METHOD_SYMMETRIC_KEY, &classes[is_slow]);
}

Keys *keys_new(Sim *s) {
        Keys *keys = sim_alloc(sizeof(*keys));

        keys->sim = s;
        chips_init();
        token_init(s);
        notes_init(s);
        issuance_set_module(&issuance_module);
        hang_end_all(s);
        hang_forget_calls();
        keys_set_chip(keys, false, false);
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                keys->paths[k] = sim_format(KEYS_DIRECTORY "/key-%u", k);
                keys_put(keys, k, KEY_FILE_GOOD);
        }
        key_files_set(keys);
        return keys;
}

Keys *keys_free(Keys *keys) {
        key_files_set(NULL);
        for (unsigned k = 0; k < IDENTITIES_MAX; k++)
                sim_free(keys->paths[k]);
        token_done();
        sim_free(keys);
        return NULL;
}
