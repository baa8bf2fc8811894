/* SPDX-License-Identifier: MIT */
#include "emulator/reader.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json_tokener.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"

#define DEPTH_MAX 32
#define DOCUMENT_SIZE_MAX (16U * 1024 * 1024)

int error_set(ErrorText *error, const char *format, ...) {
        va_list args;

        va_start(args, format);
        (void) vsnprintf(error->text, sizeof(error->text), format, args);
        va_end(args);
        return -EBADMSG;
}

/* `size`: how much was read before the error. */
static int syntax_error(const char *text, size_t size, enum json_tokener_error e, ErrorText *error) {
        size_t line = 1;

        for (size_t i = 0; i < size; i++)
                line += text[i] == '\n';
        return error_set(error, "line %zu: not JSON: %s", line,
                         e == json_tokener_continue ? "the text ends too early" : json_tokener_error_desc(e));
}

int json_read(const char *text, size_t size, json_object **ret, ErrorText *error) {
        _cleanup_(json_freep) json_object *json = NULL;
        enum json_tokener_error e;
        size_t end;
        int r;

        if (size > INT_MAX || !utf8_is_valid(text, size))
                return error_set(error, "the text is not UTF-8, or too large");

        r = json_parse(text, size, DEPTH_MAX, &json, &e, &end);
        if (r < 0)
                return r;
        if (e != json_tokener_success || end != size)
                return syntax_error(text, MIN(end, size), e, error);
        if (!json_numbers_are_valid(json))
                return error_set(error, "not JSON: a number in it is not valid");

        *ret = TAKE_PTR(json);
        return 0;
}

static int stdin_read(char **ret, size_t *ret_size) {
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;

        if (getdelim(&text, &size, EOF, stdin) < 0 && ferror(stdin))
                return -EIO;

        *ret_size = text ? strlen(text) : 0;
        *ret = TAKE_PTR(text);
        return 0;
}

int json_read_file(const char *path, json_object **ret, ErrorText *error) {
        _cleanup_(freep) char *text = NULL;
        ErrorText inner = { 0 };
        size_t size = 0;
        int r;

        r = streq(path, "-") ? stdin_read(&text, &size) : file_read(path, DOCUMENT_SIZE_MAX, &text, &size);
        if (r < 0)
                return error_set(error, "%s: %s", path, file_error(r));

        r = json_read(text ?: "", size, ret, &inner);
        return r == -EBADMSG ? error_set(error, "%s: %.400s", path, inner.text) : r;
}

/* "quotas" for a member of the document itself, "enrollmentGroups[0].attestation" for one further down. */
static void member_path(const Reader *r, const char *name, char *ret, size_t size) {
        int n = snprintf(ret, size, "%s%s%s", r->path, *r->path ? "." : "", name);

        assert(n >= 0); /* a very long path may be cut off */
}

int reader_init(json_object *json, const char *path, ErrorText *error, Reader *ret) {
        Reader r = { .object = json, .error = error };

        if (!json_object_is_type(json, json_type_object))
                return error_set(error, "%s: must be an object", *path ? path : "the document");

        (void) snprintf(r.path, sizeof(r.path), "%s", path);
        *ret = r;
        return 0;
}

int reader_error(const Reader *r, const char *name, const char *what) {
        char path[sizeof(r->path) + 64];

        member_path(r, name, path, sizeof(path));
        return error_set(r->error, "%s: %s", path, what);
}

int reader_allow(const Reader *r, const char *const names[]) {
        json_object_object_foreach(r->object, name, value) {
                size_t i = 0;

                (void) value;
                while (names[i] && !streq(names[i], name))
                        i++;
                if (!names[i])
                        return reader_error(r, name, "there is no such member");
        }
        return 0;
}

int reader_get(const Reader *r, const char *name, json_object **ret) {
        json_object *value;

        if (!json_object_object_get_ex(r->object, name, &value) || !value)
                return 0;

        *ret = value;
        return 1;
}

static int reader_typed(const Reader *r, const char *name, json_type type, const char *what,
                        json_object **ret) {
        json_object *value;

        if (!reader_get(r, name, &value))
                return 0;

        if (!json_object_is_type(value, type))
                return reader_error(r, name, what);

        *ret = value;
        return 1;
}

int reader_object(const Reader *r, const char *name, Reader *ret) {
        json_object *value = NULL;
        Reader inner;
        int k;

        k = reader_typed(r, name, json_type_object, "must be an object", &value);
        if (k <= 0)
                return k;

        inner = (Reader){ .object = value, .error = r->error };
        member_path(r, name, inner.path, sizeof(inner.path));
        *ret = inner;
        return 1;
}

int reader_string(const Reader *r, const char *name, const char **ret) {
        json_object *value = NULL;
        int k;

        k = reader_typed(r, name, json_type_string, "must be a string", &value);
        if (k <= 0)
                return k;

        if (strlen(json_object_get_string(value)) != (size_t) json_object_get_string_len(value))
                return reader_error(r, name, "must not contain \\u0000");

        *ret = json_object_get_string(value);
        return 1;
}

int reader_boolean(const Reader *r, const char *name, bool *ret) {
        json_object *value = NULL;
        int k;

        k = reader_typed(r, name, json_type_boolean, "must be true or false", &value);
        if (k > 0)
                *ret = json_object_get_boolean(value);
        return k;
}

int reader_number(const Reader *r, const char *name, uint64_t max, uint64_t *ret) {
        json_object *value = NULL;
        int64_t number;
        int k;

        k = reader_typed(r, name, json_type_int, "must be a whole number", &value);
        if (k <= 0)
                return k;

        number = json_object_get_int64(value);
        if (number < 0 || (uint64_t) number > max)
                return reader_error(r, name, "is out of range");

        *ret = (uint64_t) number;
        return 1;
}

static int read_array(const Reader *r, const char *name, json_object *array, char ***list) {
        for (size_t i = 0; i < json_object_array_length(array); i++) {
                json_object *o = json_object_array_get_idx(array, i);
                int k;

                if (!json_object_is_type(o, json_type_string))
                        return reader_error(r, name, "must be a list of strings");
                k = strv_append(list, json_object_get_string(o));
                if (k < 0)
                        return k;
        }
        return 0;
}

int reader_strings(const Reader *r, const char *name, char ***ret) {
        _cleanup_(strv_freep) char **list = NULL;
        json_object *value = NULL;
        int k;

        if (!reader_get(r, name, &value))
                return 0;

        if (json_object_is_type(value, json_type_string))
                k = strv_split(json_object_get_string(value), ",", &list);
        else if (json_object_is_type(value, json_type_array))
                k = read_array(r, name, value, &list);
        else
                k = reader_error(r, name, "must be a list of strings");
        if (k < 0)
                return k;

        strv_free(*ret);
        *ret = TAKE_PTR(list);
        return 1;
}

int reader_word(const Reader *r, const char *name, const char *const words[], unsigned *ret) {
        const char *word = NULL;
        char list[200] = "";
        int k;

        k = reader_string(r, name, &word);
        if (k <= 0)
                return k;

        for (unsigned i = 0; words[i]; i++) {
                if (streq(words[i], word)) {
                        *ret = i;
                        return 1;
                }
                (void) snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
                                i ? ", " : "must be one of ", words[i]);
        }
        return reader_error(r, name, list);
}
