/* SPDX-License-Identifier: MIT */
#include "dpsctl/verify-keys.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/key-text.h"
#include "config/leaf.h"
#include "config/pem.h"
#include "config/secret.h"

#define FILE_SIZE_MAX (256U * 1024)
#define CA_FILE_SIZE_MAX (4U * 1024 * 1024)

typedef struct Verification {
        const Settings *settings;
        const SpecifierContext *context;
        ConfReport *report;
} Verification;

/* A file that a setting names. A file of certificates may hold a key too, so its text is treated as a secret. */
typedef struct Named {
        const char *key;
        const Place *place;
        char *reference; /* specifiers are expanded */
        char *text;
        size_t size;
} Named;

static void named_done(Named *n) {
        free(n->reference);
        if (n->text)
                explicit_bzero(n->text, n->size);
        free(n->text);
}

static void report_file(const Verification *v, const Named *n, const char *why) {
        conf_report_add(v->report, CONF_ERROR, n->place->file, n->place->line, "%s=: %s: %s", n->key,
                        n->reference, why);
}

/* Only root can tell what the daemon would find, and only where the file is installed. */
static void check_access(const Verification *v, const Named *n, const char *path) {
        _cleanup_(erase_and_freep) char *text = NULL;
        _cleanup_(freep) char *reason = NULL;
        size_t size;

        if (!v->context->root && geteuid() == 0 && secret_read(path, &text, &size, &reason) == -EPERM)
                conf_report_add(v->report, CONF_ERROR, n->place->file, n->place->line, "%s=: %s", n->key,
                                reason ?: strerror(EPERM));
}

/* 0: there is no such file here. */
static int read_named(const Verification *v, const char *reference, bool is_secret, Named *n) {
        const char *root = *reference == '/' && v->context->root ? v->context->root : "";
        _cleanup_(freep) char *path = NULL, *below = NULL, *reason = NULL;
        int r;

        r = specifier_expand(reference, v->context, &n->reference, &reason);
        if (r >= 0)
                r = secret_path(n->reference, &path, &reason);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        below = text_format("%s%s", root, path);
        if (!below)
                return -ENOMEM;
        r = file_read(below, FILE_SIZE_MAX, &n->text, &n->size);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        if (is_secret)
                check_access(v, n, below);
        return 1;
}

static int verify_key(const Verification *v, const char *setting, const char *reference) {
        _cleanup_(named_done) Named n = { .key = setting, .place = &v->settings->keys_place };
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        const char *why = NULL;
        int r;

        r = read_named(v, reference, true, &n);
        if (r <= 0)
                return r;
        r = key_from_text(n.text, n.size, &key, &why);
        if (r < 0 && why)
                report_file(v, &n, why);
        return r == -ENOMEM ? r : 0;
}

static void warn_of_leaf(const Verification *v, const Named *n, STACK_OF(X509) * chain) {
        X509 *leaf = sk_X509_value(chain, 0), *above = sk_X509_value(chain, 1);
        char of_key[LEAF_TEXT_MAX], of_issuer[LEAF_TEXT_MAX];
        const char *const warnings[] = { leaf_key_warning(leaf, of_key),
                                         leaf_issuer_warning(leaf, above, of_issuer) };

        for (unsigned k = 0; k < ELEMENTSOF(warnings); k++)
                if (warnings[k])
                        conf_report_add(v->report, CONF_WARNING, n->place->file, n->place->line, "%s: %s",
                                        n->reference, warnings[k]);
}

/* Which device an image is for is not known where it is built. */
static int verify_common_name(const Verification *v, const Named *n) {
        SpecifierContext context = *v->context;
        _cleanup_(freep) char *name = NULL, *reason = NULL, *why = NULL;
        const char *id = v->settings->registration_id;
        int r;

        if (context.root || !id)
                return 0;
        context.certificate = n->reference;
        r = specifier_expand("%{cert-cn}", &context, &name, &reason);
        if (r == -ENOMEM || (r >= 0 && strcasecmp(name, id) == 0))
                return r;
        why = text_format("its common name%s%s%s must be the registration ID, \"%s\"", name ? " is \"" : "",
                          name ?: "", name ? "\", but" : "", id);
        if (!why)
                return -ENOMEM;
        report_file(v, n, why);
        return 0;
}

static void warn_of_dates(const Verification *v, const Named *n, const X509 *leaf) {
        const char *what = X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0    ? "has expired"
                           : X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0 ? "is not valid yet"
                                                                                  : NULL;

        if (what)
                conf_report_add(v->report, CONF_WARNING, n->place->file, n->place->line,
                                "%s: the certificate %s, by the clock of this machine", n->reference, what);
}

/* `chain` NULL: it is not known here. */
static int verify_private_key(const Verification *v, const char *reference, STACK_OF(X509) * chain) {
        _cleanup_(named_done) Named n = { .key = "PrivateKey", .place = &v->settings->certificates_place };
        EVP_PKEY *key = NULL;
        const char *why;
        int r;

        if (private_key_is_uri(reference))
                return 0;
        r = read_named(v, reference, true, &n);
        if (r <= 0 || strstr(n.text, PEM_TSS2_BEGIN))
                return r;
        r = pem_read_key(n.text, n.size, &key, &why);
        if (r >= 0)
                why = chain ? pem_pair_fault(sk_X509_value(chain, 0), key) : NULL;
        if (why)
                report_file(v, &n, why);
        EVP_PKEY_free(key);
        return r == -ENOMEM ? r : 0;
}

static int verify_certificate(const Verification *v, const char *reference, const char *private_key) {
        _cleanup_(named_done) Named n = { .key = "Certificate", .place = &v->settings->certificates_place };
        _cleanup_(certificates_freep) STACK_OF(X509) *chain = NULL;
        const char *why;
        int r;

        r = read_named(v, reference, false, &n);
        if (r > 0)
                r = pem_read_certificates(n.text, n.size, PEM_CHAIN_MAX, &chain, &why);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                report_file(v, &n, why);
        if (chain) {
                warn_of_leaf(v, &n, chain);
                warn_of_dates(v, &n, sk_X509_value(chain, 0));
                r = verify_common_name(v, &n);
                if (r < 0)
                        return r;
        }
        return private_key ? verify_private_key(v, private_key, chain) : 0;
}

static int verify_method(const Verification *v, Method method) {
        const Settings *s = v->settings;
        size_t n_keys = strv_length(s->private_keys);
        int r = 0;

        if (method == METHOD_SYMMETRIC_KEY) {
                for (char *const *key = s->keys; key && *key && r >= 0; key++)
                        r = verify_key(v, "Key", *key);
                for (char *const *key = s->group_keys; key && *key && r >= 0; key++)
                        r = verify_key(v, "GroupKey", *key);
        }
        for (size_t k = 0; method == METHOD_X509 && k < strv_length(s->certificates) && r >= 0; k++)
                r = verify_certificate(v, s->certificates[k], k < n_keys ? s->private_keys[k] : NULL);
        return r;
}

/* A file that is no secret, which an image or a draft should have with it. `ret` is its path here; NULL: it is not known. */
static int find_plain(const Verification *v, const char *path, char **ret) {
        _cleanup_(freep) char *expanded = NULL, *reason = NULL;
        int r;

        *ret = NULL;
        r = specifier_expand(path, v->context, &expanded, &reason);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        *ret = text_format("%s%s", v->context->root ?: "", expanded);
        return *ret ? 0 : -ENOMEM;
}

static int verify_payload(const Verification *v) {
        _cleanup_(freep) char *path = NULL, *text = NULL, *reason = NULL;
        int r;

        r = find_plain(v, v->settings->payload_file, &path);
        if (r < 0 || !path)
                return r;
        r = payload_read(path, &text, &reason);
        if (r < 0 && r != -ENOMEM)
                conf_report_add(v->report, CONF_ERROR, v->settings->name, 0, "PayloadFile=%s %s", path,
                                reason ?: strerror(-r));
        return r == -ENOMEM ? r : 0;
}

static int verify_ca_file(const Verification *v, const char *file) {
        _cleanup_(freep) char *path = NULL, *text = NULL;
        int r;

        r = find_plain(v, file, &path);
        if (r < 0 || !path)
                return r;
        r = file_read(path, CA_FILE_SIZE_MAX, &text, NULL);
        if (r < 0 && r != -ENOMEM)
                conf_report_add(v->report, CONF_ERROR, v->settings->name, 0, "CaFile=%s cannot be read: %s",
                                path, r == -EFBIG ? "it is larger than 4 MB" : file_error(r));
        return r == -ENOMEM ? r : 0;
}

int verify_keys(const Settings *s, const SpecifierContext *context, ConfReport *report) {
        const Verification v = { .settings = s, .context = context, .report = report };
        int r = s->payload_file ? verify_payload(&v) : 0;

        for (char *const *file = s->ca_files; r >= 0 && file && *file; file++)
                r = verify_ca_file(&v, *file);
        for (unsigned k = 0; r >= 0 && k < s->n_methods; k++)
                r = verify_method(&v, s->methods[k]);
        return r;
}
