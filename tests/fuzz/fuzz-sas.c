/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "dps/sas.h"
#include "fuzz.h"

static void check_percent(const char *text, size_t size) {
        _cleanup_(freep) char *plain = NULL, *encoded = NULL, *again = NULL;

        if (dps_percent_decode(text, size, &plain) < 0)
                return;
        PROMISE(strlen(plain) <= size);
        PROMISE(dps_percent_encode(plain, &encoded) == 0);
        PROMISE(dps_percent_decode(encoded, strlen(encoded), &again) == 0);
        PROMISE(streq(plain, again));
}

/* A token that is parsed, formatted and parsed again has the same parts. */
static void check_written(const DpsSas *sas) {
        _cleanup_(dps_sas_done) DpsSas again = { 0 };
        _cleanup_(freep) char *token = NULL;

        PROMISE(dps_sas_format(sas->resource, sas->signature, sas->signature_size, sas->expiry_sec,
                               sas->policy, &token) == 0);
        PROMISE(dps_sas_parse(token, &again) == 0);
        PROMISE(streq(again.resource, sas->resource) && streq_ptr(again.policy, sas->policy));
        PROMISE(again.expiry_sec == sas->expiry_sec && again.signature_size == sas->signature_size);
        PROMISE(memcmp(again.signature, sas->signature, sas->signature_size) == 0);
}

static void check_signed(const DpsSas *sas) {
        const DpsKey key = { .bytes = "0123456789abcdef", .size = 16 };
        _cleanup_(dps_sas_done) DpsSas ours = { 0 };
        _cleanup_(freep) char *token = NULL;

        PROMISE(dps_sas_new(&key, sas->resource, sas->expiry_sec, sas->policy, &token) == 0);
        PROMISE(dps_sas_parse(token, &ours) == 0);
        PROMISE(dps_sas_is_signed_by(&ours, &key) == 1);
        PROMISE(dps_sas_is_for(&ours, "0ne00111111/registrations/gw-1") ==
                dps_sas_is_for(sas, "0ne00111111/registrations/gw-1"));
}

/* Input: a token. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };
        _cleanup_(freep) char *token = fuzz_text(data, size);
        int r;

        check_percent(token, strlen(token));
        r = dps_sas_parse(token, &sas);
        if (r < 0) {
                PROMISE(r == -EBADMSG);
                PROMISE(!sas.resource && !sas.policy && !sas.signature);
                return 0;
        }

        PROMISE(sas.resource && sas.signature);
        check_written(&sas);
        check_signed(&sas);
        return 0;
}
