/* SPDX-License-Identifier: MIT */
#pragma once

/* One request to api.sock: what it asks for, and the answer. It knows HTTP's words but no sockets. Part of the module "api". */

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dpsd/manager.h"

#define API_BODY_MAX 4096U
#define API_WAIT_MAX_USEC (5 * USEC_PER_MINUTE)

typedef struct ApiPending ApiPending;
typedef struct ApiRequest ApiRequest;

struct ApiRequest {
        Manager *manager;
        const char *name; /* of the identity */
        bool is_allowed;  /* to use it */
        char body[API_BODY_MAX + 1];
        size_t size; /* of the body; larger than API_BODY_MAX: it was too large */

        bool has_begun;
        ApiPending *pending;              /* an identity is at work for it … */
        const struct ApiRoute *waiting;   /* … or it waits for another generation … */
        uint64_t generation;              /* … than this … */
        uint64_t until_usec;              /* … until then (CLOCK_BOOTTIME) */
        void (*on_answer)(ApiRequest *q); /* the answer is there, which was not when the request began */

        unsigned status;   /* 0: there is no answer yet */
        char *answer;      /* a secret perhaps; NULL: the answer is empty */
        const char *allow; /* for 405: the method that the path has; NULL: not needed */
};

/* Whoever gets a request in full calls this. */
void api_request_begin(ApiRequest *q, struct MHD_Connection *c, const char *method, const char *path);
/* The identity may be of another generation now. `i` NULL: it is gone. */
void api_request_changed(ApiRequest *q, Identity *i);
/* The time for the answer is over. */
void api_request_end(ApiRequest *q);
void api_request_done(ApiRequest *q);
