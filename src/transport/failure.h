/* SPDX-License-Identifier: MIT */
#pragma once

/* What numbers of the kernel, of libmosquitto and of MQTT mean for people: what a peer did, or did not. */

#include "dps/error.h"

typedef struct Failure {
        DpsErrorId id;
        const char *what; /* "PEER …"; static, as all texts here */
        const char *why;  /* to be told behind it; NULL: nothing */
} Failure;

/* Of connecting. 0: the kernel does not say why. */
Failure failure_from_errno(int error);
/* An error of getaddrinfo(). */
Failure failure_from_resolver(int error);
/* The return code of CONNACK, not 0; the number itself is the caller's to tell. */
Failure failure_from_connack(int code);
/* MOSQ_ERR_…, where nobody knows better; `lost`: what to say of a connection that broke. */
Failure failure_from_library(int rc, const char *lost);

/* Of failures of several addresses, the one that came nearest to an answer tells most. */
int failure_weight(DpsErrorId id);
