/* SPDX-License-Identifier: MIT */
#include "basic/pause.h"

#include <openssl/async.h>
#include <openssl/err.h>

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

/* A number that no other part of the process uses for its errors. */
static int error_library(void) {
        static int library;

        if (library == 0)
                library = ERR_get_next_error_library();
        return library;
}

void pause_set_error(const char *text) {
        ERR_raise_data(error_library(), 1, "%s", text);
}

const char *pause_error(void) {
        const char *text = "";
        int flags = 0;
        unsigned long error = ERR_peek_error_all(NULL, NULL, NULL, &text, &flags);

        return error && ERR_GET_LIB(error) == error_library() && (flags & ERR_TXT_STRING) ? text : NULL;
}
