/* SPDX-License-Identifier: MIT */
#include "dpsd/bus.h"

#include <errno.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <systemd/sd-login.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/bus-internal.h"
#include "dpsd/log.h"

/*
 * How we get our name:
 *
 *      connect ──> (no bus: sd-bus watches for its socket) ──> connected ──> request the name ──> owned
 *         ^─────────── retry <── disconnected, refused, or in the queue for it ──┘
 *
 * Nothing here blocks, so a bus that is late, restarts or never comes delays nobody. The old connection is
 * freed in the retry timer, because it must not be freed inside a handler of sd-bus. The bus says whether the name is ours
 * when it is asked; NameAcquired, which it sends to its owner alone, without a match, only saves the wait in the queue.
 */

#define SYSTEM_BUS_ADDRESS "unix:path=/run/dbus/system_bus_socket"
#define BUS_DRIVER "org.freedesktop.DBus"
#define LOCAL "org.freedesktop.DBus.Local"
#define IN_QUEUE 2 /* an answer of RequestName() */
#define RETRY_MIN_USEC (100 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (5 * USEC_PER_MINUTE)
/* While sd-bus watches for the socket, or authenticates. This retry only covers an event that sd-bus may have
 * missed. */
#define CONNECTING_MIN_USEC (10 * USEC_PER_SEC)

static void arm_retry(Bus *b, uint64_t usec) {
        int r;

        /* Allow a tenth of the time as slack. */
        (void) sd_event_source_set_time_accuracy(b->retry, usec / 10 + 1);
        r = sd_event_source_set_time_relative(b->retry, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->retry, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("D-Bus: cannot set a timer, so there will be no more tries to connect: %s",
                          strerror(-r));
}

static void retry_later(Bus *b) {
        arm_retry(b, b->retry_usec);
        b->retry_usec = MIN(b->retry_usec * 2, RETRY_MAX_USEC);
}

/* Until the name is ours again, only the first failure is logged at `level`; the later ones are debug
 * messages. */
static void log_failure(Bus *b, int level, const char *what, const char *why) {
        log_message(b->failure_is_logged ? LOG_DEBUG : level, NULL, "D-Bus: %s: %s", what, why);
        b->failure_is_logged = true;
}

static void drop_connection(Bus *b) {
        b->is_connected = false;
        b->state_shown = NULL;
        identity_bus_forget_all(b);
        manager_bus_forget_reloads(b);
        b->access = access_free(b->access);
        b->connection = sd_bus_close_unref(b->connection);
}

static int on_disconnected(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;

        /* Signals sent from now on would only pile up. */
        b->is_connected = false;
        log_failure(b, LOG_WARNING, "the connection is lost", "reconnecting as soon as there is a bus");
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
        log_failure(userdata, LOG_ERR, "the name " DPS_BUS_NAME " is taken, waiting until it is free", owner);
        return 0;
}

static void take_name(Bus *b) {
        if (b->failure_is_logged)
                log_info("D-Bus: the name " DPS_BUS_NAME " is ours");
        b->failure_is_logged = false;
        b->retry_usec = RETRY_MIN_USEC;
        (void) sd_event_source_set_enabled(b->retry, SD_EVENT_OFF);
        b->handlers.on_owned(b->userdata);
}

static int on_name_requested(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const sd_bus_error *refusal = sd_bus_message_get_error(reply);
        Bus *b = userdata;
        uint32_t answer;

        if (refusal) {
                log_failure(b, LOG_ERR,
                            sd_bus_error_has_name(refusal, SD_BUS_ERROR_ACCESS_DENIED)
                                    ? "cannot get the name " DPS_BUS_NAME " (is " DPS_BUS_NAME
                                      ".conf installed, and was the bus reloaded since?)"
                                    : "cannot get the name " DPS_BUS_NAME,
                            refusal->message);
                retry_later(b);
                return 0;
        }
        if (sd_bus_message_read(reply, "u", &answer) <= 0 || answer != IN_QUEUE) {
                take_name(b);
                return 0;
        }
        (void) sd_bus_call_method_async(b->connection, NULL, BUS_DRIVER, "/org/freedesktop/DBus", BUS_DRIVER,
                                        "GetConnectionUnixProcessID", on_owner_pid, b, "s", DPS_BUS_NAME);
        retry_later(b);
        return 0;
}

static void request_name(Bus *b) {
        int r;

        r = sd_bus_request_name_async(b->connection, NULL, DPS_BUS_NAME, SD_BUS_NAME_QUEUE, on_name_requested,
                                      b);
        if (r < 0) {
                log_failure(b, LOG_ERR, "cannot ask for the name " DPS_BUS_NAME, strerror(-r));
                retry_later(b);
        }
}

static int on_connected(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;

        (void) sd_event_source_set_enabled(b->retry, SD_EVENT_OFF);
        b->is_connected = true;
        request_name(b);
        return 0;
}

/* Whether a method only asks for something: it need not run if nobody wants the answer. */
static bool only_asks(const char *member) {
        return startswith(member, "Get") || streq(member, "Introspect") || streq(member, "ListIdentities");
}

/* From this many identities on, an answer about all of them is large. */
#define MANY_IDENTITIES 50

static AccessCall kind_of_call(const Bus *b, sd_bus_message *m) {
        static const struct {
                const char *interface, *member;
                AccessCall kind;
        } methods[] = {
                { "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ACCESS_CALL_LARGE },
                { "org.freedesktop.DBus.Introspectable", "Introspect", ACCESS_CALL_LARGE },
                { DPS_BUS_MANAGER, "ListIdentities", ACCESS_CALL_LARGE },
                { DPS_BUS_MANAGER, "GetAllIdentities", ACCESS_CALL_LARGE },
                { "org.freedesktop.DBus.Properties", "GetAll", ACCESS_CALL_PUBLIC },
                { "org.freedesktop.DBus.Properties", "Get", ACCESS_CALL_PUBLIC },
                { DPS_BUS_MANAGER, "GetIdentity", ACCESS_CALL_PUBLIC },
                { DPS_BUS_IDENTITY, "GetHistory", ACCESS_CALL_PUBLIC },
        };

        for (size_t k = 0; k < ELEMENTSOF(methods); k++)
                if (sd_bus_message_is_method_call(m, methods[k].interface, methods[k].member) > 0)
                        return methods[k].kind == ACCESS_CALL_LARGE &&
                                               b->manager->n_identities < MANY_IDENTITIES
                                       ? ACCESS_CALL_PUBLIC
                                       : methods[k].kind;
        return ACCESS_CALL_OTHER;
}

/* Returns true if the message is dropped. Anybody may send us a signal, but we want only those of the bus and of sd-bus
 * itself. And anybody may send requests much faster than we can answer them, whether or not the answers are wanted. */
static int look_at_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m) ?: "", *name;
        Bus *b = userdata;

        if (sd_bus_message_is_signal(m, NULL, NULL) > 0) {
                if (!streq(sender, BUS_DRIVER))
                        return !streq(sender, LOCAL);
                if (sd_bus_message_is_signal(m, BUS_DRIVER, "NameAcquired") > 0 &&
                    sd_bus_message_read(m, "s", &name) > 0 && streq(name, DPS_BUS_NAME))
                        take_name(b);
                return 0;
        }
        if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
                return 0;
        if (sd_bus_message_get_expect_reply(m) == 0 && only_asks(sd_bus_message_get_member(m)))
                return 1;
        return !access_admit(b->access, m, kind_of_call(b, m));
}

int bus_add_objects(Bus *b) {
        int r;

        r = sd_bus_add_object_manager(b->connection, NULL, DPS_BUS_PATH);
        if (r < 0)
                return r;
        r = manager_bus_add(b);
        if (r < 0)
                return r;
        r = identity_bus_add(b);
        if (r < 0)
                return r;
        r = log_bus_add(b);
        if (r < 0)
                return r;
        return sd_bus_add_filter(b->connection, NULL, look_at_message, b); /* the last one is called first */
}

/* The local signals by which sd-bus reports the state of the connection. */
static int add_local_matches(Bus *b) {
        static const char path[] = "/org/freedesktop/DBus/Local";
        int r;

        r = sd_bus_match_signal(b->connection, NULL, LOCAL, path, LOCAL, "Connected", on_connected, b);
        if (r < 0)
                return r;
        return sd_bus_match_signal(b->connection, NULL, LOCAL, path, LOCAL, "Disconnected", on_disconnected,
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
        /* File descriptors are accepted, and dropped with their message: dbus-broker answers GetConnectionCredentials()
         * with one, and closes the connection of a caller that cannot accept it. */
        r = sd_bus_set_watch_bind(b->connection, true);
        if (r < 0)
                return r;
        r = sd_bus_set_connected_signal(b->connection, true);
        if (r < 0)
                return r;
        r = sd_bus_set_exit_on_disconnect(b->connection, false);
        if (r < 0)
                return r;
        r = access_new(b->manager->core.world, b->manager->core.groups, b, &b->access);
        if (r < 0)
                return r;
        r = bus_add_objects(b);
        if (r < 0)
                return r;
        r = add_local_matches(b);
        if (r < 0)
                return r;
        /* Below what keeps us alive, and beside the network: each has its turn, and one message is handled in a turn. */
        r = sd_bus_attach_event(b->connection, b->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        return sd_bus_start(b->connection);
}

static void connect_to_bus(Bus *b) {
        int r;

        drop_connection(b);
        r = set_up_connection(b);
        if (r < 0) {
                log_failure(b, LOG_WARNING, "cannot connect to the system bus", strerror(-r));
                drop_connection(b);
                retry_later(b);
                return;
        }
        arm_retry(b, MAX(b->retry_usec, CONNECTING_MIN_USEC));
        b->retry_usec = MIN(b->retry_usec * 2, RETRY_MAX_USEC);
}

static int on_retry(sd_event_source *s, uint64_t due_usec, void *userdata) {
        Bus *b = userdata;

        if (b->is_connected) {
                request_name(b);
                return 0;
        }
        log_failure(b, LOG_NOTICE, "there is no system bus", "dpsd runs without it until there is one");
        connect_to_bus(b);
        return 0;
}

int bus_start(sd_event *event, Manager *m, const BusHandlers *handlers, void *userdata, Bus **ret) {
        Bus *b = calloc(1, sizeof(*b));
        int r;

        if (!b)
                return -ENOMEM;
        *b = (Bus){ .event = event,
                    .manager = m,
                    .handlers = *handlers,
                    .userdata = userdata,
                    .retry_usec = RETRY_MIN_USEC };
        r = sd_event_add_time_relative(event, &b->retry, CLOCK_BOOTTIME, 0, 0, on_retry, b);
        if (r < 0) {
                bus_stop(b);
                return r;
        }
        connect_to_bus(b);
        *ret = b;
        return 0;
}

Bus *bus_stop(Bus *b) {
        if (!b)
                return NULL;

        drop_connection(b);
        sd_event_source_disable_unref(b->retry);
        free(b);
        return NULL;
}
