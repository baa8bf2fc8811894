/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-enrollment.h"

#include <errno.h>
#include <openssl/pem.h>

#include "basic/json.h"
#include "basic/text.h"
#include "credential/credential-error.h"

typedef struct EnrollmentRequest {
        Identity *identity;
        CredentialQuery *query;
        Settings *settings;
        identity_text_handler_t handler;
        void *userdata;
} EnrollmentRequest;

static void request_free(EnrollmentRequest *q) {
        credential_query_free(q->query);
        settings_unref(q->settings);
        free(q);
}

static void end(EnrollmentRequest *q, int r, char *text, const DpsError *error) {
        identity_forget_waiter(q->identity, q);
        q->handler(r, text, 0, error, q->userdata);
        request_free(q);
}

/* ---- the text ---- */

static int add_thumbprint(json_object *o, const char *name, const X509 *certificate, const EVP_MD *hash) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        char hex[2 * EVP_MAX_MD_SIZE + 1];
        unsigned n;

        if (!X509_digest(certificate, hash, digest, &n))
                return -ENOMEM;
        bytes_to_hex(digest, n, hex);
        for (char *p = hex; *p; p++)
                if (*p >= 'a')
                        *p = (char) (*p - 'a' + 'A'); /* as the portal shows them */
        return json_add_string(o, name, hex);
}

static int add_certificate(json_object *list, const X509 *certificate) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        _cleanup_(freep) char *shown = NULL;
        char subject[256] = "";
        int r;

        (void) X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof(subject));
        shown = text_for_people(subject, strlen(subject), sizeof(subject));
        if (!o || !shown)
                return -ENOMEM;
        if ((r = json_add_string(o, "subject", shown)) < 0 ||
            (r = add_thumbprint(o, "sha1", certificate, EVP_sha1())) < 0 ||
            (r = add_thumbprint(o, "sha256", certificate, EVP_sha256())) < 0)
                return r;
        return json_object_array_add(list, TAKE_PTR(o)) < 0 ? -ENOMEM : 0;
}

/* The device's own first, as the chain is. */
static int add_certificates(json_object *o, const Settings *s, const Credential *c) {
        const ClientCertificate *certificate = credential_certificate(c);
        json_object *list;
        int r;

        if (!certificate)
                return 0;
        list = json_object_new_array();
        r = json_add(o, "certificates", list);
        for (int k = 0; r >= 0 && k < sk_X509_num(certificate->chain); k++)
                r = add_certificate(list, sk_X509_value(certificate->chain, k));
        if (r < 0)
                return r;
        return json_add_string(o, "certificateFile", s->certificates[credential_index(c)]);
}

/* With %{tpm} in it, the id may not be known before. */
static int add_registration_id(json_object *o, const Settings *s, const TpmKeys *tpm) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *ignored = NULL;
        int r;

        r = settings_expand(s, &(SpecifierContext){ .tpm = tpm ? tpm->registration_id : NULL }, &expanded,
                            &ignored);
        if (r == -ENOMEM)
                return r;
        return json_add_string(o, "registrationId", r < 0 ? s->registration_id : expanded->registration_id);
}

static int to_text(const Settings *s, const Credential *c, char **ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        const TpmKeys *tpm = credential_tpm_keys(c);
        bool is_group = credential_method(c) == METHOD_SYMMETRIC_KEY && strv_length(s->keys) == 0;
        int r;

        if ((r = add_registration_id(o, s, tpm)) < 0 ||
            (r = json_add_string(o, "idScope", s->id_scope)) < 0 ||
            (r = json_add_string(o, "method", method_to_string(credential_method(c)))) < 0 ||
            (r = json_add_string(o, "endorsementKey", tpm ? tpm->endorsement_key : NULL)) < 0 ||
            (r = json_add_string(o, "storageRootKey", tpm ? tpm->storage_root_key : NULL)) < 0 ||
            (r = json_add_string(o, "keyOf", is_group ? "group" : NULL)) < 0 ||
            (s->issuance_requested &&
             (r = json_add_string(o, "issuanceKey", s->issuance_key ?: "file")) < 0) ||
            (r = add_certificates(o, s, c)) < 0)
                return r;
        return json_to_text(o, ret);
}

/* ---- the request ---- */

static void on_credential(Credential *credential, const DpsError *error, void *userdata) {
        _cleanup_(credential_unrefp) Credential *c = credential;
        EnrollmentRequest *q = userdata;
        DpsError no_memory;
        char *text = NULL;
        int r;

        q->query = NULL;
        if (!c)
                return end(q, -ENOKEY, NULL, error);
        r = to_text(q->settings, c, &text);
        if (r < 0)
                error_set_memory(&no_memory, DPS_STEP_CONFIG);
        end(q, r < 0 ? -ENOKEY : 0, text, &no_memory);
}

static void on_end(Identity *i, Credential *credential, const DpsError *error, void *userdata) {
        EnrollmentRequest *q = userdata;

        q->handler(-EINVAL, NULL, 0, error, q->userdata);
        request_free(q);
}

int identity_enrollment(Identity *i, identity_text_handler_t handler, void *userdata) {
        const Configuration *c = &i->configuration;
        Settings *s = c->settings ?: c->written;
        EnrollmentRequest *q;
        int r;

        if (!s)
                return -EINVAL;
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = (EnrollmentRequest){
                .identity = i, .settings = settings_ref(s), .handler = handler, .userdata = userdata
        };
        r = identity_wait_for_end(i, on_end, q);
        if (r >= 0)
                r = credential_load(i->core->world,
                                    &(CredentialWish){ .settings = s,
                                                       .registration_id = s->registration_id,
                                                       .kept = i->method },
                                    on_credential, q, &q->query);
        if (r < 0) {
                identity_forget_waiter(i, q);
                request_free(q);
        }
        return r;
}
