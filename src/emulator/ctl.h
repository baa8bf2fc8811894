/* SPDX-License-Identifier: MIT */
#pragma once

/* `dps-emulator ctl`: sends one command to the emulator that has this state directory. Returns an exit
 * status. */
int ctl_run(const char *state_directory, char *const *words);
