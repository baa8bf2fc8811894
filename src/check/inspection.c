/* SPDX-License-Identifier: MIT */
#include "check/inspection.h"

#include <errno.h>

#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/request.h"
#include "dps/sas.h"

#define STEP_MAX_USEC (30 * USEC_PER_SEC)
#define LOGIN_MAX_USEC (30 * USEC_PER_SEC)
#define ANSWER_MAX_USEC (10 * USEC_PER_SEC)
#define TOKEN_LIFETIME_SEC 300
#define REQUEST_ID 1

typedef void (*step_t)(Checks *c, CheckSubject *s);

typedef struct Step {
        const char *about;
        step_t run;      /* NULL: the log-in at DPS */
        bool is_online;  /* not with --offline */
        bool is_to_dps;  /* needs the way to the endpoint */
        bool is_vital;   /* nothing can follow if it hangs */
        const char *why; /* it may hang */
} Step;

static const Step steps_of_device[] = {
        { "configuration", check_device, .why = "does the disk answer?" },
        { 0 },
};

static const Step steps_of_identity[] = {
        { "configuration", check_configuration, .is_vital = true, .why = "does the disk answer?" },
        { "key", check_keys, .why = "does the disk, module or chip of the key answer?" },
        { "trust", check_trust, .why = "does the disk answer?" },
        { "proxy", check_route, .is_online = true, .is_vital = true, .why = "does the disk answer?" },
        { "name", check_names, .is_online = true, .is_to_dps = true,
          .why = "do the name servers answer? resolvectl status" },
        { "connection", check_mqtt, .is_online = true, .is_to_dps = true,
          .why = "is the network very slow?" },
        { "HTTPS", check_https, .is_online = true, .is_to_dps = true, .why = "is the network very slow?" },
        { "log-in", NULL, .is_online = true, .is_to_dps = true, .why = "is the network very slow?" },
        { "hub", check_hub, .is_online = true, .why = "is the network very slow?" },
        { 0 },
};

static const Step steps_at_hub[] = {
        { "hub log-in", check_hub_login, .is_online = true, .why = "is the network very slow?" },
        { 0 },
};

/* Belongs to the worker while the step runs. */
typedef struct Task {
        Inspection *inspection; /* the loop's only */
        CheckSubject *subject;  /* a reference */
        step_t run;
        Checks checks;
} Task;

struct Inspection {
        InspectionParts parts;
        InspectionWish wish;
        CheckSubject *subject;
        Checks checks;
        inspection_handler_t handler;
        void *userdata;

        const Step *step; /* the present one */
        Work *work;
        Timer *timer;
        uint64_t end_usec; /* CLOCK_BOOTTIME: of it all */
        bool is_at_hub;
        bool has_no_keys; /* the step hangs, and may still be writing them */

        bool logs_in, has_slot, has_asked;
        Slot slot;
        unsigned credential; /* the one that logs in */
        CredentialQuery *signing;
        Transport *transport;
};

static void next(Inspection *i);

static uint64_t now(const Inspection *i) {
        return world_now_usec(i->parts.world, CLOCK_BOOTTIME);
}

/* All steps and credentials together have a deadline, too. */
static void set_deadline(Inspection *i, uint64_t in_usec) {
        timer_set(i->timer, MIN(now(i) + in_usec, i->end_usec), USEC_PER_SEC);
}

/* ---- steps on the worker ---- */

static void task_run(void *task) {
        Task *t = task;

        t->run(&t->checks, t->subject);
}

static void task_free(void *task) {
        Task *t = task;

        checks_done(&t->checks);
        check_subject_unref(t->subject);
        free(t);
}

static void task_done(void *task) {
        Task *t = task;
        Inspection *i = t->inspection;

        i->work = NULL;
        checks_take(&i->checks, &t->checks);
        task_free(t);
        i->step++;
        next(i);
}

static int begin_step(Inspection *i, const Step *step) {
        static const WorkClass work_class = {
                .queue = WORK_CHECKS, .run = task_run, .done = task_done, .free = task_free
        };
        Task *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (Task){ .inspection = i, .subject = check_subject_ref(i->subject), .run = step->run };
        r = work_begin(i->parts.world, &work_class, t, &i->work);
        if (r < 0)
                task_free(t);
        else
                set_deadline(i, STEP_MAX_USEC);
        return r;
}

/* ---- the log-in ---- */

static void end_login(Inspection *i) {
        i->logs_in = i->has_slot = false;
        i->signing = credential_query_free(i->signing);
        i->transport = transport_free(i->transport);
        slot_leave(&i->slot);
}

static void login_done(Inspection *i) {
        end_login(i);
        i->step++;
        next(i);
}

static void try_credential(Inspection *i);

static void login_failed(Inspection *i, const DpsError *error) {
        char hint[CHECK_CLOCK_TEXT_MAX] = "", advice[CHECK_ADVICE_MAX];

        i->transport = transport_free(i->transport);
        if (error->id == DPS_ERROR_AUTH)
                (void) check_clock_hint(i->subject, hint);
        checks_add(&i->checks, "log-in", CHECK_FAILURE, "%s (%s); %s%s%s; nothing was registered",
                   error->message, dps_error_id_to_string(error->id), hint, *hint ? "; otherwise: " : "",
                   check_advice(error, advice));
        i->credential++;
        try_credential(i);
}

static void let_in(Inspection *i, const char *more) {
        i->transport = transport_free(i->transport);
        checks_add(&i->checks, "log-in", CHECK_OK,
                   "DPS let the device in with credential %u of %u, %s; nothing was "
                   "registered, so the enrollment's settings are not known",
                   i->credential + 1, i->subject->n_credentials, more);
        i->credential++;
        try_credential(i);
}

/* Over HTTPS, as a registration would. */
static bool looks_up(const Inspection *i) {
        const CheckSubject *s = i->subject;

        return s->settings->transport == TRANSPORT_HTTPS ||
               (s->settings->transport == TRANSPORT_AUTO && !s->is_reached && s->is_reached_by_https);
}

static int ask(Inspection *i) {
        static const DpsRequest poll = { .kind = DPS_REQUEST_POLL,
                                         .request_id = REQUEST_ID,
                                         .operation_id = "0.dps-check" },
                                lookup = { .kind = DPS_REQUEST_LOOKUP, .request_id = REQUEST_ID };
        const DpsRegisterContent content = { .registration_id = i->subject->settings->registration_id };
        _cleanup_(freep) char *body = NULL;
        int r;

        if (!looks_up(i))
                return transport_send(i->transport, &poll, NULL);
        r = dps_register_body(&content, &body);
        return r < 0 ? r : transport_send(i->transport, &lookup, body);
}

/* Over MQTT, DPS lets in a device whose token has a wrong signature, and refuses only its first request. So we
 * ask for an operation that does not exist. Over HTTPS, where a request is the only log-in, we ask for the
 * registration of the device. */
static void on_ready(void *userdata) {
        Inspection *i = userdata;

        if (ask(i) < 0)
                return let_in(i, "took its subscription, but was not asked about the key");
        i->has_asked = true;
        set_deadline(i, looks_up(i) ? LOGIN_MAX_USEC : ANSWER_MAX_USEC);
}

/* The answer to a look-up, which has no envelope as others have. */
static void on_looked_up(Inspection *i, const DpsReply *reply) {
        DpsError error;

        if (reply->status == 200)
                return let_in(i, "has a registration of it");
        if (reply->status == 404)
                return let_in(i, "has no registration of it yet");
        dps_reply_error(reply, DPS_STEP_POLL, &error);
        login_failed(i, &error);
}

static void on_reply(const DpsReply *reply, void *userdata) {
        Inspection *i = userdata;
        DpsError error;

        if (reply->request_id != REQUEST_ID)
                return;
        if (looks_up(i))
                return on_looked_up(i, reply);
        dps_reply_error(reply, DPS_STEP_POLL, &error);
        if (dps_reply_verdict(reply) == DPS_VERDICT_FINAL && error.id == DPS_ERROR_AUTH)
                login_failed(i, &error);
        else
                let_in(i, "took its subscription and did not refuse its question");
}

static void on_closed(const DpsError *error, void *userdata) {
        const DpsError copy = *error; /* it may be the transport's */

        login_failed(userdata, &copy);
}

static void connect_with(Inspection *i, const char *token) {
        static const TransportHandlers handlers = { .on_ready = on_ready,
                                                    .on_reply = on_reply,
                                                    .on_closed = on_closed };
        const Settings *s = i->subject->settings;
        const ClientCertificate *x = credential_certificate(i->subject->credentials[i->credential]);
        const TransportTarget target = {
                .host = s->endpoint,
                .port = looks_up(i) ? s->https_port : s->mqtt_port,
                .addresses = s->addresses,
                .proxy = i->subject->proxy,
                .ca_files = s->ca_files,
                .id_scope = s->id_scope,
                .registration_id = s->registration_id,
                .api_version = s->api_version,
                .token = token,
                .certificates = x ? x->chain : NULL,
                .key = x ? x->key : NULL,
        };
        Transports *transports = i->parts.transports;
        TransportClass *class;
        DpsError error;

        if (transports->get(transports, looks_up(i) ? TRANSPORT_HTTPS : TRANSPORT_MQTT, &class, &error) < 0 ||
            transport_connect(class, &target, &handlers, i, &i->transport, &error) < 0)
                login_failed(i, &error);
}

static void on_signed(char *token, const DpsError *error, void *userdata) {
        _cleanup_(erase_and_freep) char *owned = token;
        Inspection *i = userdata;

        i->signing = NULL;
        if (error)
                login_failed(i, error);
        else
                connect_with(i, owned);
}

static void sign_and_connect(Inspection *i, Credential *credential) {
        const Settings *s = i->subject->settings;
        uint64_t expiry_sec =
                world_now_usec(i->parts.world, CLOCK_REALTIME) / USEC_PER_SEC + TOKEN_LIFETIME_SEC;
        _cleanup_(erase_and_freep) char *token = NULL;
        _cleanup_(freep) char *resource = NULL;
        DpsError error;
        int r;

        dps_error_set(&error, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "out of memory");
        r = dps_sas_resource_registration(s->id_scope, s->registration_id, &resource);
        if (r >= 0)
                r = credential_sign(credential, i->parts.world, resource, expiry_sec,
                                    DPS_SAS_POLICY_REGISTRATION, &token, on_signed, i, &i->signing, &error);
        if (r < 0)
                login_failed(i, &error);
        else if (r > 0)
                connect_with(i, token);
}

static void try_credential(Inspection *i) {
        Credential *credential;

        i->has_asked = false;
        if (i->credential == i->subject->n_credentials)
                return login_done(i);
        credential = i->subject->credentials[i->credential];
        set_deadline(i, LOGIN_MAX_USEC);
        if (credential_method(credential) == METHOD_TPM) {
                checks_add(&i->checks, "log-in", CHECK_SKIPPED,
                           "a TPM gets its key from DPS by a registration: dpsctl reprovision --wait");
                i->credential++;
                try_credential(i);
        } else if (credential_method(credential) == METHOD_X509)
                connect_with(i, NULL);
        else
                sign_and_connect(i, credential);
}

static void on_granted(void *userdata) {
        Inspection *i = userdata;

        i->has_slot = true;
        try_credential(i);
}

/* DPS throttled somebody of the scope. */
static void on_paused(uint64_t until_usec, void *userdata) {
        Inspection *i = userdata;

        checks_add(&i->checks, "log-in", CHECK_SKIPPED, "DPS told this ID scope to wait: dpsctl status");
        login_done(i);
}

static const char *why_no_login(const Inspection *i) {
        const CheckSubject *s = i->subject;

        if (i->wish.no_login)
                return i->wish.no_login;
        if (i->has_no_keys || s->n_credentials == 0)
                return "there is no key or certificate that can be used";
        if (looks_up(i))
                return s->is_reached_by_https ? NULL : "the endpoint cannot be reached by HTTPS";
        return s->is_reached ? NULL : "the endpoint cannot be reached by MQTT";
}

static int begin_login(Inspection *i) {
        const Settings *s = i->subject->settings;
        const char *why = why_no_login(i);
        int r;

        if (why) {
                checks_add(&i->checks, "log-in", CHECK_SKIPPED, "%s", why);
                i->step++;
                return 0;
        }
        i->slot = (Slot){ .on_granted = on_granted, .on_paused = on_paused, .userdata = i };
        r = slot_enter(&i->slot, i->parts.window, s->id_scope, s->endpoint);
        if (r < 0)
                return r;
        if (slot_paused_until_usec(&i->slot) > now(i)) {
                slot_leave(&i->slot);
                checks_add(&i->checks, "log-in", CHECK_SKIPPED,
                           "DPS told this ID scope to wait: dpsctl status");
                i->step++;
                return 0;
        }
        i->logs_in = true;
        /* The log-in may fail at once, and the inspection may end with it. That must happen in the loop, and
         * not here. */
        timer_set(i->timer, slot_acquire(&i->slot) ? 0 : MIN(now(i) + LOGIN_MAX_USEC, i->end_usec), 0);
        return 1;
}

void inspection_give_way(Inspection *i) {
        i->wish.no_login = "a registration is under way, and shows more than a log-in: dpsctl status";
        if (!i->logs_in)
                return;
        checks_add(&i->checks, "log-in", CHECK_SKIPPED, "%s", i->wish.no_login);
        login_done(i);
}

/* ---- one after the other ---- */

static void finish(Inspection *i) {
        timer_set(i->timer, USEC_INFINITY, 0);
        i->handler(i, &i->checks, i->subject, i->userdata);
}

/* Whether the present step is to be left out. It then needs no row of its own, or has one. */
static bool is_left_out(const Inspection *i) {
        if (i->step->is_online && i->wish.offline)
                return true;
        return i->step->is_to_dps && i->subject->is_lost;
}

/* Begins the present step. Returns false if there is none any more. */
static bool begin(Inspection *i) {
        int r = 0;

        while (i->step->about && r == 0) {
                if (is_left_out(i)) {
                        if (i->wish.offline && i->step->run == check_mqtt)
                                checks_add(&i->checks, "connection", CHECK_SKIPPED, "--offline");
                        i->step++;
                        continue;
                }
                if (now(i) >= i->end_usec) {
                        checks_add(&i->checks, i->step->about, CHECK_SKIPPED,
                                   "not looked at, and nothing after it: the check took too long");
                        return false;
                }
                r = i->step->run ? begin_step(i, i->step) ?: 1 : begin_login(i);
        }
        i->checks.failed = i->checks.failed || r < 0;
        return r > 0;
}

static void next(Inspection *i) {
        bool is_device = isempty(i->subject->name);

        /* Without settings there is nothing to look at. */
        if (!is_device && !i->subject->settings)
                return finish(i);
        if (begin(i))
                return;
        if (!i->is_at_hub && !i->checks.failed && !is_device && i->subject->hub.is_asked &&
            !i->wish.offline) {
                i->is_at_hub = true;
                i->step = steps_at_hub;
                if (begin(i))
                        return;
        }
        finish(i);
}

static void login_on_time(Inspection *i) {
        if (!i->has_slot && slot_acquire(&i->slot)) {
                on_granted(i);
                return;
        }
        if (i->has_asked && !looks_up(i))
                return let_in(i, "took its subscription, and did not answer its question");
        checks_add(&i->checks, "log-in", i->has_slot ? CHECK_FAILURE : CHECK_SKIPPED, "%s within %u s; %s",
                   !i->has_slot    ? "no log-in was allowed beside the other attempts"
                   : !i->transport ? "the key did not sign"
                                   : "DPS did not answer the log-in",
                   (unsigned) (LOGIN_MAX_USEC / USEC_PER_SEC),
                   !i->has_slot    ? "dpsctl status"
                   : !i->transport ? "does its module or chip answer?"
                                   : "is the network very slow, or somebody else at this address?");
        login_done(i);
}

static void on_time(void *userdata) {
        Inspection *i = userdata;

        if (i->logs_in)
                return login_on_time(i);
        if (!i->work)
                return;
        i->work = work_forget(i->work);
        checks_add(&i->checks, i->step->about, CHECK_FAILURE, "no result within %u s: %s",
                   (unsigned) (STEP_MAX_USEC / USEC_PER_SEC), i->step->why);
        if (i->step->is_vital)
                return finish(i);
        i->has_no_keys = i->has_no_keys || i->step->run == check_keys;
        i->step++;
        next(i);
}

int inspection_new(const InspectionParts *parts, CheckSubject *subject, const InspectionWish *wish,
                   inspection_handler_t handler, void *userdata, Inspection **ret) {
        Inspection *i = calloc(1, sizeof(*i));
        int r;

        if (!i) {
                check_subject_unref(subject);
                return -ENOMEM;
        }
        *i = (Inspection){ .parts = *parts,
                           .wish = *wish,
                           .subject = subject,
                           .handler = handler,
                           .userdata = userdata,
                           .step = isempty(subject->name) ? steps_of_device : steps_of_identity };
        i->end_usec = now(i) + INSPECTION_MAX_USEC;
        r = timer_new(parts->world, on_time, i, &i->timer);
        if (r >= 0)
                r = begin_step(i, i->step);
        if (r < 0) {
                inspection_free(i);
                return r;
        }
        *ret = i;
        return 0;
}

Inspection *inspection_free(Inspection *i) {
        if (!i)
                return NULL;
        end_login(i);
        work_forget(i->work);
        timer_free(i->timer);
        checks_done(&i->checks);
        check_subject_unref(i->subject);
        free(i);
        return NULL;
}
