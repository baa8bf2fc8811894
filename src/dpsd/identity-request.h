/* SPDX-License-Identifier: MIT */
#pragma once

/* Requests of people and programs on this machine, and reports of programs about the hub. Each kind is
 * rate-limited. */

#include "basic/times.h"
#include "dps/hub.h"
#include "dpsd/identity.h"

#define REQUEST_INTERVAL_USEC USEC_PER_MINUTE

/* Asks DPS again, or joins the attempt in flight. Returns the id of the job; the observer is told when it
 * ends. -EBUSY: too many requests, `ret_retry_usec` says how long to wait. -EAGAIN: something on this machine
 * is wrong; it is being looked at again, and identity_wait_for_look() tells when that is done. -EINVAL:
 * there is no usable configuration. -ENOKEY: there is no key. */
int identity_reprovision(Identity *i, bool has_looked, uint64_t *ret_job, uint64_t *ret_retry_usec);

/* connection.json as it is now, with a valid token, or the token alone. The handler gets the answer and may
 * be called before the function returns: r is 0 with the text (which the handler erases and frees), or
 * -ENOKEY or -ENODATA with the error. If the function returns a negative value, the handler is not called.
 * -ENODATA: not assigned. -ETIME: the clock cannot be trusted. -ENOTSUP: X.509 has no tokens. */
typedef void (*identity_text_handler_t)(int r, char *text, uint64_t expires_at_usec, const DpsError *error,
                                        void *userdata);
int identity_connection(Identity *i, identity_text_handler_t handler, void *userdata);
/* `lifetime_sec`: 0 is the default; at most TokenLifetime=. */
int identity_token(Identity *i, uint64_t lifetime_sec, identity_text_handler_t handler, void *userdata);

/* The hub refused a program that used `generation`. An outdated generation changes nothing ("already moved"):
 * -ESTALE. */
int identity_report_hub_failure(Identity *i, uint64_t generation, DpsHubFailure kind, uint32_t code,
                                const char *detail, bool *ret_registering,
                                uint64_t *ret_next_attempt_at_usec);
int identity_report_hub_connected(Identity *i, uint64_t generation);
