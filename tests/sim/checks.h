/* SPDX-License-Identifier: MIT */
#pragma once

/* What must hold. Others tell what happens, and the checks remember what follows from it. */

#include "dps/reply.h"
#include "dps/request.h"
#include "dpsd/identity.h"
#include "sim.h"

typedef struct Checks Checks;

/* The names of all promises, and NULL. */
extern const char *const promises[];

/* Why dpsd may do something sooner than it said. */
typedef enum Happening {
        HAPPENED_ON_MACHINE, /* network, clock, a key file: limited to three an hour */
        HAPPENED_REQUEST,    /* somebody asked, or an operator did something */
        HAPPENED_RESTART,    /* of dpsd: is no reason to come sooner */
        HAPPENED_MEMORY,     /* there was none for a moment */
        _HAPPENING_MAX,
} Happening;

Checks *checks_new(Sim *s);
Checks *checks_done(Checks *c);

/* After each event. */
void checks_step(Sim *s);
/* Something happened to identity k, or to all (IDENTITIES_MAX). */
void checks_happened(Sim *s, unsigned k, Happening what);
/* A request that has waited for a look begins now. An attempt that failed in this moment has come before it. */
void checks_looked(Sim *s, unsigned k);
/* What was configured has changed so that what bound the identity does no more. */
void checks_device_changed(Sim *s, unsigned k);

/* ---- the network ---- */
void checks_connect(Sim *s, const char *id, const char *id_scope, const char *host, const char *way);
void checks_disconnected(Sim *s, const char *id);
/* A connection over this way ended in this step; or the way was open to it. */
void checks_closed(Sim *s, const char *id, const char *way, DpsStep step);
void checks_open(Sim *s, const char *id, const char *way);
void checks_sent(Sim *s, const char *id, const DpsRequest *request);
void checks_request(Sim *s, const char *id, bool is_poll, uint64_t at_usec);
void checks_reply(Sim *s, const char *id, const DpsReply *reply);

/* ---- the disk ---- */
void checks_written(Sim *s, bool is_state, const char *folder, const char *name, const char *text);
/* A note for a later run could not be written. */
void checks_note_refused(Sim *s, const char *name);
void checks_published(Sim *s, const char *folder, const char *name);
/* Whether the disk has an assignment of identity k, as it is configured now. */
bool checks_record_is_served(const Sim *s, unsigned k);

/* ---- the daemon ---- */
void checks_starting(Sim *s);
void checks_stopped(Sim *s);
void checks_killed(Sim *s);
void checks_power_failed(Sim *s);
void checks_reloaded(Sim *s, bool ok);
/* All that was known of it is to be gone. */
void checks_forgotten(Sim *s, unsigned k);
void checks_removed(Sim *s, const Identity *i);
void checks_shown(Sim *s, const Identity *i);
void checks_logged(Sim *s, int level, const char *text);

/* ---- jobs ---- */
void checks_job_begun(Sim *s, unsigned k, uint64_t job);
void checks_job_ended(Sim *s, const Identity *i, uint64_t job, bool ok, const char *error);

void checks_job_refused(Sim *s, unsigned k);

/* It may take this long until dpsd sees that the clock is synchronised. */
#define SYNCHRONIZATION_USEC (70 * USEC_PER_SEC)
/* For a moment it is not known when something may be sent: the clock is set, and looked at now and then. */
void checks_free(Sim *s, uint64_t usec);
/* The clock was set while dpsd did not run. */
void checks_clock_set_unseen(Sim *s);
/* Memory may run out in the next steps. */
void checks_memory(Sim *s, unsigned steps);
/* It is to be another device. */
void checks_id_changed(Sim *s, unsigned k);

/* ---- the end ---- */
/* All that was disturbed is mended, and enough time has passed. */
void checks_settled(Sim *s);
/* After that, so much time has passed that each certificate was renewed. */
void checks_renewed(Sim *s);
/* One way was open for long enough, and all had to begin anew. */
void checks_one_way(Sim *s, TransportChoice open, bool has_restarted);
/* The chip of this identity hangs, and the others had time to begin anew; then it answers, and had time as well. */
void checks_hanging(Sim *s, unsigned hanging);
void checks_answering(Sim *s, unsigned k);
/* Programs blame each hub for a day from here on, and DPS names another one each time. */
void checks_blame_begins(Sim *s);
void checks_blamed(Sim *s);
/* When the first token is to be renewed: nothing else is due while all are assigned. */
uint64_t checks_idle_until(Sim *s);
/* The runtime folder cannot be written, or the state not be read: what was known may be forgotten over a restart. */
void checks_excuse_disk(Sim *s, bool on);
/* How many jobs have not ended. */
unsigned checks_n_jobs(const Sim *s);
/* In the token; the URI is borrowed (checks-token.c). */
void checks_key_made(Sim *s, const char *uri);
void checks_key_removed(Sim *s, const char *uri);
