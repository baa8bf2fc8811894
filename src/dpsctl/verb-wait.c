/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/output.h"
#include "dpsctl/watch.h"
#include "dpsctl/when.h"

/* Waits until each identity that counts is assigned or failed. Waits for the daemon, too. */

#define LINES_MAX 8

static uint64_t booted_at(void) {
        return usec_sub(now_usec(CLOCK_REALTIME), now_usec(CLOCK_BOOTTIME));
}

static bool counts(const Identity *i, const Options *o) {
        return o->n_arguments > 0 ? strv_contains(o->arguments, i->name) : i->required_for_provisioned;
}

/* With --fresh, an assignment from before the boot does not count. */
static bool is_satisfying(const Identity *i, const Options *o, uint64_t booted_at_usec) {
        return identity_is(i, "assigned") && (!o->fresh || i->last_success_at >= booted_at_usec);
}

int wait_verdict(const IdentityList *l, const Options *o, uint64_t booted_at_usec) {
        size_t n = 0, n_assigned = 0, n_failed = 0;

        for (size_t k = 0; k < l->n; k++) {
                const Identity *i = &l->items[k];

                if (!counts(i, o))
                        continue;
                n++;
                n_failed += identity_is(i, "failed");
                n_assigned += is_satisfying(i, o, booted_at_usec);
        }

        if (n_assigned == n || (o->any && n_assigned > 0))
                return EXIT_DONE;
        if (n_failed == n || (!o->any && n_assigned + n_failed == n))
                return EXIT_NOT_ASSIGNED;
        return WAIT_ON;
}

static void drop_others(Watch *w) {
        for (size_t k = w->list.n; k-- > 0;) {
                Identity other;

                if (!counts(&w->list.items[k], w->options) &&
                    identity_list_take(&w->list, w->list.items[k].path, &other))
                        identity_done(&other);
        }
}

static void report_missing(const Identity *i) {
        char next[NEXT_TEXT_MAX];

        (void) fail_with(EXIT_NOT_ASSIGNED, "%s: %s%s%s%s; next: %s", i->name, i->state,
                         identity_is(i, "assigned") ? ", but DPS has not answered since the boot" : "",
                         isempty(i->last_error) ? "" : ": ", i->last_error,
                         identity_next(i, now_usec(CLOCK_REALTIME), next));
}

/* Lists the assigned identities, or only their number if they are many; after a failure also those that are missing. */
static void report_list(const IdentityList *l, const Options *o, int code) {
        size_t n_assigned = 0;

        for (size_t k = 0; k < l->n; k++) {
                const Identity *i = &l->items[k];

                if (!is_satisfying(i, o, booted_at())) {
                        if (code != EXIT_DONE)
                                report_missing(i);
                        continue;
                }
                if (++n_assigned <= LINES_MAX && !o->quiet)
                        printf("%s: assigned to %s as %s\n", i->name, i->assigned_hub, i->device_id);
        }
        if (n_assigned > LINES_MAX && !o->quiet)
                printf("%zu of %zu identities assigned\n", n_assigned, l->n);
        if (l->n == 0 && code == EXIT_DONE && !o->quiet)
                printf("No identity has to be waited for: RequiredForProvisioned=no is set for all.\n");
}

/* Reports the identities that count, and ends the wait. */
static void finish(Watch *w, int code) {
        const Options *o = w->options;
        int r = 0;

        drop_others(w);
        if (o->redact && identity_list_redact(&w->list) < 0)
                r = fail_memory();
        else if (o->json != JSON_OFF)
                r = output_json(o, identity_list_to_json(&w->list));
        else
                report_list(&w->list, o, code);
        watch_end(w, r != 0 ? r : code);
}

static void decide(Watch *w) {
        int code = wait_verdict(&w->list, w->options, booted_at());

        if (w->list.n == 0)
                watch_end(w, fail_with(EXIT_NOT_ASSIGNED,
                                       "no identity is configured, so none is assigned; see dps.conf(5)"));
        else if (code != WAIT_ON)
                finish(w, code);
}

static void on_list(Watch *w) {
        if (watch_finds_names(w))
                decide(w);
}

static void on_changed(Watch *w, const Identity *before, const Identity *now) {
        decide(w);
}

static void on_removed(Watch *w, const Identity *i) {
        if (strv_contains(w->options->arguments, i->name))
                watch_end(w, fail_with(EXIT_NO_IDENTITY, "%s is not configured any more", i->name));
        else
                decide(w);
}

static void on_gone(Watch *w) {
        if (!w->options->quiet)
                fprintf(stderr, "dpsctl: dpsd is not running, waiting for it\n");
}

static void on_timeout(Watch *w) {
        char duration[DURATION_TEXT_MAX];

        (void) fail_with(
                EXIT_TIMED_OUT, "timed out after %s%s", format_duration(w->options->timeout_usec, duration),
                w->is_there ? "" : ": dpsd is not running, or does not answer: systemctl start dpsd");
        finish(w, EXIT_TIMED_OUT);
}

int verb_wait(const Options *o) {
        static const WatchHandlers handlers = {
                .on_list = on_list,
                .on_changed = on_changed,
                .on_removed = on_removed,
                .on_gone = on_gone,
                .on_timeout = on_timeout,
        };

        return watch_run(o, &handlers, NULL);
}
