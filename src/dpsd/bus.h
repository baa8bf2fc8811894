/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The D-Bus side of the daemon: io.dpsd.dps1 on the system bus. manager.c calls these functions, identity.c does not.
 * None of them does anything while there is no bus.
 */

#include "dpsd/manager.h"

/* Connects asynchronously, now or when a bus appears, and calls manager_bus_settled() when we own the name. */
int bus_start(Manager *m);
void bus_stop(Manager *m);

/* Called at the end of a turn, once for each identity that changed: sends one PropertiesChanged. */
void bus_identity_changed(Manager *m, Identity *i);
/* Called at the very end of a turn: state or counts of the manager may have changed. */
void bus_manager_changed(Manager *m);
void bus_identity_added(Manager *m, Identity *i);
void bus_identity_removed(Manager *m, Identity *i);
/* Sent at the end of the turn, after PropertiesChanged, so that whoever waits for the job knows its result already. */
void bus_job_finished(Manager *m, Identity *i, uint64_t job, bool ok, const char *error);
