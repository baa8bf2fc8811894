/* SPDX-License-Identifier: MIT */
#pragma once

/* An error of something that seldom fails: it takes memory only while there is one. NULL: there is none. */

#include "dps/error.h"

/* Replaces it by a copy of `error`; id NONE: there is none any more. Without memory for it, the error is that there was no memory. */
void kept_error_set(DpsError **kept, const DpsError *error);
void kept_error_clear(DpsError **kept);
/* Never NULL: id NONE if there is none. */
const DpsError *kept_error(const DpsError *kept);
