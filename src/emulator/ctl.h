/* SPDX-License-Identifier: MIT */
#pragma once

/* `dps-emulator ctl`: one command to the emulator whose state directory that is. Returns an exit status. */
int ctl_run(const char *state_directory, char *const *words);
