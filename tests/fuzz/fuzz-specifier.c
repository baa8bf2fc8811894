/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "config/specifier.h"
#include "tree.h"

static void make_machine(void) {
        static const char *const directories[] = { "etc",
                                                   "proc",
                                                   "proc/device-tree",
                                                   "sys",
                                                   "sys/class",
                                                   "sys/class/net",
                                                   "sys/class/net/eth0",
                                                   "sys/class/dmi",
                                                   "sys/class/dmi/id",
                                                   "credentials" };
        static const struct {
                const char *name, *text;
        } files[] = {
                { "etc/machine-id", "4c4fe8e0e3b04b7fa2e7cbe8a1b3e8f4\n" },
                { "etc/hostname", "gw-1\n" },
                { "sys/class/net/eth0/address", "00:11:22:33:44:55\n" },
                { "sys/class/dmi/id/board_serial", "To be filled by O.E.M.\n" },
                { "credentials/serial", "%{hostname}\n" },
        };

        tree_make(directories, ELEMENTSOF(directories));
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                tree_write(files[i].name, files[i].text, strlen(files[i].text));
        tree_write("proc/device-tree/serial-number", "SN 0042", sizeof("SN 0042"));
}

/* Input: a text that may hold specifiers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char *credentials;
        _cleanup_(freep) char *text = fuzz_text(data, size), *expanded = NULL;
        _cleanup_(freep) char *why_not = NULL, *why_bad = NULL;
        SpecifierContext context = { .root = fuzz_tree };
        int checked, r;

        if (!credentials) {
                make_machine();
                credentials = tree_path("credentials");
        }
        context.credentials = credentials;

        checked = specifier_check(text, &why_bad);
        r = specifier_expand(text, &context, &expanded, &why_not);
        PROMISE(checked == 0 || checked == -EINVAL);
        PROMISE((checked == -EINVAL) == (r == -EINVAL));
        PROMISE((checked < 0) == !!why_bad);
        if (r < 0) {
                PROMISE(r == -EINVAL || r == -EAGAIN || r == -ENOENT);
                PROMISE(why_not && *why_not && !expanded);
                return 0;
        }

        PROMISE(expanded && !why_not);
        if (!strchr(text, '%'))
                PROMISE(streq(expanded, text));
        return 0;
}
