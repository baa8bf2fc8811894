/* SPDX-License-Identifier: MIT */
#pragma once

/* The reason for a failure, for people. */

/* Sets *ret_why and returns `r`: `return why(ret_why, -EINVAL, "…")`. Without memory *ret_why is NULL, and it
 * returns -ENOMEM. */
int why(char **ret_why, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));
