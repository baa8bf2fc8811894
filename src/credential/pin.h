/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Pin=. A token is locked after a few wrong PINs, and then somebody has to travel there. So a PIN that was
 * refused is not tried again, whichever identity has it, until its file is written anew or the daemon is
 * restarted.
 */

#include <stdbool.h>

#include "config/settings.h"

typedef struct Pin {
        char *text; /* NULL: there is no Pin= */
        size_t size;
        uint64_t changed_usec; /* when its file was */
} Pin;

/* Blocks. `ret_why` is as for secret_read(). */
int pin_read(const Settings *s, Pin *ret, char **ret_why);
void pin_done(Pin *p);

/* `device`: the token, or the key in the TPM. */
bool pin_was_refused(const Pin *p, const char *device);
void pin_note_refused(const Pin *p, const char *device);
