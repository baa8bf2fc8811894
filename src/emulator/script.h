/* SPDX-License-Identifier: MIT */
#pragma once

/* Answers that an operator dictates for the next requests of a device, in order. */

#include "emulator/reader.h"
#include "emulator/wire.h"

typedef enum ScriptStep {
        SCRIPT_STEP_ANY, /* the next register, poll or status lookup */
        SCRIPT_STEP_CONNECT,
        SCRIPT_STEP_SUBSCRIBE,
        SCRIPT_STEP_REGISTER,
        SCRIPT_STEP_POLL,
        SCRIPT_STEP_LOOKUP,
} ScriptStep;

typedef enum ScriptAct {
        SCRIPT_ACT_NORMAL,
        SCRIPT_ACT_STATUS,      /* an answer with `status` */
        SCRIPT_ACT_DROP,        /* close the connection */
        SCRIPT_ACT_SILENT,      /* no answer */
        SCRIPT_ACT_REFUSE,      /* CONNACK 5, SUBACK 0x80 */
        SCRIPT_ACT_MALFORMED,   /* the right answer with half of its body */
        SCRIPT_ACT_DUPLICATE,   /* the right answer, twice */
        SCRIPT_ACT_FOREIGN_RID, /* an answer to a request that nobody made, then the right one */
} ScriptAct;

typedef struct ScriptAnswer {
        ScriptStep step;
        ScriptAct act;
        unsigned status;
        bool has_retry_after, has_code;
        uint64_t retry_after_sec, code;
        bool is_date; /* over HTTPS retry-after is sent as a date */
        uint64_t delay_usec;
        char *word;     /* replaces the member "status"; NULL: unchanged */
        char *body;     /* replaces the body; NULL: unchanged */
        char **headers; /* "Name:value", added over HTTPS; NULL: none */
        struct ScriptAnswer *next;
} ScriptAnswer;

/* [connect:|subscribe:|register:|poll:|lookup:]WHAT[,retry-after=N][,retry-after-date=N][,code=N][,status=WORD]
 * [,delay=SECONDS][,header=NAME:VALUE]…[,body=TEXT], where the body is all that follows, including commas. */
int script_answer_parse(const char *text, ScriptAnswer **ret, ErrorText *error);
/* The name of the act, for logs: "silent", "status". */
const char *script_answer_name(const ScriptAnswer *a);
ScriptAnswer *script_answer_free(ScriptAnswer *a);
DEFINE_FREEP(ScriptAnswer, script_answer_free)

struct lh_table;

/* The step of a request. */
ScriptStep script_step(RequestKind kind);

/* A queue for each registration id, and one for all devices, "*". Ids are compared without case. */
typedef struct Scripts {
        struct lh_table *queues;
} Scripts;

int scripts_init(Scripts *s);
void scripts_done(Scripts *s);
/* Adds all of `texts`, or none of them if one is faulty. */
int scripts_add(Scripts *s, const char *id, char *const *texts, ErrorText *error);
void scripts_clear(Scripts *s, const char *id);
/* Removes and returns the first answer in the device's queue if it is for this step, else the first in the
 * queue of "*" if that one is. NULL: there is none. */
ScriptAnswer *scripts_take(Scripts *s, const char *id, ScriptStep step);
