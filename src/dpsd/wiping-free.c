/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>

#include "basic/cleanup.h"

/*
 * free() and realloc() of the whole process, also of the libraries: whatever is freed is wiped. We wipe our own secrets
 * ourselves, but OpenSSL's decoder, libmosquitto and json-c leave copies of keys and tokens in what they free. This file is
 * in the program alone, not in what the tests link, and not in a build with a sanitizer, which has its own free().
 */

#pragma GCC visibility push(default) /* the libraries must find them */

/* Blocks from this size on are mapped, and given back to the kernel when they are freed: to wipe them would only touch pages
 * that nobody has written to, as in a message of 256 MB of which its peer has sent little. */
#define MAPPED_MIN (1024U * 1024)

/* Otherwise the C library would map less and less. */
__attribute__((constructor)) static void map_large_blocks(void) {
#ifdef M_MMAP_THRESHOLD
        (void) mallopt(M_MMAP_THRESHOLD, MAPPED_MIN);
#endif
}

static void wipe(void *p) {
        size_t had = malloc_usable_size(p);

        if (had < MAPPED_MIN)
                explicit_bzero(p, had);
}

static void keep(void *p) {
}

/* The constructors of libraries free before any of ours is called. If one of them has failed to find a symbol, dlsym() frees the
 * error of that: it must not look for free() again. */
static void next_free(void *p) {
        static _Atomic(void *) known;

        if (!known) {
                known = (void *) keep;
                known = dlsym(RTLD_NEXT, "free");
        }
        ((void (*)(void *)) known)(p);
}

void free(void *p) {
        if (!p)
                return;
        wipe(p);
        next_free(p);
}

/* The next realloc() would move a block and not wipe where it was, so we never call it. */
void *realloc(void *p, size_t size) {
        size_t had = p ? malloc_usable_size(p) : 0;
        void *moved;

        if (p && size == 0) {
                free(p);
                return NULL;
        }
        if (p && size <= had && size >= had / 2) {
                explicit_bzero((char *) p + size, had - size);
                return p;
        }
        moved = malloc(size);
        if (moved && p) {
                memcpy(moved, p, MIN(size, had));
                free(p);
        }
        return moved;
}
