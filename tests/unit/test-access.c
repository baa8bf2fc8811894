/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "dpsd/access.h"
#include "timed-world.h"

#define DAEMON 990
#define GROUP 991

static const struct uid_case {
        const char *promise;
        uid_t uid;
        AccessVerdict verdict;
} uid_cases[] = {
        { "root is granted", 0, ACCESS_GRANTED },
        { "our own user is granted", DAEMON, ACCESS_GRANTED },
        { "for another user polkit is asked", 1000, ACCESS_UNDECIDED },
        { "for the user nobody polkit is asked", 65534, ACCESS_UNDECIDED },
        { "for an invalid user polkit is asked", (uid_t) -1, ACCESS_UNDECIDED },
};

static void check_uid(void **state) {
        const struct uid_case *c = *state;

        assert_int_equal(access_by_uid(c->uid, DAEMON), c->verdict);
}

static const struct group_case {
        const char *promise;
        AccessRight right;
        size_t n_gids;
        uint32_t gids[3];
        AccessVerdict verdict;
} group_cases[] = {
        { "a member may use", ACCESS_USE, 3, { 1000, GROUP, 27 }, ACCESS_GRANTED },
        { "a member by its last group may use", ACCESS_USE, 3, { 1000, 27, GROUP }, ACCESS_GRANTED },
        { "a member by its primary group may use", ACCESS_USE, 1, { GROUP }, ACCESS_GRANTED },
        { "a member may not manage", ACCESS_MANAGE, 1, { GROUP }, ACCESS_DENIED },
        { "a stranger may not use", ACCESS_USE, 2, { 1000, GROUP + 1 }, ACCESS_DENIED },
        { "a member of root's group may not use", ACCESS_USE, 1, { 0 }, ACCESS_DENIED },
        { "a user without groups may not use", ACCESS_USE, 0, { GROUP }, ACCESS_DENIED },
};

static void check_group(void **state) {
        const struct group_case *c = *state;

        assert_int_equal(access_by_group(c->right, GROUP, c->gids, c->n_gids), c->verdict);
}

/* ---- the group by its name ---- */

static int look_up(const char *name, gid_t *ret) {
        if (strcmp(name, "none") == 0)
                return -ENOENT;
        if (strcmp(name, "broken") == 0)
                return -EIO;
        *ret = GROUP;
        return 0;
}

static void on_found(const char *name, void *userdata) {
}

typedef enum Lookup {
        LOOKUP_NOT_ASKED,
        LOOKUP_UNDER_WAY,
        LOOKUP_DONE,
        LOOKUP_DONE_AND_ANEW, /* answered, and under way again */
} Lookup;

static const struct name_case {
        const char *promise, *group;
        Lookup lookup;
        AccessRight right;
        bool is_own; /* the caller is in our own group, and not in GROUP */
        AccessVerdict verdict;
} name_cases[] = {
        { "a member of a known group may use", "programs", LOOKUP_DONE, ACCESS_USE, false, ACCESS_GRANTED },
        { "a member of a known group may not manage", "programs", LOOKUP_DONE, ACCESS_MANAGE, false,
          ACCESS_DENIED },
        { "our own group is not the group that is known", "programs", LOOKUP_DONE, ACCESS_USE, true,
          ACCESS_DENIED },
        { "a group that was not looked up is denied", "programs", LOOKUP_NOT_ASKED, ACCESS_USE, false,
          ACCESS_DENIED },
        { "a group that is not known yet is denied", "programs", LOOKUP_UNDER_WAY, ACCESS_USE, false,
          ACCESS_DENIED },
        { "a group that is not known yet is not our own", "programs", LOOKUP_UNDER_WAY, ACCESS_USE, true,
          ACCESS_DENIED },
        { "the last answer holds during a new lookup", "programs", LOOKUP_DONE_AND_ANEW, ACCESS_USE, false,
          ACCESS_GRANTED },
        { "a group that cannot be looked up is denied", "broken", LOOKUP_DONE, ACCESS_USE, false,
          ACCESS_DENIED },
        { "a group that cannot be looked up is not our own", "broken", LOOKUP_DONE, ACCESS_USE, true,
          ACCESS_DENIED },
        { "our own group replaces one that does not exist", "none", LOOKUP_DONE, ACCESS_USE, true,
          ACCESS_GRANTED },
        { "our own group replaces an empty group", "", LOOKUP_NOT_ASKED, ACCESS_USE, true, ACCESS_GRANTED },
};

static void check_name(void **state) {
        const struct name_case *c = *state;
        uint32_t gids[] = { 1000, c->is_own ? getegid() : GROUP };
        TimedWorld world;
        Groups *groups;
        gid_t gid;

        timed_world_init(&world);
        assert_int_equal(groups_new(&world.world, look_up, on_found, NULL, &groups), 0);
        if (c->lookup != LOOKUP_NOT_ASKED)
                assert_int_equal(groups_find(groups, c->group, &gid), 0);
        if (c->lookup == LOOKUP_DONE || c->lookup == LOOKUP_DONE_AND_ANEW)
                timed_world_work(&world);
        if (c->lookup == LOOKUP_DONE_AND_ANEW) {
                groups_forget(groups);
                assert_int_equal(groups_find(groups, c->group, &gid), 0);
        }
        assert_int_equal(access_by_group_name(c->right, groups, c->group, gids, ELEMENTSOF(gids)),
                         c->verdict);
        groups_free(groups);
        timed_world_done(&world);
}

/* ---- polkit ---- */

static const struct polkit_case {
        const char *promise;
        bool is_authorized, is_challenge, interactive;
        AccessVerdict verdict;
} polkit_cases[] = {
        { "polkit's yes grants", true, false, false, ACCESS_GRANTED },
        { "polkit's no denies", false, false, false, ACCESS_DENIED },
        { "polkit's no denies an interactive caller too", false, false, true, ACCESS_DENIED },
        { "a password is asked for only if the caller allows it", false, true, false,
          ACCESS_NEEDS_INTERACTION },
        { "a missing password denies", false, true, true, ACCESS_DENIED },
};

static void check_polkit(void **state) {
        const struct polkit_case *c = *state;

        assert_int_equal(access_by_polkit(c->is_authorized, c->is_challenge, c->interactive), c->verdict);
}

static const struct missing_case {
        const char *promise, *name, *sender;
        bool is_missing;
} missing_cases[] = {
        { "no such service: no polkit", "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus",
          true },
        { "a name without an owner: no polkit", "org.freedesktop.DBus.Error.NameHasNoOwner",
          "org.freedesktop.DBus", true },
        { "no bus policy to reach it: no polkit", "org.freedesktop.DBus.Error.AccessDenied",
          "org.freedesktop.DBus", true },
        { "no unit to start: no polkit", "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus",
          true },
        { "a masked unit: no polkit", "org.freedesktop.systemd1.UnitMasked", "org.freedesktop.DBus", true },
        { "a denial by polkit itself is its answer", "org.freedesktop.DBus.Error.AccessDenied", ":1.7",
          false },
        { "an unknown action is polkit's answer", "org.freedesktop.PolicyKit1.Error.Failed", ":1.7", false },
        { "no reply does not mean that polkit is missing", "org.freedesktop.DBus.Error.NoReply",
          "org.freedesktop.DBus", false },
        { "a failed start does not mean that polkit is missing",
          "org.freedesktop.DBus.Error.Spawn.ChildExited", "org.freedesktop.DBus", false },
        { "a full bus does not mean that polkit is missing", "org.freedesktop.DBus.Error.LimitsExceeded",
          "org.freedesktop.DBus", false },
        { "an error without sender does not mean that polkit is missing",
          "org.freedesktop.DBus.Error.ServiceUnknown", NULL, false },
};

static void check_missing(void **state) {
        const struct missing_case *c = *state;

        assert_int_equal(access_polkit_is_missing(c->name, c->sender), c->is_missing);
}

#define ADD_CASES(rows, check)                                                                               \
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)                                                        \
                tests[n++] = (struct CMUnitTest) {                                                           \
                        .name = rows[i].promise, .test_func = check, .initial_state = (void *) &rows[i]      \
                }

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(uid_cases) + ELEMENTSOF(group_cases) + ELEMENTSOF(name_cases) +
                                ELEMENTSOF(polkit_cases) + ELEMENTSOF(missing_cases)] = { 0 };
        size_t n = 0;

        ADD_CASES(uid_cases, check_uid);
        ADD_CASES(group_cases, check_group);
        ADD_CASES(name_cases, check_name);
        ADD_CASES(polkit_cases, check_polkit);
        ADD_CASES(missing_cases, check_missing);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
