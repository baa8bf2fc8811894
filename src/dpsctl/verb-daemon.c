/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <stdio.h>

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

static void print_names(char *const *names, const char *what) {
        STRV_FOREACH(name, names)
                printf("%s: %s\n", *name, what);
}

static int print_report(const Options *o, sd_bus *bus, sd_bus_message *reply) {
        _cleanup_(strv_freep) char **warnings = NULL, **added = NULL, **retired = NULL;
        int r;

        r = sd_bus_message_read_strv(reply, &warnings);
        if (r >= 0)
                r = sd_bus_message_read_strv(reply, &added);
        if (r >= 0)
                r = sd_bus_message_read_strv(reply, &retired);
        if (r < 0)
                return bus_fail_answer("ReloadWithReport", r);

        learn_ids(bus, o);
        STRV_FOREACH(warning, warnings)
                say_error(*warning);
        if (o->json != JSON_OFF || o->quiet)
                return output_done(o, "reloaded", "all", "");
        print_names(added, "added");
        print_names(retired, "retired, its outputs are removed and its record is kept");
        return output_done(o, "reloaded", "all", "Configuration reloaded.");
}

int verb_reload(const Options *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(strv_freep) char **faults = NULL;
        int r;

        r = bus_open(o, &bus);
        if (r != 0)
                return r;
        r = bus_call_guarded(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "ReloadWithReport", &error, &reply, NULL);
        if (r >= 0)
                return print_report(o, bus, reply);
        if (sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_METHOD)) { /* an older dpsd */
                sd_bus_error_free(&error);
                r = bus_call_guarded(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "Reload", &error, NULL, NULL);
        }
        if (r >= 0)
                return output_done(o, "reloaded", "all", "Configuration reloaded.");
        if (!sd_bus_error_has_name(&error, DPS_BUS_ERROR_CONFIG))
                return bus_fail(&error, r);

        learn_ids(bus, o);
        if (strv_split(error.message, "\n", &faults) < 0)
                return fail_memory();
        STRV_FOREACH(fault, faults)
                say_error(*fault);
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
        if (asprintf(&message, "%s is forgotten: its record and its files in /run/dps are deleted.",
                     o->arguments[0]) < 0)
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
        return puts(level) < 0 ? EXIT_FAILED : 0;
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
