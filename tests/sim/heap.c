/* SPDX-License-Identifier: MIT */

/*
 * Where the pieces of memory are. Most of them are small, and are taken and given back again and again by json-c, sd-bus and OpenSSL, so
 * the C library's malloc() took a seventh of the time. Here each size has a list of pieces that are free, and no piece becomes larger or
 * smaller. The head of a piece says whether it is in use: whoever frees what is not, or has written over the head, ends the simulation.
 *
 * There is one thread. Sanitizers have an allocator of their own, so this one is not built with them. Valgrind finds it by
 * --soname-synonyms=somalloc=NONE.
 */

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "basic/cleanup.h"

#define STEP 16U          /* sizes are multiples of it … */
#define STEPS_MAX 64U     /* … up to this many, and then powers of two … */
#define DOUBLINGS_MAX 30U /* … up to this many */
#define SLAB_SIZE ((size_t) 1 << 20)

typedef enum Mark {
        MARK_FREE = 0x66726565,
        MARK_USED = 0x75736564,
        MARK_INSIDE = 0x696e7369, /* not at the beginning, since it was to be aligned */
} Mark;

typedef struct Piece {
        struct Piece *other; /* free: the next one; inside: that which it is inside of */
        uint32_t size_class;
        Mark mark;
        char data[] __attribute__((aligned(STEP)));
} Piece;

static Piece *free_pieces[STEPS_MAX + DOUBLINGS_MAX];
static char *slab;
static size_t slab_left;

static uint32_t class_of(size_t size) {
        uint32_t c = STEPS_MAX;

        if (size <= STEP * STEPS_MAX)
                return size > STEP ? (uint32_t) ((size - 1) / STEP) : 0;
        while (size > (size_t) STEP * STEPS_MAX << (c - STEPS_MAX + 1))
                c++;
        return c;
}

static size_t size_of(uint32_t c) {
        return c < STEPS_MAX ? (c + 1) * STEP : (size_t) STEP * STEPS_MAX << (c - STEPS_MAX + 1);
}

/* Large pieces have a slab of their own. */
static void *cut(size_t size) {
        void *p;

        if (size <= slab_left) {
                p = slab;
                slab += size;
                slab_left -= size;
                return p;
        }
        p = mmap(NULL, MAX(size, SLAB_SIZE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
                return NULL;
        if (size < SLAB_SIZE) {
                slab = (char *) p + size;
                slab_left = SLAB_SIZE - size;
        }
        return p;
}

static void *take(size_t size) {
        Piece **place, *p;
        uint32_t c;

        if (size > (size_t) STEP * STEPS_MAX << (DOUBLINGS_MAX - 2)) {
                errno = ENOMEM;
                return NULL;
        }
        c = class_of(size);
        place = &free_pieces[c];
        p = *place;
        if (p)
                *place = p->other;
        else
                p = cut(sizeof(*p) + size_of(c));
        if (!p) {
                errno = ENOMEM;
                return NULL;
        }
        p->size_class = c;
        p->mark = MARK_USED;
        return p->data;
}

static Piece *piece_of(void *data) {
        Piece *p = (Piece *) data - 1;

        if (p->mark == MARK_INSIDE)
                p = p->other;
        if (p->mark != MARK_USED)
                abort();
        return p;
}

static size_t usable(void *data) {
        Piece *p = piece_of(data);

        return size_of(p->size_class) - (size_t) ((char *) data - p->data);
}

static void give_back(void *data) {
        Piece *p = piece_of(data);

        p->mark = MARK_FREE;
        p->other = free_pieces[p->size_class];
        free_pieces[p->size_class] = p;
}

static void *take_aligned(size_t alignment, size_t size) {
        char *data = take(size + alignment), *aligned;

        if (!data)
                return NULL;
        aligned = (char *) (((uintptr_t) data + alignment - 1) & ~(uintptr_t) (alignment - 1));
        if (aligned != data)
                ((Piece *) aligned)[-1] = (Piece){ .other = (Piece *) data - 1, .mark = MARK_INSIDE };
        return aligned;
}

/* ---- what the C library has ---- */

#pragma GCC visibility push(default)
void *malloc(size_t size) {
        return take(size);
}

void free(void *p) {
        if (p)
                give_back(p);
}

void *calloc(size_t n, size_t size) {
        size_t sum;
        void *p;

        if (__builtin_mul_overflow(n, size, &sum)) {
                errno = ENOMEM;
                return NULL;
        }
        p = take(sum);
        return p ? memset(p, 0, sum) : NULL;
}

void *realloc(void *p, size_t size) {
        size_t before = p ? usable(p) : 0;
        void *q;

        if (size <= before)
                return p;
        q = take(size);
        if (q && p) {
                memcpy(q, p, before);
                give_back(p);
        }
        return q;
}

void *memalign(size_t alignment, size_t size) {
        return take_aligned(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
        return take_aligned(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size) {
        void *p = take_aligned(alignment, size);

        if (!p)
                return ENOMEM;
        *ret = p;
        return 0;
}

size_t malloc_usable_size(void *p) {
        return p ? usable(p) : 0;
}
#pragma GCC visibility pop
