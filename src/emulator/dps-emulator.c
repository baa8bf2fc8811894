/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/text.h"
#include "build-config.h"
#include "dps/request.h"
#include "emulator/certificates.h"
#include "emulator/ctl.h"
#include "emulator/launcher.h"
#include "emulator/statedir.h"

#define EXIT_USAGE 2

static const char help[] =
        "dps-emulator [OPTION…]\n"
        "dps-emulator ctl [--state=DIR] COMMAND…\n"
        "dps-emulator certificate [--state=DIR] ID [--out=DIR]\n"
        "\n"
        "An offline Azure Device Provisioning Service, for tests and demonstrations.\n"
        "\n"
        "  --enrollments=FILE  Enrollments; the default is those of the last run, or examples at first\n"
        "  --listen=ADDRESS    Numeric address to listen on (127.0.0.1)\n"
        "  --host=NAME         Name or address in the server's certificate; may be given several times\n"
        "  --port=PORT         Port for MQTT over TLS (8883); 0 chooses a free one\n"
        "  --https-port=PORT   Port for HTTPS (443); 0 chooses a free one\n"
        "  --id-scope=SCOPE    ID scope, instead of the one in FILE\n"
        "  --state=DIR         Directory for certificates, enrollments and the log\n"
        "  --out=DIR           Directory for ID.pem and ID.key (.)\n"
        "  -h, --help          Show this text\n"
        "      --version       Show the version\n"
        "\n"
        "Commands of ctl:\n"
        "  enroll FILE|-         Add or replace enrollments\n"
        "  set ID|'*' KEY=VALUE… Change an enrollment or a group, or with * the service\n"
        "  remove ID             Remove an enrollment\n"
        "  script ID|'*' ANSWER… Dictate the next answers; --clear removes them\n"
        "  drop [ID]             Close sessions\n"
        "  list                  Show everything, as JSON\n"
        "\n"
        "dps-emulator(1) has the details.\n";

typedef struct Arguments {
        LaunchOptions launch;
        const char *state, *out;
        bool done; /* --help or --version was given and is answered */
} Arguments;

static int parse_port(const char *option, const char *text, uint16_t *ret) {
        uint64_t port;

        if (parse_u64(text, &port) < 0 || port > UINT16_MAX) {
                (void) fprintf(stderr, "dps-emulator: %s=%s: must be a number from 0 to 65535\n", option,
                               text);
                return -EXIT_USAGE;
        }
        *ret = (uint16_t) port;
        return 0;
}

static int parse_id_scope(const char *text, const char **ret) {
        if (!dps_id_scope_is_valid(text)) {
                (void) fprintf(stderr, "dps-emulator: --id-scope=%s: is not an ID scope\n", text);
                return -EXIT_USAGE;
        }
        *ret = text;
        return 0;
}

enum {
        OPTION_ENROLLMENTS = 256,
        OPTION_LISTEN,
        OPTION_HOST,
        OPTION_PORT,
        OPTION_HTTPS_PORT,
        OPTION_ID_SCOPE,
        OPTION_STATE,
        OPTION_OUT,
        OPTION_VERSION,
};

static const struct option options[] = {
        { "enrollments", required_argument, NULL, OPTION_ENROLLMENTS },
        { "listen", required_argument, NULL, OPTION_LISTEN },
        { "host", required_argument, NULL, OPTION_HOST },
        { "port", required_argument, NULL, OPTION_PORT },
        { "https-port", required_argument, NULL, OPTION_HTTPS_PORT },
        { "id-scope", required_argument, NULL, OPTION_ID_SCOPE },
        { "state", required_argument, NULL, OPTION_STATE },
        { "out", required_argument, NULL, OPTION_OUT },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, OPTION_VERSION },
        { 0 },
};

static int take_option(int option, Arguments *a) {
        switch (option) {
        case OPTION_ENROLLMENTS:
                a->launch.enrollments = optarg;
                return 0;
        case OPTION_LISTEN:
                a->launch.listen = optarg;
                return 0;
        case OPTION_HOST:
                return strv_append(&a->launch.hosts, optarg) < 0 ? -EXIT_FAILURE : 0;
        case OPTION_PORT:
                return parse_port("--port", optarg, &a->launch.port);
        case OPTION_HTTPS_PORT:
                a->launch.has_https_port = true;
                return parse_port("--https-port", optarg, &a->launch.https_port);
        case OPTION_ID_SCOPE:
                return parse_id_scope(optarg, &a->launch.id_scope);
        case OPTION_STATE:
                a->state = optarg;
                return 0;
        case OPTION_OUT:
                a->out = optarg;
                return 0;
        case 'h':
                a->done = true;
                return fputs(help, stdout) < 0 ? -EXIT_FAILURE : 0;
        case OPTION_VERSION:
                a->done = true;
                return puts("dps-emulator " DPS_VERSION) < 0 ? -EXIT_FAILURE : 0;
        default:
                return -EXIT_USAGE; /* getopt_long() has printed the error */
        }
}

/* "+": what follows the first word may look like an option without being one, as in `ctl script ID
 * --clear`. */
static int parse(int argc, char *argv[], bool permute, Arguments *a) {
        int option, r;

        while (!a->done && (option = getopt_long(argc, argv, permute ? "h" : "+h", options, NULL)) >= 0) {
                r = take_option(option, a);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int usage(const char *what) {
        (void) fprintf(stderr, "dps-emulator: %s; see dps-emulator --help\n", what);
        return EXIT_USAGE;
}

static bool is_command(const char *word) {
        static const char *const commands[] = { "enroll", "set", "remove", "script", "drop", "list" };

        for (size_t k = 0; k < ELEMENTSOF(commands); k++)
                if (streq(commands[k], word))
                        return true;
        return false;
}

static int do_certificate(const char *state, char *const *words, const Arguments *a) {
        ErrorText error = { 0 };
        int r;

        if (strv_length(words) != 1 || !dps_registration_id_is_valid(words[0]))
                return usage("certificate needs one registration id");

        r = certificate_issue(state, words[0], a->out, &error);
        if (r < 0) {
                (void) fprintf(stderr, "dps-emulator: %s\n", *error.text ? error.text : strerror(-r));
                return EXIT_FAILURE;
        }
        (void) printf("%s/%s.pem\n%s/%s.key\n", a->out, words[0], a->out, words[0]);
        return EXIT_SUCCESS;
}

static int dispatch(const char *verb, char *const *words, const Arguments *a) {
        _cleanup_(freep) char *default_state = NULL, *state = NULL;
        bool is_ctl = verb && streq(verb, "ctl");
        int r = a->state ? 0 : state_directory_default(&default_state);

        if (!verb && *words) {
                (void) fprintf(stderr, "dps-emulator: %s: no such verb; see dps-emulator --help\n", *words);
                return EXIT_USAGE;
        }
        if (is_ctl && !*words)
                return usage("ctl needs a command");
        if (is_ctl && !is_command(*words)) {
                (void) fprintf(stderr, "dps-emulator: ctl has no command '%s'; see dps-emulator --help\n",
                               *words);
                return EXIT_USAGE;
        }
        /* A command for an emulator that does not exist must not create its state directory. */
        if (r >= 0 && is_ctl && access(a->state ?: default_state, F_OK) < 0) {
                (void) fprintf(stderr, "dps-emulator: no emulator runs with the state directory %s\n",
                               a->state ?: default_state);
                return EXIT_FAILURE;
        }
        if (r >= 0)
                r = state_directory_open(a->state ?: default_state, &state);
        if (r < 0) {
                (void) fprintf(stderr, "dps-emulator: state directory %s: %s\n",
                               a->state ?: default_state ?: "",
                               r == -ENOTEMPTY ? "other users can enter it, and it holds other files; choose "
                                                 "another directory"
                                               : strerror(-r));
                return EXIT_FAILURE;
        }

        if (!verb)
                return launcher_run(state, &a->launch);
        return is_ctl ? ctl_run(state, words) : do_certificate(state, words, a);
}

int main(int argc, char *argv[]) {
        bool is_ctl = argc > 1 && streq(argv[1], "ctl"),
             is_certificate = argc > 1 && streq(argv[1], "certificate");
        Arguments a = { .launch = { .listen = "127.0.0.1", .port = 8883, .https_port = 443 }, .out = "." };
        const char *verb = is_ctl || is_certificate ? argv[1] : NULL;
        int r;

        /* getopt skips the first word, whatever it is. */
        if (verb) {
                argc--;
                argv++;
        }
        r = parse(argc, argv, !is_ctl, &a);
        if (r >= 0 && !a.done)
                r = -dispatch(verb, argv + optind, &a);

        strv_free(a.launch.hosts);
        return -r;
}
