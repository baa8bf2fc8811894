/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory. Saving is asynchronous: one writer thread takes what has gathered, writes it, and makes it
 * durable together, so that slow flash never stops the loop. A newer save of a name overtakes one that still waits.
 *
 * What an identity waits for changes far more often than flash should be written. It is noted at once in memory that
 * outlives us, $RUNTIME_DIRECTORY/.waits, so that who was killed does not come back sooner than DPS has told it to;
 * and so is all that the disk refuses: a restart forgets nothing, a reboot does.
 */

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"
#include "dpsd/state.h"

typedef struct Store Store;

/* Called from the loop: 0, or why the disk refused. */
typedef void (*store_handler_t)(int r, void *userdata);

/* Makes and locks the directory. -EBUSY: another process has it, `ret_pid` says which. A directory that cannot be
 * written is no failure: saving is. Without `runtime`, or where nothing can be written there, nothing is noted. */
int store_new(sd_event *event, const char *path, const char *runtime, Store **ret, pid_t *ret_pid);
/* Waits until all is written. */
Store *store_free(Store *s);
DEFINE_FREEP(Store, store_free)
int store_directory_fd(const Store *s);

/* 0; -ENOENT: none; -EBADMSG: there was one, unreadable or foreign, and is now NAME.json.corrupt: `ret_why`. */
int store_load(Store *s, const char *name, State **ret, char **ret_why);
/* A failure that is ours, and says nothing about the file: no memory, no file descriptor. */
bool store_is_our_trouble(int r);
/* Names that have a state file, sorted. */
int store_list(Store *s, char ***ret);
/* `handler` may be NULL. When it is called with 0 the state, or a newer one of the same name, is durable. What fails at
 * once, such as where there still is no directory, calls no handler. */
int store_save(Store *s, const char *name, const State *state, store_handler_t handler, void *userdata);
/* Only for who comes after us in this boot: what the disk has refused, and of the rest no assignment and no history.
 * Saving does it too. */
void store_note(Store *s, const char *name, const State *state);
/* What was noted last: at least as new as what is saved. Negative: nothing that can be used. */
int store_recall(Store *s, const char *name, State **ret);
/* No handler with this userdata is called any more. */
void store_cancel(Store *s, void *userdata);
/* Removes it, durably; for decommissioning. -ENOENT. */
int store_forget(Store *s, const char *name);
/* Blocks until all that was asked for is written, or refused; the handlers are called from the loop as ever. */
void store_flush(Store *s);
