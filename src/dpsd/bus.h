/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The D-Bus side of the daemon: io.dpsd.dps1 on the system bus. manager.c calls these; nothing here is called by
 * identity.c. All of them do nothing while there is no bus.
 */

#include "dpsd/manager.h"

/* Connects now, or when a bus appears, asynchronously; calls manager_bus_settled() when the name is owned. */
int bus_start(Manager *m);
void bus_stop(Manager *m);

/* Called once at the end of a turn for each identity that changed: one PropertiesChanged. */
void bus_identity_changed(Manager *m, Identity *i);
/* Called at the very end of a turn: state or counts of the manager may have changed. */
void bus_manager_changed(Manager *m);
void bus_identity_added(Manager *m, Identity *i);
void bus_identity_removed(Manager *m, Identity *i);
/* Told at the end of the turn, behind the properties: who waits for the job sees what it brought. */
void bus_job_finished(Manager *m, Identity *i, uint64_t job, bool ok, const char *error);
