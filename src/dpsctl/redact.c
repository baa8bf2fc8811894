/* SPDX-License-Identifier: MIT */
#include "dpsctl/redact.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json_visit.h>
#include <stdio.h>
#include <strings.h>

#include "basic/text.h"

/*
 * How we know what is private:
 *
 * - Values of properties: by their privacy in basic/contract.h. Each such value gets a mask, and is masked wherever it
 *   stands as a word in a text for people, such as the error of another identity.
 * - Values that no identity has, such as a registration id with a fault, or a common name that is not the registration
 *   id: whoever writes the message puts the value in double quotes, as in `RegistrationId="gw/1": not a registration ID`.
 *   Over D-Bus only the text of an error travels, so the mark has to be part of the text; and a person reads it as what
 *   it is, a quotation. Here everything in double quotes is masked. Messages use single quotes for words that are not
 *   private.
 */

#define AZURE_DOMAIN ".azure-devices.net"

typedef struct Mask {
        char *value, *mask;
} Mask;

static struct {
        bool is_wanted;
        Mask *items;
        size_t n;
        unsigned n_of[_PRIVACY_MAX];
} masks;

void redact_begin(void) {
        masks.is_wanted = true;
}

static char *make_mask(Privacy privacy, const char *value) {
        static const char *const words[_PRIVACY_MAX] = { [PRIVACY_SCOPE] = "scope",
                                                         [PRIVACY_ID] = "id",
                                                         [PRIVACY_HUB] = "hub",
                                                         [PRIVACY_OTHER] = "value" };
        bool is_azure = privacy == PRIVACY_HUB && endswith(value, AZURE_DOMAIN);

        return text_format("%s-%u%s", words[privacy], ++masks.n_of[privacy], is_azure ? AZURE_DOMAIN : "");
}

const char *redact_value(Privacy privacy, const char *value) {
        Mask *grown, new;

        if (isempty(value))
                return "";
        for (size_t k = 0; k < masks.n; k++)
                if (strcasecmp(masks.items[k].value, value) == 0 || streq(masks.items[k].mask, value))
                        return masks.items[k].mask;

        grown = reallocarray(masks.items, masks.n + 1, sizeof(Mask));
        if (!grown)
                return NULL;
        masks.items = grown;
        new = (Mask){ strdup(value), make_mask(privacy, value) };
        if (!new.value || !new.mask) {
                free(new.value);
                free(new.mask);
                return NULL;
        }
        masks.items[masks.n++] = new;
        return new.mask;
}

static bool is_word_character(char c) {
        return isalnum((unsigned char) c) || c == '_' || c == '-';
}

/* The mask of the longest known value that stands at `p` as a word. */
static const Mask *find_mask(const char *text, const char *p) {
        const Mask *found = NULL;
        size_t longest = 0;

        if (p > text && is_word_character(p[-1]))
                return NULL;
        for (size_t k = 0; k < masks.n; k++) {
                const char *value = masks.items[k].value;
                size_t n;

                if (tolower((unsigned char) *p) != tolower((unsigned char) *value))
                        continue;
                n = strlen(value);
                if (n > longest && strncasecmp(p, value, n) == 0 && !is_word_character(p[n])) {
                        found = &masks.items[k];
                        longest = n;
                }
        }
        return found;
}

static bool stands_in(char c, const char *characters) {
        return c == '\0' || strchr(characters, c);
}

/* What is quoted at `p`, without the quotes; empty: nothing. A writer may have left quotes inside the value, so the closing
 * one is the first that ends a word. If there is none, because the message was cut, all of the line is quoted. */
static Span find_quoted(const char *text, const char *p) {
        const char *start = p + 1, *end;

        if (*p != '"' || !stands_in(p > text ? p[-1] : '\0', " =(\n"))
                return (Span){ p, 0 };
        for (end = start; *end && *end != '\n'; end++)
                if (*end == '"' && stands_in(end[1], " ,;:)\n"))
                        break;
        return (Span){ start, (size_t) (end - start) };
}

static int print_redacted(const char *text, FILE *f) {
        for (const char *p = text; *p;) {
                const Mask *known = find_mask(text, p);
                Span quoted = known || !masks.is_wanted ? (Span){ p, 0 } : find_quoted(text, p);

                if (quoted.size > 0) {
                        _cleanup_(freep) char *value = span_dup(quoted);
                        const char *mask = value ? redact_value(PRIVACY_OTHER, value) : NULL;

                        if (!mask)
                                return -ENOMEM;
                        p = quoted.start + quoted.size;
                        fprintf(f, "\"%s%s", mask, *p == '"' ? "\"" : "");
                        p += *p == '"';
                } else if (known) {
                        fputs(known->mask, f);
                        p += strlen(known->value);
                } else
                        fputc(*p++, f);
        }
        return 0;
}

char *redact_text(const char *text) {
        _cleanup_(freep) char *redacted = NULL;
        size_t size;
        FILE *f;
        int r;

        f = open_memstream(&redacted, &size);
        if (!f)
                return NULL;
        r = print_redacted(text, f);
        if (fclose(f) != 0 || r < 0)
                return NULL;
        return TAKE_PTR(redacted);
}

static int redact_one(json_object *o, int flags, json_object *parent, const char *key, size_t *index,
                      void *userdata) {
        _cleanup_(freep) char *text = NULL;

        if (!json_object_is_type(o, json_type_string))
                return JSON_C_VISIT_RETURN_CONTINUE;
        text = redact_text(json_object_get_string(o));
        if (!text || json_object_set_string(o, text) != 1)
                return JSON_C_VISIT_RETURN_ERROR;
        return JSON_C_VISIT_RETURN_CONTINUE;
}

int redact_json(json_object *o) {
        return json_c_visit(o, 0, redact_one, NULL) < 0 ? -ENOMEM : 0;
}

void redact_forget(void) {
        for (size_t k = 0; k < masks.n; k++) {
                free(masks.items[k].value);
                free(masks.items[k].mask);
        }
        free(masks.items);
        memset(&masks, 0, sizeof(masks));
}
