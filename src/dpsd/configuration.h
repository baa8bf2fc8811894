/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an identity is to be: its file as it was read last, with specifiers expanded when they can be. What was good before
 * stays in force until something newer is. Part of an identity; zero it first, configuration_done() ends it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/world.h"
#include "config/settings.h"
#include "dps/error.h"
#include "dpsd/plan.h"
#include "dpsd/retry.h"

typedef struct Configuration {
        Settings *written;  /* of the last good file, as written; NULL: there never was one */
        Settings *settings; /* in force, without specifiers; NULL: none were ever good */
        Settings *faulty; /* of a file with faults: its lines about keys are the best that is known of them */
        bool is_to_resolve; /* `settings` do not stand for `written` yet */
        Retry resolving;
        DpsErrorId unresolved; /* why not, by the last try */
        uint64_t
                who_hash; /* of scope, registration id and endpoint of `settings`, so that twins are found fast */
        char *twin;       /* the name of another identity that is the same device; NULL: there is none */

        bool is_faulty;  /* the file says something else than what is in force, or cannot be used … */
        DpsError *fault; /* … and why; NULL: there was no memory to keep it */
        uint64_t fault_at_usec; /* CLOCK_REALTIME */
} Configuration;

void configuration_done(Configuration *c);

/* What the file says now; takes the settings. `fault`, where it is set, says why they cannot be used. True: the fault is
 * news. */
bool configuration_take(Configuration *c, Settings *settings, const char *fault, uint64_t realtime_usec);

typedef enum Resolution {
        RESOLUTION_SAME,       /* what is in force stays */
        RESOLUTION_FIRST,      /* there are settings now, and there were none before */
        RESOLUTION_OTHER,      /* they are others, and ask DPS as the same device of the same place */
        RESOLUTION_OTHER_PEER, /* … as another device, or elsewhere */
        _RESOLUTION_MAX,
} Resolution;

/* Expands the specifiers. Negative: they cannot be now; `error` says why, and `ret_is_news` whether it was not told before.
 * Then older settings stay in force, or there are none. */
int configuration_resolve(Configuration *c, const World *w, Resolution *ret, DpsError *error,
                          bool *ret_is_news);

/* Another identity is the same device (its name), or none is (NULL). True: that is news. */
bool configuration_set_twin(Configuration *c, const char *twin, uint64_t realtime_usec);
bool configuration_are_twins(const Configuration *a, const Configuration *b);

ConfigurationState configuration_state(const Configuration *c);
/* What is wrong with the file; id NONE: nothing. */
const DpsError *configuration_fault(const Configuration *c);
/* The settings by which keys are found: those in force, or the faulty ones; NULL: there are none. */
Settings *configuration_key_settings(const Configuration *c);
/* As far as they are known: those in force, or as written; NULL: there are none. */
const Settings *configuration_settings(const Configuration *c);
