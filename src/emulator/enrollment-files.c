/* SPDX-License-Identifier: MIT */
#include "emulator/enrollment-files.h"

#include <errno.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"
#include "emulator/roster.h"

#define PEM_SIZE_MAX (64U * 1024)

typedef struct Directories {
        const char *relative, *state;
} Directories;

static int include_file(const Reader *r, const char *name, const char *text, const Directories *d) {
        _cleanup_(freep) char *path = NULL, *pem = NULL;
        json_object *value;
        char reason[400];
        int k;

        if (streq(text, "device-ca"))
                k = asprintf(&path, "%s/device-ca.pem", d->state);
        else
                k = *text == '/' ? asprintf(&path, "%s", text) : asprintf(&path, "%s/%s", d->relative, text);
        if (k < 0)
                return -ENOMEM;

        k = file_read(path, PEM_SIZE_MAX, &pem, NULL);
        if (k < 0) {
                (void) snprintf(reason, sizeof(reason), "is neither PEM nor a readable file: %s: %s", path,
                                strerror(-k));
                return reader_error(r, name, reason);
        }

        value = json_object_new_string(pem);
        return value && json_object_object_add(r->object, name, value) == 0 ? 0 : -ENOMEM;
}

/* `path`: where the enrollment is in the document. */
static int include_in_enrollment(json_object *json, const char *path, const Directories *d,
                                 ErrorText *error) {
        Reader reader, attestation, x509, r;
        const char *member;
        int k;

        k = reader_init(json, path, error, &reader);
        if (k < 0)
                return k;
        member = enrollment_certificates_member(json_object_object_get_ex(json, "enrollmentGroupId", NULL));
        if ((k = reader_object(&reader, "attestation", &attestation)) <= 0 ||
            (k = reader_object(&attestation, "x509", &x509)) <= 0 ||
            (k = reader_object(&x509, member, &r)) <= 0)
                return k;

        for (size_t i = 0; i < ELEMENTSOF(enrollment_certificate_names); i++) {
                const char *name = enrollment_certificate_names[i];
                json_object *value;

                if (!reader_get(&r, name, &value) || !json_object_is_type(value, json_type_string) ||
                    strstr(json_object_get_string(value), "-----BEGIN"))
                        continue;
                k = include_file(&r, name, json_object_get_string(value), d);
                if (k < 0)
                        return k;
        }
        return 0;
}

int enrollment_files_include(json_object *document, const char *directory, const char *state_directory,
                             ErrorText *error) {
        const Directories d = { directory, state_directory };

        if (enrollment_is_one(document))
                return include_in_enrollment(document, "the enrollment", &d, error);

        for (size_t k = 0; k < ELEMENTSOF(roster_list_names); k++) {
                json_object *list;

                if (!json_object_object_get_ex(document, roster_list_names[k], &list) ||
                    !json_object_is_type(list, json_type_array))
                        continue;
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        char path[64];
                        int r;

                        (void) snprintf(path, sizeof(path), "%s[%zu]", roster_list_names[k], i);
                        r = include_in_enrollment(json_object_array_get_idx(list, i), path, &d, error);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}
