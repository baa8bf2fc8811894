/* SPDX-License-Identifier: MIT */

/*
 * How a program uses dpsd; see io.dpsd.dps1(5). This is dps-client.py again, in C with sd-bus.
 *
 *      cc -o dps-client dps-client.c $(pkg-config --cflags --libs libsystemd json-c)
 *
 *      dps-client NAME get                     prints the connection to the hub
 *      dps-client NAME watch                   prints a line for the connection now, and whenever it changes
 *      dps-client NAME connected               reports that we have connected to the hub
 *      dps-client NAME failed KIND [CODE]      reports that we could not: auth, not-found, throttled, server, network
 *
 * The user must be in the group of the identity, which is "dps" if the configuration names none.
 */

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define DPS "io.dpsd.dps1"
#define IDENTITY DPS ".Identity"

typedef struct Client {
        sd_bus *bus;
        char *path; /* of the identity's object */
        bool must_look;
        uint64_t generation; /* of the connection that we have; 0 if there is none */
} Client;

static int print_error(const sd_bus_error *error, int r) {
        fprintf(stderr, "dps-client: %s\n", error->message ? error->message : strerror(-r));
        return r;
}

/* The caller frees the object with json_object_put(). */
static int get_connection(Client *c, json_object **ret, sd_bus_error *error) {
        sd_bus_message *reply = NULL;
        const char *text;
        int r;

        r = sd_bus_call_method(c->bus, DPS, c->path, IDENTITY, "GetConnection", error, &reply, "");
        if (r < 0)
                return r;

        r = sd_bus_message_read(reply, "s", &text);
        if (r >= 0) {
                *ret = json_tokener_parse(text);
                r = *ret ? 0 : -EBADMSG;
        }
        sd_bus_message_unref(reply);
        return r;
}

static const char *text_of(json_object *connection, const char *key) {
        return json_object_get_string(json_object_object_get(connection, key));
}

static uint64_t generation_of(json_object *connection) {
        return json_object_get_uint64(json_object_object_get(connection, "generation"));
}

static void print_connection(json_object *connection) {
        printf("%s %s %" PRIu64 "\n", text_of(connection, "hub"), text_of(connection, "deviceId"),
               generation_of(connection));
        fflush(stdout);
}

/* A real program would connect to the hub here. */
static int look(Client *c) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        json_object *connection = NULL;
        int r;

        r = get_connection(c, &connection, &error);
        if (r >= 0 && generation_of(connection) != c->generation) {
                c->generation = generation_of(connection);
                print_connection(connection);
        }
        if (r < 0 && sd_bus_error_has_name(&error, SD_BUS_ERROR_ACCESS_DENIED))
                print_error(&error, r);
        else
                r = 0; /* not assigned yet, or the daemon is not running: a signal will tell when that changes */

        json_object_put(connection);
        sd_bus_error_free(&error);
        return r;
}

/* Anybody may send us a signal, so its content is not believed: it only makes us ask the daemon. */
static int on_change(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Client *c = userdata;

        c->must_look = true;
        return 0;
}

/* Subscribes before it looks, so that it misses no change between the two. */
static int watch(Client *c) {
        int r;

        r = sd_bus_match_signal(c->bus, NULL, DPS, c->path, "org.freedesktop.DBus.Properties",
                                "PropertiesChanged", on_change, c);
        if (r < 0)
                return r;
        /* Tells that the daemon was started. */
        r = sd_bus_add_match(c->bus, NULL,
                             "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                             "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" DPS "'",
                             on_change, c);

        c->must_look = true;
        while (r >= 0) {
                if (c->must_look) {
                        c->must_look = false;
                        r = look(c);
                } else {
                        r = sd_bus_process(c->bus, NULL);
                        if (r == 0)
                                r = sd_bus_wait(c->bus, UINT64_MAX);
                }
        }
        return r;
}

static int report_connected(Client *c, json_object *connection, sd_bus_error *error) {
        return sd_bus_call_method(c->bus, DPS, c->path, IDENTITY, "ReportHubConnected", error, NULL, "t",
                                  generation_of(connection));
}

/* ret_next_attempt_at: microseconds since 1970; 0 while DPS is being asked, or if it will not be asked. */
static int report_failure(Client *c, json_object *connection, const char *kind, uint32_t code,
                          bool *ret_registering, uint64_t *ret_next_attempt_at, sd_bus_error *error) {
        sd_bus_message *reply = NULL;
        int r, registering = 0;

        r = sd_bus_call_method(c->bus, DPS, c->path, IDENTITY, "ReportHubFailure", error, &reply, "tsus",
                               generation_of(connection), kind, code, "told by dps-client.c");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bt", &registering, ret_next_attempt_at);
        *ret_registering = registering;
        sd_bus_message_unref(reply);
        return r;
}

static int run(Client *c, int argc, char **argv, sd_bus_error *error) {
        uint32_t code = argc > 4 ? (uint32_t) strtoul(argv[4], NULL, 10) : 0;
        json_object *connection = NULL;
        uint64_t next_attempt_at = 0;
        bool registering = false;
        int r;

        if (strcmp(argv[2], "watch") == 0)
                return watch(c);

        r = get_connection(c, &connection, error);
        if (r < 0)
                return r;

        if (strcmp(argv[2], "get") == 0) {
                print_connection(connection);
        } else if (strcmp(argv[2], "connected") == 0) {
                r = report_connected(c, connection, error);
        } else if (strcmp(argv[2], "failed") == 0 && argc > 3) {
                r = report_failure(c, connection, argv[3], code, &registering, &next_attempt_at, error);
                if (r >= 0)
                        puts(registering ? "DPS is asked" : "DPS is not asked");
        } else {
                r = -EINVAL;
        }
        json_object_put(connection);
        return r;
}

int main(int argc, char **argv) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        Client c = { 0 };
        int r;

        if (argc < 3) {
                fputs("usage: dps-client NAME get|watch|connected|failed KIND [CODE]\n", stderr);
                return 2;
        }

        r = sd_bus_default_system(&c.bus);
        if (r >= 0)
                r = sd_bus_path_encode("/io/dpsd/dps1/identity", argv[1], &c.path);
        if (r >= 0)
                r = run(&c, argc, argv, &error);
        if (r < 0)
                print_error(&error, r);

        sd_bus_error_free(&error);
        free(c.path);
        sd_bus_flush_close_unref(c.bus);
        return r < 0;
}
