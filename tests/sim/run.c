/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <time.h>

#include "actors.h"
#include "basic/text.h"
#include "checks.h"
#include "chip.h"
#include "disk.h"
#include "files.h"
#include "hang.h"
#include "journal.h"
#include "keys.h"
#include "machine.h"
#include "memory.h"
#include "net.h"
#include "sim.h"
#include "users.h"

/* The longest wait is a day and a fifth, and then there may be an hour of failures that are not forgotten. */
#define SETTLE_USEC (3 * USEC_PER_DAY)
/* The longest back-off, and the attempt behind it. */
#define ATTEMPT_EVERY_USEC (12 * USEC_PER_MINUTE)

static void run_until(Sim *s, uint64_t until_usec) {
        while (!s->finding.promise && events_step(s, until_usec))
                ;
        if (!s->finding.promise)
                s->now_usec = MAX(s->now_usec, until_usec);
}

/* Promise: nothing is due, nothing wakes. */
static void run_idle(Sim *s) {
        uint64_t until = checks_idle_until(s), end = s->now_usec + s->options.days * USEC_PER_DAY,
                 n_wakeups = s->n_wakeups;

        if (until > s->now_usec) {
                run_until(s, MIN(until, end) - 1);
                if (s->n_wakeups > n_wakeups)
                        found(s, "when nothing is due, nothing wakes", "%u wake-ups",
                              (unsigned) (s->n_wakeups - n_wakeups));
        }
        run_until(s, end);
}

/* A watchdog restarts the machine as long as it has no hub, so that in each run there is time for one attempt or two. */
static void run_with_restarts(Sim *s, TransportChoice open) {
        for (unsigned n = 0; n < 40 && !s->finding.promise; n++) {
                machine_cut_power(s->machine, 0);
                machine_start_later(s->machine, 15 * USEC_PER_SEC);
                run_until(s, s->now_usec + 10 * USEC_PER_MINUTE);
        }
        if (!s->finding.promise)
                checks_one_way(s, open, true);
}

/* Only one way is open, after a while in which none was, or not even one. Two attempts over each way come before the one that
 * gets through, and the last of their waits is the longest that there is. */
static void run_one_way(Sim *s, unsigned round) {
        static const NetFault faults[] = { NET_FAULT_UNREACHABLE, NET_FAULT_REFUSED, NET_FAULT_SILENT,
                                           NET_FAULT_INTERCEPTED };
        Random r = random_of(s->options.seed, "one way", round);
        TransportChoice open = random_chance(&r, 60) ? TRANSPORT_HTTPS : TRANSPORT_MQTT,
                        closed = open == TRANSPORT_HTTPS ? TRANSPORT_MQTT : TRANSPORT_HTTPS;
        NetFault fault = faults[random_below(&r, ELEMENTSOF(faults))];
        bool was_closed = random_chance(&r, 60), has_restarts = was_closed && random_chance(&r, 40);

        trace(s, "only %s is open", transport_choice_to_string(open));
        s->machine->network = (unsigned) random_below(&r, NETWORKS_MAX);
        net_block(s->net, closed, fault);
        for (unsigned k = 0; k < s->options.n_identities; k++)
                machine_begin_anew(s->machine, k);
        if (was_closed) {
                net_block(s->net, open, fault);
                run_until(s, s->now_usec + random_wait_usec(&r, 2 * USEC_PER_HOUR));
                net_block(s->net, open, NET_FAULT_NONE);
                if (has_restarts)
                        run_with_restarts(s, open);
                run_until(s, s->now_usec + 3 * ATTEMPT_EVERY_USEC);
        } else
                run_until(s, s->now_usec + ATTEMPT_EVERY_USEC);
        if (!s->finding.promise)
                checks_one_way(s, open, has_restarts);
        net_block(s->net, closed, NET_FAULT_NONE);
}

/* One chip or token hangs, in the middle of a renewal or from the start on, and then it answers again: its identity looks at it as
 * often as at any key that is not there. Only a few attempts may be in flight at once, so a slot that is not given back is one
 * that others miss. */
static void run_hanging(Sim *s) {
        Random r = random_of(s->options.seed, "hang", UINT64_MAX - 1);
        bool has_token = s->options.n_identities > ISSUED_IDENTITY &&
                         s->machine->confs[ISSUED_IDENTITY].key_place != KEY_PLACE_FILE;
        unsigned k = has_token && s->options.seed % 2 ? ISSUED_IDENTITY : 3;
        bool begins_anew = random_chance(&r, 50);

        if (k >= s->options.n_identities || (k != ISSUED_IDENTITY && !chip_is_of(k)))
                return;
        trace(s, "the chip of %u hangs", k);
        s->machine->network = 0;
        s->machine->max_attempts = 1 + (unsigned) random_below(&r, 2);
        hang_set(s, k, random_chance(&r, 50) ? HANG_ALWAYS : HANG_SIGNING);
        machine_reload(s->machine);
        for (unsigned j = 0; j < s->options.n_identities; j++)
                if (j != k || begins_anew)
                        machine_begin_anew(s->machine, j);
        if (random_chance(&r, 30)) {
                machine_kill(s->machine, 0);
                machine_start_later(s->machine, USEC_PER_SEC);
        }
        run_until(s, s->now_usec + ATTEMPT_EVERY_USEC + random_wait_usec(&r, 2 * USEC_PER_HOUR));
        if (!s->finding.promise)
                checks_hanging(s, k);
        trace(s, "the chip of %u answers", k);
        hang_set(s, k, HANG_NOT);
        run_until(s, s->now_usec + 2 * USEC_PER_HOUR);
        if (!s->finding.promise)
                checks_answering(s, k);
}

/* A configuration hangs, or what it names, through a restart or a reload, and then it answers again. The others, whose files
 * answer, may begin anew meanwhile. */
static void run_hidden(Sim *s) {
        Random r = random_of(s->options.seed, "hidden", 0);
        unsigned k = (unsigned) random_below(&r, s->options.n_identities + 1);
        ConfPlace place = 1 + (ConfPlace) random_below(&r, _CONF_PLACE_MAX - 1);

        s->machine->network = 0;
        s->machine->max_attempts = 50;
        if (k == s->options.n_identities) {
                k = IDENTITIES_MAX;
                place = CONF_LINK;
        }
        files_place(s, k, place);
        for (unsigned j = 0; j < s->options.n_identities && k < IDENTITIES_MAX && place != CONF_DIRECTORY;
             j++)
                if (j != k && random_chance(&r, 50))
                        machine_begin_anew(s->machine, j);
        files_hang(s, k);
        if (random_chance(&r, 60)) {
                machine_kill(s->machine, 0);
                machine_start_later(s->machine, USEC_PER_SEC);
        } else
                machine_reload(s->machine);
        run_until(s, s->now_usec + ATTEMPT_EVERY_USEC + random_wait_usec(&r, 2 * USEC_PER_HOUR));
        if (!s->finding.promise)
                files_check_all(s);
        files_mend(s);
        run_until(s, s->now_usec + USEC_PER_HOUR);
        if (!s->finding.promise)
                files_check_all(s);
}

/* For a day, programs report every few seconds that their hub refuses them, and DPS names another one each time. Tokens last
 * longer than that. */
static void run_blamed(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++)
                s->machine->confs[k].lifetime = 0;
        machine_reload(s->machine);
        run_until(s, s->now_usec + 2 * USEC_PER_HOUR);
        if (s->finding.promise)
                return;
        net_set_moving(s->net, true);
        checks_blame_begins(s);
        actors_blame(s, USEC_PER_DAY);
        run_until(s, s->now_usec + USEC_PER_DAY);
        if (!s->finding.promise)
                checks_blamed(s);
        net_set_moving(s->net, false);
}

static void set_up(Sim *s, const SimOptions *options) {
        *s = (Sim){ .options = *options,
                    .end_of_deeds_usec = options->days * USEC_PER_DAY,
                    .trace_hash = UINT64_C(0xcbf29ce484222325) };
        trace_set_sim(s);
        memory_run_out(0, 0);
        s->checks = checks_new(s);
        s->keys = keys_new(s);
        s->disk = disk_new(s);
        (void) files_new(s);
        s->net = net_new(s);
        s->machine = machine_new(s);
        s->machine->clock.realtime_usec = (int64_t) net_service_usec(s->net);
        s->users = users_new(s);
        journal_reset(s);
        (void) actors_new(s);
}

static void tear_down(Sim *s) {
        s->machine = machine_free(s->machine);
        s->users = users_free(s->users);
        s->net = net_free(s->net);
        events_done(s);
        s->actors = actors_free(s->actors);
        s->files = files_free(s->files);
        s->disk = disk_free(s->disk);
        s->keys = keys_free(s->keys);
        s->checks = checks_done(s->checks);
}

static void run_all(Sim *s) {
        run_until(s, s->end_of_deeds_usec);
        if (!s->finding.promise) {
                actors_end(s);
                run_until(s, s->now_usec + SETTLE_USEC);
        }
        if (!s->finding.promise)
                checks_settled(s);
        if (!s->finding.promise) {
                run_idle(s);
                checks_settled(s);
                checks_renewed(s);
        }
        for (unsigned round = 0; round < 2 && !s->finding.promise; round++)
                run_one_way(s, round);
        if (!s->finding.promise)
                run_hanging(s);
        if (!s->finding.promise && !machine_is_older(s->machine))
                run_hidden(s);
        /* That takes as long as all the rest. */
        if (!s->finding.promise && s->options.seed % 8 == 0)
                run_blamed(s);
}

void sim_run(const SimOptions *options, Outcome *ret) {
        static Sim sim;
        Sim *s = &sim;

        set_up(s, options);
        machine_start(s->machine);
        if (options->until_usec > 0 && options->until_usec < s->end_of_deeds_usec)
                run_until(s, options->until_usec);
        else
                run_all(s);

        *ret = (Outcome){ .finding = s->finding,
                          .n_deeds = s->n_deeds,
                          .n_events = s->n_events,
                          .simulated_usec = s->now_usec,
                          .trace_hash = s->trace_hash };
        memcpy(ret->deeds, s->deeds, s->n_deeds * sizeof(*s->deeds));
        tear_down(s);
}

/* ---- a shorter one ---- */

static bool still_fails(const SimOptions *o, const char *promise, Outcome *ret) {
        sim_run(o, ret);
        return ret->finding.promise && strcmp(ret->finding.promise, promise) == 0;
}

/* Leaves out `n` of the deeds from `first` on. */
static bool try_without(SimOptions *o, bool left_out[static DEEDS_MAX], Outcome *outcome,
                        const Outcome *before, size_t first, size_t n) {
        size_t end = MIN(first + n, before->n_deeds);
        Outcome after;

        for (size_t k = first; k < end; k++)
                left_out[before->deeds[k].number] = true;
        if (still_fails(o, outcome->finding.promise, &after)) {
                *outcome = after;
                return true;
        }
        for (size_t k = first; k < end; k++)
                left_out[before->deeds[k].number] = false;
        return false;
}

/* A good one that is there soon is better than the best. */
#define SHRINK_SECONDS 40

void sim_shrink(SimOptions *o, bool left_out[static DEEDS_MAX], Outcome *outcome) {
        static Outcome before;
        time_t end = time(NULL) + SHRINK_SECONDS;

        o->left_out = left_out;
        o->until_usec = outcome->finding.at_usec + USEC_PER_HOUR;
        for (size_t n = outcome->n_deeds; n > 0; n /= 2) {
                bool has_shrunk = true;

                while (has_shrunk && (n == 1 || outcome->n_deeds > n)) {
                        has_shrunk = false;
                        before = *outcome;
                        for (size_t first = 0; first < before.n_deeds && time(NULL) < end; first += n)
                                has_shrunk |= try_without(o, left_out, outcome, &before, first, n);
                        if (n > 1)
                                break;
                }
        }
}
