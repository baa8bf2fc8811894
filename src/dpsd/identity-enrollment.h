/* SPDX-License-Identifier: MIT */
#pragma once

/* What the service side needs to know to enroll this device. The network is not needed, nor an assignment. */

#include "dpsd/identity-request.h"

/* A JSON object, whose members are listed in io.dpsd.dps1(5). It holds no secret. The handler gets the text, or
 * -ENOKEY or -EINVAL with the error, and may be called before the function returns. If the function returns a
 * negative value, the handler is not called. -EINVAL: there is no configuration. */
int identity_enrollment(Identity *i, identity_text_handler_t handler, void *userdata);
