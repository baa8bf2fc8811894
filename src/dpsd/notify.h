/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sends our messages to systemd over our own socket that never blocks. libsystemd's sd_notify() blocks until
 * the receiver reads, but a service manager that is stuck must not stop us. Only the newest STATUS= is kept,
 * and it is sent at most once a second. For the same reason the watchdog is served here, and not by
 * sd_event_set_watchdog().
 */

#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Notify Notify;

/* Reads $NOTIFY_SOCKET and $WATCHDOG_USEC, and removes them from the environment. Without $NOTIFY_SOCKET all
 * functions below do nothing. */
int notify_new(sd_event *event, Notify **ret);
Notify *notify_free(Notify *n);
DEFINE_FREEP(Notify, notify_free)

void notify_status(Notify *n, const char *text); /* sent only if it changed */
void notify_ready(Notify *n);                    /* READY=1, with the status */
void notify_reloading(Notify *n); /* RELOADING=1 with MONOTONIC_USEC=; notify_ready() ends it */
void notify_stopping(Notify *n);
