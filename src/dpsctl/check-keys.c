/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "config/key-text.h"
#include "config/secret.h"
#include "dps/key.h"
#include "dpsctl/check.h"

/* The key and certificate files of an identity, read with the same rules as in the daemon. */

#define CERTIFICATE_SIZE_MAX (256U * 1024)
#define EXPIRY_WARNING_USEC (30 * USEC_PER_DAY)

DEFINE_FREEP(BIO, BIO_free)
DEFINE_FREEP(X509, X509_free)
DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)

/* A systemd credential exists only for the unit: we cannot see it, and that is not an error. */
static CheckResult severity(int r) {
        return r == -EAGAIN ? CHECK_WARNING : CHECK_FAILURE;
}

static void check_symmetric_key(Checks *c, const Settings *s, const char *reference, const char *what) {
        _cleanup_(erase_and_freep) char *text = NULL;
        _cleanup_(freep) char *reason = NULL;
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        const char *why = NULL;
        size_t size;
        int r;

        r = secret_read(reference, &text, &size, &reason);
        if (r < 0) {
                checks_add(c, s->name, "key", severity(r), "%s=%s", what, reason ?: strerror(-r));
                return;
        }
        r = key_from_text(text, size, &key, &why);
        if (r < 0)
                checks_add(c, s->name, "key", CHECK_FAILURE, "%s=%s: %s", what, reference,
                           why ?: strerror(-r));
        else
                checks_add(c, s->name, "key", CHECK_OK, "%s=%s can be read by the daemon and by nobody else",
                           what, reference);
}

static void check_expiry(Checks *c, const Settings *s, const char *path, const X509 *certificate) {
        uint64_t now = now_usec(CLOCK_REALTIME), expires_at;
        char timestamp[TIMESTAMP_TEXT_MAX], duration[DURATION_TEXT_MAX];
        struct tm tm;

        if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1) {
                checks_add(c, s->name, "certificate", CHECK_FAILURE, "%s does not say when it expires", path);
                return;
        }
        expires_at = (uint64_t) MAX(timegm(&tm), (time_t) 0) * USEC_PER_SEC;
        (void) format_timestamp(expires_at, timestamp);
        if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
                checks_add(c, s->name, "certificate", CHECK_FAILURE,
                           "%s is not valid yet: is the clock right?", path);
        else if (expires_at <= now)
                checks_add(c, s->name, "certificate", CHECK_FAILURE, "%s expired at %s: replace it", path,
                           timestamp);
        else
                checks_add(c, s->name, "certificate",
                           expires_at - now < EXPIRY_WARNING_USEC ? CHECK_WARNING : CHECK_OK,
                           "%s expires in %s, at %s", path, format_duration(expires_at - now, duration),
                           timestamp);
}

/* Keys with a pass phrase are refused: nobody is there to type it. */
static int no_pass_phrase(char *buffer, int size, int is_writing, void *userdata) {
        return 0;
}

static X509 *read_certificate(Checks *c, const Settings *s, const char *reference) {
        _cleanup_(freep) char *path = NULL, *reason = NULL, *text = NULL;
        _cleanup_(BIO_freep) BIO *bio = NULL;
        X509 *certificate;
        size_t size;
        int r;

        r = secret_path(reference, &path, &reason);
        if (r >= 0)
                r = file_read(path, CERTIFICATE_SIZE_MAX, &text, &size);
        if (r < 0) {
                checks_add(c, s->name, "certificate", severity(r), "Certificate=%s: %s", reference,
                           reason ?: strerror(-r));
                return NULL;
        }
        bio = BIO_new_mem_buf(text, (int) size);
        certificate = bio ? PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL) : NULL;
        if (!certificate)
                checks_add(c, s->name, "certificate", CHECK_FAILURE,
                           "%s does not contain a certificate in PEM format", path);
        else
                check_expiry(c, s, path, certificate);
        return certificate;
}

static void check_private_key(Checks *c, const Settings *s, const char *reference, X509 *certificate) {
        _cleanup_(erase_and_freep) char *text = NULL;
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
        _cleanup_(BIO_freep) BIO *bio = NULL;
        _cleanup_(freep) char *reason = NULL;
        size_t size;
        int r;

        r = secret_read(reference, &text, &size, &reason);
        if (r < 0) {
                checks_add(c, s->name, "key", severity(r), "PrivateKey=%s", reason ?: strerror(-r));
                return;
        }
        bio = BIO_new_mem_buf(text, (int) size);
        key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL) : NULL;
        if (!key)
                checks_add(c, s->name, "key", CHECK_FAILURE,
                           "PrivateKey=%s does not contain a key in PEM format, or the key has a pass "
                           "phrase, which nobody is there to type",
                           reference);
        else if (certificate && X509_check_private_key(certificate, key) != 1)
                checks_add(c, s->name, "key", CHECK_FAILURE,
                           "PrivateKey=%s does not belong to its certificate: do both come from the same "
                           "request?",
                           reference);
        else
                checks_add(c, s->name, "key", CHECK_OK, "PrivateKey=%s can be read%s", reference,
                           certificate ? " and belongs to its certificate" : "");
}

static void check_certificates(Checks *c, const Settings *s) {
        size_t n_keys = strv_length(s->private_keys);

        for (size_t k = 0; k < strv_length(s->certificates); k++) {
                _cleanup_(X509_freep) X509 *certificate = read_certificate(c, s, s->certificates[k]);

                if (k < n_keys)
                        check_private_key(c, s, s->private_keys[k], certificate);
        }
}

void check_keys(Checks *c, const Settings *s) {
        STRV_FOREACH(reference, s->keys)
                check_symmetric_key(c, s, *reference, "Key");
        STRV_FOREACH(reference, s->group_keys)
                check_symmetric_key(c, s, *reference, "GroupKey");
        check_certificates(c, s);
}
