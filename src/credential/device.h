/* SPDX-License-Identifier: MIT */
#pragma once

#include "basic/cleanup.h"

/* A token's module or a TPM. It lives as long as the program. */
typedef struct Device Device;

/* Takes the device, or waits for it. -ETIMEDOUT: another thread's call to this device does not return. So a
 * device that hangs keeps one thread for ever, and those that wait here for a while. -ENOMEM. */
int device_acquire(const char *name, Device **ret);
void device_release(Device *d);
DEFINE_FREEP(Device, device_release)
