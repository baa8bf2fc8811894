/* SPDX-License-Identifier: MIT */
#include "dpsd/manager-bus.h"

#include <errno.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <systemd/sd-login.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "build-config.h"
#include "dpsd/log.h"

/*
 * The way to the name:
 *
 *      connect ──> (no bus: sd-bus watches for its socket) ──> connected ──> request the name ──> ours
 *         ^─────────── retry <── disconnected, or refused ──────────┘
 *
 * Nothing on it waits: a bus that is late, restarts or never comes costs nobody anything. In retry, and not in the
 * handlers of sd-bus, the old connection is put away.
 */

#define SYSTEM_BUS_ADDRESS "unix:path=/run/dbus/system_bus_socket"
#define RETRY_MIN_USEC (100 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (5 * USEC_PER_MINUTE)
/* While sd-bus watches for the socket, or logs in. Only for what it may have missed. */
#define CONNECTING_MIN_USEC (10 * USEC_PER_SEC)

#define LOG_CONTROL "org.freedesktop.LogControl1"
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"

static void arm_retry(Bus *b, uint64_t usec) {
        int r;

        /* A tenth of slack. */
        (void) sd_event_source_set_time_accuracy(b->retry, usec / 10 + 1);
        r = sd_event_source_set_time_relative(b->retry, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->retry, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("D-Bus: no timer, so no bus from here on: %s", strerror(-r));
}

static void retry_later(Bus *b) {
        arm_retry(b, b->retry_usec);
        b->retry_usec = MIN(b->retry_usec * 2, RETRY_MAX_USEC);
}

/* Once until the name is ours again: what is tried over and over is told only the first time. */
static void log_trouble(Bus *b, int level, const char *what, const char *why) {
        log_message(b->trouble_is_logged ? LOG_DEBUG : level, NULL, "D-Bus: %s: %s", what, why);
        b->trouble_is_logged = true;
}

/* The manager's interface */

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", manager_state(((Bus *) userdata)->manager));
}

static int get_n_identities(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "u", (uint32_t) ((Bus *) userdata)->manager->n_identities);
}

static int get_n_assigned(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "u", manager_n_assigned(((Bus *) userdata)->manager));
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", DPS_VERSION);
}

static int method_list_identities(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Manager *m = ((Bus *) userdata)->manager;
        int r;

        r = sd_bus_message_new_method_return(request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(sos)");
        if (r < 0)
                return r;
        for (size_t k = 0; k < m->n_identities; k++) {
                const Identity *i = m->identities[k];
                _cleanup_(freep) char *path = NULL;

                r = identity_bus_path(i->name, &path);
                if (r < 0)
                        return r;
                r = sd_bus_message_append(reply, "(sos)", i->name, path, identity_state_to_string(i->state));
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int find_named(Bus *b, sd_bus_message *request, Identity **ret, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(request, "s", &name);
        if (r < 0)
                return r;
        return identity_bus_find(b, name, ret, error);
}

static int method_get_identity(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(freep) char *path = NULL;
        Identity *i;
        int r;

        r = find_named(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = identity_bus_path(i->name, &path);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(request, "o", path);
}

static int act_reprovision(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Identity *i;
        int r;

        r = sd_bus_message_rewind(request, true);
        if (r < 0)
                return r;
        r = find_named(userdata, request, &i, error);
        if (r < 0)
                return r;
        return identity_bus_reprovision(request, i, error);
}

static int method_reprovision(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;
        Identity *i;
        int r;

        r = find_named(b, request, &i, error);
        if (r < 0)
                return r;
        return access_request(b->access, request, ACCESS_MANAGE, i->name, identity_group(i), act_reprovision,
                              error);
}

/* Error.Config with all that is wrong, a line each. */
static int refuse_configuration(const ConfReport *report, sd_bus_error *error) {
        _cleanup_(freep) char *text = NULL, *shown = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t k = 0; k < report->n_remarks; k++)
                if (report->remarks[k].severity == CONF_ERROR)
                        fprintf(f, "%s%s", ftell(f) > 0 ? "\n" : "", report->remarks[k].text);
        if (fclose(f) != 0 || !text)
                return -ENOMEM;

        /* A path that is no UTF-8 would not get through. */
        shown = utf8_is_valid(text, size) ? NULL : text_for_people(text, size, size);
        return sd_bus_error_set(error, DPS_BUS_ERROR_CONFIG, shown ?: text);
}

static int act_reload(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Manager *m = ((Bus *) userdata)->manager;
        int r;

        r = manager_reload(m);
        if (r == -EBADMSG)
                return refuse_configuration(&m->report, error);
        if (r < 0)
                return sd_bus_error_set_errnof(error, r, "Cannot read the configuration: %s", strerror(-r));
        return sd_bus_reply_method_return(request, NULL);
}

static int method_reload(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return access_request(((Bus *) userdata)->access, request, ACCESS_MANAGE, NULL, NULL, act_reload,
                              error);
}

static int act_forget(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Manager *m = ((Bus *) userdata)->manager;
        _cleanup_(freep) char *shown = NULL;
        const char *name;
        int r;

        r = sd_bus_message_read(request, "s", &name);
        if (r < 0)
                return r;

        r = conf_name_is_valid(name) ? manager_forget(m, name) : -ENOENT;
        if (r == -ENOENT) {
                shown = text_for_people(name, strlen(name), 64);
                return sd_bus_error_setf(error, DPS_BUS_ERROR_NO_SUCH_IDENTITY,
                                         "Nothing is remembered of an identity named '%s'", shown ?: "?");
        }
        if (r == -EBUSY)
                return sd_bus_error_setf(error, DPS_BUS_ERROR_CONFIG,
                                         "%s is configured: remove %s.conf and reload before it is forgotten",
                                         name, name);
        if (r < 0)
                return sd_bus_error_set_errnof(error, r, "Cannot forget %s: %s", name, strerror(-r));
        return sd_bus_reply_method_return(request, NULL);
}

static int method_forget(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return access_request(((Bus *) userdata)->access, request, ACCESS_MANAGE, NULL, NULL, act_forget,
                              error);
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NIdentities", "u", get_n_identities, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NAssigned", "u", get_n_assigned, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),

        SD_BUS_METHOD_WITH_ARGS("ListIdentities", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sos)", identities),
                                method_list_identities, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetIdentity", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", path),
                                method_get_identity, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reprovision", SD_BUS_ARGS("s", name), SD_BUS_RESULT("t", id),
                                method_reprovision, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, method_forget,
                                SD_BUS_VTABLE_UNPRIVILEGED),

        SD_BUS_SIGNAL_WITH_ARGS("IdentityAdded", SD_BUS_ARGS("s", name, "o", path), 0),
        SD_BUS_SIGNAL_WITH_ARGS("IdentityRemoved", SD_BUS_ARGS("s", name, "o", path), 0),
        SD_BUS_VTABLE_END
};

void bus_manager_changed(Manager *m) {
        char *names[4] = { 0 };
        size_t n_names = 0;
        const char *state;
        unsigned n_assigned;
        Bus *b = bus_of(m);

        if (!m->bus)
                return;

        state = manager_state(m);
        n_assigned = manager_n_assigned(m);
        if (!b->state_shown || !streq(b->state_shown, state))
                names[n_names++] = (char *) "State";
        if (!b->state_shown || b->n_identities_shown != m->n_identities)
                names[n_names++] = (char *) "NIdentities";
        if (!b->state_shown || b->n_assigned_shown != n_assigned)
                names[n_names++] = (char *) "NAssigned";
        b->state_shown = state;
        b->n_identities_shown = (unsigned) m->n_identities;
        b->n_assigned_shown = n_assigned;
        (void) sd_bus_emit_properties_changed_strv(m->bus, DPS_BUS_PATH, DPS_BUS_MANAGER, names);
        identity_bus_tell_jobs(b);
}

/* org.freedesktop.LogControl1, for `systemctl service-log-level`. A setter of sd-bus has to decide at once; so its
 * message is caught before sd-bus sees it, and the setter is called when the right is known. */

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
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                         "'%s' is no log level; there are: emerg, alert, crit, err, warning, "
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
                return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, "LogLevel is a string");
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
        /* Any other, or malformed: sd-bus says what is wrong. */
        (void) sd_bus_message_rewind(message, true);
        return 0;
}

/* The connection and the name */

static void drop_connection(Bus *b) {
        Manager *m = b->manager;

        m->bus = NULL;
        b->owns_name = false;
        b->state_shown = NULL;
        for (size_t k = 0; k < m->n_identities; k++)
                identity_bus_forget(m->identities[k]);
        identity_bus_forget_jobs(b);
        b->access = access_free(b->access);
        b->connection = sd_bus_close_unref(b->connection);
}

static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;

        /* Signals would only pile up from here on. */
        b->manager->bus = NULL;
        log_trouble(b, LOG_WARNING, "the connection is lost", "connecting again as soon as there is a bus");
        retry_later(b);
        return 0;
}

/* "process 1234 (other.service)" */
static void describe_process(pid_t pid, char *buffer, size_t size) {
        _cleanup_(freep) char *unit = NULL, *command = NULL;
        char path[64];
        size_t length = 0;

        snprintf(path, sizeof(path), "/proc/%d/comm", (int) pid);
        if (sd_pid_get_unit(pid, &unit) < 0 && file_read(path, 64, &command, &length) >= 0)
                command[strcspn(command, "\n")] = '\0';
        snprintf(buffer, size, "process %d (%s)", (int) pid, unit ?: command ?: "of unknown name");
}

static int on_owner_pid(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        char owner[256] = "somebody else";
        uint32_t pid;

        if (!sd_bus_message_is_method_error(reply, NULL) && sd_bus_message_read(reply, "u", &pid) > 0)
                describe_process((pid_t) pid, owner, sizeof(owner));
        log_trouble(userdata, LOG_ERR, "the name " DPS_BUS_NAME " is taken, waiting until it is free", owner);
        return 0;
}

static int on_name_requested(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const sd_bus_error *trouble = sd_bus_message_get_error(reply);
        Bus *b = userdata;
        uint32_t answer;

        if (trouble) {
                log_trouble(b, LOG_ERR,
                            sd_bus_error_has_name(trouble, SD_BUS_ERROR_ACCESS_DENIED)
                                    ? "cannot get the name " DPS_BUS_NAME " (is " DPS_BUS_NAME
                                      ".conf installed, and was the bus reloaded since?)"
                                    : "cannot get the name " DPS_BUS_NAME,
                            trouble->message);
                retry_later(b);
                return 0;
        }
        /* 2: in the queue; NameAcquired comes when it is free. */
        if (sd_bus_message_read(reply, "u", &answer) > 0 && answer == 2)
                (void) sd_bus_call_method_async(b->connection, NULL, "org.freedesktop.DBus",
                                                "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                                "GetConnectionUnixProcessID", on_owner_pid, b, "s",
                                                DPS_BUS_NAME);
        return 0;
}

static void request_name(Bus *b) {
        int r;

        r = sd_bus_request_name_async(b->connection, NULL, DPS_BUS_NAME, SD_BUS_NAME_QUEUE, on_name_requested,
                                      b);
        if (r < 0) {
                log_trouble(b, LOG_ERR, "cannot ask for the name " DPS_BUS_NAME, strerror(-r));
                retry_later(b);
        }
}

static int on_name_acquired(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *name;
        Bus *b = userdata;

        if (sd_bus_message_read(message, "s", &name) <= 0 || !streq(name, DPS_BUS_NAME))
                return 0;

        log_message(b->trouble_is_logged ? LOG_INFO : LOG_DEBUG, NULL, "D-Bus: the name %s is ours", name);
        b->owns_name = true;
        b->trouble_is_logged = false;
        b->retry_usec = RETRY_MIN_USEC;
        (void) sd_event_source_set_enabled(b->retry, SD_EVENT_OFF);
        manager_bus_settled(b->manager);
        return 0;
}

static int on_connected(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;
        int r;

        (void) sd_event_source_set_enabled(b->retry, SD_EVENT_OFF);
        b->manager->bus = b->connection;
        r = sd_bus_match_signal_async(b->connection, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                      "org.freedesktop.DBus", "NameAcquired", on_name_acquired, NULL, b);
        if (r < 0)
                log_trouble(b, LOG_ERR, "cannot listen for our name", strerror(-r));
        request_name(b);
        return 0;
}

static int add_objects(Bus *b) {
        int r;

        r = sd_bus_add_object_manager(b->connection, NULL, DPS_BUS_PATH);
        if (r < 0)
                return r;
        r = sd_bus_add_object_vtable(b->connection, NULL, DPS_BUS_PATH, DPS_BUS_MANAGER, manager_vtable, b);
        if (r < 0)
                return r;
        r = identity_bus_add(b);
        if (r < 0)
                return r;
        r = sd_bus_add_object_vtable(b->connection, NULL, LOG_CONTROL_PATH, LOG_CONTROL, log_control_vtable,
                                     b);
        if (r < 0)
                return r;
        return sd_bus_add_filter(b->connection, NULL, on_message, b);
}

/* What sd-bus itself tells of the connection. */
static int add_local_matches(Bus *b) {
        static const char sender[] = "org.freedesktop.DBus.Local", path[] = "/org/freedesktop/DBus/Local";
        int r;

        r = sd_bus_match_signal(b->connection, NULL, sender, path, sender, "Connected", on_connected, b);
        if (r < 0)
                return r;
        return sd_bus_match_signal(b->connection, NULL, sender, path, sender, "Disconnected", on_disconnected,
                                   b);
}

static int set_up_connection(Bus *b) {
        const char *address = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS");
        int r;

        r = sd_bus_new(&b->connection);
        if (r < 0)
                return r;
        r = sd_bus_set_address(b->connection, isempty(address) ? SYSTEM_BUS_ADDRESS : address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(b->connection, true);
        if (r < 0)
                return r;
        r = sd_bus_set_watch_bind(b->connection, true);
        if (r < 0)
                return r;
        r = sd_bus_set_connected_signal(b->connection, true);
        if (r < 0)
                return r;
        r = sd_bus_set_exit_on_disconnect(b->connection, false);
        if (r < 0)
                return r;
        r = access_new(b, &b->access);
        if (r < 0)
                return r;
        r = add_objects(b);
        if (r < 0)
                return r;
        r = add_local_matches(b);
        if (r < 0)
                return r;
        /* Somebody waits for an answer, and hundreds of handshakes can wait for their turn. */
        r = sd_bus_attach_event(b->connection, b->manager->event, SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0)
                return r;
        return sd_bus_start(b->connection);
}

static void connect_to_bus(Bus *b) {
        int r;

        drop_connection(b);
        r = set_up_connection(b);
        if (r < 0) {
                log_trouble(b, LOG_WARNING, "cannot connect to the system bus", strerror(-r));
                drop_connection(b);
                retry_later(b);
                return;
        }
        arm_retry(b, MAX(b->retry_usec, CONNECTING_MIN_USEC));
        b->retry_usec = MIN(b->retry_usec * 2, RETRY_MAX_USEC);
}

static int on_retry(sd_event_source *s, uint64_t due_usec, void *userdata) {
        Bus *b = userdata;

        if (b->manager->bus) {
                request_name(b);
                return 0;
        }
        log_trouble(b, LOG_NOTICE, "there is no system bus", "dpsd does without until there is one");
        connect_to_bus(b);
        return 0;
}

int bus_start(Manager *m) {
        Bus *b;
        int r;

        b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;

        b->manager = m;
        b->retry_usec = RETRY_MIN_USEC;
        m->bus_state = b;
        r = sd_event_add_time_relative(m->event, &b->retry, CLOCK_BOOTTIME, 0, 0, on_retry, b);
        if (r < 0) {
                bus_stop(m);
                return r;
        }
        connect_to_bus(b);
        return 0;
}

void bus_stop(Manager *m) {
        Bus *b = bus_of(m);

        if (!b)
                return;

        drop_connection(b);
        sd_event_source_disable_unref(b->retry);
        free(b);
        m->bus_state = NULL;
}
