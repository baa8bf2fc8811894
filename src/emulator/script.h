/* SPDX-License-Identifier: MIT */
#pragma once

/* Answers that an operator dictates: the next requests of a device are answered so, in order. */

#include "emulator/reader.h"

typedef enum ScriptStep {
        SCRIPT_STEP_ANY, /* the next register or poll */
        SCRIPT_STEP_CONNECT,
        SCRIPT_STEP_REGISTER,
        SCRIPT_STEP_POLL,
} ScriptStep;

typedef enum ScriptAct {
        SCRIPT_ACT_NORMAL,
        SCRIPT_ACT_STATUS,      /* with the status that is told */
        SCRIPT_ACT_DROP,        /* the connection is closed */
        SCRIPT_ACT_SILENT,      /* no answer ever */
        SCRIPT_ACT_REFUSE,      /* CONNACK 5 */
        SCRIPT_ACT_MALFORMED,   /* the right answer, with half of its body */
        SCRIPT_ACT_DUPLICATE,   /* the right answer, twice */
        SCRIPT_ACT_FOREIGN_RID, /* an answer to a request that was never made, then the right one */
} ScriptAct;

typedef struct ScriptAnswer {
        ScriptStep step;
        ScriptAct act;
        unsigned status;
        bool has_retry_after, has_code;
        uint64_t retry_after_sec, code;
        uint64_t delay_usec;
        char *word; /* of "status" in the body; NULL: as it would be */
        char *body; /* NULL: as it would be */
        struct ScriptAnswer *next;
} ScriptAnswer;

/* [connect:|register:|poll:]WHAT[,retry-after=N][,code=N][,status=WORD][,delay=SECONDS][,body=TEXT]; the body goes
 * to the end of the text, commas and all. */
int script_answer_parse(const char *text, ScriptAnswer **ret, Complaint *c);
/* What it does, for logs: "silent", "status". */
const char *script_answer_name(const ScriptAnswer *a);
ScriptAnswer *script_answer_free(ScriptAnswer *a);
DEFINE_FREEP(ScriptAnswer, script_answer_free)

struct lh_table;

/* Queues by registration id, and "*" for all; case counts not. */
typedef struct Scripts {
        struct lh_table *queues;
} Scripts;

int scripts_init(Scripts *s);
void scripts_done(Scripts *s);
/* All of `texts` or, where one is faulty, none. */
int scripts_add(Scripts *s, const char *id, char *const *texts, Complaint *c);
void scripts_clear(Scripts *s, const char *id);
/* Takes the first answer in the device's queue if it is for this step, else the first in that of "*". NULL: none. */
ScriptAnswer *scripts_take(Scripts *s, const char *id, ScriptStep step);
