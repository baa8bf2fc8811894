/* SPDX-License-Identifier: MIT */
#include "credential/credential.h"

#include <errno.h>
#include <stdlib.h>

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

unsigned credential_count(const Settings *s, Method method) {
        const CredentialClass *class = credential_class(method);

        return class ? class->count(s) : 0;
}

int credential_new(const CredentialClass *class, const CredentialSource *source, Credential **ret,
                   DpsError *error) {
        _cleanup_(credential_unrefp) Credential *c = calloc(1, class->size);
        int r;

        if (!c) {
                dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "out of memory");
                return -ENOMEM;
        }
        c->class = class;
        c->settings = settings_ref(source->settings);
        c->n_references = 1;
        c->index = source->index;
        r = class->load(c, source, error);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
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
