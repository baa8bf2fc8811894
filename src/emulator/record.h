/* SPDX-License-Identifier: MIT */
#pragma once

/* What became of a device: its hub, its operations, how often it asked. */

#include "emulator/enrollment.h"

struct lh_table;

#define OPERATIONS_PER_DEVICE 4

typedef struct Operation {
        char *id;
        uint64_t begun_usec;
        uint64_t done_usec;  /* SECONDS_FOREVER: never */
        uint32_t error_code; /* 0: it succeeds */
        char *error_message;
        bool was_polled;
} Operation;

/* Where a device was sent. Kept until the emulator ends. */
typedef struct Record {
        char *registration_id; /* as enrolled, or in a group as the device spelled it: derived keys depend on it */
        char *device_id;
        char *hub;        /* NULL: never assigned */
        char *enrollment; /* the id of the enrollment that it came by */
        bool is_group, is_x509;
        const char *substatus;
        uint64_t created_usec, updated_usec;

        Operation operations[OPERATIONS_PER_DEVICE]; /* the youngest first */
        uint64_t *polls_usec;                        /* of the last ten seconds */
        size_t n_polls;
        uint64_t registers, polls; /* that were answered */
} Record;

/* The table of them, by registration id. */
int records_new(struct lh_table **ret);
/* Finds it, or makes it. */
int records_get(struct lh_table *records, const char *registration_id, uint64_t now_usec, Record **ret);
/* For people: a list, without what belongs to requests. */
json_object *records_to_json(const struct lh_table *records);

int record_enroll(Record *record, const Enrollment *e, bool is_x509);
/* Chooses a hub, or stays with the one it has, as the policies say; `hubs` has one at least. */
int record_assign(Record *record, const Enrollment *e, char *const *hubs, uint64_t now_usec);

/* Takes what `o` owns; the oldest one is forgotten. */
void record_push(Record *record, Operation *o);
/* NULL: no such operation of this device. */
Operation *record_operation(Record *record, const char *operation_id);
/* 1: within the limit of ten seconds, and counted; 0: too many, `ret_free_usec` is when one more will be in order. */
int record_count_poll(Record *record, uint64_t limit, uint64_t now_usec, uint64_t *ret_free_usec);
