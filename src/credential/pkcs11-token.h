/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A session with a PKCS#11 token, without OpenSSL's engine or provider for it. Debian 12 has only the engine
 * and Debian 13 only the provider. Both keep a PIN and try it again by themselves, and an engine that hangs
 * holds a lock that all of OpenSSL needs.
 */

#include "config/pkcs11-uri.h"
#include "credential/device.h"
#include "credential/hardware-key.h"
#include "credential/pin.h"
#include "credential/pkcs11-api.h"

/* One use of the token. */
typedef struct Pkcs11Use {
        const HardwareKey *key;
        const char *module;
        const CkFunctions *f;
        Device *device;
        Pkcs11Uri uri;
        CkUlong slot, session;
        CkTokenInfo token;
        char token_name[80]; /* label and serial number, for pin.h */
        Pin pin;
        bool is_open;
        DpsError *error;
} Pkcs11Use;

/* Finds the token of the key's URI, and logs in. On failure `error` is set. To be followed by pkcs11_use_done() in any
 * case. */
int pkcs11_use_begin(Pkcs11Use *u, const HardwareKey *k, bool writes, DpsError *error);
void pkcs11_use_done(Pkcs11Use *u);

/* They set the error, and return a negative errno. */
int pkcs11_use_error(const Pkcs11Use *u, int r, const char *what);
int pkcs11_call_error(const Pkcs11Use *u, CkUlong code, const char *call);
int pkcs11_log_in_error(const Pkcs11Use *u, CkUlong code);

/* Fills in attributes that name an object: of this class, with the label and the id of the URI. Returns their number. */
#define PKCS11_NAME_MAX 3
size_t pkcs11_object_name(Pkcs11Use *u, const CkUlong *class, CkAttribute ret[static PKCS11_NAME_MAX]);
int pkcs11_find(Pkcs11Use *u, CkAttribute *attributes, size_t n, CkUlong *found, CkUlong max,
                CkUlong *ret_n_found);
