/* SPDX-License-Identifier: MIT */
#include "dpsctl/program.h"

#include <stdio.h>

#include "basic/text.h"
#include "dpsctl/redact.h"
#include "dpsctl/say.h"

static int refuse_verb(const char *name, const Verb *verbs) {
        for (const Verb *v = verbs; v->name; v++)
                if (text_is_near(name, v->name))
                        return fail_with(EXIT_USAGE, "there is no verb '%s', did you mean %s?", name,
                                         v->name);
        return fail_with(EXIT_USAGE, "there is no verb '%s'; dpsctl --help lists them", name);
}

static int run_verb(const Options *o, const Verb *verbs) {
        for (const Verb *v = verbs; v->name; v++) {
                if (!streq(v->name, o->verb))
                        continue;
                if (o->n_arguments < v->min || o->n_arguments > v->max)
                        return fail_with(EXIT_USAGE, "usage: dpsctl %s%s", v->name, v->usage);
                return v->run(o);
        }
        return refuse_verb(o->verb, verbs);
}

int program_main(int argc, char **argv, const Verb *verbs) {
        Options options;
        int code;

        style_init();
        code = options_parse(argc, argv, &options);
        if (code != 0)
                return code;
        if (options.redact)
                redact_begin();
        code = run_verb(&options, verbs);
        options_done(&options);
        redact_forget();

        /* Output that is lost, on a full disk for example, is a failure. */
        if (fflush(stdout) != 0 || ferror(stdout))
                code = fail_with(code ?: EXIT_FAILED, "standard output cannot be written");
        return code;
}
