/* SPDX-License-Identifier: MIT */
#include "dpsctl/redact.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json_visit.h>
#include <stdio.h>
#include <strings.h>

#include "basic/text.h"

#define AZURE_DOMAIN ".azure-devices.net"

typedef struct Mask {
        Privacy privacy;
        char *value, *mask;
} Mask;

static struct {
        bool is_wanted;
        Mask *items;
        size_t n;
        unsigned n_of[PRIVACY_HUB + 1];
} masks;

void redact_begin(void) {
        masks.is_wanted = true;
}

static char *make_mask(Privacy privacy, const char *value) {
        static const char *const words[] = {
                [PRIVACY_SCOPE] = "scope", [PRIVACY_ID] = "id", [PRIVACY_HUB] = "hub"
        };
        bool is_azure = privacy == PRIVACY_HUB && endswith(value, AZURE_DOMAIN);
        char *mask;

        if (asprintf(&mask, "%s-%u%s", words[privacy], ++masks.n_of[privacy], is_azure ? AZURE_DOMAIN : "") <
            0)
                return NULL;
        return mask;
}

const char *redact_value(Privacy privacy, const char *value) {
        Mask *grown, new = { .privacy = privacy };

        if (isempty(value))
                return "";
        for (size_t k = 0; k < masks.n; k++)
                if (masks.items[k].privacy == privacy && strcasecmp(masks.items[k].value, value) == 0)
                        return masks.items[k].mask;

        grown = reallocarray(masks.items, masks.n + 1, sizeof(Mask));
        if (!grown)
                return NULL;
        masks.items = grown;
        new.value = strdup(value);
        new.mask = make_mask(privacy, value);
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

/* Complaints about the configuration quote ids that no identity has got yet. */
static int learn_quoted(const char *text) {
        static const struct {
                const char *before, *behind;
                Privacy privacy;
        } quotes[] = {
                { "RegistrationId=", ": ", PRIVACY_ID },
                { "IdScope=", ": ", PRIVACY_SCOPE },
                { "registration id ", " of ID scope ", PRIVACY_ID },
                { " of ID scope ", ": ", PRIVACY_SCOPE },
        };

        for (size_t k = 0; k < ELEMENTSOF(quotes); k++)
                for (const char *p = text; (p = strstr(p, quotes[k].before));) {
                        _cleanup_(freep) char *value = NULL;
                        const char *end;

                        p += strlen(quotes[k].before);
                        end = strstr(p, quotes[k].behind);
                        if (!end || *p == ' ' || memchr(p, '\n', (size_t) (end - p)))
                                continue; /* none is quoted here */
                        value = strndup(p, (size_t) (end - p));
                        if (!value || !redact_value(quotes[k].privacy, value))
                                return -ENOMEM;
                }
        return 0;
}

char *redact_text(const char *text) {
        _cleanup_(freep) char *redacted = NULL;
        size_t size;
        FILE *f;

        if (masks.is_wanted && learn_quoted(text) < 0)
                return NULL;
        f = open_memstream(&redacted, &size);
        if (!f)
                return NULL;
        for (const char *p = text; *p;) {
                const Mask *mask = find_mask(text, p);

                if (mask) {
                        fputs(mask->mask, f);
                        p += strlen(mask->value);
                } else
                        fputc(*p++, f);
        }
        if (fclose(f) != 0)
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

static bool is_masked(const Property *p) {
        return p->type == 's' && p->privacy >= PRIVACY_SCOPE;
}

int redact_learn(const Identity *i) {
        const Property *p;

        for (size_t k = 0; (p = property_at(k)); k++)
                if (is_masked(p) && !redact_value(p->privacy, property_text(p, i)))
                        return -ENOMEM;
        return 0;
}

static int mask_values(Identity *i) {
        const Property *p;

        for (size_t k = 0; (p = property_at(k)); k++) {
                const char *mask = is_masked(p) ? redact_value(p->privacy, property_text(p, i)) : NULL;

                if (is_masked(p) && (!mask || property_set_text(p, i, mask) < 0))
                        return -ENOMEM;
        }
        return 0;
}

static int mask_texts(Identity *i) {
        const Property *p;

        for (size_t k = 0; (p = property_at(k)); k++) {
                _cleanup_(freep) char *text = NULL;

                if (p->type != 's' || p->privacy != PRIVACY_FREE)
                        continue;
                text = redact_text(property_text(p, i));
                if (!text || property_set_text(p, i, text) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int redact_identity(Identity *i) {
        int r = mask_values(i);

        return r < 0 ? r : mask_texts(i);
}

/* The error of one may name another. */
int redact_list(IdentityList *l) {
        int r = 0;

        for (size_t k = 0; r >= 0 && k < l->n; k++)
                r = mask_values(&l->items[k]);
        for (size_t k = 0; r >= 0 && k < l->n; k++)
                r = mask_texts(&l->items[k]);
        return r;
}

void redact_forget(void) {
        for (size_t k = 0; k < masks.n; k++) {
                free(masks.items[k].value);
                free(masks.items[k].mask);
        }
        free(masks.items);
        memset(&masks, 0, sizeof(masks));
}
