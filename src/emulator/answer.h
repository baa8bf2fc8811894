/* SPDX-License-Identifier: MIT */
#pragma once

/* What the service answers: the state of an operation, or an error document. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fills `ret` with random bytes: 0, or a negative errno. A simulation hands in one that repeats itself. */
typedef struct RandomSource {
        int (*fill)(void *ret, size_t size, void *userdata);
        void *userdata;
} RandomSource;

#define GUID_TEXT_SIZE 37

typedef struct Answer {
        unsigned status; /* 200, 202, 401 … */
        bool has_retry_after;
        uint64_t retry_after_sec;
        char *body;

        /* The following are for the log. The words are static text, or belong to the script. */
        const char *word, *substatus;
        char *operation_id, *hub;
        char *tracking_id; /* of an error */
        uint32_t error_code;
} Answer;

void answer_done(Answer *a);

/* {"errorCode":…,"trackingId":…,"message":…,"timestampUtc":…} */
int answer_error(const RandomSource *random, unsigned status, uint32_t code, const char *message,
                 uint64_t now_usec, Answer *ret);

typedef struct Result {
        const char *operation_id;
        const char *word; /* the member "status" */
        const char *registration_id;
        /* The following may be NULL or 0. */
        const char *device_id, *hub, *substatus, *payload;
        const char *enrollment_group_id;
        char *const *issued_chain;
        bool is_x509;
        const char *tpm_key;            /* NULL: not by TPM */
        const char *connection_profile; /* as JSON */
        uint64_t created_usec, updated_usec;
        uint32_t error_code;
        const char *error_message;
        bool extra_members; /* adds members that DPS does not document, and members that are null */
} Result;

/* {"operationId":…,"status":…,"registrationState":{…}} */
int answer_result(unsigned status, const Result *result, Answer *ret);

/* A random GUID as text. */
int guid_make(const RandomSource *random, char ret[static GUID_TEXT_SIZE]);
/* "5.{16 hex digits}.{guid}": the digits are the service's number, the GUID is random. */
int operation_id_make(const RandomSource *random, uint64_t service, size_t size, char **ret);
