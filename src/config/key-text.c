/* SPDX-License-Identifier: MIT */
#include "config/key-text.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "config/file-kind.h"

#define COPY_AGAIN "copy the enrollment's primary or secondary key from the portal again"
#define TEXT_MAX 1024 /* as much as may be worth looking at; a key of 64 bytes has 88 characters */

/* The text without white space. */
typedef struct Compact {
        char text[TEXT_MAX + 3]; /* room for padding */
        size_t size;
        size_t n_lines, first_line, last_line; /* the last two are sizes */
} Compact;

static void compact_done(Compact *c) {
        explicit_bzero(c, sizeof(*c));
}

static bool begins_with(const char *text, size_t size, const char *start) {
        return size >= strlen(start) && memcmp(text, start, strlen(start)) == 0;
}

/* Recognises other text files by how they begin, or by what they contain. NULL: not known. */
static const char *foreign_text(const char *text, size_t size) {
        if (memchr(text, 0, size))
                return "it is a binary file, not base64 text: " COPY_AGAIN;
        if (memmem(text, size, "SharedAccessKey=", strlen("SharedAccessKey=")))
                return "it is a whole connection string: only what follows SharedAccessKey= is the key";
        if (begins_with(text, size, "SharedAccessSignature"))
                return "it is a SAS token, which was made with a key: " COPY_AGAIN;
        if (memmem(text, size, "-----BEGIN", strlen("-----BEGIN")))
                return "it is a PEM file: a certificate's key belongs in PrivateKey=";
        if (memchr(text, '"', size) || memchr(text, '\'', size))
                return "the key is in quotes: remove the quotes";
        return NULL;
}

static void compact(const char *text, size_t size, Compact *ret) {
        bool is_in_line = false;

        for (size_t k = 0; k < size; k++) {
                if (isspace((unsigned char) text[k])) {
                        is_in_line = false;
                        continue;
                }
                if (!is_in_line) {
                        if (ret->n_lines == 1)
                                ret->first_line = ret->last_line;
                        ret->n_lines++;
                        ret->last_line = 0;
                }
                is_in_line = true;
                ret->last_line++;
                ret->text[ret->size++] = text[k];
        }
        if (ret->n_lines == 1)
                ret->first_line = ret->last_line;
}

/* Two lines of the same length without padding may be one key or two. If there are two keys with padding,
 * something follows the padding of the first. */
static bool may_be_two_keys(const Compact *c) {
        const char *padding = memchr(c->text, '=', c->size);
        size_t n_padding = padding ? strspn(padding, "=") : 0;

        if (padding)
                return padding + n_padding < c->text + c->size;
        return c->n_lines == 2 && c->first_line == c->last_line && c->first_line % 4 == 0 &&
               c->first_line >= DPS_KEY_SIZE_MIN * 4 / 3;
}

/* Why the text is no base64 of one key; NULL: it may be. */
static const char *compact_fault(const Compact *c) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

        if (c->size == 0)
                return "it is empty: " COPY_AGAIN;
        if (strspn(c->text, digits) < c->size &&
            strspn(c->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                            "0123456789-_=") == c->size)
                return "it is in the url-safe alphabet: write + for each - and / for each _";
        if (strspn(c->text, digits) < c->size)
                return "not base64: " COPY_AGAIN;
        if (may_be_two_keys(c))
                return "it contains more than one key: write each into a file of its own, and name both in "
                       "Key=";
        return NULL;
}

int key_from_text(const char *text, size_t size, DpsKey *ret, const char **ret_why) {
        _cleanup_(compact_done) Compact c = { 0 };
        const char *why;
        int r;

        why = file_kind(text, size) ?: foreign_text(text, size);
        if (!why && size > TEXT_MAX)
                why = "it is too long for a key: " COPY_AGAIN;
        if (!why) {
                size_t mark = file_mark(text, size);

                compact(text + mark, size - mark, &c);
                why = compact_fault(&c);
        }
        if (why) {
                *ret_why = why;
                return -EBADMSG;
        }

        if (!memchr(c.text, '=', c.size) && c.size % 4 >= 2)
                while (c.size % 4 != 0)
                        c.text[c.size++] = '=';
        r = dps_key_from_base64(c.text, ret);
        if (r == -EBADMSG)
                *ret_why = "not base64, or not all of it: " COPY_AGAIN;
        else if (r == -ERANGE)
                *ret_why = "the key is not 16 to 64 bytes long: " COPY_AGAIN;
        return r;
}
