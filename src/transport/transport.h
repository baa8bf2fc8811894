/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A transport carries one request at a time to DPS and brings its reply. It renders requests and parses replies with
 * libdps and knows nothing else of what they mean: when to send what is the registration's business. Each way to DPS is a
 * class; transports.h has all of them.
 */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"
#include "config/proxy.h"
#include "config/settings.h"
#include "dps/error.h"
#include "dps/reply.h"
#include "dps/request.h"

typedef struct Transport Transport;
typedef struct TransportClass TransportClass;

/* Where to, and as whom. Everything is copied or referenced; the caller keeps what it owns. */
typedef struct TransportTarget {
        const char *host; /* a name or a numeric address */
        uint16_t port;
        char *const *addresses; /* names or numeric addresses to connect to instead of `host`; NULL: none */
        const Proxy *proxy;     /* NULL: none. It is asked for the first of `addresses`, else for `host` */
        char *const *ca_files;  /* NULL: what the system trusts */
        const char *id_scope, *registration_id, *api_version;
        const char *token;             /* a SAS token for DPS; NULL with a client certificate */
        STACK_OF(X509) * certificates; /* leaf first; NULL with a token */
        EVP_PKEY *key;
        bool is_slow; /* the key pauses while it signs (basic/pause.h) */
} TransportTarget;

/* Called from the event loop, never from within a call of the transport; on_closed is the last call. In any of
 * them transport_free() is allowed. */
typedef struct TransportHandlers {
        void (*on_ready)(void *userdata); /* requests can be sent */
        void (*on_reply)(const DpsReply *reply, void *userdata);
        void (*on_closed)(const DpsError *error, void *userdata); /* the connection failed */
} TransportHandlers;

typedef enum TransportAbility {
        TRANSPORT_TPM_CHALLENGE = 1 << 0, /* can carry the challenge of TPM attestation */
        TRANSPORT_LOG_IN = 1 << 1,        /* before on_ready, DPS has answered */
} TransportAbility;

/* The ways to DPS that a program has. The first member of a larger object. */
typedef struct Transports Transports;
struct Transports {
        /* The class for TRANSPORT_MQTT or TRANSPORT_HTTPS, opened when it is first asked for. -EOPNOTSUPP: it is not
         * installed; `error` says so. */
        int (*get)(Transports *t, TransportChoice way, TransportClass **ret, DpsError *error);
        void (*rest)(Transports *t); /* of all classes: see below */
};

struct TransportClass {
        const char *name; /* "mqtt", as the property Transport has it */
        unsigned abilities;
        /* `class` is the object that was given to transport_connect(), the first member of a larger one where connections
         * share something. Fills `error` on failure. */
        int (*connect)(TransportClass *class, const TransportTarget *target,
                       const TransportHandlers *handlers, void *userdata, Transport **ret, DpsError *error);
        int (*send)(Transport *t, const DpsRequest *request, const char *body);
        Transport *(*free)(Transport *t);
        /* Nobody is connected or wants to be: frees what connections share and the next one can make again. */
        void (*rest)(TransportClass *class);
        TransportClass *(*close)(TransportClass *class);
};

/* The first member of every Transport. */
struct Transport {
        TransportClass *class;
};

/* Begins to resolve and connect; returns at once. */
static inline int transport_connect(TransportClass *class, const TransportTarget *target,
                                    const TransportHandlers *handlers, void *userdata, Transport **ret,
                                    DpsError *error) {
        return class->connect(class, target, handlers, userdata, ret, error);
}

/* Sends; the answer comes by on_reply, or not: the deadline is the registration's. `body` NULL: none.
 * -ENOTCONN: before on_ready, or after on_closed. */
static inline int transport_send(Transport *t, const DpsRequest *request, const char *body) {
        return t->class->send(t, request, body);
}

/* Says goodbye if it can without waiting, and forgets everything. No handler is called from here on. */
static inline Transport *transport_free(Transport *t) {
        return t ? t->class->free(t) : NULL;
}

static inline void transport_class_rest(TransportClass *class) {
        class->rest(class);
}

static inline TransportClass *transport_class_close(TransportClass *class) {
        return class ? class->close(class) : NULL;
}
DEFINE_FREEP(TransportClass, transport_class_close)
