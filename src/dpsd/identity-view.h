/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An identity as it is shown to others: the value of each property of io.dpsd.dps1.Identity (basic/contract.h), in the
 * C type that sd-bus reads in place. Texts are valid UTF-8, never NULL, and the identity's own: a view is of use until
 * the identity changes.
 */

#include <stdint.h>

#include "basic/contract.h"

#define VIEW_TYPE_s const char *
#define VIEW_TYPE_b int /* sd-bus reads a boolean as an int */
#define VIEW_TYPE_u uint32_t
#define VIEW_TYPE_t uint64_t
#define VIEW_MEMBER(name, type, member, emits, privacy) VIEW_TYPE_##type member;

typedef struct IdentityView {
        IDENTITY_PROPERTIES(VIEW_MEMBER)
} IdentityView;
