/* SPDX-License-Identifier: MIT */
#pragma once

/* Logs each event twice: as a JSON object in a line of requests.jsonl, for programs, and as a line on
 * stderr. */

#include <stdbool.h>
#include <stdint.h>

/* A member that is NULL, 0 or false is not logged. The status of a CONNECT can be 0, hence its flag. */
typedef struct JournalEntry {
        const char *event; /* connect, subscribe, register, poll, lookup, disconnect, hub-connect … */
        const char *registration_id, *device_id, *hub;
        const char *request_id;
        const char *front;       /* "https"; MQTT needs no word */
        const char *tracking_id; /* x-ms-request-id */
        bool has_status;
        unsigned status; /* of the answer, or the code of the CONNACK or SUBACK */
        uint32_t error_code;
        const char *operation_id;
        bool has_retry_after;
        uint64_t retry_after_sec;
        const char *word, *substatus;
        const char *payload; /* of the request, as JSON text */
        const char *script;  /* what a script did: "silent" … */
        const char *reason;  /* for people: why it ended so */
} JournalEntry;

typedef struct Journal {
        int fd;
        bool colours;
} Journal;

int journal_init(const char *path, Journal *ret);
void journal_done(Journal *j);
/* A log that cannot be written must not stop the service: the error goes to stderr. */
void journal_write(Journal *j, const JournalEntry *entry, uint64_t now_usec);
