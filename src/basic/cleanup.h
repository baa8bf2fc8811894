/* SPDX-License-Identifier: MIT */
#pragma once

/* Ownership by scope: _cleanup_() frees what a local variable owns, and TAKE_PTR() hands the ownership on. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((__cleanup__(f)))

/* After DEFINE_FREEP(Identity, identity_free), a local may be _cleanup_(identity_freep) Identity *i. */
#define DEFINE_FREEP(type, f)                                                                                \
        static inline void f##p(type **p) {                                                                  \
                f(*p);                                                                                       \
        }

/* Returns the pointer and sets the variable to NULL, so that its _cleanup_() frees nothing. */
#define TAKE_PTR(p)                                                                                          \
        ({                                                                                                   \
                __auto_type _taken = (p);                                                                    \
                (p) = NULL;                                                                                  \
                _taken;                                                                                      \
        })

#define TAKE_FD(fd)                                                                                          \
        ({                                                                                                   \
                int _taken = (fd);                                                                           \
                (fd) = -1;                                                                                   \
                _taken;                                                                                      \
        })

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static inline void freep(void *p) {
        free(*(void **) p);
}

/* For text that is a secret: it is wiped before it is freed. */
static inline char *erase_and_free(char *s) {
        if (s)
                explicit_bzero(s, strlen(s));
        free(s);
        return NULL;
}
DEFINE_FREEP(char, erase_and_free)

static inline void closep(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

static inline void fclosep(FILE **f) {
        if (*f)
                fclose(*f);
}
