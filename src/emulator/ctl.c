/* SPDX-License-Identifier: MIT */

/* Commands are sent to the broker itself, over MQTT on a Unix-domain socket in the state directory: see
 * control.h. */

#include "emulator/ctl.h"

#include <errno.h>
#include <libgen.h>
#include <mosquitto.h>
#include <stdio.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"
#include "emulator/control.h"
#include "emulator/enrollment-files.h"
#include "emulator/statedir.h"

#define TIMEOUT_USEC (20 * USEC_PER_SEC)

typedef struct Call {
        char *request;
        json_object *answer; /* NULL: it has not come yet */
} Call;

static void call_done(Call *call) {
        free(call->request);
        json_object_put(call->answer);
}

static inline void mosquitto_destroyp(struct mosquitto **m) {
        if (*m)
                mosquitto_destroy(*m);
}

static void on_connected(struct mosquitto *m, void *userdata, int code) {
        const Call *call = userdata;

        if (code == 0)
                (void) mosquitto_publish(m, NULL, CONTROL_TOPIC, (int) strlen(call->request), call->request,
                                         1, false);
}

static void on_answered(struct mosquitto *m, void *userdata, const struct mosquitto_message *message) {
        Call *call = userdata;
        ErrorText ignored;

        if (!call->answer && streq(message->topic, CONTROL_RESPONSE_TOPIC))
                (void) json_read(message->payload, (size_t) message->payloadlen, &call->answer, &ignored);
}

static int exchange(Call *call, const char *state_directory, ErrorText *error) {
        _cleanup_(mosquitto_destroyp) struct mosquitto *m = NULL;
        uint64_t deadline_usec = now_usec(CLOCK_MONOTONIC) + TIMEOUT_USEC;
        char id[32];
        int r;

        if (chdir(state_directory) < 0)
                return error_set(error, "%s: %s", state_directory, strerror(errno));

        (void) snprintf(id, sizeof(id), "ctl-%d", (int) getpid());
        m = mosquitto_new(id, true, call);
        if (!m || mosquitto_username_pw_set(m, "ctl", NULL) != MOSQ_ERR_SUCCESS)
                return -ENOMEM;
        mosquitto_connect_callback_set(m, on_connected);
        mosquitto_message_callback_set(m, on_answered);

        r = mosquitto_connect(m, CONTROL_SOCKET, 0, 60);
        if (r != MOSQ_ERR_SUCCESS)
                return error_set(error, "no emulator runs with the state directory %s", state_directory);

        while (!call->answer && r == MOSQ_ERR_SUCCESS && now_usec(CLOCK_MONOTONIC) < deadline_usec)
                r = mosquitto_loop(m, 1000, 1);
        if (!call->answer)
                return error_set(error, "the emulator does not answer: %s", mosquitto_strerror(r));

        (void) mosquitto_disconnect(m);
        return 0;
}

/* Files are read here and not by the emulator, because paths are relative to the caller's working
 * directory. */
static int add_document(json_object *request, const char *path, const char *state_directory,
                        ErrorText *error) {
        _cleanup_(freep) char *copy = strdup(path);
        json_object *document = NULL;
        int r;

        if (!copy)
                return -ENOMEM;

        r = json_read_file(path, &document, error);
        if (r < 0)
                return r;
        r = json_add(request, "document", document);
        if (r < 0)
                return r;
        return enrollment_files_include(document, streq(path, "-") ? "." : dirname(copy), state_directory,
                                        error);
}

static int make_request(char *const *words, const char *state_directory, char **ret, ErrorText *error) {
        _cleanup_(json_freep) json_object *request = json_object_new_object();
        json_object *arguments = json_object_new_array();
        bool is_enroll = streq(words[0], "enroll");
        int r;

        if ((r = json_add(request, "arguments", arguments)) < 0 ||
            (r = json_add_string(request, "command", words[0])) < 0)
                return r;
        if (is_enroll && strv_length(words) != 2)
                return error_set(error, "enroll: needs a file, or - for standard input");
        if (is_enroll && (r = add_document(request, words[1], state_directory, error)) < 0)
                return r;

        for (char *const *word = words + 1; *word && !is_enroll; word++)
                json_object_array_add(arguments, json_object_new_string(*word));
        return json_to_text(request, ret);
}

static int print_answer(json_object *answer) {
        const char *error = json_string(json_member(answer, "error"));
        const char *message = json_string(json_member(answer, "message"));

        if (error) {
                (void) fprintf(stderr, "dps-emulator: %s\n", error);
                return EXIT_FAILURE;
        }

        (void) printf("%s\n", message
                                      ?: json_object_to_json_string_ext(
                                                 json_member(answer, "document"),
                                                 JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int ctl_run(const char *state_directory, char *const *words) {
        _cleanup_(call_done) Call call = { 0 };
        ErrorText error = { 0 };
        int r;

        r = make_request(words, state_directory, &call.request, &error);
        if (r >= 0)
                r = exchange(&call, state_directory, &error);
        if (r < 0) {
                (void) fprintf(stderr, "dps-emulator: %s\n", *error.text ? error.text : strerror(-r));
                return EXIT_FAILURE;
        }
        return print_answer(call.answer);
}
