/* SPDX-License-Identifier: MIT */
#pragma once

/* What stands between Mosquitto and OpenSSL, so that the two behave as DPS does. See interpose.c. */

#include <openssl/x509.h>
#include <stdbool.h>

/* What came along with a client's certificate, without itself. Valid as long as it; NULL: nothing. */
STACK_OF(X509) * peer_chain(X509 *certificate);

/* Whether the CONNECT that was read last has a will, which a plugin is not told. It logs in before anything else is
 * read, so it is that of the client who does. */
bool connect_has_will(void);
