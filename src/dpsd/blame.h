/* SPDX-License-Identifier: MIT */
#pragma once

#include "config/settings.h"
#include "dps/error.h"

/*
 * Trouble with what a line of the configuration names: "/etc/dps/gateway.conf:7: Key=: …". Gives `r` back, as in
 * `return blame(…)`, and takes the error's id from it: `key` for what is not there yet and may come by itself
 * (-EAGAIN, -ENOENT, -ENOTDIR), `memory`, else `config`.
 */
int blame(DpsError *error, int r, const Place *place, const char *key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
