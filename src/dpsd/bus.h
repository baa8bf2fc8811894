/* SPDX-License-Identifier: MIT */
#pragma once

/* The D-Bus side of the daemon: io.dpsd.dps1 on the system bus. Everything here does nothing while there is no bus. */

#include <systemd/sd-event.h>

#include "config/conf.h"
#include "dpsd/manager.h"

typedef struct Bus Bus;

typedef struct BusHandlers {
        /* The name is owned. */
        void (*on_owned)(void *userdata);
        /* Somebody who may asks to read the configuration again. What is wrong is in the report: -EBADMSG if any error is. */
        int (*reload)(const ConfReport **ret_report, void *userdata);
} BusHandlers;

/* Connects now, or when a bus appears, asynchronously. The manager is borrowed. */
int bus_start(sd_event *event, Manager *m, const BusHandlers *handlers, void *userdata, Bus **ret);
Bus *bus_stop(Bus *b);

void bus_identity_added(Bus *b, Identity *i);
void bus_identity_removed(Bus *b, Identity *i);
/* Called once at the end of a turn for each identity that changed: one PropertiesChanged. */
void bus_identity_changed(Bus *b, Identity *i);
/* Told at the end of the turn, behind the properties: whoever waits for the job sees what it brought. */
void bus_job_ended(Bus *b, Identity *i, uint64_t job, bool ok, const char *error);
/* Called at the very end of a turn: state or counts of the manager may have changed. */
void bus_manager_changed(Bus *b);
