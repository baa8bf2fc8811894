/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "dps/reply.h"
#include "dpsd/record.h"
#include "fuzz.h"

static void check_assignment(const Assignment *a) {
        PROMISE(a->id_scope && a->registration_id && a->endpoint && a->substatus);
        PROMISE(a->hub_auth < _HUB_AUTH_MAX);
        PROMISE(!a->fingerprint || is_one_line(a->fingerprint));
        PROMISE(a->method < _METHOD_MAX);
        PROMISE(dps_host_name_is_valid(a->hub) && dps_device_id_is_valid(a->device_id));
}

static void check_transitions(const Record *s) {
        PROMISE(s->n_transitions <= RECORD_TRANSITIONS_MAX);
        for (unsigned i = 0; i < s->n_transitions; i++) {
                PROMISE(is_one_line(s->transitions[i].state));
                PROMISE(!s->transitions[i].detail || is_one_line(s->transitions[i].detail));
        }
}

/* Written, it reads the same; otherwise each restart would change it a little. */
static void check_written(const Record *s) {
        _cleanup_(freep) char *text = NULL, *text_again = NULL;
        _cleanup_(record_freep) Record *again = NULL;
        const char *why = NULL;
        int r;

        r = record_to_json(s, &text);
        if (r == -EFBIG)
                return;
        PROMISE(r == 0);
        PROMISE(record_from_json(text, strlen(text), &again, &why) == 0);
        PROMISE(record_to_json(again, &text_again) == 0);
        PROMISE(streq(text, text_again));
}

/* Input: the file of a record. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = fuzz_text(data, size);
        _cleanup_(record_freep) Record *s = NULL;
        const char *why = NULL;
        int r;

        r = record_from_json(text, size, &s, &why);
        if (r < 0) {
                PROMISE(r == -EBADMSG && why && !s);
                return 0;
        }

        if (s->assignment)
                check_assignment(s->assignment);
        PROMISE(is_one_line(s->error.message) && is_one_line(s->error.tracking_id));
        check_transitions(s);
        check_written(s);
        return 0;
}
