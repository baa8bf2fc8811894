/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Chips that hang: a call that is made there does not return, for a minute, for days, or as long as the process lives. Whoever
 * calls meanwhile waits ten seconds and gets an error, as credential/device.h has it.
 */

#include "dps/error.h"
#include "sim.h"

typedef enum Hang {
        HANG_NOT,
        HANG_SIGNING, /* it can be looked at, but not used */
        HANG_ALWAYS,
} Hang;

/* The chip of identity k. When it comes back, the calls in it go on. */
void hang_set(Sim *s, unsigned k, Hang hang);
void hang_end_all(Sim *s);
/* The process is gone, and its calls with it. */
void hang_forget_calls(void);

/* Called by work before it uses the chip. 0, or -EAGAIN with an error: the chip is not asked, and the work returns now. It may
 * be run again later, and only then has it returned. */
int hang_enter(unsigned k, bool is_signing, DpsError *error);
