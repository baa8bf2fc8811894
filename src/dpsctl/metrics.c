/* SPDX-License-Identifier: MIT */
#include "dpsctl/metrics.h"

#include <errno.h>
#include <inttypes.h>

#include "basic/text.h"
#include "basic/times.h"

/* --- counting ------------------------------------------------------------------------------------------------- */

static Tally *tally_find(const Tallies *t, const char *name, const char *key) {
        for (size_t k = 0; k < t->n; k++)
                if (streq(t->items[k].name, name) && streq(t->items[k].key, key))
                        return &t->items[k];
        return NULL;
}

static int tally_add(Tallies *t, const char *name, const char *key, uint64_t usec) {
        Tally *grown, *item = tally_find(t, name, key);

        if (!item) {
                grown = reallocarray(t->items, t->n + 1, sizeof(Tally));
                if (!grown)
                        return -ENOMEM;
                t->items = grown;
                item = &t->items[t->n];
                *item = (Tally){ .name = strdup(name), .key = strdup(key) };
                t->n++; /* tallies_done() frees a half-built one */
                if (!item->name || !item->key)
                        return -ENOMEM;
        }
        item->n++;
        item->usec += usec;
        return 0;
}

static void tallies_done(Tallies *t) {
        for (size_t k = 0; k < t->n; k++) {
                free(t->items[k].name);
                free(t->items[k].key);
        }
        free(t->items);
}

void counts_done(Counts *c) {
        tallies_done(&c->errors);
        tallies_done(&c->steps);
        tallies_done(&c->begun);
}

/* An identity has one step at a time, so `begun` has one item for each identity: its key is always "". */
static int count_step(Counts *c, const Identity *before, const Identity *now, uint64_t at_usec) {
        Tally *begun;
        int r;

        if (streq(before->attempt_step, now->attempt_step))
                return 0;
        begun = tally_find(&c->begun, now->name, "");
        if (begun && begun->usec > 0 && !isempty(before->attempt_step)) {
                r = tally_add(&c->steps, now->name, before->attempt_step, usec_sub(at_usec, begun->usec));
                if (r < 0)
                        return r;
        }
        if (begun) {
                begun->usec = at_usec;
                return 0;
        }
        return tally_add(&c->begun, now->name, "", at_usec);
}

int counts_add(Counts *c, const Identity *before, const Identity *now, uint64_t at_usec) {
        int r;

        if (!before)
                return 0;
        r = count_step(c, before, now, at_usec);
        if (r < 0 || isempty(now->last_error_id) || now->last_error_at == before->last_error_at)
                return r;
        return tally_add(&c->errors, now->name, now->last_error_id, 0);
}

/* --- printing ------------------------------------------------------------------------------------------------- */

static const struct {
        const char *metric, *help, *property;
} numbers[] = {
        { "healthy", "Whether the identity is assigned and nothing has failed since.", "Healthy" },
        { "configured", "Whether its configuration has no errors.", "Configured" },
        { "generation", "How often what programs get has changed.", "Generation" },
        { "attempts", "Failed attempts in a row.", "Attempts" },
        { "hub_failures", "Failures at the hub that programs have reported in a row.", "HubFailures" },
        { "state_since_timestamp_seconds", "When the state last changed.", "StateSince" },
        { "assigned_timestamp_seconds", "When DPS assigned the hub.", "AssignedAt" },
        { "token_expiry_timestamp_seconds", "When the hub's SAS token expires.", "TokenExpiresAt" },
        { "certificate_expiry_timestamp_seconds", "When the hub's certificate expires.",
          "CertificateExpiresAt" },
        { "renewal_timestamp_seconds", "When the token or certificate is renewed.", "RenewAt" },
        { "next_attempt_timestamp_seconds", "When DPS is asked next.", "NextAttemptAt" },
        { "last_success_timestamp_seconds", "When DPS last assigned or confirmed a hub.", "LastSuccessAt" },
        { "failing_since_timestamp_seconds", "When the first of the failed attempts happened.",
          "FailingSince" },
        { "last_error_timestamp_seconds", "When the last error happened.", "LastErrorAt" },
        { "hub_seen_timestamp_seconds", "When a program last connected to the hub.", "HubLastSeenAt" },
        { "hub_failure_timestamp_seconds", "When a program last reported a failure at the hub.",
          "HubLastFailureAt" },
};

static void print_family(FILE *f, const char *metric, const char *type, const char *help) {
        fprintf(f, "# TYPE %s %s\n# HELP %s %s\n", metric, type, metric, help);
}

static void print_label(FILE *f, const char *name, const char *value) {
        fprintf(f, "%s=\"", name);
        for (const char *p = value; *p; p++)
                fprintf(f, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
        fputc('"', f);
}

/* `labels`: pairs of name and value, which end with NULL. */
static void print_sample(FILE *f, const char *metric, const char *const *labels, const char *value) {
        fputs(metric, f);
        for (size_t k = 0; labels[k]; k += 2) {
                fputc(k == 0 ? '{' : ',', f);
                print_label(f, labels[k], labels[k + 1]);
        }
        fprintf(f, "%s %s\n", labels[0] ? "}" : "", value);
}

#define LABELS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void print_number(FILE *f, const char *metric, const Identity *i, const Property *p) {
        bool is_time = p->type == 't' && !streq(p->name, "Generation");
        uint64_t value = property_number(p, i);
        char text[48];

        if (is_time && value == 0)
                return;
        if (is_time)
                (void) snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, value / USEC_PER_SEC,
                                value % USEC_PER_SEC);
        else
                (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        print_sample(f, metric, LABELS("identity", i->name), text);
}

static void print_numbers(FILE *f, const IdentityList *l) {
        char metric[64];

        for (size_t k = 0; k < ELEMENTSOF(numbers); k++) {
                const Property *p = property_find(numbers[k].property);

                (void) snprintf(metric, sizeof(metric), "dps_identity_%s", numbers[k].metric);
                print_family(f, metric, "gauge", numbers[k].help);
                for (size_t n = 0; n < l->n; n++)
                        print_number(f, metric, &l->items[n], p);
        }
}

/* One sample for each state, so that a query can count identities by state. */
static void print_states(FILE *f, const IdentityList *l) {
        static const char *const states[] = { "unprovisioned", "provisioning", "assigned", "failed" };

        print_family(f, "dps_identity_state", "gauge", "1 for the state of the identity, 0 for the others.");
        for (size_t n = 0; n < l->n; n++)
                for (size_t k = 0; k < ELEMENTSOF(states); k++)
                        print_sample(f, "dps_identity_state",
                                     LABELS("identity", l->items[n].name, "state", states[k]),
                                     identity_is(&l->items[n], states[k]) ? "1" : "0");
}

static void print_texts(FILE *f, const IdentityList *l) {
        print_family(f, "dps_identity_info", "gauge",
                     "1; the labels say how DPS is asked and what the hub is shown.");
        for (size_t n = 0; n < l->n; n++) {
                const Identity *i = &l->items[n];

                print_sample(f, "dps_identity_info",
                             LABELS("identity", i->name, "attestation", i->attestation_method,
                                    "hub_authentication", i->hub_authentication, "transport", i->transport,
                                    "connection_profile", i->connection_profile),
                             "1");
        }
        print_family(f, "dps_identity_waiting", "gauge", "1; the label says what the next step waits for.");
        for (size_t n = 0; n < l->n; n++)
                if (!isempty(l->items[n].waiting))
                        print_sample(f, "dps_identity_waiting",
                                     LABELS("identity", l->items[n].name, "waiting", l->items[n].waiting),
                                     "1");
        print_family(f, "dps_identity_last_error", "gauge",
                     "1 until the next success; dpsctl explain tells about the id.");
        for (size_t n = 0; n < l->n; n++)
                if (!isempty(l->items[n].last_error_id))
                        print_sample(f, "dps_identity_last_error",
                                     LABELS("identity", l->items[n].name, "id", l->items[n].last_error_id,
                                            "step", l->items[n].last_error_step),
                                     "1");
}

static void print_tallies(FILE *f, const Tallies *t, const char *metric, const char *label, bool is_time) {
        char text[48];

        for (size_t k = 0; k < t->n; k++) {
                const Tally *i = &t->items[k];

                if (is_time)
                        (void) snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, i->usec / USEC_PER_SEC,
                                        i->usec % USEC_PER_SEC);
                else
                        (void) snprintf(text, sizeof(text), "%" PRIu64, i->n);
                print_sample(f, metric, LABELS("identity", i->name, label, i->key), text);
        }
}

void metrics_print(FILE *f, const IdentityList *l, bool is_there, const Counts *counts) {
        print_family(f, "dps_up", "gauge", "Whether dpsd runs.");
        print_sample(f, "dps_up", (const char *const[]){ NULL }, is_there ? "1" : "0");
        print_states(f, l);
        print_texts(f, l);
        print_numbers(f, l);
        if (counts) {
                print_family(f, "dps_identity_errors", "counter", "Errors since this program started.");
                print_tallies(f, &counts->errors, "dps_identity_errors_total", "id", false);
                print_family(f, "dps_identity_steps", "counter", "Steps of attempts that have ended.");
                print_tallies(f, &counts->steps, "dps_identity_steps_total", "step", false);
                print_family(f, "dps_identity_step_seconds", "counter",
                             "How long these steps took together.");
                print_tallies(f, &counts->steps, "dps_identity_step_seconds_total", "step", true);
        }
        fputs("# EOF\n", f);
}
