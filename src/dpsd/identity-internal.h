/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files that implement an identity, which form one module. All others include identity.h.
 *
 * May call each other:
 *
 *      identity.c                its configuration, its plan, its beginning and end
 *      identity-credential.c     credentials: looked at, loaded, wiped
 *      identity-registration.c   how DPS is asked
 *      identity-assignment.c     what DPS assigned: the record, and the steps when it counts
 *      identity-issuance.c       the certificate that DPS issues
 *      identity-publish.c        the files for programs
 */

#include "dpsd/identity.h"

/* identity.c */
uint64_t identity_now_usec(const Identity *i);      /* CLOCK_BOOTTIME */
uint64_t identity_realtime_usec(const Identity *i); /* CLOCK_REALTIME */
/* Takes the jobs. `error` may be NULL. */
void identity_end_jobs(Identity *i, Jobs jobs, bool ok, const char *error);
/* Records an error on this machine that must be corrected before DPS can be asked. */
void identity_fail_locally(Identity *i, const DpsError *error);
void identity_clear_error(Identity *i);
/* The TPM does not say what the identity's registration id is. */
void identity_stop_naming(Identity *i, const DpsError *error);
/* The files that the specifiers name do not answer. */
void identity_stop_expanding(Identity *i);
/* The record was read, or could not be: see KeeperHandlers. */
void identity_on_loaded(int r, bool is_news, void *userdata);

/* identity-credential.c */
/* The credential must be looked at again. The results of the last look are kept until then. */
void care_forget(CredentialCare *c);
void care_done(CredentialCare *c);
/* Takes the reference. */
void care_loaded(CredentialCare *c, Credential *credential);
void identity_care_ended(Identity *i, CredentialCare *c, Credential *credential, const DpsError *error);
void identity_care_fail(Identity *i, CredentialCare *c, DpsErrorId id, const char *why);
/* Tell those who wait, if there is something to tell. They return true if somebody was told. */
bool identity_tell_credential(Identity *i);
bool identity_tell_look(Identity *i);
void identity_tell_end(Identity *i);
void identity_note_certificate(Identity *i, const Credential *c);
void identity_watch_files(Identity *i);
void identity_load_for_dps(Identity *i);
void identity_load_for_hub(Identity *i);
void identity_wipe_credentials(Identity *i);
/* Lets what has been waited for long enough fail. It is tried again later. */
void identity_stop_waiting(Identity *i);
/* A chip may need half a minute to make a key, and others may be before us. */
#define KEY_DEADLINE_USEC (2 * USEC_PER_MINUTE)

/* identity-registration.c */
extern const ClientHandlers identity_client_handlers;
void identity_begin(Identity *i, IdentityReason reason);
void identity_give_up(Identity *i);
/* Counts an event on this machine that is acted on. Only a few per hour are. */
void identity_take_event(Identity *i);
/* Writes the waits that bind the client into the record, as they are now. */
void identity_remember_wait(Identity *i);
/* Whether the waits in the record are those of another scope or endpoint than that of the settings. */
bool identity_waits_for_another(const Identity *i);
/* The scope is paused as it was when the record was written. */
void identity_recall_pause(const Identity *i);

/* identity-assignment.c */
extern const KeeperHandlers identity_keeper_handlers;
/* DPS has given an assignment. Takes the jobs. */
void identity_adopt(Identity *i, const DpsReply *reply, Credential *credential, Jobs jobs);
void identity_mint(Identity *i);
/* Once programs have the assignment, or cannot have it, logs it and ends the jobs that waited for it. Returns
 * true if it did so. */
void identity_announce(Identity *i);
void announcement_done(Announcement *a);

/* identity-issuance.c */
/* Completes a new assignment by the certificate that was issued with it, or by the reason why there is none. */
void identity_take_issued(Identity *i, const DpsReply *reply, Assignment *a, const Assignment *before);
void identity_save_pair(Identity *i);
void identity_forget_pair(Identity *i);
/* When an issued certificate is renewed. The clock was wrong when that was determined; if there are no settings yet, it is
 * determined once there are. */
void identity_count_renewal_anew(Identity *i);
/* Removes the files of pairs that the durable record does not name, as soon as it is known which these are. */
void identity_remove_old_pairs(Identity *i);
void identity_drop_issued(Identity *i);
/* New settings that ask for no certificate end the error that there is none. */
void identity_forget_refusal(Identity *i);
/* Notes what is wrong with the assignment that counts, and logs it if it is new. */
void identity_judge_assignment(Identity *i, bool is_logged);

/* identity-publish.c */
void identity_prepare_folder(Identity *i);
/* The published files are out of date. A token that is being signed for them will be discarded. */
void identity_outputs_are_stale(Identity *i);
/* Whether files that were published are not there any more. Reads them. */
bool identity_lacks_files(const Identity *i);
/* In identity.c. Notices when they are removed. */
void identity_watch_outputs(Identity *i);
/* The published files were looked at after they became stale, and tell the plan what to do with them. */
void identity_look_at_files(Identity *i);
void identity_publish(Identity *i, const Facts *f);
void identity_publish_bare(Identity *i);
void identity_keep_files(Identity *i, OutputsState state);
void identity_warn_of_expiry(Identity *i);
/* `name`: the file or directory in the folder that the disk refused. */
void identity_fail_by_disk(Identity *i, const Folder *f, const char *name, const char *what, int r,
                           bool is_news, const char *next);
/* Clears a disk error once the record and the files are both written. */
void identity_clear_disk_error(Identity *i);
