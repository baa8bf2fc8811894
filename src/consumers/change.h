/* SPDX-License-Identifier: MIT */
#pragma once

/* What has changed in the files of an identity since its units were last told: the connection, or only its
 * credential. */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"

typedef enum Change {
        CHANGE_NONE,
        CHANGE_CREDENTIAL, /* a token or a certificate: programs that read it anew need not restart */
        CHANGE_CONNECTION, /* anything else that programs read of connection.json or hub.env */
} Change;

/* What the files said, as digests: secrets are not kept. */
#define DIGEST_TEXT_MAX 65
typedef struct Digests {
        char connection[DIGEST_TEXT_MAX], credential[DIGEST_TEXT_MAX];
} Digests;

/* Reads the files in the directory of an identity, whose owner may have put anything there.
 * `ret_changed_at_usec` is when the last of them was written, by CLOCK_REALTIME. -ENOENT: there is no
 * assignment. -EBADMSG: a file is not as dpsd writes it. */
int digests_read(int dir_fd, Digests *ret, uint64_t *ret_changed_at_usec);
/* `old` NULL: the units have not been told since the system started. */
Change digests_compare(const Digests *old, const Digests *now);

/* As a line of text, and back. -EBADMSG. */
#define DIGESTS_TEXT_MAX (2 * DIGEST_TEXT_MAX + 1)
void digests_to_text(const Digests *d, char buffer[static DIGESTS_TEXT_MAX]);
int digests_from_text(const char *text, Digests *ret);

/* A start of a unit, by both clocks: that of the day may be set in between. */
typedef struct UnitStart {
        uint64_t realtime_usec, monotonic_usec;
} UnitStart;
/* Whether a unit began to start before the files were written, so that it may not have read them. */
bool unit_is_older(const UnitStart *start, uint64_t changed_at_usec, uint64_t now_monotonic_usec);
