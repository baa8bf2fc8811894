/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How many attempts may be in flight, of all and of each scope. Who comes when no slot is free waits for its turn. DPS
 * throttles scopes, so a 429 to one client pauses all new registrations of its scope, and halves the scope's window.
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
        Scope *scope; /* NULL: it is in none */
        SlotState state;
        struct Slot *previous, *next;                 /* all of the scope */
        struct Slot *previous_wanting, *next_wanting; /* those of the scope that wait, the first one first */
        void (*on_granted)(void *userdata);
        void (*on_paused)(uint64_t until_usec,
                          void *userdata); /* CLOCK_BOOTTIME: DPS throttled another client */
        void *userdata;
} Slot;

int window_new(World *w, Window **ret);
/* All slots have left it. */
Window *window_free(Window *w);
DEFINE_FREEP(Window, window_free)
/* Attempts in flight, of all scopes together. */
void window_set_max(Window *w, unsigned max);
/* Called from the loop when the last slot was given back and nobody waits for one. */
void window_on_idle(Window *w, void (*handler)(void *userdata), void *userdata);

/* A scope is an ID scope at an endpoint: another endpoint counts by itself. Only who is in a scope is told of pauses and
 * can have a slot. -ENOMEM. */
int slot_enter(Slot *s, Window *w, const char *id_scope, const char *endpoint);
/* Gives up the slot and leaves the scope; harmless where there is neither. */
void slot_leave(Slot *s);
/* True: the slot is held. False: on_granted() follows, from the loop. */
bool slot_acquire(Slot *s);
/* Gives the slot back, or stops waiting for one. */
void slot_release(Slot *s);

/* DPS throttled this slot's scope until then (CLOCK_BOOTTIME): the others of the scope are told. */
void slot_throttled(Slot *s, uint64_t until_usec);
/* DPS took a registration: the scope's window grows by one. */
void slot_succeeded(Slot *s);
/* CLOCK_BOOTTIME; in the past where the scope is not paused. */
uint64_t slot_paused_until_usec(const Slot *s);
