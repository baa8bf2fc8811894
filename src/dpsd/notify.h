/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What we tell systemd, by a socket of our own that never blocks: libsystemd's sd_notify() waits for a reader, and a
 * service manager that is stuck must not stop us. Only the newest STATUS= is kept, at most one a second is sent.
 * For the same reason the watchdog is fed from here, and not by sd_event_set_watchdog().
 */

#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Notify Notify;

/* Takes $NOTIFY_SOCKET, and $WATCHDOG_USEC behind it, out of the environment. Without the former everything below does
 * nothing. */
int notify_new(sd_event *event, Notify **ret);
Notify *notify_free(Notify *n);
DEFINE_FREEP(Notify, notify_free)

void notify_status(Notify *n, const char *text); /* sent when it changes */
void notify_ready(Notify *n);                    /* READY=1, with the status */
void notify_reloading(Notify *n); /* RELOADING=1 with MONOTONIC_USEC=; notify_ready() ends it */
void notify_stopping(Notify *n);
