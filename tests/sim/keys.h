/* SPDX-License-Identifier: MIT */
#pragma once

/* The key files (key-files.c: as the daemon sees them), and the keys that are made for issued certificates. */

#include "sim.h"

#define KEYS_DIRECTORY "/etc/dps/credential"

typedef struct Keys Keys;

typedef enum KeyFile {
        KEY_FILE_GOOD,  /* the enrollment's primary key */
        KEY_FILE_OTHER, /* its secondary key, which DPS takes as well */
        KEY_FILE_WRONG, /* a key that DPS refuses */
        KEY_FILE_MISSING,
        KEY_FILE_BROKEN,   /* no base64 */
        KEY_FILE_TOO_OPEN, /* others may read it */
        _KEY_FILE_MAX,
} KeyFile;

/* Of identity k: its primary (0) or secondary (1) key, or one that is in no enrollment (2); base64. */
const char *keys_text(unsigned k, unsigned which);

Keys *keys_new(Sim *s);
Keys *keys_free(Keys *keys);
const char *keys_path(const Keys *keys, unsigned k);
void keys_put(Keys *keys, unsigned k, KeyFile what);
KeyFile keys_what(const Keys *keys, unsigned k);
/* Of the file; NULL: there is none. */
const char *keys_content(const Keys *keys, unsigned k);
/* The keys are in a chip: they sign slowly, and now and then it is not there. Otherwise they are in files alone. */
void keys_set_chip(Keys *keys, bool is_slow, bool is_absent);
/* Whether a text has a key in it, or a token. */
bool keys_are_in(const Keys *keys, const char *text);

/* ---- key-files.c ---- */

/* Whose files are there; NULL: nobody's. */
void key_files_set(const Keys *k);
