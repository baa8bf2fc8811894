/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a fleet's monitoring wants to know, as OpenMetrics text that Prometheus and the textfile collector of node_exporter
 * read. There are no registration ids, device ids or hubs in it: metrics leave the device.
 */

#include <stdio.h>

#include "dpsctl/identity-list.h"

/* What is counted while the identities are followed; the daemon itself counts nothing. */
typedef struct Tally {
        char *name; /* of the identity */
        char *key;  /* an error id or a step */
        uint64_t n, usec;
} Tally;

typedef struct Tallies {
        Tally *items;
        size_t n;
} Tallies;

typedef struct Counts {
        Tallies errors; /* by error id */
        Tallies steps;  /* by step: how often, and how long it took */
        /* When the step of each identity that is being registered began. */
        Tallies begun;
} Counts;

/* Counts what an identity's change means. `at_usec` is of CLOCK_MONOTONIC. */
int counts_add(Counts *c, const Identity *before, const Identity *now, uint64_t at_usec);
void counts_done(Counts *c);

/* `counts` is NULL where nothing is followed. `is_there`: dpsd runs. */
void metrics_print(FILE *f, const IdentityList *l, bool is_there, const Counts *counts);
