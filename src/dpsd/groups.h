/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Resolves the group names of [Access] Group= to gids. The system's database may take seconds to answer, so
 * the worker asks it once for each name. The answers are kept until groups_forget().
 */

#include <sys/types.h>

#include "basic/world.h"

typedef struct Groups Groups;

/* Runs in another thread. -ENOENT: there is no such group. Other failures say nothing about the group. */
typedef int (*groups_lookup_t)(const char *name, gid_t *ret);
/* The answer for `name` has arrived. Called from the loop. */
typedef void (*groups_handler_t)(const char *name, void *userdata);

/* `lookup` may be NULL: then the system's database is asked. */
int groups_new(World *w, groups_lookup_t lookup, groups_handler_t on_found, void *userdata, Groups **ret);
Groups *groups_free(Groups *g);
DEFINE_FREEP(Groups, groups_free)

/* 1: found. 0: the lookup is under way, and on_found() follows. -ENOENT: there is no such group. Other
 * failures: the system could not answer, and is not asked again before groups_forget(). -ENOMEM: the system
 * was not even asked. */
int groups_find(Groups *g, const char *name, gid_t *ret);
/* Like groups_find(), but starts no lookup, and returns the last answer while a new lookup is under way. 0:
 * there is none yet. */
int groups_recall(const Groups *g, const char *name, gid_t *ret);
/* Groups may have changed (at a reload): each is looked up again when it is asked for next. A lookup
 * that is under way is never abandoned, because it may hang for minutes: it is repeated when it ends. */
void groups_forget(Groups *g);
