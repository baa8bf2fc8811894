/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"
#include "dpsctl/watch.h"
#include "dpsctl/when.h"

/* Requests reprovisions. With --wait, we listen for the end of a job before we request it. */

#define TIMEOUT_DEFAULT_USEC (90 * USEC_PER_SEC)

typedef struct Job {
        char *name, *path; /* the name may be redacted */
        uint64_t id;
        bool is_pending;
} Job;

typedef struct Jobs {
        Job *items;
        size_t n, n_pending;
        bool is_json;
        json_object *report;
        int code; /* the first one that was not EXIT_DONE */
} Jobs;

static void jobs_done(Jobs *jobs) {
        for (size_t k = 0; k < jobs->n; k++) {
                free(jobs->items[k].name);
                free(jobs->items[k].path);
        }
        free(jobs->items);
        json_object_put(jobs->report);
}

static void note_code(Jobs *jobs, int code) {
        if (jobs->code == 0)
                jobs->code = code;
}

static void note_report(Jobs *jobs, const char *name, bool ok, const char *error) {
        if (jobs->is_json)
                json_append(&jobs->report, json_pack("sbs", "Name", name, "Ok", ok, "Error", error));
}

static int add_job(Jobs *jobs, const Identity *i, uint64_t id) {
        Job *grown = reallocarray(jobs->items, jobs->n + 1, sizeof(Job));

        if (!grown)
                return fail_memory();
        jobs->items = grown;
        jobs->items[jobs->n] = (Job){ redact_text(i->name), strdup(i->path), id, true };
        if (!jobs->items[jobs->n].name || !jobs->items[jobs->n].path) {
                free(jobs->items[jobs->n].name);
                free(jobs->items[jobs->n].path);
                return fail_memory();
        }
        jobs->n++;
        jobs->n_pending++;
        return 0;
}

static int ask(Jobs *jobs, sd_bus *bus, const Identity *i) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        uint64_t id;
        int r;

        r = bus_call_guarded(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "Reprovision", &error, &reply, "s", i->name);
        if (r < 0) {
                note_report(jobs, i->name, false, error.message ?: strerror(-r));
                return bus_fail(&error, r);
        }
        r = sd_bus_message_read(reply, "t", &id);
        return r < 0 ? bus_fail_answer("Reprovision", r) : add_job(jobs, i, id);
}

/* If one is refused, the others are requested all the same, except that nobody is asked for a password again and again. */
static void ask_all(Jobs *jobs, sd_bus *bus, const IdentityList *l, const Options *o) {
        for (size_t k = 0; o->redact && k < l->n; k++)
                (void) identity_make_masks(&l->items[k]);
        for (size_t k = 0; k < l->n; k++) {
                int code;

                if (o->n_arguments > 0 && !strv_contains(o->arguments, l->items[k].name))
                        continue;
                code = ask(jobs, bus, &l->items[k]);
                note_code(jobs, code);
                if (code == EXIT_NO_DAEMON || (code == EXIT_NOT_PERMITTED && o->n_arguments == 0))
                        break;
        }
}

static int finish(Jobs *jobs, const Options *o) {
        if (jobs->is_json)
                note_code(jobs, output_json(o, json_document("reprovisions", TAKE_PTR(jobs->report))));
        return jobs->code;
}

/* --- --wait ----------------------------------------------------------------------------------------------------- */

static void end_if_done(Watch *w) {
        Jobs *jobs = w->userdata;

        if (jobs->n_pending == 0)
                watch_end(w, finish(jobs, w->options));
}

static void on_list(Watch *w) {
        if (!watch_finds_names(w))
                return;
        ask_all(w->userdata, w->bus, &w->list, w->options);
        end_if_done(w);
}

static void tell_assigned(const Watch *w, const Job *job) {
        const Identity *i = identity_list_find(&w->list, job->path);
        Identity shown;

        if (!i || w->options->quiet || w->options->json != JSON_OFF || identity_copy(i, &shown) < 0)
                return;
        if (!w->options->redact || identity_redact(&shown) >= 0)
                printf("%s: assigned to %s as %s\n", job->name, shown.assigned_hub, shown.device_id);
        identity_done(&shown);
}

static void tell_failure(const Watch *w, const Job *job, const char *error) {
        const Identity *i = identity_list_find(&w->list, job->path);
        char next[NEXT_TEXT_MAX] = "";

        if (i)
                (void) identity_next(i, now_usec(CLOCK_REALTIME), next);
        (void) fail_with(EXIT_FAILED, "%s: %s%s%s", job->name, error, i ? "; next: " : "", next);
}

static void on_finished(Watch *w, const char *path, uint64_t id, bool ok, const char *error) {
        Jobs *jobs = w->userdata;

        for (size_t k = 0; k < jobs->n; k++) {
                Job *job = &jobs->items[k];

                if (!job->is_pending || job->id != id || !streq(job->path, path))
                        continue;
                job->is_pending = false;
                jobs->n_pending--;
                note_report(jobs, job->name, ok, error);
                if (ok)
                        tell_assigned(w, job);
                else
                        tell_failure(w, job, error);
                note_code(jobs, ok ? EXIT_DONE : EXIT_FAILED);
        }
        end_if_done(w);
}

static void on_gone(Watch *w) {
        const Jobs *jobs = w->userdata;

        watch_end(w, fail_with(EXIT_NO_DAEMON, "%s",
                               jobs->n > 0 ? "dpsd stopped before the answer came; it continues when it runs "
                                             "again. To see why: journalctl -u dpsd"
                                           : "dpsd is not running; to start it: systemctl start dpsd"));
}

static void on_timeout(Watch *w) {
        const Jobs *jobs = w->userdata;
        char duration[DURATION_TEXT_MAX];

        for (size_t k = 0; k < jobs->n; k++)
                if (jobs->items[k].is_pending)
                        (void) fail_with(
                                EXIT_TIMED_OUT,
                                "%s: no answer after %s; dpsd continues to ask DPS: dpsctl status %s",
                                jobs->items[k].name, format_duration(w->options->timeout_usec, duration),
                                jobs->items[k].name);
        if (jobs->n == 0)
                (void) fail_with(EXIT_TIMED_OUT,
                                 "dpsd does not answer; to see what it does: systemctl status dpsd");
}

static int ask_and_wait(const Options *o, Jobs *jobs) {
        static const WatchHandlers handlers = {
                .wants_bus = true,
                .on_list = on_list,
                .on_gone = on_gone,
                .on_finished = on_finished,
                .on_timeout = on_timeout,
        };
        Options with_timeout = *o;

        if (!o->has_timeout)
                with_timeout.timeout_usec = TIMEOUT_DEFAULT_USEC;
        return watch_run(&with_timeout, &handlers, jobs);
}

/* --- without --wait -------------------------------------------------------------------------------------------------- */

static int ask_only(const Options *o, Jobs *jobs) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(identity_list_done) IdentityList list = { 0 };
        Options as_they_are = *o;
        int r;

        as_they_are.redact = false; /* the requests need the real names */
        r = bus_open(o, &bus);
        if (r == 0)
                r = identity_list_fetch(&list, bus, &as_they_are);
        if (r != 0)
                return r;

        ask_all(jobs, bus, &list, o);
        for (size_t k = 0; k < jobs->n; k++) {
                note_report(jobs, jobs->items[k].name, true, "");
                if (!o->quiet && !jobs->is_json)
                        printf("%s: asking DPS; to see the result: dpsctl status %s\n", jobs->items[k].name,
                               jobs->items[k].name);
        }
        return finish(jobs, o);
}

int verb_reprovision(const Options *o) {
        _cleanup_(jobs_done) Jobs jobs = { 0 };

        if (o->has_timeout && !o->wait)
                return fail_with(EXIT_USAGE, "reprovision takes --timeout= only with --wait");
        jobs.is_json = o->json != JSON_OFF;
        if (jobs.is_json)
                jobs.report = json_object_new_array();
        return o->wait ? ask_and_wait(o, &jobs) : ask_only(o, &jobs);
}
