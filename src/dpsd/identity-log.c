/* SPDX-License-Identifier: MIT */
#include <stdarg.h>

#include "dpsd/identity.h"
#include "dpsd/log.h"

static void log_with(const Identity *i, int level, const LogFields *extra, const char *format, va_list ap) {
        const Assignment *a = identity_assignment(i);
        LogFields fields = *extra;

        fields.identity = i->name;
        fields.hub = a ? a->hub : NULL;
        log_messagev(level, &fields, format, ap);
}

void identity_log(const Identity *i, int level, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        log_with(i, level, &(LogFields){ 0 }, format, ap);
        va_end(ap);
}

void identity_log_error(const Identity *i, int level, const char *message_id, const DpsError *error,
                        const char *format, ...) {
        LogFields fields = {
                .error_id = dps_error_id_to_string(error->id),
                .error_code = error->code,
                .tracking_id = error->tracking_id,
                .message_id = message_id,
        };
        va_list ap;

        va_start(ap, format);
        log_with(i, level, &fields, format, ap);
        va_end(ap);
}
