/* SPDX-License-Identifier: MIT */
#pragma once

/* Notices when one of a few files is written, replaced, created or removed, or when its mode or owner
 * changes. It uses inotify on the directories of the files. Links are followed; if a link leads elsewhere,
 * the file counts as changed. The worker looks at the files, as a file system may hang. */

#include <systemd/sd-event.h>

#include "basic/world.h"

typedef struct FileWatch FileWatch;
typedef void (*file_watch_handler_t)(
        void *userdata); /* called once for a burst of changes, half a second after it */

/* If a directory does not exist (yet), or we may not read it, the nearest ancestor is watched. What cannot be watched is
 * looked at every minute, with a warning for the first. Changes count from the first look on, which begins before any other
 * work of its queue that is begun later. -ENOENT: there are no paths. */
int file_watch_new(sd_event *event, World *world, char *const *paths, file_watch_handler_t handler,
                   void *userdata, FileWatch **ret);
/* The same for directories of ours: when one of them is replaced, created or removed, with what was in it. Other files beside them
 * do not wake us. */
int file_watch_new_directories(sd_event *event, World *world, char *const *paths,
                               file_watch_handler_t handler, void *userdata, FileWatch **ret);
FileWatch *file_watch_free(FileWatch *w);
DEFINE_FREEP(FileWatch, file_watch_free)
