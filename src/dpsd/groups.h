/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * [Access] Group=: names of groups to gids. The system's database may take seconds to answer, so it is asked by the world's
 * worker, once for each name, and the answers are kept until groups_forget().
 */

#include <sys/types.h>

#include "basic/world.h"

typedef struct Groups Groups;

/* Runs in another thread. -ENOENT: there is no such group; other failures say nothing about the group. */
typedef int (*groups_lookup_t)(const char *name, gid_t *ret);
/* The answer for `name` is there now. Called from the loop. */
typedef void (*groups_handler_t)(const char *name, void *userdata);

/* `lookup` may be NULL: the system's database is asked. */
int groups_new(World *w, groups_lookup_t lookup, groups_handler_t on_found, void *userdata, Groups **ret);
Groups *groups_free(Groups *g);
DEFINE_FREEP(Groups, groups_free)

/* 1: found. 0: it is being looked up, on_found() follows. -ENOENT: there is no such group. Other failures: the system
 * could not tell, and is not asked again before groups_forget(). -ENOMEM: nor was it asked. */
int groups_find(Groups *g, const char *name, gid_t *ret);
/* The same, but looks nothing up, and goes on with the last answer while it is being looked up anew. 0: none yet. */
int groups_recall(const Groups *g, const char *name, gid_t *ret);
/* Groups may have changed (a reload): each is looked up anew when it is asked for. */
void groups_forget(Groups *g);
