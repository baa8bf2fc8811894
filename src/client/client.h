/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Carries out one registration. The machine of libdps says what to do next, and the client does it with a
 * credential, a transport and a slot of the window. The client knows no identity, disk or bus. Its owner
 * decides when an attempt may begin; the machine decides what happens in the attempt.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/world.h"
#include "client/jobs.h"
#include "client/window.h"
#include "config/settings.h"
#include "credential/credential.h"
#include "credential/issued.h"
#include "dps/registration.h"
#include "transport/transport.h"

typedef struct Client Client;

typedef enum ClientState {
        CLIENT_IDLE,      /* there is no registration */
        CLIENT_BEGUN,     /* the first attempt waits for client_attempt() */
        CLIENT_QUEUED,    /* an attempt waits for its slot */
        CLIENT_IN_FLIGHT, /* an attempt loads its credential, connects, registers and polls */
        CLIENT_PARKED,    /* DPS paused an attempt in the middle; the rest waits for client_attempt() */
        CLIENT_BETWEEN,   /* an attempt failed, perhaps in an earlier run; waits for client_attempt() */
        _CLIENT_STATE_MAX,
} ClientState;

/* The events of a registration. The handlers are called from the loop, or before the functions below
 * return. */
typedef struct ClientHandlers {
        /* DPS has given an assignment, and the client is idle. `credential` is the one that DPS accepted. The
         * handler owns the jobs, which end when the assignment counts. */
        void (*on_assigned)(const DpsReply *reply, Credential *credential, Jobs jobs, void *userdata);
        /* An attempt has failed; the registration continues with the next one. The handler owns the jobs,
         * which end with this error. */
        void (*on_failed)(const DpsError *error, Jobs jobs, void *userdata);
        /* Something else has changed: the state, the time of the next attempt, or what is to be
         * remembered. */
        void (*on_changed)(void *userdata);
        /* DPS has answered, over verified TLS. */
        void (*on_answer)(void *userdata);
        /* A poll that the service will count is about to be sent. client_history() includes it already. */
        void (*on_poll)(void *userdata);
        /* Describes the current step, for debug messages. */
        void (*on_step)(const char *text, void *userdata);
        /* With Transport=auto: the transport that worked on this network, TRANSPORT_AUTO if that is not known. */
        TransportChoice (*way_that_worked)(void *userdata);
        /* The attempt uses another transport than the last one did. `missing` (else NULL): because the one that
         * is due is not installed. */
        void (*on_way)(TransportChoice way, const DpsError *missing, void *userdata);
        /* Whether the time of day is right enough to tell a wrong key from a wrong clock. */
        bool (*is_clock_right)(void *userdata);
        /* Where it is noted which keys were made in tokens: see issuance_place_new(). */
        void (*folders)(Folder **ret_state, Folder **ret_notes, void *userdata);
} ClientHandlers;

/* All arguments are borrowed, and must outlive the client. */
int client_new(World *world, Window *window, Transports *transports, const ClientHandlers *handlers,
               void *userdata, Client **ret);
Client *client_free(Client *c);
DEFINE_FREEP(Client, client_free)

/* Begins a registration, but sends nothing before client_attempt(). `history` holds what remains of earlier
 * registrations, such as waits. Takes a reference to the settings. An earlier registration is cancelled. */
int client_begin(Client *c, Settings *settings, Method method, const DpsRegistrationHistory *history);
/* Begins the next attempt, or continues a parked one, as soon as a slot is free. `credential` (NULL: none) is
 * used if it is the one to be tried; otherwise the right one is loaded. If DPS told us to wait, nothing
 * happens before that time, which client_next_usec() returns. */
void client_attempt(Client *c, Credential *credential);
/* Something happened that may help. The wait between two attempts now ends after a random time of half of
 * `spread_usec` to all of it, but not before the time that DPS told us. */
void client_hasten(Client *c, uint64_t spread_usec);
/* Makes the attempt in flight fail with this error. */
void client_fail(Client *c, const DpsError *error);
/* Ends the registration, if there is one. Its jobs stay, and wait for the next one. */
void client_cancel(Client *c);

/* Adds a job, which ends with the attempt in flight, or else with the next one. */
int client_add_job(Client *c, uint64_t id);
bool client_has_jobs(const Client *c);
Jobs client_take_jobs(Client *c);

ClientState client_state(const Client *c);
/* CLOCK_BOOTTIME: when client_attempt() will have an effect. 0: at once. USEC_INFINITY: never. */
uint64_t client_next_usec(const Client *c);
/* CLOCK_BOOTTIME: DPS told us, or another client of the scope, not to ask before this time. 0: it told no
 * time. */
uint64_t client_told_usec(const Client *c);
/* DPS is asked with this version from the next client_begin() on, if the settings name none themselves. NULL: with theirs.
 * A literal. */
void client_set_api_version(Client *c, const char *version);
/* The version that the registration asks with. NULL: that of its settings, after its end. */
const char *client_api_version(const Client *c);
/* What the last registration asked with, for its handler on_assigned(); NULL: DPS was not asked for a certificate. */
const IssuanceRequest *client_issuance(const Client *c);

/* What the attempt is at: "queued" for a slot, or a state of the registration (dps/registration.h); "": there is none. */
const char *client_step(const Client *c);
/* The last error of this registration; its id is NONE if there was none. NULL: there is no registration. */
const DpsError *client_error(const Client *c);
/* What is to be remembered of this registration, or of the last one. */
const DpsRegistrationHistory *client_history(Client *c);
/* The fingerprint of the credential that was last shown to DPS; "": none was. */
const char *client_fingerprint(const Client *c);
/* The transport of the attempt in flight, or of the last one; "": there was none. */
const char *client_transport(const Client *c);
