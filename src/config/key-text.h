/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "dps/key.h"

/*
 * A symmetric key as people have it in a file. What is unambiguous is taken: a byte order mark, white space and line
 * breaks anywhere, missing padding. -EBADMSG or -ERANGE: this is no key, and `ret_why` is a static text that says what
 * it is instead, and what to do. It shows nothing of the file. -ENOMEM.
 */
int key_from_text(const char *text, size_t size, DpsKey *ret, const char **ret_why);
