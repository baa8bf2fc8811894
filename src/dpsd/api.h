/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The door without D-Bus, for containers above all: HTTP on the socket api.sock in the directory of each identity with
 * Api=yes. It is the module "api", since few ask for it, and only it is linked with libmicrohttpd. dps-api(5) describes what
 * it answers.
 */

#include <systemd/sd-event.h>

#include "dpsd/manager.h"

#define API_MODULE "api"
#define API_MODULE_KIND "api"

typedef struct Api Api;

typedef struct ApiClass {
        /* The manager is borrowed. */
        int (*new)(sd_event *event, Manager *m, Api **ret);
        /* Something about the identity has changed: opens or closes its socket, and answers those that wait. */
        void (*changed)(Api *a, Identity *i);
        void (*removed)(Api *a, const char *name);
        Api *(*free)(Api *a);
} ApiClass;

/* What the daemon has of it: nothing, until an identity asks. Zero it first. */
typedef struct ApiDoor {
        sd_event *event;
        Manager *manager;
        Work *loading;
        bool is_refused; /* the module cannot be loaded, and that was logged */
        const ApiClass *class;
        Api *api;
} ApiDoor;

void api_door_changed(ApiDoor *d, Identity *i);
void api_door_removed(ApiDoor *d, const Identity *i);
/* All identities, at the start and after a reload: a module that was missing may be there now. */
void api_door_look(ApiDoor *d);
void api_door_close(ApiDoor *d);
