/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Keeps the record of an identity, in memory and on disk. A new assignment counts when it is durable, or when the disk has
 * refused it:
 *
 *      answer of DPS, or a new token ──> pending ──> durable, or refused ──> it counts
 *
 * Part of an identity.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/world.h"
#include "client/client.h"
#include "dpsd/plan.h"
#include "dpsd/record.h"
#include "dpsd/retry.h"
#include "dpsd/store.h"

typedef struct KeeperHandlers {
        /* The record's assignment is a new one; `before` is the one that it replaces (NULL: there was none), and goes when
         * the handler returns. `is_answer`: DPS gave it. The jobs belong to the handler. */
        void (*on_counts)(const Assignment *before, bool is_answer, Jobs jobs, void *userdata);
        /* The disk has refused the record (r is why), or taken it (0); `is_news`: the last time it was otherwise. */
        void (*on_disk)(int r, bool is_news, void *userdata);
        /* A save has ended. */
        void (*on_changed)(void *userdata);
} KeeperHandlers;

typedef struct Keeper {
        World *world;
        Store *store;
        const char *name;
        KeeperHandlers handlers;
        void *userdata;

        Record *record; /* what counts; never NULL */

        Assignment *pending;       /* newer, and not durable yet; NULL: there is none */
        bool is_answer;            /* DPS gave it; otherwise only its token is new */
        uint64_t answered_at_usec; /* CLOCK_REALTIME: when DPS did */
        Jobs jobs;                 /* end when it counts */
        unsigned n_saving;         /* saves of it that are under way; the last one decides */

        int64_t clock_usec;     /* CLOCK_REALTIME when CLOCK_BOOTTIME was 0, by the clock of today */
        uint64_t answered_usec; /* CLOCK_BOOTTIME: when DPS gave an assignment last; 0: not in this run */
        bool failed_since;      /* something has; the clock does not tell the order, it may be set */

        DiskState disk;
        Retry saving;
        uint64_t counters_saved_usec; /* CLOCK_BOOTTIME; 0: not in this run */
} Keeper;

int keeper_init(Keeper *k, World *world, Store *store, const char *name, const KeeperHandlers *handlers,
                void *userdata);
void keeper_done(Keeper *k);

/* What is remembered from earlier runs. -EBADMSG: the file was set aside, `ret_why` says why, and the record is an empty
 * one. Other failures: it could not be read, and is not to be written over. */
int keeper_load(Keeper *k, char **ret_why);

/* The assignment that counts, or that will when it is durable; NULL: none. */
const Assignment *keeper_newest(const Keeper *k);
SavingState keeper_saving(const Keeper *k);
bool assignment_has_moved(const Assignment *a, const Assignment *before);

/* Takes an assignment and the jobs that end with it, gives it its generation, and saves it. */
void keeper_adopt(Keeper *k, Assignment *a, bool is_answer, Jobs jobs);
/* The assignment is another device's: it goes, also from disk. */
void keeper_drop(Keeper *k);

/* Writes the record. */
void keeper_save(Keeper *k);
/* Notes it for the daemon that comes after us in this boot; `is_due`: or writes it, where the last time was long ago: flash
 * wears. */
void keeper_note(Keeper *k, bool is_due);

void keeper_set_error(Keeper *k, const DpsError *error);
void keeper_clear_error(Keeper *k);
/* The clock was set: what is remembered of waits, and the time of the last success, are told on the clock of today. */
void keeper_on_clock(Keeper *k);
