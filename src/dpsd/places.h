/* SPDX-License-Identifier: MIT */
#pragma once

/* Notices that a directory of ours is another one now: it was removed and made again, or a partition was
 * mounted over it. The folder then leads to the new one. The directories themselves and the table of mounts are
 * watched. */

#include <systemd/sd-event.h>

#include "basic/folder.h"
#include "basic/world.h"

typedef struct Places Places;

typedef struct PlacesHandlers {
        void (*on_state)(void *userdata);   /* the state is elsewhere now: it has to be written again … */
        void (*on_runtime)(void *userdata); /* … and so have the files for programs */
        void (*on_mount)(void *userdata);   /* something was mounted somewhere */
} PlacesHandlers;

/* The folders are borrowed; `notes` may be NULL. */
int places_new(sd_event *event, World *world, Folder *state, Folder *runtime, Folder *notes,
               const PlacesHandlers *handlers, void *userdata, Places **ret);
Places *places_free(Places *p);
DEFINE_FREEP(Places, places_free)
/* Somebody asks for it (a reload). */
void places_look(Places *p);
