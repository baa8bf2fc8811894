/* SPDX-License-Identifier: MIT */
#include <stdarg.h>

#include "basic/text.h"
#include "credential/credential-error.h"
#include "credential/hardware-key.h"

int hardware_key_error(const HardwareKey *k, DpsError *error, int r, const char *key, const char *format,
                       ...) {
        static const Place nowhere;
        const Place *place = streq(key, "PrivateKey") ? &k->settings->certificates_place : &nowhere;
        va_list ap;

        va_start(ap, format);
        r = credential_verror(error, r, place, key, format, ap);
        va_end(ap);
        return r;
}
