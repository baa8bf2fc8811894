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
 *           ├──> the process is in the identity's group, and wants to use it: granted
 *           └──> wait for a free place ──> polkit ──> its answer
 *                    └──> polkit is missing: denied
 *
 * The bus is asked once for all requests of a sender that wait. All limits are by user, since a user may have many
 * connections. A check holds a copy of the request with nothing but the arguments, whose size is limited, and it ends with
 * the connection of its sender.
 */

/* Long enough for a person to find and type a password. */
#define POLKIT_INTERACTIVE_TIMEOUT (2 * USEC_PER_MINUTE)
#define POLKIT_ALLOW_USER_INTERACTION UINT32_C(1)

#define BUS_DRIVER "org.freedesktop.DBus"

static const char *const right_actions[_ACCESS_RIGHT_MAX] = {
        [ACCESS_USE] = "io.dpsd.dps1.use",
        [ACCESS_MANAGE] = "io.dpsd.dps1.manage",
};

/* What a user has. */
typedef struct Account {
        struct Account *next;
        uint32_t uid;
        unsigned n_senders, n_checks, n_at_polkit;
        size_t size; /* of the arguments */
} Account;

typedef struct CheckList {
        struct Check *first, *last;
} CheckList;

/* A connection with requests that are not decided yet. */
typedef struct Sender {
        struct Sender *next;
        Access *access;
        char *name;
        CheckList waiting, at_polkit; /* in order of arrival */
        unsigned n_checks;
        sd_bus_slot *slot; /* of the question to the bus */
        Account *account;  /* NULL: the answer has not come yet */
        bool has_uid;
        uint32_t uid;
        uint32_t *gids; /* NULL if the bus did not send the groups */
        size_t n_gids;
} Sender;

typedef struct Check {
        struct Check *previous, *next;
        CheckList *list;
        Sender *sender;
        sd_bus_message *request; /* our copy */
        size_t size;
        bool is_charged;   /* to the account */
        sd_bus_slot *slot; /* of the call to polkit */
        AccessRight right;
        char *identity, *group; /* NULL: none */
        access_handler_t handler;
} Check;

struct Access {
        const Groups *groups;
        void *userdata;
        Sender *senders; /* the one whose turn it is comes first */
        Account *accounts;
        sd_bus_slot *gone; /* tells of connections that end; NULL: nobody waits for polkit */
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

/* ---- who waits ---- */

static void check_leave(Check *c) {
        CheckList *l = c->list;

        if (!l)
                return;
        if (c->previous)
                c->previous->next = c->next;
        else
                l->first = c->next;
        if (c->next)
                c->next->previous = c->previous;
        else
                l->last = c->previous;
        if (l == &c->sender->at_polkit) {
                c->sender->account->n_at_polkit--;
                c->sender->access->n_at_polkit--;
        }
        c->list = NULL;
}

static void check_join(Check *c, CheckList *l) {
        check_leave(c);
        c->list = l;
        c->previous = l->last;
        c->next = NULL;
        if (l->last)
                l->last->next = c;
        else
                l->first = c;
        l->last = c;
        if (l == &c->sender->at_polkit) {
                c->sender->account->n_at_polkit++;
                c->sender->access->n_at_polkit++;
        }
}

static Check *check_free(Check *c) {
        Sender *s;

        if (!c)
                return NULL;

        s = c->sender;
        check_leave(c);
        s->n_checks--;
        if (c->is_charged) {
                s->account->n_checks--;
                s->account->size -= c->size;
        }
        sd_bus_slot_unref(c->slot);
        sd_bus_message_unref(c->request);
        free(c->identity);
        free(c->group);
        free(c);
        return NULL;
}
DEFINE_FREEP(Check, check_free)

static Account *find_account(Access *a, uint32_t uid) {
        Account *account;

        for (account = a->accounts; account; account = account->next)
                if (account->uid == uid)
                        return account;
        account = calloc(1, sizeof(*account));
        if (account) {
                account->uid = uid;
                account->next = a->accounts;
                a->accounts = account;
        }
        return account;
}

static void account_release(Access *a, Account *account) {
        Account **place = &a->accounts;

        if (!account || --account->n_senders > 0)
                return;
        while (*place != account)
                place = &(*place)->next;
        *place = account->next;
        free(account);
}

static void sender_free(Sender *s) {
        Access *a = s->access;
        Sender **place = &a->senders;

        while (s->waiting.first)
                check_free(s->waiting.first);
        while (s->at_polkit.first)
                check_free(s->at_polkit.first);
        while (*place != s)
                place = &(*place)->next;
        *place = s->next;
        account_release(a, s->account);
        sd_bus_slot_unref(s->slot);
        free(s->gids);
        free(s->name);
        free(s);
        if (!a->senders)
                a->gone = sd_bus_slot_unref(a->gone);
}

static void sender_free_if_done(Sender *s) {
        if (s->n_checks == 0)
                sender_free(s);
}

static Sender *find_sender(const Access *a, const char *name) {
        for (Sender *s = a->senders; s; s = s->next)
                if (streq(s->name, name))
                        return s;
        return NULL;
}

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

        while (a->senders)
                sender_free(a->senders);
        free(a);
        return NULL;
}

/* ---- how a check ends ---- */

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
                r = c->handler(c->request, c->sender->access->userdata, &error);
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

static AccessVerdict by_group(const Check *c) {
        const Sender *s = c->sender;

        return access_by_group_name(c->right, s->access->groups, c->group, s->gids, s->n_gids);
}

/* ---- polkit ---- */

static bool is_interactive(const Check *c) {
        return sd_bus_message_get_allow_interactive_authorization(c->request) > 0;
}

static void check_read_polkit(Check *c, sd_bus_message *reply) {
        const sd_bus_error *refusal = sd_bus_message_get_error(reply);
        int authorized, challenge;

        if (refusal && access_polkit_is_missing(refusal->name, sd_bus_message_get_sender(reply))) {
                check_end(c, by_group(c));
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
        Sender *s = c->sender;
        Access *a = s->access;

        check_read_polkit(c, reply);
        sender_free_if_done(s);
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

        r = sd_bus_call_async(sd_bus_message_get_bus(c->request), &c->slot, m, check_on_polkit, c,
                              is_interactive(c) ? POLKIT_INTERACTIVE_TIMEOUT : 0);
        if (r < 0)
                return r;

        check_join(c, &c->sender->at_polkit);
        return 0;
}

/* Sends one check of this sender to polkit. False: it has none, or its user has as many there as a user may have. */
static bool ask_for(Sender *s) {
        Check *c = s->waiting.first;

        if (!c || !s->account || s->account->n_at_polkit >= ACCESS_AT_POLKIT_PER_USER_MAX)
                return false;
        if (check_ask_polkit(c) < 0)
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "polkit cannot be asked");
        return true;
}

static void move_to_the_end(Access *a, Sender *s) {
        Sender **end = &a->senders;

        while (*end != s)
                end = &(*end)->next;
        *end = s->next;
        while (*end)
                end = &(*end)->next;
        s->next = NULL;
        *end = s;
}

/* The senders take turns. */
static void ask_those_who_wait(Access *a) {
        Sender *next;
        bool any;

        do {
                any = false;
                for (Sender *s = a->senders; s && a->n_at_polkit < ACCESS_AT_POLKIT_MAX && !any; s = next) {
                        next = s->next;
                        any = ask_for(s);
                        if (!any)
                                continue;
                        move_to_the_end(a, s);
                        sender_free_if_done(s);
                }
        } while (any);
}

/* What belongs to a connection ends with it. */
static int on_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *before, *now;
        Access *a = userdata;
        Sender *s;

        if (sd_bus_message_read(m, "sss", &name, &before, &now) < 0 || *now)
                return 0;
        s = find_sender(a, name);
        if (s) {
                sender_free(s);
                ask_those_who_wait(a);
        }
        return 0;
}

/* ---- who asks ---- */

static int sender_read_gids(Sender *s, sd_bus_message *m) {
        const void *gids;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "au");
        if (r < 0)
                return r;
        r = sd_bus_message_read_array(m, 'u', &gids, &size);
        if (r < 0)
                return r;

        free(s->gids);
        s->gids = malloc(MAX(size, (size_t) 1));
        if (!s->gids)
                return -ENOMEM;
        memcpy(s->gids, gids, size);
        s->n_gids = size / sizeof(uint32_t);
        return sd_bus_message_exit_container(m);
}

static int sender_read_credential(Sender *s, sd_bus_message *m) {
        const char *key;
        int r;

        r = sd_bus_message_read(m, "s", &key);
        if (r < 0)
                return r;

        if (streq(key, "UnixGroupIDs"))
                return sender_read_gids(s, m);
        if (!streq(key, "UnixUserID"))
                return sd_bus_message_skip(m, "v");

        r = sd_bus_message_read(m, "v", "u", &s->uid);
        if (r < 0)
                return r;
        s->has_uid = true;
        return 0;
}

/* The answer is an a{sv}; we read the user and the groups. -ENODATA: the bus did not say who the sender
 * is. */
static int sender_read_credentials(Sender *s, sd_bus_message *m) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sender_read_credential(s, m);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return s->has_uid ? 0 : -ENODATA;
}

/* Charges the check to the user of its sender, and decides it if we can. */
static void check_decide(Check *c) {
        Sender *s = c->sender;
        Account *account = s->account;
        AccessVerdict verdict;

        c->is_charged = true;
        account->n_checks++;
        account->size += c->size;
        verdict = access_by_uid(s->uid, geteuid());
        if (verdict == ACCESS_UNDECIDED && by_group(c) == ACCESS_GRANTED)
                verdict = ACCESS_GRANTED;
        if (verdict != ACCESS_UNDECIDED)
                check_end(c, verdict);
        else if (account->n_checks > ACCESS_PENDING_PER_USER_MAX || account->size > ACCESS_SIZE_PER_USER_MAX)
                check_fail(c, SD_BUS_ERROR_LIMITS_EXCEEDED,
                           "Too many of your requests are waiting for permission");
}

static void watch_senders(Access *a, sd_bus *bus) {
        if (!a->gone)
                (void) sd_bus_add_match_async(bus, &a->gone,
                                              "type='signal',sender='" BUS_DRIVER "',interface='" BUS_DRIVER
                                              "',member='NameOwnerChanged',arg2=''",
                                              on_gone, NULL, a);
}

static int on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Sender *s = userdata;
        Access *a = s->access;
        bool is_known;
        Check *next;

        /* The answer itself is not kept: it may have brought a descriptor of the sender's process. */
        is_known = !sd_bus_message_is_method_error(reply, NULL) && sender_read_credentials(s, reply) >= 0;
        if (is_known)
                s->account = find_account(a, s->uid);
        if (s->account)
                s->account->n_senders++;
        for (Check *c = s->waiting.first; c; c = next) {
                next = c->next;
                if (s->account)
                        check_decide(c);
                else
                        check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "The bus does not say who is asking");
        }
        if (s->n_checks > 0)
                watch_senders(a, sd_bus_message_get_bus(reply));
        sender_free_if_done(s);
        ask_those_who_wait(a);
        return 0;
}

static int sender_new(Access *a, sd_bus_message *request, Sender **ret) {
        const char *name = sd_bus_message_get_sender(request);
        Sender *s = calloc(1, sizeof(*s));
        int r = -ENOMEM;

        if (!s)
                return r;
        *s = (Sender){ .access = a, .name = strdup(name), .next = a->senders };
        a->senders = s;
        if (s->name)
                r = sd_bus_call_method_async(sd_bus_message_get_bus(request), &s->slot, BUS_DRIVER,
                                             "/org/freedesktop/DBus", BUS_DRIVER, "GetConnectionCredentials",
                                             on_credentials, s, "s", name);
        if (r < 0) {
                sender_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

/* ---- requests ---- */

/* Adds up the texts of the arguments, which are all that can be large. Our methods have numbers, texts, and arrays and
 * variants of texts. */
static int measure(sd_bus_message *m, size_t *size) {
        const char *contents;
        uint64_t value;
        char type;
        int r;

        while ((r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
                if (contents && !streq(contents, "s"))
                        return -EBADMSG;
                if (contents) {
                        r = sd_bus_message_enter_container(m, type, contents);
                        if (r >= 0)
                                r = measure(m, size);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                } else if (type == 's') {
                        const char *text;

                        r = sd_bus_message_read_basic(m, type, &text);
                        *size += r >= 0 ? strlen(text) + 8 : 0;
                } else
                        r = sd_bus_message_read_basic(m, type, &value);
                if (r < 0)
                        return r;
                if (*size > ACCESS_ARGUMENTS_MAX)
                        return -E2BIG;
        }
        return r;
}

/* A message may have much else: header fields that nobody knows, and file descriptors. */
static int copy_arguments(sd_bus_message *request, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint64_t cookie;
        int r;

        r = sd_bus_message_get_cookie(request, &cookie);
        if (r >= 0)
                r = sd_bus_message_new_method_call(
                        sd_bus_message_get_bus(request), &m, NULL, sd_bus_message_get_path(request),
                        sd_bus_message_get_interface(request), sd_bus_message_get_member(request));
        if (r >= 0)
                r = sd_bus_message_rewind(request, true);
        if (r >= 0)
                r = sd_bus_message_copy(m, request, true);
        if (r >= 0)
                r = sd_bus_message_set_sender(m, sd_bus_message_get_sender(request));
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(m, sd_bus_message_get_expect_reply(request));
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(
                        m, sd_bus_message_get_allow_interactive_authorization(request));
        if (r >= 0)
                r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = sd_bus_message_seal(m, cookie, 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static int check_new(Sender *s, sd_bus_message *request, const char *identity, const char *group,
                     Check **ret) {
        _cleanup_(check_freep) Check *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->sender = s;
        s->n_checks++;
        r = copy_arguments(request, &c->request);
        if (r < 0)
                return r;
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
        const char *name = sd_bus_message_get_sender(request);
        size_t size = 0;
        Sender *s;
        Check *c;
        int r;

        if (!name)
                return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED, "This request has no sender");
        r = sd_bus_message_rewind(request, true);
        if (r >= 0)
                r = measure(request, &size);
        if (r < 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "The arguments are too large, or of another type than they must be");
        s = find_sender(a, name);
        if (s && s->n_checks >= ACCESS_PENDING_PER_USER_MAX)
                return sd_bus_error_set(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                        "Too many of your requests are waiting for permission");
        r = s ? 0 : sender_new(a, request, &s);
        if (r < 0)
                return r;
        r = check_new(s, request, identity, group, &c);
        if (r < 0) {
                sender_free_if_done(s);
                return r;
        }
        c->right = right;
        c->handler = handler;
        c->size = size;
        check_join(c, &s->waiting);
        if (s->account) {
                check_decide(c);
                sender_free_if_done(s);
                ask_those_who_wait(a);
        }
        return 1;
}
