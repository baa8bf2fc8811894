/* SPDX-License-Identifier: MIT */
#include "dpsctl/watch.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/bus.h"

#define SYSTEM_BUS_ADDRESS "unix:path=/run/dbus/system_bus_socket"
#define MATCH "type='signal',sender='" DPS_BUS_NAME "',"
#define LOCAL "org.freedesktop.DBus.Local"
#define BUS_DRIVER "org.freedesktop.DBus"

void watch_end(Watch *w, int code) {
        (void) sd_event_exit(w->event, code);
}

bool watch_finds_names(Watch *w) {
        STRV_FOREACH(name, w->options->arguments)
                if (!identity_list_find_name(&w->list, *name)) {
                        watch_end(
                                w,
                                fail_with(
                                        EXIT_NO_IDENTITY,
                                        "there is no identity named '%s'; dpsctl status lists the identities",
                                        *name));
                        return false;
                }
        return true;
}

/* After a handler failed: a message could not be read, or we are out of memory. */
static int give_up(Watch *w, const char *member, int r) {
        watch_end(w, r == -ENOMEM ? fail_memory() : bus_fail_answer(member, r));
        return 0;
}

static void forget_daemon(Watch *w) {
        w->is_there = false;
        free(w->owner);
        w->owner = NULL;
}

static void enter_gone(Watch *w) {
        forget_daemon(w);
        identity_list_done(&w->list);
        if (w->handlers->on_gone)
                w->handlers->on_gone(w);
}

/* ---- what attempts wait for ---- */

/* Before the first of these many have ended, the others do not begin. */
#define LOOKS_MAX 50

static void look_later(Watch *w) {
        int on = SD_EVENT_OFF;

        if (!w->steps || sd_event_source_get_enabled(w->steps, &on) < 0 || on != SD_EVENT_OFF)
                return;
        for (size_t k = 0; k < w->list.n; k++)
                if (w->list.items[k].attempt_since > 0) {
                        (void) sd_event_source_set_time_relative(w->steps, USEC_PER_SEC);
                        (void) sd_event_source_set_enabled(w->steps, SD_EVENT_ONESHOT);
                        return;
                }
}

/* An error means that the identity or the daemon is gone, which a signal tells. */
static int on_step(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        _cleanup_(identity_done) Identity now = { 0 }, before = { 0 };
        Watch *w = userdata;
        Identity *i;
        int r;

        if (sd_bus_message_is_method_error(reply, NULL) > 0 || !w->is_there)
                return 0;
        r = identity_init(&now);
        if (r >= 0)
                r = identity_read(&now, reply);
        i = r >= 0 ? identity_list_find_name(&w->list, now.name) : NULL;
        if (!i || i->attempt_since != now.attempt_since || streq(i->attempt_step, now.attempt_step))
                return r < 0 ? give_up(w, "GetAll", r) : 0;
        r = identity_copy(i, &before);
        if (r >= 0)
                r = property_set_text(property_find("AttemptStep"), i, now.attempt_step);
        if (r < 0)
                return give_up(w, "GetAll", r);
        w->handlers->on_changed(w, &before, i);
        return 0;
}

static int on_steps_due(sd_event_source *s, uint64_t usec, void *userdata) {
        unsigned n = 0;
        Watch *w = userdata;

        for (size_t k = 0; k < w->list.n && n < LOOKS_MAX; k++)
                if (w->list.items[k].attempt_since > 0) {
                        (void) sd_bus_call_method_async(w->bus, NULL, w->owner, w->list.items[k].path,
                                                        "org.freedesktop.DBus.Properties", "GetAll", on_step,
                                                        w, "s", DPS_BUS_IDENTITY);
                        n++;
                }
        look_later(w);
        return 0;
}

static int on_objects(sd_bus_message *reply, void *userdata, sd_bus_error *unused) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        Watch *w = userdata;
        int r;

        if (sd_bus_error_has_names(error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
                enter_gone(w);
                return 0;
        }
        /* The daemon stopped before it answered. Another message follows: its name has no owner, or the bus is gone. */
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY))
                return 0;
        if (error) {
                watch_end(w, bus_fail(error, 0));
                return 0;
        }

        identity_list_done(&w->list);
        r = identity_list_read(&w->list, reply);
        if (r < 0)
                return give_up(w, "GetManagedObjects", r);
        free(w->owner);
        w->owner = strdup(sd_bus_message_get_sender(reply) ?: "");
        if (!w->owner)
                return give_up(w, "GetManagedObjects", -ENOMEM);
        w->is_there = true;
        if (w->handlers->on_list)
                w->handlers->on_list(w);
        look_later(w);
        return 0;
}

/* Signals that come before the answer are older than it, and are ignored. */
static int ask_for_objects(Watch *w) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *request = NULL;
        int r;

        forget_daemon(w);
        r = sd_bus_message_new_method_call(w->bus, &request, DPS_BUS_NAME, DPS_BUS_PATH,
                                           "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(request, false);
        if (r < 0)
                return r;
        return sd_bus_call_async(w->bus, NULL, request, on_objects, w, 0);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *before, *now;
        Watch *w = userdata;
        int r;

        r = sd_bus_message_read(m, "sss", &name, &before, &now);
        if (r < 0 || !streq(name, DPS_BUS_NAME))
                return 0;
        if (isempty(now)) {
                enter_gone(w);
                return 0;
        }
        r = ask_for_objects(w);
        return r < 0 ? give_up(w, "GetManagedObjects", r) : 0;
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *interface;
        Watch *w = userdata;
        Identity before, *i;
        int r;

        i = w->is_there ? identity_list_find(&w->list, sd_bus_message_get_path(m)) : NULL;
        if (!i)
                return 0;
        r = identity_copy(i, &before);
        if (r < 0)
                return give_up(w, "PropertiesChanged", r);

        r = sd_bus_message_read(m, "s", &interface);
        if (r >= 0 && streq(interface, DPS_BUS_IDENTITY)) {
                r = property_set_text(property_find("AttemptStep"), i,
                                      ""); /* its owner may be another one now, which no signal tells */
                if (r >= 0)
                        r = identity_read(i, m);
                if (r >= 0 && w->handlers->on_changed)
                        w->handlers->on_changed(w, &before, i);
                look_later(w);
        }
        identity_done(&before);
        return r < 0 ? give_up(w, "PropertiesChanged", r) : 0;
}

static int on_interfaces_added(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *path;
        Watch *w = userdata;
        Identity *i;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r < 0 || !w->is_there || identity_list_find(&w->list, path))
                return 0;
        r = identity_list_read_object(&w->list, path, m);
        if (r < 0)
                return give_up(w, "InterfacesAdded", r);
        i = identity_list_find(&w->list, path);
        if (i && w->handlers->on_changed)
                w->handlers->on_changed(w, NULL, i);
        look_later(w);
        return 0;
}

static int on_interfaces_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Watch *w = userdata;
        const char *path;
        Identity removed;

        if (sd_bus_message_read(m, "o", &path) < 0 || !w->is_there ||
            !identity_list_take(&w->list, path, &removed))
                return 0;
        if (w->handlers->on_removed)
                w->handlers->on_removed(w, &removed);
        identity_done(&removed);
        return 0;
}

static int on_reprovision_finished(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Watch *w = userdata;
        const char *text;
        uint64_t job;
        int ok;

        if (w->handlers->on_finished && sd_bus_message_read(m, "tbs", &job, &ok, &text) >= 0)
                w->handlers->on_finished(w, sd_bus_message_get_path(m), job, ok, text);
        return 0;
}

/*
 * Anybody may send us a signal directly, without a match, and a match for the daemon's name lets all unique
 * names pass. So only the bus, sd-bus itself and the owner of the name are listened to.
 */
static int drop_strangers(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(m) ?: "";
        const Watch *w = userdata;

        if (sd_bus_message_is_signal(m, NULL, NULL) <= 0)
                return 0;
        return !streq(sender, BUS_DRIVER) && !streq(sender, LOCAL) && !(w->owner && streq(sender, w->owner));
}

static int on_connected(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        static const struct {
                const char *match;
                sd_bus_message_handler_t handler;
        } matches[] = {
                { "type='signal',sender='" BUS_DRIVER "',interface='" BUS_DRIVER "',member='"
                  "NameOwnerChanged',arg0='" DPS_BUS_NAME "'",
                  on_owner_changed },
                { MATCH "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path_"
                        "namespace='" DPS_BUS_IDENTITY_PREFIX "'",
                  on_properties_changed },
                { MATCH "interface='org.freedesktop.DBus.ObjectManager',member='InterfacesAdded'",
                  on_interfaces_added },
                { MATCH "interface='org.freedesktop.DBus.ObjectManager',member='InterfacesRemoved'",
                  on_interfaces_removed },
                { MATCH "interface='" DPS_BUS_IDENTITY "',member='ReprovisionFinished'",
                  on_reprovision_finished },
        };
        Watch *w = userdata;
        int r = 0;

        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(matches); k++)
                r = sd_bus_add_match_async(w->bus, NULL, matches[k].match, matches[k].handler, NULL, w);
        if (r >= 0)
                r = ask_for_objects(w);
        if (r < 0)
                watch_end(w, bus_fail(NULL, r));
        return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Watch *w = userdata;

        watch_end(w,
                  fail_with(EXIT_NO_DAEMON, "the connection to %s is lost", w->options->host ?: "the bus"));
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Watch *w = userdata;

        if (w->handlers->on_timeout)
                w->handlers->on_timeout(w);
        watch_end(w, EXIT_TIMED_OUT);
        return 0;
}

/* Not sd_bus_open_system(), because early in the boot the bus may not be there yet. */
static int open_local(Watch *w) {
        const char *address = secure_getenv("DBUS_SYSTEM_BUS_ADDRESS");
        int r;

        r = sd_bus_new(&w->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(w->bus, isempty(address) ? SYSTEM_BUS_ADDRESS : address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(w->bus, true);
        if (r < 0)
                return r;
        r = sd_bus_set_watch_bind(w->bus, !w->handlers->wants_bus);
        if (r < 0)
                return r;
        r = sd_bus_set_connected_signal(w->bus, true);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(w->bus, NULL, LOCAL, NULL, LOCAL, "Connected", on_connected, w);
        if (r < 0)
                return r;
        return sd_bus_start(w->bus);
}

static int set_up(Watch *w) {
        const Options *o = w->options;
        int r;

        r = sd_event_new(&w->event);
        if (r < 0)
                return r;
        r = o->host ? sd_bus_open_system_remote(&w->bus, o->host) : open_local(w);
        if (r < 0)
                return r;
        r = sd_bus_set_exit_on_disconnect(w->bus, false);
        if (r < 0)
                return r;
        r = sd_bus_add_filter(w->bus, NULL, drop_strangers, w);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(w->bus, NULL, LOCAL, NULL, LOCAL, "Disconnected", on_disconnected, w);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(w->bus, w->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        if (w->handlers->wants_steps) {
                r = sd_event_add_time_relative(w->event, &w->steps, CLOCK_MONOTONIC, 0, 0, on_steps_due, w);
                if (r >= 0)
                        r = sd_event_source_set_enabled(w->steps, SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }
        if (o->timeout_usec == USEC_INFINITY)
                return 0;
        return sd_event_add_time_relative(w->event, NULL, CLOCK_BOOTTIME, o->timeout_usec, USEC_PER_MSEC,
                                          on_timeout, w);
}

int watch_run(const Options *o, const WatchHandlers *handlers, void *userdata) {
        Watch w = { .options = o, .handlers = handlers, .userdata = userdata };
        int r;

        r = set_up(&w);
        if (r < 0)
                r = fail_with(EXIT_NO_DAEMON, "the bus cannot be reached: %s", strerror(-r));
        else {
                if (o->host)
                        (void) on_connected(NULL, &w, NULL);
                r = sd_event_loop(w.event);
                if (r < 0)
                        r = fail_with(EXIT_FAILED, "the event loop failed: %s", strerror(-r));
        }

        identity_list_done(&w.list);
        free(w.owner);
        sd_event_source_disable_unref(w.steps);
        w.bus = sd_bus_flush_close_unref(w.bus);
        w.event = sd_event_unref(w.event);
        return r;
}
