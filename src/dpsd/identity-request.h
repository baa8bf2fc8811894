/* SPDX-License-Identifier: MIT */
#pragma once

/* What somebody on the machine asks of an identity, and what programs tell of the hub. Every trigger has its limit. */

#include "dps/hub.h"
#include "dpsd/identity.h"

/* Asks DPS again; an attempt in flight is joined. Gives the id of the job that the observer is told of when it ends.
 * -EBUSY: too often, `ret_retry_usec` says how long to wait. -EAGAIN: something on this machine is wrong; it is being looked
 * at anew, and identity_with_credential() tells when that is done. -EINVAL: no usable configuration. -ENOKEY: no key. */
int identity_reprovision(Identity *i, bool has_looked, uint64_t *ret_job, uint64_t *ret_retry_usec);

/* connection.json as of now, with a valid token, or the token alone. The answer is given to the handler, perhaps from
 * within: r 0 and the text (which the handler erases and frees), -ENOKEY and why. Negative: the handler is not called:
 * -ENODATA: not assigned; -ETIME: the clock cannot be trusted; -ENOTSUP: X.509 has no tokens. */
typedef void (*identity_text_handler_t)(int r, char *text, uint64_t expires_at_usec, const DpsError *error,
                                        void *userdata);
int identity_connection(Identity *i, identity_text_handler_t handler, void *userdata);
/* `lifetime_sec` 0: the default; at most TokenLifetime=. */
int identity_token(Identity *i, uint64_t lifetime_sec, identity_text_handler_t handler, void *userdata);

/* The hub refused a program that used `generation`. A stale one changes nothing ("already moved"): -ESTALE. */
int identity_report_hub_failure(Identity *i, uint64_t generation, DpsHubFailure kind, uint32_t code,
                                const char *detail, bool *ret_registering,
                                uint64_t *ret_next_attempt_at_usec);
int identity_report_hub_connected(Identity *i, uint64_t generation);
