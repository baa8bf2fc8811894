/* SPDX-License-Identifier: MIT */
#include "credential/token-notes.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/pkcs11-uri.h"
#include "credential/credential-error.h"

#define NUMBER_SIZE 8
#define DIGITS (2 * NUMBER_SIZE)
#define NOTE_SIZE_MAX 4096U
#define LABEL_DEFAULT "dps"
#define LEFT_MAX 3 /* keys that a token does not let us remove */

static int note_error(const Settings *s, DpsError *error, int r, const char *what) {
        return credential_error(error, r, &s->issuance_place, "[Issuance] Key", "%s", what);
}

/* --- the name of a key ---------------------------------------------------------------------------------- */

static void print_encoded(FILE *f, const unsigned char *bytes, size_t size) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

        for (size_t i = 0; i < size; i++)
                if (bytes[i] && strchr(plain, bytes[i]))
                        (void) fputc(bytes[i], f);
                else
                        (void) fprintf(f, "%%%02X", bytes[i]);
}

/* The attributes of the token are taken as they are written. */
static void print_uri(FILE *f, const char *base, const Pkcs11Uri *uri, const unsigned char *number) {
        const Pkcs11Value *label = &uri->values[PKCS11_OBJECT], *id = &uri->values[PKCS11_ID];
        char digits[DIGITS + 1];

        bytes_to_hex(number, NUMBER_SIZE, digits);
        (void) fputs("pkcs11:", f);
        for (const char *p = base + strlen("pkcs11:"); *p; p += strspn(p, ";")) {
                size_t size = strcspn(p, ";");

                if (!startswith(p, "object=") && !startswith(p, "id=") && !startswith(p, "type="))
                        (void) fprintf(f, "%.*s;", (int) size, p);
                p += size;
        }
        (void) fputs("object=", f);
        if (label->is_set)
                print_encoded(f, label->bytes, label->size);
        else
                (void) fputs(LABEL_DEFAULT, f);
        (void) fprintf(f, "-%s;id=", digits);
        for (size_t i = 0; i < id->size; i++)
                (void) fprintf(f, "%%%02X", id->bytes[i]);
        for (size_t i = 0; i < NUMBER_SIZE; i++)
                (void) fprintf(f, "%%%02X", number[i]);
}

int token_uri_choose(const Settings *s, char **ret, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        unsigned char number[NUMBER_SIZE];
        Pkcs11Uri uri;
        char *text = NULL;
        size_t size;
        bool good;
        FILE *f;

        if (pkcs11_uri_parse(s->issuance_key, &uri, &reason) < 0)
                return note_error(s, error, -EINVAL, reason ?: "");
        if (uri.values[PKCS11_OBJECT].size + DIGITS + 1 > sizeof(uri.values[0].bytes) ||
            uri.values[PKCS11_ID].size + NUMBER_SIZE > sizeof(uri.values[0].bytes))
                return note_error(s, error, -EINVAL, "object= and id= have room for 100 characters");
        f = open_memstream(&text, &size);
        if (!f || RAND_bytes(number, sizeof(number)) != 1) {
                if (f)
                        (void) fclose(f);
                free(text);
                return note_error(s, error, -ENOMEM, "");
        }
        print_uri(f, s->issuance_key, &uri, number);
        good = !ferror(f);
        if (fclose(f) == 0 && good) {
                *ret = text;
                return 0;
        }
        free(text);
        return note_error(s, error, -ENOMEM, "");
}

/* --- notes ---------------------------------------------------------------------------------------------- */

static int disk_error(const Settings *s, const IssuancePlace *place, int r, DpsError *error) {
        dps_error_set(error, r == -ENOMEM ? DPS_ERROR_MEMORY : DPS_ERROR_DISK, DPS_STEP_CONFIG,
                      "no key is made in the token, because %s cannot be used to note it: %s", place->state,
                      strerror(-r));
        return r;
}

static int write_note(int fd, const char *name, const char *text) {
        FileDraft draft;
        int r;

        r = file_draft_write(&draft, fd, name, text, strlen(text), 0600, (gid_t) -1);
        if (r < 0)
                return r;
        r = file_draft_sync(&draft);
        if (r >= 0)
                r = file_draft_rename(&draft, fd, name);
        if (r < 0)
                file_draft_discard(&draft, fd);
        return r < 0 ? r : directory_sync(fd);
}

int token_note_write(const HardwareKey *k, const IssuancePlace *place, DpsError *error) {
        _cleanup_(closep) int fd = open(place->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const char *digits = strstr(k->reference, ";id=") - DIGITS;
        _cleanup_(freep) char *name = NULL;
        int r;

        if (fd < 0)
                return disk_error(k->settings, place, -errno, error);
        name = text_format("%s.%.*s" TOKEN_NOTE_SUFFIX, k->settings->name, DIGITS, digits);
        if (!name)
                return note_error(k->settings, error, -ENOMEM, "");
        r = write_note(fd, name, k->reference);
        return r < 0 ? disk_error(k->settings, place, r, error) : 0;
}

/* --- keys that are not used any more -------------------------------------------------------------------- */

static bool is_pair(const char *name) {
        return endswith(name, ISSUED_SUFFIX);
}

static bool is_note(const char *name) {
        return endswith(name, TOKEN_NOTE_SUFFIX);
}

/* 1: one of the files names the key, or cannot be read and so may name it. */
static int is_named_in(const char *directory, const char *identity, const char *uri) {
        _cleanup_(closep) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(strv_freep) char **names = NULL;
        bool found = false;
        int r;

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = directory_list(fd, is_pair, &names);
        if (r < 0)
                return r;
        STRV_FOREACH(name, names) {
                _cleanup_(erase_and_freep) char *text = NULL;

                if (!issued_file_is_of(*name, identity))
                        continue;
                r = file_read_at(fd, *name, ISSUED_SIZE_MAX, &text, NULL);
                if (r == -ENOENT)
                        continue;
                if (r < 0)
                        return r;
                found = found || strstr(text, uri);
        }
        return found;
}

static int is_used(const char *uri, const char *identity, const IssuancePlace *place) {
        int r = hardware_key_is_used(uri);

        if (r == 0)
                r = is_named_in(place->state, identity, uri);
        if (r == 0 && place->notes)
                r = is_named_in(place->notes, identity, uri);
        return r;
}

/* Returns whether the key is still there although it is not used. */
static int remove_one(Settings *s, const IssuancePlace *place, int fd, const char *name, DpsError *error) {
        _cleanup_(freep) char *uri = NULL;
        HardwareKey key = { .settings = s, .kind = HARDWARE_PKCS11, .is_issued = true };
        int r;

        r = file_read_at(fd, name, NOTE_SIZE_MAX, &uri, NULL);
        if (r >= 0)
                r = is_used(uri, s->name, place);
        if (r < 0)
                return disk_error(s, place, r, error);
        if (r > 0)
                return 0;
        key.reference = uri;
        if (pkcs11_remove(&key, error) < 0)
                return 1;
        return unlinkat(fd, name, 0) < 0 && errno != ENOENT ? disk_error(s, place, -errno, error) : 0;
}

int token_notes_remove_old(Settings *s, const IssuancePlace *place, DpsError *error) {
        _cleanup_(closep) int fd = open(place->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(strv_freep) char **names = NULL;
        unsigned n_left = 0;
        int r;

        r = fd < 0 ? -errno : directory_list(fd, is_note, &names);
        if (r < 0)
                return disk_error(s, place, r, error);
        STRV_FOREACH(name, names) {
                if (!token_note_is_of(*name, s->name))
                        continue;
                r = remove_one(s, place, fd, *name, error);
                if (r < 0)
                        return r;
                n_left += (unsigned) r;
        }
        return n_left >= LEFT_MAX ? -EIO : 0;
}
