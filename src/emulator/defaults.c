/* SPDX-License-Identifier: MIT */
#include "emulator/defaults.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/linkhash.h>
#include <openssl/rand.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"
#include "dps/key.h"
#include "emulator/enrollment-files.h"
#include "emulator/statedir.h"

#define DEVICE_ID "gateway"
#define GROUP_ID "line-1"
#define KEY_SIZE 32
#define N_KEYS 4

static const char format[] = "{\"idScope\":\"0ne00AABBCC\",\"retryAfter\":3,\"assigningTime\":2,\"hubs\":["
                             "\"hub-1.example\",\"hub-2.example\"],"
                             "\"individualEnrollments\":[{\"registrationId\":\"" DEVICE_ID
                             "\",\"attestation\":{\"type\":\"symmetricKey\","
                             "\"symmetricKey\":{\"primaryKey\":\"%s\",\"secondaryKey\":\"%s\"}}}],"
                             "\"enrollmentGroups\":[{\"enrollmentGroupId\":\"" GROUP_ID
                             "\",\"attestation\":{\"type\":\"symmetricKey\","
                             "\"symmetricKey\":{\"primaryKey\":\"%s\",\"secondaryKey\":\"%s\"}}},"
                             "{\"enrollmentGroupId\":\"factory\",\"attestation\":{\"type\":\"x509\","
                             "\"x509\":{\"signingCertificates\":{\"primary\":\"device-ca\"}}}}]}";

static int make_key(char **ret) {
        uint8_t bytes[KEY_SIZE];

        if (RAND_bytes(bytes, sizeof(bytes)) != 1)
                return -EIO;
        return dps_base64_encode(bytes, sizeof(bytes), ret);
}

static int write_key(const char *name, const char *key, ErrorText *error) {
        int r = file_write_atomic(AT_FDCWD, name, key, strlen(key), 0600, (gid_t) -1);

        return r < 0 ? error_set(error, "%s: %s", name, strerror(-r)) : 0;
}

int defaults_make(const char *state_directory, json_object **ret, ErrorText *error) {
        _cleanup_(json_freep) json_object *document = NULL;
        _cleanup_(freep) char *text = NULL;
        _cleanup_(strv_freep) char **keys = NULL;
        int r;

        for (size_t i = 0; i < N_KEYS; i++) {
                char *key;

                if ((r = make_key(&key)) < 0 || (r = strv_push(&keys, key)) < 0)
                        return r;
        }
        if (asprintf(&text, format, keys[0], keys[1], keys[2], keys[3]) < 0)
                return -ENOMEM;

        if ((r = write_key(DEVICE_ID ".key", keys[0], error)) < 0 ||
            (r = write_key(GROUP_ID ".key", keys[2], error)) < 0 ||
            (r = json_read(text, strlen(text), &document, error)) < 0 ||
            (r = enrollment_files_include(document, ".", state_directory, error)) < 0)
                return r;

        *ret = TAKE_PTR(document);
        return 0;
}

/* A device with an enrollment of its own is the easiest to try. */
static const Enrollment *example_of(const Roster *roster) {
        const struct lh_entry *first = lh_table_head(roster->individuals);

        return first ? lh_entry_v(first) : roster_next_group(roster, NULL);
}

static void explain_attestation(const Enrollment *e, const char *state_directory) {
        _cleanup_(freep) char *file = NULL;

        if (e->attestation == ATTESTATION_X509) {
                (void) fprintf(stderr, "  Method=x509\n  Certificate=%s.pem\n  PrivateKey=%s.key\n",
                               e->is_group ? "ID" : e->id, e->is_group ? "ID" : e->id);
                return;
        }

        if (asprintf(&file, "%s.key", e->id) < 0)
                return;
        (void) fprintf(stderr, "  Method=symmetric-key\n  %s=", e->is_group ? "GroupKey" : "Key");
        if (access(file, F_OK) == 0)
                (void) fprintf(stderr, "%s/%s\n", state_directory, file);
        else
                (void) fprintf(stderr, "FILE    (which holds the enrollment's primaryKey)\n");
}

void defaults_explain(const Roster *roster, const char *state_directory, const char *host, uint16_t port,
                      uint16_t https_port) {
        const Enrollment *e = example_of(roster);

        if (!e) {
                (void) fprintf(stderr, "No device is enrolled yet: use dps-emulator ctl enroll FILE\n\n");
                return;
        }

        (void) fprintf(stderr,
                       "Put this into a NAME.conf, for the enrollment %s:\n"
                       "\n"
                       "  [Provisioning]\n"
                       "  IdScope=%s\n"
                       "  RegistrationId=%s\n"
                       "  Endpoint=%s\n"
                       "  MqttPort=%u\n",
                       e->id, roster->behaviour.id_scope, e->is_group ? "ID" : e->id, host, port);
        if (https_port > 0)
                (void) fprintf(stderr, "  HttpsPort=%u\n", https_port);
        (void) fprintf(stderr, "  CaFile=%s/" SERVER_CA_NAME ".pem\n\n  [Attestation]\n", state_directory);
        explain_attestation(e, state_directory);
        (void) fprintf(stderr, "\n");
}
