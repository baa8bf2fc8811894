/* SPDX-License-Identifier: MIT */
#include "dpsd/kept-error.h"

#include <stdlib.h>

static const DpsError without_memory = { .id = DPS_ERROR_MEMORY,
                                         .step = DPS_STEP_CONFIG,
                                         .message = "out of memory for the error message" };

void kept_error_clear(DpsError **kept) {
        if (*kept != &without_memory)
                free(*kept);
        *kept = NULL;
}

void kept_error_set(DpsError **kept, const DpsError *error) {
        DpsError *copy = NULL;

        if (error->id != DPS_ERROR_NONE) {
                copy = malloc(sizeof(*copy));
                if (copy)
                        *copy = *error;
                else
                        copy = (DpsError *) &without_memory; /* nobody writes to a kept error */
        }
        kept_error_clear(kept);
        *kept = copy;
}

const DpsError *kept_error(const DpsError *kept) {
        static const DpsError none = { .id = DPS_ERROR_NONE };

        return kept ?: &none;
}
