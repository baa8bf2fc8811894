/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#include "basic/text.h"
#include "dps/error.h"
#include "dpsctl/explanation.h"
#include "dpsctl/output.h"
#include "dpsctl/table.h"

/* Explains an error id such as "throttled", or an error code of DPS such as 401002. */

static json_object *to_json(DpsErrorId id, uint64_t code, const char *meaning, const char *advice) {
        const Explanation *e = explanation_of(id);

        return json_pack("sTssssss", "Id", dps_error_id_to_string(id), "Code", code, "Meaning", meaning,
                         "Advice", advice, "Cause", e->cause, "Apart", e->apart, "ByItself", e->dpsd,
                         "Commands", e->commands);
}

static int explain_all(const Options *o) {
        static const char *const header[] = { "ID", "MEANING" };
        json_object *rows = json_object_new_array();
        Table t;
        int r;

        table_init(&t, header, ELEMENTSOF(header));
        for (DpsErrorId id = DPS_ERROR_NONE + 1; id < _DPS_ERROR_MAX; id++) {
                table_add(&t, STYLE_BOLD, dps_error_id_to_string(id));
                table_add(&t, STYLE_PLAIN, dps_error_id_meaning(id));
                json_append(&rows, to_json(id, 0, dps_error_id_meaning(id), dps_error_id_advice(id)));
        }
        if (o->json != JSON_OFF)
                r = output_json(o, json_document("errors", TAKE_PTR(rows)));
        else {
                output_begin(o);
                r = table_print(&t, !o->no_legend, stdout) < 0 ? fail_memory() : 0;
                if (!o->no_legend)
                        printf("\nWhat to do about an error, or about a code of DPS such as 401002: dpsctl "
                               "explain ID\n");
                output_end();
        }
        json_object_put(rows);
        table_done(&t);
        return r;
}

/* The commands stand one a line. */
static void print_commands(const char *commands) {
        printf("\nCommands:\n");
        for (size_t n; *commands; commands += n + (commands[n] == '\n')) {
                n = strcspn(commands, "\n");
                printf("     %.*s\n", (int) n, commands);
        }
}

static int explain_one(const Options *o, DpsErrorId id, uint64_t code, bool is_final, const char *meaning,
                       const char *advice) {
        const Explanation *e = explanation_of(id);
        json_object *rows;

        if (o->json != JSON_OFF) {
                rows = json_object_new_array();
                json_append(&rows, to_json(id, code, meaning, advice));
                return output_json(o, json_document("errors", rows));
        }

        printf("%s%s%s", style_begin(STYLE_BOLD), dps_error_id_to_string(id), style_end(STYLE_BOLD));
        if (code > 0)
                printf(" (%" PRIu64 "%s)", code,
                       is_final ? ", final: dpsd asks again more and more rarely" : "");
        printf("\n        Meaning: %s\n     What to do: %s\n", meaning, advice);
        printf("          Cause: %s\nTell them apart: %s\n     dpsd itself: %s\n", e->cause, e->apart,
               e->dpsd);
        print_commands(e->commands);
        return 0;
}

int verb_explain(const Options *o) {
        const char *word = o->arguments[0];
        DpsErrorId id;
        uint64_t code;
        DpsCode row;

        if (!word)
                return explain_all(o);
        if (dps_error_id_from_string(word, &id) >= 0 && id != DPS_ERROR_NONE)
                return explain_one(o, id, 0, false, dps_error_id_meaning(id), dps_error_id_advice(id));
        if (parse_u64(word, &code) < 0 || !code_is_defined(code))
                return fail_with(
                        EXIT_USAGE,
                        "'%s' is neither an error id nor a code that DPS or HTTP defines; dpsctl explain "
                        "lists the ids, and the first three digits of a code are a status of HTTP",
                        word);

        row = dps_code_lookup((uint32_t) code);
        return explain_one(o, row.id, code, row.verdict == DPS_VERDICT_FINAL, row.meaning, row.advice);
}
