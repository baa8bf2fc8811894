/* SPDX-License-Identifier: MIT */
#pragma once

/* Gathers, from an identity, the facts that its plan is made of. */

#include "dpsd/identity.h"

void identity_gather(const Identity *i, Facts *ret);
/* The credential for the hub. It is the one for DPS, unless the assignment was made with another method, or
 * no settings are in force by which DPS could be asked. */
CredentialCare *identity_care_for_hub(Identity *i);
/* CLOCK_BOOTTIME: when a wait of the record ends, computed with the present clock; 0: there is none. A wait that is
 * longer than possible was recorded under another clock, and gives `otherwise`. */
uint64_t identity_end_of_wait(const Identity *i, uint64_t realtime_usec, uint64_t otherwise);
uint64_t identity_renew_before_usec(const Settings *s);
