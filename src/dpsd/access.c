/* SPDX-License-Identifier: MIT */
#include "dpsd/access.h"

#include <errno.h>
#include <systemd/sd-bus.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/account.h"
#include "dpsd/log.h"
#include "dpsd/ratelimit.h"
#include "dpsd/request-copy.h"

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
 * the connection of its sender, or when it has waited for too long.
 *
 * What needs no right is carried out at once, as long as all of it together takes no more than a share of the time. Beyond
 * that (access_admit()) it depends on who asks: root and our own user are served, others as long as they have a share of
 * their own left. A request whose sender is not known yet waits for his credentials. Then sd-bus no longer takes it, so we
 * send it to ourselves, and pass the answer on.
 */

#define SHARE_OF_ALL 25 /* percent of the time */
/* What a user pays for a request that we send to ourselves, and for a large answer. */
#define RELAY_USEC ((int64_t) (20 * USEC_PER_MSEC))
#define LARGE_USEC ((int64_t) (250 * USEC_PER_MSEC))
/* So many large answers at once, and then one in a second, are given without a look at who asks: the bus is busy with one
 * for longer than we are. */
#define LARGE_MAX 5
/* Answers that are still to be written: the bus does not keep up. */
#define QUEUED_MAX 64

/* So many requests in excess of a budget are told so at once, and then one in 10 ms; the others are not answered, so that
 * the bus counts them as pending, and takes no more from that connection when there are many. */
#define REFUSALS_MAX 2000
#define REFUSAL_USEC (10 * USEC_PER_MSEC)

/* Long enough for a person to find and type a password. */
#define POLKIT_INTERACTIVE_TIMEOUT (2 * USEC_PER_MINUTE)
#define POLKIT_ALLOW_USER_INTERACTION UINT32_C(1)
/* How long a caller waits by default, and so how long a request waits for a place at polkit. */
#define PATIENCE_USEC (25 * USEC_PER_SEC)

#define BUS_DRIVER "org.freedesktop.DBus"

static const char *const right_actions[_ACCESS_RIGHT_MAX] = {
        [ACCESS_USE] = "io.dpsd.dps1.use",
        [ACCESS_MANAGE] = "io.dpsd.dps1.manage",
};

typedef struct CheckList {
        Check *first, *last;
} CheckList;

/* A connection with requests that are not decided yet, or, while too much is asked for, that we have heard of. */
typedef struct Sender {
        struct Sender *next;
        Access *access;
        char *name;
        CheckList waiting, at_polkit; /* in order of arrival */
        CheckList kept;
        unsigned n_checks;
        sd_bus_slot *slot; /* of the question to the bus */
        Account *account;  /* NULL: the answer has not come yet */
        bool has_uid;
        uint32_t uid;
        uint32_t *gids; /* NULL if the bus did not send the groups */
        size_t n_gids;
} Sender;

struct Check {
        Check *previous, *next;
        CheckList *list;
        Sender *sender;
        sd_bus_message *request; /* our copy */
        size_t size;
        uint64_t deadline_usec; /* CLOCK_BOOTTIME */
        int64_t cost_usec;      /* with ACCESS_READ */
        Account *account;       /* it is charged to this one; NULL: to none yet */
        Check **kept;           /* who keeps the request to answer it later; NULL: nobody */
        sd_bus_slot *slot;      /* of the call to polkit */
        AccessRight right;
        char *identity, *group; /* NULL: none */
        access_handler_t handler;
};

struct Access {
        World *world;
        const Groups *groups;
        void *userdata;
        Sender *senders; /* the one whose turn it is comes first */
        Accounts accounts;
        Account unknown;   /* of all senders whose user is not known yet */
        Check *current;    /* whose handler is called */
        sd_bus_slot *gone; /* tells of connections that end; NULL: there are no senders */
        unsigned n_at_polkit;
        Timer *deadline; /* not later than that of any check … */
        bool is_armed;   /* … if there is one that waits */

        Share share; /* of all that needs no right */
        bool is_overloaded;
        uint64_t cpu_usec; /* when the share was charged last, by the clock of this thread's work */
        RateLimit large;
};

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

static void check_charge(Check *c, Account *account) {
        if (c->account) {
                c->account->n_checks--;
                c->account->size -= c->size;
        }
        if (account) {
                account->n_checks++;
                account->size += c->size;
        }
        c->account = account;
}

static Check *check_free(Check *c) {
        Sender *s;

        if (!c)
                return NULL;

        s = c->sender;
        check_leave(c);
        s->n_checks--;
        check_charge(c, NULL);
        if (c->kept)
                *c->kept = NULL;
        sd_bus_slot_unref(c->slot);
        sd_bus_message_unref(c->request);
        free(c->identity);
        free(c->group);
        free(c);
        return NULL;
}
DEFINE_FREEP(Check, check_free)

static void sender_free(Sender *s) {
        Access *a = s->access;
        Sender **place = &a->senders;

        while (s->waiting.first)
                check_free(s->waiting.first);
        while (s->at_polkit.first)
                check_free(s->at_polkit.first);
        while (s->kept.first)
                check_free(s->kept.first);
        while (*place != s)
                place = &(*place)->next;
        *place = s->next;
        if (s->account)
                s->account->n_senders--;
        sd_bus_slot_unref(s->slot);
        free(s->gids);
        free(s->name);
        free(s);
        if (!a->senders)
                a->gone = sd_bus_slot_unref(a->gone);
}

/* While too much is asked for, the bus is not asked again for each request. */
static void sender_free_if_done(Sender *s) {
        if (s->n_checks == 0 && !(s->account && s->access->is_overloaded && s->access->gone))
                sender_free(s);
}

static void forget_senders(Access *a) {
        Sender *next;

        for (Sender *s = a->senders; s; s = next) {
                next = s->next;
                sender_free_if_done(s);
        }
}

static Sender *find_sender(const Access *a, const char *name) {
        for (Sender *s = a->senders; s; s = s->next)
                if (streq(s->name, name))
                        return s;
        return NULL;
}

static void on_deadline(void *userdata);

int access_new(World *w, const Groups *groups, void *userdata, Access **ret) {
        Access *a;
        int r;

        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;

        a->world = w;
        a->groups = groups;
        a->userdata = userdata;
        r = timer_new(w, on_deadline, a, &a->deadline);
        if (r < 0) {
                access_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

Access *access_free(Access *a) {
        if (!a)
                return NULL;

        while (a->senders)
                sender_free(a->senders);
        accounts_done(&a->accounts);
        timer_free(a->deadline);
        free(a);
        return NULL;
}

/* ---- how a check ends ---- */

static uint64_t access_now(const Access *a) {
        return world_now_usec(a->world, CLOCK_BOOTTIME);
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

/* Ends a check: does what was asked, or refuses it. A request that is answered later stays with its sender. */
static void check_end(Check *c, AccessVerdict verdict) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        Access *a = c->sender->access;
        int r;

        check_leave(c);
        a->current = c;
        r = verdict == ACCESS_GRANTED ? c->handler(c->request, a->userdata, &error)
                                      : check_refuse(c, verdict, &error);
        a->current = NULL;
        if (r < 0)
                (void) sd_bus_reply_method_errno(c->request, r, &error);
        if (c->kept)
                check_join(c, &c->sender->kept);
        else
                check_free(c);
}

void access_keep(Access *a, Check **kept) {
        *kept = a->current;
        if (a->current)
                a->current->kept = kept;
}

void access_done(Check *c) {
        Sender *s;

        if (!c)
                return;
        c->kept = NULL;
        s = c->sender;
        if (c == s->access->current)
                return;
        check_free(c);
        sender_free_if_done(s);
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

static bool may_refuse(const Access *a, Account *account) {
        return ratelimit_take(&account->refusals, REFUSALS_MAX, REFUSAL_USEC, access_now(a), NULL);
}

#define TOO_MUCH "You ask too often; try again in some seconds"
#define TOO_MANY "Too many of your requests are waiting for permission"

static void check_refuse_excess(Check *check, const char *why) {
        _cleanup_(check_freep) Check *c = check;

        if (may_refuse(c->sender->access, c->account))
                (void) sd_bus_reply_method_errorf(c->request, SD_BUS_ERROR_LIMITS_EXCEEDED, "%s", why);
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

/* Sends one check of this sender to polkit. False: it has none, or its user has as many there as a user may have. The last
 * places are for users who have none there. */
static bool ask_for(Sender *s) {
        unsigned n = s->access->n_at_polkit;
        Check *c = s->waiting.first;

        if (!c || !s->account || n >= ACCESS_AT_POLKIT_MAX ||
            s->account->n_at_polkit >= (n < ACCESS_AT_POLKIT_MAX / 2 ? ACCESS_AT_POLKIT_PER_USER_MAX : 1))
                return false;
        if (check_ask_polkit(c) < 0)
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "polkit cannot be asked");
        return true;
}

static bool is_exceeded(const Account *a) {
        return a->n_checks > ACCESS_PENDING_PER_USER_MAX || a->size > ACCESS_SIZE_PER_USER_MAX;
}

/* Before their users are known, whoever asks most gives way to the others. */
static void refuse_largest(Access *a) {
        Sender *largest = NULL;
        size_t most = 0;

        for (Sender *s = a->senders; s; s = s->next) {
                size_t size = 0;

                for (const Check *c = s->account ? NULL : s->waiting.first; c; c = c->next)
                        size += c->size + ACCESS_SIZE_PER_USER_MAX / ACCESS_PENDING_PER_USER_MAX;
                if (size > 0 && size >= most) {
                        most = size;
                        largest = s;
                }
        }
        check_refuse_excess(largest->waiting.last, TOO_MANY);
        sender_free_if_done(largest);
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
                for (Sender *s = a->senders; s && !any; s = next) {
                        next = s->next;
                        any = ask_for(s);
                        if (!any)
                                continue;
                        move_to_the_end(a, s);
                        sender_free_if_done(s);
                }
        } while (any);
}

static void watch_deadline(Access *a, uint64_t deadline_usec) {
        if (a->is_armed)
                return;
        a->is_armed = true;
        timer_set(a->deadline, deadline_usec, USEC_PER_SEC);
}

static void on_deadline(void *userdata) {
        Access *a = userdata;
        uint64_t now = access_now(a), earliest = USEC_INFINITY;
        Sender *next_sender;
        Check *next;

        a->is_armed = false;
        for (Sender *s = a->senders; s; s = next_sender) {
                next_sender = s->next;
                for (Check *c = s->waiting.first; c; c = next) {
                        next = c->next;
                        if (c->deadline_usec > now)
                                earliest = MIN(earliest, c->deadline_usec);
                        else
                                check_fail(c, SD_BUS_ERROR_TIMEOUT,
                                           "polkit, which must be asked, has not answered for so long that "
                                           "this request did not get its turn");
                }
                sender_free_if_done(s);
        }
        if (earliest < USEC_INFINITY)
                watch_deadline(a, earliest);
}

/* What belongs to a connection ends with it; only what is carried out goes on. */
static int on_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *before, *now;
        Access *a = userdata;
        Sender *s;

        if (sd_bus_message_read(m, "sss", &name, &before, &now) < 0 || *now)
                return 0;
        s = find_sender(a, name);
        if (s) {
                while (s->waiting.first)
                        check_free(s->waiting.first);
                while (s->at_polkit.first)
                        check_free(s->at_polkit.first);
                sender_free_if_done(s);
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

static bool may_read(Sender *s) {
        return share_is_open(&s->account->share, SHARE_OF_USER, access_now(s->access));
}

/* Charges the check to the user of its sender, and decides it if we can. */
static void check_decide(Check *c) {
        Sender *s = c->sender;
        Account *account = s->account;
        AccessVerdict verdict;

        check_charge(c, account);
        verdict = access_by_uid(s->uid, geteuid());
        if (verdict == ACCESS_UNDECIDED && is_exceeded(account)) {
                check_refuse_excess(c, TOO_MANY);
                return;
        }
        if (verdict == ACCESS_UNDECIDED && by_group(c) == ACCESS_GRANTED)
                verdict = ACCESS_GRANTED;
        if (verdict == ACCESS_UNDECIDED && c->right == ACCESS_READ && may_read(s)) {
                share_charge(&account->share, c->cost_usec);
                verdict = ACCESS_GRANTED;
        }
        if (verdict != ACCESS_UNDECIDED)
                check_end(c, verdict);
        else if (c->right == ACCESS_READ)
                check_refuse_excess(c, TOO_MUCH);
        else
                watch_deadline(s->access, c->deadline_usec);
}

/* Without the watch, a request ends with its deadline, and nothing else is kept of its sender. */
static int on_watched(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const sd_bus_error *refusal = sd_bus_message_get_error(reply);
        static bool is_told;
        Access *a = userdata;

        if (!refusal || sd_bus_error_has_name(refusal, SD_BUS_ERROR_NO_REPLY))
                return 0;
        a->gone = sd_bus_slot_unref(a->gone);
        forget_senders(a);
        if (!is_told)
                log_warning(
                        "D-Bus: it cannot be seen when a caller has gone (%s): what it has asked for waits "
                        "for its deadline",
                        refusal->message);
        is_told = true;
        return 0;
}

static void watch_senders(Access *a, sd_bus *bus) {
        if (!a->gone)
                (void) sd_bus_add_match_async(bus, &a->gone,
                                              "type='signal',sender='" BUS_DRIVER "',interface='" BUS_DRIVER
                                              "',member='NameOwnerChanged',arg2=''",
                                              on_gone, on_watched, a);
}

static int on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Sender *s = userdata;
        Access *a = s->access;
        bool is_known;
        Check *next;

        /* The answer itself is not kept: it may have brought a descriptor of the sender's process. */
        is_known = !sd_bus_message_is_method_error(reply, NULL) && sender_read_credentials(s, reply) >= 0;
        if (is_known)
                s->account = accounts_get(&a->accounts, s->uid, access_now(a));
        if (s->account)
                s->account->n_senders++;
        for (Check *c = s->waiting.first; c; c = next) {
                next = c->next;
                if (s->account)
                        check_decide(c);
                else
                        check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "The bus does not say who is asking");
        }
        if (s->n_checks > 0 || a->is_overloaded)
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

static int check_new(Sender *s, sd_bus_message *request, const char *identity, const char *group,
                     Check **ret) {
        _cleanup_(check_freep) Check *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->sender = s;
        s->n_checks++;
        r = request_copy(request, &c->request);
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

static int take_request(Access *a, sd_bus_message *request, AccessRight right, int64_t cost_usec,
                        const char *identity, const char *group, access_handler_t handler,
                        sd_bus_error *error) {
        const char *name = sd_bus_message_get_sender(request);
        size_t size = 0;
        Sender *s;
        Check *c = NULL; /* gcc 16 cannot tell that check_new() sets it */
        int r;

        if (!name)
                return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED, "This request has no sender");
        r = request_measure(request, ACCESS_ARGUMENTS_MAX, &size);
        if (r < 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                        "The arguments are too large, or of another type than they must be");
        s = find_sender(a, name);
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
        c->cost_usec = cost_usec;
        c->deadline_usec = access_now(a) + (is_interactive(c) ? POLKIT_INTERACTIVE_TIMEOUT : PATIENCE_USEC);
        check_join(c, &s->waiting);
        if (!s->account) {
                check_charge(c, &a->unknown);
                while (is_exceeded(&a->unknown))
                        refuse_largest(a);
        } else {
                check_decide(c);
                if (!ask_for(s)) /* nothing has changed for the others */
                        sender_free_if_done(s);
                else
                        ask_those_who_wait(a);
        }
        return 1;
}

int access_request(Access *a, sd_bus_message *request, AccessRight right, const char *identity,
                   const char *group, access_handler_t handler, sd_bus_error *error) {
        return take_request(a, request, right, 0, identity, group, handler, error);
}

/* ---- what needs no right ---- */

static int on_relayed(sd_bus_message *answer, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        sd_bus_message *request = userdata;
        int r;

        if (sd_bus_message_is_method_error(answer, NULL) > 0)
                return sd_bus_reply_method_error(request, sd_bus_message_get_error(answer));
        r = sd_bus_message_new_method_return(request, &reply);
        if (r >= 0)
                r = sd_bus_message_copy(reply, answer, true);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static void drop_request(void *request) {
        sd_bus_message_unref(request);
}

/* Sends the request to ourselves. */
static int relay(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        sd_bus *bus = sd_bus_message_get_bus(request);
        const char *ourselves;
        sd_bus_slot *slot;
        int r;

        r = sd_bus_get_unique_name(bus, &ourselves);
        if (r >= 0)
                r = sd_bus_message_new_method_call(bus, &m, ourselves, sd_bus_message_get_path(request),
                                                   sd_bus_message_get_interface(request),
                                                   sd_bus_message_get_member(request));
        if (r >= 0)
                r = sd_bus_message_rewind(request, true);
        if (r >= 0)
                r = sd_bus_message_copy(m, request, true);
        if (r >= 0)
                r = sd_bus_call_async(bus, &slot, m, on_relayed, request, 0);
        if (r < 0)
                return r;
        (void) sd_bus_slot_set_destroy_callback(slot, drop_request);
        sd_bus_message_ref(request);
        (void) sd_bus_slot_set_floating(slot, true);
        sd_bus_slot_unref(slot);
        return 0;
}

/* Charges what was done since the last request, and looks whether all of it is still within its share. */
static bool share_of_all_is_open(Access *a, sd_bus *bus, bool is_large) {
        uint64_t now = access_now(a), cpu = now_usec(CLOCK_THREAD_CPUTIME_ID), n_queued = 0;
        int64_t took = (int64_t) usec_sub(cpu, a->cpu_usec);
        bool is_open;

        a->cpu_usec = cpu;
        share_charge(&a->share, took);
        if (a->accounts.payer)
                share_charge(&a->accounts.payer->share, took);
        a->accounts.payer = NULL;
        if (is_large && !a->is_overloaded && !ratelimit_take(&a->large, LARGE_MAX, USEC_PER_SEC, now, NULL))
                share_charge(&a->share, DEBT_MAX_USEC);
        (void) sd_bus_get_n_queued_write(bus, &n_queued);
        is_open = share_is_open(&a->share, SHARE_OF_ALL, now) && n_queued < QUEUED_MAX &&
                  (!a->is_overloaded || a->share.left_usec > SHARE_MAX_USEC / 2);
        if (a->is_overloaded && is_open) {
                a->is_overloaded = false;
                forget_senders(a);
        }
        a->is_overloaded = !is_open;
        return is_open;
}

bool access_admit(Access *a, sd_bus_message *request, AccessCall call) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *name = sd_bus_message_get_sender(request), *ourselves;
        sd_bus *bus = sd_bus_message_get_bus(request);
        bool is_large = call == ACCESS_CALL_LARGE;
        Sender *s;
        int r;

        if (!name || share_of_all_is_open(a, bus, is_large) ||
            (sd_bus_get_unique_name(bus, &ourselves) >= 0 && streq(name, ourselves)))
                return true;
        s = find_sender(a, name);
        if (s && s->account) {
                if (access_by_uid(s->uid, geteuid()) == ACCESS_GRANTED)
                        return true;
                if (may_read(s)) {
                        if (is_large)
                                share_charge(&s->account->share, LARGE_USEC);
                        a->accounts.payer = s->account;
                        return true;
                }
                if (may_refuse(a, s->account))
                        (void) sd_bus_reply_method_errorf(request, SD_BUS_ERROR_LIMITS_EXCEEDED, TOO_MUCH);
                return false;
        }
        if (call == ACCESS_CALL_OTHER) {
                if (!s)
                        (void) sender_new(a, request, &s); /* from the next request on we know */
                return true;
        }
        r = take_request(a, request, ACCESS_READ, is_large ? LARGE_USEC : RELAY_USEC, NULL, NULL, relay,
                         &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(request, r, &error);
        return false;
}
