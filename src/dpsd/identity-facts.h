/* SPDX-License-Identifier: MIT */
#pragma once

/* From the identity to the facts that its plan is made of. */

#include "dpsd/identity.h"

void identity_gather(const Identity *i, Facts *ret);
/* The credential that the assignment needs: that for DPS, but where that is of another method, or there are no settings by
 * which DPS can be asked. */
CredentialCare *identity_care_for_hub(Identity *i);
uint64_t identity_renew_before_usec(const Settings *s);
