/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "config/key-text.h"
#include "config/secret.h"
#include "credential/credential-error.h"
#include "credential/credential-internal.h"
#include "dps/key.h"
#include "dps/sas.h"

/* A device key, configured as such or derived from a group key. */
typedef struct SymmetricKey {
        Credential credential;
        DpsKey key;
} SymmetricKey;

static bool uses_group_key(const Settings *s) {
        return strv_length(s->keys) == 0;
}

static char *const *key_references(const Settings *s) {
        return uses_group_key(s) ? s->group_keys : s->keys;
}

static const char *setting_name(const Settings *s) {
        return uses_group_key(s) && strv_length(s->group_keys) > 0 ? "GroupKey" : "Key";
}

static unsigned count(const Settings *s) {
        return (unsigned) strv_length(key_references(s));
}

static int read_key(const CredentialSource *source, DpsKey *ret, DpsError *error) {
        const Settings *s = source->settings;
        _cleanup_(freep) char *text = NULL, *reason = NULL;
        const char *reference, *name = setting_name(s), *why = NULL;
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        size_t size;
        int r;

        if (count(s) == 0)
                return credential_error(error, -EINVAL, &s->keys_place, name,
                                        "no key is configured: name the file of one in Key= or GroupKey=");
        reference = key_references(s)[source->index];
        r = secret_read(reference, &text, &size, &reason);
        if (r < 0)
                return credential_error(error, r, &s->keys_place, name, "%s", reason ?: strerror(-r));

        r = key_from_text(text, size, &key, &why);
        explicit_bzero(text, size);
        if (r >= 0 && uses_group_key(s))
                r = dps_key_derive(&key, source->registration_id, ret);
        else if (r >= 0)
                *ret = key;
        if (r < 0)
                return credential_error(error, r, &s->keys_place, name, "%s: %s", reference,
                                        why ?: strerror(-r));
        return 0;
}

/* An HMAC reveals nothing about its key. This text is neither the resource of a token nor a registration id,
 * so the result is neither the signature of a token nor a derived key. It is in lower case because DPS
 * ignores the case of registration ids. */
static int set_fingerprint(SymmetricKey *k, const char *registration_id) {
        _cleanup_(freep) char *text = text_format("dps credential fingerprint 1\n%s", registration_id);
        uint8_t signature[DPS_HMAC_SIZE];
        int r;

        if (!text)
                return -ENOMEM;
        for (char *p = text; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p + 'a' - 'A');
        r = dps_key_sign(&k->key, text, strlen(text), signature);
        if (r >= 0)
                bytes_to_hex(signature, sizeof(signature), k->credential.fingerprint);
        return r;
}

static int load(Credential *c, const CredentialSource *source, DpsError *error) {
        SymmetricKey *k = (SymmetricKey *) c;
        int r;

        r = read_key(source, &k->key, error);
        if (r < 0)
                return r;
        r = set_fingerprint(k, source->registration_id);
        if (r < 0)
                return credential_error(error, r, &source->settings->keys_place,
                                        setting_name(source->settings), "it cannot sign: %s", strerror(-r));
        return 0;
}

static int sign(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                char **ret, DpsError *error) {
        const SymmetricKey *k = (const SymmetricKey *) c;
        int r;

        r = dps_sas_new(&k->key, resource, expiry_sec, policy, ret);
        if (r < 0)
                return credential_error(error, r, &c->settings->keys_place, setting_name(c->settings),
                                        "it cannot sign a token: %s", strerror(-r));
        return 0;
}

static void done(Credential *c) {
        dps_key_done(&((SymmetricKey *) c)->key);
}

const CredentialClass symmetric_key_class = {
        .method = METHOD_SYMMETRIC_KEY,
        .size = sizeof(SymmetricKey),
        .count = count,
        .load = load,
        .sign = sign,
        .done = done,
};
