/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The records of identities, in the folder of the state. Saving is asynchronous: saves gather while earlier ones are being
 * written, and are then written and made durable together, so that slow flash never stops the loop. A newer save of a name
 * overtakes one that still waits.
 *
 * What an identity waits for changes far more often than flash should be written. It is noted at once in memory that
 * outlives us, $RUNTIME_DIRECTORY/.waits, so that a daemon that was killed does not come back sooner than DPS has told it
 * to; and so is all that the disk refuses: a restart forgets nothing, a reboot does.
 */

#include <stdbool.h>

#include "basic/cleanup.h"
#include "basic/folder.h"
#include "basic/world.h"
#include "dpsd/record.h"

typedef struct Store Store;

/* Called from the loop, one in each turn: 0, or why the disk refused. May call the store, but not free it. */
typedef void (*store_handler_t)(int r, void *userdata);

/* Both folders are borrowed. `notes` may be NULL: then nothing is noted. */
int store_new(World *w, Folder *state, Folder *notes, Store **ret);
/* Waits until all is written. */
Store *store_free(Store *s);
DEFINE_FREEP(Store, store_free)

/* 0; -ENOENT: none; -EBADMSG: there was one, unreadable or foreign, and is now NAME.json.corrupt: `ret_why`. */
int store_load(Store *s, const char *name, Record **ret, char **ret_why);
/* We could not read it, which says nothing about the file: no memory, no file descriptor. */
bool store_could_not_read(int r);
/* Names that have a record, sorted. */
int store_list(Store *s, char ***ret);
/* `handler` may be NULL. When it is called with 0, the record, or a newer one of the same name, is durable. What fails at
 * once (no memory, a bad name) calls no handler. `is_refused` as for store_note(). */
int store_save(Store *s, const char *name, const Record *record, bool is_refused, store_handler_t handler,
               void *userdata);
/* Only for the daemon that comes after us in this boot. With `is_refused`, since the disk has not taken it, the record is
 * noted whole; without, no assignment and no history is. Saving does it too. */
void store_note(Store *s, const char *name, const Record *record, bool is_refused);
/* What was noted last: at least as new as what is saved. Negative: nothing that can be used. */
int store_recall(Store *s, const char *name, Record **ret);
/* No handler with this userdata is called any more. */
void store_cancel(Store *s, void *userdata);
/* Removes it, durably; for decommissioning. -ENOENT. */
int store_forget(Store *s, const char *name);
/* Blocks until all that was asked for is written, or refused; the handlers are called from the loop as ever. */
void store_flush(Store *s);
