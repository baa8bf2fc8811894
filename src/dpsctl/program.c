/* SPDX-License-Identifier: MIT */
#include "dpsctl/program.h"

#include <stdio.h>

#include "dpsctl/redact.h"

int program_run(int argc, char **argv, int (*run_verb)(const Options *o, char **argv)) {
        Options options;
        int code;

        style_init();
        code = options_parse(argc, argv, &options);
        if (code != 0)
                return code;
        if (options.redact)
                redact_begin();
        code = run_verb(&options, argv);
        options_done(&options);
        redact_forget();

        /* A full disk is no success. */
        if (fflush(stdout) != 0 || ferror(stdout))
                code = complain(code ?: EXIT_FAILED, "standard output cannot be written");
        return code;
}
