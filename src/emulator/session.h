/* SPDX-License-Identifier: MIT */
#pragma once

/* Who is connected. A session is found by the broker's own handle of the client, which is its key and never looked into. */

#include "emulator/service.h"

struct lh_table;

typedef enum SessionKind {
        SESSION_DEVICE,  /* at DPS */
        SESSION_HUB,     /* at a hub's door */
        SESSION_CONTROL, /* dps-emulator ctl */
} SessionKind;

typedef struct Session {
        SessionKind kind;
        char *client_id;
        Caller caller;         /* of DPS */
        char *hub, *device_id; /* of a hub */
        bool is_subscribed;    /* to the answers */
        int qos;               /* that was granted for them */
} Session;

int sessions_new(struct lh_table **ret);
/* Takes what the session owns. One that is left over from an earlier client of that handle goes. */
int sessions_add(struct lh_table *sessions, const void *client, Session *session);
/* NULL: there is none. */
Session *sessions_get(const struct lh_table *sessions, const void *client);
void sessions_remove(struct lh_table *sessions, const void *client);
json_object *sessions_to_json(const struct lh_table *sessions);

void session_done(Session *s);
/* The id that an operator calls it by: registration id or device id; NULL for `ctl`. */
const char *session_id(const Session *s);
