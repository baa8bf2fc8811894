/* SPDX-License-Identifier: MIT */
#include "dpsctl/when.h"

#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"

const char *format_when(uint64_t at_usec, uint64_t now_usec, char buffer[static WHEN_TEXT_MAX]) {
        uint64_t apart_usec = at_usec > now_usec ? at_usec - now_usec : now_usec - at_usec;
        char duration[DURATION_TEXT_MAX];

        /* Rounded, because a message takes some time to get here: "4 min", not "3 min 59 s". */
        apart_usec = (apart_usec + USEC_PER_SEC / 2) / USEC_PER_SEC * USEC_PER_SEC;
        if (at_usec == 0)
                (void) snprintf(buffer, WHEN_TEXT_MAX, "-");
        else if (apart_usec < USEC_PER_SEC)
                (void) snprintf(buffer, WHEN_TEXT_MAX, "now");
        else if (at_usec > now_usec)
                (void) snprintf(buffer, WHEN_TEXT_MAX, "in %s", format_duration(apart_usec, duration));
        else
                (void) snprintf(buffer, WHEN_TEXT_MAX, "%s ago", format_duration(apart_usec, duration));
        return buffer;
}

const char *format_moment(uint64_t at_usec, uint64_t now_usec, char buffer[static MOMENT_TEXT_MAX]) {
        char timestamp[TIMESTAMP_TEXT_MAX], when[WHEN_TEXT_MAX];

        if (at_usec == 0)
                (void) snprintf(buffer, MOMENT_TEXT_MAX, "-");
        else
                (void) snprintf(buffer, MOMENT_TEXT_MAX, "%s (%s)", format_timestamp(at_usec, timestamp),
                                format_when(at_usec, now_usec, when));
        return buffer;
}

uint64_t identity_next_at(const Identity *i) {
        if (i->attempt_since > 0)
                return i->attempt_since; /* before all that is planned */
        return i->next_attempt_at > 0 ? i->next_attempt_at : i->renew_at;
}

/* "asking DPS now, for 2 s: waits for the answer to register". */
static void describe_present_attempt(const Identity *i, uint64_t now_usec, char *buffer, size_t size) {
        static const struct {
                const char *step, *what;
        } steps[] = {
                { "connecting", ": connects" },
                { "registering", ": waits for the answer to register" },
                { "pausing", ": waits as long as DPS said, and then polls" },
                { "polling", ": waits for the answer to a poll" },
                { "answering", ": the TPM takes the key that DPS sent" },
        };
        uint64_t since_usec = usec_sub(now_usec, i->attempt_since);
        char duration[DURATION_TEXT_MAX];
        const char *what = "";

        if (streq(i->attempt_step, "queued")) {
                (void) snprintf(buffer, size, "is about to ask DPS, behind other identities (MaxAttempts=)");
                return;
        }
        for (size_t k = 0; k < ELEMENTSOF(steps); k++)
                if (streq(i->attempt_step, steps[k].step))
                        what = steps[k].what;
        if (since_usec < USEC_PER_SEC)
                (void) snprintf(buffer, size, "asking DPS now%s", what);
        else
                (void) snprintf(buffer, size, "asking DPS now, for %s%s",
                                format_duration(since_usec / USEC_PER_SEC * USEC_PER_SEC, duration), what);
}

/* "asks DPS again in 4 min", or now. */
static void describe_attempt(const Identity *i, uint64_t now_usec, char *buffer, size_t size) {
        const char *again = i->attempts > 0 || i->last_success_at > 0 ? " again" : "";
        char when[WHEN_TEXT_MAX];

        if (i->next_attempt_at == 0)
                (void) snprintf(buffer, size, "asking DPS now");
        else if (i->next_attempt_at <= now_usec)
                (void) snprintf(buffer, size, "asks DPS%s at any moment", again);
        else
                (void) snprintf(buffer, size, "asks DPS%s %s", again,
                                format_when(i->next_attempt_at, now_usec, when));
}

/* Waiting for `what`; if dpsd acts at some time even without it, the text ends with that. `is_local`: dpsd
 * looks for `what` on this device, without asking DPS. */
static void describe_wait(const Identity *i, const char *what, bool is_local, uint64_t now_usec, char *buffer,
                          size_t size) {
        char attempt[NEXT_TEXT_MAX / 2];

        if (i->next_attempt_at <= now_usec)
                (void) snprintf(buffer, size, "waits for %s", what);
        else if (is_local)
                (void) snprintf(buffer, size, "waits for %s, checks again %s", what,
                                format_when(i->next_attempt_at, now_usec, attempt));
        else {
                describe_attempt(i, now_usec, attempt, sizeof(attempt));
                (void) snprintf(buffer, size, "waits for %s, %s at the latest", what, attempt);
        }
}

/* Waiting is empty: what comes next is planned by time. */
static void describe_plan(const Identity *i, uint64_t now_usec, char *buffer, size_t size) {
        bool is_attempt_next =
                i->next_attempt_at > now_usec && (i->renew_at == 0 || i->next_attempt_at < i->renew_at);
        char when[WHEN_TEXT_MAX];

        if (!identity_is(i, "assigned") || is_attempt_next)
                describe_attempt(i, now_usec, buffer, size);
        else if (i->renew_at > now_usec)
                (void) snprintf(buffer, size, "renews %s", format_when(i->renew_at, now_usec, when));
        else if (i->renew_at > 0 || i->next_attempt_at > 0)
                describe_attempt(i, now_usec, buffer, size);
        else if (i->certificate_expires_at > now_usec)
                (void) snprintf(buffer, size,
                                "nothing is due; the certificate must be replaced %s at the latest",
                                format_when(i->certificate_expires_at, now_usec, when));
        else if (i->certificate_expires_at > 0)
                (void) snprintf(buffer, size, "waits for a new certificate: this one expired %s",
                                format_when(i->certificate_expires_at, now_usec, when));
        else
                (void) snprintf(buffer, size, "nothing is due");
}

const char *identity_next(const Identity *i, uint64_t now_usec, char buffer[static NEXT_TEXT_MAX]) {
        static const struct {
                const char *waiting, *what;
                bool is_local;
        } waits[] = {
                { "network", "the network", false },
                { "clock", "time synchronisation", false },
                { "key", "its key to appear", true },
        };
        char attempt[NEXT_TEXT_MAX / 2];

        if (i->attempt_since > 0) {
                describe_present_attempt(i, now_usec, buffer, NEXT_TEXT_MAX);
                return buffer;
        }
        describe_attempt(i, now_usec, attempt, sizeof(attempt));
        for (size_t k = 0; k < ELEMENTSOF(waits); k++)
                if (streq(i->waiting, waits[k].waiting)) {
                        describe_wait(i, waits[k].what, waits[k].is_local, now_usec, buffer, NEXT_TEXT_MAX);
                        return buffer;
                }

        if (streq(i->waiting, "throttled"))
                (void) snprintf(buffer, NEXT_TEXT_MAX, "throttled, %s: DPS said to wait that long", attempt);
        else if (streq(i->waiting, "config") && !identity_is(i, "assigned") && i->next_attempt_at > now_usec)
                (void) snprintf(buffer, NEXT_TEXT_MAX,
                                "looks at the files named in its configuration again %s; after a change of "
                                "the configuration itself: dpsctl reload",
                                format_when(i->next_attempt_at, now_usec, attempt));
        else if (streq(i->waiting, "config"))
                (void) snprintf(buffer, NEXT_TEXT_MAX,
                                "%s until its configuration can be used; after a change: dpsctl reload",
                                identity_is(i, "assigned") ? "continues as before" : "nothing");
        else if (streq(i->waiting, "retry") && identity_is(i, "failed"))
                (void) snprintf(buffer, NEXT_TEXT_MAX, "%s; to ask sooner: dpsctl reprovision %s", attempt,
                                i->name);
        else if (streq(i->waiting, "retry"))
                (void) snprintf(buffer, NEXT_TEXT_MAX, "%s", attempt);
        else
                describe_plan(i, now_usec, buffer, NEXT_TEXT_MAX);
        return buffer;
}
