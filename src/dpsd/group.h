/* SPDX-License-Identifier: MIT */
#pragma once

/* [Access] Group=: who may use an identity, and read its files. */

#include <sys/types.h>

/* -ENOENT: there is none of that name. */
int group_find(const char *name, gid_t *ret);
/* Where the group does not exist, our own takes its place. */
gid_t group_to_gid(const char *name);
