/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "basic/files.h"
#include "basic/text.h"
#include "build-config.h"
#include "credential/tpm-internal.h"

#define FILE_SIZE_MAX 1024U

static int open_state(const Settings *s, char **ret_name) {
        const char *directory = getenv("STATE_DIRECTORY") ?: DPS_STATE_DIR;
        int fd;

        *ret_name = text_format("%s.tpm", s->name);
        if (!*ret_name)
                return -ENOMEM;
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int refuse(DpsError *error, const Settings *s, int r) {
        if (r == -ENOMEM)
                return tpm_fail(error, s, r, "out of memory");
        dps_error_set(error, DPS_ERROR_DISK, DPS_STEP_STORE,
                      "the file %s.tpm, which says which object in the TPM is ours, cannot be used: %s",
                      s->name, strerror(-r));
        return r;
}

static void take_line(TpmOwned *o, const char *line, size_t size) {
        if (o->n == TPM_OWNED_MAX || size == 0 || size >= sizeof(o->names[0]))
                return;
        memcpy(o->names[o->n], line, size);
        o->names[o->n++][size] = 0;
}

int tpm_owned_read(const Settings *s, TpmOwned *ret, DpsError *error) {
        _cleanup_(freep) char *name = NULL, *text = NULL;
        _cleanup_(closep) int fd = open_state(s, &name);
        int r = fd;

        *ret = (TpmOwned){ 0 };
        if (r >= 0)
                r = file_read_at(fd, name, FILE_SIZE_MAX, &text, NULL);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return refuse(error, s, r);

        for (const char *line = text; *line; line += strspn(line, "\n")) {
                size_t size = strcspn(line, "\n");

                take_line(ret, line, size);
                line += size;
        }
        return 0;
}

static void name_to_hex(const TPM2B_NAME *name, char *ret) {
        bytes_to_hex(name->name, MIN((size_t) name->size, sizeof(name->name)), ret);
}

bool tpm_owned_has(const TpmOwned *o, const TPM2B_NAME *name) {
        char hex[sizeof(o->names[0])];

        name_to_hex(name, hex);
        for (size_t k = 0; k < o->n; k++)
                if (streq(o->names[k], hex))
                        return true;
        return false;
}

static int write_durably(int fd, const char *name, const char *text, size_t size) {
        FileDraft d;
        int r;

        r = file_draft_write(&d, fd, name, text, size, 0600, (gid_t) -1);
        if (r < 0)
                return r;
        r = file_draft_sync(&d);
        if (r >= 0)
                r = file_draft_rename(&d, fd, name);
        if (r < 0) {
                file_draft_discard(&d, fd);
                return r;
        }
        return directory_sync(fd);
}

int tpm_owned_add(const Settings *s, TpmOwned *o, const TPM2B_NAME *name, DpsError *error) {
        char text[FILE_SIZE_MAX] = "";
        _cleanup_(freep) char *file = NULL;
        _cleanup_(closep) int fd = open_state(s, &file);
        size_t n = 0;
        int r = fd;

        memmove(o->names[1], o->names[0], sizeof(o->names) - sizeof(o->names[0]));
        o->n = MIN(o->n + 1, (size_t) TPM_OWNED_MAX);
        name_to_hex(name, o->names[0]);
        for (size_t k = 0; k < o->n; k++)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s\n", o->names[k]);

        if (r >= 0)
                r = write_durably(fd, file, text, n);
        return r < 0 ? refuse(error, s, r) : 0;
}
