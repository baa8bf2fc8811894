/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "basic/files.h"
#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "check/check.h"
#include "config/leaf.h"
#include "config/pem.h"
#include "config/secret.h"
#include "credential/hardware-key.h"

/* Keys and certificates. Certificates are read here, so that each gets its own row; a key is loaded as for a registration,
 * and must sign. */

#define CERTIFICATE_SIZE_MAX (256U * 1024)
#define EXPIRY_WARNING_USEC (30 * USEC_PER_DAY)

/* A systemd credential exists only for the unit: nobody else can see it, and that is not an error. */
static CheckResult severity(int r) {
        return r == -EAGAIN ? CHECK_WARNING : CHECK_FAILURE;
}

static void check_expiry(Checks *c, const char *path, const X509 *certificate) {
        uint64_t now = now_usec(CLOCK_REALTIME), expires_at;
        char timestamp[TIMESTAMP_TEXT_MAX], duration[DURATION_TEXT_MAX];
        struct tm tm;

        if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1) {
                checks_add(c, "certificate", CHECK_FAILURE, "%s does not say when it expires", path);
                return;
        }
        expires_at = (uint64_t) MAX(timegm(&tm), (time_t) 0) * USEC_PER_SEC;
        (void) format_timestamp(expires_at, timestamp);
        if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
                checks_add(c, "certificate", CHECK_FAILURE, "%s is not valid yet: is the clock right?", path);
        else if (expires_at <= now)
                checks_add(c, "certificate", CHECK_FAILURE, "%s expired at %s: replace it", path, timestamp);
        else
                checks_add(c, "certificate",
                           expires_at - now < EXPIRY_WARNING_USEC ? CHECK_WARNING : CHECK_OK,
                           "%s expires in %s, at %s", path, format_duration(expires_at - now, duration),
                           timestamp);
}

/* Each certificate must be issued by the one after it: DPS is sent the file's order. */
static void check_order(Checks *c, const char *path, STACK_OF(X509) * chain) {
        X509 *leaf = sk_X509_value(chain, 0);
        int n = sk_X509_num(chain);
        char text[LEAF_TEXT_MAX];
        const char *warning;

        for (int k = 1; k < n; k++)
                if (X509_check_issued(sk_X509_value(chain, k), sk_X509_value(chain, k - 1)) != X509_V_OK) {
                        checks_add(c, "chain", CHECK_FAILURE,
                                   "%s: certificate %d was not issued by certificate %d: put the device's "
                                   "first, and after each the one of its CA",
                                   path, k, k + 1);
                        return;
                }
        if (n > 1)
                checks_add(c, "chain", CHECK_OK, "%s: %d certificates, each issued by the next", path, n);
        else if ((warning = leaf_issuer_warning(leaf, NULL, text)))
                checks_add(c, "chain", CHECK_WARNING, "%s: %s", path, warning);
        else
                checks_add(c, "chain", CHECK_OK, "%s is self-signed: for an individual enrollment", path);
}

/* What cannot be read is reported when the key is loaded, in the daemon's words. */
static void check_certificate(Checks *c, const char *reference) {
        _cleanup_(certificates_freep) STACK_OF(X509) *chain = NULL;
        _cleanup_(erase_and_freep) char *text = NULL; /* its key may be in the same file */
        _cleanup_(freep) char *path = NULL, *reason = NULL;
        const char *warning, *why;
        char words[LEAF_TEXT_MAX];
        size_t size;

        if (secret_path(reference, &path, &reason) < 0 ||
            file_read(path, CERTIFICATE_SIZE_MAX, &text, &size) < 0 ||
            pem_read_certificates(text, size, PEM_CHAIN_MAX, &chain, &why) < 0)
                return;
        check_expiry(c, path, sk_X509_value(chain, 0));
        warning = leaf_key_warning(sk_X509_value(chain, 0), words);
        if (warning)
                checks_add(c, "certificate", CHECK_WARNING, "%s: %s", path, warning);
        check_order(c, path, chain);
}

/* "Key=credential:gateway.key", as it is written. What is not a reference (a pasted key) has failed before. */
static void name_key(const Settings *s, Method method, unsigned index, char *ret, size_t size) {
        if (method == METHOD_X509)
                (void) snprintf(ret, size, "PrivateKey=%s", s->private_keys[index]);
        else if (method == METHOD_TPM)
                (void) snprintf(ret, size, "the TPM");
        else if (s->keys)
                (void) snprintf(ret, size, "Key=%s", s->keys[index]);
        else
                (void) snprintf(ret, size, "GroupKey=%s", s->group_keys[index]);
}

static const char *provider_of(const Settings *s, Method method, unsigned index) {
        if (method == METHOD_TPM)
                return "answers";
        if (method == METHOD_X509 && private_key_is_uri(s->private_keys[index]))
                return "signs, in hardware";
        return "signs";
}

static void check_key(Checks *c, CheckSubject *s, Method method, unsigned index) {
        const char *registration_id = s->settings->registration_id;
        Credential *credential;
        DpsError error = { 0 };
        char name[512], advice[CHECK_ADVICE_MAX];
        int r;

        r = credential_prove(s->settings, registration_id, method, index, &credential, &error);
        if (r < 0) {
                bool is_certificate =
                        strstr(error.message, "Certificate=: ") && !strstr(error.message, "Key=: ");

                checks_add(c, is_certificate ? "certificate" : "key", severity(r), "%s; %s", error.message,
                           check_advice(&error, advice));
                return;
        }
        name_key(s->settings, method, index, name, sizeof(name));
        checks_add(c, "key", CHECK_OK, "%s %s%s", name, provider_of(s->settings, method, index),
                   method == METHOD_X509 ? ", and belongs to its certificate" : "");
        if (s->n_credentials < CHECK_CREDENTIALS_MAX)
                s->credentials[s->n_credentials++] = credential;
        else
                credential_unref(credential);
}

/* Where the keys of issued certificates are made. */
static void check_issuance(Checks *c, Settings *s) {
        _cleanup_(freep) char *why = NULL;
        char advice[CHECK_ADVICE_MAX];
        const void *class;
        DpsError error;
        int r;

        if (!s->issuance_requested || !settings_issue_in_hardware(s))
                return;
        r = module_load(module_directory(), "hardware-key", "hardware-key", &class, &why);
        if (r < 0) {
                checks_add(c, "issuance", CHECK_FAILURE, "[Issuance] Key=: %s", why ?: strerror(-r));
                return;
        }
        r = ((const HardwareKeyModule *) class)->look(s, &error);
        if (r < 0)
                checks_add(c, "issuance", severity(r), "%s; %s", error.message, check_advice(&error, advice));
        else
                checks_add(c, "issuance", CHECK_OK, "[Issuance] Key=%s: %s", s->issuance_key,
                           streq(s->issuance_key, "tpm") ? "the TPM answers"
                                                         : "the token takes the PIN, and new keys");
}

void check_keys(Checks *c, CheckSubject *s) {
        const Settings *settings = s->settings;

        for (unsigned m = 0; m < settings->n_methods; m++) {
                Method method = settings->methods[m];
                unsigned n = MAX(credential_count(settings, method), 1U);

                for (unsigned k = 0; k < n; k++) {
                        if (method == METHOD_X509 && k < strv_length(settings->certificates))
                                check_certificate(c, settings->certificates[k]);
                        check_key(c, s, method, k);
                }
        }
        check_issuance(c, s->settings);
        ERR_clear_error();
}
