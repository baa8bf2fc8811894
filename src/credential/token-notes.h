/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which keys were made in tokens for issued certificates. Each has a random number, which is in its label and
 * its id, and a note in the directory of the records (token_note_is_of() of issued.h). The note is on disk
 * before the key is made, so that a key is known whatever happens; it is removed after the key. A key that no
 * pair's file names is not in use: it never was, or is no longer.
 */

#include "credential/hardware-key.h"

/* The URI for a new key: that of Key= in [Issuance] with the number added to label and id. On failure `error` is set. */
int token_uri_choose(const Settings *s, char **ret, DpsError *error);
/* For the key with this URI. On failure `error` is set. */
int token_note_write(const HardwareKey *k, const IssuancePlace *place, DpsError *error);
/* Removes the keys that are not used any more, and their notes. `error` is set on failure: if the disk refuses, or if so
 * many keys cannot be removed that no more should be made. */
int token_notes_remove_old(Settings *s, const IssuancePlace *place, DpsError *error);
