/* SPDX-License-Identifier: MIT */
#pragma once

/* Functions that Mosquitto calls in place of OpenSSL's, so that the two behave as DPS does. See
 * interpose.c. */

#include <openssl/x509.h>
#include <stdbool.h>

/* The certificates that came along with a client's own. Valid as long as that one; NULL: none. */
STACK_OF(X509) * peer_chain(X509 *certificate);

/* Whether the CONNECT that was read last has a will, which Mosquitto does not report to a plugin. Mosquitto reads
 * nothing else between a CONNECT and its login, so at a login this is about the client that logs in. */
bool connect_has_will(void);
