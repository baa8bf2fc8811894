/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Keeps the record of an identity, in memory and on disk. A new assignment counts once it is durable, or once
 * the disk has refused it:
 *
 *      answer of DPS, or a new token ──> pending ──> durable, or refused ──> it counts
 *
 * This is part of an Identity.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/world.h"
#include "client/client.h"
#include "dpsd/clock.h"
#include "dpsd/plan.h"
#include "dpsd/record.h"
#include "dpsd/retry.h"
#include "dpsd/store.h"

typedef struct KeeperHandlers {
        /* The record has a new assignment. `before` is the assignment that it replaces (NULL: there was
         * none), and is freed when the handler returns. `is_answer`: DPS gave the new one. The handler owns
         * the jobs. */
        void (*on_counts)(const Assignment *before, bool is_answer, Jobs jobs, void *userdata);
        /* The disk has refused the record (r is the errno) or stored it (0). `is_news`: the result differs
         * from that of the last save. */
        void (*on_disk)(int r, bool is_news, void *userdata);
        /* A save has ended, or a read that came too late. */
        void (*on_changed)(void *userdata);
        /* The record was read, or could not be (see keeper_load()). `is_news`: the result differs from that of the last
         * time. */
        void (*on_loaded)(int r, bool is_news, void *userdata);
} KeeperHandlers;

typedef struct Keeper {
        World *world;
        Store *store;
        const char *name;
        KeeperHandlers handlers;
        void *userdata;

        Record *record; /* what counts; never NULL */

        Assignment *pending;       /* newer, but not durable yet; NULL: there is none */
        bool is_answer;            /* DPS gave the pending assignment; otherwise only its token is new */
        uint64_t answered_at_usec; /* CLOCK_REALTIME: when DPS gave it */
        Jobs jobs;                 /* end when the pending assignment counts */
        unsigned n_saving; /* saves of the pending assignment under way; the result of the last one decides */

        bool failed_since; /* an attempt has failed after DPS gave an assignment */

        /* The record on disk was not read yet, or could not be, and is not written over before DPS has answered. */
        bool is_unread;
        bool cannot_read; /* the last try has failed */
        Work *loading;    /* reads it, until `reading` is due; NULL: nobody does */
        Retry reading;
        uint64_t reading_until_usec; /* CLOCK_BOOTTIME: afterwards we go on without it */

        DiskState disk;
        unsigned n_under_way; /* saves */
        unsigned n_outdated;  /* of them, those that are older than one that could not begin … */
        int newer_r;          /* … for this reason (errno) */
        Retry saving;
        uint64_t counters_saved_usec; /* CLOCK_BOOTTIME; 0: not in this run */
} Keeper;

int keeper_init(Keeper *k, World *world, Store *store, const char *name, const KeeperHandlers *handlers,
                void *userdata);
void keeper_done(Keeper *k);

/* Loads the record of an earlier run. Blocks: for the start. Negative: it could not be read, and is to be tried again. One
 * whose content cannot be used is set aside, and the record is empty. */
int keeper_load(Keeper *k);
/* The same while the loop goes on. If it is under way already, it has taken too long, and has failed. The handler may be
 * called before this returns. */
void keeper_load_later(Keeper *k);
/* The record is to be loaded later. Either there is none in memory yet, or one without an assignment, and the folder, which
 * is another one now, may hold one. */
void keeper_read_again(Keeper *k);
/* Whether the record of an earlier run is still to be read before anything else happens. */
bool keeper_waits_to_read(const Keeper *k);

/* The assignment that counts, or the pending one if there is one; NULL: none. */
const Assignment *keeper_newest(const Keeper *k);
SavingState keeper_saving(const Keeper *k);
bool assignment_has_moved(const Assignment *a, const Assignment *before);

/* Takes an assignment and the jobs that end with it, gives the assignment its generation, and saves it. */
void keeper_adopt(Keeper *k, Assignment *a, bool is_answer, Jobs jobs);
/* The assignment belongs to another device: it is removed, also from disk. */
void keeper_drop(Keeper *k);

/* Writes the record. */
void keeper_save(Keeper *k);
/* Notes the record for a daemon that starts later in this boot. If `is_due`, and the last save was long ago,
 * saves it instead. It is not saved each time, because flash wears. */
void keeper_note(Keeper *k, bool is_due);

void keeper_set_error(Keeper *k, const DpsError *error);
void keeper_clear_error(Keeper *k);
/* Corrects all times that are remembered (see clock.h). Returns whether that of an event was wrong. */
bool keeper_on_clock(Keeper *k, Clock *clock);
