/* SPDX-License-Identifier: MIT */
#include "basic/why.h"

#include <errno.h>

#include "basic/text.h"

int why(char **ret_why, int r, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        *ret_why = text_vformat(format, arguments);
        va_end(arguments);
        return *ret_why ? r : -ENOMEM;
}
