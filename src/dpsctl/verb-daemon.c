/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#include "basic/json.h"
#include "basic/text.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"

/* Verbs for the daemon as a whole: reload, forget, log-level. */

#define LOG_CONTROL "org.freedesktop.LogControl1"
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"

/* {"version":1,"KEY":"TEXT"} */
static int output_pair(const Options *o, const char *key, const char *text) {
        return output_json(o, json_document(key, json_object_new_string(text)));
}

static int output_done(const Options *o, const char *key, const char *text, const char *message) {
        if (o->json != JSON_OFF)
                return output_pair(o, key, text);
        if (!o->quiet)
                printf("%s\n", message);
        return 0;
}

/* The names of faulty files may be registration ids, which get their masks here. */
static void learn_ids(sd_bus *bus, const Options *o) {
        _cleanup_(identity_list_done) IdentityList list = { 0 };

        if (o->redact)
                (void) identity_list_fetch(&list, bus, o);
}

/* What a reload found and did. */
typedef struct Report {
        char **lists[5];
        uint32_t n_unchanged;
} Report;

static const struct {
        const char *name;
        const char *what; /* of each of them; NULL: these are texts for standard error */
} lists[ELEMENTSOF(((Report *) NULL)->lists)] = {
        { "errors", NULL },
        { "warnings", NULL },
        { "added", "added" },
        { "changed", "changed" },
        { "retired", "retired, its outputs are removed and its record is kept" },
};

static void report_done(Report *r) {
        for (size_t k = 0; k < ELEMENTSOF(r->lists); k++)
                strv_free(r->lists[k]);
}

static int read_report(sd_bus_message *reply, Report *ret) {
        int r = 0;

        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(ret->lists); k++)
                r = sd_bus_message_read_strv(reply, &ret->lists[k]);
        return r < 0 ? r : sd_bus_message_read(reply, "u", &ret->n_unchanged);
}

static json_object *report_to_json(const Report *report) {
        bool has_errors = report->lists[0] && report->lists[0][0];
        json_object *o = json_pack("tst", "version", (uint64_t) 1, "reloaded", has_errors ? "part" : "all",
                                   "unchanged", (uint64_t) report->n_unchanged);

        for (size_t k = 0; o && k < ELEMENTSOF(lists); k++) {
                json_object *array = json_object_new_array();

                STRV_FOREACH(text, report->lists[k])
                        json_append(&array, json_object_new_string(*text));
                if (json_add(o, lists[k].name, array) < 0) {
                        json_object_put(o);
                        o = NULL;
                }
        }
        return o;
}

static void print_report(const Report *report, bool quiet) {
        size_t n[ELEMENTSOF(lists)] = { 0 };

        for (size_t k = 0; k < ELEMENTSOF(lists); k++)
                STRV_FOREACH(text, report->lists[k]) {
                        _cleanup_(freep) char *shown = shown_line(*text);

                        n[k]++;
                        if (!lists[k].what)
                                say_error(*text);
                        else if (!quiet)
                                printf("%s: %s\n", shown ?: "?", lists[k].what);
                }
        if (quiet)
                return;
        printf("Configuration reloaded: %zu added, %zu changed, %zu retired, %" PRIu32 " unchanged", n[2],
               n[3], n[4], report->n_unchanged);
        if (n[0] > 0)
                printf(", %zu error%s", n[0], n[0] == 1 ? "" : "s");
        puts(".");
}

int verb_reload(const Options *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(report_done) Report report = { 0 };
        bool has_errors;
        int r;

        r = bus_open(o, &bus);
        if (r != 0)
                return r;
        r = bus_call_guarded(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "ReloadWithReport", &error, &reply, NULL);
        if (r < 0)
                return bus_fail(&error, r);
        r = read_report(reply, &report);
        if (r < 0)
                return bus_fail_answer("ReloadWithReport", r);

        learn_ids(bus, o);
        has_errors = report.lists[0] && report.lists[0][0];
        if (o->json == JSON_OFF)
                print_report(&report, o->quiet);
        else {
                r = output_json(o, report_to_json(&report));
                if (r != 0)
                        return r;
        }
        if (!has_errors)
                return EXIT_DONE;
        return fail_with(
                EXIT_FAILED,
                "everything without errors is applied; identities with these errors continue as before");
}

int verb_forget(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(freep) char *message = NULL;
        int r;

        r = bus_open(o, &bus);
        if (r != 0)
                return r;
        r = bus_call_guarded(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "Forget", &error, NULL, "s",
                             o->arguments[0]);
        if (sd_bus_error_has_name(&error, DPS_BUS_ERROR_NO_SUCH_IDENTITY))
                return fail_with(EXIT_NO_IDENTITY, "%s; records are kept in /var/lib/dps", error.message);
        if (r < 0)
                return bus_fail(&error, r);
        message = text_format("%s is forgotten: its record and its files in /run/dps are deleted.",
                              o->arguments[0]);
        if (!message)
                return fail_memory();
        return output_done(o, "forgotten", o->arguments[0], message);
}

static int print_log_level(const Options *o, sd_bus *bus) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *level;
        int r;

        r = bus_call(bus, LOG_CONTROL_PATH, "org.freedesktop.DBus.Properties", "Get", &reply, "ss",
                     LOG_CONTROL, "LogLevel");
        if (r != 0)
                return r;
        r = sd_bus_message_read(reply, "v", "s", &level);
        if (r < 0)
                return bus_fail_answer("Get", r);
        if (o->json != JSON_OFF)
                return output_pair(o, "LogLevel", level);
        return print_text(level);
}

int verb_log_level(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = bus_open(o, &bus);
        if (r != 0)
                return r;
        if (o->n_arguments == 0)
                return print_log_level(o, bus);

        r = bus_call_guarded(bus, LOG_CONTROL_PATH, "org.freedesktop.DBus.Properties", "Set", &error, NULL,
                             "ssv", LOG_CONTROL, "LogLevel", "s", o->arguments[0]);
        return r < 0 ? bus_fail(&error, r) : 0;
}
