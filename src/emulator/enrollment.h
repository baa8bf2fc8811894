/* SPDX-License-Identifier: MIT */
#pragma once

/* What an operator tells the service of a device, or of a group of them, in the words of Azure's own API. */

#include <openssl/x509.h>

#include "dps/key.h"
#include "emulator/reader.h"

typedef enum AttestationType {
        ATTESTATION_SYMMETRIC_KEY,
        ATTESTATION_X509,
} AttestationType;

typedef enum Allocation {
        ALLOCATION_HASHED, /* evenly spread, the same for the same device */
        ALLOCATION_FIRST,  /* static, and by latency: all hubs are equally near */
} Allocation;

typedef struct Enrollment {
        char *id; /* registrationId or enrollmentGroupId */
        bool is_group;
        bool is_enabled;
        AttestationType attestation;
        DpsKey keys[2];        /* primary, secondary: either will do */
        X509 *certificates[2]; /* the device's own, or what signed them */
        size_t n_credentials;  /* of keys, or of certificates */

        char *device_id; /* NULL: the registration id */
        char **hubs;     /* NULL: those of the service */
        Allocation allocation;
        bool has_assigning, has_retry_after;
        uint64_t assigning_sec, retry_after_sec;
        bool updates_hub, migrates_data; /* reprovisionPolicy */
        uint32_t failure_code;           /* 0: assignments succeed */
        char *failure_message;           /* NULL: none is told */
        json_object *payload;            /* in `json` */

        json_object *json; /* as it was given */
} Enrollment;

/* `path`: where it stands, for complaints. Certificates must be PEM text by now. */
int enrollment_new(json_object *json, const char *path, bool is_group, Enrollment **ret, Complaint *c);
Enrollment *enrollment_free(Enrollment *e);
DEFINE_FREEP(Enrollment, enrollment_free)

/* Where its certificates are: attestation.x509.clientCertificates.primary, or signingCertificates for a group. */
const char *enrollment_certificates_member(bool is_group);
extern const char *const enrollment_certificate_names[2];

/* Whether an object is one enrollment rather than a document of many. */
bool enrollment_is_one(json_object *json);
