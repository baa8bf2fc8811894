/* SPDX-License-Identifier: MIT */
#pragma once

/* The D-Bus side of the daemon: io.dpsd.dps1 on the system bus. While there is no bus, these functions do
 * nothing. */

#include <systemd/sd-event.h>

#include "dpsd/loader.h"
#include "dpsd/manager.h"

typedef struct Bus Bus;

typedef struct BusHandlers {
        /* We own the name now. */
        void (*on_owned)(void *userdata);
        /* An authorized caller asks to read the configuration again. Returns the number of the load that does so, whose
         * end bus_reloaded() tells. */
        uint64_t (*reload)(void *userdata);
} BusHandlers;

/* Connects asynchronously, now or when a bus appears. The manager is borrowed. */
int bus_start(sd_event *event, Manager *m, const BusHandlers *handlers, void *userdata, Bus **ret);
Bus *bus_stop(Bus *b);

/* The n-th load has ended. Faults are in the report. -EBADMSG: at least one of them is an error. */
void bus_reloaded(Bus *b, uint64_t n, int r, const LoadReport *report);
void bus_identity_added(Bus *b, Identity *i);
void bus_identity_removed(Bus *b, Identity *i);
/* Called once at the end of a turn for each identity that changed. Sends one PropertiesChanged. */
void bus_identity_changed(Bus *b, Identity *i);
/* The signal is sent at the end of the turn, after PropertiesChanged, so that a client that waits for the job
 * sees its results. */
void bus_job_ended(Bus *b, Identity *i, uint64_t job, bool ok, const char *error);
/* Called at the very end of a turn: the state or the counts of the manager may have changed. */
void bus_manager_changed(Bus *b);
