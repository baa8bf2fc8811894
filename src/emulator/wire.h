/* SPDX-License-Identifier: MIT */
#pragma once

/* What devices say, from the service's side: user names and topics. All of it is hostile until checked. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum LoginKind {
        LOGIN_DEVICE, /* {idScope}/registrations/{registrationId}/api-version=…&… */
        LOGIN_HUB,    /* {hub}/{deviceId}/?api-version=…&… */
} LoginKind;

/* Owns its strings. End it with login_done(). */
typedef struct Login {
        LoginKind kind;
        char *place; /* the ID scope, or the hub */
        char *id;    /* registration id, or device id */
        char *api_version;
} Login;

/* -EBADMSG: neither form. Unknown keys behind the id are ignored, and their order is free. */
int login_parse(const char *user_name, Login *ret);
void login_done(Login *login);

typedef enum RequestKind {
        REQUEST_REGISTER,
        REQUEST_POLL,
} RequestKind;

typedef struct Request {
        RequestKind kind;
        char *request_id;   /* $rid, to be echoed byte for byte; NULL: there is none */
        char *operation_id; /* decoded; NULL: there is none */
        char *payload;      /* JSON text, for the custom allocation; NULL: there is none */
} Request;

/* -ENOMSG: no topic of DPS. End it with request_done(). */
int request_parse(const char *topic, Request *ret);
/* Takes the payload out of a register body; a body that is none has none. -ENOMEM. */
int request_read_payload(Request *request, const void *body, size_t size);
void request_done(Request *request);

/* $dps/registrations/res/{status}/?$rid={rid}[&retry-after={seconds}]: $rid first, as .NET's client wants it. */
int response_topic(unsigned status, const char *request_id, bool has_retry_after, uint64_t retry_after_sec,
                   char **ret);
