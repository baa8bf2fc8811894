/* SPDX-License-Identifier: MIT */
#pragma once

/* What dpsctl and dpsctl-local have in common: options, and an end that tells the truth. */

#include "dpsctl/options.h"
#include "dpsctl/say.h"

int program_run(int argc, char **argv, int (*run_verb)(const Options *o, char **argv));
