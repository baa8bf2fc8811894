/* SPDX-License-Identifier: MIT */
#pragma once

/* Tests that are tables: each row, with its `promise`, is a test of its own. Include it behind cmocka.h. */

#include "basic/cleanup.h"

#define ADD_ROWS(tests, n, rows, check)                                                                      \
        for (size_t _i = 0; _i < ELEMENTSOF(rows); _i++)                                                     \
                (tests)[(n)++] = (struct CMUnitTest) {                                                       \
                        .name = (rows)[_i].promise, .test_func = (check),                                    \
                        .initial_state = (void *) &(rows)[_i]                                                \
                }

/* splitmix64: the same numbers in every run, so that what fails once fails always. */
static inline uint64_t next_random(uint64_t *seed) {
        uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}
