/* SPDX-License-Identifier: MIT */
#pragma once

/* TPMs, one for each identity that attests by one. They open what the emulator's service sends, in software. */

#include "dps/key.h"
#include "sim.h"

/* Whether identity k attests by its TPM, and not by key files. */
bool chip_is_of(unsigned k);
/* What the enrollment of each of them has: TPM2B_PUBLIC in base64. */
const char *chip_endorsement_key(void);
/* All TPMs are new, and the class of credentials that asks them is there. */
void chips_init(void);
void chips_set_absent(bool is_absent);
/* Somebody clears the TPM: the key for the hub is gone. */
void chip_clear(unsigned k);
