/* SPDX-License-Identifier: MIT */

/*
 * dpsctl: what there is to say to dpsd, and about it. What needs no daemon but keys, TLS or the configuration is in
 * a program of its own, dpsctl-local, so that nobody loads OpenSSL for a status.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/text.h"
#include "build-config.h"
#include "dpsctl/program.h"
#include "dpsctl/verbs.h"

static int verb_help(const Options *o);
static int verb_version(const Options *o);

#define ANY UINT_MAX

static const struct {
        const char *name;
        unsigned min, max;            /* arguments */
        int (*run)(const Options *o); /* NULL: dpsctl-local's */
        const char *usage;
} verbs[] = {
        { "status", 0, ANY, verb_status, "[NAME...]" },
        { "show", 0, ANY, verb_show, "[NAME...]" },
        { "reprovision", 0, ANY, verb_reprovision, "[NAME...]" },
        { "wait", 0, ANY, verb_wait, "[NAME...]" },
        { "token", 1, 1, verb_token, "NAME" },
        { "connection", 1, 1, verb_connection, "NAME" },
        { "reload", 0, 0, verb_reload, "" },
        { "forget", 1, 1, verb_forget, "NAME" },
        { "log-level", 0, 1, verb_log_level, "[LEVEL]" },
        { "monitor", 0, 0, verb_monitor, "" },
        { "history", 0, ANY, verb_history, "[NAME...]" },
        { "check", 0, ANY, NULL, "[NAME...]" },
        { "cat-config", 0, ANY, NULL, "[NAME...]" },
        { "verify-config", 0, ANY, NULL, "[FILE...]" },
        { "expand", 1, 1, NULL, "STRING" },
        { "explain", 0, 1, verb_explain, "[ID]" },
        { "derive-key", 1, 1, NULL, "REGISTRATION_ID" },
        { "sas", 0, 0, NULL, "" },
        { "help", 0, ANY, verb_help, "" },
        { "version", 0, 0, verb_version, "" },
};

static int verb_help(const Options *o) {
        fputs("dpsctl [OPTION...] [VERB] [NAME...]     about dpsd, which provisions this box\n"
              "\n"
              "  status [NAME]         how it stands, and what comes next (the default)\n"
              "  show [NAME] [-p PROP] the same as Key=Value\n"
              "  reprovision [NAME]    ask DPS again; --wait [--timeout=90]: for its answer\n"
              "  wait [NAME]           until assigned or failed; --any, --fresh, --timeout=\n"
              "  token NAME            a SAS token for the hub; --lifetime=1h\n"
              "  connection NAME       all that a program needs to connect, as JSON\n"
              "  monitor               changes, as they come\n"
              "  history [NAME]        changes, as they came\n"
              "  reload, log-level [LEVEL], forget NAME\n"
              "Without the daemon:\n"
              "  check [NAME]          what could be in the way, and what to do; --offline\n"
              "  cat-config [NAME], verify-config [--root=DIR] [FILE], expand STRING\n"
              "  explain [ID]          what an error means: throttled, 401002\n"
              "  derive-key ID, sas    [--key=FILE]; keys only from a file or standard input\n"
              "\n"
              "  --json=pretty|short   for programs           --redact       mask ids and hub\n"
              "  -H [USER@]HOST        there, over ssh        -q             exit code only\n"
              "  --no-pager  --no-legend  --strict (status: 3 if in trouble, too)  --version\n"
              "\n"
              "Exit: 0 done, 1 failed, 2 usage, 3 not assigned, 4 no such identity, 5 not\n"
              "permitted, 6 dpsd is not running, 7 timed out, 8 rate limited.  man dpsctl\n",
              stdout);
        return EXIT_DONE;
}

static int verb_version(const Options *o) {
        puts("dpsctl " DPS_VERSION);
        return EXIT_DONE;
}

/* That of the same build or package: beside us, or where it is installed. */
static int run_local(char **argv) {
        static const char suffix[] = "-local", installed[] = DPS_PLUGIN_DIR "/dpsctl-local";
        char path[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof(suffix));

        if (n > 0) {
                memcpy(path + n, suffix, sizeof(suffix));
                execv(path, argv);
        }
        execv(installed, argv);
        return complain(EXIT_FAILED, "%s cannot be run: %s; it is of the same package", installed,
                        strerror(errno));
}

static int run_verb(const Options *o, char **argv) {
        for (size_t k = 0; k < ELEMENTSOF(verbs); k++) {
                if (!streq(verbs[k].name, o->verb))
                        continue;
                if (o->n_arguments < verbs[k].min || o->n_arguments > verbs[k].max)
                        return complain(EXIT_USAGE, "it is: dpsctl %s%s%s", verbs[k].name,
                                        isempty(verbs[k].usage) ? "" : " ", verbs[k].usage);
                return verbs[k].run ? verbs[k].run(o) : run_local(argv);
        }
        return complain(EXIT_USAGE, "'%s' is no verb; dpsctl --help shows them", o->verb);
}

int main(int argc, char **argv) {
        return program_run(argc, argv, run_verb);
}
