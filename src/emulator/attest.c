/* SPDX-License-Identifier: MIT */
#include "emulator/attest.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/reply.h"
#include "dps/request.h"
#include "dps/sas.h"
#include "emulator/idtable.h"

static inline void X509_STORE_freep(X509_STORE **s) {
        X509_STORE_free(*s);
}
static inline void X509_STORE_CTX_freep(X509_STORE_CTX **c) {
        X509_STORE_CTX_free(*c);
}

static bool has_common_name(X509 *certificate, const char *id) {
        X509_NAME *name = X509_get_subject_name(certificate);
        int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
        unsigned char *text = NULL;
        bool equal;
        int n;

        if (at < 0)
                return false;

        n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
        if (n < 0)
                return false;
        equal = (size_t) n == strlen(id) && strncasecmp((const char *) text, id, (size_t) n) == 0;
        OPENSSL_free(text);
        return equal;
}

/* The length of the chain from the device's certificate up to `anchor`, which need not be a root. 0: no
 * chain. */
static int chain_length(const Credentials *credentials, X509 *anchor, uint64_t now_usec) {
        _cleanup_(X509_STORE_CTX_freep) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        _cleanup_(X509_STORE_freep) X509_STORE *store = X509_STORE_new();
        int length = 0;

        if (!ctx || !store || X509_STORE_add_cert(store, anchor) != 1 ||
            X509_STORE_CTX_init(ctx, store, credentials->certificate, credentials->chain) != 1)
                return 0;

        X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_PARTIAL_CHAIN);
        X509_STORE_CTX_set_time(ctx, 0, (time_t) (now_usec / USEC_PER_SEC));
        if (X509_verify_cert(ctx) == 1)
                length = sk_X509_num(X509_STORE_CTX_get0_chain(ctx));
        ERR_clear_error();
        return length;
}

/* The group whose certificate has the shortest chain to the device's is chosen, even if it is disabled. */
static const Enrollment *nearest_group(const Roster *roster, const Credentials *credentials,
                                       uint64_t now_usec) {
        const Enrollment *nearest = NULL;
        int shortest = 0;

        for (const Enrollment *e = roster_next_group(roster, NULL); e; e = roster_next_group(roster, e)) {
                if (e->attestation != ATTESTATION_X509)
                        continue;
                for (size_t i = 0; i < e->n_credentials; i++) {
                        int length = chain_length(credentials, e->certificates[i], now_usec);

                        if (length > 0 && (!nearest || length < shortest)) {
                                nearest = e;
                                shortest = length;
                        }
                }
        }
        return nearest;
}

static bool is_enrolled_certificate(const Enrollment *e, X509 *certificate) {
        for (size_t i = 0; i < e->n_credentials; i++)
                if (X509_cmp(e->certificates[i], certificate) == 0)
                        return true;
        return false;
}

/* `individual`: the individual enrollment of `id`, which takes precedence over groups, or NULL. Returns NULL
 * if no enrollment accepts the certificate, and sets `ret_why`. */
static const Enrollment *find_by_certificate(const Roster *roster, const Enrollment *individual,
                                             const char *id, const Credentials *credentials,
                                             uint64_t now_usec, const char **ret_why) {
        const Enrollment *group;

        if (!has_common_name(credentials->certificate, id)) {
                *ret_why = "the certificate's common name is not the id";
                return NULL;
        }
        if (individual && individual->attestation != ATTESTATION_X509) {
                *ret_why = "the enrollment does not use certificates";
                return NULL;
        }
        if (individual) {
                *ret_why = "the certificate is not the one in the enrollment";
                return is_enrolled_certificate(individual, credentials->certificate) ? individual : NULL;
        }

        group = nearest_group(roster, credentials, now_usec);
        *ret_why =
                "no enrollment group signed the certificate, or an intermediate certificate is missing, or a "
                "certificate is expired";
        return group;
}

static int is_signed(const DpsSas *sas, const Enrollment *e, const char *registration_id) {
        for (size_t i = 0; i < e->n_credentials; i++) {
                _cleanup_(dps_key_done) DpsKey derived = { 0 };
                int r = 0;

                if (e->is_group)
                        r = dps_key_derive(&e->keys[i], registration_id, &derived);
                if (r < 0)
                        return r;
                r = dps_sas_is_signed_by(sas, e->is_group ? &derived : &e->keys[i]);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Sets the enrollment whose key signed the token, or NULL. If the device has an individual enrollment, no
 * other is tried. `ret_any`: whether the device has one, or there are groups with keys. */
static int find_by_signature(const Roster *roster, const Enrollment *individual, const DpsSas *sas,
                             const char *id, const Enrollment **ret, bool *ret_any) {
        const Enrollment *e = individual ?: roster_next_group(roster, NULL);
        const Enrollment *found = NULL;
        bool any = false;

        for (; e && !found; e = individual ? NULL : roster_next_group(roster, e)) {
                int r;

                if (e->attestation != ATTESTATION_SYMMETRIC_KEY)
                        continue;
                any = true;
                r = is_signed(sas, e, id);
                if (r < 0)
                        return r;
                if (r > 0)
                        found = e;
        }

        *ret = found;
        *ret_any = any || individual;
        return 0;
}

static const char *token_error(const DpsSas *sas, const char *resource, uint64_t tolerance_sec,
                               uint64_t now_usec) {
        uint64_t now_sec = now_usec / USEC_PER_SEC;

        if (!dps_sas_is_for(sas, resource))
                return "the token is for another resource";
        if (sas->expiry_sec < now_sec && now_sec - sas->expiry_sec > tolerance_sec)
                return "the token is expired: is the device's clock behind?";
        return NULL;
}

/* Whether the TPM signed the token with a key that the service sent it. */
static bool is_signed_by_tpm(const Service *s, const DpsSas *sas, const char *registration_id, bool for_hub) {
        const Device *device = id_table_get(s->devices, registration_id);
        const TpmState *tpm = device ? device->tpm : NULL;
        const DpsKey *key = !tpm ? NULL : for_hub ? &tpm->hub : &tpm->registration;

        return key && key->size > 0 && dps_sas_is_signed_by(sas, key) > 0;
}

/* Sets the enrollment whose key signed the token, and what is wrong with the token. Both are NULL if there is
 * no enrollment that such a token could belong to: then register is answered with 404. */
static int check_token(const Service *s, const Login *login, const char *token, uint64_t now_usec,
                       const Enrollment **ret, const char **ret_why) {
        const Enrollment *individual = roster_individual(s->roster, login->id), *found = NULL;
        _cleanup_(freep) char *resource = NULL;
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };
        const char *why;
        bool any;
        int r;

        if (asprintf(&resource, "%s/registrations/%s", login->place, login->id) < 0)
                return -ENOMEM;

        r = dps_sas_parse(token, &sas);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                *ret = individual;
                *ret_why = "the password is not a token";
                return 0;
        }

        r = find_by_signature(s->roster, individual, &sas, login->id, &found, &any);
        if (r < 0)
                return r;
        if (individual && individual->attestation == ATTESTATION_TPM &&
            is_signed_by_tpm(s, &sas, login->id, false))
                found = individual;

        why = token_error(&sas, resource, s->roster->behaviour.clock_tolerance_sec, now_usec);
        if (!found && any)
                why = "the token was not made with a key of its enrollment";
        *ret = found ?: individual;
        *ret_why = any ? why : NULL;
        return 0;
}

static int attest_by_token(const Service *s, const Login *login, const char *token, uint64_t now_usec,
                           Caller *caller, const Enrollment **ret, const char **ret_why) {
        const char *why = NULL;
        int r;

        r = check_token(s, login, token, now_usec, ret, &why);
        if (r < 0)
                return r;

        caller->is_unauthorized = why;
        *ret_why = why;
        return !why || s->roster->behaviour.bad_signature == BAD_SIGNATURE_AT_REGISTER;
}

static int attest_by_certificate(const Service *s, const Login *login, const Credentials *credentials,
                                 uint64_t now_usec, Caller *caller, const Enrollment **ret,
                                 const char **ret_why) {
        const Enrollment *individual = roster_individual(s->roster, login->id);
        const Enrollment *e =
                find_by_certificate(s->roster, individual, login->id, credentials, now_usec, ret_why);

        caller->is_x509 = true;
        if (!e) {
                caller->is_unauthorized = caller->has_bad_certificate = true;
                return s->roster->behaviour.bad_certificate == BAD_CERTIFICATE_AT_REGISTER;
        }

        *ret = e;
        *ret_why = NULL;
        return 1;
}

/* The first request of TPM attestation comes without a credential. An unknown device is not told apart until it
 * registers. */
static bool awaits_challenge(const Service *s, const Login *login, const Credentials *credentials,
                             const Enrollment **ret) {
        *ret = roster_individual(s->roster, login->id);
        if (credentials->is_mqtt && !s->roster->behaviour.tpm_over_mqtt)
                return false;
        return !*ret || (*ret)->attestation == ATTESTATION_TPM;
}

static int caller_fill(Caller *caller, const Login *login, const Enrollment *e) {
        caller->registration_id = strdup(login->id);
        caller->api_version = strdup(login->api_version);
        caller->enrollment = e ? strdup(e->id) : NULL;
        caller->is_group = e && e->is_group;
        if (!caller->registration_id || !caller->api_version || (e && !caller->enrollment)) {
                caller_done(caller);
                return -ENOMEM;
        }
        return 1;
}

int attest_device(const Service *s, const Login *login, const Credentials *credentials, uint64_t now_usec,
                  Caller *ret, const char **ret_why) {
        const Enrollment *e = NULL;
        Caller caller = { 0 };
        int r = 0;

        *ret_why = NULL;
        if (!streq(login->place, s->roster->behaviour.id_scope))
                *ret_why = "no such ID scope";
        else if (!dps_registration_id_is_valid(login->id))
                *ret_why = "this is not a registration id";
        else if (strcasecmp(login->id, credentials->client_id) != 0)
                *ret_why = "the client id is not the registration id";
        else if (!isempty(credentials->password))
                r = attest_by_token(s, login, credentials->password, now_usec, &caller, &e, ret_why);
        else if (credentials->certificate)
                r = attest_by_certificate(s, login, credentials, now_usec, &caller, &e, ret_why);
        else if (awaits_challenge(s, login, credentials, &e))
                r = caller.has_nothing = true;
        else
                *ret_why = "there is neither a token nor a certificate";
        if (r <= 0)
                return r;

        r = caller_fill(&caller, login, e);
        if (r > 0)
                *ret = caller;
        return r;
}

static const char *check_hub_token(const Service *s, const Device *device, const Enrollment *e,
                                   const char *token, uint64_t now_usec) {
        _cleanup_(freep) char *resource = NULL;
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };

        if (asprintf(&resource, "%s/devices/%s", device->hub, device->device_id) < 0)
                return "out of memory";
        if (dps_sas_parse(token, &sas) < 0)
                return "the password is not a token";
        if (dps_connection_profile_is_v5(json_string(e->connection_profile)))
                return "the hub takes certificates only";
        if (device->was_issued && e->issuance.hub == HUB_ACCEPTS_ISSUED)
                return "the hub takes only the certificate that DPS has issued";
        if (e->attestation == ATTESTATION_TPM ? !is_signed_by_tpm(s, &sas, device->registration_id, true)
                                              : e->attestation != ATTESTATION_SYMMETRIC_KEY ||
                                                        is_signed(&sas, e, device->registration_id) <= 0)
                return "the token was not made with the device's key";
        return token_error(&sas, resource, s->roster->behaviour.clock_tolerance_sec, now_usec);
}

/* The certificate that DPS has issued to the device, or the one that it shows DPS. */
static const char *check_hub_certificate(const Service *s, const Device *device, const Enrollment *e,
                                         const Credentials *credentials, uint64_t now_usec) {
        bool is_issued = issuer_knows(s->issuer, credentials->certificate, now_usec);
        const char *why = NULL;

        if (is_issued && e->issuance.hub == HUB_ACCEPTS_ONBOARDING)
                return "the hub does not know the CA of the issued certificate";
        if (is_issued)
                return has_common_name(credentials->certificate, device->registration_id)
                               ? NULL
                               : "the certificate was issued to another device";
        if (device->was_issued && e->issuance.hub == HUB_ACCEPTS_ISSUED)
                return "the hub takes only the certificate that DPS has issued";
        return find_by_certificate(s->roster, e->is_group ? NULL : e, device->registration_id, credentials,
                                   now_usec, &why)
                       ? NULL
                       : why;
}

int attest_hub(const Service *s, const Login *login, const Credentials *credentials, uint64_t now_usec,
               const char **ret_why) {
        const Device *device = service_find_device(s, login->place, login->id);
        const Enrollment *e = device ? service_enrollment(s, device->enrollment, device->is_group) : NULL;
        const char *why = NULL;

        if (!device)
                why = "the device is not assigned to this hub";
        else if (!e)
                why = "the device's enrollment was removed";
        else if (!streq(login->id, credentials->client_id))
                why = "the client id is not the device id";
        else if (!isempty(credentials->password))
                why = check_hub_token(s, device, e, credentials->password, now_usec);
        else if (!credentials->certificate)
                why = "there is neither a token nor a certificate";
        else
                why = check_hub_certificate(s, device, e, credentials, now_usec);

        *ret_why = why;
        return !why;
}
