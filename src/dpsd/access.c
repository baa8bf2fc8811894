/* SPDX-License-Identifier: MIT */
#include "dpsd/access-internal.h"

#include <errno.h>
#include <systemd/sd-bus.h>

#include "basic/times.h"
#include "dpsd/request-copy.h"

/*
 * How a check decides on one request:
 *
 *      credentials of the sender ──> uid 0 or our own uid: granted
 *           ├──> the process is in the identity's group, and wants to use it: granted
 *           └──> wait for a free place ──> polkit ──> its answer
 *                    └──> polkit is missing: denied
 *
 * The bus is asked once for all waiting requests of a sender. All limits are by user, since a user may have many
 * connections. A check holds a copy of the request with nothing but the arguments, whose size is limited. It ends
 * with the connection of its sender, or when it has waited for too long.
 */

/* How long a caller waits by default, and so how long a request waits for a place at polkit. */
#define PATIENCE_USEC (25 * USEC_PER_SEC)

/* This many requests beyond a budget are refused at once, and then one per 10 ms. The others get no answer, so the bus
 * counts them as pending and, when there are many, takes no more from that connection. */
#define REFUSALS_MAX 2000
#define REFUSAL_USEC (10 * USEC_PER_MSEC)

#define TOO_MANY "Too many of your requests are waiting for permission"

/* ---- lists of checks ---- */

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

void check_join(Check *c, CheckList *l) {
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

Check *check_free(Check *c) {
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

/* ---- how a check ends ---- */

bool check_is_interactive(const Check *c) {
        return sd_bus_message_get_allow_interactive_authorization(c->request) > 0;
}

AccessVerdict check_by_group(const Check *c) {
        const Sender *s = c->sender;

        return access_by_group_name(c->right, s->access->groups, c->group, s->gids, s->n_gids);
}

static int check_refuse(const Check *c, AccessVerdict verdict, sd_bus_error *error) {
        const char *action = access_action(c->right);

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

void check_end(Check *c, AccessVerdict verdict) {
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

void check_fail(Check *check, const char *name, const char *format, ...) {
        _cleanup_(check_freep) Check *c = check;
        va_list ap;

        va_start(ap, format);
        (void) sd_bus_reply_method_errorfv(c->request, name, format, ap);
        va_end(ap);
}

void access_refuse_excess(const Access *a, Account *account, sd_bus_message *request, const char *why) {
        if (ratelimit_take(&account->refusals, REFUSALS_MAX, REFUSAL_USEC, access_now(a), NULL))
                (void) sd_bus_reply_method_errorf(request, SD_BUS_ERROR_LIMITS_EXCEEDED, "%s", why);
}

static void refuse_excess(Check *check, const char *why) {
        _cleanup_(check_freep) Check *c = check;

        access_refuse_excess(c->sender->access, c->account, c->request, why);
}

/* ---- deadlines ---- */

static void watch_deadline(Access *a, uint64_t deadline_usec) {
        if (a->armed_usec > 0 && a->armed_usec <= deadline_usec)
                return;
        a->armed_usec = deadline_usec;
        timer_set(a->deadline, deadline_usec, USEC_PER_SEC);
}

static void on_deadline(void *userdata) {
        Access *a = userdata;
        uint64_t now = access_now(a), earliest = USEC_INFINITY;
        Sender *next_sender;
        Check *next;

        a->armed_usec = 0;
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

/* ---- limits ---- */

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
        refuse_excess(largest->waiting.last, TOO_MANY);
        sender_free_if_done(largest);
}

void check_decide(Check *c) {
        Sender *s = c->sender;
        Account *account = s->account;
        AccessVerdict verdict;

        check_charge(c, account);
        verdict = access_by_uid(s->uid, geteuid());
        if (verdict == ACCESS_UNDECIDED && is_exceeded(account)) {
                refuse_excess(c, TOO_MANY);
                return;
        }
        if (verdict == ACCESS_UNDECIDED && check_by_group(c) == ACCESS_GRANTED)
                verdict = ACCESS_GRANTED;
        if (verdict == ACCESS_UNDECIDED && c->right == ACCESS_READ && sender_may_read(s)) {
                share_charge(&account->share, c->cost_usec);
                verdict = ACCESS_GRANTED;
        }
        if (verdict != ACCESS_UNDECIDED)
                check_end(c, verdict);
        else if (c->right == ACCESS_READ)
                refuse_excess(c, TOO_MUCH);
        else
                watch_deadline(s->access, c->deadline_usec);
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

int access_take(Access *a, sd_bus_message *request, AccessRight right, int64_t cost_usec,
                const char *identity, const char *group, access_handler_t handler, sd_bus_error *error) {
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
                                        "The arguments are too large, or of the wrong type");
        s = sender_find(a, name);
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
        c->deadline_usec =
                access_now(a) + (check_is_interactive(c) ? POLKIT_INTERACTIVE_TIMEOUT : PATIENCE_USEC);
        check_join(c, &s->waiting);
        if (!s->account) {
                check_charge(c, &a->unknown);
                while (is_exceeded(&a->unknown))
                        refuse_largest(a);
        } else {
                check_decide(c);
                if (!sender_ask_polkit(s)) /* nothing has changed for the others */
                        sender_free_if_done(s);
                else
                        access_ask_polkit(a);
        }
        return 1;
}

int access_request(Access *a, sd_bus_message *request, AccessRight right, const char *identity,
                   const char *group, access_handler_t handler, sd_bus_error *error) {
        return access_take(a, request, right, 0, identity, group, handler, error);
}

/* ---- begin and end ---- */

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
