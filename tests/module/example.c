/* SPDX-License-Identifier: MIT */
/*
 * A module in the way of the real ones: it calls a function of src/basic/, which the program has, and one of
 * libdps. With EXAMPLE_BUILD_ID it is of another build, and calls what no program of this build has.
 */
#include "example.h"

#include <errno.h>

#include "basic/cleanup.h"
#include "basic/module.h"
#include "basic/text.h"
#include "dps/sas.h"

#ifdef EXAMPLE_BUILD_ID
#undef DPS_BUILD_ID
#define DPS_BUILD_ID EXAMPLE_BUILD_ID
void function_of_another_build(void);
#else
#define function_of_another_build() ((void) 0)
#endif

static int example_encode(const char *text, char **ret) {
        _cleanup_(freep) char *presentable = text_for_people(text, strlen(text), 100);

        function_of_another_build();
        if (!presentable)
                return -ENOMEM;
        return dps_percent_encode(presentable, ret);
}

static const ExampleClass example_class = { .encode = example_encode };

MODULE_DEFINE("example", "example", &example_class);
