/* SPDX-License-Identifier: MIT */
#include "dpsd/attestation.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "config/secret.h"
#include "dps/key.h"
#include "dps/sas.h"
#include "dpsd/blame.h"

/* A setting that shrank while something remembered an index of it: its first is as good as any. */
static const char *nth(char *const *list, unsigned index) {
        return list[index < strv_length(list) ? index : 0];
}

/* --- symmetric keys ------------------------------------------------------------------------------------------- */

static bool uses_group_key(const Settings *s) {
        return strv_length(s->keys) == 0;
}

static const char *key_to_blame(const Settings *s) {
        return uses_group_key(s) ? "GroupKey" : "Key";
}

static int key_from_text(const char *text, size_t size, const char *registration_id, bool is_group_key,
                         DpsKey *ret) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        int r;

        if (strlen(text) != size)
                return -EBADMSG;
        r = dps_key_from_base64(text, &key);
        if (r < 0)
                return r;
        if (is_group_key)
                return dps_key_derive(&key, registration_id, ret);
        *ret = key;
        return 0;
}

static int load_key(const Settings *s, unsigned index, const char *registration_id, DpsKey *ret,
                    DpsError *error) {
        char *const *references = uses_group_key(s) ? s->group_keys : s->keys;
        _cleanup_(freep) char *text = NULL, *reason = NULL;
        const char *reference;
        size_t size;
        int r;

        if (strv_length(references) == 0)
                return blame(error, -EINVAL, &s->keys_place, "Key", "there is none");
        reference = nth(references, index);
        r = secret_read(reference, &text, &size, &reason);
        if (r < 0)
                return blame(error, r, &s->keys_place, key_to_blame(s), "%s", reason ?: strerror(-r));

        r = key_from_text(text, size, registration_id, uses_group_key(s), ret);
        explicit_bzero(text, size);
        if (r == -ERANGE)
                return blame(error, r, &s->keys_place, key_to_blame(s),
                             "%s: a key is 16 to 64 bytes, as base64, and what is there is not", reference);
        if (r < 0)
                return blame(error, r, &s->keys_place, key_to_blame(s),
                             "%s: not base64; the enrollment's primary or secondary key is wanted as the "
                             "portal shows it",
                             reference);
        return 0;
}

int attestation_certificate(const Settings *s, unsigned index, const char *registration_id,
                            ClientCertificate *ret, DpsError *error) {
        size_t n = strv_length(s->certificates);

        if (n == 0 || strv_length(s->private_keys) != n)
                return blame(
                        error, -EINVAL, &s->certificates_place, "Certificate",
                        "as many lines PrivateKey= as Certificate= are needed, and at least one of each");
        return client_certificate_load(s, nth(s->certificates, index), nth(s->private_keys, index),
                                       registration_id, ret, error);
}

/* --- methods -------------------------------------------------------------------------------------------------- */

static const Place nowhere;

unsigned attestation_count(const Settings *s, Method method) {
        switch (method) {
        case METHOD_SYMMETRIC_KEY:
                return (unsigned) strv_length(uses_group_key(s) ? s->group_keys : s->keys);
        case METHOD_X509:
                return (unsigned) strv_length(s->certificates);
        case METHOD_TPM:
        case _METHOD_MAX:
                return 0;
        }
        abort();
}

static int refuse_method(Method method, DpsError *error) {
        return blame(error, -EOPNOTSUPP, &nowhere, "Method",
                     "%s: this version of dpsd has no such attestation", method_to_string(method));
}

static int try_credential(const Settings *s, Method method, unsigned index, const char *registration_id,
                          DpsError *error) {
        _cleanup_(client_certificate_done) ClientCertificate c = { 0 };
        _cleanup_(dps_key_done) DpsKey key = { 0 };

        switch (method) {
        case METHOD_SYMMETRIC_KEY:
                return load_key(s, index, registration_id, &key, error);
        case METHOD_X509:
                return attestation_certificate(s, index, registration_id, &c, error);
        case METHOD_TPM:
        case _METHOD_MAX:
                return refuse_method(method, error);
        }
        abort();
}

/* The first failure tells. */
static int try_method(const Settings *s, Method method, const char *registration_id, DpsError *error) {
        unsigned n = MAX(attestation_count(s, method), 1U);
        int r = 0;

        for (unsigned i = 0; i < n; i++) {
                DpsError e = { 0 };
                int k = try_credential(s, method, i, registration_id, &e);

                if (k >= 0)
                        return 0;
                if (i == 0) {
                        *error = e;
                        r = k;
                }
        }
        return r;
}

/* A key that is away, or spoilt, makes no other device of us: only who changes the configuration does. */
static bool is_kept(const Settings *s, Method method) {
        for (unsigned i = 0; i < s->n_methods; i++)
                if (s->methods[i] == method)
                        return attestation_count(s, method) > 0;
        return false;
}

int attestation_choose(const Settings *s, const char *registration_id, Method kept, Method *ret,
                       DpsError *error) {
        DpsError first = { 0 };
        int r;

        if (is_kept(s, kept)) {
                r = try_method(s, kept, registration_id, error);
                if (r >= 0)
                        *ret = kept;
                if (r != -EOPNOTSUPP)
                        return r;
        }

        r = -EINVAL;
        for (unsigned i = 0; i < s->n_methods; i++) {
                DpsError e = { 0 };
                int k = try_method(s, s->methods[i], registration_id, &e);

                if (k >= 0) {
                        *ret = s->methods[i];
                        return 0;
                }
                /* What this build cannot do at all is worth telling only where there is nothing else. */
                if (i == 0 || r == -EOPNOTSUPP) {
                        first = e;
                        r = k;
                }
        }

        *error = first;
        return r;
}

int attestation_mint(const Settings *s, Method method, unsigned index, const char *registration_id,
                     const char *resource, uint64_t expiry_sec, const char *policy, char **ret,
                     DpsError *error) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        int r;

        assert(method != METHOD_X509);
        if (method != METHOD_SYMMETRIC_KEY)
                return refuse_method(method, error);
        r = load_key(s, index, registration_id, &key, error);
        if (r < 0)
                return r;
        r = dps_sas_new(&key, resource, expiry_sec, policy, ret);
        if (r < 0)
                return blame(error, r, &s->keys_place, key_to_blame(s), "no token can be made with it: %s",
                             strerror(-r));
        return 0;
}

/* --- paths ---------------------------------------------------------------------------------------------------- */

/* A credential that is not there yet has two places where it may appear. */
static int add_credential_paths(char ***paths, const char *reference) {
        static const char *const prefixes[] = { "", "dps_" };
        const char *directory = getenv("CREDENTIALS_DIRECTORY"), *name = reference;

        if (isempty(directory) || !scan_literal(&name, "credential:"))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
                char *path = NULL;
                int r;

                if (asprintf(&path, "%s/%s%s", directory, prefixes[i], name) < 0)
                        return -ENOMEM;
                r = strv_push(paths, path);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_paths(char ***paths, char *const *references) {
        STRV_FOREACH(reference, references) {
                _cleanup_(freep) char *reason = NULL;
                char *path = NULL;
                int r;

                if (private_key_is_uri(*reference))
                        continue;
                r = secret_path(*reference, &path, &reason);
                if (r == -EAGAIN)
                        r = add_credential_paths(paths, *reference);
                else if (r >= 0)
                        r = strv_push(paths, path);
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

int attestation_paths(const Settings *s, char ***ret) {
        char *const *lists[] = { s->keys, s->group_keys, s->certificates, s->private_keys };
        _cleanup_(strv_freep) char **paths = NULL;

        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                int r = add_paths(&paths, lists[i]);

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}
