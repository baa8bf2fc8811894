/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of an identity share; everybody else includes identity.h. They are one module.
 *
 * May call each other:
 *
 *      identity.c                its configuration, its plan, its beginning and end
 *      identity-credential.c     credentials: looked at, loaded, wiped
 *      identity-registration.c   how DPS is asked
 *      identity-assignment.c     what DPS gave: the record, and what follows when it counts
 *      identity-publish.c        what programs get of it
 */

#include "dpsd/identity.h"

/* identity.c */
uint64_t identity_now_usec(const Identity *i);      /* CLOCK_BOOTTIME */
uint64_t identity_realtime_usec(const Identity *i); /* CLOCK_REALTIME */
/* Takes the jobs. `error` may be NULL. */
void identity_end_jobs(Identity *i, Jobs jobs, bool ok, const char *error);
/* Something on this machine is wrong, and DPS cannot be asked before it is mended. */
void identity_fail_at_home(Identity *i, const DpsError *error);
void identity_clear_error(Identity *i);

/* identity-credential.c */
/* It is to be looked at anew; what was found the last time is kept until then. */
void care_forget(CredentialCare *c);
void care_done(CredentialCare *c);
/* Takes the reference. */
void care_loaded(CredentialCare *c, Credential *credential);
void identity_care_ended(Identity *i, CredentialCare *c, Credential *credential, const DpsError *error);
void identity_care_fail(Identity *i, CredentialCare *c, DpsErrorId id, const char *why);
void identity_tell_waiters(Identity *i, Waiter **list, Credential *credential, const DpsError *error);
void identity_note_certificate(Identity *i, const Credential *c);
void identity_watch_files(Identity *i);
void identity_load_for_dps(Identity *i);
void identity_load_for_hub(Identity *i);
void identity_wipe_credentials(Identity *i);

/* identity-registration.c */
extern const ClientHandlers identity_client_handlers;
void identity_begin(Identity *i, IdentityReason reason);
void identity_give_up(Identity *i);
/* Something that happens on this machine is acted on: not too often. */
void identity_take_event(Identity *i);
/* What binds us is written into the record, as it is now. */
void identity_remember_wait(Identity *i);

/* identity-assignment.c */
extern const KeeperHandlers identity_keeper_handlers;
/* DPS has assigned. Takes the jobs. */
void identity_adopt(Identity *i, const DpsReply *reply, Credential *credential, Jobs jobs);
void identity_mint(Identity *i);
/* Once programs have it, or cannot, it is told, and the jobs that waited for it end. True: so it was. */
bool identity_announce(Identity *i);
void announcement_done(Announcement *a);

/* identity-publish.c */
void identity_prepare_folder(Identity *i);
void identity_publish(Identity *i, const Facts *f);
void identity_warn_of_expiry(Identity *i);
void identity_set_disk_error(Identity *i, const char *what, int r);
/* What was wrong with disks is over when all of it is. */
void identity_clear_disk_error(Identity *i);
