/* SPDX-License-Identifier: MIT */
#pragma once

/* Answers that wait: for a delay that a script told. Kept by session, and forgotten with it. */

#include <stddef.h>
#include <stdint.h>

typedef struct Delayed {
        const void *client; /* the broker's handle */
        uint64_t due_usec;  /* CLOCK_BOOTTIME: whoever sets the clock moves no answer */
        char *topic, *body;
        struct Delayed *next;
} Delayed;

typedef struct Outbox {
        Delayed *first; /* the next due first */
} Outbox;

/* Takes the texts, also on failure. */
int outbox_add(Outbox *o, const void *client, uint64_t due_usec, char *topic, char *body);
/* Takes out the first that is due; NULL: none is. */
Delayed *outbox_take(Outbox *o, uint64_t now_usec);
void outbox_forget(Outbox *o, const void *client);
Delayed *delayed_free(Delayed *d);
