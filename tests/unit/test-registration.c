/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/registration.h"
#include "registration-script.h"

#define HAS_ANSWERED .has_answered = true
#define CHALLENGED                                                                                           \
        REGISTERED, {                                                                                        \
                0, ANSWER, CHALLENGE, .want = ANSWER_CHALLENGE                                               \
        }
#define ANSWERED_AT(sec)                                                                                     \
        { (sec), ANSWERED, .want = CONNECT, HAS_ANSWERED }, {                                                \
                (sec), READY, .want = REGISTER, HAS_ANSWERED                                                 \
        }

static const Script scripts[] = {
        /* success */
        { "registers, polls when told, and is assigned",
          .rows = { REGISTERED,
                    { 1, ANSWER, ASSIGNING, .after = "3", .want = WAIT, .wake_sec = 4,
                      .state = DPS_REGISTRATION_PAUSING },
                    { 4, TIME, .want = POLL, .wake_sec = 34, .state = DPS_REGISTRATION_POLLING },
                    { 5, ANSWER, ASSIGNED, .want = FINISH, .wake_sec = NEVER,
                      .state = DPS_REGISTRATION_ASSIGNED } } },
        { "accepts an assignment in the answer to register",
          .rows = { REGISTERED, { 1, ANSWER, ASSIGNED, .want = FINISH } } },
        { "polls while unassigned",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 202, .body = BODY_UNASSIGNED, .want = WAIT, .wake_sec = 2 },
                    { 2, TIME, .want = POLL },
                    { 2, ANSWER, .status = 200, .body = BODY_UNASSIGNED, .want = WAIT, .wake_sec = 4 },
                    { 4, TIME, .want = POLL } } },
        { "polls the first operation id that it was given",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 202,
                      .body = "{\"operationId\":\"5.other\",\"status\":\"assigning\"}", .after = "0",
                      .want = POLL },
                    { 0, ANSWER, REFUSAL(202), .after = "0", .want = RELEASE,
                      .error = DPS_ERROR_PROTOCOL } } },
        { "success clears the counters", .history = { .attempts = 7, .finals = 3 },
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(503), BACK_AT(300) },
                    { 300, TIME, .want = CONNECT },
                    { 300, READY, .want = REGISTER },
                    { 300, ANSWER, ASSIGNED, .want = FINISH },
                    { 301, BEGIN, .want = CONNECT },
                    { 301, LOST, BACK_AT(303.5) } } },

        /* TPM attestation */
        { "a challenge is answered with a new connection, and is no failure",
          .rows = { REGISTERED,
                    { 1, ANSWER, CHALLENGE, .want = ANSWER_CHALLENGE, .wake_sec = 61,
                      .state = DPS_REGISTRATION_ANSWERING },
                    ANSWERED_AT(5),
                    { 6, ANSWER, ASSIGNING, .after = "3", .want = WAIT, .wake_sec = 9, HAS_ANSWERED },
                    { 9, TIME, .want = POLL, HAS_ANSWERED },
                    { 9, ANSWER, ASSIGNED_KEY, .want = ANSWER_CHALLENGE, .wake_sec = 69, HAS_ANSWERED },
                    { 10, ANSWERED, .want = FINISH, .state = DPS_REGISTRATION_ASSIGNED } } },
        { "after a challenge, an assignment without a key for the hub is a failure",
          .rows = { CHALLENGED,
                    ANSWERED_AT(1),
                    { 1, ANSWER, ASSIGNED, BACK_AT(3.5), .error = DPS_ERROR_PROTOCOL } } },
        { "a key for the hub that nobody asked for is ignored",
          .rows = { REGISTERED, { 1, ANSWER, ASSIGNED_KEY, .want = FINISH } } },
        { "a second challenge is a refusal",
          .rows = { CHALLENGED,
                    ANSWERED_AT(1),
                    { 2, ANSWER, CHALLENGE, .want = RELEASE, .state = DPS_REGISTRATION_FAILED,
                      .error = DPS_ERROR_AUTH, .step = DPS_STEP_REGISTER } } },
        { "a 401 after the challenge is a refusal",
          .rows = { CHALLENGED,
                    ANSWERED_AT(1),
                    { 2, ANSWER, REFUSAL(401), .want = RELEASE, .state = DPS_REGISTRATION_FAILED } } },
        { "a challenge in answer to a poll is a refusal",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, CHALLENGE, .want = RELEASE, .state = DPS_REGISTRATION_FAILED } } },
        { "a TPM that is busy leads to an attempt that begins without a token",
          .rows = { CHALLENGED,
                    { 2, UNFIT, BACK_AT(4.5), .error = DPS_ERROR_KEY, .step = DPS_STEP_ATTEST },
                    { 4.5, TIME, .want = CONNECT },
                    { 4.5, READY, .want = REGISTER } } },
        { "a TPM that does not answer costs a minute",
          .rows = { CHALLENGED,
                    { 59, TIME, .want = WAIT, .wake_sec = 60 },
                    { 60, TIME, BACK_AT(62.5), .error = DPS_ERROR_KEY, .step = DPS_STEP_ATTEST } } },
        { "a connection that is lost after the challenge polls the operation with the same key",
          .rows = { CHALLENGED,
                    ANSWERED_AT(0),
                    { 0, ANSWER, ASSIGNING, .after = "3", .want = WAIT, HAS_ANSWERED },
                    { 1, LOST, BACK_AT(3.5), HAS_ANSWERED },
                    { 3.5, TIME, .want = CONNECT, HAS_ANSWERED },
                    { 3.5, READY, .want = POLL, HAS_ANSWERED } } },
        { "a connection that is lost before the operation begins asks for a new challenge",
          .rows = { CHALLENGED,
                    ANSWERED_AT(0),
                    { 1, LOST, BACK_AT(3.5) },
                    { 3.5, TIME, .want = CONNECT },
                    { 3.5, READY, .want = REGISTER } } },
        { "an operation that has ended takes its key along",
          .rows = { CHALLENGED,
                    ANSWERED_AT(0),
                    { 0, ANSWER, ASSIGNING, .after = "3", .want = WAIT, HAS_ANSWERED },
                    { 1, LOST, BACK_AT(3.5), HAS_ANSWERED },
                    { 900, TIME, .want = CONNECT, HAS_ANSWERED },
                    { 900, READY, .want = CONNECT },
                    { 900, READY, .want = REGISTER } } },
        { "an operation that DPS has lost takes its key along",
          .rows = { CHALLENGED,
                    ANSWERED_AT(0),
                    { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL, HAS_ANSWERED },
                    { 0, ANSWER, REFUSAL(404), BACK_AT(2.5), .error = DPS_ERROR_OPERATION_LOST } } },
        { "a TPM that cannot take the hub's key polls again",
          .rows = { CHALLENGED,
                    ANSWERED_AT(0),
                    { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL, HAS_ANSWERED },
                    { 0, ANSWER, ASSIGNED_KEY, .want = ANSWER_CHALLENGE, HAS_ANSWERED },
                    { 1, UNFIT, BACK_AT(3.5), HAS_ANSWERED },
                    { 3.5, TIME, .want = CONNECT, HAS_ANSWERED },
                    { 3.5, READY, .want = POLL, HAS_ANSWERED } } },
        { "a challenge with a retry-after delays the next connection",
          .rows = { REGISTERED,
                    { 0, ANSWER, CHALLENGE, .after = "60", .want = ANSWER_CHALLENGE },
                    { 1, ANSWERED, BACK_AT(60), HAS_ANSWERED },
                    { 60, TIME, .want = CONNECT, HAS_ANSWERED },
                    { 60, READY, .want = REGISTER, HAS_ANSWERED } } },
        { "answers to nothing change nothing", .rows = { { 0, ANSWERED, .want = WAIT },
                                                         REGISTERED,
                                                         { 0, ANSWERED, .want = WAIT },
                                                         { 0, ANSWER, ASSIGNED, .want = FINISH } } },

        /* when to poll */
        { "polls after 2 s without a retry-after",
          .rows = { REGISTERED, { 0, ANSWER, ASSIGNING, .want = WAIT, .wake_sec = 2 } } },
        { "polls after 2 s when retry-after is not a number",
          .rows = { REGISTERED, { 0, ANSWER, ASSIGNING, .after = "3x", .want = WAIT, .wake_sec = 2 } } },
        { "polls at once when retry-after is 0", .rows = { REGISTERED, POLLED_AT_0 } },
        { "does not poll before the time that it was told",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "1", .want = WAIT, .wake_sec = 1 },
                    { 0.999999, TIME, .want = WAIT, .wake_sec = 1 },
                    { 1, TIME, .want = POLL } } },
        { "polls no later than told",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "10", .late = true, .want = WAIT, .wake_sec = 10 } } },
        { "polls five times in 10 s and no more",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 1, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 2, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 3, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 4, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 5, ANSWER, ASSIGNING, .after = "0", .want = WAIT, .wake_sec = 11 },
                    { 11, TIME, .want = POLL },
                    { 11, ANSWER, ASSIGNING, .after = "0", .want = WAIT, .wake_sec = 12 } } },
        { "polls five times in 10 s over reconnects too",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL },
                    { 0, LOST, BACK_AT(2.5) },
                    { 2.5, TIME, .want = CONNECT },
                    { 3, READY, .want = WAIT, .wake_sec = 10, .state = DPS_REGISTRATION_PAUSING },
                    { 10, TIME, .want = POLL } } },
        { "spends a long wait disconnected, then polls the same operation",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "42", BACK_AT(42), .state = DPS_REGISTRATION_PARKED },
                    { 41.9, TIME, .want = WAIT, .wake_sec = 42 },
                    { 42, TIME, .want = CONNECT },
                    { 43, READY, .want = POLL, .wake_sec = 73 },
                    { 44, ANSWER, ASSIGNED, .want = FINISH } } },
        { "spends a wait of 30 s connected",
          .rows = { REGISTERED, { 0, ANSWER, ASSIGNING, .after = "30", .want = WAIT, .wake_sec = 30 } } },
        { "spends a wait of 31 s disconnected, and polls no later than told",
          .rows = { REGISTERED, { 0, ANSWER, ASSIGNING, .after = "31", .late = true, BACK_AT(31) } } },
        { "waits 15 minutes between polls as often as told",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "900", BACK_AT(900) },
                    { 900, TIME, .want = CONNECT },
                    { 900, READY, .want = POLL },
                    { 900, ANSWER, ASSIGNING, .after = "900", BACK_AT(1800) },
                    { 1800, TIME, .want = CONNECT },
                    { 1800, READY, .want = POLL },
                    { 1800, ANSWER, ASSIGNED, .want = FINISH } } },
        { "a retry-after of 2^32 s counts as a day",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "4294967296", BACK_AT(86400) },
                    { 86400, TIME, .want = CONNECT },
                    { 86400, READY, .want = POLL } } },
        { "a retry-after of 2^64-1 s counts as a day",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "18446744073709551615", .late = true, BACK_AT(86400) },
                    { 86400, TIME, .want = CONNECT },
                    { 86400, READY, .want = POLL } } },
        { "a retry-after beyond 64 bits counts as a day",
          .rows = { REGISTERED, { 0, ANSWER, ASSIGNING, .after = "99999999999999999999", BACK_AT(86400) } } },

        /* failures at register */
        { "a throttled register waits as long as told, whatever happens",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(429), .after = "900", BACK_AT(900),
                      .state = DPS_REGISTRATION_BACKOFF, .error = DPS_ERROR_THROTTLED,
                      .step = DPS_STEP_REGISTER },
                    { 10, HASTEN, .want = WAIT, .wake_sec = 900 },
                    { 10, BEGIN, .want = WAIT, .wake_sec = 900 },
                    { 900, TIME, .want = CONNECT },
                    { 900, READY, .want = REGISTER } } },
        { "a throttled register is sent at most a fifth later than told",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(503), .after = "100", .late = true, BACK_AT(120) },
                    { 1, HASTEN, .want = WAIT, .wake_sec = 100 } } },
        { "a throttled register waits a day for 2^64-1 s",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(429), .after = "18446744073709551615", BACK_AT(86400) } } },
        { "a failure with retry-after 0 backs off as usual",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(503), .after = "0", BACK_AT(2.5), .error = DPS_ERROR_SERVICE } } },
        { "the back-off doubles from 5 s",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(500), .late = true, BACK_AT(5) },
                    { 5, TIME, .want = CONNECT },
                    { 5, READY, .want = REGISTER },
                    { 5, ANSWER, REFUSAL(409), .late = true, BACK_AT(15), .error = DPS_ERROR_CONFLICT },
                    { 15, TIME, .want = CONNECT },
                    { 15, LOST, .late = true, BACK_AT(35) } } },
        { "the back-off stays at 10 min", .history = { .attempts = 4000000000U },
          .rows = { { 0, BEGIN, .want = CONNECT }, { 0, LOST, .late = true, BACK_AT(600) } } },
        { "an answer without an operation id is a failed attempt",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 202, .body = "{\"status\":\"assigning\"}", BACK_AT(2.5),
                      .error = DPS_ERROR_PROTOCOL, .step = DPS_STEP_REGISTER } } },
        { "a short retry-after of malformed answers does not keep the back-off from growing",
          .history = { .attempts = 5 },
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 202, .body = "<html>", .after = "3", BACK_AT(80),
                      .error = DPS_ERROR_PROTOCOL } } },
        { "the retry-after of a malformed answer counts",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 202, .body = "<html>", .after = "60", BACK_AT(60),
                      .error = DPS_ERROR_PROTOCOL } } },

        /* failures at poll */
        { "a server error at poll keeps the operation",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, REFUSAL(500), BACK_AT(2.5), .error = DPS_ERROR_SERVICE,
                      .step = DPS_STEP_POLL },
                    { 2.5, TIME, .want = CONNECT },
                    { 2.5, READY, .want = POLL } } },
        { "a conflict at poll keeps the operation", .rows = { REGISTERED,
                                                              POLLED_AT_0,
                                                              { 0, ANSWER, REFUSAL(409), BACK_AT(2.5) },
                                                              { 2.5, TIME, .want = CONNECT },
                                                              { 2.5, READY, .want = POLL } } },
        { "a throttled poll keeps the operation, however long the wait",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, REFUSAL(429), .after = "7200", .late = true, BACK_AT(8640) },
                    { 8640, TIME, .want = CONNECT },
                    { 8640, READY, .want = POLL } } },
        { "after a lost operation it registers again",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 404, .body = "{\"errorCode\":404202}", BACK_AT(2.5),
                      .state = DPS_REGISTRATION_BACKOFF, .error = DPS_ERROR_OPERATION_LOST,
                      .step = DPS_STEP_POLL },
                    { 2.5, TIME, .want = CONNECT },
                    { 2.5, READY, .want = REGISTER } } },
        { "the retry-after of a lost operation counts",
          .rows = { REGISTERED, POLLED_AT_0, { 0, ANSWER, REFUSAL(404), .after = "77", BACK_AT(77) } } },
        { "after a malformed answer at poll it registers again",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 200, .body = "{", BACK_AT(2.5), .error = DPS_ERROR_PROTOCOL,
                      .step = DPS_STEP_POLL },
                    { 2.5, TIME, .want = CONNECT },
                    { 2.5, READY, .want = REGISTER } } },
        { "an unknown status word is a failed attempt",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 200, .body = "{\"status\":\"delighted\"}", BACK_AT(2.5),
                      .error = DPS_ERROR_PROTOCOL } } },
        { "an assignment without a hub is a failed attempt",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 200, .body = "{\"status\":\"assigned\"}", .want = RELEASE,
                      .error = DPS_ERROR_PROTOCOL } } },
        { "after an operation that failed but may succeed later, it registers again",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 200, .body = BODY_FAILED(500000), BACK_AT(2.5),
                      .state = DPS_REGISTRATION_BACKOFF, .error = DPS_ERROR_SERVICE },
                    { 2.5, TIME, .want = CONNECT },
                    { 2.5, READY, .want = REGISTER } } },

        /* final answers */
        { "a failed operation is final: it registers again in 1 min, then in 2",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, .status = 200, .body = BODY_FAILED(400208), BACK_AT(48),
                      .state = DPS_REGISTRATION_FAILED, .error = DPS_ERROR_ALLOCATION,
                      .step = DPS_STEP_POLL },
                    { 48, TIME, .want = CONNECT },
                    { 48, READY, .want = REGISTER },
                    { 48, ANSWER, .status = 200, .body = BODY_FAILED(400208), .late = true,
                      BACK_AT(192) } } },
        { "a disabled enrollment is final",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 200, .body = "{\"operationId\":\"\",\"status\":\"disabled\"}",
                      BACK_AT(48), .state = DPS_REGISTRATION_FAILED,
                      .error = DPS_ERROR_ENROLLMENT_DISABLED } } },
        { "an unknown enrollment is final",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 404, .body = "{\"errorCode\":404201}", BACK_AT(48),
                      .state = DPS_REGISTRATION_FAILED, .error = DPS_ERROR_ENROLLMENT_UNKNOWN } } },
        { "after final answers it registers at least once in 1.2 days",
          .history = { .attempts = 90, .finals = 90 },
          .rows = { REGISTERED, { 0, ANSWER, REFUSAL(404), .late = true, BACK_AT(103680) } } },
        { "a final answer with a retry-after over an hour is obeyed",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(404), .after = "10000", .late = true, BACK_AT(12000),
                      .state = DPS_REGISTRATION_FAILED },
                    { 1, HASTEN, .want = WAIT, .wake_sec = 10000 } } },
        { "a final answer with a short retry-after still waits a minute",
          .rows = { REGISTERED, { 0, ANSWER, REFUSAL(404), .after = "10", BACK_AT(48) } } },
        { "an operator who corrected the enrollment need not wait",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(404), BACK_AT(48) },
                    { 6, HASTEN, .want = WAIT, .wake_sec = 6 },
                    { 6, TIME, .want = CONNECT } } },

        /* lost connections */
        { "a connection lost during a wait is resumed with the same operation",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "1", .want = WAIT, .wake_sec = 1 },
                    { 0.5, LOST, BACK_AT(3), .state = DPS_REGISTRATION_BACKOFF, .error = DPS_ERROR_LOST,
                      .step = DPS_STEP_POLL },
                    { 3, TIME, .want = CONNECT },
                    { 3, READY, .want = POLL },
                    { 3, ANSWER, ASSIGNED, .want = FINISH } } },
        { "a lost connection does not shorten the wait that was told",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "20", .want = WAIT, .wake_sec = 20 },
                    { 0, LOST, BACK_AT(20) },
                    { 5, HASTEN, .want = WAIT, .wake_sec = 20 } } },
        { "a lost poll is repeated, after many failures too", .history = { .attempts = 30 },
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 29, LOST, .late = true, BACK_AT(629) },
                    { 629, TIME, .want = CONNECT },
                    { 640, LOST, .late = true, BACK_AT(1240) },
                    { 1240, TIME, .want = CONNECT },
                    { 1240, READY, .want = POLL } } },
        { "a lost register is sent again", .rows = { REGISTERED,
                                                     { 3, LOST, BACK_AT(5.5), .step = DPS_STEP_REGISTER },
                                                     { 5.5, TIME, .want = CONNECT },
                                                     { 6, READY, .want = REGISTER } } },
        { "a failed connection is repeated", .rows = { { 0, BEGIN, .want = CONNECT },
                                                       { 9, LOST, BACK_AT(11.5), .step = DPS_STEP_CONNECT },
                                                       { 11.5, TIME, .want = CONNECT } } },

        /* silence */
        { "silence after register ends in 30 s",
          .rows = { REGISTERED,
                    { 29.9, TIME, .want = WAIT, .wake_sec = 30 },
                    { 30, TIME, BACK_AT(32.5), .state = DPS_REGISTRATION_BACKOFF, .error = DPS_ERROR_TIMEOUT,
                      .step = DPS_STEP_REGISTER } } },
        { "silence after a poll ends in 30 s, and the poll is repeated",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 30, TIME, BACK_AT(32.5), .error = DPS_ERROR_TIMEOUT, .step = DPS_STEP_POLL },
                    { 32.5, TIME, .want = CONNECT },
                    { 32.5, READY, .want = POLL } } },
        { "ten minutes without the told waits end an attempt and its operation",
          .rows = { REGISTERED,
                    { 29, ANSWER, ASSIGNING, .after = "900", BACK_AT(929) },
                    { 929, TIME, .want = CONNECT },
                    { 1465, READY, .want = POLL, .wake_sec = 1495 },
                    { 1490, ANSWER, ASSIGNING, .after = "1", .want = WAIT, .wake_sec = 1491 },
                    { 1491, TIME, .want = POLL, .wake_sec = 1500.9 },
                    { 1501, TIME, BACK_AT(1503.5), .error = DPS_ERROR_TIMEOUT, .step = DPS_STEP_POLL },
                    { 1504, TIME, .want = CONNECT },
                    { 1504, READY, .want = REGISTER } } },
        { "an operation without time left is dropped",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 202, .body = "{\"operationId\":\"3.old\"}", .after = "60",
                      BACK_AT(60) },
                    { 60, TIME, .want = CONNECT },
                    { 631, READY, .want = REGISTER, .wake_sec = 661 },
                    { 631, ANSWER, ASSIGNING, .after = "0", .want = POLL } } },
        { "an operation with time left is polled again",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "60", BACK_AT(60) },
                    { 60, TIME, .want = CONNECT },
                    { 630, READY, .want = POLL, .wake_sec = 660 } } },
        { "an answer after a suspend of an hour ends the attempt",
          .rows = { REGISTERED,
                    { 3600, ANSWER, ASSIGNING, .after = "3", BACK_AT(3603), .error = DPS_ERROR_TIMEOUT } } },
        { "a wait that a suspend made an hour long ends the attempt",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "3", .want = WAIT, .wake_sec = 3 },
                    { 3600, TIME, BACK_AT(3602.5), .error = DPS_ERROR_TIMEOUT } } },
        { "an assignment is accepted however late it comes",
          .rows = { REGISTERED, { 3600, ANSWER, ASSIGNED, .want = FINISH } } },

        /* events that do not belong to the last request */
        { "an answer to another device's request changes nothing",
          .rows = { REGISTERED,
                    { 1, FOREIGN, ASSIGNED, .want = WAIT, .wake_sec = 30,
                      .state = DPS_REGISTRATION_REGISTERING } } },
        { "an answer to the request before changes nothing",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 1, STALE, REFUSAL(404), .after = "900", .want = WAIT, .wake_sec = 30 },
                    { 1, ANSWER, ASSIGNING, .after = "0", .want = POLL } } },
        { "a second answer to one request changes nothing",
          .rows = { REGISTERED,
                    { 0, ANSWER, ASSIGNING, .after = "3", .want = WAIT, .wake_sec = 3 },
                    { 1, ANSWER, REFUSAL(429), .after = "900", .want = WAIT, .wake_sec = 3,
                      .state = DPS_REGISTRATION_PAUSING } } },
        { "an answer to a request of the last connection changes nothing",
          .rows = { REGISTERED,
                    { 1, LOST, BACK_AT(3.5) },
                    { 2, ANSWER, ASSIGNED, .want = WAIT, .wake_sec = 3.5 },
                    { 3.5, TIME, .want = CONNECT },
                    { 3.6, ANSWER, ASSIGNED, .want = WAIT, .wake_sec = NEVER },
                    { 4, READY, .want = REGISTER },
                    { 4, STALE, ASSIGNED, .want = WAIT, .wake_sec = 34 } } },
        { "events without a connection change nothing",
          .rows = { REGISTERED,
                    { 1, LOST, BACK_AT(3.5) },
                    { 1, LOST, .want = WAIT, .wake_sec = 3.5 },
                    { 1, REFUSED, .want = WAIT, .wake_sec = 3.5 },
                    { 1, READY, .want = WAIT, .wake_sec = 3.5, .error = DPS_ERROR_LOST } } },
        { "events after the end change nothing",
          .rows = { REGISTERED,
                    { 1, ANSWER, ASSIGNED, .want = FINISH },
                    { 1, LOST, .want = WAIT, .wake_sec = NEVER },
                    { 1, ANSWER, REFUSAL(429), .want = WAIT, .wake_sec = NEVER },
                    { 1, TIME, .want = WAIT, .wake_sec = NEVER },
                    { 1, HASTEN, .want = WAIT, .wake_sec = NEVER, .state = DPS_REGISTRATION_ASSIGNED } } },
        { "events before the beginning change nothing",
          .rows = { { 0, READY, .want = WAIT, .wake_sec = NEVER },
                    { 0, ANSWER, ASSIGNED, .want = WAIT, .wake_sec = NEVER },
                    { 0, LOST, .want = WAIT, .wake_sec = NEVER },
                    { 0, TIME, .want = WAIT, .wake_sec = NEVER },
                    { 0, HASTEN, .want = WAIT, .wake_sec = NEVER },
                    REGISTERED } },
        { "a second begin changes nothing",
          .rows = { REGISTERED, { 1, BEGIN, .want = WAIT, .wake_sec = 30 } } },

        /* credentials */
        { "the next credential is tried at once; the last refusal is final", .n_credentials = 2,
          .rows = { { 0, BEGIN, .want = CONNECT, .credential = 0 },
                    { 1, REFUSED, .want = CONNECT, .credential = 1, .error = DPS_ERROR_AUTH },
                    { 2, REFUSED, BACK_AT(50), .state = DPS_REGISTRATION_FAILED, .error = DPS_ERROR_AUTH,
                      .step = DPS_STEP_LOGIN },
                    { 50, TIME, .want = CONNECT, .credential = 0 },
                    { 50, REFUSED, .want = CONNECT, .credential = 1 } } },
        { "a credential refused at poll ends the operation", .n_credentials = 2,
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, ANSWER, REFUSAL(401), .want = CONNECT, .credential = 1, .step = DPS_STEP_POLL },
                    { 0, READY, .want = REGISTER } } },
        { "a credential refused at register counts like one refused at login", .n_credentials = 2,
          .rows = { REGISTERED,
                    { 1, ANSWER, .status = 401, .body = "{\"errorCode\":401000}", .want = CONNECT,
                      .credential = 1, .error = DPS_ERROR_AUTH, .step = DPS_STEP_REGISTER },
                    { 1, READY, .want = REGISTER, .credential = 1 },
                    { 1, ANSWER, REFUSAL(401), BACK_AT(49), .state = DPS_REGISTRATION_FAILED } } },
        { "all credentials are tried, beginning with the one that worked last", .n_credentials = 3,
          .history = { .credential = 1 },
          .rows = { { 0, BEGIN, .want = CONNECT, .credential = 1 },
                    { 0, REFUSED, .want = CONNECT, .credential = 2 },
                    { 0, REFUSED, .want = CONNECT, .credential = 0 },
                    { 0, REFUSED, BACK_AT(48), .credential = 1 } } },
        { "another failure between refusals does not restart the round", .n_credentials = 2,
          .rows = { { 0, BEGIN, .want = CONNECT },
                    { 0, REFUSED, .want = CONNECT, .credential = 1 },
                    { 0, LOST, BACK_AT(2.5) },
                    { 2.5, TIME, .want = CONNECT, .credential = 1 },
                    { 2.5, REFUSED, .want = RELEASE, .state = DPS_REGISTRATION_FAILED } } },
        { "a refusal's retry-after is obeyed before the next credential", .n_credentials = 2,
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(401), .after = "50", .late = true, BACK_AT(60),
                      .state = DPS_REGISTRATION_BACKOFF, .credential = 1 },
                    { 60, TIME, .want = CONNECT, .credential = 1 } } },
        { "the index of a credential that is gone is not used", .n_credentials = 2,
          .history = { .credential = 7 }, .rows = { { 0, BEGIN, .want = CONNECT, .credential = 0 } } },
        { "a refused login is a clock error while the clock is not synchronised",
          .rows = { { 0, BEGIN, .want = CONNECT },
                    { 0, REFUSED, .clock_wrong = true, BACK_AT(2.5), .state = DPS_REGISTRATION_BACKOFF,
                      .error = DPS_ERROR_CLOCK, .step = DPS_STEP_LOGIN },
                    { 2.5, TIME, .want = CONNECT },
                    { 2.5, REFUSED, .clock_wrong = true, BACK_AT(7.5) },
                    { 3, HASTEN, .want = WAIT, .wake_sec = 3 } } },
        { "a refused register is a clock error while the clock is not synchronised",
          .rows = { REGISTERED,
                    { 0, ANSWER, .status = 401, .body = "{\"errorCode\":401002}", .clock_wrong = true,
                      BACK_AT(2.5), .state = DPS_REGISTRATION_BACKOFF, .error = DPS_ERROR_CLOCK,
                      .step = DPS_STEP_REGISTER } } },
        { "the second credential is tried while the clock is not synchronised, too", .n_credentials = 2,
          .rows = { { 0, BEGIN, .want = CONNECT },
                    { 0, REFUSED, .clock_wrong = true, .want = CONNECT, .credential = 1 },
                    { 0, READY, .want = REGISTER } } },

        /* what carries over */
        { "after a restart it keeps the planned time",
          .history = { .attempts = 3, .next_usec = 100 * USEC_PER_SEC },
          .rows = { { 40, BEGIN, BACK_AT(100), .state = DPS_REGISTRATION_BACKOFF },
                    { 50, HASTEN, .want = WAIT, .wake_sec = 50 },
                    { 50, TIME, .want = CONNECT },
                    { 50, LOST, .late = true, BACK_AT(90) } } },
        { "what DPS told holds over a restart, whatever happens",
          .history = { .attempts = 1, .not_before_usec = 100 * USEC_PER_SEC, .next_usec = 50 * USEC_PER_SEC },
          .rows = { { 40, BEGIN, BACK_AT(100) }, { 50, HASTEN, .want = WAIT, .wake_sec = 100 } } },
        { "a final answer stays final over a restart",
          .history = { .attempts = 1, .finals = 1, .next_usec = 100 * USEC_PER_SEC },
          .rows = { { 40, BEGIN, BACK_AT(100), .state = DPS_REGISTRATION_FAILED },
                    { 100, TIME, .want = CONNECT },
                    { 100, REFUSED, BACK_AT(196) } } },
        { "an attempt planned for the past begins at once",
          .history = { .attempts = 3, .not_before_usec = 30 * USEC_PER_SEC, .next_usec = 30 * USEC_PER_SEC },
          .rows = { { 40, BEGIN, .want = CONNECT } } },
        { "a not-before time far away counts as a day",
          .history = { .not_before_usec = UINT64_MAX, .next_usec = 1 },
          .rows = { { 40, BEGIN, BACK_AT(86440) } } },
        { "a planned time far away counts as 1.2 days", .history = { .next_usec = UINT64_MAX },
          .rows = { { 40, BEGIN, BACK_AT(103720) } } },

        /* hasten and pause */
        { "hasten ends a back-off, spread over time",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(500), .late = true, BACK_AT(5) },
                    { 1, HASTEN, .spread_sec = 2, .late = true, .want = WAIT, .wake_sec = 3 },
                    { 1, HASTEN, .spread_sec = 8, .late = true, .want = WAIT, .wake_sec = 3 } } },
        { "hasten with a spread ends no wait at once",
          .rows = { REGISTERED,
                    { 0, LOST, BACK_AT(2.5) },
                    { 0, HASTEN, .spread_sec = 2, .want = WAIT, .wake_sec = 1 } } },
        { "hasten changes nothing in flight",
          .rows = { REGISTERED,
                    { 0, HASTEN, .want = WAIT, .wake_sec = 30 },
                    { 0, ANSWER, ASSIGNING, .after = "10", .want = WAIT, .wake_sec = 10 },
                    { 1, HASTEN, .want = WAIT, .wake_sec = 10 },
                    { 10, TIME, .want = POLL },
                    { 10, ANSWER, ASSIGNING, .after = "60", BACK_AT(70) },
                    { 11, HASTEN, .want = WAIT, .wake_sec = 70 } } },
        { "a pause of the scope delays a planned register, plus up to a fifth",
          .rows = { REGISTERED,
                    { 0, LOST, BACK_AT(2.5) },
                    { 1, PAUSE, .until_sec = 101, .late = true, .want = WAIT, .wake_sec = 121 },
                    { 2, PAUSE, .until_sec = 101, .late = true, .want = WAIT, .wake_sec = 121 },
                    { 3, HASTEN, .want = WAIT, .wake_sec = 121 } } },
        { "a pause of the scope makes nothing earlier",
          .rows = { REGISTERED,
                    { 0, ANSWER, REFUSAL(404), BACK_AT(48) },
                    { 1, PAUSE, .until_sec = 31, .want = WAIT, .wake_sec = 48 },
                    { 40, PAUSE, .until_sec = 31, .want = WAIT, .wake_sec = 48 } } },
        { "a pause of the scope holds for a registration not yet begun",
          .rows = { { 0, PAUSE, .until_sec = 60, .want = WAIT, .wake_sec = NEVER },
                    { 1, BEGIN, BACK_AT(60) },
                    { 60, TIME, .want = CONNECT } } },
        { "a registration begun in a pause of the scope is spread after it",
          .rows = { { 0, PAUSE, .until_sec = 60, .late = true, .want = WAIT, .wake_sec = NEVER },
                    { 1, BEGIN, BACK_AT(72) } } },
        { "a pause of the scope does not delay polls",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 0, LOST, BACK_AT(2.5) },
                    { 1, PAUSE, .until_sec = 101, .want = WAIT, .wake_sec = 2.5 } } },
        { "a pause of the scope does not delay a reconnect to poll",
          .rows = { REGISTERED,
                    POLLED_AT_0,
                    { 1, PAUSE, .until_sec = 101, .want = WAIT, .wake_sec = 30 },
                    { 2, LOST, BACK_AT(4.5) },
                    { 3, HASTEN, .want = WAIT, .wake_sec = 3 } } },
        { "a pause of the scope is harmless in flight, and holds for the next attempt",
          .rows = { REGISTERED,
                    { 1, PAUSE, .until_sec = 101, .want = WAIT, .wake_sec = 30 },
                    { 2, LOST, BACK_AT(101) } } },
        { "a connection made in a pause of the scope does not register",
          .rows = { { 0, BEGIN, .want = CONNECT, .wake_sec = NEVER },
                    { 1, PAUSE, .until_sec = 101, .want = WAIT, .wake_sec = NEVER },
                    { 2, READY, BACK_AT(101) } } },
        { "an endless pause of the scope counts as a day",
          .rows = { REGISTERED,
                    { 0, LOST, BACK_AT(2.5) },
                    { 0, PAUSE, .until_sec = 1e12, .want = WAIT, .wake_sec = 86400 } } },
};

/* ---- what the scripts cannot express ---- */

#define MOMENT(sec) ((DpsMoment){ .now_usec = (sec) *USEC_PER_SEC, .clock_synchronized = true })

static void throttle(DpsRegistration *g, uint64_t request_id, uint64_t sec, DpsMoment at) {
        DpsReply reply = {
                .status = 429, .request_id = request_id, .has_retry_after = true, .retry_after_sec = sec
        };

        (void) dps_registration_on_reply(g, &reply, at);
}

static void test_history_leads_to_the_same_plan(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL, *after = NULL;
        DpsRegistrationHistory history;
        DpsAction a;

        assert_int_equal(dps_registration_new(2, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(10));
        a = dps_registration_on_ready(g, MOMENT(10));
        throttle(g, a.request.request_id, 900, MOMENT(10));
        history = dps_registration_history(g);
        assert_int_equal(history.attempts, 1);
        assert_int_equal(history.finals, 0);
        assert_int_equal(history.not_before_usec, 910 * USEC_PER_SEC);
        assert_int_equal(history.next_usec, 910 * USEC_PER_SEC);

        assert_int_equal(dps_registration_new(2, &history, &after), 0);
        a = dps_registration_begin(after, MOMENT(20));
        assert_int_equal(a.type, DPS_ACTION_RELEASE);
        assert_int_equal(a.wake_usec, 910 * USEC_PER_SEC);
        assert_int_equal(dps_registration_told_usec(after), 910 * USEC_PER_SEC);
}

static void test_told_is_the_retry_after_of_the_last_attempt(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsError error;
        DpsAction a;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(10));
        a = dps_registration_on_ready(g, MOMENT(10));
        assert_int_equal(dps_registration_told_usec(g), 0);
        throttle(g, a.request.request_id, 60, MOMENT(10));
        assert_int_equal(dps_registration_told_usec(g), 70 * USEC_PER_SEC);

        (void) dps_registration_on_time(g, MOMENT(70));
        assert_int_equal(dps_registration_told_usec(g), 0);
        dps_error_set(&error, DPS_ERROR_UNREACHABLE, DPS_STEP_CONNECT, "no route");
        (void) dps_registration_on_lost(g, &error, MOMENT(71));
        assert_int_equal(dps_registration_told_usec(g), 0);
}

static void test_told_is_the_end_of_a_pause_that_it_begins_in(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_pause(g, 60 * USEC_PER_SEC, MOMENT(10));
        (void) dps_registration_begin(g, MOMENT(10));
        assert_int_equal(dps_registration_told_usec(g), 60 * USEC_PER_SEC);
}

static void test_told_is_the_end_of_a_pause_that_is_prolonged(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_pause(g, 60 * USEC_PER_SEC, MOMENT(10));
        (void) dps_registration_begin(g, MOMENT(10));
        (void) dps_registration_pause(g, 120 * USEC_PER_SEC, MOMENT(20));
        assert_true(dps_registration_next_usec(g) >= 120 * USEC_PER_SEC);
        assert_int_equal(dps_registration_told_usec(g), dps_registration_next_usec(g));
}

static void test_told_is_the_end_of_a_pause_that_it_connects_in(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(10));
        (void) dps_registration_pause(g, 60 * USEC_PER_SEC, MOMENT(10));
        (void) dps_registration_on_ready(g, MOMENT(11));
        assert_int_equal(dps_registration_told_usec(g), dps_registration_next_usec(g));
        assert_true(dps_registration_told_usec(g) >= 60 * USEC_PER_SEC);
}

static void test_only_a_credential_that_worked_is_remembered(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsReply reply = { .status = 200, .word = DPS_STATUS_ASSIGNED };
        DpsError error;

        assert_int_equal(dps_registration_new(2, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(1));
        dps_error_set(&error, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "not authorized");
        (void) dps_registration_on_lost(g, &error, MOMENT(1));
        assert_int_equal(dps_registration_credential(g), 1);
        assert_int_equal(dps_registration_history(g).credential, 0);

        reply.request_id = dps_registration_on_ready(g, MOMENT(1)).request.request_id;
        assert_int_equal(dps_registration_on_reply(g, &reply, MOMENT(1)).type, DPS_ACTION_FINISH);
        assert_int_equal(dps_registration_history(g).credential, 1);
        assert_int_equal(dps_registration_error(g)->id, DPS_ERROR_NONE);
}

static void test_a_failed_operation_tells_its_code_and_tracking_id(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsReply reply = { .status = 401, .error_code = 401002, .tracking_id = (char *) "a-b-c" };
        const DpsError *error;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(1));
        reply.request_id = dps_registration_on_ready(g, MOMENT(1)).request.request_id;
        (void) dps_registration_on_reply(g, &reply, (DpsMoment){ .now_usec = USEC_PER_SEC });

        error = dps_registration_error(g);
        assert_int_equal(error->id, DPS_ERROR_CLOCK);
        assert_int_equal(error->code, 401002);
        assert_string_equal(error->tracking_id, "a-b-c");
        assert_false(error->final);
}

static void test_a_connection_lost_between_register_and_poll_fails_the_poll(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsReply reply = { .status = 202, .word = DPS_STATUS_ASSIGNING, .operation_id = (char *) "4.a" };
        DpsError error;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(1));
        reply.request_id = dps_registration_on_ready(g, MOMENT(1)).request.request_id;
        (void) dps_registration_on_reply(g, &reply, MOMENT(1));
        assert_int_equal(dps_registration_state(g), DPS_REGISTRATION_PAUSING);

        dps_error_set(&error, DPS_ERROR_LOST, DPS_STEP_REGISTER, "the peer closed the connection");
        (void) dps_registration_on_lost(g, &error, MOMENT(2));
        assert_int_equal(dps_registration_error(g)->step, DPS_STEP_POLL);
}

static void test_only_an_answer_is_final(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsError error;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(1));
        dps_error_set(&error, DPS_ERROR_TLS, DPS_STEP_TLS, "no");
        error.final = true;
        (void) dps_registration_on_lost(g, &error, MOMENT(1));
        assert_int_equal(dps_registration_state(g), DPS_REGISTRATION_BACKOFF);
        assert_false(dps_registration_error(g)->final);
}

static void test_a_refusal_is_final_once_no_credential_is_left(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsReply reply = { .status = 401 };

        assert_int_equal(dps_registration_new(2, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(1));
        for (int i = 0; i < 2; i++) {
                assert_false(dps_registration_error(g)->final);
                reply.request_id = dps_registration_on_ready(g, MOMENT(1)).request.request_id;
                (void) dps_registration_on_reply(g, &reply, MOMENT(1));
        }
        assert_true(dps_registration_error(g)->final);
}

/* A poll may travel slowly: only its answer proves that the service has counted it. */
static void test_a_poll_counts_until_10_s_after_its_answer(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsReply reply = { .status = 202, .has_retry_after = true, .operation_id = (char *) "4.op" };
        DpsAction a;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, MOMENT(0));
        a = dps_registration_on_ready(g, MOMENT(0));
        for (uint64_t sec = 0; sec <= 10; sec += 2) {
                assert_int_equal(a.type, DPS_ACTION_SEND);
                reply.request_id = a.request.request_id;
                a = dps_registration_on_reply(g, &reply, MOMENT(sec));
        }
        assert_int_equal(a.type, DPS_ACTION_WAIT);
        assert_int_equal(a.wake_usec, 12 * USEC_PER_SEC); /* sent at 0, answered at 2 */
}

/* Otherwise many registrations in a row would poll without a limit. */
static void test_the_next_registration_counts_the_polls_of_the_last(void **state) {
        DpsRegistrationHistory history = { 0 };
        DpsReply assigning = { .status = 202, .has_retry_after = true, .operation_id = (char *) "4.op" };
        DpsReply assigned = { .status = 200,
                              .word = DPS_STATUS_ASSIGNED,
                              .assigned_hub = (char *) "hub",
                              .device_id = (char *) "gw" };
        DpsAction a;

        for (unsigned k = 0; k < DPS_POLLS_MAX; k++) {
                _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;

                assert_int_equal(dps_registration_new(1, &history, &g), 0);
                (void) dps_registration_begin(g, MOMENT(1));
                a = dps_registration_on_ready(g, MOMENT(1));
                assigning.request_id = a.request.request_id;
                a = dps_registration_on_reply(g, &assigning, MOMENT(1));
                assert_int_equal(a.type, DPS_ACTION_SEND);
                assigned.request_id = a.request.request_id;
                a = dps_registration_on_reply(g, &assigned, MOMENT(1));
                assert_int_equal(a.type, DPS_ACTION_FINISH);
                history = dps_registration_history(g);
        }

        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        assert_int_equal(dps_registration_new(1, &history, &g), 0);
        (void) dps_registration_begin(g, MOMENT(2));
        a = dps_registration_on_ready(g, MOMENT(2));
        assigning.request_id = a.request.request_id;
        a = dps_registration_on_reply(g, &assigning, MOMENT(2));
        assert_int_equal(a.type, DPS_ACTION_WAIT);
        assert_int_equal(a.wake_usec, 11 * USEC_PER_SEC);
}

static void test_times_do_not_overflow(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        DpsMoment at = { .now_usec = UINT64_MAX - 1, .random = UINT64_MAX };
        DpsAction a;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        (void) dps_registration_begin(g, at);
        a = dps_registration_on_ready(g, at);
        assert_int_equal(a.wake_usec, UINT64_MAX);
        throttle(g, a.request.request_id, UINT64_MAX, at);
        assert_int_equal(dps_registration_next_usec(g), UINT64_MAX);
        (void) dps_registration_pause(g, UINT64_MAX, at);
        a = dps_registration_hasten(g, UINT64_MAX, at);
        assert_int_equal(a.wake_usec, UINT64_MAX);
}

static void test_every_state_has_a_name_of_its_own(void **state) {
        for (DpsRegistrationState i = 0; i < _DPS_REGISTRATION_STATE_MAX; i++)
                for (DpsRegistrationState j = 0; j < i; j++)
                        assert_string_not_equal(dps_registration_state_to_string(i),
                                                dps_registration_state_to_string(j));
}

int main(void) {
        static const struct CMUnitTest others[] = {
                cmocka_unit_test(test_history_leads_to_the_same_plan),
                cmocka_unit_test(test_told_is_the_retry_after_of_the_last_attempt),
                cmocka_unit_test(test_told_is_the_end_of_a_pause_that_it_begins_in),
                cmocka_unit_test(test_told_is_the_end_of_a_pause_that_is_prolonged),
                cmocka_unit_test(test_told_is_the_end_of_a_pause_that_it_connects_in),
                cmocka_unit_test(test_only_a_credential_that_worked_is_remembered),
                cmocka_unit_test(test_a_failed_operation_tells_its_code_and_tracking_id),
                cmocka_unit_test(test_a_connection_lost_between_register_and_poll_fails_the_poll),
                cmocka_unit_test(test_only_an_answer_is_final),
                cmocka_unit_test(test_a_refusal_is_final_once_no_credential_is_left),
                cmocka_unit_test(test_a_poll_counts_until_10_s_after_its_answer),
                cmocka_unit_test(test_the_next_registration_counts_the_polls_of_the_last),
                cmocka_unit_test(test_times_do_not_overflow),
                cmocka_unit_test(test_every_state_has_a_name_of_its_own),
        };
        struct CMUnitTest tests[ELEMENTSOF(scripts) + ELEMENTSOF(others)] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(scripts); i++)
                tests[i] = (struct CMUnitTest){ .name = scripts[i].promise,
                                                .test_func = script_check,
                                                .initial_state = (void *) &scripts[i] };
        memcpy(tests + ELEMENTSOF(scripts), others, sizeof(others));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
