/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Carries out one registration: the machine of libdps says what to do next, and the client does it with a credential, a
 * transport and a slot of the window. It knows no identity, no disk and no bus. Its owner decides when an attempt may
 * begin; what happens in an attempt, the machine decides.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"
#include "client/window.h"
#include "config/settings.h"
#include "credential/credential.h"
#include "dps/registration.h"
#include "transport/transport.h"

typedef struct Client Client;

typedef enum ClientState {
        CLIENT_IDLE,      /* there is nothing to get */
        CLIENT_BEGUN,     /* the first attempt waits for client_attempt() */
        CLIENT_QUEUED,    /* an attempt waits for its slot */
        CLIENT_IN_FLIGHT, /* it loads its credential, connects, asks, polls */
        CLIENT_PARKED, /* DPS said in the middle of an attempt to come back later; waits for client_attempt() */
        CLIENT_BETWEEN, /* an attempt failed, here or in an earlier run; the next one waits for client_attempt() */
        _CLIENT_STATE_MAX,
} ClientState;

/* A request that somebody waits for. It ends with an attempt. */
typedef struct Job {
        struct Job *next;
        uint64_t id;
} Job;

/* Jobs in the order in which they were added. A plain value, which owns them; end it with jobs_done(). */
typedef struct Jobs {
        Job *first;
} Jobs;

/* -ENOMEM. */
int jobs_add(Jobs *j, uint64_t id);
/* Takes the others, behind those that are there. */
void jobs_join(Jobs *j, Jobs others);
void jobs_done(Jobs *j);

/* What happens to a registration. They are called from the loop, or from within the functions below. */
typedef struct ClientHandlers {
        /* DPS has assigned; the client is idle. `credential` is the one that DPS took. The jobs belong to the handler, and
         * end when the assignment counts. */
        void (*on_assigned)(const DpsReply *reply, Credential *credential, Jobs jobs, void *userdata);
        /* An attempt has failed, and the registration goes on with the next one. The jobs belong to the handler, and end
         * with this error. */
        void (*on_failed)(const DpsError *error, Jobs jobs, void *userdata);
        /* The state, the time of the next attempt, or what is to be remembered has changed in another way. */
        void (*on_changed)(void *userdata);
        /* DPS has answered, over verified TLS. */
        void (*on_answer)(void *userdata);
        /* A poll is about to be sent, which the service will count: client_history() has it already. */
        void (*on_poll)(void *userdata);
        /* What it does, for debug messages. */
        void (*on_step)(const char *text, void *userdata);
        /* Whether the time of day is good enough to tell a wrong key from a wrong clock. */
        bool (*is_clock_right)(void *userdata);
} ClientHandlers;

/* All that it works with is borrowed, and outlives the client. */
int client_new(World *world, Window *window, TransportClass *transport, const ClientHandlers *handlers,
               void *userdata, Client **ret);
Client *client_free(Client *c);
DEFINE_FREEP(Client, client_free)

/* Begins a registration; nothing is sent before client_attempt(). `history` is what binds us from before. A reference of
 * the settings is taken. A registration that was begun before is cancelled. */
int client_begin(Client *c, Settings *settings, Method method, const DpsRegistrationHistory *history);
/* Begins the next attempt, or goes on with a parked one, as soon as there is a slot. `credential` (NULL: none) is used if
 * it is the one that is to be tried; otherwise the right one is loaded. What DPS told us to wait holds whatever the owner
 * asks: then nothing happens, and client_next_usec() tells the time. */
void client_attempt(Client *c, Credential *credential);
/* Something happened that may help: the wait between two attempts ends after half of `spread_usec` to all of it, but not
 * before the time that DPS told. */
void client_hasten(Client *c, uint64_t spread_usec);
/* An attempt in flight fails of this. */
void client_fail(Client *c, const DpsError *error);
/* Ends the registration, if there is one. Its jobs wait for the next one. */
void client_cancel(Client *c);

/* The job ends with the attempt in flight, or else with the next one. */
int client_add_job(Client *c, uint64_t id);
bool client_has_jobs(const Client *c);
Jobs client_take_jobs(Client *c);

ClientState client_state(const Client *c);
/* CLOCK_BOOTTIME: when client_attempt() can do something. 0: at once. USEC_INFINITY: it has nothing to do. */
uint64_t client_next_usec(const Client *c);
/* CLOCK_BOOTTIME: the last answer, or one to a neighbour, told us not to come sooner. 0: nothing was told. */
uint64_t client_told_usec(const Client *c);
/* The last failure of this registration; id NONE: there was none. */
const DpsError *client_error(const Client *c);
/* What is to be remembered of this registration, or of the last one. */
const DpsRegistrationHistory *client_history(Client *c);
/* The fingerprint of the credential that was shown to DPS last; "": none was. */
const char *client_fingerprint(const Client *c);
/* The class that carries the attempt, or the last one. */
const char *client_transport(const Client *c);
