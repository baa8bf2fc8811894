/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>

#include "credential/credential-error.h"
#include "credential/credential-internal.h"

static const Place nowhere;

/* The result of trying one method. */
typedef struct Outcome {
        int r;
        DpsError error;
} Outcome;

static int unsupported_method(Method method, const char *why, DpsError *error) {
        if (why)
                return credential_error(error, -EOPNOTSUPP, &nowhere, "Method", "%s: %s",
                                        method_to_string(method), why);
        return credential_error(
                error, -EOPNOTSUPP, &nowhere, "Method",
                "%s: this version of dpsd does not support this attestation: use symmetric-key or x509",
                method_to_string(method));
}

/* Tries the wished index first. If all fail, the first error is reported. If there was no memory to load a
 * key, we know nothing about it, so no other key may take its place. */
static int try_method(const CredentialWish *wish, Method method, const CredentialSource *place,
                      Credential **ret, DpsError *error) {
        bool is_wished = wish->kept == _METHOD_MAX || wish->kept == method;
        _cleanup_(freep) char *why = NULL;
        const CredentialClass *class = credential_class_load(method, &why);
        CredentialSource source = *place;
        unsigned n, first;
        int r;

        if (!class)
                return unsupported_method(method, why, error);
        n = class->count(wish->settings);
        first = is_wished && wish->index < n ? wish->index : 0;

        source.index = first;
        r = credential_new(class, &source, ret, error);
        if (r >= 0 || r == -ENOMEM || r == -EINPROGRESS || (is_wished && wish->only))
                return r;
        for (source.index = 0; source.index < n; source.index++) {
                DpsError ignored = { 0 };
                int k = source.index == first ? r : credential_new(class, &source, ret, &ignored);

                if (k >= 0 || k == -EINPROGRESS)
                        return k;
        }
        return r;
}

/* A missing or damaged key does not make this device change its method; only the configuration does. */
static bool is_kept(const Settings *s, Method method) {
        _cleanup_(freep) char *why = NULL;
        const CredentialClass *class;

        for (unsigned i = 0; i < s->n_methods; i++)
                if (s->methods[i] == method) {
                        class = credential_class_load(method, &why);
                        return class && class->count(s) > 0;
                }
        return false;
}

static int load_issued(const CredentialWish *wish, World *w, bool may_wait, Credential **ret,
                       DpsError *error) {
        const CredentialSource source = { .settings = wish->settings,
                                          .registration_id = wish->registration_id,
                                          .folder = may_wait ? NULL : wish->issued_folder,
                                          .fallback = wish->issued_fallback,
                                          .file = wish->issued_file,
                                          .text = *wish->issued_text,
                                          .ret_text = wish->issued_text,
                                          .world = w,
                                          .may_wait = may_wait };

        return credential_new(&issued_class, &source, ret, error);
}

/* Tries the methods in their order. `kept` is what came of the kept method, whose files have been read already; NULL: it
 * was not tried. That this build does not support a method is only reported if there is no other error. */
static int try_methods(const CredentialWish *wish, const CredentialSource *place, const Outcome *kept,
                       Credential **ret, DpsError *error) {
        const Settings *s = wish->settings;
        Outcome reported = { .r = -EINVAL };

        assert(s->n_methods > 0);
        for (unsigned i = 0; i < s->n_methods; i++) {
                Outcome a = { 0 };

                if (kept && s->methods[i] == wish->kept)
                        a = *kept;
                else
                        a.r = try_method(wish, s->methods[i], place, ret, &a.error);
                if (a.r >= 0 || a.r == -EINPROGRESS)
                        return a.r;
                if (i == 0 || reported.r == -EOPNOTSUPP || a.r == -ENOMEM)
                        reported = a;
                if (a.r == -ENOMEM)
                        break;
        }

        *error = reported.error;
        return reported.r;
}

int credential_choose(const CredentialWish *wish, World *w, bool may_wait, Credential **ret,
                      DpsError *error) {
        const CredentialSource place = { .settings = wish->settings,
                                         .registration_id = wish->registration_id,
                                         .world = w,
                                         .may_wait = may_wait };
        Outcome kept = { 0 };

        if (wish->issued_file)
                return load_issued(wish, w, may_wait, ret, error);
        if (wish->exact)
                return try_method(wish, wish->kept, &place, ret, error);
        if (!is_kept(wish->settings, wish->kept))
                return try_methods(wish, &place, NULL, ret, error);

        kept.r = try_method(wish, wish->kept, &place, ret, &kept.error);
        if (kept.r == -EOPNOTSUPP)
                return try_methods(wish, &place, &kept, ret, error);
        if (kept.r < 0)
                *error = kept.error;
        return kept.r;
}
