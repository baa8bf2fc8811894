/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/watch.h"
#include "dpsctl/when.h"

/* Follows changes: a line for people, or a JSON object with the properties that changed. */

/* The time and the name, at the beginning of each line. */
static void print_head(const Identity *i) {
        char timestamp[TIMESTAMP_TEXT_MAX];

        printf("%s%s%s %s%s%s: ", style_begin(STYLE_DIM),
               format_timestamp(now_usec(CLOCK_REALTIME), timestamp), style_end(STYLE_DIM),
               style_begin(STYLE_BOLD), i ? i->name : "dpsd", style_end(STYLE_BOLD));
}

static int output_event(const Options *o, const char *event, const Identity *i, json_object *changed) {
        return output_json(o, json_pack(changed ? "ttsso"
                                        : i     ? "ttss"
                                                : "tts",
                                        "version", (uint64_t) 1, "At", now_usec(CLOCK_REALTIME), "Event",
                                        event, "Name", i ? i->name : NULL, "Changed", changed));
}

static bool is_same(const Property *p, const Identity *a, const Identity *b) {
        if (p->type == 's')
                return streq(property_text(p, a), property_text(p, b));
        return property_number(p, a) == property_number(p, b);
}

static json_object *changed_properties(const Identity *before, const Identity *now) {
        json_object *o = identity_to_json(now);
        const Property *p;

        for (size_t k = 0; o && before && (p = property_at(k)); k++)
                if (is_same(p, before, now))
                        json_object_object_del(o, p->name);
        return o;
}

static void print_state(const Identity *before, const Identity *now) {
        if (before && streq(before->state, now->state))
                return;
        print_head(now);
        if (before)
                printf("%s %s ", before->state, style_arrow());
        printf("%s\n", now->state);
}

static void print_assignment(const Identity *before, const Identity *now) {
        bool is_same_connection = before && before->generation == now->generation;

        if (isempty(now->assigned_hub) ||
            (is_same_connection && before->last_success_at == now->last_success_at))
                return;
        print_head(now);
        if (is_same_connection) {
                printf("DPS has confirmed %s\n", now->assigned_hub);
                return;
        }
        if (before && !isempty(before->assigned_hub) && !streq(before->assigned_hub, now->assigned_hub))
                printf("moved from %s ", before->assigned_hub);
        printf("to %s as %s (generation %" PRIu64 ")\n", now->assigned_hub, now->device_id, now->generation);
}

static void print_error(const Identity *before, const Identity *now) {
        /* The same error again: print_next() tells about the next attempt. */
        if (before && streq(before->last_error_id, now->last_error_id) &&
            streq(before->last_error, now->last_error))
                return;
        if (isempty(now->last_error_id) && (!before || isempty(before->last_error_id)))
                return;
        print_head(now);
        if (isempty(now->last_error_id))
                printf("no error any more\n");
        else
                printf("%s%s (%s%s%s)%s\n", style_begin(STYLE_BAD), now->last_error, now->last_error_id,
                       isempty(now->last_error_step) ? "" : ", at ", now->last_error_step,
                       style_end(STYLE_BAD));
}

static void print_next(const Identity *before, const Identity *now) {
        uint64_t now_at = now_usec(CLOCK_REALTIME);
        char next[NEXT_TEXT_MAX], was_next[NEXT_TEXT_MAX];

        /* It is about to begin, and that will be a change of its own. */
        if (now->next_attempt_at > 0 && now->next_attempt_at <= now_at)
                return;

        (void) identity_next(now, now_at, next);
        if (before && streq(identity_next(before, now_at, was_next), next))
                return;
        print_head(now);
        printf("next: %s\n", next);
}

/* `before` and `now` are copies, already redacted if that is wanted. */
static int show_change(const Options *o, const Identity *before, const Identity *now) {
        json_object *changed;

        if (o->json == JSON_OFF) {
                print_state(before, now);
                print_assignment(before, now);
                print_error(before, now);
                print_next(before, now);
                return fflush(stdout) == 0 ? 0 : EXIT_FAILED;
        }
        changed = changed_properties(before, now);
        if (changed &&
            json_object_object_length(changed) == 0) { /* the daemon sent a property that has not changed */
                json_object_put(changed);
                return 0;
        }
        return changed ? output_event(o, before ? "changed" : "present", now, changed) : fail_memory();
}

static int copy_for_show(const Options *o, const Identity *i, Identity *ret) {
        int r = identity_copy(i, ret);

        if (r >= 0 && o->redact)
                r = identity_redact(ret);
        return r;
}

static void on_changed(Watch *w, const Identity *before, const Identity *now) {
        _cleanup_(identity_done) Identity a = { 0 }, b = { 0 };
        int r;

        r = before ? copy_for_show(w->options, before, &a) : 0;
        if (r >= 0)
                r = copy_for_show(w->options, now, &b);
        r = r < 0 ? fail_memory() : show_change(w->options, before ? &a : NULL, &b);
        if (r != 0)
                watch_end(w, r);
}

static void on_list(Watch *w) {
        for (size_t k = 0; k < w->list.n; k++)
                on_changed(w, NULL, &w->list.items[k]);
        if (w->list.n == 0 && w->options->json == JSON_OFF) {
                print_head(NULL);
                printf("running, no identity is configured\n");
                (void) fflush(stdout);
        }
}

static void show_event(Watch *w, const char *event, const Identity *i, const char *text) {
        if (w->options->json != JSON_OFF) {
                if (output_event(w->options, event, i, NULL) != 0)
                        watch_end(w, EXIT_FAILED);
                return;
        }
        print_head(i);
        printf("%s\n", text);
        (void) fflush(stdout);
}

static void on_removed(Watch *w, const Identity *i) {
        _cleanup_(identity_done) Identity shown = { 0 };

        if (copy_for_show(w->options, i, &shown) < 0)
                watch_end(w, fail_memory());
        else
                show_event(w, "removed", &shown, "not configured any more");
}

static void on_gone(Watch *w) {
        show_event(w, "gone", NULL, "not running, waiting for it");
}

int verb_monitor(const Options *o) {
        static const WatchHandlers handlers = {
                .wants_steps = true,
                .on_list = on_list,
                .on_changed = on_changed,
                .on_removed = on_removed,
                .on_gone = on_gone,
        };

        return watch_run(o, &handlers, NULL);
}
