/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/text.h"
#include "credential/certificate.h"
#include "credential/credential-error.h"
#include "credential/credential-internal.h"

typedef struct CertificateCredential {
        Credential credential;
        ClientCertificate certificate;
} CertificateCredential;

static unsigned count(const Settings *s) {
        return (unsigned) strv_length(s->certificates);
}

static int load(Credential *c, const CredentialSource *source, DpsError *error) {
        CertificateCredential *x = (CertificateCredential *) c;
        const Settings *s = source->settings;
        unsigned n = count(s);
        int r;

        if (n == 0 || strv_length(s->private_keys) != n)
                return credential_error(
                        error, -EINVAL, &s->certificates_place, "Certificate",
                        "there must be as many PrivateKey= lines as Certificate= lines, and at least one "
                        "of each");
        r = client_certificate_load(source, s->certificates[source->index], s->private_keys[source->index],
                                    &x->certificate, error);
        if (r < 0)
                return r;

        c->certificate = &x->certificate;
        c->expires_at_usec = x->certificate.not_after_usec;
        r = certificate_fingerprint(sk_X509_value(x->certificate.chain, 0), c->fingerprint);
        return r < 0 ? credential_error(error, r, &s->certificates_place, "Certificate", "out of memory") : 0;
}

static void done(Credential *c) {
        client_certificate_done(&((CertificateCredential *) c)->certificate);
}

const CredentialClass x509_class = {
        .method = METHOD_X509,
        .size = sizeof(CertificateCredential),
        .count = count,
        .load = load,
        .done = done,
};
