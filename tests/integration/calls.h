/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists a call that is about to be made, and returns when the test lets it go on; calls.c explains it. */
void call_begins(const char *name, const char *argument);
/* The same for a call on an open file, by its path. */
void call_on_file_begins(const char *name, int fd);
