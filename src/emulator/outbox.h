/* SPDX-License-Identifier: MIT */
#pragma once

/* Answers that wait because a script delays them. When a session ends, its answers are dropped. */

#include <stddef.h>
#include <stdint.h>

typedef struct Delayed {
        const void *client; /* the broker's handle */
        uint64_t due_usec;  /* CLOCK_BOOTTIME, so that setting the clock moves no answer */
        char *topic, *body;
        struct Delayed *next;
} Delayed;

typedef struct Outbox {
        Delayed *first; /* in the order in which they are due */
} Outbox;

/* Takes ownership of the texts, also on failure. */
int outbox_add(Outbox *o, const void *client, uint64_t due_usec, char *topic, char *body);
/* Removes the first answer and returns it if it is due; else NULL. */
Delayed *outbox_take(Outbox *o, uint64_t now_usec);
/* Drops all answers of this client. */
void outbox_forget(Outbox *o, const void *client);
Delayed *delayed_free(Delayed *d);
