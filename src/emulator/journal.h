/* SPDX-License-Identifier: MIT */
#pragma once

/* What happened, as one JSON object a line in requests.jsonl for programs, and as one line on stderr for people. */

#include <stdbool.h>
#include <stdint.h>

/* NULL, 0 and false are as absent; the status of a CONNECT can be 0, hence the flag. */
typedef struct JournalEntry {
        const char *event; /* connect, subscribe, register, poll, disconnect, hub-connect … */
        const char *registration_id, *device_id, *hub;
        const char *request_id;
        bool has_status;
        unsigned status; /* the answer's, or the code of CONNACK or SUBACK */
        uint32_t error_code;
        const char *operation_id;
        bool has_retry_after;
        uint64_t retry_after_sec;
        const char *word, *substatus;
        const char *payload; /* JSON text: of the request */
        const char *script;  /* what a script made of it: "silent" … */
        const char *remark;  /* for people: why */
} JournalEntry;

typedef struct Journal {
        int fd;
        bool colours;
} Journal;

int journal_init(const char *path, Journal *ret);
void journal_done(Journal *j);
/* A log that cannot be written must not stop the service: trouble is told on stderr. */
void journal_write(Journal *j, const JournalEntry *entry, uint64_t now_usec);
