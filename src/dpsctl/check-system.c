/* SPDX-License-Identifier: MIT */
#include <openssl/ssl.h>
#include <sys/timex.h>

#include "basic/text.h"
#include "basic/times.h"
#include "build-config.h"
#include "dpsctl/check.h"

/* This device: its clock, and the CAs that it trusts. */

#define AZURE_DOMAIN ".azure-devices-provisioning.net"
#define BUILD_TIME_USEC (DPS_BUILD_TIME_SEC * USEC_PER_SEC)

DEFINE_FREEP(X509_NAME, X509_NAME_free)
DEFINE_FREEP(X509_OBJECT, X509_OBJECT_free)
DEFINE_FREEP(X509_STORE_CTX, X509_STORE_CTX_free)

void check_clock(Checks *c) {
        uint64_t now = now_usec(CLOCK_REALTIME);
        char timestamp[TIMESTAMP_TEXT_MAX], duration[DURATION_TEXT_MAX];
        struct timex kernel = { 0 };
        bool is_synchronized = adjtimex(&kernel) >= 0 && !(kernel.status & STA_UNSYNC);

        if (now < BUILD_TIME_USEC)
                checks_add(c, "", "clock", CHECK_FAILURE,
                           "%s: at least %s behind, so DPS will refuse this device; is time synchronisation "
                           "on? timedatectl",
                           format_timestamp(now, timestamp),
                           format_duration(BUILD_TIME_USEC - now, duration));
        else if (!is_synchronized)
                checks_add(c, "", "clock", CHECK_WARNING,
                           "%s: not synchronised; if it is wrong, DPS will refuse this device: timedatectl",
                           format_timestamp(now, timestamp));
        else
                checks_add(c, "", "clock", CHECK_OK, "%s, synchronised", format_timestamp(now, timestamp));
}

/* "C=US/O=…", in the order in which the certificate has them. */
static X509_NAME *make_name(const char *const (*parts)[2], size_t n) {
        _cleanup_(X509_NAME_freep) X509_NAME *name = X509_NAME_new();

        for (size_t k = 0; name && k < n && parts[k][0]; k++)
                if (X509_NAME_add_entry_by_txt(name, parts[k][0], MBSTRING_ASC,
                                               (const unsigned char *) parts[k][1], -1, -1, 0) != 1)
                        return NULL;
        return TAKE_PTR(name);
}

static bool store_has(X509_STORE *store, const char *const (*parts)[2], size_t n) {
        _cleanup_(X509_STORE_CTX_freep) X509_STORE_CTX *context = X509_STORE_CTX_new();
        _cleanup_(X509_NAME_freep) X509_NAME *name = make_name(parts, n);
        _cleanup_(X509_OBJECT_freep) X509_OBJECT *found = NULL;

        if (!context || !name || X509_STORE_CTX_init(context, store, NULL, NULL) != 1)
                return false;
        found = X509_STORE_CTX_get_obj_by_subject(context, X509_LU_X509, name);
        return found;
}

#define PARTS_MAX 4

void check_roots(Checks *c, const Settings *s, TlsContext *tls) {
        static const struct {
                const char *name;
                CheckResult without;
                const char *parts[PARTS_MAX][2];
        } roots[] = {
                { "DigiCert Global Root G2",
                  CHECK_FAILURE,
                  { { "C", "US" },
                    { "O", "DigiCert Inc" },
                    { "OU", "www.digicert.com" },
                    { "CN", "DigiCert Global Root G2" } } },
                { "Microsoft RSA Root Certificate Authority 2017",
                  CHECK_WARNING,
                  { { "C", "US" },
                    { "O", "Microsoft Corporation" },
                    { "CN", "Microsoft RSA Root Certificate Authority 2017" } } },
        };
        X509_STORE *store = SSL_CTX_get_cert_store(tls_context_ssl(tls));

        if (!endswith(s->endpoint, AZURE_DOMAIN)) {
                checks_add(c, s->name, "trust", CHECK_SKIPPED,
                           "%s does not belong to Azure, so it is not known which CA it needs", s->endpoint);
                return;
        }

        for (size_t k = 0; k < ELEMENTSOF(roots); k++)
                if (store_has(store, roots[k].parts, PARTS_MAX))
                        checks_add(c, s->name, "trust", CHECK_OK, "%s is trusted", roots[k].name);
                else
                        checks_add(c, s->name, "trust", roots[k].without,
                                   "%s is not trusted, but Azure %s: %s", roots[k].name,
                                   roots[k].without == CHECK_FAILURE ? "needs it" : "may switch to it",
                                   s->ca_files ? "add it to CaFile=, or remove CaFile="
                                               : "install ca-certificates and run update-ca-certificates");
}
