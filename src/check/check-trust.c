/* SPDX-License-Identifier: MIT */
#include <openssl/x509.h>

#include "basic/text.h"
#include "check/check.h"
#include "transport/trust.h"

/*
 * The root CAs that Azure's servers need ("Azure TLS certificate changes"; the certificates that Microsoft's C SDK has with
 * it). The sovereign clouds did not take part in the move to Global Root G2 of 2022: they still use the first one, which
 * Mozilla's store, and with it ca-certificates, dropped in April 2026 ("Azure IoT guidance for DigiCert Global Root G1
 * trust-store updates in sovereign clouds").
 */

DEFINE_FREEP(X509_NAME, X509_NAME_free)
DEFINE_FREEP(X509_OBJECT, X509_OBJECT_free)
DEFINE_FREEP(X509_STORE_CTX, X509_STORE_CTX_free)

typedef struct Root {
        const char *organization, *unit, *name; /* unit NULL: none */
        CheckResult without[_AZURE_CLOUD_MAX];  /* CHECK_OK: this cloud does not need it */
        const char *file, *fingerprint; /* ca-certificates is without it: where to get it; NULL: it has it */
} Root;

#define DIGICERT "DigiCert Inc", "www.digicert.com"
#define MICROSOFT "Microsoft Corporation", NULL

static const Root roots[] = {
        { DIGICERT, "DigiCert Global Root G2",
          .without = { [AZURE_GLOBAL] = CHECK_FAILURE,
                       [AZURE_CHINA] = CHECK_WARNING,
                       [AZURE_US_GOVERNMENT] = CHECK_WARNING } },
        { DIGICERT, "DigiCert Global Root CA",
          .without = { [AZURE_CHINA] = CHECK_FAILURE, [AZURE_US_GOVERNMENT] = CHECK_FAILURE },
          .file = "https://cacerts.digicert.com/DigiCertGlobalRootCA.crt.pem",
          .fingerprint = "43:48:A0:E9:44:4C:78:CB:26:5E:05:8D:5E:89:44:B4:D8:4F:96:62:BD:26:DB:25:7F:89:34:"
                         "A4:43:C7:01:61" },
        { MICROSOFT, "Microsoft RSA Root Certificate Authority 2017",
          .without = { [AZURE_GLOBAL] = CHECK_WARNING, [AZURE_US_GOVERNMENT] = CHECK_WARNING } },
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

static void tell_missing(Checks *c, const Root *root, CheckResult without, bool is_system) {
        const char *why = without == CHECK_FAILURE ? "needs it" : "may switch to it";

        if (!root->file)
                checks_add(c, "trust", without, "%s is not trusted, but Azure %s: %s", root->name, why,
                           is_system ? "install ca-certificates and run update-ca-certificates"
                                     : "add it to CaFile=, or remove CaFile=");
        else
                checks_add(c, "trust", without,
                           "%s is not trusted, but Azure %s: %s; ca-certificates has been without it since "
                           "2026: get %s, and compare the fingerprint (openssl x509 -noout -sha256 "
                           "-fingerprint -in FILE): %s",
                           root->name, why,
                           is_system ? "put it into /usr/local/share/ca-certificates as a file .crt, and run "
                                       "update-ca-certificates"
                                     : "add it to CaFile=",
                           root->file, root->fingerprint);
}

/* A root that an update may take away. */
static void tell_trusted(Checks *c, const Root *root, bool is_system) {
        checks_add(c, "trust", CHECK_OK, "%s is trusted%s", root->name,
                   root->file && is_system
                           ? "; ca-certificates has been without it since 2026, so keep a copy in "
                             "/usr/local/share/ca-certificates before that is updated"
                           : "");
}

void check_trust(Checks *c, CheckSubject *s) {
        const Settings *settings = s->settings;
        AzureCloud cloud = azure_cloud_of(settings->endpoint);
        _cleanup_(trust_unrefp) Trust *trust = NULL;
        DpsError error;

        if (trust_read(settings->ca_files, &trust, &error) < 0) {
                checks_add(c, "trust", CHECK_FAILURE, "%s", error.message);
                return;
        }
        if (cloud == _AZURE_CLOUD_MAX) {
                checks_add(c, "trust", CHECK_SKIPPED,
                           "%s does not belong to Azure, so it is not known which CA it needs",
                           settings->endpoint);
                return;
        }

        for (size_t k = 0; k < ELEMENTSOF(roots); k++) {
                CheckResult without = roots[k].without[cloud];

                if (without == CHECK_OK)
                        continue;
                if (store_has(trust_store(trust), &roots[k]))
                        tell_trusted(c, &roots[k], !settings->ca_files);
                else
                        tell_missing(c, &roots[k], without, !settings->ca_files);
        }
}
