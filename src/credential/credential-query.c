/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"
#include "credential/credential-error.h"
#include "credential/credential-internal.h"

/* The task that runs on the worker is the query itself. The world frees it, possibly in another thread. */
struct CredentialQuery {
        Work *work;   /* NULL once the handler is called, which may free the query */
        Timer *timer; /* NULL: there is no deadline */
        void *userdata;
        DpsError error;
};

CredentialQuery *credential_query_free(CredentialQuery *q) {
        if (q) {
                q->timer = timer_free(q->timer);
                work_forget(TAKE_PTR(q->work));
        }
        return NULL;
}

/* --- deadlines ------------------------------------------------------------------------------------------ */

/* Longer than device.h lets a thread wait, so that its error is reported where there is one. For TPM attestation a chip may
 * have to make two RSA keys. */
#define SIGNING_CHIP_DEADLINE_USEC (20 * USEC_PER_SEC)
#define ATTESTING_CHIP_DEADLINE_USEC (60 * USEC_PER_SEC)

static uint64_t chip_deadline_usec(const CredentialWish *wish) {
        return wish->issued_file || wish->settings->private_keys ? SIGNING_CHIP_DEADLINE_USEC
                                                                 : ATTESTING_CHIP_DEADLINE_USEC;
}

/* `q` is the task, too. */
static int ask_chip(CredentialQuery *q, World *w, const CredentialWish *wish, const WorkClass *class,
                    timer_handler_t on_deadline) {
        int r = timer_new(w, on_deadline, q, &q->timer);

        if (r < 0)
                return r;
        timer_set(q->timer, usec_add(world_now_usec(w, CLOCK_BOOTTIME), chip_deadline_usec(wish)), 0);
        r = work_begin(w, class, q, &q->work);
        if (r < 0)
                q->timer = timer_free(q->timer);
        return r;
}

/* If the thread never returns, the task is never freed. */
static void give_up(CredentialQuery *q, const CredentialWish *wish, DpsError *ret) {
        const Settings *s = wish->settings;
        unsigned n = (unsigned) strv_length(s->private_keys);

        (void) credential_error(ret, -EAGAIN, wish->issued_file ? &s->issuance_place : &s->certificates_place,
                                wish->issued_file ? "[Issuance] Key"
                                : n > 0           ? "PrivateKey"
                                                  : "Tcti",
                                "%s: it has not answered within %u s%s%s",
                                wish->issued_file ? "the key of the issued certificate"
                                : n > 0           ? s->private_keys[wish->index < n ? wish->index : 0]
                                                  : s->tcti,
                                (unsigned) (chip_deadline_usec(wish) / USEC_PER_SEC),
                                s->pkcs11_module ? "; its module is " : "", s->pkcs11_module ?: "");
        (void) credential_query_free(q);
}

/* --- loading -------------------------------------------------------------------------------------------- */

/* First the files are read on WORK_KEYS. If a chip is needed, the same task goes to WORK_CHIPS, so that a chip
 * that hangs takes no thread from keys in files. */
typedef struct LoadQuery {
        CredentialQuery query;
        World *world;
        int r;
        bool may_wait;
        CredentialWish wish;
        char *registration_id, *issued_file, *issued_text;
        credential_handler_t handler;
        Credential *credential;
} LoadQuery;

static void load_query_free(void *task) {
        LoadQuery *q = task;

        if (!q)
                return;
        credential_unref(q->credential);
        settings_unref(q->wish.settings);
        free(q->registration_id);
        free(q->issued_file);
        erase_and_free(q->issued_text);
        free(q);
}

static void load_query_run(void *task) {
        LoadQuery *q = task;

        q->r = credential_choose(&q->wish, q->world, q->may_wait, &q->credential, &q->query.error);
        /* Errors must not stay in OpenSSL's queue for the next work in this thread. */
        ERR_clear_error();
}

static void on_chip_deadline(void *userdata) {
        LoadQuery *q = userdata;
        credential_handler_t handler = q->handler;
        void *handler_userdata = q->query.userdata;
        DpsError error;

        give_up(&q->query, &q->wish, &error);
        handler(NULL, &error, handler_userdata);
}

static void load_query_done(void *task);
static const WorkClass chip_class = {
        .queue = WORK_CHIPS, .run = load_query_run, .done = load_query_done, .free = load_query_free
};

static int wait_for_chip(LoadQuery *q) {
        q->may_wait = true;
        return ask_chip(&q->query, q->world, &q->wish, &chip_class, on_chip_deadline);
}

static void load_query_done(void *task) {
        LoadQuery *q = task;
        const DpsError *error;

        q->query.work = NULL;
        if (q->r == -EINPROGRESS) {
                if (wait_for_chip(q) >= 0)
                        return;
                error_set_memory(&q->query.error, DPS_STEP_CONFIG);
        }
        q->query.timer = timer_free(q->query.timer);
        error = q->credential ? NULL : &q->query.error;
        q->handler(TAKE_PTR(q->credential), error, q->query.userdata);
        load_query_free(q);
}

static const char *load_query_whose(const void *task) {
        const LoadQuery *q = task;

        return q->wish.settings->name;
}

static const WorkClass load_class = { .queue = WORK_KEYS,
                                      .run = load_query_run,
                                      .done = load_query_done,
                                      .free = load_query_free,
                                      .whose = load_query_whose };

/* On this queue, because the owner of the folder waits for no other before it frees the folder. */
static const WorkClass load_issued_class = {
        .queue = WORK_DISK, .run = load_query_run, .done = load_query_done, .free = load_query_free
};

int credential_load(World *w, const CredentialWish *wish, credential_handler_t handler, void *userdata,
                    CredentialQuery **ret) {
        LoadQuery *q = malloc(sizeof(LoadQuery));
        int r;

        if (!q)
                return -ENOMEM;
        *q = (LoadQuery){ .query.userdata = userdata,
                          .world = w,
                          .wish = *wish,
                          .registration_id = strdup(wish->registration_id),
                          .issued_file = wish->issued_file ? strdup(wish->issued_file) : NULL,
                          .handler = handler };
        settings_ref(wish->settings);
        q->wish.registration_id = q->registration_id;
        q->wish.issued_file = q->issued_file;
        q->wish.issued_text = &q->issued_text;
        r = q->registration_id && (q->issued_file || !wish->issued_file)
                    ? work_begin(w, wish->issued_file ? &load_issued_class : &load_class, q, &q->query.work)
                    : -ENOMEM;
        if (r < 0) {
                load_query_free(q);
                return r;
        }

        if (ret)
                *ret = &q->query;
        return 0;
}

/* --- answering ------------------------------------------------------------------------------------------ */

typedef struct AnswerQuery {
        CredentialQuery query;
        Credential *credential, *answered;
        char *authentication_key;
        bool keep;
        credential_handler_t handler;
} AnswerQuery;

static void answer_query_free(void *task) {
        AnswerQuery *q = task;

        if (!q)
                return;
        credential_unref(q->credential);
        credential_unref(q->answered);
        free(q->authentication_key);
        free(q);
}

static void answer_query_run(void *task) {
        AnswerQuery *q = task;

        (void) credential_new_answered(q->credential, q->authentication_key, q->keep, &q->answered,
                                       &q->query.error);
        q->query.error.step = DPS_STEP_ATTEST;
        ERR_clear_error();
}

static void answer_query_done(void *task) {
        AnswerQuery *q = task;
        const DpsError *error;

        q->query.work = NULL;
        error = q->answered ? NULL : &q->query.error;
        q->handler(TAKE_PTR(q->answered), error, q->query.userdata);
        answer_query_free(q);
}

static const WorkClass answer_class = {
        .queue = WORK_CHIPS, .run = answer_query_run, .done = answer_query_done, .free = answer_query_free
};

int credential_answer(Credential *c, World *w, const char *authentication_key, bool keep,
                      credential_handler_t handler, void *userdata, CredentialQuery **ret) {
        AnswerQuery *q;
        int r;

        if (!c->class->answer)
                return -EOPNOTSUPP;
        q = malloc(sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = (AnswerQuery){ .query.userdata = userdata,
                            .credential = credential_ref(c),
                            .authentication_key = strdup(authentication_key),
                            .keep = keep,
                            .handler = handler };
        r = q->authentication_key ? work_begin(w, &answer_class, q, &q->query.work) : -ENOMEM;
        if (r < 0) {
                answer_query_free(q);
                return r;
        }

        if (ret)
                *ret = &q->query;
        return 0;
}

/* --- signing -------------------------------------------------------------------------------------------- */

typedef struct SignQuery {
        CredentialQuery query;
        Credential *credential;
        char *resource, *policy;
        uint64_t expiry_sec;
        credential_token_handler_t handler;
        char *token;
} SignQuery;

static void sign_query_free(void *task) {
        SignQuery *q = task;

        if (!q)
                return;
        credential_unref(q->credential);
        free(q->resource);
        free(q->policy);
        erase_and_free(q->token);
        free(q);
}

static void sign_query_run(void *task) {
        SignQuery *q = task;

        (void) q->credential->class->sign(q->credential, q->resource, q->expiry_sec, q->policy, &q->token,
                                          &q->query.error);
        ERR_clear_error();
}

static void on_sign_deadline(void *userdata) {
        SignQuery *q = userdata;
        credential_token_handler_t handler = q->handler;
        void *handler_userdata = q->query.userdata;
        DpsError error;

        give_up(&q->query,
                &(CredentialWish){ .settings = q->credential->settings, .index = q->credential->index },
                &error);
        handler(NULL, &error, handler_userdata);
}

static void sign_query_done(void *task) {
        SignQuery *q = task;
        const DpsError *error;

        q->query.work = NULL;
        q->query.timer = timer_free(q->query.timer);
        error = q->token ? NULL : &q->query.error;
        q->handler(TAKE_PTR(q->token), error, q->query.userdata);
        sign_query_free(q);
}

static const WorkClass sign_class = {
        .queue = WORK_CHIPS, .run = sign_query_run, .done = sign_query_done, .free = sign_query_free
};

/* Takes ownership of `q`. */
static int begin_signing(SignQuery *q, World *w, const char *resource, const char *policy,
                         CredentialQuery **ret) {
        int r;

        q->resource = strdup(resource);
        q->policy = policy ? strdup(policy) : NULL;
        r = q->resource && (q->policy || !policy)
                    ? ask_chip(&q->query, w, &(CredentialWish){ .settings = q->credential->settings },
                               &sign_class, on_sign_deadline)
                    : -ENOMEM;
        if (r < 0) {
                sign_query_free(q);
                return r;
        }

        if (ret)
                *ret = &q->query;
        return 0;
}

int credential_sign(Credential *c, World *w, const char *resource, uint64_t expiry_sec, const char *policy,
                    char **ret, credential_token_handler_t handler, void *userdata,
                    CredentialQuery **ret_query, DpsError *error) {
        SignQuery *q;
        int r;

        assert(c->class->sign);
        if (!c->class->is_slow) {
                r = c->class->sign(c, resource, expiry_sec, policy, ret, error);
                return r < 0 ? r : 1;
        }

        q = malloc(sizeof(SignQuery));
        if (q)
                *q = (SignQuery){ .query.userdata = userdata,
                                  .credential = credential_ref(c),
                                  .expiry_sec = expiry_sec,
                                  .handler = handler };
        r = q ? begin_signing(q, w, resource, policy, ret_query) : -ENOMEM;
        if (r < 0)
                dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "the token cannot be signed now: %s",
                              strerror(-r));
        return r;
}
