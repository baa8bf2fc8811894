/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <stdio.h>

#include "basic/json.h"
#include "basic/text.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"

/* What the service side needs to enroll a device, and the command of the Azure CLI that does it. */

#define ANSWER_SIZE_MAX (256U * 1024)

static int fetch(sd_bus *bus, const Identity *i, json_object **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *text, *reason;
        int r;

        r = bus_call_guarded(bus, i->path, DPS_BUS_IDENTITY, "GetEnrollment", &error, &reply, NULL);
        if (r < 0)
                return bus_fail(&error, r);
        r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return bus_fail_answer("GetEnrollment", r);
        r = json_read_object(text, strlen(text), ANSWER_SIZE_MAX, ret, &reason);
        if (r == -ENOMEM)
                return fail_memory();
        if (r < 0)
                return fail_with(EXIT_FAILED, "the answer to GetEnrollment is not valid: %s", reason);
        return 0;
}

static int redact(json_object *o) {
        static const struct {
                const char *key;
                Privacy privacy; /* PRIVACY_NONE: shown as *** */
        } members[] = {
                { "registrationId", PRIVACY_ID },   { "idScope", PRIVACY_SCOPE },
                { "endorsementKey", PRIVACY_NONE }, { "storageRootKey", PRIVACY_NONE },
                { "certificates", PRIVACY_NONE },
        };

        for (size_t k = 0; k < ELEMENTSOF(members); k++) {
                const char *text = json_string(json_member(o, members[k].key)), *mask = "***";

                if (!json_member(o, members[k].key))
                        continue;
                if (members[k].privacy != PRIVACY_NONE)
                        mask = redact_value(members[k].privacy, text ?: "");
                if (!mask || json_object_object_add(o, members[k].key, json_object_new_string(mask)) < 0)
                        return fail_memory();
        }
        return 0;
}

/* The names of group and DPS instance are the operator's. Keys are not shown: the service makes them, or they
 * are read from a file. */
static char *azure_command(json_object *o) {
        static const char where[] = "--resource-group GROUP --dps-name DPS";
        const char *id = json_string(json_member(o, "registrationId")) ?: "?";
        const char *method = json_string(json_member(o, "method")) ?: "";
        const char *file = json_string(json_member(o, "certificateFile")) ?: "CERTIFICATE.pem";
        const char *key = json_string(json_member(o, "endorsementKey")) ?: "?";
        char *command;
        int n;

        if (streq(method, "tpm"))
                n = asprintf(&command,
                             "az iot dps enrollment create %s --enrollment-id %s --attestation-type tpm "
                             "--endorsement-key %s",
                             where, id, key);
        else if (streq(method, "x509"))
                n = asprintf(&command,
                             "az iot dps enrollment create %s --enrollment-id %s --attestation-type x509 "
                             "--certificate-path %s",
                             where, id, file);
        else if (streq_ptr(json_string(json_member(o, "keyOf")), "group"))
                n = asprintf(&command,
                             "az iot dps enrollment-group create %s --enrollment-id ENROLLMENT_GROUP "
                             "--primary-key \"$(cat GROUP.key)\" --secondary-key \"$(cat SECOND.key)\"",
                             where);
        else
                n = asprintf(
                        &command,
                        "az iot dps enrollment create %s --enrollment-id %s --attestation-type symmetrickey "
                        "--primary-key \"$(cat DEVICE.key)\" --secondary-key \"$(cat SECOND.key)\"",
                        where, id);
        return n < 0 ? NULL : command;
}

static void print_line(const char *label, const char *value) {
        if (value)
                printf("  %s%-17s%s %s\n", style_begin(STYLE_DIM), label, style_end(STYLE_DIM), value);
}

static void print_certificates(json_object *list) {
        if (!json_object_is_type(list, json_type_array))
                return;
        for (size_t k = 0; k < json_object_array_length(list); k++) {
                json_object *c = json_object_array_get_idx(list, k);

                print_line(k == 0 ? "certificate" : "issuer in file", json_string(json_member(c, "subject")));
                print_line("  SHA-1", json_string(json_member(c, "sha1")));
                print_line("  SHA-256", json_string(json_member(c, "sha256")));
        }
}

static int print_card(const char *name, json_object *o) {
        _cleanup_(freep) char *command = azure_command(o);

        if (!command)
                return fail_memory();
        printf("%s%s%s\n", style_begin(STYLE_BOLD), name, style_end(STYLE_BOLD));
        print_line("registration ID", json_string(json_member(o, "registrationId")));
        print_line("ID scope", json_string(json_member(o, "idScope")));
        print_line("method", json_string(json_member(o, "method")));
        print_line("endorsement key", json_string(json_member(o, "endorsementKey")));
        print_line("storage root key", json_string(json_member(o, "storageRootKey")));
        print_certificates(json_member(o, "certificates"));
        printf("\n  %s\n", command);
        if (json_member(o, "certificates"))
                printf("  or, for all devices of one CA:\n"
                       "  az iot dps enrollment-group create --resource-group GROUP --dps-name DPS "
                       "--enrollment-id ENROLLMENT_GROUP --certificate-path CA.pem\n");
        return 0;
}

/* For programs: what the daemon gave, with the name and the command. */
static int add_row(json_object **rows, const char *name, json_object *o) {
        _cleanup_(freep) char *command = azure_command(o);

        if (!command || json_add_string(o, "name", name) < 0 || json_add_string(o, "command", command) < 0)
                return fail_memory();
        json_append(rows, json_object_get(o));
        return *rows ? 0 : fail_memory();
}

int verb_enrollment(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(identity_list_done) IdentityList list = { 0 };
        json_object *rows = o->json == JSON_OFF ? NULL : json_object_new_array();
        int r, code = 0;

        r = bus_open(o, &bus);
        if (r == 0)
                r = identity_list_fetch(&list, bus, o);
        for (size_t k = 0; r == 0 && k < list.n; k++) {
                _cleanup_(json_freep) json_object *enrollment = NULL;

                /* One that fails does not hide the others. */
                code = fetch(bus, &list.items[k], &enrollment) ?: code;
                if (!enrollment)
                        continue;
                r = o->redact ? redact(enrollment) : 0;
                if (r == 0)
                        r = o->json == JSON_OFF ? print_card(list.items[k].name, enrollment)
                                                : add_row(&rows, list.items[k].name, enrollment);
        }
        if (r != 0 || o->json == JSON_OFF) {
                json_object_put(rows);
                return r ?: code;
        }
        return output_json(o, json_document("enrollments", rows)) ?: code;
}
