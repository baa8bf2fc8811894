/* SPDX-License-Identifier: MIT */
#include "credential/credential-error.h"

#include <errno.h>
#include <stdarg.h>

#include "basic/text.h"

static DpsErrorId id_from_errno(int r) {
        if (r == -ENOMEM)
                return DPS_ERROR_MEMORY;
        /* A key that is not there yet, or that the system cannot give us now: nobody has to change a setting. */
        return r == -EAGAIN || r == -ENODEV || r == -ENOENT || r == -ENOTDIR || r == -EIO || r == -EMFILE ||
                               r == -ENFILE || r == -ESTALE || r == -ETIMEDOUT
                       ? DPS_ERROR_KEY
                       : DPS_ERROR_CONFIG;
}

void error_set_memory(DpsError *error, DpsStep step) {
        dps_error_set(error, DPS_ERROR_MEMORY, step, "out of memory");
}

int credential_verror(DpsError *error, int r, const Place *place, const char *key, const char *format,
                      va_list ap) {
        _cleanup_(freep) char *what = text_vformat(format, ap);

        r = what ? r : -ENOMEM;
        if (r == -ENOMEM)
                error_set_memory(error, DPS_STEP_CONFIG);
        else if (place->file)
                dps_error_set(error, id_from_errno(r), DPS_STEP_CONFIG, "%s:%u: %s=: %s", place->file,
                              place->line, key, what);
        else
                dps_error_set(error, id_from_errno(r), DPS_STEP_CONFIG, "%s=: %s", key, what);
        return r;
}

int credential_error(DpsError *error, int r, const Place *place, const char *key, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        r = credential_verror(error, r, place, key, format, ap);
        va_end(ap);
        return r;
}
