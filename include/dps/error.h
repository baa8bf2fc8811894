/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What can go wrong between a device and its hub. Programs compare the DpsErrorId, or its word (D-Bus
 * LastErrorId, `dpsctl explain`): words are added, and never change their meaning.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum DpsErrorId {
        DPS_ERROR_NONE,            /* "" */
        DPS_ERROR_DNS,             /* "dns" */
        DPS_ERROR_UNREACHABLE,     /* "unreachable": no route, or the network is down */
        DPS_ERROR_REFUSED,         /* "refused": TCP connection refused, or reset before TLS */
        DPS_ERROR_TIMEOUT,         /* "timeout": the deadline of a step or of the attempt has passed */
        DPS_ERROR_LOST,            /* "lost": the connection broke */
        DPS_ERROR_TLS,             /* "tls": any other TLS failure */
        DPS_ERROR_TLS_NAME,        /* "tls-name" */
        DPS_ERROR_TLS_EXPIRED,     /* "tls-expired": or not yet valid, perhaps because our clock is wrong */
        DPS_ERROR_TLS_UNTRUSTED,   /* "tls-untrusted" */
        DPS_ERROR_TLS_INTERCEPTED, /* "tls-intercepted" */
        DPS_ERROR_AUTH,            /* "auth": DPS refused key, token or certificate */
        DPS_ERROR_ENROLLMENT_DISABLED, /* "enrollment-disabled" */
        DPS_ERROR_ENROLLMENT_UNKNOWN,  /* "enrollment-unknown" */
        DPS_ERROR_ALLOCATION,          /* "allocation": no hub, the hub refused DPS, or the webhook failed */
        DPS_ERROR_API_VERSION,         /* "api-version" */
        DPS_ERROR_REQUEST,             /* "request": any other 4xx */
        DPS_ERROR_CONFLICT,            /* "conflict": 409 */
        DPS_ERROR_THROTTLED,           /* "throttled": 429 */
        DPS_ERROR_SERVICE,             /* "service": 5xx, 499 */
        DPS_ERROR_PROTOCOL,            /* "protocol": the answer is malformed or means nothing */
        DPS_ERROR_OPERATION_LOST,      /* "operation-lost": 404 at poll; the device registers again */
        DPS_ERROR_CLOCK,               /* "clock" */
        DPS_ERROR_CONFIG,              /* "config" */
        DPS_ERROR_KEY,                 /* "key" */
        DPS_ERROR_ISSUANCE,            /* "issuance": DPS issued no certificate that can be used */
        DPS_ERROR_DISK,                /* "disk" */
        DPS_ERROR_MEMORY,              /* "memory" */
        DPS_ERROR_PROXY,               /* "proxy": the proxy cannot be used, or refused to connect us */
        _DPS_ERROR_MAX,
} DpsErrorId;

/** The steps of an attempt. Each has a deadline of its own, and errors name it. */
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
        DPS_STEP_ATTEST,    /* "attest": the TPM takes a key from DPS */
        _DPS_STEP_MAX,
} DpsStep;

/** What to do after an answer of DPS. */
typedef enum DpsVerdict {
        DPS_VERDICT_ASSIGNED,  /* done: hub and device id are in the answer */
        DPS_VERDICT_ASSIGNING, /* poll */
        DPS_VERDICT_RETRY,     /* a failure that may pass: try again */
        DPS_VERDICT_FINAL,     /* DPS understood the request and refused it: do not ask again soon */
        DPS_VERDICT_CHALLENGE, /* no failure: the TPM has to prove itself with the key in the answer */
} DpsVerdict;

#define DPS_TRACKING_ID_MAX 64 /* bytes, with the NUL byte */
#define DPS_MESSAGE_MAX 256    /* bytes, with the NUL byte */

/** One error. A plain value that owns nothing, copied by assignment. */
typedef struct DpsError {
        DpsErrorId id;
        DpsStep step;
        uint32_t code; /* DPS's extended code, such as 401002, else its status; 0: not from DPS */
        bool final;    /* DPS understood the request and refused it */
        char tracking_id[DPS_TRACKING_ID_MAX]; /* Microsoft's support asks for it; "" if there is none */
        char message[DPS_MESSAGE_MAX];         /* for people: one line of UTF-8, safe to log */
} DpsError;

/**
 * Sets an error that is not an answer of DPS: code 0, not final, no tracking id. `format` and what follows
 * are as for printf(). If the message is too long, its long words (paths) lose their middle first, because
 * the cause stands at the end. Arguments may point into `error`. Never fails: without memory the message is
 * the id's meaning.
 */
void dps_error_set(DpsError *error, DpsErrorId id, DpsStep step, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/** The word of an id, "" for DPS_ERROR_NONE. All text that the functions below return is static. */
const char *dps_error_id_to_string(DpsErrorId id);
/** 0, or -EINVAL: there is no such word (and "" is none). */
int dps_error_id_from_string(const char *word, DpsErrorId *ret);
/** The word of a step, "" for DPS_STEP_NONE. */
const char *dps_step_to_string(DpsStep step);

/** What an error means, in one line for people. Never NULL for a valid id. */
const char *dps_error_id_meaning(DpsErrorId id);
/** What to do about it, in one line for people. Never NULL for a valid id. */
const char *dps_error_id_advice(DpsErrorId id);

/** What a code of DPS means. */
typedef struct DpsCode {
        DpsErrorId id;
        DpsVerdict verdict;  /* RETRY or FINAL */
        const char *meaning; /* one line for people */
        const char *advice;  /* one line for people */
} DpsCode;

/**
 * Looks up an extended code (401002: HTTP status · 1000 + n) or a plain status (429). Microsoft publishes no
 * complete list ("Troubleshoot DPS" explains the statuses), so a code that is not known here counts as its
 * status, and a status that is not known is final.
 */
DpsCode dps_code_lookup(uint32_t code);

/**
 * What to do about an error, in one line for people: the advice of its code, if the code is of the same id,
 * else that of the id. (A 401 that came while the clock was wrong has the id CLOCK, and needs other advice
 * than a 401.)
 */
const char *dps_error_advice(const DpsError *error);

#ifdef __cplusplus
}
#endif
