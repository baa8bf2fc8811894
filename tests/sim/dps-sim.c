/* SPDX-License-Identifier: MIT */

/* dps-sim: the command line. */

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "actors.h"
#include "basic/cleanup.h"
#include "basic/text.h"
#include "checks.h"
#include "sim.h"

static uint64_t arg_seeds = 100, arg_from = 1, arg_seconds;
static unsigned arg_days, arg_identities = 4, arg_kinds;
static bool arg_trace, arg_hash, arg_is_brief;
static const char *arg_results;
static const char *arg_only; /* what is done, as a failing run names it */

static int help(void) {
        printf("dps-sim [OPTION...]\n"
               "\n"
               "Runs dpsd's core in simulated time, from seeds, and looks whether it keeps its promises.\n"
               "\n"
               "     --seeds=N       So many simulations (default 100) …\n"
               "     --from=S        … of the seeds from S on (default 1)\n"
               "     --seconds=T     Begin no more of them after T seconds\n"
               "     --days=D        Days with disturbances; as many quiet ones follow (default: 40, and 365 "
               "for each\n"
               "                     fourth seed)\n"
               "     --identities=K  At most %d (default 4)\n"
               "     --only=LIST     Of all that happens only this (kill.17,disk.3); \"none\": nothing\n"
               "     --kinds=N       Only the first N kinds of what happens, for findings older than the "
               "others\n"
               "     --trace         Print all that happens\n"
               "     --results=FILE  Write a line for each promise: passed or failed, a tab, its name\n"
               "     --hash          Print for each seed a number that stands for its trace\n"
               "     --no-shrink     Do not look for a shorter run that fails in the same way\n"
               "  -h --help          Show this help\n",
               IDENTITIES_MAX);
        return 0;
}

/* 1: go on; 0: all is done; negative: what was said is wrong. */
static int parse_arguments(int argc, char *argv[]) {
        enum {
                OPTION_SEEDS = 256,
                OPTION_FROM,
                OPTION_SECONDS,
                OPTION_DAYS,
                OPTION_IDENTITIES,
                OPTION_ONLY,
                OPTION_KINDS,
                OPTION_TRACE,
                OPTION_RESULTS,
                OPTION_HASH,
                OPTION_NO_SHRINK
        };
        static const struct option options[] = { { "seeds", required_argument, NULL, OPTION_SEEDS },
                                                 { "from", required_argument, NULL, OPTION_FROM },
                                                 { "seconds", required_argument, NULL, OPTION_SECONDS },
                                                 { "days", required_argument, NULL, OPTION_DAYS },
                                                 { "identities", required_argument, NULL, OPTION_IDENTITIES },
                                                 { "only", required_argument, NULL, OPTION_ONLY },
                                                 { "kinds", required_argument, NULL, OPTION_KINDS },
                                                 { "results", required_argument, NULL, OPTION_RESULTS },
                                                 { "trace", no_argument, NULL, OPTION_TRACE },
                                                 { "hash", no_argument, NULL, OPTION_HASH },
                                                 { "no-shrink", no_argument, NULL, OPTION_NO_SHRINK },
                                                 { "help", no_argument, NULL, 'h' },
                                                 {} };
        uint64_t number = 0;
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                if (optarg && c != OPTION_ONLY && c != OPTION_RESULTS && parse_u64(optarg, &number) < 0) {
                        fprintf(stderr, "dps-sim: not a number: %s\n", optarg);
                        return -1;
                }
                switch (c) {
                case OPTION_SEEDS:
                        arg_seeds = number;
                        break;
                case OPTION_FROM:
                        arg_from = number;
                        break;
                case OPTION_SECONDS:
                        arg_seconds = number;
                        break;
                case OPTION_DAYS:
                        arg_days = (unsigned) MAX(number, 1);
                        break;
                case OPTION_IDENTITIES:
                        arg_identities = (unsigned) MAX(MIN(number, IDENTITIES_MAX), 1);
                        break;
                case OPTION_KINDS:
                        arg_kinds = (unsigned) number;
                        break;
                case OPTION_ONLY:
                        arg_only = optarg;
                        break;
                case OPTION_RESULTS:
                        arg_results = optarg;
                        break;
                case OPTION_TRACE:
                        arg_trace = true;
                        break;
                case OPTION_HASH:
                        arg_hash = true;
                        break;
                case OPTION_NO_SHRINK:
                        arg_is_brief = true;
                        break;
                case 'h':
                        return help();
                default:
                        return -1;
                }
        }
        return 1;
}

static const char *broken[64]; /* promises, each once */
static size_t n_broken_promises;

static void note_broken(const char *promise) {
        for (size_t k = 0; k < n_broken_promises; k++)
                if (broken[k] == promise)
                        return;
        if (n_broken_promises < ELEMENTSOF(broken))
                broken[n_broken_promises++] = promise;
}

static bool is_broken(const char *promise) {
        for (size_t k = 0; k < n_broken_promises; k++)
                if (broken[k] == promise)
                        return true;
        return false;
}

static int write_results(uint64_t n_seeds, double device_days) {
        FILE *f = fopen(arg_results, "a");

        if (!f) {
                perror(arg_results);
                return -1;
        }
        for (const char *const *p = promises; *p; p++)
                fprintf(f, "%s\t%s (%" PRIu64 " seeds, %.0f device-days)\n",
                        is_broken(*p) ? "failed" : "passed", *p, n_seeds, device_days);
        return fclose(f);
}

static double seconds_since(const struct timespec *start) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double) (now.tv_sec - start->tv_sec) + (double) (now.tv_nsec - start->tv_nsec) / 1e9;
}

/* On a busy machine, this says how fast the simulation is. */
static double cpu_seconds(void) {
        struct rusage usage;

        (void) getrusage(RUSAGE_SELF, &usage);
        return (double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int keep_only(const char *list, bool left_out[static DEEDS_MAX]) {
        size_t number;

        for (size_t k = 0; k < DEEDS_MAX; k++)
                left_out[k] = true;
        if (streq(list, "none"))
                return 0;
        do {
                if (deed_parse(&list, &number) < 0) {
                        fprintf(stderr, "dps-sim: --only=: nobody does this: %s\n", list);
                        return -1;
                }
                left_out[number] = false;
        } while (scan_literal(&list, ","));
        return 0;
}

/* How to run it again, and its trace. */
static void tell_finding(SimOptions *o, bool left_out[static DEEDS_MAX], Outcome *outcome) {
        printf("seed %" PRIu64 ": BROKEN: %s: %s\n", o->seed, outcome->finding.promise,
               outcome->finding.text);
        (void) fflush(stdout);
        if (arg_is_brief)
                return;
        if (!arg_only)
                sim_shrink(o, left_out, outcome);
        printf("run it again: dps-sim --from=%" PRIu64 " --seeds=1 --days=%u --identities=%u --trace --only=",
               o->seed, o->days, o->n_identities);
        for (size_t k = 0; k < outcome->n_deeds; k++) {
                char name[32];

                deed_format(outcome->deeds[k].number, name);
                printf("%s%s", k > 0 ? "," : "", name);
        }
        printf("%s\n", outcome->n_deeds > 0 ? "" : "none");
        o->is_traced = true;
        o->trace = stdout;
        sim_run(o, outcome);
}

/* In a year there are as many disturbances as in forty days, so that most of it is as quiet as it is in the field: tokens and
 * certificates are renewed many times between them. */
static unsigned days_of(uint64_t seed) {
        return seed % 4 == 3 ? 365 : 40;
}

static bool run_seed(uint64_t seed, const char *directory, uint64_t *simulated_usec) {
        static bool left_out[DEEDS_MAX];
        static Outcome outcome;
        SimOptions o = { .seed = seed,
                         .n_identities = arg_identities,
                         .days = arg_days > 0 ? arg_days : days_of(seed),
                         .n_kinds = arg_kinds,
                         .is_traced = arg_trace || arg_hash,
                         .trace = arg_trace ? stdout : NULL,
                         .directory = directory,
                         .left_out = left_out };

        memset(left_out, 0, sizeof(left_out));
        if (arg_only && keep_only(arg_only, left_out) < 0)
                exit(2);
        sim_run(&o, &outcome);
        *simulated_usec += outcome.simulated_usec;
        if (arg_hash)
                printf("seed %" PRIu64 ": %016" PRIx64 "\n", seed, outcome.trace_hash);
        if (outcome.finding.promise)
                note_broken(outcome.finding.promise);
        if (outcome.finding.promise && !arg_trace)
                tell_finding(&o, left_out, &outcome);
        return !outcome.finding.promise;
}

int main(int argc, char *argv[]) {
        char directory[] = "/tmp/dps-sim.XXXXXX";
        uint64_t simulated_usec = 0, n = 0, n_broken = 0;
        struct timespec start;
        double seconds, device_days;
        int r;

        r = parse_arguments(argc, argv);
        if (r <= 0)
                return r < 0 ? 2 : 0;
        if (!mkdtemp(directory)) {
                perror("dps-sim: mkdtemp");
                return 1;
        }
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (; n < arg_seeds && (arg_seconds == 0 || seconds_since(&start) < (double) arg_seconds); n++)
                n_broken += !run_seed(arg_from + n, directory, &simulated_usec);
        seconds = seconds_since(&start);
        device_days = (double) simulated_usec / USEC_PER_DAY * arg_identities;
        printf("%" PRIu64 " seeds, %.0f device-days in %.1f s: %.0f for each second of CPU; %" PRIu64
               " seeds broke a promise\n",
               n, device_days, seconds, device_days / cpu_seconds(), n_broken);
        (void) rmdir(directory);
        if (arg_results && write_results(n, device_days) < 0)
                return 1;
        return n_broken > 0 ? 1 : 0;
}
