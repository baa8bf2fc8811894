/* SPDX-License-Identifier: MIT */
#pragma once

/* Reading JSON that people wrote: a complaint names the member by its path, "enrollmentGroups[0].attestation". */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/json.h"

typedef struct Complaint {
        char text[512];
} Complaint;

/* Writes a complaint, printf-like. Always -EBADMSG, so that it can be returned. */
int complain(Complaint *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -EBADMSG: not one whole JSON text; the complaint says where. */
int json_read(const char *text, size_t size, json_object **ret, Complaint *c);
/* The same from a file, "-" being standard input; complaints begin with its name. */
int json_read_file(const char *path, json_object **ret, Complaint *c);

/* One object of a document; the path is that of the object. */
typedef struct Reader {
        json_object *object;
        Complaint *complaint;
        char path[256];
} Reader;

/* -EBADMSG: `json` is no object. */
int reader_init(json_object *json, const char *path, Complaint *c, Reader *ret);
/* Complains about a member of it. */
int reader_complain(const Reader *r, const char *name, const char *what);
/* Complains about members that are not in the list, which ends with NULL: most likely a slip of the pen. */
int reader_allow(const Reader *r, const char *const names[]);

/* The following return 1 if the member is there, 0 if it is absent or null (then `ret` is untouched). */
int reader_get(const Reader *r, const char *name, json_object **ret);
int reader_object(const Reader *r, const char *name, Reader *ret);
int reader_string(const Reader *r, const char *name, const char **ret); /* valid as long as the object */
int reader_boolean(const Reader *r, const char *name, bool *ret);
int reader_number(const Reader *r, const char *name, uint64_t max, uint64_t *ret);
/* A list of strings; a single string is a list of one, or of several with commas between them. */
int reader_strings(const Reader *r, const char *name, char ***ret);
/* One of the words of a list that ends with NULL: its index. */
int reader_word(const Reader *r, const char *name, const char *const words[], unsigned *ret);
