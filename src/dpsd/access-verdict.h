/* SPDX-License-Identifier: MIT */
#pragma once

/* The single decisions about who may do what, as pure functions (access.h). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dpsd/groups.h"

typedef enum AccessRight {
        ACCESS_USE,    /* polkit's io.dpsd.dps1.use: get the credentials of one identity */
        ACCESS_MANAGE, /* polkit's io.dpsd.dps1.manage: control the daemon */
        ACCESS_READ,   /* what everybody may, while too much of it is asked for */
        _ACCESS_RIGHT_MAX,
} AccessRight;

typedef enum AccessVerdict {
        ACCESS_GRANTED,
        ACCESS_DENIED,
        ACCESS_NEEDS_INTERACTION, /* a password is needed, but the caller forbade asking for it */
        ACCESS_UNDECIDED,         /* continue with the next check */
} AccessVerdict;

AccessVerdict access_by_uid(uid_t uid, uid_t own_uid);
AccessVerdict access_by_group(AccessRight right, gid_t group, const uint32_t *gids, size_t n_gids);
/* `group` may be NULL or empty, which means none. */
AccessVerdict access_by_group_name(AccessRight right, const Groups *groups, const char *group,
                                   const uint32_t *gids, size_t n_gids);
AccessVerdict access_by_polkit(bool is_authorized, bool is_challenge, bool interactive);
/* Whether this error, received in answer to a call to polkit, means that polkit is not there. */
bool access_polkit_is_missing(const char *error_name, const char *error_sender);
