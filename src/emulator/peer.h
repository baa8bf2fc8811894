/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Client certificates, asked for and not demanded, on the one port that DPS has for devices of all kinds. See peer.c
 * for how Mosquitto is brought to that.
 */

#include <openssl/x509.h>

/* What came along with a client's certificate. Valid as long as it; NULL: nothing. */
STACK_OF(X509) * peer_chain(X509 *certificate);
