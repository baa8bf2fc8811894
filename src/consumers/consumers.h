/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tells the units in RestartUnits= and ReloadUnits= of an identity whose connection has changed. dpsd may not restart units;
 * it raises a flag, and this runs as root. What is done to which units comes from files that only root can write: somebody
 * who has taken over dpsd can do no more than have the same units restarted.
 */

#include <systemd/sd-bus.h>

typedef struct Consumers {
        sd_bus *bus;
        int runtime_fd; /* dpsd's directory, /run/dps */
        int state_fd; /* a directory of ours, with a file for each identity: what its units were last told of */
        char *const *directories; /* of the configuration */
} Consumers;

/* Says on standard error what was done and what went wrong. -EAGAIN: something that may pass keeps a unit from being told. */
int consumers_tell(const Consumers *c, const char *name);
/* Takes down all flags, and tells the units of each. */
int consumers_tell_all(const Consumers *c);
