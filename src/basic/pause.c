/* SPDX-License-Identifier: MIT */
#include "basic/pause.h"

#include <openssl/async.h>
#include <stdio.h>
#include <string.h>

static bool is_given_up;

bool pause_is_possible(void) {
        return ASYNC_get_current_job();
}

bool pause_until(const bool *is_done) {
        while (!*is_done)
                if (is_given_up || ASYNC_pause_job() != 1)
                        return false;
        return true;
}

PauseWaker pause_waker(void) {
        PauseWaker waker = { 0 };

        (void) ASYNC_WAIT_CTX_get_callback(ASYNC_get_wait_ctx(ASYNC_get_current_job()), &waker.callback,
                                           &waker.userdata);
        return waker;
}

void pause_wake(PauseWaker waker) {
        if (waker.callback)
                (void) waker.callback(waker.userdata);
}

void pause_give_up(bool on) {
        is_given_up = on;
}

/* OpenSSL calls us for a signature, and its caller asks afterwards, in the same thread. */
static __thread char error[PAUSE_ERROR_MAX];

void pause_set_error(const char *text) {
        (void) snprintf(error, sizeof(error), "%s", text);
}

bool pause_take_error(char ret[static PAUSE_ERROR_MAX]) {
        if (!error[0])
                return false;
        memcpy(ret, error, sizeof(error));
        error[0] = 0;
        return true;
}
