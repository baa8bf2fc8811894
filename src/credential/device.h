/* SPDX-License-Identifier: MIT */
#pragma once

#include "basic/cleanup.h"

/* A token's module or a TPM. It lives as long as the program. */
typedef struct Device Device;

/* Takes the device, or waits for it. -ETIMEDOUT: a call that another thread has made there does not return.
 * So a device that hangs takes one thread, and for a while those that wait here. -ENOMEM. */
int device_acquire(const char *name, Device **ret);
void device_release(Device *d);
DEFINE_FREEP(Device, device_release)
