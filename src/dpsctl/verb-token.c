/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <stdio.h>

#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"

/* What programs need to use the hub: `token` prints a SAS token, `connection` everything that is needed to
 * connect. `report-hub-failure` tells dpsd that the hub refuses a program, and `report-hub-connected` that it
 * lets the program in again. */

#define CONNECTION_SIZE_MAX (1024U * 1024)

/* Calls a method of the identity that needs a right. */
static int call_identity(const Options *o, const char *member, sd_bus **bus, sd_bus_message **ret_reply,
                         bool with_lifetime) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(freep) char *path = NULL;
        int r;

        r = bus_open(o, bus);
        if (r == 0)
                r = bus_find_identity(*bus, o->arguments[0], &path);
        if (r != 0)
                return r;
        r = bus_call_guarded(*bus, path, DPS_BUS_IDENTITY, member, &error, ret_reply,
                             with_lifetime ? "t" : NULL, o->lifetime_usec / USEC_PER_SEC);
        return r < 0 ? bus_fail(&error, r) : 0;
}

int verb_token(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        uint64_t expires_at_usec;
        const char *token;
        int r;

        if (o->lifetime_usec > 0 && o->lifetime_usec < USEC_PER_SEC)
                return fail_with(EXIT_USAGE, "--lifetime= must be at least 1 second");
        if (o->redact)
                return fail_with(EXIT_USAGE, "token does not take --redact: its output is a secret");

        r = call_identity(o, "GetToken", &bus, &reply, true);
        if (r != 0)
                return r;
        r = sd_bus_message_read(reply, "st", &token, &expires_at_usec);
        if (r < 0)
                return bus_fail_answer("GetToken", r);
        if (o->json == JSON_OFF)
                return print_text(token);

        return output_json(o, json_pack("tsst", "version", (uint64_t) 1, "Name", o->arguments[0], "Token",
                                        token, "ExpiresAt", expires_at_usec));
}

/* Masks secrets as well as ids. */
static int redact_connection(json_object *connection) {
        static const struct {
                char key[18];
                Privacy privacy; /* PRIVACY_NONE: shown as *** */
        } members[] = {
                { "hub", PRIVACY_HUB },           { "deviceId", PRIVACY_ID },
                { "registrationId", PRIVACY_ID }, { "idScope", PRIVACY_SCOPE },
                { "clientId", PRIVACY_NONE },     { "username", PRIVACY_NONE },
                { "password", PRIVACY_NONE },     { "proxy", PRIVACY_NONE },
                { "payload", PRIVACY_NONE },      { "registrationState", PRIVACY_NONE },
                { "keyUri", PRIVACY_NONE },
        };

        for (size_t k = 0; k < ELEMENTSOF(members); k++) {
                const char *mask = "***";
                json_object *value;

                if (!json_object_object_get_ex(connection, members[k].key, &value) || !value)
                        continue;
                if (members[k].privacy != PRIVACY_NONE)
                        mask = redact_value(members[k].privacy, json_object_get_string(value));
                if (!mask ||
                    json_object_object_add(connection, members[k].key, json_object_new_string(mask)) < 0)
                        return fail_memory();
        }
        return 0;
}

int verb_connection(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        json_object *connection;
        const char *text, *reason;
        int r;

        r = call_identity(o, "GetConnection", &bus, &reply, false);
        if (r != 0)
                return r;
        r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return bus_fail_answer("GetConnection", r);
        r = json_read_object(text, strlen(text), CONNECTION_SIZE_MAX, &connection, &reason);
        if (r == -ENOMEM)
                return fail_memory();
        if (r < 0)
                return fail_with(EXIT_FAILED, "the answer to GetConnection is not valid: %s", reason);

        /* A program gets what DPS said as it came; what a terminal shows is written anew. */
        if (!o->redact && !isatty(STDOUT_FILENO) &&
            (json_keep_text(connection, (Span){ text, strlen(text) }, "payload") < 0 ||
             json_keep_text(connection, (Span){ text, strlen(text) }, "registrationState") < 0)) {
                json_object_put(connection);
                return fail_memory();
        }
        r = o->redact ? redact_connection(connection) : 0;
        if (r != 0) {
                json_object_put(connection);
                return r;
        }
        return output_json(o, connection);
}

/* The generation of the connection that failed: a program that has read hub.env has it in its environment.
 * Otherwise it is the present one. */
static int read_generation(sd_bus *bus, const char *path, uint64_t *ret) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *given = getenv("IOTHUB_GENERATION");
        int r;

        if (!isempty(given))
                return parse_u64(given, ret) >= 0
                               ? 0
                               : fail_with(EXIT_USAGE,
                                           "IOTHUB_GENERATION=%s in the environment is not a number", given);
        r = sd_bus_get_property_trivial(bus, DPS_BUS_NAME, path, DPS_BUS_IDENTITY, "Generation", &error, 't',
                                        ret);
        return r < 0 ? bus_fail(&error, r) : 0;
}

static int print_consequence(const Options *o, bool registering, uint64_t next_usec) {
        char when[TIMESTAMP_TEXT_MAX];

        if (o->json != JSON_OFF)
                return output_json(o, json_pack("tsbt", "version", (uint64_t) 1, "Name", o->arguments[0],
                                                "Registering", registering, "NextAttemptAt", next_usec));
        if (o->quiet)
                return 0;
        if (!registering)
                printf("%s: noted; dpsd does not ask DPS for it. Read the connection again before the next "
                       "try.\n",
                       o->arguments[0]);
        else if (next_usec > now_usec(CLOCK_REALTIME))
                printf("%s: dpsd asks DPS again at %s.\n", o->arguments[0],
                       format_timestamp(next_usec, when));
        else
                printf("%s: dpsd asks DPS again now.\n", o->arguments[0]);
        return 0;
}

/* Finds the identity, and which of its connections a report is about. */
static int begin_report(const Options *o, sd_bus **bus, char **ret_path, uint64_t *ret_generation) {
        int r;

        r = bus_open(o, bus);
        if (r == 0)
                r = bus_find_identity(*bus, o->arguments[0], ret_path);
        return r != 0 ? r : read_generation(*bus, *ret_path, ret_generation);
}

int verb_report_hub_failure(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(freep) char *path = NULL;
        uint64_t generation, code = 0, next_usec;
        int registering, r;

        if (o->n_arguments == 3 && (parse_u64(o->arguments[2], &code) < 0 || code > UINT32_MAX))
                return fail_with(EXIT_USAGE, "%s: the code must be a number, such as 401", o->arguments[2]);

        r = begin_report(o, &bus, &path, &generation);
        if (r != 0)
                return r;
        r = bus_call_guarded(bus, path, DPS_BUS_IDENTITY, "ReportHubFailure", &error, &reply, "tsus",
                             generation, o->arguments[1], (uint32_t) code, "");
        if (r < 0)
                return bus_fail(&error, r);
        r = sd_bus_message_read(reply, "bt", &registering, &next_usec);
        if (r < 0)
                return bus_fail_answer("ReportHubFailure", r);
        return print_consequence(o, registering, next_usec);
}

int verb_report_hub_connected(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(freep) char *path = NULL;
        uint64_t generation;
        int r;

        r = begin_report(o, &bus, &path, &generation);
        if (r != 0)
                return r;
        r = bus_call_guarded(bus, path, DPS_BUS_IDENTITY, "ReportHubConnected", &error, NULL, "t",
                             generation);
        if (r < 0)
                return bus_fail(&error, r);
        if (!o->quiet && o->json == JSON_OFF)
                printf("%s: noted; reports of failures count from the first again.\n", o->arguments[0]);
        return 0;
}
