/* SPDX-License-Identifier: MIT */
#pragma once

/* Loads a module without keeping the loop waiting for the disk. */

#include "basic/world.h"

/* `class` NULL: it cannot be loaded, and `why` says why, or is NULL if memory ran out. */
typedef void (*module_load_handler_t)(const void *class, const char *why, void *userdata);

/* As module_load(), or, with `shared`, module_load_with_shared(). The handler is never called before this returns. -ENOMEM. */
int module_load_later(World *w, const char *shared, const char *name, const char *kind,
                      module_load_handler_t handler, void *userdata, Work **ret);
