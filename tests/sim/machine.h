/* SPDX-License-Identifier: MIT */
#pragma once

/* The machine: its clock, its configuration, and dpsd on it, which starts, stops, is killed and loses its power. */

#include "dpsd/loader.h"
#include "dpsd/manager.h"
#include "sim.h"
#include "token.h"
#include "world.h"

/* What NAME.conf says. */
typedef struct SimConf {
        bool is_there, is_broken;
        bool is_alternative; /* another registration id */
        bool is_elsewhere;   /* another endpoint */
        bool is_lost;        /* another ID scope, which DPS does not have */
        bool has_other_group;
        unsigned lifetime; /* one of some */
        unsigned renew;
        unsigned splay;
        TransportChoice transport;
        KeyPlace key_place; /* of issued certificates */
} SimConf;

/* Among which the machine is moved, each with a default gateway of its own. It is at home in the first. */
#define NETWORKS_MAX 3

typedef struct Machine {
        Sim *sim;
        MachineClock clock;
        Slowness slowness;
        SimConf confs[IDENTITIES_MAX];
        bool is_group_there;
        unsigned max_attempts; /* of dpsd.conf */
        bool network_is_watched;
        unsigned network;

        /* One run of dpsd; `manager` NULL: it does not run. */
        unsigned n_runs;
        Manager *manager;
        Loader loader;
        uint64_t load_usec; /* when it has begun to read the configuration last */
        bool is_to_reload;
        Identity *identities[IDENTITIES_MAX]; /* as the manager has told of them */
        World *world;
        Folder *state, *notes, *runtime;
        TransportClass *mqtt, *https;
        Transports transports;
        bool is_dying;
        uint64_t described_usec; /* when STATUS= was made last */
        Event *start;
        struct SimWatch *watches;
} Machine;

Machine *machine_new(Sim *s);
Machine *machine_free(Machine *m);

/* Whether a finding is played that is older than files.c: nothing hangs, and the configuration is not read from files. */
bool machine_is_older(const Machine *m);
void machine_start(Machine *m);
void machine_start_later(Machine *m, uint64_t delay_usec);
void machine_stop(Machine *m);
/* `steps`: what of the writing that is under way still happens. */
void machine_kill(Machine *m, unsigned steps);
void machine_cut_power(Machine *m, unsigned steps);
void machine_reload(Machine *m);
/* The machine, its keys and its configuration are well again, to be loaded. */
void machine_mend(Machine *m);
/* Identity k is decommissioned, and then put up again as a new one. */
void machine_begin_anew(Machine *m, unsigned k);

void machine_name(unsigned k, char ret[static 16]);
void machine_id(const Machine *m, unsigned k, char ret[static 16]);
/* NULL: it does not run, or has no such identity. */
Identity *machine_identity(const Machine *m, unsigned k);
uint64_t machine_realtime_usec(const Machine *m);
void machine_step_clock(Machine *m, int64_t usec);
/* Sets it right, and returns whether that was needed. */
bool machine_mend_clock(Machine *m, bool is_synchronized);
/* An address or a route has appeared. */
void machine_network_changed(Machine *m);
/* The file of this key has changed. */
void machine_key_changed(Machine *m, unsigned k);
