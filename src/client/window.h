/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Limits how many attempts may be in flight, in total and for each scope. If no slot is free, a client waits
 * for its turn. DPS throttles whole scopes, so a 429 to one client pauses all new registrations of its scope,
 * and halves the scope's window.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"

typedef struct Window Window;
typedef struct Scope Scope;

typedef enum SlotState {
        SLOT_NONE,
        SLOT_WANTED, /* waits for its turn */
        SLOT_HELD,
        _SLOT_STATE_MAX,
} SlotState;

/* A client's place in the window; part of the client. */
typedef struct Slot {
        Scope *scope; /* NULL: it is in no scope */
        SlotState state;
        struct Slot *previous, *next;                 /* all slots of the scope */
        struct Slot *previous_wanting, *next_wanting; /* the scope's waiting slots, in order of arrival */
        void (*on_granted)(void *userdata);
        void (*on_paused)(uint64_t until_usec,
                          void *userdata); /* CLOCK_BOOTTIME: DPS throttled another client */
        void *userdata;
} Slot;

int window_new(World *w, Window **ret);
/* All slots must have left the window. */
Window *window_free(Window *w);
DEFINE_FREEP(Window, window_free)
/* Limits the attempts in flight, of all scopes together. */
void window_set_max(Window *w, unsigned max);
/* The handler is called from the loop when the last slot was given back and nobody waits for one. */
void window_on_idle(Window *w, void (*handler)(void *userdata), void *userdata);

/* A scope is an ID scope at an endpoint, so another endpoint is another scope. Only a slot that is in a scope
 * can be acquired, and is told about pauses. -ENOMEM. */
int slot_enter(Slot *s, Window *w, const char *id_scope, const char *endpoint);
/* Gives up the slot and leaves the scope. Does nothing if there is neither. */
void slot_leave(Slot *s);
/* Returns true if the slot is held now. False: on_granted() will be called from the loop. */
bool slot_acquire(Slot *s);
/* Gives the slot back, or stops waiting for one. */
void slot_release(Slot *s);

/* DPS throttled the scope of this slot until this time (CLOCK_BOOTTIME). The other slots of the scope are
 * told. */
void slot_throttled(Slot *s, uint64_t until_usec);
/* The same of an earlier run, whose slots are gone. -ENOMEM. */
int window_pause(Window *w, const char *id_scope, const char *endpoint, uint64_t until_usec);
/* A registration succeeded: the scope's window grows by one. */
void slot_succeeded(Slot *s);
/* CLOCK_BOOTTIME; a time in the past if the scope is not paused. */
uint64_t slot_paused_until_usec(const Slot *s);
