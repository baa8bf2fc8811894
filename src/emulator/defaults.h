/* SPDX-License-Identifier: MIT */
#pragma once

/* Enrollments for a first start, and the lines of a NAME.conf with which a device is provisioned by them. */

#include "emulator/roster.h"

/* Makes a device "gateway" and a group "line-1" with random symmetric keys, and a group "factory" of the
 * devices' CA. The keys are also written to gateway.key and line-1.key in the working directory. */
int defaults_make(const char *state_directory, json_object **ret, ErrorText *error);

/* Prints those lines to stderr. `https_port` 0: there is no HTTPS front. The working directory must be the state directory. */
void defaults_explain(const Roster *roster, const char *state_directory, const char *host, uint16_t port,
                      uint16_t https_port);
