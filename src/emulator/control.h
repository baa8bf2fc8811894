/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * `dps-emulator ctl`, on the emulator's side. A request is {"command":…,"arguments":[…],"document":…}, the answer
 * {"error":…}, {"message":…} or {"document":…}.
 */

#include "emulator/service.h"

#define CONTROL_TOPIC "$CONTROL/dps-emulator/v1"
#define CONTROL_RESPONSE_TOPIC "$CONTROL/dps-emulator/v1/response"

/* What commands need of those who carry sessions. */
typedef struct ControlHooks {
        unsigned (*drop_sessions)(const char *id, void *userdata); /* NULL: all; how many there were */
        json_object *(*list_sessions)(void *userdata);
        int (*save)(void *userdata); /* the enrollments have changed */
        void *userdata;
} ControlHooks;

/* The answer's text; NULL: no memory. */
char *control_execute(Service *s, const ControlHooks *hooks, const void *request, size_t size);
