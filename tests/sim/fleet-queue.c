/* SPDX-License-Identifier: MIT */
#include "fleet-queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "basic/cleanup.h"
#include "basic/times.h"

/*
 * An event is one number, time above device: it is compared at once, two events are never equal, and so the order does
 * not depend on how they came in. 40 bits of microseconds are twelve days.
 */
#define DEVICE_BITS 24
#define CHUNK_KEYS 510

typedef struct Chunk {
        struct Chunk *next;
        size_t n;
        uint64_t keys[CHUNK_KEYS];
} Chunk;

struct FleetQueue {
        Chunk **seconds;
        size_t n_seconds;
        Chunk *spare;

        size_t second; /* the one that is open */
        bool in_order;
        uint64_t *heap; /* its events, if they are taken in order */
        size_t n_heap, heap_size;

        size_t n;
};

static FleetEvent event_of(uint64_t key) {
        return (FleetEvent){ .usec = key >> DEVICE_BITS, .device = key & ((1U << DEVICE_BITS) - 1) };
}

int fleet_queue_new(size_t n_seconds, FleetQueue **ret) {
        FleetQueue *q;

        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;

        q->seconds = calloc(n_seconds, sizeof(*q->seconds));
        if (!q->seconds) {
                free(q);
                return -ENOMEM;
        }

        q->n_seconds = n_seconds;
        *ret = q;
        return 0;
}

static void free_chunks(Chunk *c) {
        for (Chunk *next; c; c = next) {
                next = c->next;
                free(c);
        }
}

FleetQueue *fleet_queue_free(FleetQueue *q) {
        if (!q)
                return NULL;

        for (size_t s = 0; s < q->n_seconds; s++)
                free_chunks(q->seconds[s]);
        free_chunks(q->spare);
        free(q->seconds);
        free(q->heap);
        free(q);
        return NULL;
}

/* ---- a second's list ---- */

static int list_push(FleetQueue *q, size_t second, uint64_t key) {
        Chunk *c = q->seconds[second];

        if (!c || c->n == CHUNK_KEYS) {
                c = q->spare ?: malloc(sizeof(*c));
                if (!c)
                        return -ENOMEM;
                if (c == q->spare)
                        q->spare = c->next;
                c->n = 0;
                c->next = q->seconds[second];
                q->seconds[second] = c;
        }

        c->keys[c->n++] = key;
        return 0;
}

static bool list_pop(FleetQueue *q, size_t second, uint64_t *ret) {
        Chunk *c = q->seconds[second];

        if (!c)
                return false;

        *ret = c->keys[--c->n];
        if (c->n == 0) {
                q->seconds[second] = c->next;
                c->next = q->spare;
                q->spare = c;
        }
        return true;
}

/* ---- the heap ---- */

static int heap_push(FleetQueue *q, uint64_t key) {
        size_t i;

        if (q->n_heap == q->heap_size) {
                size_t size = MAX(2 * q->heap_size, (size_t) 1024);
                uint64_t *heap = realloc(q->heap, size * sizeof(*heap));

                if (!heap)
                        return -ENOMEM;
                q->heap = heap;
                q->heap_size = size;
        }

        for (i = q->n_heap++; i > 0 && q->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
                q->heap[i] = q->heap[(i - 1) / 2];
        q->heap[i] = key;
        return 0;
}

static bool heap_pop(FleetQueue *q, uint64_t *ret) {
        uint64_t last;
        size_t i = 0;

        if (q->n_heap == 0)
                return false;

        *ret = q->heap[0];
        last = q->heap[--q->n_heap];
        for (size_t child; (child = 2 * i + 1) < q->n_heap; i = child) {
                if (child + 1 < q->n_heap && q->heap[child + 1] < q->heap[child])
                        child++;
                if (q->heap[child] >= last)
                        break;
                q->heap[i] = q->heap[child];
        }
        q->heap[i] = last;
        return true;
}

/* ---- the queue ---- */

int fleet_queue_push(FleetQueue *q, FleetEvent event) {
        size_t second = event.usec / USEC_PER_SEC;
        uint64_t key = event.usec << DEVICE_BITS | event.device;
        int r;

        assert(second >= q->second);

        if (second >= q->n_seconds)
                return 0;

        r = q->in_order && second == q->second ? heap_push(q, key) : list_push(q, second, key);
        if (r < 0)
                return r;

        q->n++;
        return 0;
}

int fleet_queue_open(FleetQueue *q, size_t second, bool in_order) {
        uint64_t key;
        int r;

        assert(q->n_heap == 0);
        assert(second < q->n_seconds);

        q->second = second;
        q->in_order = in_order;
        while (in_order && list_pop(q, second, &key)) {
                r = heap_push(q, key);
                if (r < 0)
                        return r;
        }
        return 0;
}

void fleet_queue_disorder(FleetQueue *q) {
        q->in_order = false;
}

static bool pop_any(FleetQueue *q, uint64_t *ret) {
        if (q->n_heap == 0)
                return list_pop(q, q->second, ret);

        *ret = q->heap[--q->n_heap];
        return true;
}

bool fleet_queue_pop(FleetQueue *q, FleetEvent *ret) {
        uint64_t key;

        if (!(q->in_order ? heap_pop(q, &key) : pop_any(q, &key)))
                return false;

        q->n--;
        *ret = event_of(key);
        return true;
}

bool fleet_queue_peek(const FleetQueue *q, size_t ahead, FleetEvent *ret) {
        const Chunk *c = q->seconds[q->second];
        uint64_t key;

        if (!q->in_order && q->n_heap > ahead)
                key = q->heap[q->n_heap - 1 - ahead];
        else if (!q->in_order && q->n_heap == 0 && c && c->n > ahead)
                key = c->keys[c->n - 1 - ahead];
        else
                return false;
        *ret = event_of(key);
        return true;
}

size_t fleet_queue_size(const FleetQueue *q) {
        return q->n;
}
