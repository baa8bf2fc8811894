/* SPDX-License-Identifier: MIT */
#pragma once

/* What to do about a file or directory of ours that the system does not let us read or write. */

#include <stddef.h>

#define REFUSAL_TEXT_MAX 192

/* The text of the errno, and if it helps: what is wrong, and the command that mends it. `name`: the file in the
 * directory. Looks at both. */
const char *refusal_text(const char *directory, const char *name, int r,
                         char buffer[static REFUSAL_TEXT_MAX]);
