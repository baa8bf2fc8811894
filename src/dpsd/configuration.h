/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an identity is meant to be: its file as last read, with specifiers expanded when that is possible. The
 * last good settings stay in force until newer good ones arrive. This is part of an Identity. Zero it first;
 * configuration_done() frees it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/world.h"
#include "config/settings.h"
#include "dps/error.h"
#include "dpsd/plan.h"
#include "dpsd/retry.h"

/* Files may hold the values of specifiers, so the worker expands them. */
typedef struct Expansion Expansion;
/* configuration_take_expanded() is to be called with what it gets. */
typedef void (*expansion_handler_t)(Expansion *e, void *userdata);

typedef struct Configuration {
        Settings *written;  /* of the last good file, as written; NULL: there never was one */
        Settings *settings; /* in force, with specifiers expanded; NULL: none were ever good */
        Settings *faulty;   /* of a file with faults; its lines about keys are the best we know */
        bool is_to_resolve; /* `settings` are not yet made from `written` */
        Retry resolving;
        Expansion *expansion;  /* under way, perhaps beyond … */
        uint64_t expand_usec;  /* … this (CLOCK_BOOTTIME); USEC_INFINITY: beyond, and that was reported */
        DpsErrorId unresolved; /* why the last expansion failed */
        char *tpm_id;      /* the registration id that the TPM gives; NULL: not asked yet, or not needed */
        uint64_t who_hash; /* hash of scope, registration id and endpoint of `settings`, to find twins fast */
        char *twin;        /* the name of another identity that is the same device; NULL: there is none */

        /* Why the file differs from what is in force, or cannot be used (kept-error.h); NULL: it does not. */
        DpsError *fault;
        uint64_t fault_at_usec; /* CLOCK_REALTIME */
} Configuration;

void configuration_done(Configuration *c);

/* Takes the settings that the file holds now. `fault`, if set, says why they cannot be used. Returns true if
 * this fault was not known before. */
bool configuration_take(Configuration *c, Settings *settings, const char *fault, uint64_t realtime_usec);

typedef enum Resolution {
        RESOLUTION_SAME,  /* what is in force stays */
        RESOLUTION_FIRST, /* there are settings now for the first time */
        RESOLUTION_OTHER, /* the settings changed, but DPS is asked as the same device at the same place */
        RESOLUTION_OTHER_PEER, /* the settings changed, and DPS is asked as another device, or elsewhere */
        _RESOLUTION_MAX,
} Resolution;

/* Begins to expand the specifiers, unless that is under way. Without specifiers the handler is called at once. An expansion
 * that hangs is kept, since it may still come to its end, and another one would hang, too. */
void configuration_expand(Configuration *c, World *w, expansion_handler_t handler, void *userdata);
/* Takes what was expanded, or, if `e` is NULL, that this takes too long. Negative: the settings cannot be made now. Then
 * `error` says why, `ret_is_news` says whether this error is new, and older settings, if any, stay in force. */
int configuration_take_expanded(Configuration *c, const World *w, Expansion *e, Resolution *ret,
                                DpsError *error, bool *ret_is_news);

/* Whether the expansion needs the registration id of the TPM, and does not have it yet. */
bool configuration_needs_tpm(const Configuration *c);
/* The TPM's answer: its registration id, or why there is none. Exactly one is set. */
void configuration_take_tpm_id(Configuration *c, const char *id, const DpsError *error);

/* `twin` is the name of another identity that is the same device; NULL: there is none. Returns true if that
 * is new. */
bool configuration_set_twin(Configuration *c, const char *twin, uint64_t realtime_usec);
bool configuration_are_twins(const Configuration *a, const Configuration *b);

ConfigurationState configuration_state(const Configuration *c);
/* The settings by which keys are found: those in force or, failing that, the faulty ones. NULL: there are
 * none. */
Settings *configuration_key_settings(const Configuration *c);
/* The settings as far as they are known: those in force or, failing that, as written. NULL: there are
 * none. */
const Settings *configuration_settings(const Configuration *c);
