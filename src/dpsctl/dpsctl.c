/* SPDX-License-Identifier: MIT */

/* dpsctl: the table of verbs. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/text.h"
#include "build-config.h"
#include "dpsctl/redact.h"
#include "dpsctl/say.h"
#include "dpsctl/verbs.h"

#define ANY UINT_MAX

typedef struct Verb {
        const char *name;             /* NULL: the end of the table */
        unsigned min, max;            /* arguments */
        int (*run)(const Options *o); /* returns the exit code */
        const char *usage;
} Verb;

static int verb_help(const Options *o) {
        fputs("dpsctl [OPTION...] [VERB] [NAME...]    shows and controls dpsd (see man dpsd)\n"
              "  status [NAME]         state of each identity, and what comes next (default)\n"
              "  show [NAME] [-p PROP] the properties as Key=Value\n"
              "  reprovision [NAME]    ask DPS again; --wait waits for the answer, --timeout=90\n"
              "  wait [NAME]           until assigned or failed; --any, --fresh, --timeout=\n"
              "  token NAME            a SAS token for the hub; --lifetime=1h\n"
              "  connection NAME       everything a program needs to connect, as JSON\n"
              "  enrollment [NAME]     what DPS has to be told to enroll this device\n"
              "  monitor, metrics      follow changes; for Prometheus; --follow=FILE\n"
              "  history [NAME], reload, log-level [LEVEL], forget NAME\n"
              "  report-hub-failure NAME KIND [CODE], report-hub-connected NAME\n"
              "These work without the daemon:\n"
              "  check [NAME]          look for problems, and say what to do; --offline; with\n"
              "                        --hub-login also log in at the hub, displacing a client\n"
              "  cat-config [NAME], verify-config [--root=DIR] [FILE], expand STRING\n"
              "  explain [ID]          what an error means; import-config FILE: from aziot's\n"
              "  derive-key ID, sas    make a key or token; import-key NAME [FILE] encrypts one\n"
              "Options:\n"
              "  --json=pretty|short   output for programs    --redact       mask ids and hub\n"
              "  -H [USER@]HOST        that host, over ssh    -q, --quiet    less output\n"
              "  --strict              status: exit 3 also if an identity has an error\n"
              "  --no-pager, --no-legend, --help, --version\n"
              "Exit codes: 0 done, 1 failed, 2 usage, 3 not assigned, 4 no such identity,\n"
              "5 not permitted, 6 dpsd is not running, 7 timed out, 8 rate limited. man dpsctl\n",
              stdout);
        return EXIT_DONE;
}

static char **all_arguments; /* of main() */

/* It needs Python, so it is a program of its own, and reads the same command line. $DPS_LIBEXEC overrides where it is, so that
 * it can be tested before it is installed. */
static int verb_import_config(const Options *o) {
        _cleanup_(freep) char *path =
                text_format("%s/dpsctl-import-config", secure_getenv("DPS_LIBEXEC") ?: LIBEXEC_DIR);

        if (!path)
                return fail_memory();
        execv(path, all_arguments);
        return fail_with(EXIT_FAILED,
                         "%s cannot be run: %s; it is in the package dps-import, and needs Python 3.11", path,
                         strerror(errno));
}

static int verb_version(const Options *o) {
        puts("dpsctl " DPS_VERSION);
        return EXIT_DONE;
}

static const Verb verbs[] = {
        { "status", 0, ANY, verb_status, " [NAME...]" },
        { "show", 0, ANY, verb_show, " [NAME...]" },
        { "reprovision", 0, ANY, verb_reprovision, " [NAME...]" },
        { "wait", 0, ANY, verb_wait, " [NAME...]" },
        { "enrollment", 0, ANY, verb_enrollment, " [NAME...]" },
        { "token", 1, 1, verb_token, " NAME" },
        { "connection", 1, 1, verb_connection, " NAME" },
        { "report-hub-failure", 2, 3, verb_report_hub_failure,
          " NAME auth|not-found|throttled|server|network [CODE]" },
        { "report-hub-connected", 1, 1, verb_report_hub_connected, " NAME" },
        { "reload", 0, 0, verb_reload, "" },
        { "forget", 1, 1, verb_forget, " NAME" },
        { "log-level", 0, 1, verb_log_level, " [LEVEL]" },
        { "metrics", 0, 0, verb_metrics, "" },
        { "monitor", 0, 0, verb_monitor, "" },
        { "history", 0, ANY, verb_history, " [NAME...]" },
        { "check", 0, ANY, verb_check, " [NAME...]" },
        { "cat-config", 0, ANY, verb_cat_config, " [NAME...]" },
        { "verify-config", 0, ANY, verb_verify_config, " [FILE...]" },
        { "expand", 1, 1, verb_expand, " STRING" },
        { "explain", 0, 1, verb_explain, " [ID]" },
        { "derive-key", 1, 1, verb_derive_key, " REGISTRATION_ID" },
        { "sas", 0, 0, verb_sas, "" },
        { "import-key", 1, 2, verb_import_key, " NAME [FILE|-]" },
        { "import-config", 1, 1, verb_import_config, " FILE" },
        { "help", 0, ANY, verb_help, "" },
        { "version", 0, 0, verb_version, "" },
        { 0 },
};

static int refuse_verb(const char *name) {
        for (const Verb *v = verbs; v->name; v++)
                if (text_is_near(name, v->name))
                        return fail_with(EXIT_USAGE, "there is no verb '%s', did you mean %s?", name,
                                         v->name);
        return fail_with(EXIT_USAGE, "there is no verb '%s'; dpsctl --help lists them", name);
}

static int run_verb(const Options *o) {
        for (const Verb *v = verbs; v->name; v++) {
                if (!streq(v->name, o->verb))
                        continue;
                if (o->n_arguments < v->min || o->n_arguments > v->max)
                        return fail_with(EXIT_USAGE, "usage: dpsctl %s%s", v->name, v->usage);
                return v->run(o);
        }
        return refuse_verb(o->verb);
}

int main(int argc, char **argv) {
        Options options;
        int code;

        all_arguments = argv;
        style_init();
        code = options_parse(argc, argv, &options);
        if (code != 0)
                return code;
        if (options.redact)
                redact_begin();
        code = run_verb(&options);
        options_done(&options);
        redact_forget();

        /* Output that is lost, on a full disk for example, is a failure. */
        if (fflush(stdout) != 0 || ferror(stdout))
                code = fail_with(code ?: EXIT_FAILED, "standard output cannot be written");
        return code;
}
