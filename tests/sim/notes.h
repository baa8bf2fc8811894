/* SPDX-License-Identifier: MIT */
#pragma once

/* The notes of keys that were made in the token, on the simulated disk. */

#include "sim.h"

void notes_init(Sim *s);
