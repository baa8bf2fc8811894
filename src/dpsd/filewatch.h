/* SPDX-License-Identifier: MIT */
#pragma once

/* Tells when one of a few files is written, replaced, made, removed, or its mode or owner changed, by inotify on their
 * directories. Links are followed, and a change of where they lead is a change of the file. */

#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct FileWatch FileWatch;
typedef void (*file_watch_handler_t)(
        void *userdata); /* once for a burst of changes, half a second after it */

/* Of a directory that is not there (yet), or that we may not read, the nearest one above is watched. -ENOENT, -ENOSPC …:
 * not one can be. */
int file_watch_new(sd_event *event, char *const *paths, file_watch_handler_t handler, void *userdata,
                   FileWatch **ret);
FileWatch *file_watch_free(FileWatch *w);
DEFINE_FREEP(FileWatch, file_watch_free)
