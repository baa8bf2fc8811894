/* SPDX-License-Identifier: MIT */
#pragma once

#include "config/settings.h"

/* Reports what is wrong with the files of keys and certificates that the settings name, in the words of the daemon. A file
 * that is not here, or is a systemd credential, may be there where the daemon runs. -ENOMEM. */
int verify_keys(const Settings *s, const SpecifierContext *context, ConfReport *report);
