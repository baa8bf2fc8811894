/* SPDX-License-Identifier: MIT */
#include <openssl/ssl.h>

#include "basic/text.h"
#include "check/check.h"
#include "transport/tls.h"

/*
 * The root CAs that Azure's servers need ("Azure TLS certificate changes"; the certificates that Microsoft's C SDK has with
 * it). The sovereign clouds did not take part in the move to Global Root G2 of 2022.
 */

DEFINE_FREEP(X509_NAME, X509_NAME_free)
DEFINE_FREEP(X509_OBJECT, X509_OBJECT_free)
DEFINE_FREEP(X509_STORE_CTX, X509_STORE_CTX_free)

typedef struct Root {
        const char *organization, *unit, *name; /* unit NULL: none */
        CheckResult without[_AZURE_CLOUD_MAX];  /* CHECK_OK: this cloud does not need it */
} Root;

#define DIGICERT "DigiCert Inc", "www.digicert.com"
#define MICROSOFT "Microsoft Corporation", NULL

static const Root roots[] = {
        { DIGICERT,
          "DigiCert Global Root G2",
          { [AZURE_GLOBAL] = CHECK_FAILURE,
            [AZURE_CHINA] = CHECK_WARNING,
            [AZURE_US_GOVERNMENT] = CHECK_FAILURE } },
        { DIGICERT,
          "DigiCert Global Root CA",
          { [AZURE_CHINA] = CHECK_FAILURE, [AZURE_US_GOVERNMENT] = CHECK_WARNING } },
        { MICROSOFT,
          "Microsoft RSA Root Certificate Authority 2017",
          { [AZURE_GLOBAL] = CHECK_WARNING, [AZURE_US_GOVERNMENT] = CHECK_WARNING } },
};

static int add_part(X509_NAME *name, const char *field, const char *value) {
        return !value || X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *) value,
                                                    -1, -1, 0) == 1
                       ? 0
                       : -1;
}

/* In the order in which the certificate has them. */
static X509_NAME *make_name(const Root *root) {
        _cleanup_(X509_NAME_freep) X509_NAME *name = X509_NAME_new();

        if (!name || add_part(name, "C", "US") < 0 || add_part(name, "O", root->organization) < 0 ||
            add_part(name, "OU", root->unit) < 0 || add_part(name, "CN", root->name) < 0)
                return NULL;
        return TAKE_PTR(name);
}

static bool store_has(X509_STORE *store, const Root *root) {
        _cleanup_(X509_STORE_CTX_freep) X509_STORE_CTX *context = X509_STORE_CTX_new();
        _cleanup_(X509_NAME_freep) X509_NAME *name = make_name(root);
        _cleanup_(X509_OBJECT_freep) X509_OBJECT *found = NULL;

        if (!context || !name || X509_STORE_CTX_init(context, store, NULL, NULL) != 1)
                return false;
        found = X509_STORE_CTX_get_obj_by_subject(context, X509_LU_X509, name);
        return found;
}

void check_trust(Checks *c, CheckSubject *s) {
        const Settings *settings = s->settings;
        AzureCloud cloud = azure_cloud_of(settings->endpoint);
        _cleanup_(tls_context_unrefp) TlsContext *tls = NULL;
        DpsError error;
        X509_STORE *store;

        if (tls_context_new(settings->endpoint, settings->ca_files, NULL, NULL, &tls, &error) < 0) {
                checks_add(c, "trust", CHECK_FAILURE, "%s", error.message);
                return;
        }
        if (cloud == _AZURE_CLOUD_MAX) {
                checks_add(c, "trust", CHECK_SKIPPED,
                           "%s does not belong to Azure, so it is not known which CA it needs",
                           settings->endpoint);
                return;
        }

        store = SSL_CTX_get_cert_store(tls_context_ssl(tls));
        for (size_t k = 0; k < ELEMENTSOF(roots); k++) {
                CheckResult without = roots[k].without[cloud];

                if (without == CHECK_OK)
                        continue;
                if (store_has(store, &roots[k]))
                        checks_add(c, "trust", CHECK_OK, "%s is trusted", roots[k].name);
                else
                        checks_add(c, "trust", without, "%s is not trusted, but Azure %s: %s", roots[k].name,
                                   without == CHECK_FAILURE ? "needs it" : "may switch to it",
                                   settings->ca_files ? "add it to CaFile=, or remove CaFile="
                                                      : "install ca-certificates and run "
                                                        "update-ca-certificates");
        }
}
