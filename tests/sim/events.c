/* SPDX-License-Identifier: MIT */

/* A heap of events, ordered by time and then by number, and the random numbers. */

#include <math.h>

#include "memory.h"
#include "sim.h"

struct Event {
        uint64_t at_usec, number;
        event_handler_t handler;
        void *userdata;
        size_t place;
};

/* ---- random numbers: splitmix64 ---- */

static uint64_t mix(uint64_t x) {
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

Random random_of(uint64_t seed, const char *purpose, uint64_t number) {
        uint64_t x = mix(seed + 1);

        for (const char *p = purpose; *p; p++)
                x = mix(x ^ (unsigned char) *p);
        return (Random){ .state = mix(x ^ number * UINT64_C(0x9e3779b97f4a7c15)) };
}

uint64_t random_next(Random *r) {
        r->state += UINT64_C(0x9e3779b97f4a7c15);
        return mix(r->state);
}

uint64_t random_below(Random *r, uint64_t n) {
        return n > 0 ? random_next(r) % n : 0;
}

bool random_chance(Random *r, unsigned percent) {
        return random_below(r, 100) < percent;
}

uint64_t random_wait_usec(Random *r, uint64_t mean_usec) {
        double u = (double) (random_next(r) >> 11) / (double) (UINT64_C(1) << 53);

        return (uint64_t) (-log(1 - u) * (double) mean_usec);
}

/* ---- the heap ---- */

static bool is_before(const Event *a, const Event *b) {
        return a->at_usec != b->at_usec ? a->at_usec < b->at_usec : a->number < b->number;
}

static void put(Events *h, Event *e, size_t place) {
        h->heap[place] = e;
        e->place = place;
}

static void rise(Events *h, Event *e) {
        size_t k = e->place;

        for (; k > 0 && is_before(e, h->heap[(k - 1) / 2]); k = (k - 1) / 2)
                put(h, h->heap[(k - 1) / 2], k);
        put(h, e, k);
}

static void sink(Events *h, Event *e) {
        size_t k = e->place, child;

        for (; (child = 2 * k + 1) < h->n; k = child) {
                if (child + 1 < h->n && is_before(h->heap[child + 1], h->heap[child]))
                        child++;
                if (!is_before(h->heap[child], e))
                        break;
                put(h, h->heap[child], k);
        }
        put(h, e, k);
}

static void take_out(Events *h, Event *e) {
        Event *last = h->heap[--h->n];

        if (last == e)
                return;
        put(h, last, e->place);
        rise(h, last);
        sink(h, last);
}

Event *event_add(Sim *s, uint64_t at_usec, event_handler_t handler, void *userdata) {
        Events *h = &s->events;
        Event *e = sim_alloc(sizeof(*e));

        *e = (Event){
                .at_usec = at_usec, .number = ++h->last_number, .handler = handler, .userdata = userdata
        };
        if (h->n == h->room) {
                h->room = h->room * 2 + 64;
                h->heap = sim_realloc(h->heap, h->room * sizeof(*h->heap));
        }
        put(h, e, h->n++);
        rise(h, e);
        return e;
}

void event_move(Sim *s, Event *e, uint64_t at_usec) {
        e->at_usec = at_usec;
        e->number = ++s->events.last_number;
        rise(&s->events, e);
        sink(&s->events, e);
}

Event *event_cancel(Sim *s, Event *e) {
        if (e) {
                take_out(&s->events, e);
                sim_free(e);
        }
        return NULL;
}

bool events_step(Sim *s, uint64_t until_usec) {
        Event *e = s->events.n > 0 ? s->events.heap[0] : NULL, copy;

        if (!e || e->at_usec > until_usec)
                return false;
        copy = *e;
        take_out(&s->events, e);
        sim_free(e);
        if (copy.at_usec > s->now_usec)
                s->now_usec = copy.at_usec;
        s->n_events++;
        copy.handler(s, copy.userdata);
        return true;
}

void events_done(Sim *s) {
        while (s->events.n > 0)
                event_cancel(s, s->events.heap[0]);
        sim_free(s->events.heap);
        s->events = (Events){ 0 };
}
