/* SPDX-License-Identifier: MIT */
#include "emulator/script.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "emulator/behaviour.h"
#include "emulator/idtable.h"

static const struct {
        const char *word;
        ScriptAct act;
} acts[] = {
        { "normal", SCRIPT_ACT_NORMAL },           { "drop", SCRIPT_ACT_DROP },
        { "silent", SCRIPT_ACT_SILENT },           { "refuse", SCRIPT_ACT_REFUSE },
        { "malformed", SCRIPT_ACT_MALFORMED },     { "duplicate", SCRIPT_ACT_DUPLICATE },
        { "foreign-rid", SCRIPT_ACT_FOREIGN_RID },
};

static int parse_what(Span what, ScriptAnswer *a, ErrorText *error) {
        uint64_t status;

        for (size_t i = 0; i < ELEMENTSOF(acts); i++)
                if (span_is_exact(what, acts[i].word)) {
                        a->act = acts[i].act;
                        return 0;
                }

        if (span_to_u64(what, &status) < 0 || status < 100 || status > 999)
                return error_set(error,
                                 "%.*s: must be a status of three digits, normal, drop, silent, refuse, "
                                 "malformed, duplicate or foreign-rid",
                                 (int) what.size, what.start);
        a->act = SCRIPT_ACT_STATUS;
        a->status = (unsigned) status;
        return 0;
}

static int parse_option(Span name, Span value, ScriptAnswer *a, ErrorText *error) {
        _cleanup_(freep) char *text = span_dup(value);
        int r = 0;

        if (!text)
                return -ENOMEM;

        if (span_is_exact(name, "retry-after") || span_is_exact(name, "retry-after-date")) {
                r = parse_u64(text, &a->retry_after_sec);
                if (a->retry_after_sec > SECONDS_MAX)
                        r = -ERANGE;
                a->has_retry_after = true;
                a->is_date = span_is_exact(name, "retry-after-date");
        } else if (span_is_exact(name, "code")) {
                r = parse_u64(text, &a->code);
                a->has_code = true;
                if (a->code > INT32_MAX)
                        r = -ERANGE;
        } else if (span_is_exact(name, "delay")) {
                r = parse_duration(text, &a->delay_usec);
                if (a->delay_usec > SECONDS_MAX * USEC_PER_SEC)
                        r = -ERANGE;
        } else if (span_is_exact(name, "status")) {
                free(a->word);
                a->word = TAKE_PTR(text);
        } else if (span_is_exact(name, "header")) {
                if (!strchr(text, ':'))
                        return error_set(error, "header=%s: must be NAME:VALUE", text);
                return strv_push(&a->headers, TAKE_PTR(text));
        } else
                return error_set(
                        error,
                        "%.*s: must be retry-after, retry-after-date, code, status, delay, header or body",
                        (int) name.size, name.start);
        return r < 0 ? error_set(error, "%.*s: must be a number, and not too large", (int) name.size,
                                 name.start)
                     : 0;
}

static int parse_options(const char *text, ScriptAnswer *a, ErrorText *error) {
        while (*text) {
                const char *comma = strchrnul(text, ','), *equals;
                int r;

                if (scan_literal(&text, "body=")) {
                        a->body = strdup(text);
                        return a->body ? 0 : -ENOMEM;
                }

                equals = memchr(text, '=', (size_t) (comma - text));
                if (!equals)
                        return error_set(error, "%.*s: must be KEY=VALUE", (int) (comma - text), text);
                r = parse_option((Span){ text, (size_t) (equals - text) },
                                 (Span){ equals + 1, (size_t) (comma - equals - 1) }, a, error);
                if (r < 0)
                        return r;
                text = comma + (*comma == ',');
        }
        return 0;
}

static ScriptStep parse_step(const char **text) {
        if (scan_literal(text, "connect:"))
                return SCRIPT_STEP_CONNECT;
        if (scan_literal(text, "subscribe:"))
                return SCRIPT_STEP_SUBSCRIBE;
        if (scan_literal(text, "register:"))
                return SCRIPT_STEP_REGISTER;
        if (scan_literal(text, "lookup:"))
                return SCRIPT_STEP_LOOKUP;
        return scan_literal(text, "poll:") ? SCRIPT_STEP_POLL : SCRIPT_STEP_ANY;
}

/* MQTT has these steps besides the requests. */
static bool is_of_session(ScriptStep step) {
        return step == SCRIPT_STEP_CONNECT || step == SCRIPT_STEP_SUBSCRIBE;
}

/* There Mosquitto lets a plugin only accept, refuse, or close the connection. */
static int check(const ScriptAnswer *a, ErrorText *error) {
        bool is_simple =
                a->act == SCRIPT_ACT_REFUSE || a->act == SCRIPT_ACT_DROP || a->act == SCRIPT_ACT_NORMAL;

        if (is_of_session(a->step) && !is_simple)
                return error_set(error, "a %s can be answered with normal, refuse or drop",
                                 a->step == SCRIPT_STEP_CONNECT ? "CONNECT" : "SUBSCRIBE");
        if (!is_of_session(a->step) && a->act == SCRIPT_ACT_REFUSE)
                return error_set(error, "refuse is possible after connect: and subscribe: only");
        return 0;
}

int script_answer_parse(const char *text, ScriptAnswer **ret, ErrorText *error) {
        _cleanup_(script_answer_freep) ScriptAnswer *a = NULL;
        Span what;
        int r;

        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;

        a->step = parse_step(&text);
        what = (Span){ text, strcspn(text, ",") };
        text += what.size;
        (void) scan_literal(&text, ",");
        if ((r = parse_what(what, a, error)) < 0 || (r = parse_options(text, a, error)) < 0 ||
            (r = check(a, error)) < 0)
                return r;

        *ret = TAKE_PTR(a);
        return 0;
}

const char *script_answer_name(const ScriptAnswer *a) {
        for (size_t i = 0; i < ELEMENTSOF(acts); i++)
                if (acts[i].act == a->act)
                        return acts[i].word;
        return "status";
}

ScriptAnswer *script_answer_free(ScriptAnswer *a) {
        if (!a)
                return NULL;

        free(a->word);
        free(a->body);
        strv_free(a->headers);
        free(a);
        return NULL;
}

static void queue_free(ScriptAnswer *first) {
        while (first) {
                ScriptAnswer *next = first->next;

                script_answer_free(first);
                first = next;
        }
}

static void entry_free(struct lh_entry *entry) {
        free(lh_entry_k(entry));
        queue_free(lh_entry_v(entry));
}

int scripts_init(Scripts *s) {
        s->queues = lh_kchar_table_new(16, entry_free);
        return s->queues ? 0 : -ENOMEM;
}

void scripts_done(Scripts *s) {
        if (s->queues)
                lh_table_free(s->queues);
        s->queues = NULL;
}

static int parse_all(char *const *texts, ScriptAnswer **ret, ErrorText *error) {
        ScriptAnswer *first = NULL, **end = &first;

        STRV_FOREACH(text, texts) {
                int r = script_answer_parse(*text, end, error);

                if (r < 0) {
                        queue_free(first);
                        return r;
                }
                end = &(*end)->next;
        }
        *ret = first;
        return 0;
}

int scripts_add(Scripts *s, const char *id, char *const *texts, ErrorText *error) {
        ScriptAnswer *added = NULL, *last;
        struct lh_entry *entry;
        int r;

        r = parse_all(texts, &added, error);
        if (r < 0 || !added)
                return r;

        entry = id_table_entry(s->queues, id);
        if (!entry) {
                r = id_table_insert(s->queues, id, added);
                if (r < 0)
                        queue_free(added);
                return r;
        }

        for (last = lh_entry_v(entry); last && last->next;)
                last = last->next;
        if (last)
                last->next = added;
        else
                lh_entry_set_val(entry, added);
        return 0;
}

void scripts_clear(Scripts *s, const char *id) {
        struct lh_entry *entry = id_table_entry(s->queues, id);

        if (entry)
                (void) lh_table_delete_entry(s->queues, entry);
}

ScriptStep script_step(RequestKind kind) {
        switch (kind) {
        case REQUEST_REGISTER:
                return SCRIPT_STEP_REGISTER;
        case REQUEST_POLL:
                return SCRIPT_STEP_POLL;
        case REQUEST_LOOKUP:
                return SCRIPT_STEP_LOOKUP;
        }
        abort();
}

static ScriptAnswer *take_from(Scripts *s, const char *id, ScriptStep step) {
        struct lh_entry *entry = id_table_entry(s->queues, id);
        ScriptAnswer *first = entry ? lh_entry_v(entry) : NULL;

        if (!first || (first->step != step && (first->step != SCRIPT_STEP_ANY || is_of_session(step))))
                return NULL;

        lh_entry_set_val(entry, first->next);
        first->next = NULL;
        return first;
}

ScriptAnswer *scripts_take(Scripts *s, const char *id, ScriptStep step) {
        return take_from(s, id, step) ?: take_from(s, "*", step);
}
