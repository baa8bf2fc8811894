/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * OpenSSL asks for a signature in the middle of a handshake, and a key in a chip may take long to answer. So
 * the handshake runs as a job of OpenSSL (SSL_MODE_ASYNC), which has a stack of its own: it pauses here while
 * another thread signs, and the loop goes on. The side of the key pauses, the side of the connection resumes.
 * All of this is for the thread of the loop.
 */

#include <stdbool.h>

/* Whether the caller runs in a job. If not, it must wait in some other way, or do the work itself. */
bool pause_is_possible(void);
/* Pauses until the flag is set; the job may be resumed earlier. False: the connection is given up, so the work
 * is not wanted any more, and the call must fail. */
bool pause_until(const bool *is_done);
/* To be called after the flag was set: whoever owns the connection resumes it. Afterwards nothing that the job
 * has on its stack may be used. `waker` is what pause_waker() returned in the job. */
typedef struct PauseWaker {
        int (*callback)(void *userdata);
        void *userdata;
} PauseWaker;
PauseWaker pause_waker(void);
void pause_wake(PauseWaker waker);

/* While this is on, a job that is resumed gives up. An SSL with a paused job must not be freed: it would leak
 * the job, which uses it. */
void pause_give_up(bool on);

#define PAUSE_ERROR_MAX 256

/* Why the signature failed, since OpenSSL has no place for a text of ours. To be taken after the call of
 * OpenSSL has failed. False: no signature has failed in this thread since the text was last taken. */
void pause_set_error(const char *text);
bool pause_take_error(char ret[static PAUSE_ERROR_MAX]);
