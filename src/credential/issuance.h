/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A new key and the request that DPS issues a certificate for, and what comes back of it: a module, since few devices have
 * [Issuance], and those need it only when they register. A pair that was saved is loaded without it (issued.h).
 */

#include "credential/hardware-key.h"

/* The class of the module "issuance". */
typedef struct IssuanceModule {
        /* See issuance_request_new(). `hardware` makes the key; NULL: it is to be in a file. */
        int (*request_new)(Settings *s, const IssuancePlace *place, const HardwareKeyModule *hardware,
                           IssuanceRequest *ret, DpsError *error);
        /*
         * Checks and orders what DPS issued: `chain` is base64 of DER, or of PEM text. The certificate of our key is
         * the leaf, wherever it stands, and the others must be its issuers. Dates are not checked if
         * `realtime_usec` is 0. -ENOMEM, or -EBADMSG: it cannot be used;
         * `error` says why.
         */
        int (*pair_new)(char *const *chain, const IssuanceRequest *request, const char *registration_id,
                        uint64_t realtime_usec, IssuedPair *ret, DpsError *error);
} IssuanceModule;

extern const IssuanceModule issuance_module;
/* Takes the place of the module that would be loaded, in programs that are linked with it. */
void issuance_set_module(const IssuanceModule *m);
