/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "dps/reply.h"
#include "table.h"

#define RES "$dps/registrations/res/"
#define OPERATION "5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550"
#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* ---- topics: their grammar ---- */

static const struct topic_case {
        const char *promise, *topic;
        int result;
        uint32_t status;
        uint64_t request_id;
        bool has_retry_after;
        uint64_t retry_after_sec;
} topic_cases[] = {
        { "assigning carries a delay", RES "202/?$rid=1&retry-after=3", 0, 202, 1, true, 3 },
        { "the last answer carries no delay", RES "200/?$rid=2", 0, 200, 2, false, 0 },
        { "order and case are free", RES "429/?Retry-After=120&$RID=7", 0, 429, 7, true, 120 },
        { "unknown parameters are ignored", RES "200/?x=1&$rid=7&y&=z", 0, 200, 7, false, 0 },
        { "empty parameters are ignored", RES "200/?&&$rid=7&", 0, 200, 7, false, 0 },
        { "request ids are 64 bits", RES "200/?$rid=18446744073709551615", 0, 200, UINT64_MAX, false, 0 },
        { "a delay of 0 counts as a delay", RES "202/?$rid=7&retry-after=0", 0, 202, 7, true, 0 },
        { "a delay with text after it is ignored", RES "202/?$rid=7&retry-after=3x", 0, 202, 7, false, 0 },
        { "a negative delay is ignored", RES "202/?$rid=7&retry-after=-3", 0, 202, 7, false, 0 },
        { "an empty delay is ignored", RES "202/?$rid=7&retry-after=", 0, 202, 7, false, 0 },
        { "a date is not a delay", RES "503/?$rid=7&retry-after=Fri, 31 Dec 1999 23:59:59 GMT", 0, 503, 7,
          false, 0 },
        { "a delay too large for a number is the longest", RES "202/?$rid=7&retry-after=99999999999999999999",
          0, 202, 7, true, UINT64_MAX },
        { "a foreign topic is not ours", "$iothub/twin/res/200/?$rid=7", -ENOMSG, 0, 0, false, 0 },
        { "an empty topic is not ours", "", -ENOMSG, 0, 0, false, 0 },
        { "our prefix is exact", "$DPS/registrations/res/200/?$rid=7", -ENOMSG, 0, 0, false, 0 },
        { "a topic without status is malformed", RES "/?$rid=7", -EBADMSG, 0, 0, false, 0 },
        { "a status has three digits, not two", RES "20/?$rid=7", -EBADMSG, 0, 0, false, 0 },
        { "a status has three digits, not four", RES "0200/?$rid=7", -EBADMSG, 0, 0, false, 0 },
        { "a status is a number", RES "2xx/?$rid=7", -EBADMSG, 0, 0, false, 0 },
        { "a slash and a question mark follow the status", RES "200?$rid=7", -EBADMSG, 0, 0, false, 0 },
        { "an answer without a request id is malformed", RES "200/?retry-after=3", -EBADMSG, 0, 0, false, 0 },
        { "an answer without parameters is malformed", RES "200/?", -EBADMSG, 0, 0, false, 0 },
        { "a request id that is not a number is malformed", RES "200/?$rid=6a6a5d4e-8d6f", -EBADMSG, 0, 0,
          false, 0 },
        { "an empty request id is malformed", RES "200/?$rid=", -EBADMSG, 0, 0, false, 0 },
        { "a request id beyond 64 bits is malformed", RES "200/?$rid=18446744073709551616", -EBADMSG, 0, 0,
          false, 0 },
};

static void check_topic(void **state) {
        const struct topic_case *c = *state;
        DpsReply reply = { 0 };

        assert_int_equal(dps_reply_parse_topic(c->topic, &reply), c->result);
        assert_int_equal(reply.status, c->status);
        assert_int_equal(reply.request_id, c->request_id);
        assert_int_equal(reply.has_retry_after, c->has_retry_after);
        assert_int_equal(reply.retry_after_sec, c->retry_after_sec);
}

static void test_a_refused_topic_does_not_change_the_reply(void **state) {
        DpsReply reply = { .status = 1, .request_id = 2 };

        assert_int_equal(dps_reply_parse_topic(RES "200/?$rid=x", &reply), -EBADMSG);
        assert_int_equal(dps_reply_parse_topic("other", &reply), -ENOMSG);
        assert_int_equal(reply.status, 1);
        assert_int_equal(reply.request_id, 2);
}

/* ---- bodies: as DPS writes them, and malformed ---- */

#define CHALLENGE(key, name) "{\"authenticationKey\":" key ",\"keyName\":" name "}"
#define STATE(members) "{\"operationId\":\"o\",\"status\":\"assigned\",\"registrationState\":{" members "}}"
#define ASSIGNED(hub, device) STATE("\"assignedHub\":" hub ",\"deviceId\":" device)
#define FAILED(members)                                                                                      \
        "{\"operationId\":\"o\",\"status\":\"failed\",\"registrationState\":{\"status\":\"failed\"" members  \
        "}}"
#define REFUSAL(code)                                                                                        \
        "{\"errorCode\":" code ",\"trackingId\":\"8ad0463c\",\"message\":\"No.\",\"timestampUtc\":\"2020-"   \
        "04-10T05:24:22.4718526Z\"}"

static const struct body_case {
        const char *promise;
        uint32_t status;
        const char *body;
        DpsVerdict verdict;
        DpsErrorId id; /* for RETRY and FINAL */
        uint32_t code;
} body_cases[] = {
        { "register accepted", 202, "{\"operationId\":\"" OPERATION "\",\"status\":\"assigning\"}",
          DPS_VERDICT_ASSIGNING, 0, 0 },
        { "still running, with a state", 202,
          "{\"operationId\":\"o\",\"status\":\"assigning\",\"registrationState\":{\"registrationId\":\"r\","
          "\"status\":\"assigning\"}}",
          DPS_VERDICT_ASSIGNING, 0, 0 },
        { "still running, with a null state", 202,
          "{\"operationId\":\"o\",\"status\":\"assigning\",\"registrationState\":null}",
          DPS_VERDICT_ASSIGNING, 0, 0 },
        { "assigning with 200 is still running", 200, "{\"operationId\":\"o\",\"status\":\"assigning\"}",
          DPS_VERDICT_ASSIGNING, 0, 0 },
        { "unassigned first", 202, "{\"operationId\":\"o\",\"status\":\"unassigned\"}", DPS_VERDICT_ASSIGNING,
          0, 0 },
        { "202 without a status is still running", 202, "{\"operationId\":\"o\"}", DPS_VERDICT_ASSIGNING, 0,
          0 },
        { "assigned", 200, ASSIGNED("\"h.azure-devices.net\"", "\"my-reg\""), DPS_VERDICT_ASSIGNED, 0, 0 },
        { "assigned at once", 202, ASSIGNED("\"h.azure-devices.net\"", "\"my-reg\""), DPS_VERDICT_ASSIGNED, 0,
          0 },
        { "unknown members are ignored at every level", 200,
          "{\"new\":[{}],\"status\":\"assigned\",\"registrationState\":{\"x509\":{},\"symmetricKey\":{"
          "\"new\":1},"
          "\"tpm\":null,\"assignedHub\":\"h\",\"deviceId\":\"d\",\"substatus\":\"somethingNew\","
          "\"errorCode\":null}}",
          DPS_VERDICT_ASSIGNED, 0, 0 },
        { "an error code of 0 counts as absent", 200,
          STATE("\"assignedHub\":\"h\",\"deviceId\":\"d\",\"errorCode\":0"), DPS_VERDICT_ASSIGNED, 0, 0 },
        { "failed comes with 200", 200,
          FAILED(",\"errorCode\":400207,\"errorMessage\":\"Custom allocation failed with status code: 400\""),
          DPS_VERDICT_FINAL, DPS_ERROR_ALLOCATION, 400207 },
        { "failed without a hub to assign", 200, FAILED(",\"errorCode\":400208"), DPS_VERDICT_FINAL,
          DPS_ERROR_ALLOCATION, 400208 },
        { "failed because the hub refused DPS", 200,
          FAILED(",\"errorCode\":400209,\"errorMessage\":\"{\\\"a\\\":1}\""), DPS_VERDICT_FINAL,
          DPS_ERROR_ALLOCATION, 400209 },
        { "failed because of its certificate", 200, FAILED(",\"errorCode\":401002"), DPS_VERDICT_FINAL,
          DPS_ERROR_AUTH, 401002 },
        { "failed because of a server error may succeed later", 200, FAILED(",\"errorCode\":500000"),
          DPS_VERDICT_RETRY, DPS_ERROR_SERVICE, 500000 },
        { "failed without a reason", 200, FAILED(""), DPS_VERDICT_FINAL, DPS_ERROR_ALLOCATION, 0 },
        { "failed with a null reason", 200, FAILED(",\"errorCode\":null,\"errorMessage\":null"),
          DPS_VERDICT_FINAL, DPS_ERROR_ALLOCATION, 0 },
        { "disabled has an empty operation id", 200,
          "{\"operationId\":\"\",\"status\":\"disabled\",\"registrationState\":{\"registrationId\":\"r\","
          "\"status\":\"disabled\"}}",
          DPS_VERDICT_FINAL, DPS_ERROR_ENROLLMENT_DISABLED, 0 },
        { "blacklisted is disabled", 200, "{\"status\":\"blacklisted\"}", DPS_VERDICT_FINAL,
          DPS_ERROR_ENROLLMENT_DISABLED, 0 },
        { "401 with a document", 401, REFUSAL("401002"), DPS_VERDICT_FINAL, DPS_ERROR_AUTH, 401002 },
        { "400 for the API version", 400, REFUSAL("400004"), DPS_VERDICT_FINAL, DPS_ERROR_API_VERSION,
          400004 },
        { "404 with a document", 404, REFUSAL("404201"), DPS_VERDICT_FINAL, DPS_ERROR_ENROLLMENT_UNKNOWN,
          404201 },
        { "409 with a document", 409, REFUSAL("409203"), DPS_VERDICT_RETRY, DPS_ERROR_CONFLICT, 409203 },
        { "429 with a document", 429, REFUSAL("429001"), DPS_VERDICT_RETRY, DPS_ERROR_THROTTLED, 429001 },
        { "the status decides where the code is of another class", 503, REFUSAL("401002"), DPS_VERDICT_RETRY,
          DPS_ERROR_SERVICE, 401002 },
        { "a code that is text counts as absent", 401, REFUSAL("\"401002\""), DPS_VERDICT_FINAL,
          DPS_ERROR_AUTH, 401 },
        { "a negative code counts as absent", 401, REFUSAL("-1"), DPS_VERDICT_FINAL, DPS_ERROR_AUTH, 401 },
        { "a code beyond 32 bits counts as absent", 401, REFUSAL("4294967297"), DPS_VERDICT_FINAL,
          DPS_ERROR_AUTH, 401 },
        { "401 with an empty body", 401, "", DPS_VERDICT_FINAL, DPS_ERROR_AUTH, 401 },
        { "503 with an empty body", 503, "", DPS_VERDICT_RETRY, DPS_ERROR_SERVICE, 503 },
        { "502 with a web page", 502, "<html>Bad Gateway</html>", DPS_VERDICT_RETRY, DPS_ERROR_SERVICE, 502 },
        { "a refusal that says assigned is a refusal", 401, ASSIGNED("\"h\"", "\"d\""), DPS_VERDICT_FINAL,
          DPS_ERROR_AUTH, 401 },
        { "a status that DPS does not use is a retry", 302, "{}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          302 },
        { "a status of 000 is a retry", 0, ASSIGNED("\"h\"", "\"d\""), DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          0 },
        { "a 401 with a key is the challenge", 401, CHALLENGE("\"AAA=\"", "\"registration\""),
          DPS_VERDICT_CHALLENGE, 0, 0 },
        { "a challenge may have a message", 401,
          "{\"authenticationKey\":\"AAA=\",\"keyName\":\"k\",\"errorCode\":401000,\"message\":"
          "\"Unauthorized\"}",
          DPS_VERDICT_CHALLENGE, 0, 0 },
        { "a 401 with an empty key is a refusal", 401, CHALLENGE("\"\"", "\"k\""), DPS_VERDICT_FINAL,
          DPS_ERROR_AUTH, 401 },
        { "a 401 with a key that is not base64 is a refusal", 401, CHALLENGE("\"a b\"", "\"k\""),
          DPS_VERDICT_FINAL, DPS_ERROR_AUTH, 401 },
        { "a 401 with a key that is a number is a refusal", 401, CHALLENGE("7", "\"k\""), DPS_VERDICT_FINAL,
          DPS_ERROR_AUTH, 401 },
        { "a key in another refusal is not a challenge", 403, CHALLENGE("\"AAA=\"", "\"k\""),
          DPS_VERDICT_FINAL, DPS_ERROR_AUTH, 403 },
        { "a key in the state of a refusal is not a challenge", 401,
          STATE("\"tpm\":{\"authenticationKey\":\"AAA=\"}"), DPS_VERDICT_FINAL, DPS_ERROR_AUTH, 401 },
        /* What cannot be understood. */
        { "200 with an empty body", 200, "", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "202 with an empty body", 202, "", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "200 with a web page", 200, "<html></html>", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "200 with an array", 200, "[]", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "200 with null", 200, "null", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "200 without a status", 200, "{}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "200 with a null status", 200, "{\"status\":null}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "an unknown status word", 200, "{\"status\":\"pondering\"}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          0 },
        { "a status word in capitals is unknown", 200, "{\"status\":\"Assigning\"}", DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "a status that is a number", 200, "{\"status\":1}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "a status that hides a NUL", 200, "{\"status\":\"assigning\\u0000\"}", DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "a state that is an array", 200, "{\"status\":\"assigned\",\"registrationState\":[]}",
          DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "assigned without a state", 200, "{\"status\":\"assigned\"}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          0 },
        { "assigned without a hub", 200, STATE("\"deviceId\":\"d\""), DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          0 },
        { "assigned without a device id", 200, STATE("\"assignedHub\":\"h\""), DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "a hub of null", 200, ASSIGNED("null", "\"d\""), DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "a hub that is a number", 200, ASSIGNED("7", "\"d\""), DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "a hub that is empty", 200, ASSIGNED("\"\"", "\"d\""), DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "a hub with a port", 200, ASSIGNED("\"h:8883\"", "\"d\""), DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          0 },
        { "a hub with parent directories", 200, ASSIGNED("\"../etc\"", "\"d\""), DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "a hub with a line break", 200, ASSIGNED("\"h\\nX=1\"", "\"d\""), DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "a device id that is a wildcard of MQTT", 200, ASSIGNED("\"h\"", "\"#\""), DPS_VERDICT_ASSIGNED, 0,
          0 },
        { "a device id with a slash", 200, ASSIGNED("\"h\"", "\"a/b\""), DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "an operation id that is a number", 202, "{\"operationId\":5,\"status\":\"assigning\"}",
          DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "an operation id that adds a parameter", 202,
          "{\"operationId\":\"a&$rid=1\",\"status\":\"assigning\"}", DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL,
          0 },
        { "an operation id with a line break", 202, "{\"operationId\":\"a\\nb\",\"status\":\"assigning\"}",
          DPS_VERDICT_RETRY, DPS_ERROR_PROTOCOL, 0 },
        { "an overlong slash", 202, "{\"status\":\"assigning\",\"a\":\"\xc0\xaf\"}", DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "half a character", 202, "{\"status\":\"assigning\",\"a\":\"\xe2\x82\"}", DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "nesting that is too deep", 202,
          "{\"status\":\"assigning\",\"a\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}", DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
        { "half a body", 200, "{\"status\":\"assigned\",\"registrationState\":{\"assig", DPS_VERDICT_RETRY,
          DPS_ERROR_PROTOCOL, 0 },
};

static void test_a_challenge_names_its_key(void **state) {
        _cleanup_(dps_reply_done) DpsReply a = { .status = 401 }, b = { .status = 401 };
        static const char good[] = CHALLENGE("\"AAA=\"", "\"registration\""),
                          bad[] = CHALLENGE("\"AAA=\"", "\"a&se=1\"");

        assert_int_equal(dps_reply_parse_body(&a, good, strlen(good)), 0);
        assert_string_equal(a.authentication_key, "AAA=");
        assert_string_equal(a.key_name, "registration");
        assert_int_equal(dps_reply_parse_body(&b, bad, strlen(bad)), 0);
        assert_null(b.key_name);
}

/* It is useless to everybody else, and once only. */
static void test_the_key_for_the_hub_is_not_a_part_of_the_state(void **state) {
        _cleanup_(dps_reply_done) DpsReply reply = { .status = 200 };
        static const char body[] =
                STATE("\"assignedHub\":\"h\",\"deviceId\":\"d\",\"tpm\":{\"authenticationKey\":\"AAA=\"}");

        assert_int_equal(dps_reply_parse_body(&reply, body, strlen(body)), 0);
        assert_int_equal(dps_reply_verdict(&reply), DPS_VERDICT_ASSIGNED);
        assert_string_equal(reply.authentication_key, "AAA=");
        assert_null(strstr(reply.registration_state, "AAA="));
        assert_non_null(strstr(reply.registration_state, "\"tpm\":{}"));
}

static void test_a_copy_owns_its_strings(void **state) {
        _cleanup_(dps_reply_done) DpsReply copy = { 0 };
        DpsReply reply = { .status = 200 };
        static const char body[] = STATE("\"assignedHub\":\"h\",\"deviceId\":\"d\",\"substatus\":\"s\"");

        assert_int_equal(dps_reply_parse_body(&reply, body, strlen(body)), 0);
        assert_int_equal(dps_reply_copy(&reply, &copy), 0);
        dps_reply_done(&reply);
        assert_int_equal(dps_reply_verdict(&copy), DPS_VERDICT_ASSIGNED);
        assert_string_equal(copy.assigned_hub, "h");
        assert_string_equal(copy.device_id, "d");
        assert_string_equal(copy.substatus, "s");
        assert_null(copy.authentication_key);
}

static void check_body(void **state) {
        const struct body_case *c = *state;
        _cleanup_(dps_reply_done) DpsReply reply = { .status = c->status };
        DpsError error = { 0 };

        assert_int_equal(dps_reply_parse_body(&reply, c->body, strlen(c->body)), 0);
        assert_int_equal(dps_reply_verdict(&reply), c->verdict);
        if (c->verdict != DPS_VERDICT_RETRY && c->verdict != DPS_VERDICT_FINAL)
                return;

        dps_reply_error(&reply, DPS_STEP_POLL, &error);
        assert_int_equal(error.id, c->id);
        assert_int_equal(error.step, DPS_STEP_POLL);
        assert_int_equal(error.code, c->code);
        assert_int_equal(error.final, c->verdict == DPS_VERDICT_FINAL);
        assert_false(isempty(error.message));
}

/* ---- what is read ---- */

static void parse(uint32_t status, const char *body, DpsReply *ret) {
        *ret = (DpsReply){ .status = status };
        assert_int_equal(dps_reply_parse_body(ret, body, strlen(body)), 0);
}

static void test_the_golden_answers_are_read(void **state) {
        static const char first[] = "{\"operationId\":\"" OPERATION "\",\"status\":\"assigning\"}";
        static const char last[] =
                "{\"operationId\":\"" OPERATION
                "\",\"status\":\"assigned\",\"registrationState\":{\"x509\":{},"
                "\"registrationId\":\"my-reg\",\"createdDateTimeUtc\":\"2022-08-31T22:02:50.5163352Z\","
                "\"assignedHub\":\"MyExampleHub.azure-devices.net\",\"deviceId\":\"my-dev\",\"status\":"
                "\"assigned\","
                "\"substatus\":\"initialAssignment\",\"lastUpdatedDateTimeUtc\":\"2022-08-31T22:02:50."
                "7370676Z\","
                "\"etag\":\"IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI=\"}}";
        _cleanup_(dps_reply_done) DpsReply a = { 0 }, b = { 0 };

        parse(202, first, &a);
        assert_string_equal(a.operation_id, OPERATION);
        assert_null(a.registration_state);

        parse(200, last, &b);
        assert_null(b.malformed);
        assert_string_equal(b.registration_id, "my-reg");
        assert_string_equal(b.assigned_hub, "MyExampleHub.azure-devices.net");
        assert_string_equal(b.device_id, "my-dev");
        assert_string_equal(b.substatus, "initialAssignment");
        assert_null(b.payload);
        assert_non_null(strstr(b.registration_state, "\"etag\":\"IjY5MDAz"));
}

static void test_an_error_document_is_read(void **state) {
        _cleanup_(dps_reply_done) DpsReply reply = { 0 };
        DpsError error;

        parse(401, REFUSAL("401002"), &reply);
        assert_int_equal(reply.timestamp_sec, 1586496262);
        dps_reply_error(&reply, DPS_STEP_REGISTER, &error);
        assert_string_equal(error.tracking_id, "8ad0463c");
        assert_non_null(strstr(error.message, "401002"));
        assert_non_null(strstr(error.message, "No."));
}

/* The time decides whether a 401 is a clock error, so a wrong time is worse than no time. */
static const struct time_case {
        const char *promise, *json;
        uint64_t sec; /* 0: none */
} time_cases[] = {
        { "a time has seven fractional digits", "\"2020-04-10T05:24:22.4718526Z\"", 1586496262 },
        { "a time may have fewer", "\"2020-04-10T05:24:22.4Z\"", 1586496262 },
        { "a time may have none", "\"2020-04-10T05:24:22Z\"", 1586496262 },
        { "a time without a zone is UTC, as its name says", "\"2020-04-10T05:24:22\"", 1586496262 },
        { "a time of another zone is ignored", "\"2020-04-10T05:24:22+02:00\"", 0 },
        { "a time with text behind it is ignored", "\"2020-04-10T05:24:22Z or so\"", 0 },
        { "a day without a time is ignored", "\"2020-04-10\"", 0 },
        { "a time with month 13 is ignored", "\"2020-13-10T05:24:22Z\"", 0 },
        { "a time before 1970 is ignored", "\"1950-04-10T05:24:22Z\"", 0 },
        { "garbage as time is ignored", "\"soon\"", 0 },
        { "an empty time is ignored", "\"\"", 0 },
        { "a number as time is ignored", "1586496262", 0 },
        { "a null time is ignored", "null", 0 },
};

static void check_time(void **state) {
        const struct time_case *c = *state;
        _cleanup_(dps_reply_done) DpsReply reply = { 0 };
        char body[128];

        (void) snprintf(body, sizeof(body), "{\"errorCode\":401002,\"timestampUtc\":%s}", c->json);
        parse(401, body, &reply);
        assert_int_equal(reply.timestamp_sec, c->sec);
}

static const struct payload_case {
        const char *promise, *json, *payload;
} payload_cases[] = {
        { "an object is passed on", "{\"a\":[1,null]}", "{\"a\":[1,null]}" },
        { "an array is passed on", "[1,2]", "[1,2]" },
        { "a string is passed on as JSON", "\"a/b\"", "\"a/b\"" },
        { "a payload is passed on as it came", "{ \"n\" : [98765432109876543210,-0], \"s\":\"\\u0041\\/\" }",
          "{ \"n\" : [98765432109876543210,-0], \"s\":\"\\u0041\\/\" }" },
        { "null is not a payload", "null", NULL },
};

static void check_payload(void **state) {
        const struct payload_case *c = *state;
        _cleanup_(dps_reply_done) DpsReply reply = { 0 };
        char body[256];

        (void) snprintf(body, sizeof(body), STATE("\"assignedHub\":\"h\",\"deviceId\":\"d\",\"payload\":%s"),
                        c->json);
        parse(200, body, &reply);
        assert_true(streq_ptr(reply.payload, c->payload));
        if (c->payload)
                assert_non_null(strstr(reply.registration_state, c->payload));
}

static void test_text_for_people_is_made_safe(void **state) {
        _cleanup_(dps_reply_done) DpsReply reply = { 0 };

        parse(401, "{\"message\":\"a\\nb\\u001b[31m\",\"trackingId\":\"x\\ry\"}", &reply);
        assert_string_equal(reply.error_message, "a?b?[31m");
        assert_string_equal(reply.tracking_id, "x?y");
}

static void test_a_large_payload_is_accepted_and_a_too_large_body_is_not(void **state) {
        static const char head[] =
                "{\"status\":\"assigned\",\"registrationState\":{\"assignedHub\":\"h\",\"deviceId\":\"d\","
                "\"payload\":\"";
        static const char tail[] = "\"}}";
        size_t n_head = sizeof(head) - 1, n_tail = sizeof(tail) - 1;

        for (size_t size = DPS_REPLY_SIZE_MAX; size <= DPS_REPLY_SIZE_MAX + 1; size++) {
                _cleanup_(dps_reply_done) DpsReply reply = { .status = 200 };
                _cleanup_(freep) char *body = malloc(size);

                assert_non_null(body);
                memset(body, 'x', size);
                memcpy(body, head, n_head);
                memcpy(body + size - n_tail, tail, n_tail);
                assert_int_equal(dps_reply_parse_body(&reply, body, size), 0);
                assert_int_equal(dps_reply_verdict(&reply),
                                 size == DPS_REPLY_SIZE_MAX ? DPS_VERDICT_ASSIGNED : DPS_VERDICT_RETRY);
        }
}

static void test_an_operation_id_has_256_letters_at_most(void **state) {
        for (int size = 256; size <= 257; size++) {
                _cleanup_(dps_reply_done) DpsReply reply = { 0 };
                char body[512];

                (void) snprintf(body, sizeof(body), "{\"operationId\":\"%0*d\",\"status\":\"assigning\"}",
                                size, 0);
                parse(202, body, &reply);
                assert_int_equal(dps_reply_verdict(&reply),
                                 size == 256 ? DPS_VERDICT_ASSIGNING : DPS_VERDICT_RETRY);
        }
}

static void test_a_nul_does_not_hide_what_follows_it(void **state) {
        static const char body[] = ASSIGNED("\"h\"", "\"d\"") "\0{}";
        _cleanup_(dps_reply_done) DpsReply reply = { .status = 200 };

        assert_int_equal(dps_reply_parse_body(&reply, body, sizeof(body) - 1), 0);
        assert_int_equal(dps_reply_verdict(&reply), DPS_VERDICT_RETRY);
        assert_null(reply.assigned_hub);
}

/* json-c decides which of the two members counts; the result must be valid in either case. */
static void test_repeated_members_do_not_get_around_the_checks(void **state) {
        _cleanup_(dps_reply_done) DpsReply reply = { 0 };

        parse(200,
              STATE("\"assignedHub\":\"h\",\"assignedHub\":\"../x\",\"deviceId\":\"#\",\"deviceId\":\"d\""),
              &reply);
        assert_true(!reply.assigned_hub || dps_host_name_is_valid(reply.assigned_hub));
        assert_true(!reply.device_id || dps_device_id_is_valid(reply.device_id));
}

/* ---- names ---- */

static const struct name_case {
        const char *promise, *name;
        bool is_valid;
} host_cases[] = {
        { "a hub's name is valid", "hub1.azure-devices.net", true },
        { "capitals are valid in a host name", "MyExampleHub.azure-devices.net", true },
        { "one label is a host name", "hub", true },
        { "a label may have 63 letters", LABEL_63 ".net", true },
        { "a label may not have 64", LABEL_63 "a.net", false },
        { "253 letters are the most",
          LABEL_63 "." LABEL_63 "." LABEL_63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          true },
        { "254 letters are too many",
          LABEL_63 "." LABEL_63 "." LABEL_63
                   ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          false },
        { "an empty name is not valid", "", false },
        { "an empty label is not valid", "a..b", false },
        { "a name does not begin with a dot", ".a", false },
        { "a name does not end with a dot", "a.", false },
        { "a label does not begin with a hyphen", "a.-b", false },
        { "a label does not end with a hyphen", "a-.b", false },
        { "a host name has no scheme", "https://a", false },
        { "a host name has no underscore", "a_b", false },
        { "a host name has no space", "a b", false },
        { "a host name has no letters of other alphabets", "\xc3\xa9.net", false },
};

static void check_host(void **state) {
        const struct name_case *c = *state;

        assert_int_equal(dps_host_name_is_valid(c->name), c->is_valid);
}

static const struct name_case device_cases[] = {
        { "a device id is valid", "my-dev", true },
        { "IoT Hub's whole alphabet is valid", "aZ09-.%_*?!(),:=@$'+#;", true },
        { "128 letters are valid", LABEL_63 LABEL_63 "aa", true },
        { "129 letters are too many", LABEL_63 LABEL_63 "aaa", false },
        { "an empty device id is not valid", "", false },
        { "a device id has no slash", "a/b", false },
        { "other printable characters are valid", "a&b<c>d[e]f^g{h|i}~", true },
        { "a device id has no backslash", "a\\b", false },
        { "a device id has no backtick", "a`b", false },
        { "a device id has no letters beyond ASCII", "a\xc3\xa4", false },
        { "a device id has no space", "a b", false },
        { "a device id has no quotation mark", "a\"b", false },
        { "a device id has no control characters", "a\tb", false },
};

static void check_device(void **state) {
        const struct name_case *c = *state;

        assert_int_equal(dps_device_id_is_valid(c->name), c->is_valid);
}

/* ---- random input ---- */

#define N_MUTANTS 20000

/* A few bytes replaced, removed or doubled. */
static size_t mutate(char *text, size_t size, size_t max, uint64_t *seed) {
        static const char nasty[] = "\0\"\\{}[]:,&=?$/0123456789eE.-+nN\xc0\xed\xff\n";

        for (uint64_t n = 1 + next_random(seed) % 4; n > 0 && size > 0; n--) {
                size_t at = next_random(seed) % size;

                switch (next_random(seed) % 4) {
                case 0:
                        text[at] = (char) next_random(seed);
                        break;
                case 1:
                        text[at] = nasty[next_random(seed) % (sizeof(nasty) - 1)];
                        break;
                case 2:
                        memmove(text + at, text + at + 1, --size - at);
                        break;
                case 3:
                        if (size < max) {
                                memmove(text + at + 1, text + at, size - at);
                                size++;
                        }
                        break;
                }
        }
        return size;
}

static void check_sane(const DpsReply *reply) {
        DpsVerdict verdict = dps_reply_verdict(reply);
        DpsError error;

        assert_true(!reply->assigned_hub || dps_host_name_is_valid(reply->assigned_hub));
        assert_true(!reply->device_id || dps_device_id_is_valid(reply->device_id));
        assert_true(!reply->operation_id || !strpbrk(reply->operation_id, "/#+?&$\n"));

        switch (verdict) {
        case DPS_VERDICT_ASSIGNED:
                assert_non_null(reply->assigned_hub);
                assert_non_null(reply->device_id);
                assert_uint_in_range(reply->status, 200, 299);
                break;
        case DPS_VERDICT_ASSIGNING:
                assert_uint_in_range(reply->status, 200, 299);
                break;
        case DPS_VERDICT_CHALLENGE:
                assert_int_equal(reply->status, 401);
                assert_non_null(reply->authentication_key);
                break;
        case DPS_VERDICT_RETRY:
        case DPS_VERDICT_FINAL:
                dps_reply_error(reply, DPS_STEP_POLL, &error);
                assert_int_not_equal(error.id, DPS_ERROR_NONE);
                assert_int_equal(error.final, verdict == DPS_VERDICT_FINAL);
                assert_true(utf8_is_valid(error.message, strlen(error.message)));
                assert_null(strchr(error.message, '\n'));
                break;
        }
}

/* ---- issued certificates and the profile ---- */

static void read_assigned(const char *members, DpsReply *ret) {
        _cleanup_(freep) char *body = NULL;

        assert_true(asprintf(&body,
                             "{\"operationId\":\"1\",\"status\":\"assigned\",\"registrationState\":{"
                             "\"assignedHub\":"
                             "\"h.example\",\"deviceId\":\"d\"%s}}",
                             members) > 0);
        *ret = (DpsReply){ .status = 200 };
        assert_int_equal(dps_reply_parse_body(ret, body, strlen(body)), 0);
}

static void test_an_issued_chain_is_read_as_it_was_sent(void **state) {
        DpsReply reply;

        read_assigned(",\"connectionProfile\":\"MqttV5\",\"issuedCertificateChain\":[\"TUlJ\",\"QQ==\"]",
                      &reply);
        assert_null(reply.malformed);
        assert_string_equal(reply.issued_chain[0], "TUlJ");
        assert_string_equal(reply.issued_chain[1], "QQ==");
        assert_null(reply.issued_chain[2]);
        assert_string_equal(reply.connection_profile, "MqttV5");
        assert_true(dps_connection_profile_is_v5(reply.connection_profile));
        dps_reply_done(&reply);
        assert_null(reply.issued_chain);
}

static void test_what_is_not_a_chain_counts_as_none(void **state) {
        static const char *const members[] = {
                "",
                ",\"issuedCertificateChain\":null",
                ",\"issuedCertificateChain\":[]",
                ",\"issuedCertificateChain\":\"TUlJ\"",
                ",\"issuedCertificateChain\":[\"TUlJ\",null]",
                ",\"issuedCertificateChain\":[[\"TUlJ\"]]",
                ",\"issuedCertificateChain\":[\"a\\u0000b\"]",
        };

        for (size_t i = 0; i < ELEMENTSOF(members); i++) {
                DpsReply reply;

                read_assigned(members[i], &reply);
                assert_null(reply.malformed);
                assert_null(reply.issued_chain);
                assert_int_equal(dps_reply_verdict(&reply), DPS_VERDICT_ASSIGNED);
                dps_reply_done(&reply);
        }
}

static void test_a_chain_of_more_than_16_is_malformed(void **state) {
        char members[256] = ",\"issuedCertificateChain\":[";
        DpsReply reply;

        for (unsigned i = 0; i <= DPS_ISSUED_CHAIN_MAX; i++)
                strcat(members, i == 0 ? "\"QQ==\"" : ",\"QQ==\"");
        strcat(members, "]");
        read_assigned(members, &reply);
        assert_non_null(reply.malformed);
        assert_null(reply.issued_chain);
        dps_reply_done(&reply);
}

static void test_a_profile_is_compared_without_case_and_absent_where_it_is_no_word(void **state) {
        DpsReply reply;

        assert_true(dps_connection_profile_is_v5("mqttV5") && dps_connection_profile_is_v5("MQTTv5"));
        assert_false(dps_connection_profile_is_v5(NULL) || dps_connection_profile_is_v5("classic") ||
                     dps_connection_profile_is_v5("mqttV55"));
        read_assigned(",\"connectionProfile\":null", &reply);
        assert_null(reply.connection_profile);
        dps_reply_done(&reply);
        read_assigned(",\"connectionProfile\":5", &reply);
        assert_null(reply.connection_profile);
        dps_reply_done(&reply);
}

static void test_random_bodies_do_no_harm(void **state) {
        uint64_t seed = 1;

        for (unsigned k = 0; k < N_MUTANTS; k++) {
                const struct body_case *c = &body_cases[k % ELEMENTSOF(body_cases)];
                size_t size = strlen(c->body), max = size + 4;
                _cleanup_(dps_reply_done) DpsReply reply = { .status = c->status };
                _cleanup_(freep) char *mutant = malloc(max), *exact = NULL;

                assert_non_null(mutant);
                memcpy(mutant, c->body, size);
                size = mutate(mutant, size, max, &seed);
                /* The copy has exactly the size of the text, so that the sanitizer notices a read beyond its
                 * end. */
                exact = malloc(size + (size == 0));
                assert_non_null(exact);
                memcpy(exact, mutant, size);

                assert_int_equal(dps_reply_parse_body(&reply, exact, size), 0);
                check_sane(&reply);
        }
}

static void test_random_topics_do_no_harm(void **state) {
        uint64_t seed = 2;

        for (unsigned k = 0; k < N_MUTANTS; k++) {
                const struct topic_case *c = &topic_cases[k % ELEMENTSOF(topic_cases)];
                char topic[128] = { 0 };
                DpsReply reply = { .status = 1 };
                int r;

                topic[mutate(memcpy(topic, c->topic, strlen(c->topic)), strlen(c->topic), sizeof(topic) - 1,
                             &seed)] = 0;
                r = dps_reply_parse_topic(topic, &reply);
                assert_true(r == 0 || r == -ENOMSG || r == -EBADMSG);
                assert_uint_in_range(reply.status, r < 0 ? 1 : 0, r < 0 ? 1 : 999);
                assert_true(r == 0 || !reply.has_retry_after);
        }
}

#define N_ROWS                                                                                               \
        (ELEMENTSOF(topic_cases) + ELEMENTSOF(body_cases) + ELEMENTSOF(payload_cases) +                      \
         ELEMENTSOF(time_cases) + ELEMENTSOF(host_cases) + ELEMENTSOF(device_cases))

int main(void) {
        struct CMUnitTest tests[N_ROWS + 17] = {
                cmocka_unit_test(test_a_refused_topic_does_not_change_the_reply),
                cmocka_unit_test(test_the_golden_answers_are_read),
                cmocka_unit_test(test_an_error_document_is_read),
                cmocka_unit_test(test_a_challenge_names_its_key),
                cmocka_unit_test(test_the_key_for_the_hub_is_not_a_part_of_the_state),
                cmocka_unit_test(test_a_copy_owns_its_strings),
                cmocka_unit_test(test_text_for_people_is_made_safe),
                cmocka_unit_test(test_a_large_payload_is_accepted_and_a_too_large_body_is_not),
                cmocka_unit_test(test_an_operation_id_has_256_letters_at_most),
                cmocka_unit_test(test_a_nul_does_not_hide_what_follows_it),
                cmocka_unit_test(test_repeated_members_do_not_get_around_the_checks),
                cmocka_unit_test(test_an_issued_chain_is_read_as_it_was_sent),
                cmocka_unit_test(test_what_is_not_a_chain_counts_as_none),
                cmocka_unit_test(test_a_chain_of_more_than_16_is_malformed),
                cmocka_unit_test(test_a_profile_is_compared_without_case_and_absent_where_it_is_no_word),
                cmocka_unit_test(test_random_bodies_do_no_harm),
                cmocka_unit_test(test_random_topics_do_no_harm),
        };
        size_t n = 17;

        ADD_ROWS(tests, n, topic_cases, check_topic);
        ADD_ROWS(tests, n, body_cases, check_body);
        ADD_ROWS(tests, n, time_cases, check_time);
        ADD_ROWS(tests, n, payload_cases, check_payload);
        ADD_ROWS(tests, n, host_cases, check_host);
        ADD_ROWS(tests, n, device_cases, check_device);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
