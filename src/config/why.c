/* SPDX-License-Identifier: MIT */
#include "config/why.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int why(char **ret_why, int r, const char *format, ...) {
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(ret_why, format, arguments);
        va_end(arguments);
        if (n >= 0)
                return r;

        *ret_why = NULL;
        return -ENOMEM;
}
