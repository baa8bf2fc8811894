/* SPDX-License-Identifier: MIT */
#pragma once

/* Reads JSON that people wrote. An error names the member by its path: "enrollmentGroups[0].attestation". */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/json.h"

/* What went wrong, as it is told to people. */
typedef struct ErrorText {
        char text[512];
} ErrorText;

/* Sets the text, as printf() does, and returns -EBADMSG: `return error_set(error, "…")`. */
int error_set(ErrorText *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -EBADMSG: the text is not one JSON value; the error names the line. */
int json_read(const char *text, size_t size, json_object **ret, ErrorText *error);
/* The same from a file, or from standard input for "-". Errors begin with the file's name. */
int json_read_file(const char *path, json_object **ret, ErrorText *error);

/* One object of a document, and its path in the document. */
typedef struct Reader {
        json_object *object;
        ErrorText *error;
        char path[256];
} Reader;

/* -EBADMSG: `json` is not an object. */
int reader_init(json_object *json, const char *path, ErrorText *error, Reader *ret);
/* Sets the error to "PATH.NAME: WHAT". Returns -EBADMSG. */
int reader_error(const Reader *r, const char *name, const char *what);
/* Fails if there is a member that is not in the list, which ends with NULL: it is most likely misspelt. */
int reader_allow(const Reader *r, const char *const names[]);

/* The following return 1 if there is such a member, and 0 if it is missing or null; then `ret` is
 * untouched. */
int reader_get(const Reader *r, const char *name, json_object **ret);
int reader_object(const Reader *r, const char *name, Reader *ret);
int reader_string(const Reader *r, const char *name, const char **ret); /* valid as long as the object is */
int reader_boolean(const Reader *r, const char *name, bool *ret);
int reader_number(const Reader *r, const char *name, uint64_t max, uint64_t *ret);
/* A list of strings. A single string is split at its commas. */
int reader_strings(const Reader *r, const char *name, char ***ret);
/* The member must be one of the words of the list, which ends with NULL. `ret` is the word's index. */
int reader_word(const Reader *r, const char *name, const char *const words[], unsigned *ret);
