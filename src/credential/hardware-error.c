/* SPDX-License-Identifier: MIT */
#include <stdarg.h>

#include "basic/text.h"
#include "credential/credential-error.h"
#include "credential/hardware-key.h"

int hardware_key_error(const HardwareKey *k, DpsError *error, int r, const char *key, const char *format,
                       ...) {
        static const Place nowhere;
        bool is_key = streq(key, "PrivateKey");
        const Place *place = !is_key        ? &nowhere
                             : k->is_issued ? &k->settings->issuance_place
                                            : &k->settings->certificates_place;
        va_list ap;

        va_start(ap, format);
        r = credential_verror(error, r, place, is_key && k->is_issued ? "[Issuance] Key" : key, format, ap);
        va_end(ap);
        return r;
}
