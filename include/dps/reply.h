/* SPDX-License-Identifier: MIT */
#pragma once

/* An answer of DPS: over MQTT its topic carries status, request id and delay, its body the rest. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dps/error.h"

#define DPS_REPLY_SIZE_MAX (128U * 1024) /* DPS limits messages to 96 kB */

/** The words of `status`. */
typedef enum DpsStatus {
        DPS_STATUS_NONE, /* the member is absent or null */
        DPS_STATUS_UNASSIGNED,
        DPS_STATUS_ASSIGNING,
        DPS_STATUS_ASSIGNED,
        DPS_STATUS_FAILED,
        DPS_STATUS_DISABLED,
        DPS_STATUS_UNKNOWN, /* a word that is in no documentation */
} DpsStatus;

/** Owns its strings; strings are NULL where the reply has no such member. End it with dps_reply_done(). */
typedef struct DpsReply {
        uint32_t status;     /* 200, 202, 401 … */
        uint64_t request_id; /* our $rid */
        bool has_retry_after;
        uint64_t retry_after_sec; /* as told; unreadable is as absent */

        const char *defect; /* why the body is malformed, static text; NULL: it is not */
        DpsStatus word;
        char *status_word; /* as sent, made safe for logs */
        char *operation_id;
        char *registration_id;
        char *assigned_hub; /* checked: a host name */
        char *device_id;    /* checked: [A-Za-z0-9-.%_*?!(),:=@$'] up to 128, IoT Hub's alphabet */
        char *substatus;
        char *payload;            /* JSON text: what the custom allocation returned */
        char *registration_state; /* JSON text: registrationState whole */

        uint32_t error_code;    /* of the error document or of the failed operation; 0: none */
        char *error_message;    /* made safe for logs */
        char *tracking_id;      /* made safe for logs */
        uint64_t timestamp_sec; /* timestampUtc of an error document: DPS's own time; 0: none */
} DpsReply;

/**
 * Reads "$dps/registrations/res/202/?$rid=7&retry-after=3": order and case of the parameters are free, unknown ones
 * are ignored. Sets status, request_id and the delay and empties the rest.
 * -ENOMSG: some other topic, not ours to read. -EBADMSG: ours, and malformed, or its $rid is no number, so that
 * it answers no request of ours. On failure `ret` is untouched.
 */
int dps_reply_parse_topic(const char *topic, DpsReply *ret);

/**
 * Reads the JSON body into a reply whose status is set. A malformed body is no error here: `defect` says what is
 * wrong, and the status alone decides. Hub and device id are checked against what a host name and a device id may
 * be, because they end up in files and topics. -ENOMEM.
 */
int dps_reply_parse_body(DpsReply *reply, const void *body, size_t size);

/** What to do with it. 200 carries failures too; a 200 or 202 that cannot be understood is a retry. */
DpsVerdict dps_reply_verdict(const DpsReply *reply);

/** The failure it stands for, with cause and code; only for verdicts RETRY and FINAL. `step`: register or poll. */
void dps_reply_error(const DpsReply *reply, DpsStep step, DpsError *ret);

void dps_reply_done(DpsReply *reply);

/** Whether it is fit to be a host name ([A-Za-z0-9.-], at most 253, no empty label). */
bool dps_host_name_is_valid(const char *name);
bool dps_device_id_is_valid(const char *id);
