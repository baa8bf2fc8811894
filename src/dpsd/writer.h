/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A thread that makes files durable, so that slow flash never stops the loop. It takes what has gathered, and takes
 * each slow step for all of it before the next: a journal of the filesystem is then committed a few times, not once
 * for every file. A newer text of a file overtakes one that still waits.
 */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Writer Writer;

/* Called from the loop: 0, or why the disk refused. */
typedef void (*writer_handler_t)(int r, void *userdata);

/* `directory_fd` is borrowed. */
int writer_new(sd_event *event, int directory_fd, Writer **ret);
/* Waits for all that is to be written. */
Writer *writer_free(Writer *w);
DEFINE_FREEP(Writer, writer_free)

/* Replaces a file of the directory (0600). `handler` may be NULL; when it is called, this text or a newer one is
 * durable. */
int writer_put(Writer *w, const char *file, const char *text, writer_handler_t handler, void *userdata);
/* No handler with this userdata is called any more. */
void writer_cancel(Writer *w, void *userdata);
/* Blocks until nothing of this file, or of all where it is NULL, is on its way. Calls no handler. */
void writer_wait(Writer *w, const char *file);
