/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

/* The linker's --wrap leads calls of f to __wrap_f, and those of __real_f to f. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);

/* The linker wants to see them where a shared library calls what is wrapped, though it calls the C library's. */
#pragma GCC visibility push(default)
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
char *__wrap_text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
#pragma GCC visibility pop

static struct {
        unsigned depth;
        uint64_t after;
        unsigned n, n_failed;
} state;

static bool fails(void) {
        if (state.depth == 0 || state.n == 0)
                return false;
        if (state.after > 0) {
                state.after--;
                return false;
        }
        state.n--;
        state.n_failed++;
        errno = ENOMEM;
        return true;
}

void *__wrap_malloc(size_t size) {
        return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size) {
        return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size) {
        return fails() ? NULL : __real_realloc(p, n * size);
}

static char *copy(const char *text, size_t size) {
        char *c = __real_malloc(size + 1);

        if (!c)
                abort();
        memcpy(c, text, size);
        c[size] = 0;
        return c;
}

char *__wrap_strdup(const char *text) {
        return fails() ? NULL : copy(text, strlen(text));
}

char *__wrap_strndup(const char *text, size_t size) {
        return fails() ? NULL : copy(text, strnlen(text, size));
}

int __wrap_asprintf(char **ret, const char *format, ...) {
        va_list ap;
        int n;

        if (fails())
                return -1;
        va_start(ap, format);
        n = vasprintf(ret, format, ap);
        va_end(ap);
        return n;
}

int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...) {
        va_list ap;
        int n;

        if (fails())
                return -1;
        va_start(ap, format);
        n = vasprintf(ret, format, ap);
        va_end(ap);
        return n;
}

char *__wrap_text_format(const char *format, ...) {
        char *text;
        va_list ap;

        if (fails())
                return NULL;
        va_start(ap, format);
        text = text_vformat(format, ap);
        va_end(ap);
        return text;
}

/* ---- the simulation's own ---- */

void *sim_alloc(size_t size) {
        void *p = __real_calloc(1, size);

        if (!p)
                abort();
        return p;
}

void *sim_realloc(void *p, size_t size) {
        void *q = __real_realloc(p, size);

        if (!q)
                abort();
        return q;
}

char *sim_copy(const char *text) {
        return text ? copy(text, strlen(text)) : NULL;
}

char *sim_format(const char *format, ...) {
        va_list ap;
        char *text;
        int n;

        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0)
                abort();
        return text;
}

void sim_free(void *p) {
        free(p);
}

/* ---- when ---- */

void core_enter(void) {
        state.depth++;
}

void core_leave(void) {
        state.depth--;
}

unsigned core_pause(void) {
        unsigned depth = state.depth;

        state.depth = 0;
        return depth;
}

void core_resume(unsigned depth) {
        state.depth = depth;
}

void memory_run_out(uint64_t after, unsigned n) {
        state.after = after;
        state.n = n;
        state.n_failed = 0;
}

bool memory_may_run_out(void) {
        return state.n > 0;
}

unsigned memory_n_failed(void) {
        return state.n_failed;
}
