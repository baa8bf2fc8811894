/* SPDX-License-Identifier: MIT */
#include "emulator/outbox.h"

#include <errno.h>

#include "basic/cleanup.h"

Delayed *delayed_free(Delayed *d) {
        if (!d)
                return NULL;

        free(d->topic);
        free(d->body);
        free(d);
        return NULL;
}

int outbox_add(Outbox *o, const void *client, uint64_t due_usec, char *topic, char *body) {
        Delayed *d = malloc(sizeof(*d)), **at = &o->first;

        if (!d) {
                free(topic);
                free(body);
                return -ENOMEM;
        }

        *d = (Delayed){ .client = client, .due_usec = due_usec, .topic = topic, .body = body };
        while (*at && (*at)->due_usec <= due_usec)
                at = &(*at)->next;
        d->next = *at;
        *at = d;
        return 0;
}

Delayed *outbox_take(Outbox *o, uint64_t now_usec) {
        Delayed *d = o->first;

        if (!d || d->due_usec > now_usec)
                return NULL;

        o->first = d->next;
        return d;
}

void outbox_forget(Outbox *o, const void *client) {
        for (Delayed **at = &o->first; *at;) {
                Delayed *d = *at;

                if (d->client != client) {
                        at = &d->next;
                        continue;
                }
                *at = d->next;
                delayed_free(d);
        }
}
