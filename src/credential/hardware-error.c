/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "basic/text.h"
#include "credential/credential-error.h"
#include "credential/hardware-key.h"

int hardware_key_error(const HardwareKey *k, DpsError *error, int r, const char *key, const char *format,
                       ...) {
        static const Place nowhere;
        const Place *place = streq(key, "PrivateKey") ? &k->settings->certificates_place : &nowhere;
        _cleanup_(freep) char *what = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0) {
                what = NULL;
                r = -ENOMEM;
        }
        va_end(ap);
        return credential_error(error, r, place, key, "%s", what ?: "");
}
