/* SPDX-License-Identifier: MIT */
#pragma once

/* What stands between Mosquitto and OpenSSL, so that the two behave as DPS does. See interpose.c. */

#include <openssl/x509.h>

/* What came along with a client's certificate, without itself. Valid as long as it; NULL: nothing. */
STACK_OF(X509) * peer_chain(X509 *certificate);
