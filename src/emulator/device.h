/* SPDX-License-Identifier: MIT */
#pragma once

/* What the service knows of a device: its hub, its operations, and how often it asked. */

#include "emulator/enrollment.h"

struct lh_table;

#define OPERATIONS_PER_DEVICE 4

typedef struct Operation {
        char *id;
        uint64_t begun_usec;
        uint64_t done_usec;  /* SECONDS_FOREVER: never */
        uint32_t error_code; /* 0: the operation succeeds */
        char *error_message;
        char *tpm_key; /* the hub's key for the TPM, as the answer holds it; NULL: not made yet */
        bool was_polled;
        char **issued_chain; /* NULL: none was asked for, or there is no policy for it */
} Operation;

/* Made at the first registration, and kept until the emulator ends. */
typedef struct Device {
        /* As in the enrollment; in a group as the device spells it, because its derived key depends on
         * that. */
        char *registration_id;
        char *device_id;
        char *hub;        /* NULL: never assigned */
        char *enrollment; /* the id of the enrollment that it registered with */
        bool is_group, is_x509;
        TpmState *tpm;   /* NULL: no challenge was made for it */
        bool was_issued; /* a certificate */
        const char *substatus;
        uint64_t created_usec, updated_usec;

        Operation operations[OPERATIONS_PER_DEVICE]; /* the latest first */
        uint64_t *polls_usec;                        /* times of the polls in the last ten seconds */
        size_t n_polls;
        uint64_t registers, polls; /* how many were answered */
} Device;

/* A table of devices, by registration id. */
int devices_new(struct lh_table **ret);
/* Finds the device, or makes it. */
int devices_get(struct lh_table *devices, const char *registration_id, uint64_t now_usec, Device **ret);
/* A list for people, without operations. */
json_object *devices_to_json(const struct lh_table *devices);

int device_enroll(Device *device, const Enrollment *e, bool is_x509);
/* Chooses a hub or keeps the one that the device has, as the policies say. `hubs` must not be empty. */
int device_assign(Device *device, const Enrollment *e, char *const *hubs, uint64_t now_usec);

/* Adds an operation and takes ownership of its strings. The oldest operation is dropped. */
void device_push(Device *device, Operation *o);
/* NULL: the device has no such operation. */
Operation *device_operation(Device *device, const char *operation_id);
/* Counts a poll. 1: it is within the limit for ten seconds; 0: it is one too many, is not counted, and the
 * next one is allowed at `ret_free_usec`. */
int device_count_poll(Device *device, uint64_t limit, uint64_t now_usec, uint64_t *ret_free_usec);
