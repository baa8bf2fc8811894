/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/* Whether what is at the path answers, so that it can be read. Nothing is asked unless the path is a symbolic link, or something
 * is mounted there. If so, a thread of its own reads it, and is waited for, but not for ever. As long as that thread hangs,
 * neither this path nor any below it counts as one that answers. */
bool path_answers(const char *path);
