/* SPDX-License-Identifier: MIT */
#include "config/file-kind.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "basic/text.h"

#define MARK "\xef\xbb\xbf"

size_t file_mark(const char *text, size_t size) {
        return size >= strlen(MARK) && memcmp(text, MARK, strlen(MARK)) == 0 ? strlen(MARK) : 0;
}

static bool is_utf16(const char *text, size_t size) {
        if (size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
                return true;
        return size >= 4 && !text[0] == !text[2] && !text[1] == !text[3] && !text[0] != !text[1];
}

/* What is in the outermost SEQUENCE. NULL: this is not DER of one object. */
static const uint8_t *der_content(const uint8_t *p, size_t size, size_t *ret_size) {
        size_t n_length = size >= 2 && p[1] > 0x80 ? p[1] & 0x7f : 0, length = size >= 2 ? p[1] : 0;

        if (size < 8 || p[0] != 0x30 || n_length > 3)
                return NULL;
        if (n_length > 0)
                length = 0;
        for (size_t k = 0; k < n_length; k++)
                length = length << 8 | p[2 + k];
        if (2 + n_length + length != size)
                return NULL;
        *ret_size = length;
        return p + 2 + n_length;
}

/* Every certificate is longer. A key in base64 can begin as a shorter one would: "0+0". */
#define CERTIFICATE_MIN 128

/* Tells the kind by how the content begins: with the version of a key or an archive, or with the SEQUENCE that
 * a CA has signed. */
static const char *der_kind(const uint8_t *content, size_t size) {
        static const struct {
                uint8_t start[3];
                size_t n_start, size_min;
                const char *kind;
        } kinds[] = {
                { { 2, 1, 0 },
                  3,
                  3,
                  "it is a private key in DER: openssl pkey -inform DER -in OLD -out NEW makes PEM of it" },
                { { 2, 1, 1 },
                  3,
                  3,
                  "it is a private key in DER: openssl pkey -inform DER -in OLD -out NEW makes PEM of it" },
                { { 2, 1, 3 },
                  3,
                  3,
                  "it is a PKCS#12 archive: openssl pkcs12 -in OLD -nokeys -out CERTIFICATE makes PEM of it, "
                  "and -nocerts -noenc -out KEY of its key" },
                { { 0x30 },
                  1,
                  CERTIFICATE_MIN,
                  "it is a certificate in DER: openssl x509 -inform DER -in OLD -out NEW makes PEM of it" },
        };

        for (size_t k = 0; k < ELEMENTSOF(kinds); k++)
                if (size >= kinds[k].size_min && memcmp(content, kinds[k].start, kinds[k].n_start) == 0)
                        return kinds[k].kind;
        return NULL;
}

const char *file_kind(const char *text, size_t size) {
        const uint8_t *content;
        size_t content_size;

        if (file_mark(text, size) == size)
                return "it is empty: copy it again";
        if (is_utf16(text, size))
                return "it is UTF-16 text, as PowerShell writes it: save it as plain ASCII (-Encoding ascii)";
        content = der_content((const uint8_t *) text, size, &content_size);
        return content ? der_kind(content, content_size) : NULL;
}
