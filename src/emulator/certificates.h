/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Certificates for tests: a CA and a certificate for the server, and a CA for devices. Their keys are EC
 * keys, which cost a broker the least time. They stay in the state directory, so that a device's
 * configuration stays valid when the emulator is started again.
 */

#include "emulator/reader.h"

/* Makes what is missing in `directory`. The server's certificate is replaced if it does not cover all of
 * `hosts`, which are names or addresses. */
int certificates_prepare(const char *directory, char *const *hosts, ErrorText *error);

/* Writes ID.pem and ID.key to `out`, signed by the devices' CA, which is made if it is missing. */
int certificate_issue(const char *directory, const char *id, const char *out, ErrorText *error);
