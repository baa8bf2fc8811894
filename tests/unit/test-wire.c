/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "emulator/wire.h"
#include "table.h"

static const struct login_case {
        const char *promise, *user_name;
        int result;
        Login login;
} login_cases[] = {
        { "the C SDK's user name",
          "0ne001BB295/registrations/gw-1/api-version=2019-03-31&ClientVersion=1.3.9",
          0,
          { LOGIN_DEVICE, (char *) "0ne001BB295", (char *) "gw-1", (char *) "2019-03-31" } },
        { "keys may come in any order, and unknown ones are ignored",
          "s/registrations/gw-1/x=1&ClientVersion=c/1.2.3&api-version=2021-06-01",
          0,
          { LOGIN_DEVICE, (char *) "s", (char *) "gw-1", (char *) "2021-06-01" } },
        { "a hub's user name",
          "hub-1.example/gw-1/?api-version=2021-04-12&DeviceClientType=x",
          0,
          { LOGIN_HUB, (char *) "hub-1.example", (char *) "gw-1", (char *) "2021-04-12" } },
        { "the API version is required", "s/registrations/gw-1/ClientVersion=1", -EBADMSG, { 0 } },
        { "the id is required", "s/registrations//api-version=2019-03-31", -EBADMSG, { 0 } },
        { "the ID scope is required", "/registrations/gw-1/api-version=2019-03-31", -EBADMSG, { 0 } },
        { "an empty user name is an error", "", -EBADMSG, { 0 } },
};

static void check_login(void **state) {
        const struct login_case *l = *state;
        _cleanup_(login_done) Login login = { 0 };

        assert_int_equal(login_parse(l->user_name, &login), l->result);
        assert_int_equal(login.kind, l->login.kind);
        assert_true(streq_ptr(login.place, l->login.place));
        assert_true(streq_ptr(login.id, l->login.id));
        assert_true(streq_ptr(login.api_version, l->login.api_version));
}

#define PUT "$dps/registrations/PUT/iotdps-register/"
#define GET "$dps/registrations/GET/iotdps-get-operationstatus/"

static const struct request_case {
        const char *promise, *topic;
        int result;
        Request request;
} request_cases[] = {
        { "a register", PUT "?$rid=1", 0, { .kind = REQUEST_REGISTER, .request_id = (char *) "1" } },
        { "a poll",
          GET "?$rid=2&operationId=5.a.b",
          0,
          { .kind = REQUEST_POLL, .request_id = (char *) "2", .operation_id = (char *) "5.a.b" } },
        { "parameters may come in any order",
          GET "?operationId=5.a.b&$rid=2",
          0,
          { .kind = REQUEST_POLL, .request_id = (char *) "2", .operation_id = (char *) "5.a.b" } },
        { "a request id is left as it is",
          PUT "?$rid=a%20b",
          0,
          { .kind = REQUEST_REGISTER, .request_id = (char *) "a%20b" } },
        { "an operation id is decoded, and + stays +",
          GET "?$rid=2&operationId=5%2Ea+b",
          0,
          { .kind = REQUEST_POLL, .request_id = (char *) "2", .operation_id = (char *) "5.a+b" } },
        { "an operation id that cannot be decoded is ignored",
          GET "?$rid=2&operationId=%zz",
          0,
          { .kind = REQUEST_POLL, .request_id = (char *) "2" } },
        { "a request without an id", PUT, 0, { .kind = REQUEST_REGISTER } },
        { "an empty request id counts as missing", PUT "?$rid=", 0, { .kind = REQUEST_REGISTER } },
        { "a topic with more after it is not a request", PUT "x?$rid=1", -ENOMSG, { 0 } },
        { "the topic of a response is not a request", "$dps/registrations/res/200/?$rid=1", -ENOMSG, { 0 } },
};

static void check_request(void **state) {
        const struct request_case *q = *state;
        _cleanup_(request_done) Request request = { 0 };

        assert_int_equal(request_parse(q->topic, &request), q->result);
        assert_int_equal(request.kind, q->request.kind);
        assert_true(streq_ptr(request.request_id, q->request.request_id));
        assert_true(streq_ptr(request.operation_id, q->request.operation_id));
}

int main(void) {
        struct CMUnitTest tests[32] = { 0 };
        size_t n = 0;

        ADD_ROWS(tests, n, login_cases, check_login);
        ADD_ROWS(tests, n, request_cases, check_request);
        return _cmocka_run_group_tests("wire", tests, n, NULL, NULL);
}
