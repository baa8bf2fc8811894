/* SPDX-License-Identifier: MIT */

/* The verbs of dpsctl that need no daemon. It has looked at the arguments, and becomes this program. */

#include "basic/text.h"
#include "dpsctl/program.h"
#include "dpsctl/verbs.h"

static int run_verb(const Options *o, char **argv) {
        static const struct {
                const char *name;
                int (*run)(const Options *o);
        } verbs[] = {
                { "cat-config", verb_cat_config },
                { "check", verb_check },
                { "derive-key", verb_derive_key },
                { "expand", verb_expand },
                { "sas", verb_sas },
                { "verify-config", verb_verify_config },
        };

        for (size_t k = 0; k < ELEMENTSOF(verbs); k++)
                if (streq(verbs[k].name, o->verb))
                        return verbs[k].run(o);
        return complain(EXIT_USAGE, "'%s' is none of its verbs: dpsctl is to be called", o->verb);
}

int main(int argc, char **argv) {
        return program_run(argc, argv, run_verb);
}
