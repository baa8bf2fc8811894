/* SPDX-License-Identifier: MIT */
#include "dpsd/access-internal.h"

#include <systemd/sd-bus.h>

#define POLKIT_ALLOW_USER_INTERACTION UINT32_C(1)

const char *access_action(AccessRight right) {
        static const char *const actions[_ACCESS_RIGHT_MAX] = {
                [ACCESS_USE] = "io.dpsd.dps1.use",
                [ACCESS_MANAGE] = "io.dpsd.dps1.manage",
        };

        return actions[right];
}

/* ---- one question ---- */

static void read_polkit(Check *c, sd_bus_message *reply) {
        const sd_bus_error *refusal = sd_bus_message_get_error(reply);
        int authorized, challenge;

        if (refusal && access_polkit_is_missing(refusal->name, sd_bus_message_get_sender(reply))) {
                check_end(c, check_by_group(c));
                return;
        }
        if (refusal) {
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED,
                           "This needs the right %s, and polkit could not be asked: %s",
                           access_action(c->right), refusal->message ?: refusal->name);
                return;
        }
        if (sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(reply, "bb", &authorized, &challenge) < 0) {
                check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "polkit's answer is malformed");
                return;
        }

        check_end(c, access_by_polkit(authorized, challenge, check_is_interactive(c)));
}

static int on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Check *c = userdata;
        Sender *s = c->sender;
        Access *a = s->access;

        read_polkit(c, reply);
        sender_free_if_done(s);
        access_ask_polkit(a);
        return 0;
}

/* CheckAuthorization(subject, action, details, flags, cancellation id). The group is among the details so
 * that a polkit rule can decide by it. */
static int compose(const Check *c, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(sd_bus_message_get_bus(c->request), &m,
                                           "org.freedesktop.PolicyKit1",
                                           "/org/freedesktop/PolicyKit1/Authority",
                                           "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(c->request), access_action(c->right));
        if (r < 0)
                return r;
        if (c->identity)
                r = sd_bus_message_append(m, "a{ss}", 2, "identity", c->identity, "group", c->group);
        else
                r = sd_bus_message_append(m, "a{ss}", 0);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "us", check_is_interactive(c) ? POLKIT_ALLOW_USER_INTERACTION : 0, "");
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

static int ask_polkit(Check *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = compose(c, &m);
        if (r < 0)
                return r;

        r = sd_bus_call_async(sd_bus_message_get_bus(c->request), &c->slot, m, on_polkit, c,
                              check_is_interactive(c) ? POLKIT_INTERACTIVE_TIMEOUT : 0);
        if (r < 0)
                return r;

        check_join(c, &c->sender->at_polkit);
        return 0;
}

/* ---- turns ---- */

/* The last places are for users who have no check there. */
bool sender_ask_polkit(Sender *s) {
        unsigned n = s->access->n_at_polkit;
        Check *c = s->waiting.first;

        if (!c || !s->account || n >= ACCESS_AT_POLKIT_MAX ||
            s->account->n_at_polkit >= (n < ACCESS_AT_POLKIT_MAX / 2 ? ACCESS_AT_POLKIT_PER_USER_MAX : 1))
                return false;
        if (ask_polkit(c) < 0)
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

void access_ask_polkit(Access *a) {
        Sender *next;
        bool any;

        do {
                any = false;
                for (Sender *s = a->senders; s && !any; s = next) {
                        next = s->next;
                        any = sender_ask_polkit(s);
                        if (!any)
                                continue;
                        move_to_the_end(a, s);
                        sender_free_if_done(s);
                }
        } while (any);
}
