/* SPDX-License-Identifier: MIT */
#pragma once

/* One request of a device, and what it is answered: by the service, or as a script says. */

#include <mosquitto_broker.h>

#include "emulator/journal.h"
#include "emulator/outbox.h"
#include "emulator/session.h"

typedef struct Plugin {
        mosquitto_plugin_id_t *id;
        Service *service;
        struct lh_table *sessions;
        Outbox outbox;
        Journal journal;
        int ready_fd; /* written to and closed when clients can come */
} Plugin;

/* A status of Mosquitto: anything but success closes the connection. */
int exchange_on_message(Plugin *p, const Session *s, const struct mosquitto_evt_message *message);
/* To that client only, as it subscribed. */
void exchange_publish(const Session *s, const char *topic, const char *body);
