/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One simulation: a machine with dpsd's whole core on it, the service that it asks, and all that goes wrong, in one thread
 * and from one seed. Time passes from event to event.
 *
 *      events.c      the events that are to come, in order
 *      world.c       time, timers and work, as the core sees them (basic/world.h)
 *      disk.c        its files (basic/folder.h): what was not synced is gone after a power cut
 *      net.c         the way to the service (transport/transport.h), and the emulator's service behind it
 *      keys.c        key files, as config/secret.c sees them (key-files.c)
 *      chip.c        TPMs
 *      token.c       a token and a TPM in which the keys of issued certificates are made
 *      notes.c       the notes of such keys
 *      hang.c        chips that do not answer
 *      files.c       the files of the configuration, on file systems that do not answer; looks.c: the threads that look
 *      crypto.c      what OpenSSL would compute again and again
 *      json-c.c      what json-c would ask for again and again
 *      heap.c        where memory is
 *      memory.c      memory that runs out
 *      machine.c     the daemon: start, stop, kill, power cut; its configuration
 *      journal.c     the journal, which does not read for a while
 *      users.c       local users who call dpsd over the bus (users-bus.c), and polkit (users-polkit.c)
 *      stream.c      what sd-bus sends and receives
 *      actors.c      everybody who does something at random
 *      checks.c      what must hold after every step; checks-token.c: in the token
 *      published.c   what programs find, for the checks
 *      trace.c       what happened, and the log of dpsd
 *      run.c         one seed from its beginning to its end, and a shorter one that fails in the same way
 *      dps-sim.c     the program
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "basic/times.h"

#define IDENTITIES_MAX 16
#define ISSUED_IDENTITY 1 /* asks DPS for a certificate; the others show the hub tokens */
/* What actors do is numbered, so that each single thing can be left out. */
#define DEEDS_MAX 8192

typedef struct Sim Sim;
typedef struct Event Event;

/* ---- random numbers (events.c) ---- */

typedef struct Random {
        uint64_t state;
} Random;

/* A stream of its own for each purpose, so that leaving out one thing does not change all others. */
Random random_of(uint64_t seed, const char *purpose, uint64_t number);
uint64_t random_next(Random *r);
/* 0 … n−1. */
uint64_t random_below(Random *r, uint64_t n);
bool random_chance(Random *r, unsigned percent);
/* Mostly short, now and then long: exponential with this mean. */
uint64_t random_wait_usec(Random *r, uint64_t mean_usec);

/* ---- events (events.c) ---- */

typedef void (*event_handler_t)(Sim *s, void *userdata);

typedef struct Events {
        Event **heap;
        size_t n, room;
        uint64_t last_number;
} Events;

/* At a time of the simulation; events of the same time come in the order in which they were made. */
Event *event_add(Sim *s, uint64_t at_usec, event_handler_t handler, void *userdata);
void event_move(Sim *s, Event *e, uint64_t at_usec);
Event *event_cancel(Sim *s, Event *e);
/* Runs the next event if it is not later than `until_usec`. False: there is none. */
bool events_step(Sim *s, uint64_t until_usec);
void events_done(Sim *s);

/* ---- what is simulated ---- */

typedef struct SimOptions {
        uint64_t seed;
        unsigned n_identities;
        unsigned days;    /* of disturbances; as many quiet ones follow */
        unsigned n_kinds; /* of actors; 0: all */
        bool is_traced;
        FILE *trace;
        const char *directory; /* of the configuration */
        uint64_t until_usec;   /* the simulation ends here at the latest; 0: when it is over */
        /* Deeds that are left out. */
        const bool *left_out;
} SimOptions;

/* What was found: the name of the promise that was broken, and how. */
typedef struct Finding {
        const char *promise; /* NULL: nothing was found */
        char text[512];
        uint64_t at_usec;
} Finding;

typedef struct Deed {
        uint64_t at_usec;
        size_t number;
} Deed;

struct Sim {
        SimOptions options;
        uint64_t now_usec; /* since the simulation began */
        uint64_t end_of_deeds_usec;
        bool is_quiet; /* nothing is disturbed any more */
        Events events;
        Finding finding;
        Deed deeds[DEEDS_MAX];
        size_t n_deeds;
        uint64_t n_events, n_wakeups;
        uint64_t trace_hash;

        struct Disk *disk;
        struct Net *net;
        struct Keys *keys;
        struct Files *files;
        struct Machine *machine;
        struct Users *users;
        struct Actors *actors;
        struct Checks *checks;
};

/* ---- the trace (trace.c) ---- */

void trace(Sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The first one counts: what follows from it is no finding of its own. */
void found(Sim *s, const char *promise, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Whose log it is; NULL: nobody's. */
void trace_set_sim(Sim *s);

/* ---- one seed (run.c) ---- */

typedef struct Outcome {
        Finding finding;
        size_t n_deeds;
        uint64_t n_events, simulated_usec, trace_hash;
        Deed deeds[DEEDS_MAX];
} Outcome;

void sim_run(const SimOptions *options, Outcome *ret);
/* Leaves out as much as can be so that the same promise is still broken; changes `left_out`, and the options. */
void sim_shrink(SimOptions *options, bool left_out[static DEEDS_MAX], Outcome *outcome);
