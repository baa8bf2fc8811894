/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Carries out one registration: the machine of libdps says what to do next, and the client does it with a credential, a
 * transport and a slot of the window. It knows no identity, no disk and no bus. Its owner decides when an attempt may
 * begin; what an attempt does, the machine decides.
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
        CLIENT_IDLE,      /* nothing was begun, or all is done */
        CLIENT_WAITING,   /* for client_attempt(): before the first attempt, or between two */
        CLIENT_PARKED,    /* the same, in the middle of an attempt: DPS said to come back later */
        CLIENT_QUEUED,    /* for a slot */
        CLIENT_IN_FLIGHT, /* loading its credential, connecting, asking, polling */
        _CLIENT_STATE_MAX,
} ClientState;

/* Who waits for the end of an attempt. */
typedef struct Jobs {
        uint64_t *ids;
        size_t n;
} Jobs;

void jobs_done(Jobs *j);

/* What happens to a registration. All are called from the loop, never from within a call of the client. */
typedef struct ClientHandlers {
        /* DPS has assigned. The client is idle. The handler may take the jobs (and leave them empty): they end when the
         * assignment counts. `credential` is the one that DPS took. */
        void (*on_assigned)(const DpsReply *reply, Credential *credential, Jobs *jobs, void *userdata);
        /* An attempt has failed; the registration goes on with the next one. The jobs end with this error. */
        void (*on_failed)(const DpsError *error, Jobs *jobs, void *userdata);
        /* State, next time, or what is to be remembered has changed otherwise. `is_told`: DPS said how long to wait. */
        void (*on_changed)(void *userdata);
        /* DPS has answered, over verified TLS. */
        void (*on_answer)(void *userdata);
} ClientHandlers;

/* Everything is borrowed, and outlives the client. */
typedef struct ClientParts {
        World *world;
        Window *window;
        TransportClass *transport;
        const char *name; /* of the identity, for debug messages */
} ClientParts;

int client_new(const ClientParts *parts, const ClientHandlers *handlers, void *userdata, Client **ret);
Client *client_free(Client *c);
DEFINE_FREEP(Client, client_free)

/* Begins a registration, in state WAITING: nothing is sent before client_attempt(). `history` is what binds us from
 * before. A reference of the settings is taken. */
int client_begin(Client *c, Settings *settings, Method method, const DpsRegistrationHistory *history);
/* Begins the next attempt, or goes on with a parked one, as soon as a slot is free. `credential` (NULL: it is loaded) is
 * used where it is the one that is to be tried. What DPS told us to wait holds: then the client stays as it is, and
 * client_next_usec() tells. */
void client_attempt(Client *c, Credential *credential);
/* Something happened that may help: the wait between two attempts ends in half of `spread_usec` to all of it, though not
 * before the time that DPS told. */
void client_hasten(Client *c, uint64_t spread_usec);
/* The attempt in flight, if there is one, fails of this. */
void client_fail(Client *c, const DpsError *error);
/* Ends the registration, if there is one. Jobs are kept for the next one. */
void client_cancel(Client *c);

/* The job ends with the attempt in flight, or else with the next one. */
int client_add_job(Client *c, uint64_t id);
size_t client_n_jobs(const Client *c);
/* The caller frees them. */
Jobs client_take_jobs(Client *c);

ClientState client_state(const Client *c);
/* CLOCK_BOOTTIME: when client_attempt() will have an effect; 0: at once, or there is nothing to wait for. */
uint64_t client_next_usec(const Client *c);
/* CLOCK_BOOTTIME: DPS told us, or a neighbour, not to come before; 0: it did not. */
uint64_t client_told_usec(const Client *c);
/* The last failure of this registration; id NONE: none. */
const DpsError *client_error(const Client *c);
/* What is to be remembered of it; all 0 where nothing was begun. */
DpsRegistrationHistory client_history(const Client *c);
/* The fingerprint of the credential that was shown to DPS last; "": none was. */
const char *client_fingerprint(const Client *c);
/* What an attempt in flight waits for. */
DpsStep client_step(const Client *c);
