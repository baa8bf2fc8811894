/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the service knows and answers: registrations, operations, quotas. It does no I/O and reads no clock
 * and no random source: time is an argument (µs of CLOCK_REALTIME), and random bytes come from the
 * RandomSource that is handed in. A transport is its user: the plugin for Mosquitto, its HTTPS front (https.h),
 * or a simulation in the same process, which does for each device what the plugin does:
 *
 *      start       json_read() the enrollments document, service_new()
 *      log in      login_parse() the MQTT user name (wire.h). For a LOGIN_DEVICE attest_device() (attest.h)
 *                  gives the Caller, to be kept for the session and ended with caller_done(), or refuses the
 *                  device: CONNACK 5. For a LOGIN_HUB attest_hub() says whether the hub accepts the device.
 *      subscribe   The service does not know who has subscribed. DPS has one filter, DPS_RESPONSE_FILTER, and
 *                  the user drops the answers of a session that has not subscribed to it.
 *      request     request_parse() the topic (wire.h). service_script() gives the answer that an operator has
 *                  dictated, or NULL. service_answer() computes the answer. The user itself carries out the
 *                  acts of the script that need the connection: it closes it, stays silent, delays the
 *                  answer, sends half of it, sends it twice, or sends another one before.
 *      reply       response_topic() of the answer's status, the request's $rid and retry-after; then the
 *                  body. answer_done() ends the answer.
 *      change      roster_set(s->roster, …), roster_merge(), roster_remove(), scripts_add(), at any time
 */

#include "emulator/answer.h"
#include "emulator/device.h"
#include "emulator/roster.h"
#include "emulator/script.h"
#include "emulator/wire.h"

typedef struct Service {
        Roster *roster;
        Scripts scripts;
        struct lh_table *devices; /* by registration id */
        RandomSource random;
        uint64_t number; /* random, and a part of all its operation ids */
        Issuer *issuer;  /* made when the first certificate is issued */
        uint64_t minute_usec, registers_this_minute;
} Service;

/* `document`: the enrollments file, with certificates as PEM text. The userdata of the random source must
 * outlive the service. -EBADMSG: the document is faulty, and `error` says how; else what the random source
 * returned, or -ENOMEM. */
int service_new(json_object *document, const RandomSource *random, Service **ret, ErrorText *error);
Service *service_free(Service *s);
DEFINE_FREEP(Service, service_free)

/* The device of a session, as it logged in. */
typedef struct Caller {
        char *registration_id;
        char *api_version;
        char *enrollment; /* the id of its enrollment; NULL: it has none */
        bool is_group, is_x509;
        bool is_unauthorized;     /* its credential is wrong, and register answers with 401 */
        bool has_bad_certificate; /* it was a certificate */
        bool has_nothing; /* neither a token nor a certificate: register answers with the TPM's challenge */
} Caller;

void caller_done(Caller *caller);

/* Answer a register or a poll. A refusal is an answer, too; the only failures are -ENOMEM, and what the
 * random source returned. The body may be empty. */
int service_register(Service *s, const Caller *caller, const void *body, size_t size, uint64_t now_usec,
                     Answer *ret);
int service_poll(Service *s, const Caller *caller, const char *operation_id, uint64_t now_usec, Answer *ret);
/* A status lookup: the bare state of the latest registration. It begins none, and no quota counts it. */
int service_lookup(Service *s, const Caller *caller, const void *body, size_t size, uint64_t now_usec,
                   Answer *ret);
/* Answers as a script dictates, whose act is SCRIPT_ACT_STATUS. What it leaves open is as in the right
 * answer. The answer's `word` may belong to the script. */
int service_scripted(Service *s, const Caller *caller, const ScriptAnswer *script, const Request *request,
                     uint64_t now_usec, Answer *ret);
/* Answers any request by the one of these four that fits. `script` may be NULL. */
int service_answer(Service *s, const Caller *caller, const Request *request, const ScriptAnswer *script,
                   const void *body, size_t size, uint64_t now_usec, Answer *ret);
/* The answer that an operator has dictated for this step of the device, or that the behaviour says at random; NULL: neither
 * is the case. The caller frees it. */
int service_script(Service *s, const char *id, ScriptStep step, ScriptAnswer **ret);

/* The device that is assigned to this hub with this device id; NULL: there is none. Looks at all devices in
 * turn. */
const Device *service_find_device(const Service *s, const char *hub, const char *device_id);
/* The enrollment as it is now; NULL: there is none, or it was removed. */
const Enrollment *service_enrollment(const Service *s, const char *id, bool is_group);
