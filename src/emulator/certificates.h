/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Certificates for tests, made with EC keys, which cost a broker the least: a CA and a certificate of the server, and
 * a CA for devices. Kept in the state directory, so that a device's configuration outlives the emulator.
 */

#include "emulator/reader.h"

/* Makes in `directory` what is missing, and the server's anew if it is not for all of `hosts` (names, addresses). */
int certificates_prepare(const char *directory, char *const *hosts, Complaint *c);

/* ID.pem and ID.key in `out`, signed by the devices' CA, which is made where it is missing. */
int certificate_issue(const char *directory, const char *id, const char *out, Complaint *c);
