/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/times.h"
#include "config/conf.h"
#include "dps/error.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/table.h"
#include "dpsctl/when.h"

/* A card for one identity, a table for several. Both end with what happens next. */

static Style style_of(const Identity *i) {
        if (identity_is(i, "assigned"))
                return i->healthy ? STYLE_GOOD : STYLE_BUSY;
        if (identity_is(i, "failed"))
                return STYLE_BAD;
        return STYLE_BUSY;
}

Exit status_code(const IdentityList *l, bool strict) {
        for (size_t k = 0; k < l->n; k++)
                if (!identity_is(&l->items[k], "assigned") || (strict && !l->items[k].healthy))
                        return EXIT_NOT_ASSIGNED;
        return EXIT_DONE;
}

/* --- the card ------------------------------------------------------------------------------------------------- */

#define LABEL_WIDTH 12

static void print_line(const char *label, const char *text) {
        if (!isempty(text))
                printf("%*s%s %s\n", LABEL_WIDTH, label, isempty(label) ? " " : ":", text);
}

static void print_moment(const char *label, const char *before, uint64_t at_usec, uint64_t now_usec) {
        char moment[MOMENT_TEXT_MAX], line[MOMENT_TEXT_MAX + 32];

        if (at_usec == 0)
                return;
        (void) snprintf(line, sizeof(line), "%s%s", before, format_moment(at_usec, now_usec, moment));
        print_line(label, line);
}

static const char *expires(uint64_t at_usec, uint64_t now_usec) {
        return at_usec > now_usec ? "expires " : "expired ";
}

static const char *problem_of(const Identity *i) {
        if (!identity_is(i, "assigned") || i->healthy)
                return "";
        if (!i->configured)
                return ", but its configuration has errors";
        return streq(i->last_error_id, "disk") || streq(i->last_error_id, "key") ||
                               streq(i->last_error_id, "issuance")
                       ? ", but with an error"
                       : ", but its renewal fails";
}

static void print_title(const Identity *i, uint64_t now_usec) {
        char since[WHEN_TEXT_MAX] = "";
        uint64_t apart_usec = usec_sub(now_usec, i->state_since);
        char duration[DURATION_TEXT_MAX];

        if (i->state_since > 0 && apart_usec >= USEC_PER_SEC)
                (void) snprintf(since, sizeof(since), " for %s", format_duration(apart_usec, duration));
        printf("%s%s%s %s%s%s - %s%s%s%s%s\n", style_begin(style_of(i)), style_bullet(),
               style_end(style_of(i)), style_begin(STYLE_BOLD), i->name, style_end(STYLE_BOLD),
               style_begin(style_of(i)), i->state, style_end(style_of(i)), since, problem_of(i));
}

static void print_who(const Identity *i) {
        char line[512];

        bool is_classic = isempty(i->connection_profile) || strcasecmp(i->connection_profile, "classic") == 0;

        (void) snprintf(line, sizeof(line), "%s%s%s%s", i->assigned_hub ?: "", is_classic ? "" : " (",
                        is_classic ? "" : i->connection_profile, is_classic ? "" : ")");
        print_line("Hub", line);
        print_line("Device", i->device_id);
        if (!isempty(i->registration_id)) {
                (void) snprintf(line, sizeof(line), "%s in scope %s", i->registration_id,
                                isempty(i->id_scope) ? "?" : i->id_scope);
                print_line("Registered", line);
        }
        if (!isempty(i->endpoint)) {
                (void) snprintf(line, sizeof(line), "%s%s%s%s%s", i->endpoint,
                                isempty(i->transport) ? "" : ", ", i->transport,
                                isempty(i->attestation_method) ? "" : ", ", i->attestation_method);
                print_line("DPS", line);
        }
        print_line("Substatus", streq(i->substatus, "initialAssignment") ? "" : i->substatus);
}

static const char *advice_of(const Identity *i) {
        DpsError error = { .code = i->last_error_code };

        return dps_error_id_from_string(i->last_error_id, &error.id) < 0 ? NULL : dps_error_advice(&error);
}

static void print_error(const Identity *i, uint64_t now_usec) {
        char line[128], moment[MOMENT_TEXT_MAX];
        const char *advice = advice_of(i);
        int n;

        if (isempty(i->last_error_id) && isempty(i->last_error))
                return;

        printf("%s", style_begin(STYLE_BAD));
        print_line("Error", isempty(i->last_error) ? i->last_error_id : i->last_error);
        printf("%s", style_end(STYLE_BAD));
        n = snprintf(line, sizeof(line), "%s", i->last_error_id);
        if (i->last_error_code > 0)
                n += snprintf(line + n, sizeof(line) - (size_t) n, ", code %" PRIu32, i->last_error_code);
        if (!isempty(i->last_error_step))
                (void) snprintf(line + n, sizeof(line) - (size_t) n, ", at %s", i->last_error_step);
        print_line("", line);
        if (i->last_error_at > 0)
                print_line("", format_moment(i->last_error_at, now_usec, moment));
        print_line("Tracking id", i->last_tracking_id);
        if (i->attempts > 1) {
                char since[WHEN_TEXT_MAX];

                (void) snprintf(line, sizeof(line), "%" PRIu32 " in a row%s%s", i->attempts,
                                i->failing_since > 0 ? ", the first " : "",
                                i->failing_since > 0 ? format_when(i->failing_since, now_usec, since) : "");
                print_line("Failures", line);
        }
        if (!isempty(advice))
                print_line("What to do", advice);
}

static void print_hub_failure(const Identity *i, uint64_t now_usec) {
        char when[WHEN_TEXT_MAX], line[WHEN_TEXT_MAX + 64];

        if (i->hub_last_failure_at == 0)
                return;
        printf("%s", style_begin(STYLE_BAD));
        print_line("Hub refused", i->hub_last_failure);
        printf("%s", style_end(STYLE_BAD));
        (void) format_when(i->hub_last_failure_at, now_usec, when);
        if (i->hub_failures > 1)
                (void) snprintf(line, sizeof(line), "%" PRIu32 " times in a row, the last %s",
                                i->hub_failures, when);
        else
                (void) snprintf(line, sizeof(line), "%s", when);
        print_line("", line);
}

static void print_card(const Identity *i, uint64_t now_usec) {
        char next[NEXT_TEXT_MAX], line[NEXT_TEXT_MAX + TIMESTAMP_TEXT_MAX + 8], timestamp[TIMESTAMP_TEXT_MAX];
        uint64_t next_at = identity_next_at(i);

        print_title(i, now_usec);
        print_who(i);
        /* The title tells since when it is assigned at all. */
        print_moment(i->assigned_at > i->state_since + USEC_PER_SEC ? "Moved" : "Assigned", "",
                     i->assigned_at, now_usec);
        print_moment("DPS seen", "", i->last_success_at, now_usec);
        print_moment("Hub seen", "", i->hub_last_seen_at, now_usec);
        print_hub_failure(i, now_usec);
        print_moment("Token", expires(i->token_expires_at, now_usec), i->token_expires_at, now_usec);
        if (!isempty(i->certificate_kind))
                print_line("Shows the hub", streq(i->certificate_kind, "issued")
                                                    ? "a certificate issued by DPS"
                                                    : "its certificate for DPS");
        print_moment("Certificate", expires(i->certificate_expires_at, now_usec), i->certificate_expires_at,
                     now_usec);
        print_error(i, now_usec);
        if (!i->configured && !identity_is(i, "failed"))
                print_line("Configured", "no: it continues with its former configuration; to see what is "
                                         "wrong: dpsctl verify-config");

        (void) snprintf(line, sizeof(line), "%s", identity_next(i, now_usec, next));
        if (next_at > now_usec)
                (void) snprintf(line, sizeof(line), "%s (%s)", next, format_timestamp(next_at, timestamp));
        printf("%s", style_begin(STYLE_BOLD));
        print_line("next", line);
        printf("%s", style_end(STYLE_BOLD));
}

/* --- the table ------------------------------------------------------------------------------------------------ */

static void add_text(Table *t, const char *text) {
        table_add(t, isempty(text) ? STYLE_DIM : STYLE_PLAIN, isempty(text) ? NULL : text);
}

static void add_row(Table *t, const Identity *i, uint64_t now_usec) {
        char since[DURATION_TEXT_MAX], next[NEXT_TEXT_MAX], cell[2 * NEXT_TEXT_MAX];
        uint64_t apart_usec = usec_sub(now_usec, i->state_since);

        table_add(t, style_of(i), style_bullet());
        add_text(t, i->name);
        table_add(t, style_of(i), i->state);
        add_text(t, i->assigned_hub);
        add_text(t, i->device_id);
        add_text(t, i->state_since > 0 ? format_duration(MAX(apart_usec, USEC_PER_SEC), since) : "");
        (void) identity_next(i, now_usec, next);
        if (isempty(i->last_error_id) || startswith(next, i->last_error_id))
                (void) snprintf(cell, sizeof(cell), "%s", next);
        else
                (void) snprintf(cell, sizeof(cell), "%s; %s", i->last_error_id, next);
        table_add(t, STYLE_PLAIN, cell);
}

/* The identity that acts first. */
static const Identity *find_next(const IdentityList *l) {
        const Identity *first = NULL;

        for (size_t k = 0; k < l->n; k++) {
                uint64_t at = identity_next_at(&l->items[k]);

                if (at > 0 && (!first || at < identity_next_at(first)))
                        first = &l->items[k];
        }
        return first;
}

static size_t count(const IdentityList *l, const char *state) {
        size_t n = 0;

        for (size_t k = 0; k < l->n; k++)
                n += identity_is(&l->items[k], state);
        return n;
}

static void print_summary(const IdentityList *l, uint64_t now_usec) {
        static const char *const others[] = { "provisioning", "unprovisioned", "failed" };
        const Identity *first = find_next(l);
        char next[NEXT_TEXT_MAX];

        printf("\n%zu of %zu identities assigned", count(l, "assigned"), l->n);
        for (size_t k = 0; k < ELEMENTSOF(others); k++)
                if (count(l, others[k]) > 0)
                        printf(", %zu %s", count(l, others[k]), others[k]);
        if (count(l, "assigned") < l->n)
                printf("; for details: dpsctl status NAME");
        printf("\n%snext: ", style_begin(STYLE_BOLD));
        if (first)
                printf("%s %s", first->name, identity_next(first, now_usec, next));
        else
                printf("nothing is due");
        printf("%s\n", style_end(STYLE_BOLD));
}

static int print_table(const IdentityList *l, const Options *o, uint64_t now_usec) {
        static const char *const header[] = { "", "NAME", "STATE", "HUB", "DEVICE", "SINCE", "NEXT" };
        Table t;
        int r;

        table_init(&t, header, ELEMENTSOF(header));
        for (size_t k = 0; k < l->n; k++)
                add_row(&t, &l->items[k], now_usec);
        r = table_print(&t, !o->no_legend, stdout);
        table_done(&t);
        if (r < 0)
                return fail_memory();
        if (!o->no_legend)
                print_summary(l, now_usec);
        return 0;
}

static int print_status(const IdentityList *l, const Options *o, uint64_t now_usec) {
        _cleanup_(freep) char *directory = conf_directory_shown();
        int r = 0;

        if (o->json != JSON_OFF)
                return output_json(o, identity_list_to_json(l));
        if (o->quiet)
                return 0;

        output_begin(o);
        if (l->n == 0)
                printf("No identity is configured. Write %s/NAME.conf, see dps.conf(5), then: dpsctl "
                       "reload\n",
                       directory ?: "/etc/dps");
        else if (l->n == 1)
                print_card(&l->items[0], now_usec);
        else
                r = print_table(l, o, now_usec);
        output_end();
        return r;
}

int verb_status(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(identity_list_done) IdentityList list = { 0 };
        int r;

        r = bus_open(o, &bus);
        if (r == 0)
                r = identity_list_fetch(&list, bus, o);
        if (r == 0)
                r = print_status(&list, o, now_usec(CLOCK_REALTIME));
        return r != 0 ? r : (int) status_code(&list, o->strict);
}
