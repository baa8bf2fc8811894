/* SPDX-License-Identifier: MIT */
#pragma once

/* What people's files are, where a key or a certificate in text is looked for. */

#include <stddef.h>

/* The size of the byte order mark of UTF-8 that the text begins with; 0: there is none. */
size_t file_mark(const char *text, size_t size);

/* What the file is, and what to do; it shows nothing of the file. NULL: nothing that is known. */
const char *file_kind(const char *text, size_t size);
