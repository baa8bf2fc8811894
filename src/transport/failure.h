/* SPDX-License-Identifier: MIT */
#pragma once

/* Why a connection failed, in words for people, from the numbers of the kernel, of libmosquitto and of MQTT. */

#include "dps/error.h"

typedef struct Failure {
        DpsErrorId id;
        const char *what; /* "PEER …"; all texts here are static */
        const char *why;  /* follows `what` and a colon; NULL: nothing */
} Failure;

/* Of connecting. 0: the kernel does not say why. */
Failure failure_from_errno(int error);
/* An error of getaddrinfo(). */
Failure failure_from_resolver(int error);
/* The return code of CONNACK, not 0. The text does not contain the number. */
Failure failure_from_connack(int code);
/* MOSQ_ERR_…, where neither MQTT nor TLS says more; `lost`: the text for a connection that broke. */
Failure failure_from_library(int rc, const char *lost);

/* Of failures of several addresses, the one with the greatest weight is reported: it came nearest to an answer. */
int failure_weight(DpsErrorId id);
