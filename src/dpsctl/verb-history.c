/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"
#include "dpsctl/table.h"

/* The last changes of state of one identity or of all, oldest first. */

typedef struct Transition {
        uint64_t at_usec;
        char *name, *state, *detail;
} Transition;

typedef struct History {
        Transition *items;
        size_t n;
} History;

static void history_done(History *h) {
        for (size_t k = 0; k < h->n; k++) {
                free(h->items[k].name);
                free(h->items[k].state);
                free(h->items[k].detail);
        }
        free(h->items);
}

static bool is_failure(const char *state) {
        return streq(state, "failed") || streq(state, "attempt-failed");
}

static int history_add(History *h, const Options *o, uint64_t at_usec, const char *name, const char *state,
                       const char *detail) {
        Transition *grown, *t;

        /* The detail of a failure is an error. Every other detail is a hub, which may be a former one. */
        if (o->redact && !is_failure(state) && !redact_value(PRIVACY_HUB, detail))
                return fail_memory();
        grown = reallocarray(h->items, h->n + 1, sizeof(Transition));
        if (!grown)
                return fail_memory();
        h->items = grown;
        t = &h->items[h->n++];
        *t = (Transition){ at_usec, strdup(name), strdup(state), redact_text(detail) };
        return t->name && t->state && t->detail ? 0 : fail_memory();
}

static int read_history(History *h, const Options *o, sd_bus *bus, const Identity *i) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *state, *detail;
        uint64_t at_usec;
        int r;

        r = bus_call(bus, i->path, DPS_BUS_IDENTITY, "GetHistory", &reply, NULL);
        if (r != 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "(tss)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(tss)", &at_usec, &state, &detail)) > 0)
                if (history_add(h, o, at_usec, i->name, state, detail) != 0)
                        return EXIT_FAILED;
        return r < 0 ? bus_fail_answer("GetHistory", r) : 0;
}

static int compare_times(const void *a, const void *b) {
        const Transition *x = a, *y = b;

        return x->at_usec < y->at_usec ? -1 : x->at_usec > y->at_usec;
}

static int print_json(const History *h, const Options *o) {
        json_object *rows = json_object_new_array();

        for (size_t k = 0; k < h->n; k++) {
                const Transition *t = &h->items[k];

                json_append(&rows, json_pack("tsss", "At", t->at_usec, "Name", t->name, "State", t->state,
                                             "Detail", t->detail));
        }
        return output_json(o, json_document("transitions", rows));
}

static Style style_of(const char *state) {
        if (is_failure(state))
                return STYLE_BAD;
        return streq(state, "assigned") || streq(state, "renewed") ? STYLE_GOOD : STYLE_BUSY;
}

static int print_table(const History *h, const Options *o) {
        static const char *const header[] = { "TIME", "NAME", "STATE", "DETAIL" };
        char timestamp[TIMESTAMP_TEXT_MAX];
        Table t;
        int r;

        table_init(&t, header, ELEMENTSOF(header));
        for (size_t k = 0; k < h->n; k++) {
                const Transition *i = &h->items[k];

                table_add(&t, STYLE_DIM, format_timestamp(i->at_usec, timestamp));
                table_add(&t, STYLE_PLAIN, i->name);
                table_add(&t, style_of(i->state), i->state);
                table_add(&t, STYLE_PLAIN, isempty(i->detail) ? NULL : i->detail);
        }
        output_begin(o);
        r = table_print(&t, !o->no_legend, stdout);
        output_end();
        table_done(&t);
        return r < 0 ? fail_memory() : 0;
}

int verb_history(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(identity_list_done) IdentityList list = { 0 };
        _cleanup_(history_done) History history = { 0 };
        int r;

        r = bus_open(o, &bus);
        if (r == 0)
                r = identity_list_fetch(&list, bus, o);
        for (size_t k = 0; r == 0 && k < list.n; k++)
                r = read_history(&history, o, bus, &list.items[k]);
        if (r != 0)
                return r;

        if (history.n > 1)
                qsort(history.items, history.n, sizeof(Transition), compare_times);
        return o->json != JSON_OFF ? print_json(&history, o) : print_table(&history, o);
}
