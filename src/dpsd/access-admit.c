/* SPDX-License-Identifier: MIT */
#include "dpsd/access-internal.h"

#include <errno.h>
#include <systemd/sd-bus.h>

#include "basic/text.h"
#include "basic/times.h"

/*
 * What needs no right is carried out at once, as long as all of it together takes no more than a share of the time. Beyond
 * that it depends on who asks: root and our own user are served, others as long as they have a share of their own left. A
 * request whose sender is not known yet waits for the sender's credentials. By then sd-bus can no longer answer it for us,
 * so we send it to ourselves and pass the answer on.
 */

#define SHARE_OF_ALL 25 /* percent of the time */
/* What a user pays for a request that we send to ourselves, and for a large answer. */
#define RELAY_USEC ((int64_t) (20 * USEC_PER_MSEC))
#define LARGE_USEC ((int64_t) (250 * USEC_PER_MSEC))
/* This many large answers at once, and then one per second, are given whoever asks. Each keeps the bus busy for longer than
 * us. */
#define LARGE_MAX 5
/* Answers that are still to be written: the bus does not keep up. */
#define QUEUED_MAX 64

bool sender_may_read(Sender *s) {
        return share_is_open(&s->account->share, SHARE_OF_USER, access_now(s->access));
}

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
                access_forget_senders(a);
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
        s = sender_find(a, name);
        if (s && s->account) {
                if (access_by_uid(s->uid, geteuid()) == ACCESS_GRANTED)
                        return true;
                if (sender_may_read(s)) {
                        if (is_large)
                                share_charge(&s->account->share, LARGE_USEC);
                        a->accounts.payer = s->account;
                        return true;
                }
                access_refuse_excess(a, s->account, request, TOO_MUCH);
                return false;
        }
        if (call == ACCESS_CALL_OTHER) {
                if (!s)
                        (void) sender_new(a, request, &s); /* from the next request on we know */
                return true;
        }
        r = access_take(a, request, ACCESS_READ, is_large ? LARGE_USEC : RELAY_USEC, NULL, NULL, relay,
                        &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(request, r, &error);
        return false;
}
