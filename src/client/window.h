/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How many attempts may be in flight, of all and of each ID scope. Who comes when no slot is free waits for its turn. DPS
 * throttles scopes, so a 429 to one client pauses all new registrations of its scope, and halves the scope's window.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"

typedef struct Window Window;
typedef struct Scope Scope;

/* A client's place in the window; part of the client. */
typedef struct Slot {
        Window *window;
        Scope *scope; /* NULL: it is in none */
        enum {
                SLOT_NONE,
                SLOT_WANTED,  /* waits for its turn */
                SLOT_GRANTED, /* its turn has come, it is told in the next turn of the loop */
                SLOT_HELD,
        } state;
        struct Slot *previous, *next; /* among those of the scope */
        struct Slot *next_wanting;    /* among those of the scope that wait */
        void (*on_granted)(void *userdata);
        void (*on_paused)(uint64_t until_usec, void *userdata); /* CLOCK_BOOTTIME: by a neighbour's 429 */
        void *userdata;
} Slot;

int window_new(World *w, Window **ret);
Window *window_free(Window *w);
DEFINE_FREEP(Window, window_free)
/* Attempts in flight, of all scopes together. */
void window_set_max(Window *w, unsigned max);
/* Called in the loop when the last slot is given back and nobody waits for one. */
void window_on_idle(Window *w, void (*handler)(void *userdata), void *userdata);

/* Enters a scope: only who is in one is told of pauses, and can have a slot. -ENOMEM. */
int slot_enter(Slot *s, Window *w, const char *id_scope);
/* Gives up slot and scope; harmless where there is neither. */
void slot_leave(Slot *s);
/* True: the slot is held. False: on_granted() follows. */
bool slot_acquire(Slot *s);
/* Gives the slot back, or the wish for one up. */
void slot_release(Slot *s);

/* DPS throttled the scope of this slot until then (CLOCK_BOOTTIME): the others of it are told. */
void slot_throttled(Slot *s, uint64_t until_usec);
/* DPS took a registration: the scope's window grows by one. */
void slot_succeeded(Slot *s);
/* CLOCK_BOOTTIME; in the past where the scope is not paused. */
uint64_t slot_paused_until_usec(const Slot *s);
