/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of an identity share; everybody else includes identity.h.
 *
 *      identity.c             what it is, what it shows, its one timer
 *      identity-config.c      from the configuration to what is to be done
 *      identity-attempt.c     the registration: the machine of libdps on a transport, in its turn
 *      identity-assignment.c  what DPS gave: tokens, the disk, the files of programs
 *      identity-request.c     what somebody on the box asks for
 */

#include "dpsd/attestation.h"
#include "dpsd/identity.h"

/* State and Waiting follow from everything else; to be called at the end of whatever changed something. */
void identity_update(Identity *i);

void identity_log(const Identity *i, int level, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* With the fields of an error, and the id of a catalog entry (may be NULL). */
void identity_log_error(const Identity *i, int level, const char *message_id, const DpsError *error,
                        const char *format, ...) __attribute__((format(printf, 5, 6)));

/* "next try in 4 min"; `lasting` as for identity_describe(). */
void identity_describe_next(const Identity *i, bool lasting, char *buffer, size_t size);

/* Local trouble, no answer of DPS: what was last wrong, and when it is looked at again by itself. */
void identity_set_trouble(Identity *i, const DpsError *error);
void identity_clear_trouble(Identity *i);
/* Local trouble is looked at again by itself, at growing intervals. */
void identity_again(Identity *i);
/* It is over; but a disk that refused is still tried. */
void identity_not_again(Identity *i);
void identity_set_error(Identity *i, const DpsError *error);
void identity_clear_error(Identity *i);
/* Writes what is to be remembered; what is pending counts already. */
void identity_save(Identity *i);

/* Both clocks. */
uint64_t identity_boottime_of(uint64_t realtime_usec);
uint64_t identity_realtime_of(uint64_t boottime_usec);

/* identity-config.c */
/* Makes the directory for what programs get. */
int identity_prepare_outputs(Identity *i);

/* identity-attempt.c */
/* Something is to be got from DPS; joins what is under way. Splayed where many boxes would start together. */
void identity_begin(Identity *i, IdentityReason reason);
/* For now: what would not be begun again by itself goes on at the next look, if there is one. */
void identity_cancel(Identity *i);
/* There is no one to be, or nothing to show: an attempt under way fails of that. */
void identity_give_up(Identity *i);
/* Counters and waits, as they are now. */
void identity_remember_wait(Identity *i);
void identity_on_due(Identity *i, uint64_t now_usec);
/* Something happened that may help: cuts a wait short, not below what DPS told, and not often. */
void identity_hasten(Identity *i);

/* identity-assignment.c */
/* DPS has assigned us: remembers it, and serves it when it is durable. */
void identity_adopt(Identity *i, const DpsReply *reply);
/* Serves what is remembered, if it is not served yet. */
void identity_serve(Identity *i);
/* Drops it, and what programs had of it. */
void identity_drop_assignment(Identity *i);
/* Whether key or certificate on disk are others than DPS knows. */
bool identity_credential_has_changed(Identity *i);
/* What is on disk now is what DPS is shown. */
void identity_note_credential(Identity *i);
/* Mints a token where it is time to. */
void identity_tend_token(Identity *i);
/* CLOCK_BOOTTIME of the next thing to do for token or certificate; USEC_INFINITY: nothing. */
uint64_t identity_next_tending_usec(const Identity *i);
bool identity_renewal_is_due(const Identity *i);
/* Its token has to wait for the clock. */
bool identity_awaits_token(const Identity *i);

/* identity-request.c */
void identity_finish_jobs(Identity *i, bool ok, const char *error);
