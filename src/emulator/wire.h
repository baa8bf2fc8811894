/* SPDX-License-Identifier: MIT */
#pragma once

/* What devices send, from the service's side: user names and topics. All of it is hostile until checked. */

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

/* -EBADMSG: the user name has neither form. Keys after the id come in any order, and unknown keys are
 * ignored. */
int login_parse(const char *user_name, Login *ret);
void login_done(Login *login);

typedef enum RequestKind {
        REQUEST_REGISTER,
        REQUEST_POLL,
        REQUEST_LOOKUP, /* of the state, over HTTPS only */
} RequestKind;

typedef struct Request {
        RequestKind kind;
        char *request_id;   /* $rid, which the answer repeats byte for byte; NULL: missing */
        char *operation_id; /* decoded; NULL: missing */
        char *payload;      /* JSON text, for the custom allocation; NULL: missing */
} Request;

/* -ENOMSG: this is not a topic of DPS. End it with request_done(). */
int request_parse(const char *topic, Request *ret);
/* Sets the payload from the body of a register. A body that is not a JSON object has no payload. -ENOMEM. */
int request_read_payload(Request *request, const void *body, size_t size);
void request_done(Request *request);

/* $dps/registrations/res/{status}/?$rid={rid}[&retry-after={seconds}], with $rid first: the .NET client
 * expects it so. */
int response_topic(unsigned status, const char *request_id, bool has_retry_after, uint64_t retry_after_sec,
                   char **ret);
