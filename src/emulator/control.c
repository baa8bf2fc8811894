/* SPDX-License-Identifier: MIT */
#include "emulator/control.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"

typedef struct Command {
        Service *service;
        const ControlHooks *hooks;
        char **arguments;
        json_object *document; /* in the request; may be NULL */
        json_object *result;   /* for the answer; NULL: the answer is the message */
        char message[128];
} Command;

static int save(const Command *command, ErrorText *error) {
        int r = command->hooks->save(command->hooks->userdata);

        return r < 0 ? error_set(error, "done, but it cannot be saved in the state directory: %s",
                                 strerror(-r))
                     : 0;
}

static int do_enroll(Command *command, ErrorText *error) {
        size_t n = 0;
        int r;

        if (!command->document)
                return error_set(error, "enroll: the request has no document");
        r = roster_merge(command->service->roster, command->document, &n, error);
        if (r < 0)
                return r;

        (void) snprintf(command->message, sizeof(command->message), "%zu enrolled", n);
        return save(command, error);
}

static int do_set(Command *command, ErrorText *error) {
        const char *id = command->arguments[0];
        int r;

        r = roster_set(command->service->roster, id, command->arguments + 1, error);
        if (r < 0)
                return r;

        (void) snprintf(command->message, sizeof(command->message), "%.64s: %zu set", id,
                        strv_length(command->arguments) - 1);
        return save(command, error);
}

static int do_remove(Command *command, ErrorText *error) {
        int r;

        r = roster_remove(command->service->roster, command->arguments[0], error);
        if (r < 0)
                return r;

        (void) snprintf(command->message, sizeof(command->message), "%.64s: removed", command->arguments[0]);
        return save(command, error);
}

static int do_script(Command *command, ErrorText *error) {
        const char *id = command->arguments[0];
        int r;

        if (streq(command->arguments[1], "--clear")) {
                scripts_clear(&command->service->scripts, id);
                (void) snprintf(command->message, sizeof(command->message), "%.64s: nothing is scripted", id);
                return 0;
        }

        r = scripts_add(&command->service->scripts, id, command->arguments + 1, error);
        if (r < 0)
                return r;
        (void) snprintf(command->message, sizeof(command->message), "%.64s: %zu scripted", id,
                        strv_length(command->arguments) - 1);
        return 0;
}

static int do_drop(Command *command, ErrorText *error) {
        const ControlHooks *hooks = command->hooks;
        const char *id = command->arguments ? command->arguments[0] : NULL;

        (void) snprintf(command->message, sizeof(command->message), "%u sessions dropped",
                        hooks->drop_sessions(id, hooks->userdata));
        return 0;
}

static int do_list(Command *command, ErrorText *error) {
        json_object *o = roster_to_json(command->service->roster);

        if (!o)
                return -ENOMEM;

        json_object_object_add(o, "registrations", devices_to_json(command->service->devices));
        json_object_object_add(o, "sessions", command->hooks->list_sessions(command->hooks->userdata));
        command->result = o;
        return 0;
}

static const struct {
        const char *name;
        size_t min, max; /* number of arguments */
        int (*execute)(Command *command, ErrorText *error);
} commands[] = {
        { "enroll", 0, 0, do_enroll },        { "set", 2, SIZE_MAX, do_set }, { "remove", 1, 1, do_remove },
        { "script", 2, SIZE_MAX, do_script }, { "drop", 0, 1, do_drop },      { "list", 0, 0, do_list },
};

static int execute(Command *command, json_object *request, ErrorText *error) {
        const char *name = "";
        Reader r;
        size_t n;
        int k;

        if ((k = reader_init(request, "", error, &r)) < 0 || (k = reader_string(&r, "command", &name)) < 0 ||
            (k = reader_strings(&r, "arguments", &command->arguments)) < 0)
                return k;

        command->document = json_member(request, "document");
        n = strv_length(command->arguments);
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                if (!streq(commands[i].name, name))
                        continue;
                if (n < commands[i].min || n > commands[i].max)
                        return error_set(error, "%s: wrong number of arguments", name);
                return commands[i].execute(command, error);
        }
        return error_set(error, "%s: no such command", name);
}

char *control_execute(Service *s, const ControlHooks *hooks, const void *text, size_t size) {
        _cleanup_(json_freep) json_object *request = NULL, *answer = json_object_new_object();
        Command command = { .service = s, .hooks = hooks };
        ErrorText error = { 0 };
        char *result;
        int r;

        r = json_read(text, size, &request, &error);
        if (r >= 0)
                r = execute(&command, request, &error);
        strv_free(command.arguments);

        if (r < 0)
                r = json_add_string(answer, "error", *error.text ? error.text : strerror(-r));
        else if (command.result)
                r = json_add(answer, "document", command.result);
        else
                r = json_add_string(answer, "message", command.message);
        if (r < 0 || json_to_text(answer, &result) < 0)
                return NULL;
        return result;
}
