/* SPDX-License-Identifier: MIT */
#include "dpsd/access.h"

#include <errno.h>
#include <systemd/sd-bus.h>

#include "basic/text.h"
#include "basic/times.h"

/*
 * How a check decides on one request:
 *
 *      credentials of the sender ──> uid 0 or our own uid: granted
 *           └──> wait for a free place ──> polkit ──> its answer
 *                    └──> polkit is missing: the group decides
 *
 * A check holds a reference to the request, and the slot of the one D-Bus call whose answer it waits for.
 */

/* Long enough for a person to find and type a password. */
#define POLKIT_INTERACTIVE_TIMEOUT (2 * USEC_PER_MINUTE)
#define POLKIT_ALLOW_USER_INTERACTION UINT32_C(1)

#define BUS_DRIVER "org.freedesktop.DBus"

static const char *const right_actions[_ACCESS_RIGHT_MAX] = {
        [ACCESS_USE] = "io.dpsd.dps1.use",
        [ACCESS_MANAGE] = "io.dpsd.dps1.manage",
};

typedef enum Stage {
        STAGE_AT_BUS,  /* the bus is asked who the sender is */
        STAGE_WAITING, /* too many checks are at polkit already */
        STAGE_AT_POLKIT,
} Stage;

typedef struct Check {
        Access *access;
        struct Check *previous, *next;
        Stage stage;
        sd_bus_message *request;
        sd_bus_message *credentials; /* of the sender, from the bus */
        sd_bus_slot *slot;           /* of the D-Bus call in flight */
        AccessRight right;
        char *identity, *group; /* NULL: none */
        access_handler_t handler;

        bool has_uid;
        uint32_t uid;
        const uint32_t *gids; /* points into `credentials`; NULL if the bus did not send the groups */
        size_t n_gids;
} Check;

struct Access {
        const Groups *groups;
        void *userdata;
        Check *first, *last; /* in order of arrival */
        unsigned n_at_polkit;
};

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
        };

        if (!error_name || !error_sender || !streq(error_sender, BUS_DRIVER))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (streq(error_name, names[i]))
                        return true;
        return false;
}

static void check_link(Check *c, Access *a) {
        c->access = a;
        c->previous = a->last;
        if (a->last)
                a->last->next = c;
        else
                a->first = c;
        a->last = c;
}

static void check_unlink(Check *c) {
        Access *a = c->access;

        if (c->previous)
                c->previous->next = c->next;
        else
                a->first = c->next;
        if (c->next)
                c->next->previous = c->previous;
        else
                a->last = c->previous;
        if (c->stage == STAGE_AT_POLKIT)
                a->n_at_polkit--;
}

static Check *check_free(Check *c) {
        if (!c)
                return NULL;

        check_unlink(c);
        sd_bus_slot_unref(c->slot);
        sd_bus_message_unref(c->credentials);
        sd_bus_message_unref(c->request);
        free(c->identity);
        free(c->group);
        free(c);
        return NULL;
}
DEFINE_FREEP(Check, check_free)

int access_new(const Groups *groups, void *userdata, Access **ret) {
        Access *a;

        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;

        a->groups = groups;
        a->userdata = userdata;
        *ret = a;
        return 0;
}

Access *access_free(Access *a) {
        if (!a)
                return NULL;

        while (a->first)
                check_free(a->first);
        free(a);
        return NULL;
}

static int check_refuse(const Check *c, AccessVerdict verdict, sd_bus_error *error) {
        const char *action = right_actions[c->right];

        if (verdict == ACCESS_NEEDS_INTERACTION)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                         "This needs the right %s: polkit would ask for a password, but the "
                                         "caller did not allow that",
                                         action);
        if (c->right == ACCESS_MANAGE || !c->identity)
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                         "This needs the right %s: root has it, and polkit may grant it",
                                         action);
        return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                                 "This needs the right %s for %s: root and members of group %s have it, "
                                 "and polkit may grant it",
                                 action, c->identity, c->group);
}

/* Ends a check: does what was asked, or refuses it. */
static void check_end(Check *check, AccessVerdict verdict) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(check_freep) Check *c = check;
        int r;

        if (verdict == ACCESS_GRANTED)
                r = c->handler(c->request, c->access->userdata, &error);
        else
                r = check_refuse(c, verdict, &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(c->request, r, &error);
}

static void check_fail(Check *check, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void check_fail(Check *check, const char *name, const char *format, ...) {
        _cleanup_(check_freep) Check *c = check;
        va_list ap;

        va_start(ap, format);
        (void) sd_bus_reply_method_errorfv(c->request, name, format, ap);
        va_end(ap);
}

static bool is_interactive(const Check *c) {
        return sd_bus_message_get_allow_interactive_authorization(c->request) > 0;
}

static void check_read_polkit(Check *c, sd_bus_message *reply) {
        const sd_bus_error *refusal = sd_bus_message_get_error(reply);
        int authorized, challenge;

        if (refusal && access_polkit_is_missing(refusal->name, sd_bus_message_get_sender(reply))) {
                check_end(c, access_by_group_name(c->right, c->access->groups, c->group, c->gids, c->n_gids));
                return;
        }
        if (refusal) {
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED,
                           "This needs the right %s, and polkit could not be asked: %s",
                           right_actions[c->right], refusal->message ?: refusal->name);
                return;
        }
        if (sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(reply, "bb", &authorized, &challenge) < 0) {
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "polkit's answer is malformed");
                return;
        }

        check_end(c, access_by_polkit(authorized, challenge, is_interactive(c)));
}

static void ask_those_who_wait(Access *a);

static int check_on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Check *c = userdata;
        Access *a = c->access;

        check_read_polkit(c, reply);
        ask_those_who_wait(a);
        return 0;
}

/* CheckAuthorization(subject, action, details, flags, cancellation id). The group is among the details so
 * that a polkit rule can decide by it. */
static int check_compose(const Check *c, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(sd_bus_message_get_bus(c->request), &m,
                                           "org.freedesktop.PolicyKit1",
                                           "/org/freedesktop/PolicyKit1/Authority",
                                           "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(c->request), right_actions[c->right]);
        if (r < 0)
                return r;
        if (c->identity)
                r = sd_bus_message_append(m, "a{ss}", 2, "identity", c->identity, "group", c->group);
        else
                r = sd_bus_message_append(m, "a{ss}", 0);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "us", is_interactive(c) ? POLKIT_ALLOW_USER_INTERACTION : 0, "");
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

static int check_ask_polkit(Check *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = check_compose(c, &m);
        if (r < 0)
                return r;

        c->slot = sd_bus_slot_unref(c->slot);
        r = sd_bus_call_async(sd_bus_message_get_bus(c->request), &c->slot, m, check_on_polkit, c,
                              is_interactive(c) ? POLKIT_INTERACTIVE_TIMEOUT : 0);
        if (r < 0)
                return r;

        c->stage = STAGE_AT_POLKIT;
        c->access->n_at_polkit++;
        return 0;
}

/* Counts the checks of this sender; if `stage` is set, only those in that stage. */
static unsigned count_of_sender(const Access *a, const char *sender, const Stage *stage) {
        unsigned n = 0;

        for (const Check *c = a->first; c; c = c->next)
                if ((!stage || c->stage == *stage) && streq(sd_bus_message_get_sender(c->request), sender))
                        n++;
        return n;
}

/* Checks go to polkit in order of arrival, but a sender that has reached its limit does not block the
 * others. */
static void ask_those_who_wait(Access *a) {
        static const Stage at_polkit = STAGE_AT_POLKIT;
        const char *full_sender = NULL; /* the last one found to be at its limit */
        Check *next;

        for (Check *c = a->first; c && a->n_at_polkit < ACCESS_AT_POLKIT_MAX; c = next) {
                const char *sender = sd_bus_message_get_sender(c->request);

                next = c->next;
                if (c->stage != STAGE_WAITING || (full_sender && streq(full_sender, sender)))
                        continue;
                if (count_of_sender(a, sender, &at_polkit) >= ACCESS_AT_POLKIT_PER_SENDER_MAX)
                        full_sender = sender;
                else if (check_ask_polkit(c) < 0)
                        check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "polkit cannot be asked");
        }
}

static int check_read_gids(Check *c) {
        const void *gids;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(c->credentials, 'v', "au");
        if (r < 0)
                return r;
        r = sd_bus_message_read_array(c->credentials, 'u', &gids, &size);
        if (r < 0)
                return r;

        c->gids = gids;
        c->n_gids = size / sizeof(uint32_t);
        return sd_bus_message_exit_container(c->credentials);
}

static int check_read_credential(Check *c) {
        const char *key;
        int r;

        r = sd_bus_message_read(c->credentials, "s", &key);
        if (r < 0)
                return r;

        if (streq(key, "UnixGroupIDs"))
                return check_read_gids(c);
        if (!streq(key, "UnixUserID"))
                return sd_bus_message_skip(c->credentials, "v");

        r = sd_bus_message_read(c->credentials, "v", "u", &c->uid);
        if (r < 0)
                return r;
        c->has_uid = true;
        return 0;
}

/* The answer is an a{sv}; we read the user and the groups. -ENODATA: the bus did not say who the sender
 * is. */
static int check_read_credentials(Check *c) {
        int r;

        r = sd_bus_message_enter_container(c->credentials, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(c->credentials, 'e', "sv")) > 0) {
                r = check_read_credential(c);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(c->credentials);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return c->has_uid ? 0 : -ENODATA;
}

static int check_on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Check *c = userdata;
        AccessVerdict verdict;

        c->credentials = sd_bus_message_ref(reply);
        if (sd_bus_message_is_method_error(reply, NULL) || check_read_credentials(c) < 0) {
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "The bus does not say who is asking");
                return 0;
        }

        verdict = access_by_uid(c->uid, geteuid());
        if (verdict != ACCESS_UNDECIDED) {
                check_end(c, verdict);
                return 0;
        }
        c->stage = STAGE_WAITING;
        ask_those_who_wait(c->access);
        return 0;
}

static int check_new(Access *a, sd_bus_message *request, const char *identity, const char *group,
                     Check **ret) {
        _cleanup_(check_freep) Check *c = NULL;

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;

        check_link(c, a);
        c->request = sd_bus_message_ref(request);
        if (identity) {
                c->identity = strdup(identity);
                c->group = strdup(group ?: "");
                if (!c->identity || !c->group)
                        return -ENOMEM;
        }

        *ret = TAKE_PTR(c);
        return 0;
}

int access_request(Access *a, sd_bus_message *request, AccessRight right, const char *identity,
                   const char *group, access_handler_t handler, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(request);
        _cleanup_(check_freep) Check *c = NULL;
        int r;

        if (!sender)
                return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED, "This request has no sender");
        if (count_of_sender(a, sender, NULL) >= ACCESS_PENDING_PER_SENDER_MAX)
                return sd_bus_error_set(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                        "Too many of your requests are waiting for permission");

        r = check_new(a, request, identity, group, &c);
        if (r < 0)
                return r;
        c->right = right;
        c->handler = handler;

        r = sd_bus_call_method_async(sd_bus_message_get_bus(request), &c->slot, BUS_DRIVER,
                                     "/org/freedesktop/DBus", BUS_DRIVER, "GetConnectionCredentials",
                                     check_on_credentials, c, "s", sender);
        if (r < 0)
                return r;

        c = NULL; /* the pending call owns it now */
        return 1;
}
