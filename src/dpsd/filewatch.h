/* SPDX-License-Identifier: MIT */
#pragma once

/* Tells when one of a few files is written, replaced, made or removed, by inotify on their directories. */

#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct FileWatch FileWatch;
typedef void (*file_watch_handler_t)(
        void *userdata); /* once for a burst of changes, half a second after it */

/* Directories that are not there are left out; -ENOENT if that is all of them. */
int file_watch_new(sd_event *event, char *const *paths, file_watch_handler_t handler, void *userdata,
                   FileWatch **ret);
FileWatch *file_watch_free(FileWatch *w);
DEFINE_FREEP(FileWatch, file_watch_free)
