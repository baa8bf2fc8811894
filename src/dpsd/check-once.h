/* SPDX-License-Identifier: MIT */
#pragma once

/* `dpsd --check`: what dpsctl check runs where no daemon can be asked. */

#include <stdbool.h>

/* Prints what Check() of the Manager would answer, a line for this device and one for each identity (`names` NULL or empty:
 * all). Gives an exit code. */
int check_once(char *const *names, bool offline);
