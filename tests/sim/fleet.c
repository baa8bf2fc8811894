/* SPDX-License-Identifier: MIT */

/* Plays a fleet by each policy in each scenario, and prints what came of it as a table: see --help, and fleet.h. */

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"

#include "fleet.h"

#define DRAIN_MAX 1.05 /* the promise */
#define SERIES_POINTS 240

static const struct {
        const char *name, *title;
        bool tells;
        unsigned percent_lost;
} scenarios[] = {
        { "silent", "429 without retry-after", false, 0 },
        { "told", "429 with retry-after", true, 0 },
        { "lossy", "429 without retry-after, 5 % of connections lost", false, 5 },
};

/* One policy in one scenario. */
typedef struct Row {
        unsigned scenario, policy;
        bool is_wanted;
        FleetOptions options;
        FleetFigures figures;
        int result;
} Row;

#define N_ROWS (ELEMENTSOF(scenarios) * _FLEET_POLICY_MAX)

static Row rows[N_ROWS];
static atomic_uint next_row;

static unsigned arg_devices = 1000000, arg_quota = 1000, arg_jobs = 1;
static uint64_t arg_seed = 1;
static const char *arg_policy, *arg_scenario, *arg_tsv, *arg_series;
static bool arg_check;

/* ---- options ---- */

static unsigned parse_number(struct argp_state *state, const char *text, unsigned long max) {
        char *end;
        unsigned long n;

        errno = 0;
        n = strtoul(text, &end, 10);
        if (errno != 0 || end == text || *end || n == 0 || n > max)
                argp_error(state, "\"%s\" is not a number from 1 to %lu", text, max);
        return (unsigned) n;
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
        switch (key) {
        case 'n':
                arg_devices = parse_number(state, arg, FLEET_DEVICES_MAX);
                return 0;
        case 'q':
                arg_quota = parse_number(state, arg, 1000000);
                return 0;
        case 's':
                arg_seed = parse_number(state, arg, UINT32_MAX);
                return 0;
        case 'j':
                arg_jobs = parse_number(state, arg, 64);
                return 0;
        case 'p':
                arg_policy = arg;
                return 0;
        case 'e':
                arg_scenario = arg;
                return 0;
        case 't':
                arg_tsv = arg;
                return 0;
        case 'm':
                arg_series = arg;
                return 0;
        case 'c':
                arg_check = true;
                return 0;
        default:
                return ARGP_ERR_UNKNOWN;
        }
}

static const struct argp_option options[] = {
        { "devices", 'n', "N", 0, "Devices in the fleet (1000000)", 0 },
        { "quota", 'q', "N", 0, "Registrations per minute that the service accepts (1000)", 0 },
        { "seed", 's', "N", 0, "Everything random follows from it (1)", 0 },
        { "jobs", 'j', "N", 0, "Rows of the table that are played at the same time (1)", 0 },
        { "policy", 'p', "NAME", 0, "Only this policy", 0 },
        { "scenario", 'e', "NAME", 0, "Only this scenario: silent, told or lossy", 0 },
        { "tsv", 't', "FILE", 0, "Write all figures to FILE", 0 },
        { "series", 'm', "FILE", 0, "Write the figures over time to FILE, for fleet-plot.py", 0 },
        { "check", 'c', NULL, 0, "Fail if dps breaks a promise", 0 },
        { 0 },
};

/* ---- running ---- */

static void *work(void *arg) {
        for (unsigned k; (k = atomic_fetch_add(&next_row, 1)) < N_ROWS;) {
                Row *row = &rows[k];

                if (row->is_wanted)
                        row->result = fleet_run(&row->options, &fleet_policies[row->policy], &row->figures);
        }
        return NULL;
}

static int run_rows(void) {
        pthread_t threads[64];
        unsigned n;

        for (n = 0; n < arg_jobs; n++)
                if (pthread_create(&threads[n], NULL, work, NULL) != 0)
                        break;
        if (n == 0)
                (void) work(NULL);
        while (n > 0)
                (void) pthread_join(threads[--n], NULL);

        for (size_t k = 0; k < N_ROWS; k++)
                if (rows[k].result < 0)
                        return rows[k].result;
        return 0;
}

static unsigned prepare_rows(void) {
        unsigned n_wanted = 0;

        for (unsigned k = 0; k < N_ROWS; k++) {
                Row *row = &rows[k];

                row->scenario = k / _FLEET_POLICY_MAX;
                row->policy = k % _FLEET_POLICY_MAX;
                row->options = (FleetOptions){
                        .n_devices = arg_devices,
                        .quota = arg_quota,
                        .tells = scenarios[row->scenario].tells,
                        .percent_lost = scenarios[row->scenario].percent_lost,
                        .seed = arg_seed,
                };
                row->is_wanted = (!arg_policy || streq(arg_policy, fleet_policies[row->policy].name)) &&
                                 (!arg_scenario || streq(arg_scenario, scenarios[row->scenario].name));
                n_wanted += row->is_wanted;
        }
        return n_wanted;
}

/* ---- telling ---- */

static double per_success(const FleetFigures *g, uint64_t n) {
        return g->n_assigned > 0 ? (double) n / (double) g->n_assigned : 0;
}

static double minutes(uint64_t usec) {
        return (double) usec / (double) USEC_PER_MINUTE;
}

static void print_row(const Row *row) {
        const FleetFigures *g = &row->figures;

        printf("  %-18s %7.3f %9.1f %10.1f %9.1f %10" PRIu64 " %8.0f %8.0f %9" PRIu64 " %9" PRIu64
               " %8" PRIu64 "\n",
               fleet_policies[row->policy].name, fleet_drain_ratio(&row->options, g),
               per_success(g, g->n_registers + g->n_polls),
               per_success(g, g->n_registers_throttled + g->n_polls_throttled),
               per_success(g, g->n_connections), g->n_abandoned, minutes(g->median_usec),
               minutes(g->longest_usec), g->first_peak, g->later_peak, g->n_poll_floods);
}

static void print_table(void) {
        printf("%u devices, %u registrations a minute: no policy can be done before %.0f minutes. Seed "
               "%" PRIu64 ".\n",
               arg_devices, arg_quota, minutes(fleet_limit_usec(&rows[0].options)), arg_seed);
        printf("\n  %-18s %7s %9s %10s %9s %10s %8s %8s %9s %9s %8s\n", "", "", "requests", "of them",
               "connect.", "abandoned", "median", "longest", "peak,", "peak,", "polls");
        printf("  %-18s %7s %9s %10s %9s %10s %8s %8s %9s %9s %8s\n", "", "drain /", "for each", "429 for",
               "for each", "opera-", "wait,", "wait,", "minute 1,", "later,", "over");
        printf("  %-18s %7s %9s %10s %9s %10s %8s %8s %9s %9s %8s\n", "policy", "limit", "success",
               "each succ.", "success", "tions", "minutes", "minutes", "per s", "per s", "limit");
        for (size_t k = 0; k < N_ROWS; k++) {
                if (k % _FLEET_POLICY_MAX == 0)
                        printf("%s\n", scenarios[rows[k].scenario].title);
                if (rows[k].is_wanted)
                        print_row(&rows[k]);
        }
}

static void write_figures(FILE *file) {
        fputs("scenario\tpolicy\tdevices\tquota\tseed\tassigned\tdrain_usec\tdrain_"
              "ratio\tregisters\tregisters_429\t"
              "polls\tpolls_429\tabandoned\tconnections\tmedian_usec\tlongest_usec\tfirst_peak\tlater_"
              "peak\tearly\t"
              "poll_floods\tfingerprint\n",
              file);
        for (size_t k = 0; k < N_ROWS; k++) {
                const FleetOptions *o = &rows[k].options;
                const FleetFigures *g = &rows[k].figures;

                if (!rows[k].is_wanted)
                        continue;
                fprintf(file, "%s\t%s\t%u\t%u\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%.4f\t",
                        scenarios[rows[k].scenario].name, fleet_policies[rows[k].policy].name, o->n_devices,
                        o->quota, o->seed, g->n_assigned, g->drain_usec, fleet_drain_ratio(o, g));
                fprintf(file,
                        "%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t",
                        g->n_registers, g->n_registers_throttled, g->n_polls, g->n_polls_throttled,
                        g->n_abandoned, g->n_connections);
                fprintf(file,
                        "%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
                        "\t%016" PRIx64 "\n",
                        g->median_usec, g->longest_usec, g->first_peak, g->later_peak, g->n_early,
                        g->n_poll_floods, g->fingerprint);
        }
}

/* A point is some minutes: what was assigned at their end, and the requests in them. */
static void write_series(FILE *file) {
        fputs("scenario\tpolicy\tminute\tassigned\trequests_per_minute\n", file);
        for (size_t k = 0; k < N_ROWS; k++) {
                const FleetFigures *g = &rows[k].figures;
                size_t step = MAX(fleet_limit_usec(&rows[k].options) / USEC_PER_MINUTE / SERIES_POINTS,
                                  (uint64_t) 1);
                uint64_t n_assigned = 0, n_requests = 0;

                for (size_t m = 0; rows[k].is_wanted && m < g->n_minutes && n_assigned < g->n_assigned; m++) {
                        n_assigned += g->minutes[m].n_assigned;
                        n_requests += g->minutes[m].n_requests;
                        if ((m + 1) % step != 0)
                                continue;
                        fprintf(file, "%s\t%s\t%zu\t%" PRIu64 "\t%" PRIu64 "\n",
                                scenarios[rows[k].scenario].name, fleet_policies[rows[k].policy].name, m + 1,
                                n_assigned, n_requests / step);
                        n_requests = 0;
                }
        }
}

static int write_file(const char *path, void (*write_to)(FILE *file)) {
        FILE *file;

        if (!path)
                return 0;

        file = fopen(path, "we");
        if (!file)
                return -errno;

        write_to(file);
        return fclose(file) == 0 ? 0 : -errno;
}

/* Prints each promise that dps broke, and returns their number. */
static unsigned check(void) {
        unsigned n_broken = 0;

        for (size_t k = 0; k < N_ROWS; k++) {
                const FleetFigures *g = &rows[k].figures;
                const char *scenario = scenarios[rows[k].scenario].name;

                if (!rows[k].is_wanted || rows[k].policy != FLEET_DPS)
                        continue;
                if (fleet_drain_ratio(&rows[k].options, g) > DRAIN_MAX)
                        n_broken += printf("%s: dps takes %.3f of the shortest time, more than %.2f\n",
                                           scenario, fleet_drain_ratio(&rows[k].options, g), DRAIN_MAX) > 0;
                if (g->n_early > 0)
                        n_broken += printf("%s: dps sends %" PRIu64 " requests sooner than told\n", scenario,
                                           g->n_early) > 0;
                if (g->n_poll_floods > 0)
                        n_broken += printf("%s: %" PRIu64 " devices of dps poll more often than allowed\n",
                                           scenario, g->n_poll_floods) > 0;
        }
        return n_broken;
}

static int run(void) {
        int r;

        r = run_rows();
        if (r < 0)
                return r;

        print_table();
        r = write_file(arg_tsv, write_figures);
        if (r < 0)
                return r;

        return write_file(arg_series, write_series);
}

int main(int argc, char **argv) {
        static const struct argp argp = {
                options,
                parse_option,
                NULL,
                "Simulates a fleet of devices that get power in the same second, before the quotas of DPS.",
                NULL,
                NULL,
                NULL
        };
        int r;

        (void) argp_parse(&argp, argc, argv, 0, NULL, NULL);
        if (prepare_rows() == 0) {
                fprintf(stderr, "dps-fleet: no policy or scenario is called so\n");
                return EXIT_FAILURE;
        }

        r = run();
        for (size_t k = 0; k < N_ROWS; k++)
                free(rows[k].figures.minutes);
        if (r < 0) {
                fprintf(stderr, "dps-fleet: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return arg_check && check() > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
