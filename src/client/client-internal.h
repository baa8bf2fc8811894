/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files that implement a client, which form one module. All others include client.h.
 *
 * May call each other:
 *
 *      client.c           its states, the machine's actions, and what the owner calls
 *      client-prepare.c   what a connection needs
 */

#include "client/client.h"
#include "client/route.h"

struct Client {
        World *world;
        Window *window;
        Transports *transports;
        ClientHandlers handlers;
        void *userdata;

        /* The registration */
        Settings *settings;
        Method method;
        DpsRegistration *registration; /* NULL: idle */
        DpsRegistrationHistory history;
        Slot slot;
        Jobs jobs;
        /* Once DPS has assigned, and the TPM is still to take the key: those who asked before. The others wait for the next one. */
        Jobs served_jobs;
        bool has_assignment;
        uint64_t wake_usec; /* CLOCK_BOOTTIME: when the machine wants to be woken during an attempt */
        Timer *timer;       /* NULL: there was no registration yet, as with most that have an assignment */

        const char *told_version; /* see client_set_api_version() */
        const char *api_version;  /* a literal; NULL: as in the settings */
        IssuanceRequest issuance; /* kept while an operation of DPS may end with an answer for its key */
        bool issuance_was_sent;

        /* The attempt */
        Credential *credential; /* offered by the owner, or loaded here */
        char *payload;          /* text of PayloadFile= */
        CredentialQuery *loading, *signing, *answering;
        RouteQuery *routing;
        bool has_route;
        Proxy *proxy; /* of the route; NULL: none. With its password, so only until we connect */
        Work *reading, *making;
        uint64_t prepare_until_usec; /* 0: no connection is being prepared */
        Transport *transport;
        TransportClass *class; /* of the transport of this attempt, or of the last one; NULL: none yet */
        TransportChoice way;   /* that Transport=auto took last on this network; TRANSPORT_AUTO: none yet */
        unsigned n_blocked;    /* attempts of that way in a row that could not connect */
        bool https_is_missing;
        char fingerprint[FINGERPRINT_SIZE];

        /* TPM attestation: answers to a challenge serve one operation, which may outlive an attempt. */
        Credential *answered; /* signs with the key of the challenge; its secret is in the TPM */
        char *key_name;       /* `skn` of the token that the challenge asked for */
        DpsReply assignment;  /* while the TPM takes the key for the hub */
};

/* client.c */
extern const TransportHandlers client_transport_handlers;
uint64_t client_now(const Client *c); /* CLOCK_BOOTTIME */
DpsMoment client_moment(Client *c);
/* Describes the current step, for debug messages. */
void client_tell(Client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void client_arm(Client *c);
/* Carries out the action that the machine answered to an event. `reply` may be NULL. */
void client_act(Client *c, DpsAction action, const DpsReply *reply);

/* client-prepare.c */
/* Starts the next step that the connection still needs, or makes the connection when there is none left. */
void client_prepare(Client *c);
void client_prepare_failed(Client *c, const DpsError *error);
void client_prepare_timed_out(Client *c);
void client_stop_preparing(Client *c);
void client_disconnect(Client *c);
void client_forget_issuance(Client *c);
