/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "client/client.h"
#include "config/conf.h"
#include "credential/credential-class.h"
#include "timed-world.h"

/* The client alone, without identity, disk or network. The test plays the transport, the key, the owner and
 * the time. */

#define JOBS_MAX 8
#define OPERATION "5.0000000000000001.op"

/* ---- the transport ---- */

typedef struct FakeTransport {
        TransportClass class;
        unsigned n_connects, n_registers, n_polls, n_open;
        uint64_t request_id;
        char token[64]; /* of the last connection; "": none */
        char body[256]; /* of the last register */
} FakeTransport;

typedef struct FakeConnection {
        Transport transport;
        TransportHandlers handlers;
        void *userdata;
} FakeConnection;

static FakeTransport transport;
static FakeConnection *connection; /* the last one; NULL: it is closed */

static int fake_connect(TransportClass *class, const TransportTarget *target,
                        const TransportHandlers *handlers, void *userdata, Transport **ret, DpsError *error) {
        FakeConnection *c = calloc(1, sizeof(*c));

        assert_non_null(c);
        *c = (FakeConnection){ .transport.class = class, .handlers = *handlers, .userdata = userdata };
        (void) snprintf(transport.token, sizeof(transport.token), "%s", target->token ?: "");
        transport.n_connects++;
        transport.n_open++;
        connection = c;
        *ret = &c->transport;
        return 0;
}

static int fake_send(Transport *t, const DpsRequest *request, const char *body) {
        transport.request_id = request->request_id;
        if (body)
                (void) snprintf(transport.body, sizeof(transport.body), "%s", body);
        *(request->kind == DPS_REQUEST_POLL ? &transport.n_polls : &transport.n_registers) += 1;
        return 0;
}

static Transport *fake_free(Transport *t) {
        if (connection == (FakeConnection *) t)
                connection = NULL;
        transport.n_open--;
        free(t);
        return NULL;
}

static void fake_rest(TransportClass *class) {
}

static struct {
        TransportChoice last; /* that was asked for */
        bool https_is_missing;
} ways;

static int fake_get(Transports *t, TransportChoice way, TransportClass **ret, DpsError *error) {
        if (way == TRANSPORT_HTTPS && ways.https_is_missing) {
                dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "not installed");
                return -EOPNOTSUPP;
        }
        ways.last = way;
        *ret = &transport.class;
        return 0;
}

static void fake_rest_all(Transports *t) {
}

static Transports transports = { fake_get, fake_rest_all };

/* ---- the key ---- */

static unsigned n_loads, n_keys;
static bool *held_after_load; /* NULL: the work that comes after it runs */

static unsigned key_count(const Settings *s) {
        return n_keys;
}

static int key_load(Credential *c, const CredentialSource *source, DpsError *error) {
        n_loads++;
        if (held_after_load)
                *held_after_load = true;
        (void) snprintf(c->fingerprint, sizeof(c->fingerprint), "key-%u", source->index);
        return 0;
}

static int key_sign(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, DpsError *error) {
        *ret = strdup("token");
        return *ret ? 0 : -ENOMEM;
}

static void key_done(Credential *c) {
}

static const CredentialClass key_class = { .method = METHOD_SYMMETRIC_KEY,
                                           .size = sizeof(Credential),
                                           .count = key_count,
                                           .load = key_load,
                                           .sign = key_sign,
                                           .done = key_done };

/* ---- the TPM ---- */

static unsigned n_answers;
static bool tpm_is_busy;

static int tpm_load(Credential *c, const CredentialSource *source, DpsError *error) {
        static const TpmKeys keys = { (char *) "EK", (char *) "SRK", (char *) "id" };

        c->tpm_keys = &keys;
        (void) snprintf(c->fingerprint, sizeof(c->fingerprint), "loaded");
        return 0;
}

static int tpm_sign(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, DpsError *error) {
        return asprintf(ret, "%s by %s", policy, c->fingerprint) < 0 ? -ENOMEM : 0;
}

static int tpm_answer(const Credential *c, const char *authentication_key, bool keep, Credential *answered,
                      DpsError *error) {
        n_answers++;
        if (tpm_is_busy) {
                dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the TPM is busy");
                return -EAGAIN;
        }
        answered->tpm_keys = c->tpm_keys;
        (void) snprintf(answered->fingerprint, sizeof(answered->fingerprint), "%s%s", authentication_key,
                        keep ? ", kept" : "");
        return 0;
}

static const CredentialClass tpm_class = { .method = METHOD_TPM,
                                           .size = sizeof(Credential),
                                           .is_slow = true,
                                           .count = key_count,
                                           .load = tpm_load,
                                           .sign = tpm_sign,
                                           .answer = tpm_answer,
                                           .done = key_done };

/* ---- the owner ---- */

typedef struct Owner {
        Client *client;
        unsigned n_assigned, n_failed;
        DpsErrorId error;
        char fingerprint[FINGERPRINT_SIZE]; /* of the credential that is assigned */
        uint64_t jobs[JOBS_MAX];            /* those that have ended */
        size_t n_jobs;
        TransportChoice worked;
        unsigned n_ways, n_missing;
} Owner;

static TimedWorld world;
static Window *window;
static Settings *settings;
static Owner one, two;

static void end_jobs(Owner *o, Jobs jobs) {
        for (const Job *j = jobs.first; j; j = j->next)
                o->jobs[o->n_jobs++] = j->id;
        jobs_done(&jobs);
}

static void on_assigned(const DpsReply *reply, Credential *credential, Jobs jobs, void *userdata) {
        Owner *o = userdata;

        assert_string_equal(reply->assigned_hub, "hub.example");
        (void) snprintf(o->fingerprint, sizeof(o->fingerprint), "%s", credential_fingerprint(credential));
        o->n_assigned++;
        end_jobs(o, jobs);
}

static void on_failed(const DpsError *error, Jobs jobs, void *userdata) {
        Owner *o = userdata;

        o->n_failed++;
        o->error = error->id;
        end_jobs(o, jobs);
}

static void on_nothing(void *userdata) {
}

static bool is_clock_right(void *userdata) {
        return true;
}

static void folders(Folder **ret_state, Folder **ret_notes, void *userdata) {
        *ret_state = *ret_notes = NULL;
}

static TransportChoice way_that_worked(void *userdata) {
        return ((Owner *) userdata)->worked;
}

static void on_way(TransportChoice way, const DpsError *missing, void *userdata) {
        Owner *o = userdata;

        o->n_ways++;
        o->n_missing += missing != NULL;
}

static const ClientHandlers handlers = { .on_assigned = on_assigned,
                                         .on_failed = on_failed,
                                         .on_changed = on_nothing,
                                         .on_answer = on_nothing,
                                         .on_poll = on_nothing,
                                         .is_clock_right = is_clock_right,
                                         .way_that_worked = way_that_worked,
                                         .on_way = on_way,
                                         .folders = folders };

static void owner_init(Owner *o) {
        *o = (Owner){ 0 };
        assert_int_equal(client_new(&world.world, window, &transports, &handlers, o, &o->client), 0);
}

static Settings *make_settings(void) {
        static const char *const rows[][3] = { { "Provisioning", "IdScope", "0ne00000001" },
                                               { "Provisioning", "RegistrationId", "dev-1" },
                                               { "Attestation", "Key", "/nowhere/key" } };
        ConfLine lines[ELEMENTSOF(rows)];
        ConfReport report = { 0 };
        Settings *s = NULL;

        for (size_t k = 0; k < ELEMENTSOF(rows); k++)
                lines[k] = (ConfLine){ .section = (char *) rows[k][0],
                                       .key = (char *) rows[k][1],
                                       .value = (char *) rows[k][2],
                                       .file = "one.conf",
                                       .line = 1 };
        assert_int_equal(
                settings_from_conf(
                        NULL, &(Conf){ .name = (char *) "one", .lines = lines, .n_lines = ELEMENTSOF(lines) },
                        &report, &s),
                0);
        assert_false(report.has_errors);
        conf_report_done(&report);
        return s;
}

static int set_up(void **state) {
        timed_world_init(&world);
        transport = (FakeTransport){ .class = { .name = "fake",
                                                .connect = fake_connect,
                                                .send = fake_send,
                                                .free = fake_free,
                                                .rest = fake_rest } };
        connection = NULL;
        n_loads = 0;
        n_keys = 1;
        n_answers = 0;
        held_after_load = NULL;
        tpm_is_busy = false;
        ways.last = TRANSPORT_AUTO;
        ways.https_is_missing = false;
        credential_set_class(METHOD_SYMMETRIC_KEY, &key_class);
        credential_set_class(METHOD_TPM, &tpm_class);
        settings = make_settings();
        assert_int_equal(window_new(&world.world, &window), 0);
        owner_init(&one);
        owner_init(&two);
        return 0;
}

static int tear_down(void **state) {
        client_free(one.client);
        client_free(two.client);
        window_free(window);
        settings_unref(settings);
        assert_int_equal(transport.n_open, 0);
        timed_world_done(&world);
        return 0;
}

/* ---- what happens ---- */

static void begin(Owner *o) {
        DpsRegistrationHistory none = { 0 };

        assert_int_equal(client_begin(o->client, settings, METHOD_SYMMETRIC_KEY, &none), 0);
        client_attempt(o->client, NULL);
        timed_world_pass(&world, 1);
}

static void log_in(void) {
        assert_non_null(connection);
        connection->handlers.on_ready(connection->userdata);
}

static void answer(const DpsReply *reply) {
        DpsReply r = *reply;

        assert_non_null(connection);
        r.request_id = transport.request_id;
        connection->handlers.on_reply(&r, connection->userdata);
}

static void answer_assigning(uint64_t retry_after_sec) {
        answer(&(DpsReply){ .status = 202,
                            .word = DPS_STATUS_ASSIGNING,
                            .operation_id = (char *) OPERATION,
                            .has_retry_after = true,
                            .retry_after_sec = retry_after_sec });
}

static void answer_assigned(void) {
        answer(&(DpsReply){ .status = 200,
                            .word = DPS_STATUS_ASSIGNED,
                            .assigned_hub = (char *) "hub.example",
                            .device_id = (char *) "dev-1",
                            .registration_id = (char *) "dev-1" });
}

static void answer_throttled(uint64_t retry_after_sec) {
        answer(&(DpsReply){ .status = 429,
                            .error_code = 429001,
                            .has_retry_after = retry_after_sec > 0,
                            .retry_after_sec = retry_after_sec });
}

static void lose(void) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_LOST, DPS_STEP_NONE, "the connection broke");
        connection->handlers.on_closed(&error, connection->userdata);
}

/* ---- the tests ---- */

static void test_a_registration_ends_with_the_assignment(void **state) {
        begin(&one);
        assert_int_equal(client_state(one.client), CLIENT_IN_FLIGHT);
        log_in();
        answer_assigning(3);
        timed_world_pass(&world, 4 * USEC_PER_SEC);
        assert_int_equal(transport.n_polls, 1);
        answer_assigned();
        assert_int_equal(one.n_assigned, 1);
        assert_int_equal(client_state(one.client), CLIENT_IDLE);
        assert_int_equal(transport.n_open, 0);
}

static void test_no_timer_fires_after_the_end_of_the_registration(void **state) {
        begin(&one);
        log_in();
        answer_assigned();
        assert_int_equal(one.n_assigned, 1);
        timed_world_pass(&world, 0);
        assert_null(timed_world_next(&world));
        timed_world_pass(&world, USEC_PER_DAY);
        assert_int_equal(transport.n_connects, 1);
}

static void test_a_client_that_never_registered_has_no_timer(void **state) {
        const TimedTimer *before = world.timers;
        Owner other;

        owner_init(&other);
        assert_ptr_equal(world.timers, before);
        client_free(other.client);
}

static void test_the_credential_is_loaded_once_for_a_registration(void **state) {
        begin(&one);
        log_in();
        answer_assigning(120); /* it is parked, and will reconnect */
        assert_int_equal(client_state(one.client), CLIENT_PARKED);
        timed_world_pass(&world, 200 * USEC_PER_SEC);
        assert_int_equal(n_loads, 1);
        assert_string_equal(client_fingerprint(one.client), "key-0");
}

/* The caller's is the only reference. */
static Credential *offer(const CredentialClass *class) {
        Credential *offered = calloc(1, sizeof(*offered));

        assert_non_null(offered);
        *offered = (Credential){ .class = class,
                                 .settings = settings_ref(settings),
                                 .n_references = 1,
                                 .fingerprint = "offered" };
        return offered;
}

static void begin_with(Owner *o, Credential *offered) {
        DpsRegistrationHistory none = { 0 };

        assert_int_equal(client_begin(o->client, settings, METHOD_SYMMETRIC_KEY, &none), 0);
        client_attempt(o->client, offered);
        timed_world_pass(&world, 1);
}

static void test_a_credential_that_is_offered_is_not_loaded(void **state) {
        _cleanup_(credential_unrefp) Credential *offered = offer(&key_class);

        begin_with(&one, offered);
        assert_int_equal(transport.n_connects, 1);
        assert_int_equal(n_loads, 0);
        assert_string_equal(client_fingerprint(one.client), "offered");
}

static void test_a_refused_key_is_followed_by_the_next_one(void **state) {
        n_keys = 2;
        begin(&one);
        log_in();
        answer(&(DpsReply){ .status = 401, .error_code = 401002 });
        timed_world_pass(&world, USEC_PER_SEC);
        assert_int_equal(one.n_failed, 0);
        assert_int_equal(transport.n_connects, 2);
        assert_string_equal(client_fingerprint(one.client), "key-1");
}

static void test_a_job_ends_once_with_the_attempt_that_it_joined(void **state) {
        begin(&one);
        log_in();
        assert_int_equal(client_add_job(one.client, 7), 0);
        answer_assigned();
        assert_int_equal(one.n_jobs, 1);
        assert_int_equal(one.jobs[0], 7);
        begin(&one);
        log_in();
        answer_assigned();
        assert_int_equal(one.n_assigned, 2);
        assert_int_equal(one.n_jobs, 1);
}

static void test_all_jobs_end_with_the_failure_of_the_attempt(void **state) {
        assert_int_equal(client_add_job(one.client, 1), 0);
        begin(&one);
        log_in();
        assert_int_equal(client_add_job(one.client, 2), 0);
        lose();
        assert_int_equal(one.n_failed, 1);
        assert_int_equal(one.n_jobs, 2);
        assert_false(client_has_jobs(one.client));
}

static void test_the_jobs_of_a_cancelled_registration_wait_for_the_next_one(void **state) {
        begin(&one);
        log_in();
        assert_int_equal(client_add_job(one.client, 5), 0);
        client_cancel(one.client);
        assert_int_equal(client_state(one.client), CLIENT_IDLE);
        assert_int_equal(transport.n_open, 0);
        assert_int_equal(one.n_jobs, 0);
        begin(&one);
        log_in();
        answer_assigned();
        assert_int_equal(one.n_jobs, 1);
        assert_int_equal(one.jobs[0], 5);
}

static void test_no_caller_can_shorten_the_wait_that_dps_told(void **state) {
        begin(&one);
        log_in();
        answer_throttled(60);
        assert_int_equal(one.error, DPS_ERROR_THROTTLED);
        assert_int_equal(client_state(one.client), CLIENT_BETWEEN);
        client_hasten(one.client, 0);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 59 * USEC_PER_SEC);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 1);
        assert_int_equal(transport.n_connects, 1);
        assert_true(client_next_usec(one.client) <= world.now_usec + USEC_PER_SEC);
        timed_world_pass(&world, USEC_PER_SEC);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 1);
        assert_int_equal(transport.n_connects, 2);
}

static void test_a_wait_is_hastened_if_dps_told_none(void **state) {
        begin(&one);
        log_in();
        lose();
        assert_true(client_next_usec(one.client) > world.now_usec);
        client_hasten(one.client, 0);
        assert_true(client_next_usec(one.client) <= world.now_usec);
}

static void test_a_wait_that_dps_told_an_earlier_run_holds(void **state) {
        DpsRegistrationHistory history = { .attempts = 1,
                                           .not_before_usec = world.now_usec + USEC_PER_MINUTE };

        assert_int_equal(client_begin(one.client, settings, METHOD_SYMMETRIC_KEY, &history), 0);
        assert_int_equal(client_state(one.client), CLIENT_BETWEEN);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 1);
        assert_int_equal(transport.n_connects, 0);
}

static void test_without_a_slot_an_attempt_waits_and_no_deadline_runs(void **state) {
        window_set_max(window, 1);
        begin(&one);
        begin(&two);
        assert_int_equal(client_state(two.client), CLIENT_QUEUED);
        assert_true(client_next_usec(two.client) == USEC_INFINITY);
        log_in();
        answer_assigned();
        timed_world_pass(&world, 1);
        assert_int_equal(client_state(two.client), CLIENT_IN_FLIGHT);
        assert_int_equal(two.n_failed, 0);
}

static void test_a_long_wait_is_spent_without_connection_and_slot(void **state) {
        window_set_max(window, 1);
        begin(&one);
        log_in();
        answer_assigning(120);
        assert_int_equal(transport.n_open, 0);
        begin(&two);
        assert_int_equal(client_state(two.client), CLIENT_IN_FLIGHT);
}

static void test_a_throttled_client_delays_its_whole_scope(void **state) {
        begin(&one);
        log_in();
        answer_throttled(60);
        begin(&two);
        assert_int_equal(client_state(two.client), CLIENT_BETWEEN);
        assert_int_equal(transport.n_connects, 1);
        assert_true(client_next_usec(two.client) >= world.now_usec - 1 + 60 * USEC_PER_SEC);
        assert_true(client_told_usec(two.client) > 0);
        assert_int_equal(two.n_failed, 0);
}

static void test_the_key_does_not_stay_while_the_scope_is_paused(void **state) {
        _cleanup_(credential_unrefp) Credential *offered = offer(&key_class);

        window_set_max(window, 1);
        begin(&two);
        log_in();
        lose();
        timed_world_pass(&world, USEC_PER_MINUTE);
        begin(&one);
        log_in();
        client_attempt(two.client, offered);
        assert_int_equal(client_state(two.client), CLIENT_QUEUED);
        answer_throttled(60);
        timed_world_pass(&world, 1);
        assert_int_equal(client_state(two.client), CLIENT_BETWEEN);
        assert_int_equal(offered->n_references, 1);
}

static void test_a_key_that_does_not_come_ends_the_attempt(void **state) {
        world.holds_work = true;
        begin(&one);
        timed_world_pass(&world, 29 * USEC_PER_SEC);
        assert_int_equal(one.n_failed, 0);
        timed_world_pass(&world, 2 * USEC_PER_SEC);
        assert_int_equal(one.n_failed, 1);
        assert_int_equal(one.error, DPS_ERROR_KEY);
        assert_int_equal(client_state(one.client), CLIENT_BETWEEN);
        assert_null(world.works);
}

static void test_a_token_that_does_not_come_ends_the_attempt(void **state) {
        CredentialClass slow_class = key_class;
        _cleanup_(credential_unrefp) Credential *offered = NULL;

        slow_class.is_slow = true;
        offered = offer(&slow_class);
        world.holds_work = true;
        begin_with(&one, offered);
        assert_non_null(world.works); /* the signing */
        timed_world_pass(&world, 31 * USEC_PER_SEC);
        assert_int_equal(one.n_failed, 1);
        assert_int_equal(one.error, DPS_ERROR_KEY);
        assert_null(world.works);
}

static void test_an_answer_that_does_not_come_ends_the_attempt(void **state) {
        begin(&one);
        log_in();
        timed_world_pass(&world, 31 * USEC_PER_SEC);
        assert_int_equal(one.error, DPS_ERROR_TIMEOUT);
        assert_int_equal(transport.n_open, 0);
}

/* ---- TPM attestation ---- */

static void begin_with_tpm(Owner *o) {
        DpsRegistrationHistory none = { 0 };

        settings->methods[0] = METHOD_TPM;
        assert_int_equal(client_begin(o->client, settings, METHOD_TPM, &none), 0);
        client_attempt(o->client, NULL);
        timed_world_pass(&world, 1);
}

static void challenge(void) {
        answer(&(DpsReply){
                .status = 401, .authentication_key = (char *) "K1", .key_name = (char *) "registration" });
}

static void answer_assigned_with_key(void) {
        answer(&(DpsReply){ .status = 200,
                            .word = DPS_STATUS_ASSIGNED,
                            .assigned_hub = (char *) "hub.example",
                            .device_id = (char *) "dev-1",
                            .authentication_key = (char *) "K2" });
}

static void begin_with_answered_challenge(Owner *o) {
        begin_with_tpm(o);
        log_in();
        challenge();
        timed_world_pass(&world, 1);
        log_in();
}

static void test_a_challenge_leads_to_a_connection_with_a_token_and_the_hubs_key_to_the_end(void **state) {
        assert_int_equal(client_add_job(one.client, 7), 0);
        begin_with_tpm(&one);
        assert_string_equal(transport.token, "");
        log_in();
        assert_non_null(
                strstr(transport.body, "\"tpm\":{\"endorsementKey\":\"EK\",\"storageRootKey\":\"SRK\"}"));
        challenge();
        assert_null(connection);
        assert_int_equal(client_state(one.client), CLIENT_IN_FLIGHT);
        timed_world_pass(&world, 1);
        assert_string_equal(transport.token, "registration by K1");
        log_in();
        answer_assigned_with_key();
        assert_int_equal(one.n_assigned + one.n_jobs, 0);
        timed_world_pass(&world, 1);
        assert_int_equal(one.n_assigned, 1);
        assert_int_equal(one.n_jobs, 1);
        assert_int_equal(one.n_failed, 0);
        assert_string_equal(one.fingerprint, "K2, kept");
        assert_int_equal(client_state(one.client), CLIENT_IDLE);
}

static void test_a_tpm_that_is_busy_fails_the_attempt_and_the_next_one_has_no_token(void **state) {
        tpm_is_busy = true;
        begin_with_tpm(&one);
        log_in();
        challenge();
        timed_world_pass(&world, 1);
        assert_int_equal(one.error, DPS_ERROR_KEY);
        assert_int_equal(client_state(one.client), CLIENT_BETWEEN);
        tpm_is_busy = false;
        timed_world_pass(&world, 6 * USEC_PER_SEC);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 1);
        assert_int_equal(transport.n_connects, 2);
        assert_string_equal(transport.token, "");
}

static void test_a_tpm_that_hangs_fails_the_attempt_after_a_minute(void **state) {
        begin_with_tpm(&one);
        log_in();
        world.holds_work = true;
        challenge();
        timed_world_pass(&world, 59 * USEC_PER_SEC);
        assert_int_equal(one.n_failed, 0);
        timed_world_pass(&world, 3 * USEC_PER_SEC);
        assert_int_equal(one.error, DPS_ERROR_KEY);
        assert_null(world.works);
}

static void test_a_chip_that_makes_no_key_for_a_certificate_fails_the_attempt_after_a_minute(void **state) {
        static const DpsRegistrationHistory none = { 0 };

        settings->issuance_requested = true;
        settings->issuance_key = strdup("tpm");
        held_after_load = &world.holds_work;
        assert_int_equal(client_begin(one.client, settings, METHOD_SYMMETRIC_KEY, &none), 0);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 59 * USEC_PER_SEC);
        assert_int_equal(n_loads, 1);
        assert_int_equal(one.n_failed, 0);
        timed_world_pass(&world, 3 * USEC_PER_SEC);
        assert_int_equal(one.error, DPS_ERROR_KEY);
        assert_non_null(strstr(client_error(one.client)->message,
                               "a new key from the token or TPM that Key= in [Issuance] names did not arrive "
                               "within 60 s"));
        assert_int_equal(transport.n_connects, 0);
        assert_null(world.works);
}

static void test_an_operation_is_resumed_with_the_key_of_its_challenge(void **state) {
        begin_with_answered_challenge(&one);
        answer_assigning(120); /* it is parked, and will reconnect */
        assert_int_equal(client_state(one.client), CLIENT_PARKED);
        timed_world_pass(&world, 200 * USEC_PER_SEC);
        client_attempt(one.client, NULL);
        timed_world_pass(&world, 1);
        assert_string_equal(transport.token, "registration by K1");
        log_in();
        assert_int_equal(transport.n_polls, 1);
        assert_int_equal(n_answers, 1);
}

static void test_a_registration_can_be_cancelled_while_the_tpm_answers(void **state) {
        begin_with_tpm(&one);
        log_in();
        world.holds_work = true;
        challenge();
        client_cancel(one.client);
        assert_int_equal(client_state(one.client), CLIENT_IDLE);
        assert_null(world.works);

        world.holds_work = false;
        begin_with_answered_challenge(&one);
        world.holds_work = true;
        answer_assigned_with_key();
        client_cancel(one.client);
        assert_null(world.works);
        assert_int_equal(one.n_assigned, 0);
}

static void test_an_assignment_without_a_challenge_does_not_count_with_a_tpm(void **state) {
        begin_with_tpm(&one);
        log_in();
        answer_assigned_with_key();
        assert_int_equal(one.n_assigned, 0);
        assert_int_equal(one.error, DPS_ERROR_PROTOCOL);
}

static void test_a_challenge_to_another_key_is_a_refusal_that_names_the_method(void **state) {
        begin(&one);
        log_in();
        challenge();
        assert_int_equal(one.error, DPS_ERROR_AUTH);
        assert_non_null(strstr(client_error(one.client)->message, "Method=symmetric-key"));
}

/* ---- Transport=auto ---- */

static void end_connection(DpsErrorId id, DpsStep step) {
        DpsError error;

        dps_error_set(&error, id, step, "the connection cannot be made");
        assert_non_null(connection);
        connection->handlers.on_closed(&error, connection->userdata);
}

static void attempt_again(Owner *o) {
        timed_world_pass(&world, client_next_usec(o->client) - world_now_usec(&world.world, CLOCK_BOOTTIME));
        client_attempt(o->client, NULL);
        timed_world_pass(&world, 1);
}

static void test_auto_changes_the_way_after_two_failures_to_connect(void **state) {
        static const TransportChoice expected[] = { TRANSPORT_MQTT,  TRANSPORT_MQTT, TRANSPORT_HTTPS,
                                                    TRANSPORT_HTTPS, TRANSPORT_MQTT, TRANSPORT_MQTT,
                                                    TRANSPORT_HTTPS };

        begin(&one);
        for (size_t n = 0; n < ELEMENTSOF(expected); n++) {
                assert_int_equal(ways.last, expected[n]);
                end_connection(DPS_ERROR_REFUSED, DPS_STEP_CONNECT);
                attempt_again(&one);
        }
        assert_int_equal(one.n_ways, 3); /* each change is told once */
}

static void test_the_way_that_brought_an_answer_is_taken_again(void **state) {
        for (unsigned n_blocked = 0; n_blocked < 8; n_blocked++) {
                begin(&one);
                for (unsigned n = 0; n < n_blocked; n++) {
                        end_connection(DPS_ERROR_TIMEOUT, DPS_STEP_CONNECT);
                        attempt_again(&one);
                }
                for (unsigned n = 0; n < 3; n++) {
                        TransportChoice way = ways.last;

                        log_in();
                        answer(&(DpsReply){ .status = 503 });
                        attempt_again(&one);
                        assert_int_equal(ways.last, way);
                }
                log_in();
                answer_assigned();
        }
}

/* Found by the simulation: what was remembered of HTTPS became too old, and the attempts after a refusal over MQTT went over
 * HTTPS. */
static void test_a_refusal_is_no_reason_to_change_the_way_when_what_is_remembered_is_too_old(void **state) {
        one.worked = TRANSPORT_HTTPS;
        begin(&one);
        for (unsigned n = 0; n < 2; n++) {
                assert_int_equal(ways.last, TRANSPORT_HTTPS);
                end_connection(DPS_ERROR_UNREACHABLE, DPS_STEP_CONNECT);
                attempt_again(&one);
        }
        assert_int_equal(ways.last, TRANSPORT_MQTT);
        end_connection(DPS_ERROR_AUTH, DPS_STEP_LOGIN);

        one.worked = TRANSPORT_AUTO;
        attempt_again(&one);
        assert_int_equal(ways.last, TRANSPORT_MQTT);
}

/* Found by the simulation: between two failures to connect, DPS took the log-in and was silent. */
static void test_only_failures_to_connect_that_follow_each_other_count(void **state) {
        transport.class.abilities = TRANSPORT_LOG_IN;
        begin(&one);
        end_connection(DPS_ERROR_LOST, DPS_STEP_TLS);
        attempt_again(&one);
        log_in();
        timed_world_pass(&world, (DPS_REPLY_DEADLINE_SEC + 1) * USEC_PER_SEC);
        assert_int_equal(one.error, DPS_ERROR_TIMEOUT);
        attempt_again(&one);
        end_connection(DPS_ERROR_LOST, DPS_STEP_TLS);
        attempt_again(&one);
        assert_int_equal(ways.last, TRANSPORT_MQTT);
}

static void test_on_another_network_mqtt_comes_first_again(void **state) {
        begin(&one);
        for (unsigned n = 0; n < 2; n++) {
                end_connection(DPS_ERROR_UNREACHABLE, DPS_STEP_CONNECT);
                if (n == 1)
                        client_hasten(one.client, USEC_PER_SEC);
                attempt_again(&one);
        }
        assert_int_equal(ways.last, TRANSPORT_MQTT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_a_registration_ends_with_the_assignment),
                TEST(test_no_timer_fires_after_the_end_of_the_registration),
                TEST(test_a_client_that_never_registered_has_no_timer),
                TEST(test_the_credential_is_loaded_once_for_a_registration),
                TEST(test_a_credential_that_is_offered_is_not_loaded),
                TEST(test_a_refused_key_is_followed_by_the_next_one),
                TEST(test_a_job_ends_once_with_the_attempt_that_it_joined),
                TEST(test_all_jobs_end_with_the_failure_of_the_attempt),
                TEST(test_the_jobs_of_a_cancelled_registration_wait_for_the_next_one),
                TEST(test_no_caller_can_shorten_the_wait_that_dps_told),
                TEST(test_a_wait_is_hastened_if_dps_told_none),
                TEST(test_a_wait_that_dps_told_an_earlier_run_holds),
                TEST(test_without_a_slot_an_attempt_waits_and_no_deadline_runs),
                TEST(test_a_long_wait_is_spent_without_connection_and_slot),
                TEST(test_a_throttled_client_delays_its_whole_scope),
                TEST(test_the_key_does_not_stay_while_the_scope_is_paused),
                TEST(test_a_key_that_does_not_come_ends_the_attempt),
                TEST(test_a_token_that_does_not_come_ends_the_attempt),
                TEST(test_an_answer_that_does_not_come_ends_the_attempt),
                TEST(test_a_challenge_leads_to_a_connection_with_a_token_and_the_hubs_key_to_the_end),
                TEST(test_a_tpm_that_is_busy_fails_the_attempt_and_the_next_one_has_no_token),
                TEST(test_a_tpm_that_hangs_fails_the_attempt_after_a_minute),
                TEST(test_a_chip_that_makes_no_key_for_a_certificate_fails_the_attempt_after_a_minute),
                TEST(test_an_operation_is_resumed_with_the_key_of_its_challenge),
                TEST(test_a_registration_can_be_cancelled_while_the_tpm_answers),
                TEST(test_an_assignment_without_a_challenge_does_not_count_with_a_tpm),
                TEST(test_a_challenge_to_another_key_is_a_refusal_that_names_the_method),
                TEST(test_auto_changes_the_way_after_two_failures_to_connect),
                TEST(test_the_way_that_brought_an_answer_is_taken_again),
                TEST(test_a_refusal_is_no_reason_to_change_the_way_when_what_is_remembered_is_too_old),
                TEST(test_only_failures_to_connect_that_follow_each_other_count),
                TEST(test_on_another_network_mqtt_comes_first_again),
        };

        return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
