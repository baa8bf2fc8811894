/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "emulator/rest.h"
#include "table.h"

#define VERSION "?api-version=2019-03-31"

static const struct target_case {
        const char *promise, *target;
        int result;
        RequestKind kind;
        const char *id, *operation_id, *api_version;
} target_cases[] = {
        { "a register", "/s/registrations/gw-1/register" VERSION, 0, REQUEST_REGISTER, "gw-1", NULL,
          "2019-03-31" },
        { "a poll", "/s/registrations/gw-1/operations/5.a.b" VERSION, 0, REQUEST_POLL, "gw-1", "5.a.b",
          "2019-03-31" },
        { "a lookup", "/s/registrations/gw-1" VERSION, 0, REQUEST_LOOKUP, "gw-1", NULL, "2019-03-31" },
        { "unknown keys of the query are ignored",
          "/s/registrations/gw-1/register?forceRegistration=true&x&api-version=1", 0, REQUEST_REGISTER,
          "gw-1", NULL, "1" },
        { "ids are decoded once", "/s/registrations/a%3Ab%2525/operations/1%2E2" VERSION, 0, REQUEST_POLL,
          "a:b%25", "1.2", "2019-03-31" },
        { "an encoded slash does not end a segment", "/s/registrations/a%2Fregister" VERSION, 0,
          REQUEST_LOOKUP, "a/register", NULL, "2019-03-31" },
        { "a version may be missing", "/s/registrations/gw-1", 0, REQUEST_LOOKUP, "gw-1", NULL, NULL },
        { "a whole URL", "https://dps.example:443/s/registrations/gw-1" VERSION, 0, REQUEST_LOOKUP, "gw-1",
          NULL, "2019-03-31" },
        { "a zero byte is not found", "/s/registrations/gw%001/register", -ENOENT, 0, NULL, NULL, NULL },
        { "half an escape is not found", "/s/registrations/gw%1/register", -ENOENT, 0, NULL, NULL, NULL },
        { "an empty id is not found", "/s/registrations//register", -ENOENT, 0, NULL, NULL, NULL },
        { "an empty scope is not found", "//registrations/gw-1", -ENOENT, 0, NULL, NULL, NULL },
        { "an empty operation is not found", "/s/registrations/gw-1/operations/", -ENOENT, 0, NULL, NULL,
          NULL },
        { "more after a register is not found", "/s/registrations/gw-1/register/x", -ENOENT, 0, NULL, NULL,
          NULL },
        { "more after an operation is not found", "/s/registrations/gw-1/operations/1/x", -ENOENT, 0, NULL,
          NULL, NULL },
        { "another resource is not found", "/s/enrollments/gw-1", -ENOENT, 0, NULL, NULL, NULL },
        { "nothing is not found", "", -ENOENT, 0, NULL, NULL, NULL },
        { "* is not found", "*", -ENOENT, 0, NULL, NULL, NULL },
};

static void check_target(void **state) {
        const struct target_case *c = *state;
        _cleanup_(rest_done) RestTarget t = { 0 };

        assert_int_equal(rest_parse(c->target, &t), c->result);
        if (c->result < 0)
                return;
        assert_int_equal(t.kind, c->kind);
        assert_string_equal(t.id_scope, "s");
        assert_string_equal(t.id, c->id);
        assert_true(streq_ptr(t.operation_id, c->operation_id));
        assert_true(streq_ptr(t.api_version, c->api_version));
}

int main(void) {
        struct CMUnitTest tests[32] = { 0 };
        size_t n = 0;

        ADD_ROWS(tests, n, target_cases, check_target);
        return _cmocka_run_group_tests("rest", tests, n, NULL, NULL);
}
