/* SPDX-License-Identifier: MIT */
#include "client/window.h"

#include <errno.h>
#include <limits.h>
#include <strings.h>

#include "basic/text.h"

/* Scopes take turns, and within a scope the client that has waited longest comes first, so that nobody waits
 * for ever. Only one slot is granted in each turn of the loop, because beginning an attempt takes time, and
 * requests may arrive meanwhile. */

struct Scope {
        Window *window;
        Scope *next; /* in a ring of all scopes */
        char *id_scope, *endpoint;
        uint64_t paused_until_usec; /* CLOCK_BOOTTIME */
        unsigned size; /* how many attempts may be in flight; a 429 halves it, each success adds one */
        unsigned n_held;
        Slot *slots;
        Slot *next_told; /* of a pause; a slot that leaves meanwhile is skipped */
        Slot *first_wanting, *last_wanting;
};

struct Window {
        World *world;
        Timer *turn;
        unsigned max;
        unsigned n_held, n_wanting;
        Scope *scopes; /* the ring, at the scope whose turn is next; scopes are few, and never freed alone */
        bool was_used; /* since it was last idle */
        void (*on_idle)(void *userdata);
        void *userdata;
};

static void on_turn(void *userdata);

int window_new(World *w, Window **ret) {
        Window *window = calloc(1, sizeof(*window));
        int r;

        if (!window)
                return -ENOMEM;
        *window = (Window){ .world = w, .max = UINT_MAX };
        r = timer_new(w, on_turn, window, &window->turn);
        if (r < 0) {
                free(window);
                return r;
        }
        *ret = window;
        return 0;
}

static Scope *scope_free(Scope *s) {
        free(s->id_scope);
        free(s->endpoint);
        free(s);
        return NULL;
}

Window *window_free(Window *w) {
        if (!w)
                return NULL;

        if (w->scopes) {
                Scope *last = w->scopes, *next;

                for (Scope *s = last->next; s != last; s = next) {
                        next = s->next;
                        scope_free(s);
                }
                scope_free(last);
        }
        timer_free(w->turn);
        free(w);
        return NULL;
}

void window_set_max(Window *w, unsigned max) {
        w->max = max;
        timer_set(w->turn, 0, 0);
}

void window_on_idle(Window *w, void (*handler)(void *userdata), void *userdata) {
        w->on_idle = handler;
        w->userdata = userdata;
}

/* ---- scopes ---- */

static Scope *find_scope(const Window *w, const char *id_scope, const char *endpoint) {
        Scope *s = w->scopes;

        if (!s)
                return NULL;
        do {
                if (streq(s->id_scope, id_scope) && strcasecmp(s->endpoint, endpoint) == 0)
                        return s;
                s = s->next;
        } while (s != w->scopes);
        return NULL;
}

static Scope *add_scope(Window *w, const char *id_scope, const char *endpoint) {
        Scope *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        *s = (Scope){
                .window = w, .id_scope = strdup(id_scope), .endpoint = strdup(endpoint), .size = UINT_MAX
        };
        if (!s->id_scope || !s->endpoint)
                return scope_free(s);

        s->next = w->scopes ? w->scopes->next : s;
        if (w->scopes)
                w->scopes->next = s;
        else
                w->scopes = s;
        return s;
}

int slot_enter(Slot *s, Window *w, const char *id_scope, const char *endpoint) {
        Scope *scope = find_scope(w, id_scope, endpoint) ?: add_scope(w, id_scope, endpoint);

        if (!scope)
                return -ENOMEM;
        if (s->scope == scope)
                return 0;

        slot_leave(s);
        s->scope = scope;
        s->previous = NULL;
        s->next = scope->slots;
        if (scope->slots)
                scope->slots->previous = s;
        scope->slots = s;
        return 0;
}

void slot_leave(Slot *s) {
        if (!s->scope)
                return;

        slot_release(s);
        if (s->scope->next_told == s)
                s->scope->next_told = s->next;
        if (s->previous)
                s->previous->next = s->next;
        else
                s->scope->slots = s->next;
        if (s->next)
                s->next->previous = s->previous;
        s->previous = s->next = NULL;
        s->scope = NULL;
}

/* ---- slots ---- */

static bool has_room(const Scope *s) {
        return s->n_held < s->size && s->window->n_held < s->window->max;
}

static void hold(Slot *s) {
        Window *w = s->scope->window;

        s->state = SLOT_HELD;
        s->scope->n_held++;
        w->n_held++;
        w->was_used = true;
}

static void stop_wanting(Slot *s) {
        Scope *scope = s->scope;

        *(s->previous_wanting ? &s->previous_wanting->next_wanting : &scope->first_wanting) = s->next_wanting;
        *(s->next_wanting ? &s->next_wanting->previous_wanting : &scope->last_wanting) = s->previous_wanting;
        s->previous_wanting = s->next_wanting = NULL;
        s->state = SLOT_NONE;
        scope->window->n_wanting--;
}

bool slot_acquire(Slot *s) {
        Scope *scope = s->scope;

        if (s->state == SLOT_HELD)
                return true;
        if (s->state == SLOT_WANTED)
                return false;
        if (!scope->first_wanting && has_room(scope)) {
                hold(s);
                return true;
        }

        s->state = SLOT_WANTED;
        s->previous_wanting = scope->last_wanting;
        *(scope->last_wanting ? &scope->last_wanting->next_wanting : &scope->first_wanting) = s;
        scope->last_wanting = s;
        scope->window->n_wanting++;
        timer_set(scope->window->turn, 0, 0);
        return false;
}

void slot_release(Slot *s) {
        switch (s->state) {
        case SLOT_NONE:
                return;
        case SLOT_WANTED:
                stop_wanting(s);
                break;
        case SLOT_HELD:
                s->state = SLOT_NONE;
                s->scope->n_held--;
                s->scope->window->n_held--;
                break;
        case _SLOT_STATE_MAX:
                abort();
        }
        timer_set(s->scope->window->turn, 0, 0);
}

/* Removes the next slot that can be granted from its queue; NULL: there is none. */
static Slot *next_granted(Window *w) {
        Scope *begin = w->scopes;

        if (!begin || w->n_wanting == 0)
                return NULL;
        do {
                Scope *s = w->scopes;
                Slot *first = s->first_wanting;

                w->scopes = s->next;
                if (first && has_room(s)) {
                        stop_wanting(first);
                        return first;
                }
        } while (w->scopes != begin);
        return NULL;
}

static void on_turn(void *userdata) {
        Window *w = userdata;
        Slot *s = next_granted(w);

        if (s) {
                timer_set(w->turn, 0, 0);
                hold(s);
                s->on_granted(s->userdata);
        } else if (w->was_used && w->n_held == 0 && w->n_wanting == 0) {
                w->was_used = false;
                if (w->on_idle)
                        w->on_idle(w->userdata);
        }
}

/* ---- throttling ---- */

/* `by` NULL: an earlier run was told. */
static void pause_scope(Scope *scope, const Slot *by, uint64_t until_usec) {
        if (until_usec <= scope->paused_until_usec)
                return;

        scope->paused_until_usec = until_usec;
        scope->next_told = scope->slots;
        while (scope->next_told) {
                Slot *s = scope->next_told;

                scope->next_told = s->next;
                if (s != by)
                        s->on_paused(until_usec, s->userdata);
        }
}

void slot_throttled(Slot *by, uint64_t until_usec) {
        Scope *scope = by->scope;

        scope->size = MAX(MIN(scope->size, scope->window->max) / 2, 1U);
        pause_scope(scope, by, until_usec);
}

int window_pause(Window *w, const char *id_scope, const char *endpoint, uint64_t until_usec) {
        Scope *scope = find_scope(w, id_scope, endpoint) ?: add_scope(w, id_scope, endpoint);

        if (!scope)
                return -ENOMEM;
        pause_scope(scope, NULL, until_usec);
        return 0;
}

void slot_succeeded(Slot *s) {
        if (s->scope->size < s->scope->window->max)
                s->scope->size++;
}

uint64_t slot_paused_until_usec(const Slot *s) {
        return s->scope ? s->scope->paused_until_usec : 0;
}
