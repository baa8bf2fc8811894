/* SPDX-License-Identifier: MIT */
#pragma once

/* Answers one request of a device: as the service decides, or as a script dictates. */

#include "emulator/broker-headers.h"
#include "emulator/https.h"
#include "emulator/journal.h"
#include "emulator/outbox.h"
#include "emulator/session.h"

typedef struct Plugin {
        mosquitto_plugin_id_t *id;
        Service *service;
        struct lh_table *sessions;
        Outbox outbox;
        Journal journal;
        pthread_mutex_t lock; /* of service and journal, which the HTTPS front uses from its thread */
        HttpsFront *https;    /* NULL: there is none */
        int ready_fd;         /* written to and closed when the broker listens */
} Plugin;

/* Returns a status of Mosquitto. Anything but success closes the connection. */
int exchange_on_message(Plugin *p, const Session *s, const struct mosquitto_evt_message *message);
/* Sends to this client only, with the QoS that it subscribed with. */
void exchange_publish(const Session *s, const char *topic, const char *body);
