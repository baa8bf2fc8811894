/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdarg.h>

#include "config/settings.h"
#include "dps/error.h"

/*
 * Sets an error that begins with a line of the configuration: "/etc/dps/gateway.conf:7: Key=: …". Returns
 * `r`, so that callers can write `return credential_error(…)`. The error's id follows from `r`: `key` for
 * something that may still appear, or that the system cannot give now (-EAGAIN, -ENOENT, -EIO, -EMFILE …),
 * `memory` for -ENOMEM (with a fixed text), else `config`.
 */
int credential_error(DpsError *error, int r, const Place *place, const char *key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
int credential_verror(DpsError *error, int r, const Place *place, const char *key, const char *format,
                      va_list ap) __attribute__((format(printf, 5, 0)));
/* There is no memory for this step. */
void error_set_memory(DpsError *error, DpsStep step);
