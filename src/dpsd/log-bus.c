/* SPDX-License-Identifier: MIT */
#include "basic/text.h"
#include "dpsd/bus-internal.h"
#include "dpsd/log.h"

/*
 * org.freedesktop.LogControl1, for `systemctl service-log-level`. A property setter of sd-bus must decide at
 * once, but our check of the sender's right takes time. So we intercept the message before sd-bus sees it,
 * and call the setter once the right is known.
 */

#define LOG_CONTROL "org.freedesktop.LogControl1"
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"

static int get_log_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", log_level_to_string(log_level()));
}

static int get_log_target(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", log_target());
}

static int get_syslog_identifier(sd_bus *bus, const char *path, const char *interface, const char *property,
                                 sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", "dpsd");
}

static int set_log_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *value, void *userdata, sd_bus_error *error) {
        _cleanup_(freep) char *shown = NULL;
        const char *word;
        int level, r;

        r = sd_bus_message_read(value, "s", &word);
        if (r < 0)
                return r;
        level = log_level_from_string(word);
        if (level < 0) {
                shown = text_for_people(word, strlen(word), 32);
                return sd_bus_error_setf(
                        error, SD_BUS_ERROR_INVALID_ARGS,
                        "'%s' is not a log level; the levels are: emerg, alert, crit, err, warning, "
                        "notice, info, debug",
                        shown ?: "?");
        }
        log_set_level(level);
        return 0;
}

static const sd_bus_vtable log_control_vtable[] = {
        SD_BUS_VTABLE_START(0), SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_log_level, set_log_level, 0, 0),
        SD_BUS_PROPERTY("LogTarget", "s", get_log_target, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("SyslogIdentifier", "s", get_syslog_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END
};

static int act_set_log_level(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        int r;

        r = sd_bus_message_rewind(request, true);
        if (r < 0)
                return r;
        r = sd_bus_message_skip(request, "ss");
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(request, 'v', "s");
        if (r < 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, "LogLevel must be a string");
        r = set_log_level(NULL, LOG_CONTROL_PATH, LOG_CONTROL, "LogLevel", request, userdata, error);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(request, NULL);
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *interface, *property;
        Bus *b = userdata;
        int r;

        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "Set") <= 0 ||
            !streq(sd_bus_message_get_path(message), LOG_CONTROL_PATH))
                return 0;

        r = sd_bus_message_read(message, "ss", &interface, &property);
        if (r >= 0 && streq(interface, LOG_CONTROL) && streq(property, "LogLevel"))
                return access_request(b->access, message, ACCESS_MANAGE, NULL, NULL, act_set_log_level,
                                      error);
        /* Another property, or a malformed message: sd-bus replies with the error. */
        (void) sd_bus_message_rewind(message, true);
        return 0;
}

int log_bus_add(Bus *b) {
        int r;

        r = sd_bus_add_object_vtable(b->connection, NULL, LOG_CONTROL_PATH, LOG_CONTROL, log_control_vtable,
                                     b);
        if (r < 0)
                return r;
        return sd_bus_add_filter(b->connection, NULL, on_message, b);
}
