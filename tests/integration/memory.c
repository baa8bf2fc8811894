/* SPDX-License-Identifier: MIT */

/*
 * This library is preloaded into a program (LD_PRELOAD), and makes its memory run out when the test wants it. memory.py is
 * the other half; both share the file $DPS_TEST_MEMORY. A call that fails returns NULL and ENOMEM, as in a real shortage;
 * with $DPS_TEST_MEMORY_TRACE, its callers are printed on stderr. All other calls go to the next library that has the
 * function, which may be a sanitizer.
 */

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <locale.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Symbols are hidden everywhere else in this repository, but must be visible here. */
#pragma GCC visibility push(default)

#define TRACE_MAX 24
#define WRAPPER_SIZE 256

typedef struct Shared {
        _Atomic int64_t first;      /* the number of the first call that fails, from 1; 0 if none fails */
        _Atomic int64_t n_failures; /* how many calls fail in all */
        _Atomic int64_t own;        /* only calls by the program, its modules and libc count */
        _Atomic int64_t n_calls, n_failed;
} Shared;

typedef struct Range {
        uintptr_t start, end;
} Range;

static Shared private;
static Shared *shared = &private;
static Range own_ranges[6]; /* the program, libc, and modules */
static bool is_traced;
static _Thread_local bool is_inside;

static Range range_of(const struct dl_phdr_info *info) {
        Range range = { UINTPTR_MAX, 0 };

        for (int k = 0; k < info->dlpi_phnum; k++) {
                uintptr_t start = info->dlpi_addr + info->dlpi_phdr[k].p_vaddr;
                uintptr_t end = start + info->dlpi_phdr[k].p_memsz;

                if (info->dlpi_phdr[k].p_type != PT_LOAD)
                        continue;
                range.start = start < range.start ? start : range.start;
                range.end = end > range.end ? end : range.end;
        }
        return range;
}

static void note_module(Range range) {
        size_t k = 2;

        while (own_ranges[k].end != 0 && own_ranges[k].start != range.start)
                if (++k == sizeof(own_ranges) / sizeof(*own_ranges))
                        abort();
        own_ranges[k] = range;
}

/* The first object is the program. */
static int note_range(struct dl_phdr_info *info, size_t size, void *userdata) {
        if (own_ranges[0].end == 0)
                own_ranges[0] = range_of(info);
        else if (strstr(info->dlpi_name, "/libc.so."))
                own_ranges[1] = range_of(info);
        else if (strstr(info->dlpi_name, "/modules/"))
                note_module(range_of(info));
        return 0;
}

__attribute__((constructor)) static void set_up(void) {
        const char *path = getenv("DPS_TEST_MEMORY");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *p;

        (void) dl_iterate_phdr(note_range, NULL);
        if (fd < 0)
                return;
        p = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (p == MAP_FAILED)
                abort();
        is_traced = getenv("DPS_TEST_MEMORY_TRACE");
        if (is_traced)
                (void) backtrace((void *[1]){ 0 }, 1); /* the first call allocates memory */
        shared = p;
}

static void trace(int64_t call) {
        void *frames[TRACE_MAX];
        int n;

        is_inside = true;
        n = backtrace(frames, TRACE_MAX);
        backtrace_symbols_fd(frames + 2, n - 2, STDERR_FILENO);
        is_inside = false;
}

static bool is_own(uintptr_t caller) {
        for (size_t k = 0; k < sizeof(own_ranges) / sizeof(*own_ranges); k++)
                if (caller >= own_ranges[k].start && caller < own_ranges[k].end)
                        return true;
        return false;
}

/* dpsd has a realloc() for all, which asks for memory in the name of who called it (wiping-free.c). */
static const void *who_asks(const void *caller) {
        static const char *wrapper;
        void *frames[8];
        int n;

        if (!wrapper)
                wrapper = dlsym(RTLD_DEFAULT, "realloc");
        if ((const char *) caller < wrapper || (const char *) caller > wrapper + WRAPPER_SIZE)
                return caller;
        is_inside = true;
        n = backtrace(frames, sizeof(frames) / sizeof(*frames));
        is_inside = false;
        for (int k = 0; k < n - 1; k++)
                if (frames[k] == caller)
                        return frames[k + 1];
        return caller;
}

static bool is_refused(const void *caller) {
        int64_t first = shared->first, call;

        if (first == 0 || is_inside || (shared->own && !is_own((uintptr_t) who_asks(caller))))
                return false;
        call = ++shared->n_calls;
        if (call < first || call - first >= shared->n_failures)
                return false;

        shared->n_failed++;
        if (is_traced)
                trace(call);
        errno = ENOMEM;
        return true;
}

/* ---- the calls ---- */

static void *real(const char *name, _Atomic(void *) *known) {
        if (!*known)
                *known = dlsym(RTLD_NEXT, name);
        return *known;
}

/* The calls of a module count as those of the program do. */
void *dlopen(const char *file, int mode) {
        static _Atomic(void *) known;
        void *handle = ((void *(*) (const char *, int) ) real("dlopen", &known))(file, mode);

        if (handle && file && strstr(file, "/modules/"))
                (void) dl_iterate_phdr(note_range, NULL);
        return handle;
}

void *malloc(size_t size) {
        static _Atomic(void *) known;

        if (is_refused(__builtin_return_address(0)))
                return NULL;
        return ((void *(*) (size_t)) real("malloc", &known))(size);
}

void *calloc(size_t n, size_t size) {
        static _Atomic(void *) known;

        if (is_refused(__builtin_return_address(0)))
                return NULL;
        return ((void *(*) (size_t, size_t)) real("calloc", &known))(n, size);
}

void *realloc(void *p, size_t size) {
        static _Atomic(void *) known;

        if (size > 0 && is_refused(__builtin_return_address(0)))
                return NULL;
        return ((void *(*) (void *, size_t)) real("realloc", &known))(p, size);
}

void *reallocarray(void *p, size_t n, size_t size) {
        static _Atomic(void *) known;

        if (n > 0 && size > 0 && is_refused(__builtin_return_address(0)))
                return NULL;
        return ((void *(*) (void *, size_t, size_t)) real("reallocarray", &known))(p, n, size);
}

/* A sanitizer's function would not call ours. */
static char *duplicate(const char *text, size_t size, const void *caller) {
        char *copy;

        if (is_refused(caller))
                return NULL;
        is_inside = true;
        copy = malloc(size + 1);
        is_inside = false;
        if (copy) {
                memcpy(copy, text, size);
                copy[size] = 0;
        }
        return copy;
}

char *strdup(const char *text) {
        return duplicate(text, strlen(text), __builtin_return_address(0));
}

char *strndup(const char *text, size_t max) {
        return duplicate(text, strnlen(text, max), __builtin_return_address(0));
}

/*
 * ---- in these functions memory never runs out: glibc would abort (databases) or leak (locale), and a sanitizer would
 * abort (threads), whoever calls them ----
 */

#define LOOKUP(name, type, argument)                                                                         \
        int name(argument wanted, type *entry, char *buffer, size_t size, type **ret) {                      \
                static _Atomic(void *) known;                                                                \
                int r;                                                                                       \
                                                                                                             \
                is_inside = true;                                                                            \
                r = ((int (*)(argument, type *, char *, size_t, type **)) real(#name, &known))(              \
                        wanted, entry, buffer, size, ret);                                                   \
                is_inside = false;                                                                           \
                return r;                                                                                    \
        }

LOOKUP(getgrnam_r, struct group, const char *)
LOOKUP(getgrgid_r, struct group, gid_t)
LOOKUP(getpwnam_r, struct passwd, const char *)
LOOKUP(getpwuid_r, struct passwd, uid_t)

int pthread_getattr_np(pthread_t thread, pthread_attr_t *ret) {
        static _Atomic(void *) known;
        int r;

        is_inside = true;
        r = ((int (*)(pthread_t, pthread_attr_t *)) real("pthread_getattr_np", &known))(thread, ret);
        is_inside = false;
        return r;
}

char *setlocale(int category, const char *locale) {
        static _Atomic(void *) known;
        char *name;

        is_inside = true;
        name = ((char *(*) (int, const char *) ) real("setlocale", &known))(category, locale);
        is_inside = false;
        return name;
}
