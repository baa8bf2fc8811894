/* SPDX-License-Identifier: MIT */
#pragma once

/* The reason of a failure, for people. */

/* Sets *ret_why (NULL where memory does not last) and gives `r` back: `return why(ret_why, -EINVAL, "…")`. */
int why(char **ret_why, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));
