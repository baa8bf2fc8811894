/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "basic/json.h"
#include "basic/text.h"
#include "build-config.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"
#include "dpsctl/table.h"

/*
 * Looks for anything that would make a registration fail. The daemon looks: it has the keys, the rights and the way to DPS.
 * If none can be asked, `dpsd --check` does the same in a process of its own. Either gives one JSON document for this
 * device and one for each identity.
 */

#define DOCUMENT_SIZE_MAX (1024U * 1024)

typedef struct Check {
        const Options *options;
        json_object *rows;  /* of all documents */
        json_object *names; /* the identities that the first document lists */
} Check;

static void check_done(Check *c) {
        json_object_put(c->rows);
        json_object_put(c->names);
}

static const char *member(json_object *row, const char *name) {
        return json_string(json_member(row, name));
}

/* ---- documents ---- */

static bool row_is_good(json_object *row) {
        static const char *const members[] = { "Name", "Check", "Result", "Text" };

        for (size_t k = 0; k < ELEMENTSOF(members); k++)
                if (!member(row, members[k]))
                        return false;
        return true;
}

static int learn_masks(json_object *document) {
        static const struct {
                const char *member;
                Privacy privacy;
        } values[] = { { "IdScope", PRIVACY_SCOPE },
                       { "RegistrationId", PRIVACY_ID },
                       { "AssignedHub", PRIVACY_HUB },
                       { "DeviceId", PRIVACY_ID } };

        for (size_t k = 0; k < ELEMENTSOF(values); k++)
                if (!redact_value(values[k].privacy, member(document, values[k].member) ?: ""))
                        return -ENOMEM;
        return 0;
}

static int take_document(Check *c, const char *text, size_t size) {
        _cleanup_(json_freep) json_object *document = NULL;
        json_object *rows, *names;
        const char *why;
        int r;

        r = json_read_object(text, size, DOCUMENT_SIZE_MAX, &document, &why);
        rows = r < 0 ? NULL : json_member(document, "checks");
        if (!json_object_is_type(rows, json_type_array))
                return r == -ENOMEM ? r : -EBADMSG;
        for (size_t k = 0; k < json_object_array_length(rows); k++) {
                json_object *row = json_object_array_get_idx(rows, k);

                if (!row_is_good(row))
                        return -EBADMSG;
                json_append(&c->rows, json_object_get(row));
        }
        names = json_member(document, "identities");
        if (!c->names && json_object_is_type(names, json_type_array))
                c->names = json_object_get(names);
        return c->options->redact ? learn_masks(document) : 0;
}

/* ---- by the daemon ---- */

/* -ENOTCONN: there is no daemon on this host's bus. Else 0 or an exit code. */
static int ask_daemon(Check *c, sd_bus *bus, const char *name) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const Options *o = c->options;
        const char *const options[] = { o->offline ? "offline" : "hub-login", "hub-login" };
        unsigned n = (unsigned) o->offline + (unsigned) o->hub_login;
        const char *text;
        int r;

        r = bus_call_slow(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "Check", &error, &reply, "sas", name, n,
                          options[0], options[1]);
        if (r < 0 && !o->host &&
            (sd_bus_error_has_name(&error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
             sd_bus_error_has_name(&error, SD_BUS_ERROR_NAME_HAS_NO_OWNER)))
                return -ENOTCONN;
        if (sd_bus_error_has_name(&error, DPS_BUS_ERROR_NO_SUCH_IDENTITY))
                return fail_with(EXIT_NO_IDENTITY, "%s", error.message);
        if (r < 0)
                return bus_fail(&error, r);
        r = sd_bus_message_read(reply, "s", &text);
        if (r >= 0)
                r = take_document(c, text, strlen(text));
        return r < 0 ? bus_fail_answer("Check", r) : 0;
}

static int ask_daemon_for_all(Check *c, sd_bus *bus) {
        const Options *o = c->options;
        int r;

        r = ask_daemon(c, bus, "");
        for (unsigned k = 0; r == 0 && k < o->n_arguments; k++)
                r = ask_daemon(c, bus, o->arguments[k]);
        for (size_t k = 0;
             r == 0 && o->n_arguments == 0 && c->names && k < json_object_array_length(c->names); k++) {
                const char *name = json_string(json_object_array_get_idx(c->names, k));

                r = name ? ask_daemon(c, bus, name) : 0;
        }
        return r;
}

/* ---- without it ---- */

/* $DPS_DAEMON overrides it, so that programs can be tested before they are installed. */
static const char *daemon_path(void) {
        return secure_getenv("DPS_DAEMON") ?: DPS_DAEMON_PATH;
}

static _Noreturn void run_daemon(const Options *o, int out) {
        const char **arguments = calloc(o->n_arguments + 5, sizeof(char *));
        unsigned n = 0;

        if (arguments && dup2(out, STDOUT_FILENO) >= 0) {
                arguments[n++] = "dpsd";
                arguments[n++] = "--check";
                if (o->offline)
                        arguments[n++] = "--offline";
                arguments[n++] = "--";
                for (unsigned k = 0; k < o->n_arguments; k++)
                        arguments[n++] = o->arguments[k];
                execv(daemon_path(), (char *const *) arguments);
        }
        fprintf(stderr,
                "dpsctl: dpsd is not running, and %s, which would check, cannot be run: %s; install it, or "
                "set DPS_DAEMON to where it is\n",
                daemon_path(), strerror(errno));
        _exit(EXIT_FAILED);
}

static int read_documents(Check *c, FILE *f) {
        _cleanup_(freep) char *line = NULL;
        size_t size = 0;
        ssize_t n;
        int r = 0;

        while (r >= 0 && (n = getline(&line, &size, f)) > 0)
                r = take_document(c, line, (size_t) n - (line[n - 1] == '\n'));
        return r;
}

static int wait_for_daemon(const Options *o, pid_t pid) {
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return fail_with(EXIT_FAILED, "%s: %s", daemon_path(), strerror(errno));
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_IDENTITY)
                return EXIT_NO_IDENTITY; /* it has said so */
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return fail_with(EXIT_FAILED, "the check cannot be run");
        return 0;
}

static int check_without_daemon(Check *c) {
        _cleanup_(closep) int in = -1, out = -1;
        int ends[2], r, code;
        FILE *f;
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return fail_with(EXIT_FAILED, "the check cannot be run: %s", strerror(errno));
        in = ends[0];
        out = ends[1];
        pid = fork();
        if (pid == 0)
                run_daemon(c->options, out);
        if (pid < 0)
                return fail_with(EXIT_FAILED, "the check cannot be run: %s", strerror(errno));
        out = (close(out), -1);
        f = fdopen(in, "r");
        r = f ? read_documents(c, f) : -errno;
        if (f) {
                TAKE_FD(in);
                fclose(f);
        }
        code = wait_for_daemon(c->options, pid);
        if (code == 0 && r < 0)
                code = fail_with(EXIT_FAILED, "dpsd and dpsctl are different versions");
        return code;
}

/* ---- output ---- */

static const struct {
        const char *word, *sign;
        Style style;
} results[] = {
        { "ok", "✓ ok", STYLE_GOOD },
        { "skipped", "- skipped", STYLE_DIM },
        { "warning", "! warning", STYLE_BUSY },
        { "failed", "✗ failed", STYLE_BAD },
};

/* A word of a newer daemon is shown as a warning. */
static size_t result_of(json_object *row) {
        const char *word = member(row, "Result");

        for (size_t k = 0; k < ELEMENTSOF(results); k++)
                if (streq(results[k].word, word))
                        return k;
        return 2;
}

static int print_rows(json_object *rows) {
        static const char *const header[] = { "RESULT", "IDENTITY", "ABOUT", "" };
        Table t;
        int r;

        table_init(&t, header, ELEMENTSOF(header));
        for (size_t k = 0; k < json_object_array_length(rows); k++) {
                json_object *row = json_object_array_get_idx(rows, k);
                _cleanup_(freep) char *name = redact_text(member(row, "Name")),
                                      *text = redact_text(member(row, "Text"));
                size_t result = result_of(row);

                table_add(&t, results[result].style, results[result].sign);
                table_add(&t, STYLE_PLAIN, isempty(name) ? NULL : name);
                table_add(&t, STYLE_PLAIN, member(row, "Check"));
                table_add(&t, result >= 2 ? results[result].style : STYLE_PLAIN, text ?: "?");
        }
        t.is_whole = true; /* the end of the text says what to do */
        r = table_print(&t, false, stdout);
        table_done(&t);
        return r < 0 ? fail_memory() : 0;
}

static bool has_failure(json_object *rows) {
        for (size_t k = 0; k < json_object_array_length(rows); k++)
                if (streq(member(json_object_array_get_idx(rows, k), "Result"), "failed"))
                        return true;
        return false;
}

static int output(Check *c) {
        const Options *o = c->options;
        bool failed;
        int r = 0;

        if (!c->rows)
                return fail_memory();
        failed = has_failure(c->rows);
        if (o->json != JSON_OFF)
                r = output_json(o, json_document("checks", json_object_get(c->rows)));
        else if (!o->quiet)
                r = print_rows(c->rows);
        return r != 0 ? r : failed ? EXIT_FAILED : EXIT_DONE;
}

int verb_check(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(check_done) Check c = { .options = o, .rows = json_object_new_array() };
        int r;

        r = o->host ? bus_open(o, &bus) : sd_bus_open_system(&bus);
        if (o->host && r != 0)
                return r;
        r = r >= 0 ? ask_daemon_for_all(&c, bus) : -ENOTCONN;
        if (r == -ENOTCONN && o->hub_login)
                return fail_with(EXIT_NO_DAEMON,
                                 "--hub-login needs dpsd, which is not running: systemctl start dpsd");
        if (r == -ENOTCONN)
                r = check_without_daemon(&c);
        return r != 0 ? r : output(&c);
}
