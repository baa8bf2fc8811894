/* SPDX-License-Identifier: MIT */
#include "basic/json.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json_visit.h>
#include <math.h>

#include "basic/cleanup.h"
#include "basic/text.h"

static void tokener_freep(json_tokener **t) {
        if (*t)
                json_tokener_free(*t);
}

/* `text` is a number with a fraction or an exponent, as json-c keeps it; NULL for NaN and Infinity. json-c has
 * not checked the digits before and after the point. */
static bool is_number(const char *text) {
        const char *point = text ? strchr(text, '.') : NULL;

        if (!text || (point && !isdigit((unsigned char) point[1])))
                return false;
        text += *text == '-';
        return isdigit((unsigned char) text[0]) && !(text[0] == '0' && isdigit((unsigned char) text[1]));
}

static int check_number(json_object *o, int flags, json_object *parent, const char *key, size_t *index,
                        void *userdata) {
        if (json_object_is_type(o, json_type_double) &&
            !(is_number(json_object_get_userdata(o)) && isfinite(json_object_get_double(o))))
                return JSON_C_VISIT_RETURN_ERROR;
        return JSON_C_VISIT_RETURN_CONTINUE;
}

bool json_numbers_are_valid(json_object *o) {
        return json_c_visit(o, 0, check_number, NULL) >= 0;
}

static const char *skip_white(const char *p, const char *end) {
        while (p < end && strchr(" \t\r\n", *p) && *p)
                p++;
        return p;
}

static bool is_white(const char *p, const char *end) {
        return skip_white(p, end) == end;
}

/* Before 0.17, json-c accepts control characters in strings. Other programs, which read these strings from us,
 * may not. */
static bool has_control_in_string(const char *text, size_t size) {
        bool is_in_string = false;

        for (size_t i = 0; i < size; i++) {
                if (is_in_string && text[i] == '\\')
                        i++;
                else if (text[i] == '"')
                        is_in_string = !is_in_string;
                else if (is_in_string && (unsigned char) text[i] < ' ')
                        return true;
        }
        return false;
}

static int parse(const char *text, size_t size, int depth, int flags, json_object **ret,
                 enum json_tokener_error *ret_error, size_t *ret_end) {
        _cleanup_(tokener_freep) json_tokener *tokener = json_tokener_new_ex(depth);
        _cleanup_(json_freep) json_object *o = NULL;

        if (!tokener)
                return -ENOMEM;
        json_tokener_set_flags(tokener, flags);

        errno = 0;
        o = json_tokener_parse_ex(tokener, text, (int) size);
        *ret_error = json_tokener_get_error(tokener);
        *ret_end = json_tokener_get_parse_end(tokener);
        /* Only a zero byte tells the parser that a bare number is complete. */
        if (*ret_error == json_tokener_continue) {
                o = json_tokener_parse_ex(tokener, "", 1);
                if (json_tokener_get_error(tokener) == json_tokener_success)
                        *ret_error = json_tokener_success;
        }
        if (errno == ENOMEM) /* the tokener itself would report another error, or success */
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

static bool is_in_number(char c) {
        return isdigit((unsigned char) c) || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-';
}

/* Gives a whole number that may be too long for json-c a fraction in its last two digits: "12345" becomes "123.5". Returns
 * its last byte. */
static char *shorten_number(char *p, const char *end) {
        char *first = p + (*p == '-');

        p = first;
        while (p < end && isdigit((unsigned char) *p))
                p++;
        if (p - first > 18 && *first != '0' && !(p < end && *p && strchr(".eE", *p)))
                p[-2] = '.';
        return p - 1;
}

/* Replaces valid JSON that a strict json-c refuses by something of the same size: all letters beyond ASCII
 * (0.18), and whole numbers of more than 64 bits (since 0.17). */
static void mask(char *text, size_t size) {
        bool is_in_string = false;
        char *end = text + size;

        for (char *p = text; p < end; p++) {
                if (!isascii((unsigned char) *p))
                        *p = '?';
                else if (*p == '"')
                        is_in_string = !is_in_string;
                else if (is_in_string && *p == '\\' && p + 1 < end && isascii((unsigned char) p[1]))
                        p++;
                else if (!is_in_string && (isdigit((unsigned char) *p) || *p == '-') &&
                         !(p > text && is_in_number(p[-1])))
                        p = shorten_number(p, end);
        }
}

int json_parse(const char *text, size_t size, int depth, json_object **ret,
               enum json_tokener_error *ret_error, size_t *ret_end) {
        _cleanup_(erase_and_freep) char *masked = malloc(size + 1);
        int r;

        if (!masked)
                return -ENOMEM;
        memcpy(masked, text, size);
        masked[size] = 0;
        mask(masked, size);
        r = parse(masked, size, depth, JSON_TOKENER_STRICT, ret, ret_error, ret_end);
        if (r < 0 || *ret_error != json_tokener_success || memcmp(masked, text, size) == 0)
                return r;
        json_object_put(*ret);
        return parse(text, size, depth, 0, ret, ret_error, ret_end);
}

static int fail(const char *reason, const char **ret_why) {
        *ret_why = reason;
        return -EBADMSG;
}

int json_read_object(const char *text, size_t size, size_t size_max, json_object **ret,
                     const char **ret_why) {
        _cleanup_(json_freep) json_object *o = NULL;
        enum json_tokener_error error;
        size_t end;
        int r;

        if (size == 0)
                return fail("it is empty", ret_why);
        if (size > size_max)
                return fail("it is too long", ret_why);
        /* In nearly all versions, json-c's own check accepts overlong forms and surrogates. */
        if (!utf8_is_valid(text, size))
                return fail("it is not UTF-8", ret_why);

        r = json_parse(text, size, JSON_DEPTH_MAX, &o, &error, &end);
        if (r < 0)
                return r;
        /* A zero byte ends parsing with success, so the text after it must be checked. */
        if (error != json_tokener_success || !is_white(text + end, text + size) ||
            has_control_in_string(text, size))
                return fail("it is not JSON", ret_why);
        if (!json_object_is_type(o, json_type_object))
                return fail("it is not a JSON object", ret_why);
        if (!json_numbers_are_valid(o))
                return fail("a number in it is not valid", ret_why);

        *ret = TAKE_PTR(o);
        return 0;
}

/* The end of the value, or of the name of a member, that begins at p or behind white space. The text was parsed before. */
static const char *value_end(const char *p, const char *end) {
        unsigned depth = 0;
        bool is_in_string = false;

        for (; p < end; p++) {
                if (*p == '"')
                        is_in_string = !is_in_string;
                else if (is_in_string)
                        p += *p == '\\';
                else if (*p == '{' || *p == '[')
                        depth++;
                else if (depth == 0 && strchr(",:}", *p))
                        return p;
                else if (*p == '}' || *p == ']')
                        depth--;
        }
        return p;
}

/* `text` is a string with its quotes. */
static int string_is(Span text, const char *word) {
        _cleanup_(json_freep) json_object *o = NULL;
        enum json_tokener_error error;
        size_t n;
        int r;

        if (!memchr(text.start, '\\', text.size))
                return text.size == strlen(word) + 2 && memcmp(text.start + 1, word, text.size - 2) == 0;
        r = parse(text.start, text.size, JSON_DEPTH_MAX, 0, &o, &error, &n);
        return r < 0 ? r : streq_ptr(json_string(o), word);
}

int json_find_text(Span text, const char *name, Span *ret) {
        const char *end = text.start + text.size, *p = skip_white(text.start, end);

        *ret = (Span){ 0 };
        while (p < end && *p != '}') { /* it is { or a comma */
                const char *key = p + 1, *colon = value_end(key, end), *value = colon + 1;
                int r = string_is(span_strip((Span){ key, (size_t) (colon - key) }), name);

                if (r < 0)
                        return r;
                p = value_end(value, end);
                if (r > 0)
                        *ret = span_strip((Span){ value, (size_t) (p - value) });
        }
        return 0;
}

int json_keep_text(json_object *object, Span text, const char *name) {
        json_object *member = json_member(object, name);
        Span found = { 0 };
        char *copy;

        int r = member ? json_find_text(text, name, &found) : 0;

        if (r < 0 || found.size == 0)
                return r;
        copy = span_dup(found);
        if (!copy)
                return -ENOMEM;
        json_object_set_serializer(member, json_object_userdata_to_json_string, copy,
                                   json_object_free_userdata);
        return 0;
}

json_object *json_member(json_object *object, const char *name) {
        json_object *o = NULL;

        (void) json_object_object_get_ex(object, name, &o);
        return o;
}

const char *json_string(json_object *o) {
        const char *text;

        if (!json_object_is_type(o, json_type_string))
                return NULL;

        text = json_object_get_string(o);
        return strlen(text) == (size_t) json_object_get_string_len(o) ? text : NULL;
}

int json_u64(json_object *o, uint64_t max, uint64_t *ret) {
        int64_t value;

        if (!json_object_is_type(o, json_type_int))
                return -EINVAL;

        /* Some versions of json-c saturate a number that does not fit. */
        value = json_object_get_int64(o);
        if (value < 0 || (uint64_t) value > max)
                return -ERANGE;
        *ret = (uint64_t) value;
        return 0;
}

const char *json_render(json_object *o, int flags) {
        const char *text;

        errno = 0;
        text = json_object_to_json_string_ext(o, flags);
        return errno == ENOMEM ? NULL : text; /* json-c has left parts out */
}

int json_to_text(json_object *o, char **ret) {
        const char *text = json_render(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        char *copy = text ? strdup(text) : NULL;

        if (!copy)
                return -ENOMEM;

        *ret = copy;
        return 0;
}

int json_add(json_object *object, const char *name, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_object_add_ex(object, name, value,
                                      JSON_C_OBJECT_ADD_KEY_IS_NEW | JSON_C_OBJECT_ADD_CONSTANT_KEY) >= 0)
                return 0;
        json_object_put(value);
        return -ENOMEM;
}

int json_add_string(json_object *object, const char *name, const char *text) {
        return text ? json_add(object, name, json_object_new_string(text)) : 0;
}

int json_add_u64(json_object *object, const char *name, uint64_t value) {
        return json_add(object, name, json_object_new_uint64(value));
}

int json_add_text(json_object *object, const char *name, const char *json) {
        json_object *o;
        char *copy;

        if (!json)
                return 0;
        copy = strdup(json);
        o = copy ? json_object_new_object() : NULL;
        if (!o) {
                free(copy);
                return -ENOMEM;
        }

        json_object_set_serializer(o, json_object_userdata_to_json_string, copy, json_object_free_userdata);
        return json_add(object, name, o);
}
