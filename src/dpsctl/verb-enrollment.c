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
                char key[16];
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

static const char *member(json_object *o, const char *name) {
        return json_string(json_member(o, name)) ?: "";
}

#define COMMAND "az iot dps enrollment%s create --resource-group GROUP --dps-name DPS --enrollment-id %s%s%s"

/* The names of group and DPS instance are the operator's. Keys are not shown: the service makes them, or they
 * are read from a file. */
static char *azure_command(json_object *o) {
        const char *method = member(o, "method"), *kind = "", *id = member(o, "registrationId"), *what,
                   *value = "";

        if (streq(method, "tpm")) {
                what = " --attestation-type tpm --endorsement-key ";
                value = member(o, "endorsementKey");
        } else if (streq(method, "x509")) {
                what = " --attestation-type x509 --certificate-path ";
                value = member(o, "certificateFile");
        } else if (streq(member(o, "keyOf"), "group")) {
                kind = "-group";
                id = "ENROLLMENT_GROUP";
                what = " --primary-key \"$(cat GROUP.key)\" --secondary-key \"$(cat SECOND.key)\"";
        } else
                what = " --attestation-type symmetrickey --primary-key \"$(cat DEVICE.key)\" --secondary-key "
                       "\"$(cat SECOND.key)\"";
        return text_format(COMMAND, kind, id, what, value);
}

static void print_member(const char *label, json_object *o, const char *name) {
        _cleanup_(freep) char *value = shown_line(member(o, name));

        if (!value || *value)
                printf("  %s%-17s%s %s\n", style_begin(STYLE_DIM), label, style_end(STYLE_DIM), value ?: "?");
}

static void print_certificates(json_object *list) {
        for (size_t k = 0; json_object_is_type(list, json_type_array) && k < json_object_array_length(list);
             k++) {
                json_object *c = json_object_array_get_idx(list, k);

                print_member(k == 0 ? "certificate" : "issuer in file", c, "subject");
                print_member("  SHA-1", c, "sha1");
                print_member("  SHA-256", c, "sha256");
        }
}

static int print_card(const char *name, json_object *o) {
        static const char labels[][2][18] = {
                { "registration ID", "registrationId" },
                { "ID scope", "idScope" },
                { "method", "method" },
                { "endorsement key", "endorsementKey" },
                { "storage root key", "storageRootKey" },
                { "key for the hub", "issuanceKey" },
        };
        _cleanup_(freep) char *command = azure_command(o), *shown = command ? shown_line(command) : NULL;

        if (!shown)
                return fail_memory();
        printf("%s%s%s\n", style_begin(STYLE_BOLD), name, style_end(STYLE_BOLD));
        for (size_t k = 0; k < ELEMENTSOF(labels); k++)
                print_member(labels[k][0], o, labels[k][1]);
        print_certificates(json_member(o, "certificates"));
        printf("\n  %s\n", shown);
        if (json_member(o, "certificates"))
                printf("  or, for all devices of one CA:\n  " COMMAND "\n", "-group", "ENROLLMENT_GROUP",
                       " --certificate-path ", "CA.pem");
        if (*member(o, "issuanceKey"))
                puts("  and link a credential policy to the enrollment: DPS issues the certificate for the "
                     "hub.\n  Its key is made here, and the CSR goes with each registration.");
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
