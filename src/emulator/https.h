/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The REST API of DPS on the service that the MQTT front has. It runs in a thread of its own (libmicrohttpd);
 * a lock, which it shares with the MQTT front, serialises all use of service and journal.
 */

#include <pthread.h>

#include "build-config.h"
#include "emulator/journal.h"
#include "emulator/service.h"

typedef struct HttpsFront HttpsFront;

/* All of it must outlive the front. */
typedef struct HttpsOptions {
        int listen_fd; /* the front closes it */
        const char *certificate_file, *key_file;
        Service *service;
        Journal *journal;
        pthread_mutex_t *lock;
} HttpsOptions;

#if DPS_HTTPS_FRONT
/* Begins to serve. -EBADMSG: `error` says what is wrong; other failures have no text. */
int https_start(const HttpsOptions *options, HttpsFront **ret, ErrorText *error);
/* To be called often, without the lock: answers what was delayed, and closes what is too slow. */
void https_tick(HttpsFront *f);
/* Without the lock. NULL is allowed. */
HttpsFront *https_stop(HttpsFront *f);
#else
static inline int https_start(const HttpsOptions *options, HttpsFront **ret, ErrorText *error) {
        return error_set(error, "this build has no HTTPS front");
}
static inline void https_tick(HttpsFront *f) {
}
static inline HttpsFront *https_stop(HttpsFront *f) {
        return f;
}
#endif
