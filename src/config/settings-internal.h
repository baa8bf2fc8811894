/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of the settings share; everybody else includes settings.h.
 *
 *      settings-check.c   what a value must be
 *      settings-key.c     the table of keys, which storing, comparing, copying and expanding all go by
 *      settings-choice.c  which of the lines count for each key: a bad value that a drop-in has replaced harms nobody
 *      settings-rules.c   how the values go together
 *      settings.c         from lines to Settings, and with specifiers expanded
 */

#include "config/settings.h"

/* What is no such value gives -EINVAL and the reason, which may follow "Key=value: ". */
int id_scope_check(const char *value, char **ret_why);
int registration_id_check(const char *value, char **ret_why);
int endpoint_check(const char *value, char **ret_why);
int api_version_check(const char *value, char **ret_why);
int payload_check(const char *value, char **ret_why);
int path_check(const char *value, char **ret_why);
int proxy_check(const char *value, char **ret_why);
int reference_check(const char *value, char **ret_why);
int certificate_check(const char *value, char **ret_why);
int private_key_check(const char *value, char **ret_why);
int group_check(const char *value, char **ret_why);

typedef enum FieldType {
        FIELD_TEXT,  /* char * */
        FIELD_TEXTS, /* char **, a line each */
        FIELD_WORDS, /* char **, several in a line, separated by white space or commas */
        FIELD_PORT,  /* uint16_t */
        FIELD_SPLAY, /* uint64_t, as the next */
        FIELD_LIFETIME,
        FIELD_BOOL,
        FIELD_TRANSPORT,
        FIELD_RENEW,
        FIELD_RENEW_BEFORE, /* percent, or usec */
        FIELD_METHODS,      /* with their number */
        FIELD_ATTEMPTS,     /* of DaemonSettings */
} FieldType;

typedef enum KeyFlags {
        KEY_LIST = 1 << 0,
        KEY_SECRET = 1 << 1,   /* the value is never shown */
        KEY_EXPANDED = 1 << 2, /* specifiers */
        KEY_CHECKED = 1 << 3,  /* `check` bears specifiers */
        KEY_SYSTEM = 1 << 4,   /* "system" is the default */
        KEY_DAEMON = 1 << 5,   /* dpsd.conf only */
        /* The value tells which device this is: see key_quote(). */
        KEY_PRIVATE = 1 << 6,
} KeyFlags;

typedef struct Key {
        const char *section, *name;
        size_t offset; /* in Settings */
        FieldType type;
        int (*check)(const char *value, char **ret_why); /* NULL: storing it checks enough */
        unsigned flags;
} Key;

#define N_KEYS 26
extern const Key *const settings_keys; /* N_KEYS of them */

/* `section` NULL: any. NULL: there is none. */
const Key *key_find(const char *section, const char *name);
bool key_is_text(const Key *k);  /* char * */
bool key_is_texts(const Key *k); /* char ** */
void *key_field(const Key *k, const Settings *s);
/* Whether this value may be in a message. */
bool key_may_be_shown(const Key *k, const char *value);
/* A value, which may be shown, as messages show it. A private one is put in double quotes, where `dpsctl --redact` finds and masks it; quotes
 * inside become single ones. NULL: out of memory. */
char *key_quote(const Key *k, const char *value);
/* Checks the value and stores it, or appends it to a list. Errors as …_check(). */
int key_store(const Key *k, Settings *s, const char *value, char **ret_why);

/* Which value of which key it was that had specifiers. */
typedef struct ValuePlace {
        const Key *key;
        size_t index; /* of a list */
        Place place;
} ValuePlace;

int place_set(Place *place, const char *file, unsigned line);

#define LIST_LINES_MAX 64 /* of one key */

/* The lines that count for one key: all that came since the last reset, or the last one. */
typedef struct Choice {
        const ConfLine **lines;
        size_t n;
        bool is_own; /* the identity says something of it: the defaults do not count */
        bool is_overfull;
} Choice;

/* NULL: nobody set it. */
const ConfLine *choice_last_line(const Choice *c);

typedef struct Reading {
        const Conf *own;
        ConfReport *report;
        Settings *settings;
        Choice choices[N_KEYS]; /* as `settings_keys` */
        unsigned n_unknown;
} Reading;

void reading_done(Reading *reading);
Choice *reading_choice(Reading *reading, const char *name);
/* The defaults first, then the identity's own. */
int reading_choose(Reading *reading, const Conf *conf, bool is_own);
/* Of two ways to say a thing, the identity's own stands against a default. */
void reading_settle(Reading *reading);

/* Stores what was chosen; bad values are reported, and stop nothing. */
int reading_store(Reading *reading);
void reading_report_bad_value(Reading *reading, const Key *k, const ConfLine *line, const char *reason);
/* What is stored, against each other; also of defaults alone. */
void reading_check_together(Reading *reading);
/* Whether all that an identity needs is there. */
void reading_check_complete(Reading *reading);
