/* SPDX-License-Identifier: MIT */
#pragma once

/* The clients that are connected. A session's key is the broker's handle of its client, which is never looked
 * into. */

#include "emulator/service.h"

struct lh_table;

typedef enum SessionKind {
        SESSION_DEVICE,  /* at DPS */
        SESSION_HUB,     /* at a hub */
        SESSION_CONTROL, /* dps-emulator ctl */
} SessionKind;

typedef struct Session {
        SessionKind kind;
        char *client_id;
        Caller caller;         /* of a device at DPS */
        char *hub, *device_id; /* of a device at a hub */
        bool is_subscribed;    /* to the answers of DPS */
        int qos;               /* granted for the answers */
} Session;

int sessions_new(struct lh_table **ret);
/* Takes ownership of what the session owns. A session that an earlier client with the same handle left is
 * removed. */
int sessions_add(struct lh_table *sessions, const void *client, Session *session);
/* NULL: there is none. */
Session *sessions_get(const struct lh_table *sessions, const void *client);
void sessions_remove(struct lh_table *sessions, const void *client);
json_object *sessions_to_json(const struct lh_table *sessions);

void session_done(Session *s);
/* The id by which an operator names the session: registration id or device id; NULL for `ctl`. */
const char *session_id(const Session *s);
