/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A transport carries one request at a time to DPS and brings its reply. It renders requests and parses replies
 * with libdps and knows nothing else of what they mean: when to send what is the registration's business.
 */

#include <stdint.h>
#include <systemd/sd-event.h>

#include "dps/error.h"
#include "dps/reply.h"
#include "dps/request.h"
#include "transport/resolver.h"
#include "transport/tls.h"

typedef struct Transport Transport;

/* Where to, and as whom. Everything is copied or referenced; the caller keeps what it owns. */
typedef struct TransportTarget {
        sd_event *event;
        Resolver *resolver;
        TlsContext *tls;  /* for `host`, with the client certificate if there is one */
        const char *host; /* a name or a numeric address */
        uint16_t port;
        const char *registration_id;
        const char *username;
        const char *password; /* the SAS token; NULL with a client certificate */
} TransportTarget;

/* Called from the event loop, never from within a call of the transport; on_closed is the last call. In any of
 * them transport_free() is allowed. */
typedef struct TransportHandlers {
        void (*on_ready)(void *userdata); /* logged in: requests can be sent */
        void (*on_reply)(const DpsReply *reply, void *userdata);
        void (*on_closed)(const DpsError *error, void *userdata); /* failed or broke */
} TransportHandlers;

/* What an implementation has; the first member of its object is a Transport. */
typedef struct TransportOperations {
        int (*send)(Transport *t, const DpsRequest *request, const char *body);
        Transport *(*free)(Transport *t);
} TransportOperations;

struct Transport {
        const TransportOperations *operations;
};

/* Sends; the answer comes by on_reply, or not: the deadline is the registration's. `body` NULL: none.
 * -ENOTCONN: before on_ready, or after on_closed. */
static inline int transport_send(Transport *t, const DpsRequest *request, const char *body) {
        return t->operations->send(t, request, body);
}

/* Says goodbye if it can without waiting, and forgets everything. No handler is called from here on. */
static inline Transport *transport_free(Transport *t) {
        return t ? t->operations->free(t) : NULL;
}
