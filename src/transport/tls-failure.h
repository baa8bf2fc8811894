/* SPDX-License-Identifier: MIT */
#pragma once

/* Why a TLS handshake failed, and how that is told to people. Part of tls.h, which says what each error means. */

#include <openssl/x509.h>
#include <stdbool.h>

#include "dps/error.h"

typedef struct TlsFailure {
        int verify_error;    /* X509_V_OK: the server's certificate was not refused */
        X509 *certificate;   /* the one that verify_error is about, a reference */
        X509 *leaf;          /* a reference */
        int alert;           /* the fatal one that was received; -1: none */
        unsigned long error; /* of OpenSSL's queue; 0: none */
        bool is_flooded;     /* it sent more than a handshake, or an attempt, can need */
} TlsFailure;

/* `host`: the name that was asked for; `has_certificate`: we have one to show. DPS_ERROR_NONE: nothing failed. */
void tls_failure_tell(const TlsFailure *f, const char *host, bool has_certificate, DpsError *ret);
/* An error of OpenSSL's queue in words; static, or valid until the next strerror(). */
const char *tls_reason(unsigned long error);
