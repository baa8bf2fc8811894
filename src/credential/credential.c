/* SPDX-License-Identifier: MIT */
#include "credential/credential.h"

#include <errno.h>
#include <stdlib.h>

#include "basic/module.h"
#include "credential/credential-error.h"
#include "credential/credential-internal.h"

/* A module may add its class while a query reads the table in another thread. */
static const CredentialClass *classes[_METHOD_MAX] = {
        [METHOD_SYMMETRIC_KEY] = &symmetric_key_class,
        [METHOD_X509] = &x509_class,
};

const CredentialClass *credential_class(Method method) {
        return method < _METHOD_MAX ? __atomic_load_n(&classes[method], __ATOMIC_ACQUIRE) : NULL;
}

void credential_set_class(Method method, const CredentialClass *class) {
        __atomic_store_n(&classes[method], class, __ATOMIC_RELEASE);
}

const CredentialClass *credential_class_load(Method method, char **ret_why) {
        static const char *const modules[_METHOD_MAX] = { [METHOD_TPM] = "tpm" };
        const void *class = credential_class(method);

        *ret_why = NULL;
        if (class || method >= _METHOD_MAX || !modules[method])
                return class;
        if (module_load(module_directory(), modules[method], "credential", &class, ret_why) < 0)
                return NULL;
        credential_set_class(method, class);
        return class;
}

unsigned credential_count(const Settings *s, Method method) {
        const CredentialClass *class = credential_class(method);

        return class ? class->count(s) : 0;
}

static Credential *make(const CredentialClass *class, Settings *settings, unsigned index, DpsError *error) {
        Credential *c = calloc(1, class->size);

        if (!c) {
                error_set_memory(error, DPS_STEP_CONFIG);
                return NULL;
        }
        c->class = class;
        c->settings = settings_ref(settings);
        c->n_references = 1;
        c->index = index;
        return c;
}

int credential_new(const CredentialClass *class, const CredentialSource *source, Credential **ret,
                   DpsError *error) {
        _cleanup_(credential_unrefp) Credential *c = NULL;
        int r;

        if (class->is_slow && !source->may_wait)
                return -EINPROGRESS;
        c = make(class, source->settings, source->index, error);
        if (!c)
                return -ENOMEM;
        r = class->load(c, source, error);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

int credential_new_answered(const Credential *c, const char *authentication_key, bool keep, Credential **ret,
                            DpsError *error) {
        _cleanup_(credential_unrefp) Credential *answered = make(c->class, c->settings, c->index, error);
        int r;

        if (!answered)
                return -ENOMEM;
        r = c->class->answer(c, authentication_key, keep, answered, error);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(answered);
        return 0;
}

Credential *credential_ref(Credential *c) {
        __atomic_add_fetch(&c->n_references, 1, __ATOMIC_RELAXED);
        return c;
}

Credential *credential_unref(Credential *c) {
        if (!c || __atomic_sub_fetch(&c->n_references, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;

        c->class->done(c);
        settings_unref(c->settings);
        free(c);
        return NULL;
}

Method credential_method(const Credential *c) {
        return c->class->method;
}

unsigned credential_index(const Credential *c) {
        return c->index;
}

const char *credential_fingerprint(const Credential *c) {
        return c->fingerprint;
}

uint64_t credential_expires_at_usec(const Credential *c) {
        return c->expires_at_usec;
}

const ClientCertificate *credential_certificate(const Credential *c) {
        return c->certificate;
}

const TpmKeys *credential_tpm_keys(const Credential *c) {
        return c->tpm_keys;
}

bool credential_lacks_hub_key(const Credential *c) {
        return c->lacks_hub_key;
}
