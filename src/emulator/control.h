/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * `dps-emulator ctl`, on the emulator's side. A request is {"command":…,"arguments":[…],"document":…}; the
 * answer is {"error":…}, {"message":…} or {"document":…}.
 */

#include "emulator/service.h"

#define CONTROL_TOPIC "$CONTROL/dps-emulator/v1"
#define CONTROL_RESPONSE_TOPIC "$CONTROL/dps-emulator/v1/response"

/* What the commands need from the program that has the sessions. */
typedef struct ControlHooks {
        unsigned (*drop_sessions)(const char *id, void *userdata); /* `id` NULL: all; returns their number */
        json_object *(*list_sessions)(void *userdata);
        int (*save)(void *userdata); /* called after the enrollments have changed */
        void *userdata;
} ControlHooks;

/* Returns the text of the answer; NULL: out of memory. */
char *control_execute(Service *s, const ControlHooks *hooks, const void *request, size_t size);
