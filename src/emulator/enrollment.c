/* SPDX-License-Identifier: MIT */
#include "emulator/enrollment.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "basic/text.h"
#include "dps/reply.h"
#include "dps/request.h"
#include "emulator/behaviour.h"

static const char *const members[] = {
        "registrationId",
        "enrollmentGroupId",
        "deviceId",
        "provisioningStatus",
        "attestation",
        "iotHubs",
        "allocationPolicy",
        "assigningTime",
        "retryAfter",
        "payload",
        "connectionProfile",
        "reprovisionPolicy",
        "failure",
        "issuance",
        /* Azure exports these members as well. They are ignored. */
        "etag",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
        "initialTwin",
        "capabilities",
        "iotHubHostName",
        "customAllocationDefinition",
        "optionalDeviceInformation",
        "registrationState",
        NULL,
};
static const char *const key_members[] = { "primaryKey", "secondaryKey", NULL };
static const char *const policy_members[] = { "updateHubAssignment", "migrateDeviceData", NULL };
static const char *const failure_members[] = { "errorCode", "errorMessage", "deviceId", NULL };
static const char *const tpm_members[] = { "endorsementKey", "storageRootKey", NULL };
static const char *const attestation_types[] = { "symmetricKey", "x509", "tpm", NULL };
static const char *const provisioning_words[] = { "enabled", "disabled", NULL };
static const char *const allocation_words[] = { "hashed", "static", "geoLatency", "custom", NULL };

const char *const enrollment_certificate_names[2] = { "primary", "secondary" };

static inline void BIO_freep(BIO **b) {
        BIO_free(*b);
}

static int read_keys(const Reader *attestation, Enrollment *e) {
        Reader r;
        int k;

        k = reader_object(attestation, "symmetricKey", &r);
        if (k <= 0)
                return k < 0 ? k : reader_error(attestation, "symmetricKey", "is missing");
        k = reader_allow(&r, key_members);
        if (k < 0)
                return k;

        for (size_t i = 0; key_members[i]; i++) {
                const char *text = NULL;

                k = reader_string(&r, key_members[i], &text);
                if (k < 0)
                        return k;
                if (k == 0)
                        continue;

                k = dps_key_from_base64(text, &e->keys[e->n_credentials]);
                if (k < 0)
                        return reader_error(&r, key_members[i], "must be base64 of 16 to 64 bytes");
                e->n_credentials++;
        }
        return e->n_credentials > 0 ? 0 : reader_error(&r, "primaryKey", "is missing");
}

static int certificate_from_pem(const Reader *r, const char *name, const char *pem, X509 **ret) {
        _cleanup_(BIO_freep) BIO *bio = BIO_new_mem_buf(pem, -1);
        X509 *certificate;

        if (!bio)
                return -ENOMEM;

        certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!certificate) {
                ERR_clear_error();
                return reader_error(r, name, "is not a certificate in PEM");
        }

        *ret = certificate;
        return 0;
}

/* In Azure's API a certificate is the text itself, or an object that has it as its member "certificate". */
static int certificate_text(const Reader *r, const char *name, const char **ret) {
        json_object *value;
        Reader inner;
        int k;

        k = reader_get(r, name, &value);
        if (k <= 0 || !json_object_is_type(value, json_type_object))
                return k <= 0 ? k : reader_string(r, name, ret);

        k = reader_object(r, name, &inner);
        return k < 0 ? k : reader_string(&inner, "certificate", ret);
}

const char *enrollment_certificates_member(bool is_group) {
        return is_group ? "signingCertificates" : "clientCertificates";
}

static int read_certificates(const Reader *attestation, Enrollment *e) {
        const char *name = enrollment_certificates_member(e->is_group);
        Reader x509, r;
        int k;

        k = reader_object(attestation, "x509", &x509);
        if (k <= 0)
                return k < 0 ? k : reader_error(attestation, "x509", "is missing");
        k = reader_object(&x509, name, &r);
        if (k <= 0)
                return k < 0 ? k : reader_error(&x509, name, "is missing");

        for (size_t i = 0; i < ELEMENTSOF(enrollment_certificate_names); i++) {
                const char *pem = NULL;

                k = certificate_text(&r, enrollment_certificate_names[i], &pem);
                if (k < 0)
                        return k;
                if (k == 0)
                        continue;

                k = certificate_from_pem(&r, enrollment_certificate_names[i], pem,
                                         &e->certificates[e->n_credentials]);
                if (k < 0)
                        return k;
                e->n_credentials++;
        }
        return e->n_credentials > 0 ? 0 : reader_error(&r, "primary", "is missing");
}

/* As in Azure's API; the service knows a device by its endorsement key alone. */
static int read_tpm(const Reader *attestation, Enrollment *e) {
        const char *text = NULL;
        Reader r;
        int k;

        if (e->is_group)
                return reader_error(attestation, "type", "must not be tpm for a group");
        k = reader_object(attestation, "tpm", &r);
        if (k <= 0)
                return k < 0 ? k : reader_error(attestation, "tpm", "is missing");
        if ((k = reader_allow(&r, tpm_members)) < 0 || (k = reader_string(&r, "endorsementKey", &text)) < 0)
                return k;
        if (!text)
                return reader_error(&r, "endorsementKey", "is missing");
        k = tpm_public_from_base64(text, &e->endorsement_key);
        return k == -EBADMSG ? reader_error(&r, "endorsementKey",
                                            "must be base64 of an RSA-2048 key's TPM2B_PUBLIC, as dpsctl "
                                            "enrollment prints it")
                             : k;
}

static int read_attestation(const Reader *r, Enrollment *e) {
        unsigned type = ATTESTATION_SYMMETRIC_KEY;
        Reader attestation;
        int k;

        k = reader_object(r, "attestation", &attestation);
        if (k <= 0)
                return k < 0 ? k : reader_error(r, "attestation", "is missing");

        k = reader_word(&attestation, "type", attestation_types, &type);
        if (k <= 0)
                return k < 0 ? k : reader_error(&attestation, "type", "is missing");

        e->attestation = type;
        switch (e->attestation) {
        case ATTESTATION_SYMMETRIC_KEY:
                return read_keys(&attestation, e);
        case ATTESTATION_X509:
                return read_certificates(&attestation, e);
        case ATTESTATION_TPM:
                return read_tpm(&attestation, e);
        }
        abort();
}

static int read_id(const Reader *r, Enrollment *e) {
        const char *name = e->is_group ? "enrollmentGroupId" : "registrationId";
        const char *id = NULL;
        int k;

        k = reader_string(r, name, &id);
        if (k <= 0)
                return k < 0 ? k : reader_error(r, name, "is missing");
        if (!dps_registration_id_is_valid(id))
                return reader_error(r, name, "must be 1 to 128 of A-Z a-z 0-9 . _ : -");

        e->id = strdup(id);
        return e->id ? 0 : -ENOMEM;
}

static int read_device_id(const Reader *r, Enrollment *e) {
        const char *id = NULL;
        int k;

        k = reader_string(r, "deviceId", &id);
        if (k <= 0 || !*id)
                return k < 0 ? k : 0;
        if (e->is_group)
                return reader_error(r, "deviceId",
                                    "must not be set for a group, whose devices have the registration id");
        if (!dps_device_id_is_valid(id))
                return reader_error(r, "deviceId", "is not a device id");

        e->device_id = strdup(id);
        return e->device_id ? 0 : -ENOMEM;
}

static int read_reprovision_policy(const Reader *r, Enrollment *e) {
        Reader policy;
        int k;

        k = reader_object(r, "reprovisionPolicy", &policy);
        if (k <= 0)
                return k;

        if ((k = reader_allow(&policy, policy_members)) < 0 ||
            (k = reader_boolean(&policy, "updateHubAssignment", &e->updates_hub)) < 0 ||
            (k = reader_boolean(&policy, "migrateDeviceData", &e->migrates_data)) < 0)
                return k;
        return 0;
}

static int read_failure(const Reader *r, Enrollment *e) {
        const char *message = NULL, *device_id = NULL;
        uint64_t code = 0;
        Reader failure;
        int k;

        k = reader_object(r, "failure", &failure);
        if (k <= 0)
                return k;

        if ((k = reader_allow(&failure, failure_members)) < 0 ||
            (k = reader_number(&failure, "errorCode", INT32_MAX, &code)) < 0 ||
            (k = reader_string(&failure, "errorMessage", &message)) < 0 ||
            (k = reader_string(&failure, "deviceId", &device_id)) < 0)
                return k;
        if (code == 0)
                return reader_error(&failure, "errorCode", "is missing");

        e->failure_code = (uint32_t) code;
        e->failure_message = message ? strdup(message) : NULL;
        e->failure_device_id = device_id ? strdup(device_id) : NULL;
        return (message && !e->failure_message) || (device_id && !e->failure_device_id) ? -ENOMEM : 0;
}

static int read_allocation(const Reader *r, Enrollment *e) {
        unsigned policy = 0;
        int k;

        k = reader_word(r, "allocationPolicy", allocation_words, &policy);
        if (k < 0)
                return k;
        e->allocation = policy == 0 ? ALLOCATION_HASHED : ALLOCATION_FIRST;

        k = reader_strings(r, "iotHubs", &e->hubs);
        if (k < 0)
                return k;
        STRV_FOREACH(hub, e->hubs)
                if (!dps_host_name_is_valid(*hub))
                        return reader_error(r, "iotHubs", "must be host names");
        return 0;
}

/* Any word, because DPS passes on what the hub says; null and no member at all are different answers. */
static int read_connection_profile(const Reader *r, Enrollment *e) {
        e->has_connection_profile =
                json_object_object_get_ex(r->object, "connectionProfile", &e->connection_profile);
        return !e->connection_profile || json_object_is_type(e->connection_profile, json_type_string)
                       ? 0
                       : reader_error(r, "connectionProfile", "must be a string or null");
}

static int read_members(const Reader *r, Enrollment *e) {
        unsigned disabled = 0;
        int k;

        if ((k = reader_allow(r, members)) < 0 || (k = read_id(r, e)) < 0 || (k = read_device_id(r, e)) < 0 ||
            (k = reader_word(r, "provisioningStatus", provisioning_words, &disabled)) < 0 ||
            (k = read_attestation(r, e)) < 0 || (k = read_allocation(r, e)) < 0 ||
            (k = read_reprovision_policy(r, e)) < 0 || (k = read_failure(r, e)) < 0 ||
            (k = read_connection_profile(r, e)) < 0 || (k = issuance_policy_read(r, &e->issuance)) < 0)
                return k;
        e->is_enabled = disabled == 0;

        k = reader_seconds(r, "assigningTime", &e->assigning_sec);
        if (k < 0)
                return k;
        e->has_assigning = k > 0;
        k = reader_number(r, "retryAfter", SECONDS_MAX, &e->retry_after_sec);
        if (k < 0)
                return k;
        e->has_retry_after = k > 0;

        (void) reader_get(r, "payload", &e->payload);
        return 0;
}

int enrollment_new(json_object *json, const char *path, bool is_group, Enrollment **ret, ErrorText *error) {
        _cleanup_(enrollment_freep) Enrollment *e = NULL;
        Reader reader;
        int r;

        r = reader_init(json, path, error, &reader);
        if (r < 0)
                return r;

        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;

        *e = (Enrollment){ .is_group = is_group, .updates_hub = true, .migrates_data = true };
        e->json = json_object_get(json);
        r = read_members(&reader, e);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(e);
        return 0;
}

Enrollment *enrollment_free(Enrollment *e) {
        if (!e)
                return NULL;

        for (size_t i = 0; i < ELEMENTSOF(e->keys); i++)
                dps_key_done(&e->keys[i]);
        for (size_t i = 0; i < ELEMENTSOF(e->certificates); i++)
                X509_free(e->certificates[i]);
        tpm_public_done(&e->endorsement_key);
        strv_free(e->hubs);
        free(e->id);
        free(e->device_id);
        free(e->failure_message);
        free(e->failure_device_id);
        json_object_put(e->json);
        free(e);
        return NULL;
}

bool enrollment_is_one(json_object *json) {
        return json_object_object_get_ex(json, "registrationId", NULL) ||
               json_object_object_get_ex(json, "enrollmentGroupId", NULL);
}
