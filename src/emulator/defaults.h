/* SPDX-License-Identifier: MIT */
#pragma once

/* Enrollments to begin with, and what to put into a NAME.conf so that a device is provisioned by them. */

#include "emulator/roster.h"

/* A device "gateway" and a group "line-1" with symmetric keys, made at random, and a group "factory" of the devices' CA.
 * The keys are also put into files, gateway.key and line-1.key in the working directory. */
int defaults_make(const char *state_directory, json_object **ret, Complaint *c);

/* On stderr. The working directory is the state directory. */
void defaults_explain(const Roster *roster, const char *state_directory, const char *host, uint16_t port);
