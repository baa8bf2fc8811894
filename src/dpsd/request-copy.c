/* SPDX-License-Identifier: MIT */
#include "dpsd/request-copy.h"

#include <errno.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"

/* Adds up the texts of the arguments, which are all that can be large. Our methods have numbers, texts, and arrays and
 * variants of texts. */
static int measure(sd_bus_message *m, size_t max, size_t *size) {
        const char *contents;
        uint64_t value;
        char type;
        int r;

        while ((r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
                if (contents && !streq(contents, "s"))
                        return -EBADMSG;
                if (contents) {
                        r = sd_bus_message_enter_container(m, type, contents);
                        if (r >= 0)
                                r = measure(m, max, size);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                } else if (type == 's') {
                        const char *text;

                        r = sd_bus_message_read_basic(m, type, &text);
                        *size += r >= 0 ? strlen(text) + 8 : 0;
                } else
                        r = sd_bus_message_read_basic(m, type, &value);
                if (r < 0)
                        return r;
                if (*size > max)
                        return -E2BIG;
        }
        return r;
}

int request_measure(sd_bus_message *request, size_t max, size_t *ret) {
        size_t size = 0;
        int r;

        r = sd_bus_message_rewind(request, true);
        if (r >= 0)
                r = measure(request, max, &size);
        if (r < 0)
                return r;
        *ret = size;
        return 0;
}

int request_copy(sd_bus_message *request, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint64_t cookie;
        int r;

        r = sd_bus_message_get_cookie(request, &cookie);
        if (r >= 0)
                r = sd_bus_message_new_method_call(
                        sd_bus_message_get_bus(request), &m, NULL, sd_bus_message_get_path(request),
                        sd_bus_message_get_interface(request), sd_bus_message_get_member(request));
        if (r >= 0)
                r = sd_bus_message_rewind(request, true);
        if (r >= 0)
                r = sd_bus_message_copy(m, request, true);
        if (r >= 0)
                r = sd_bus_message_set_sender(m, sd_bus_message_get_sender(request));
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(m, sd_bus_message_get_expect_reply(request));
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(
                        m, sd_bus_message_get_allow_interactive_authorization(request));
        if (r >= 0)
                r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = sd_bus_message_seal(m, cookie, 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}
