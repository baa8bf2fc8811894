/* SPDX-License-Identifier: MIT */
#pragma once

/* What an operator tells the service about a device, or a group of devices, with the names of Azure's API. */

#include <openssl/x509.h>

#include "dps/key.h"
#include "emulator/issuer.h"
#include "emulator/reader.h"
#include "emulator/tpm-challenge.h"

typedef enum AttestationType {
        ATTESTATION_SYMMETRIC_KEY,
        ATTESTATION_X509,
        ATTESTATION_TPM,
} AttestationType;

typedef enum Allocation {
        ALLOCATION_HASHED, /* spread evenly over the hubs; a device always gets the same one */
        ALLOCATION_FIRST,  /* the first hub: static, and lowest latency, as all hubs are equally near */
} Allocation;

typedef struct Enrollment {
        char *id; /* registrationId or enrollmentGroupId */
        bool is_group;
        bool is_enabled;
        AttestationType attestation;
        DpsKey keys[2];            /* primary, secondary: the device may use either */
        X509 *certificates[2];     /* the device's own, or for a group the signers' */
        size_t n_credentials;      /* number of keys, or of certificates */
        TpmPublic endorsement_key; /* of a TPM */

        char *device_id; /* NULL: the registration id is used */
        char **hubs;     /* NULL: the hubs of the service are used */
        Allocation allocation;
        bool has_assigning, has_retry_after;
        uint64_t assigning_sec, retry_after_sec;
        bool updates_hub, migrates_data; /* reprovisionPolicy */
        IssuancePolicy issuance;
        uint32_t failure_code;                     /* 0: assignments succeed */
        char *failure_message, *failure_device_id; /* NULL: the answer has none */
        json_object *payload;                      /* points into `json` */
        bool has_connection_profile;
        json_object *connection_profile; /* points into `json`; a string, or NULL for null */

        json_object *json; /* the text that it was made from */
} Enrollment;

/* `path`: where the enrollment is in the document, for errors. Certificates must be PEM text, not paths. */
int enrollment_new(json_object *json, const char *path, bool is_group, Enrollment **ret, ErrorText *error);
Enrollment *enrollment_free(Enrollment *e);
DEFINE_FREEP(Enrollment, enrollment_free)

/* Where its certificates are: attestation.x509.clientCertificates.primary, or signingCertificates for a
 * group. */
const char *enrollment_certificates_member(bool is_group);
extern const char *const enrollment_certificate_names[2];

/* Whether an object is a single enrollment, and not a document that lists enrollments. */
bool enrollment_is_one(json_object *json);
