/* SPDX-License-Identifier: MIT */
#include "dpsctl/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "basic/json.h"
#include "basic/text.h"
#include "dpsctl/redact.h"
#include "dpsctl/say.h"

extern char **environ;

static struct {
        pid_t pid;
        int terminal_fd; /* the original standard output */
} pager = { 0, -1 };

/* Chosen as systemd's tools do. "" and "cat" mean no pager. */
static const char *pager_command(void) {
        static const char *const variables[] = { "SYSTEMD_PAGER", "PAGER" };

        for (size_t k = 0; k < ELEMENTSOF(variables); k++) {
                const char *command = getenv(variables[k]);

                if (command)
                        return isempty(command) || streq(command, "cat") ? NULL : command;
        }
        return "less";
}

static int spawn_pager(const char *command, int input_fd, int unused_fd) {
        _cleanup_(strv_freep) char **words = NULL;
        posix_spawn_file_actions_t actions;
        int r;

        r = strv_split(command, " \t", &words);
        if (r < 0 || !words)
                return r < 0 ? r : -EINVAL;
        r = -posix_spawn_file_actions_init(&actions);
        if (r < 0)
                return r;
        r = -posix_spawn_file_actions_adddup2(&actions, input_fd, STDIN_FILENO);
        if (r == 0)
                r = -posix_spawn_file_actions_addclose(&actions, unused_fd);
        if (r == 0)
                r = -posix_spawnp(&pager.pid, words[0], &actions, NULL, words, environ);
        posix_spawn_file_actions_destroy(&actions);
        return r;
}

void output_begin(const Options *o) {
        const char *command = pager_command();
        int ends[2];

        if (o->no_pager || o->quiet || o->json != JSON_OFF || !command || style_columns() == 0 ||
            style_is_dumb())
                return;

        /* F: no pager for what fits a screen; R: colours. In secure mode less runs no commands: we may be root. */
        (void) setenv("LESS", getenv("SYSTEMD_LESS") ?: "FRXMK", true);
        (void) setenv("LESSSECURE", "1", true);
        if (pipe2(ends, O_CLOEXEC) < 0)
                return;
        pager.terminal_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        if (pager.terminal_fd >= 0 && spawn_pager(command, ends[0], ends[1]) >= 0) {
                (void) dup2(ends[1], STDOUT_FILENO);
                (void) signal(SIGPIPE, SIG_IGN); /* leaving the pager early is not an error */
        }
        close(ends[0]);
        close(ends[1]);
}

void output_end(void) {
        (void) fflush(stdout);
        if (pager.pid <= 0)
                return;

        (void) dup2(pager.terminal_fd, STDOUT_FILENO); /* closes the pager's input */
        close(pager.terminal_fd);
        while (waitpid(pager.pid, NULL, 0) < 0 && errno == EINTR)
                ;
        pager.pid = 0;
        clearerr(stdout); /* the pager may have ended before it read everything */
}

static json_object *pack_value(char type, va_list *values) {
        switch (type) {
        case 's':
                return json_object_new_string(va_arg(*values, const char *));
        case 't':
        case 'T':
                return json_object_new_uint64(va_arg(*values, uint64_t));
        case 'b':
                return json_object_new_boolean(va_arg(*values, int));
        case 'o':
                return va_arg(*values, json_object *);
        }
        abort();
}

json_object *json_pack(const char *types, ...) {
        json_object *o = json_object_new_object();
        va_list values;
        int r = o ? 0 : -ENOMEM;

        va_start(values, types);
        for (; *types; types++) {
                const char *name = va_arg(values, const char *);
                json_object *value = pack_value(*types, &values);

                if (r < 0 || (*types == 'T' && value && json_object_get_uint64(value) == 0))
                        json_object_put(value);
                else
                        r = json_add(o, name, value);
        }
        va_end(values);
        if (r >= 0)
                return o;
        json_object_put(o);
        return NULL;
}

json_object *json_document(const char *key, json_object *value) {
        return json_pack("to", "version", (uint64_t) 1, key, value);
}

void json_append(json_object **rows, json_object *row) {
        if (*rows && row && json_object_array_add(*rows, row) >= 0)
                return;
        json_object_put(row);
        json_object_put(*rows);
        *rows = NULL;
}

int output_json(const Options *o, json_object *object) {
        int flags = JSON_C_TO_STRING_NOSLASHESCAPE |
                    (o->json == JSON_SHORT ? JSON_C_TO_STRING_PLAIN
                                           : JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
        const char *text = NULL;
        int r;

        if (object && (!o->redact || redact_json(object) >= 0))
                text = json_render(object, flags);
        r = text ? print_text(text) : fail_memory();
        json_object_put(object);
        return r == 0 && fflush(stdout) == 0 ? 0 : EXIT_FAILED;
}
