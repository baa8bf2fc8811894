/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What can go wrong between a device and its hub, in stable words. `DpsErrorId` is what programs compare
 * (D-Bus LastErrorId, `dpsctl explain`); the names never change meaning.
 */

#include <stdbool.h>
#include <stdint.h>

typedef enum DpsErrorId {
        DPS_ERROR_NONE,                /* "" */
        DPS_ERROR_DNS,                 /* "dns" */
        DPS_ERROR_UNREACHABLE,         /* "unreachable": no route, network down */
        DPS_ERROR_REFUSED,             /* "refused": TCP connection refused or reset before TLS */
        DPS_ERROR_TIMEOUT,             /* "timeout": a step's or the attempt's deadline */
        DPS_ERROR_LOST,                /* "lost": the connection broke */
        DPS_ERROR_TLS,                 /* "tls": any other TLS failure */
        DPS_ERROR_TLS_NAME,            /* "tls-name" */
        DPS_ERROR_TLS_EXPIRED,         /* "tls-expired": expired, or not yet valid (then suspect the clock) */
        DPS_ERROR_TLS_UNTRUSTED,       /* "tls-untrusted" */
        DPS_ERROR_TLS_INTERCEPTED,     /* "tls-intercepted" */
        DPS_ERROR_AUTH,                /* "auth": DPS refused key, token or certificate */
        DPS_ERROR_ENROLLMENT_DISABLED, /* "enrollment-disabled" */
        DPS_ERROR_ENROLLMENT_UNKNOWN,  /* "enrollment-unknown" */
        DPS_ERROR_ALLOCATION,          /* "allocation": no hub, hub refused DPS, or the webhook failed */
        DPS_ERROR_API_VERSION,         /* "api-version" */
        DPS_ERROR_REQUEST,             /* "request": any other 4xx */
        DPS_ERROR_CONFLICT,            /* "conflict": 409 */
        DPS_ERROR_THROTTLED,           /* "throttled": 429 */
        DPS_ERROR_SERVICE,             /* "service": 5xx, 499 */
        DPS_ERROR_PROTOCOL,            /* "protocol": an answer that is none */
        DPS_ERROR_OPERATION_LOST,      /* "operation-lost": 404 at poll; registered anew */
        DPS_ERROR_CLOCK,               /* "clock" */
        DPS_ERROR_CONFIG,              /* "config" */
        DPS_ERROR_KEY,                 /* "key" */
        DPS_ERROR_DISK,                /* "disk" */
        DPS_ERROR_MEMORY,              /* "memory" */
        _DPS_ERROR_MAX,
} DpsErrorId;

/** The steps of an attempt, each with a deadline of its own and named in errors. */
typedef enum DpsStep {
        DPS_STEP_NONE,      /* "" */
        DPS_STEP_CONFIG,    /* "config" */
        DPS_STEP_RESOLVE,   /* "resolve" */
        DPS_STEP_CONNECT,   /* "connect": TCP */
        DPS_STEP_TLS,       /* "tls" */
        DPS_STEP_LOGIN,     /* "login": MQTT CONNECT */
        DPS_STEP_SUBSCRIBE, /* "subscribe" */
        DPS_STEP_REGISTER,  /* "register" */
        DPS_STEP_POLL,      /* "poll" */
        DPS_STEP_STORE,     /* "store" */
        _DPS_STEP_MAX,
} DpsStep;

/** What to do with an answer of DPS. */
typedef enum DpsVerdict {
        DPS_VERDICT_ASSIGNED,
        DPS_VERDICT_ASSIGNING, /* ask again */
        DPS_VERDICT_RETRY,     /* a failure that may pass */
        DPS_VERDICT_FINAL,     /* understood and denied: asking again soon is a flood */
} DpsVerdict;

#define DPS_TRACKING_ID_MAX 64
#define DPS_MESSAGE_MAX 256

/** One failure. A plain value, copied by assignment. */
typedef struct DpsError {
        DpsErrorId id;
        DpsStep step;
        uint32_t code; /* DPS's extended code, such as 401002, else its status; 0: not from DPS */
        bool final;    /* understood and denied by DPS */
        char tracking_id[DPS_TRACKING_ID_MAX]; /* for Microsoft's support; "" if there is none */
        char message
                [DPS_MESSAGE_MAX]; /* cause, for people, one line, made safe for logs: what was refused, by whom */
} DpsError;

/**
 * Sets a failure that is not an answer of DPS; printf-like message. Where it is too long, long words (paths) lose their
 * middle first: the cause is at the end.
 */
void dps_error_set(DpsError *error, DpsErrorId id, DpsStep step, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/** The stable word, "" for DPS_ERROR_NONE. */
const char *dps_error_id_to_string(DpsErrorId id);
/** -EINVAL: no such word. */
int dps_error_id_from_string(const char *word, DpsErrorId *ret);
const char *dps_step_to_string(DpsStep step);

/** One row of the manual of errors: what it means, and what to do. Never NULL for a valid id. */
const char *dps_error_id_meaning(DpsErrorId id);
const char *dps_error_id_advice(DpsErrorId id);

/**
 * What one of DPS's extended codes (401002) or a plain status (429) means. Where the very code is in no table, its
 * class (code / 1000) decides; an unknown class is final.
 */
typedef struct DpsCode {
        DpsErrorId id;
        DpsVerdict verdict; /* RETRY or FINAL */
        const char *meaning;
        const char *advice;
} DpsCode;
DpsCode dps_code_lookup(uint32_t code);

/** What to do about a failure: its code's advice, unless its id says something else: a 401 may be the clock's fault. */
const char *dps_error_advice(const DpsError *error);
