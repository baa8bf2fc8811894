/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How the service behaves towards all devices: delays, quotas, and switches where the real DPS was seen to do
 * both, or where nobody knows what it does. In the enrollments file these are the members at the top.
 */

#include "emulator/reader.h"

#define SECONDS_FOREVER UINT64_MAX
#define SECONDS_MAX (366U * 24 * 3600)
#define OPERATION_ID_SIZE_MAX 1024

typedef enum BadSignature {
        BAD_SIGNATURE_AT_REGISTER, /* CONNECT is accepted, register answered with 401: DPS was seen to do this */
        BAD_SIGNATURE_AT_CONNECT, /* CONNACK 5 */
} BadSignature;

/* What the service does when a device does what it must not. */
typedef enum Misbehaved {
        MISBEHAVED_CLOSE, /* it closes the connection */
        MISBEHAVED_IGNORE,
} Misbehaved;

typedef enum BadCertificate {
        BAD_CERTIFICATE_AT_CONNECT, /* CONNACK 5 */
        BAD_CERTIFICATE_AT_REGISTER, /* CONNECT is accepted, register answered with 401; DPS was seen to do both */
} BadCertificate;

typedef struct Behaviour {
        char *id_scope;
        char **hubs;                      /* the linked hubs, for enrollments that name none */
        json_object *connection_profiles; /* of hubs, by name; NULL: none */
        uint64_t retry_after_sec;
        uint64_t assigning_sec; /* SECONDS_FOREVER: never done */
        uint64_t registrations_per_minute;
        uint64_t polls_per_ten_seconds;
        uint64_t request_sec; /* how long a client may take to send a request over HTTPS */

        BadSignature bad_signature;
        BadCertificate bad_certificate;
        uint64_t clock_tolerance_sec;  /* how long an expired token is still accepted */
        char **refused_api_versions;   /* answered with 400 and 400004 */
        Misbehaved foreign_topic;      /* a PUBLISH to a topic that DPS does not have */
        Misbehaved foreign_filter;     /* a SUBSCRIBE to one; to ignore it means SUBACK 0x80 */
        Misbehaved will;               /* a CONNECT with a will */
        Misbehaved missing_request_id; /* a request without $rid */
        uint64_t lost_percent;         /* of logins, subscriptions and requests, which end the connection */
        uint64_t operation_id_size;    /* at least */
        bool tpm_over_mqtt;            /* TPM attestation over MQTT too; no documentation of DPS has it */
        bool assign_at_once;           /* register is answered with 200, "assigned" */
        bool unassigned_first;         /* the first answer says "unassigned", the next "assigning" */
        bool conflict;      /* a register during another operation of the device is answered with 409203 */
        bool chunked;       /* answers over HTTPS come in chunks, as those of DPS */
        bool extra_members; /* answers have members that DPS does not document, and members that are null */
} Behaviour;

/* `document`: the whole enrollments file. On failure `ret` is untouched. End it with behaviour_done(). */
int behaviour_read(const Reader *document, Behaviour *ret);
void behaviour_done(Behaviour *b);

/* A whole number of seconds or "forever"; returns as reader_number(). */
int reader_seconds(const Reader *r, const char *name, uint64_t *ret);
