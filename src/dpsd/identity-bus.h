/* SPDX-License-Identifier: MIT */
#pragma once

/* io.dpsd.dps1.Identity: one object for each identity. */

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "dpsd/identity-view.h"
#include "dpsd/identity.h"

typedef struct Bus Bus;

/*
 * What sd-bus is given for an object: the view, in which it reads the properties, and whose it is. sd-bus looks an object
 * up right before it reads it, and reads it to the end, so one of these is enough for all identities.
 */
typedef struct BusIdentity {
        IdentityView view;
        Identity *identity;
} BusIdentity;

/* Puts the objects on a new connection. */
int identity_bus_add(Bus *b);
/* What listeners were told of an identity is forgotten, with the connection or with the identity. */
void identity_bus_forget(Identity *i);

/* The jobs that finished in this turn. */
void identity_bus_tell_jobs(Bus *b);
void identity_bus_forget_jobs(Bus *b);

int identity_bus_path(const char *name, char **ret);
/* A name from outside, and its identity: or NoSuchIdentity. */
int identity_bus_find(Bus *b, const char *name, Identity **ret, sd_bus_error *error);
/* Asks DPS again, and answers with the job; the sender has the right to. */
int identity_bus_reprovision(sd_bus_message *request, Identity *i, sd_bus_error *error);
