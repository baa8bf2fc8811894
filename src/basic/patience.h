/* SPDX-License-Identifier: MIT */
#pragma once

/* Asks whether what is at the path answers, so that it can be read. Nothing is asked unless the path is a symbolic link, or
 * something is mounted there. If so, a thread of its own reads it, and is waited for, but not for ever. As long as that thread
 * hangs, this path does not count as one that answers, nor does any below it, nor another link into the same file system.
 * -ETIMEDOUT: it does not answer; -ENOMEM, -EAGAIN: it cannot be asked. */
int path_look(const char *path);
