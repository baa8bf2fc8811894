/* SPDX-License-Identifier: MIT */
#pragma once

/* The journal, which does not read for a while. What dpsd logs meanwhile goes through the real src/dpsd/log.c, whose calls of
 * the system come here (meson.build). */

#include <stdarg.h>

#include "dpsd/log.h"
#include "sim.h"

void journal_reset(Sim *s);
/* It is full, and perhaps stderr as well. */
void journal_fill(Sim *s, Random *r);
void journal_mend(Sim *s);
/* dpsd logs this. */
void journal_log(Sim *s, int level, const LogFields *fields, const char *format, va_list ap)
        __attribute__((format(printf, 4, 0)));
