/* SPDX-License-Identifier: MIT */
#pragma once

#include "config/settings.h"
#include "dps/error.h"

/*
 * Sets an error about something that a line of the configuration names: "/etc/dps/gateway.conf:7: Key=: …". Returns `r`,
 * as in `return credential_error(…)`, and derives the error's id from it: `key` for what is not there yet and may appear
 * (-EAGAIN, -ENOENT, -ENOTDIR), `memory` for -ENOMEM, whose text is always the same, else `config`.
 */
int credential_error(DpsError *error, int r, const Place *place, const char *key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
