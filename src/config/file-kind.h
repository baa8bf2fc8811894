/* SPDX-License-Identifier: MIT */
#pragma once

/* Recognises what people have put where a key or a certificate in text is expected. */

#include <stddef.h>

/* The size of the byte order mark of UTF-8 that the text begins with; 0: there is none. */
size_t file_mark(const char *text, size_t size);

/* What kind of file this is, and what to do. Shows nothing of the file. NULL: the kind is not known. */
const char *file_kind(const char *text, size_t size);
