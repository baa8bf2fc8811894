/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of the settings share. Other files include settings.h.
 *
 *      settings-check.c   whether a value is valid
 *      settings-key.c     the table of keys: values are stored, compared, copied and expanded by it
 *      settings-choice.c  which lines count for each key: a bad value that a drop-in replaces is not an error
 *      settings-rules.c   whether the values can be used together, and are complete
 *      settings.c         makes Settings from lines, and expands specifiers
 */

#include "config/settings.h"

/* -EINVAL: the value is not valid, and `ret_why` is the reason, to be shown after "Key=value: ". */
int id_scope_check(const char *value, char **ret_why);
int registration_id_check(const char *value, char **ret_why);
int endpoint_check(const char *value, char **ret_why);
int api_version_check(const char *value, char **ret_why);
int payload_check(const char *value, char **ret_why);
int path_check(const char *value, char **ret_why);
int proxy_check(const char *value, char **ret_why);
int address_check(const char *word, char **ret_why); /* one of Address= */
int reference_check(const char *value, char **ret_why);
int certificate_check(const char *value, char **ret_why);
int private_key_check(const char *value, char **ret_why);
int issuance_key_check(const char *value, char **ret_why);
int tcti_check(const char *value, char **ret_why);
int group_check(const char *value, char **ret_why);
int unit_check(const char *word, char **ret_why); /* one of RestartUnits= or ReloadUnits= */

typedef enum FieldType {
        FIELD_TEXT,  /* char * */
        FIELD_TEXTS, /* char **, a line each */
        FIELD_WORDS, /* char **, several in a line, separated by white space or commas; `check` checks each */
        FIELD_PORT,  /* uint16_t */
        FIELD_HANDLE, /* uint32_t, of a persistent object in a TPM */
        FIELD_SPLAY,  /* uint64_t, in µs, as the next */
        FIELD_LIFETIME,
        FIELD_BOOL,
        FIELD_TRANSPORT,
        FIELD_RENEW,
        FIELD_RENEW_BEFORE, /* percent, or µs */
        FIELD_KEY_TYPE,
        FIELD_RENEW_AT, /* percent, or µs */
        FIELD_METHODS,  /* methods[] and n_methods */
        FIELD_ATTEMPTS, /* of DaemonSettings */
} FieldType;

typedef enum KeyFlags {
        KEY_LIST = 1 << 0,
        KEY_SECRET = 1 << 1,   /* the value is never shown */
        KEY_EXPANDED = 1 << 2, /* may hold specifiers */
        KEY_CHECKED = 1 << 3,  /* `check` accepts values with specifiers */
        KEY_SYSTEM = 1 << 4,   /* the value "system" means the default */
        KEY_DAEMON = 1 << 5,   /* dpsd.conf only */
        /* The value tells which device this is: see key_quote(). */
        KEY_PRIVATE = 1 << 6,
} KeyFlags;

typedef struct Key {
        const char *section, *name;
        uint16_t offset, size; /* in Settings */
        FieldType type;
        int (*check)(const char *value, char **ret_why); /* NULL: key_store() checks enough */
        unsigned flags;
} Key;

#define N_KEYS 42
extern const Key *const settings_keys; /* N_KEYS of them */

/* `section` NULL: any section. Returns NULL if there is no such key. */
const Key *key_find(const char *section, const char *name);
bool key_is_text(const Key *k);  /* char * */
bool key_is_texts(const Key *k); /* char ** */
void *key_field(const Key *k, const Settings *s);
/* Whether a message may show this value. */
bool key_may_be_shown(const Key *k, const char *value);
/* A value that may be shown, in the form for messages. A private one is put in double quotes, where `dpsctl --redact` finds
 * and masks it; quotes inside become single ones. NULL: out of memory. */
char *key_quote(const Key *k, const char *value);
/* Checks the value and stores it, or appends it to a list. Fails as …_check() does. */
int key_store(const Key *k, Settings *s, const char *value, char **ret_why);

/* Where a value with specifiers was written. */
typedef struct ValuePlace {
        const Key *key;
        size_t index; /* of a list */
        Place place;
} ValuePlace;

/* Remembers where value `index` of the key, which has specifiers, was written. */
int specifiers_add(Settings *s, const Key *k, size_t index, const char *file, unsigned line);
int place_set(Place *place, const char *file, unsigned line);

#define LIST_LINES_MAX 64 /* of one key */

/* The lines that count for one key: for a list those since its last reset, else the last one. */
typedef struct Choice {
        const ConfLine **lines;
        size_t n;
        bool is_own;      /* the identity sets or resets the key, so the defaults do not count */
        bool is_overfull; /* there were more than LIST_LINES_MAX */
} Choice;

/* NULL: the key is not set. */
const ConfLine *choice_last_line(const Choice *c);

typedef struct Reading {
        const Conf *own;
        ConfReport *report;
        Settings *settings;
        Choice choices[N_KEYS]; /* in the order of `settings_keys` */
        unsigned n_unknown;
} Reading;

void reading_done(Reading *reading);
/* Of a key that is not in [Issuance], which has a Key= of its own. */
Choice *reading_choice(Reading *reading, const char *name);
const ConfLine *reading_last_line(Reading *reading, const char *name); /* NULL: it is not set */
Choice *reading_choice_in(Reading *reading, const char *section, const char *name);
/* Chooses the lines that count. To be called for the defaults first, then for the identity's own
 * configuration. */
int reading_choose(Reading *reading, const Conf *conf, bool is_own);
/* Where two keys exclude each other, the one that the identity sets cancels the default for the other. */
void reading_settle(Reading *reading);

/* Stores the chosen values. Bad values are reported, and the others are stored. */
int reading_store(Reading *reading);
void reading_report_bad_value(Reading *reading, const Key *k, const ConfLine *line, const char *reason);
/* Reports values that cannot be used together. Also used for the defaults alone. */
void reading_check_together(Reading *reading);
/* Reports what an identity needs and is missing. */
void reading_check_complete(Reading *reading);
