/* SPDX-License-Identifier: MIT */

/* dpsd: the command line. */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "basic/contract.h"
#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "basic/worker.h"
#include "build-config.h"
#include "check/inspection.h"
#include "credential/tpm-environment.h"
#include "dpsd/daemon.h"
#include "dpsd/log.h"
#include "transport/transport-module.h"

static bool arg_once, arg_check, arg_offline;
static uint64_t arg_timeout_usec = USEC_INFINITY;
static char **arg_names; /* of argv */

static int help(void) {
        printf("dpsd [OPTION...]\n"
               "dpsd --once [--timeout=TIME] [NAME...]\n"
               "dpsd --check [--offline] [NAME...]\n"
               "\n"
               "Provisions this device through the Azure IoT Hub Device Provisioning Service.\n"
               "\n"
               "     --once             Provision what is not provisioned yet, write its files, and\n"
               "                        exit; needs no bus\n"
               "     --timeout=TIME     With --once: give up after this time (e.g. 90, 2min)\n"
               "     --check            Look for problems as dpsctl check does, print what is found\n"
               "                        as JSON, and exit; not beside a dpsd that runs\n"
               "     --offline          With --check: without the network\n"
               "     --log-level=LEVEL  err, warning, notice, info (default) or debug\n"
               "  -h --help             Show this help\n"
               "     --version          Show the version\n"
               "\n"
               "Identities are configured in /etc/dps/NAME.conf, see dps.conf(5).\n"
               "Use dpsctl(1) to watch and control the daemon. See dpsd(8) for all details.\n");
        return 0;
}

static int usage(const char *message, const char *what) {
        fprintf(stderr, "dpsd: %s%s; see dpsd --help\n", message, what);
        return -EINVAL;
}

static int parse_log_level(const char *word) {
        int level = log_level_from_string(word);

        if (level < 0)
                return usage("not a log level: ", word);
        log_set_level(level);
        return 1;
}

/* 1: continue; 0: everything is done; negative: the arguments are wrong. */
static int parse_arguments(int argc, char *argv[]) {
        enum {
                OPTION_ONCE = 256,
                OPTION_CHECK,
                OPTION_OFFLINE,
                OPTION_TIMEOUT,
                OPTION_LOG_LEVEL,
                OPTION_VERSION
        };
        static const struct option options[] = {
                { "once", no_argument, NULL, OPTION_ONCE },
                { "check", no_argument, NULL, OPTION_CHECK },
                { "offline", no_argument, NULL, OPTION_OFFLINE },
                { "timeout", required_argument, NULL, OPTION_TIMEOUT },
                { "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, OPTION_VERSION },
                {},
        };
        int c, r;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                r = 1;
                switch (c) {
                case OPTION_ONCE:
                        arg_once = true;
                        break;
                case OPTION_CHECK:
                        arg_check = true;
                        break;
                case OPTION_OFFLINE:
                        arg_offline = true;
                        break;
                case OPTION_TIMEOUT:
                        if (parse_duration(optarg, &arg_timeout_usec) < 0)
                                return usage("not a duration: ", optarg);
                        break;
                case OPTION_LOG_LEVEL:
                        r = parse_log_level(optarg);
                        break;
                case 'h':
                        return help();
                case OPTION_VERSION:
                        puts("dpsd " DPS_VERSION);
                        return 0;
                default:
                        return -EINVAL;
                }
                if (r < 0)
                        return r;
        }

        if (arg_check ? arg_once || arg_timeout_usec != USEC_INFINITY : arg_offline)
                return usage("--check and --offline go together, and with nothing but NAMEs", "");
        if (!arg_once && !arg_check && (optind < argc || arg_timeout_usec != USEC_INFINITY))
                return usage("NAMEs need --once or --check, and --timeout= needs --once", "");
        arg_names = argv + optind;
        return 1;
}

/* Secrets must be neither in core dumps nor in the swap. So core dumps are off, and memory is locked if there
 * is no limit for that: beyond a limit, later mappings would fail. Each connection in flight needs three file
 * descriptors. */
static void set_limits(void) {
        struct rlimit files, locked;

#ifndef __SANITIZE_ADDRESS__ /* its leak check has to trace us */
        (void) prctl(PR_SET_DUMPABLE, 0);
#endif
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
        if (getrlimit(RLIMIT_NOFILE, &files) >= 0) {
                files.rlim_cur = files.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &files);
        }
        if (getrlimit(RLIMIT_MEMLOCK, &locked) >= 0 && locked.rlim_cur == RLIM_INFINITY)
                (void) mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
        (void) umask(0077);
        tpm_environment_prepare();
}

/* Before anything else: whoever started us may signal at once. */
static void prepare_signals(void) {
        sigset_t set;

        (void) signal(SIGXFSZ, SIG_IGN); /* where files have a limit (LimitFSIZE=), the write fails */
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGHUP); /* stays pending until the loop reads it, and is a reload then */
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
}

/* systemd lists several directories with colons between them; the first one is ours. */
static void prepare_directories(void) {
        static const char *const variables[] = { "STATE_DIRECTORY", "RUNTIME_DIRECTORY" };

        for (size_t k = 0; k < ELEMENTSOF(variables); k++) {
                char *list = getenv(variables[k]);

                if (list)
                        list[strcspn(list, ":")] = 0;
        }
}

static int check(void) {
        _cleanup_(freep) char *reason = NULL;
        const CheckClass *class;

        if (module_load_with_shared(module_directory(), TRANSPORT_SHARED_MODULE, CHECK_MODULE,
                                    CHECK_MODULE_KIND, (const void **) &class, &reason) < 0) {
                log_error("%s", reason ?: "out of memory");
                return EXIT_FAILED;
        }
        return class->once(arg_names, arg_offline);
}

static int run(int argc, char *argv[]) {
        _cleanup_(daemon_freep) Daemon *d = NULL;
        int r;

        prepare_signals();
        prepare_directories();
        log_init();
        r = parse_arguments(argc, argv);
        if (r <= 0)
                return r < 0 ? EXIT_USAGE : EXIT_DONE;

        set_limits();
        if (arg_check)
                return check();
        r = daemon_new(&d);
        if (r < 0) {
                if (r != -EBUSY)
                        log_error("cannot start: %s", strerror(-r));
                return EXIT_FAILED;
        }
        r = arg_once ? daemon_start_once(d, arg_names, arg_timeout_usec) : daemon_start(d);
        return r == EXIT_DONE ? daemon_run(d) : r;
}

int main(int argc, char *argv[]) {
        int r = run(argc, argv);

        if (worker_has_threads()) {
                (void) fflush(NULL);
                _exit(r);
        }
        return r;
}
