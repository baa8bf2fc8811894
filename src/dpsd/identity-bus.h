/* SPDX-License-Identifier: MIT */
#pragma once

/* io.dpsd.dps1.Identity: one object for each identity. */

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "dpsd/identity.h"

typedef struct Bus Bus;

/*
 * An identity as the bus shows it: what the properties say, in the types they have. sd-bus looks an object up right
 * before it reads it, and reads it to the end; so one view, filled by each lookup, is enough for all identities.
 */
typedef struct IdentityView {
        Identity *identity;

        const char *name, *state, *waiting;
        const char *id_scope, *registration_id, *endpoint;
        const char *assigned_hub, *device_id, *substatus;
        const char *attestation_method, *transport;
        uint64_t generation;
        int healthy, configured, required_for_provisioned; /* D-Bus booleans */

        uint64_t assigned_at, state_since, token_expires_at, certificate_expires_at,
                renew_at; /* CLOCK_REALTIME */
        uint64_t next_attempt_at, last_success_at, last_error_at, failing_since, hub_last_seen_at;

        uint32_t attempts;
        const char *last_error, *last_error_id, *last_error_step, *last_tracking_id;
        uint32_t last_error_code;
} IdentityView;

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
