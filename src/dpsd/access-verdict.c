/* SPDX-License-Identifier: MIT */
#include "dpsd/access-verdict.h"

#include <errno.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "basic/text.h"

#define BUS_DRIVER "org.freedesktop.DBus"

AccessVerdict access_by_uid(uid_t uid, uid_t own_uid) {
        return uid == 0 || uid == own_uid ? ACCESS_GRANTED : ACCESS_UNDECIDED;
}

AccessVerdict access_by_group(AccessRight right, gid_t group, const uint32_t *gids, size_t n_gids) {
        if (right != ACCESS_USE)
                return ACCESS_DENIED;
        for (size_t i = 0; i < n_gids; i++)
                if (gids[i] == group)
                        return ACCESS_GRANTED;
        return ACCESS_DENIED;
}

/* If the group does not exist, our own group is used instead, as it is for the files. */
AccessVerdict access_by_group_name(AccessRight right, const Groups *groups, const char *group,
                                   const uint32_t *gids, size_t n_gids) {
        gid_t gid;
        int r = isempty(group) ? -ENOENT : groups_recall(groups, group, &gid);

        if (r == -ENOENT)
                gid = getegid();
        else if (r <= 0) /* the members are not known yet */
                return ACCESS_DENIED;
        return access_by_group(right, gid, gids, n_gids);
}

AccessVerdict access_by_polkit(bool is_authorized, bool is_challenge, bool interactive) {
        if (is_authorized)
                return ACCESS_GRANTED;
        return is_challenge && !interactive ? ACCESS_NEEDS_INTERACTION : ACCESS_DENIED;
}

bool access_polkit_is_missing(const char *error_name, const char *error_sender) {
        /* AccessDenied comes from the bus itself: without polkit installed, no policy allows us to send to
         * it. */
        static const char *const names[] = {
                SD_BUS_ERROR_SERVICE_UNKNOWN,
                SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                SD_BUS_ERROR_ACCESS_DENIED,
                "org.freedesktop.systemd1.NoSuchUnit",
                "org.freedesktop.systemd1.UnitMasked",
                NULL,
        };

        return error_name && error_sender && streq(error_sender, BUS_DRIVER) &&
               strv_contains((char *const *) names, error_name);
}
