/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A fuzz target is one file with one function, for libFuzzer and for AFL++ alike (afl-clang-fast has the same entry).
 * Linked with replay.c instead it runs over its seeds, with any compiler, as one of the unit tests.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold, in every build. */
#define PROMISE(condition)                                                                                   \
        do {                                                                                                 \
                if (!(condition)) {                                                                          \
                        (void) fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);       \
                        abort();                                                                             \
                }                                                                                            \
        } while (0)

/* A text of just this size, so that ASan sees what is read behind it. */
static inline char *fuzz_text(const uint8_t *data, size_t size) {
        char *text = malloc(size + 1);

        PROMISE(text);
        if (size > 0)
                memcpy(text, data, size);
        text[size] = 0;
        return text;
}

/* Fit for a log line. */
static inline bool is_one_line(const char *text) {
        for (const char *p = text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f)
                        return false;
        return utf8_is_valid(text, strlen(text));
}
