/* SPDX-License-Identifier: MIT */
#include "basic/module.h"
#include "transport/transport-module.h"

MODULE_DEFINE(TRANSPORT_SHARED_MODULE, MODULE_SHARED, NULL);
