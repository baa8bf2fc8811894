/* SPDX-License-Identifier: MIT */
#include "emulator/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "basic/files.h"
#include "basic/text.h"
#include "build-config.h"
#include "emulator/broker.h"
#include "emulator/certificates.h"
#include "emulator/defaults.h"
#include "emulator/enrollment-files.h"
#include "emulator/roster.h"
#include "emulator/statedir.h"

#define PORT_TRIES 5

typedef struct Launch {
        const LaunchOptions *options;
        const char *state_directory;
        char *plugin;
        json_object *document;
        Roster *roster;
        uint16_t port;
        Broker broker;
        int https_fd;        /* -1: there is no HTTPS front */
        uint16_t https_port; /* 0: the same */
        int signal_fd;
} Launch;

static void launch_done(Launch *l) {
        broker_stop(&l->broker);
        free(l->plugin);
        roster_free(l->roster);
        json_object_put(l->document);
        if (l->https_fd >= 0)
                (void) close(l->https_fd);
        if (l->signal_fd >= 0)
                (void) close(l->signal_fd);
}

/* The lock is held until the program ends. */
static int take_lock(int *ret_fd, ErrorText *error) {
        _cleanup_(closep) int fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
                return error_set(error, LOCK_FILE ": %s", strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return error_set(
                        error,
                        "another emulator uses this state directory; choose another one with --state=");

        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int read_enrollments(const char *path, const char *state_directory, json_object **ret,
                            ErrorText *error) {
        _cleanup_(json_freep) json_object *document = NULL;
        _cleanup_(freep) char *copy = strdup(path);
        ErrorText inner = { 0 };
        int r;

        if (!copy)
                return -ENOMEM;

        r = json_read_file(path, &document, error);
        if (r < 0)
                return r;
        r = enrollment_files_include(document, dirname(copy), state_directory, &inner);
        if (r < 0)
                return r == -EBADMSG ? error_set(error, "%s: %.300s", path, inner.text) : r;

        *ret = TAKE_PTR(document);
        return 0;
}

/* The given file; else the enrollments of the last run; else the default ones. */
static int choose_enrollments(Launch *l, const char *given_path, ErrorText *error) {
        if (given_path)
                return read_enrollments(given_path, l->state_directory, &l->document, error);
        if (access(ENROLLMENTS_FILE, F_OK) == 0)
                return read_enrollments(ENROLLMENTS_FILE, l->state_directory, &l->document, error);
        return defaults_make(l->state_directory, &l->document, error);
}

/* The enrollments are checked here, so that errors are reported before anything runs. */
static int store_enrollments(Launch *l, const char *name, ErrorText *error) {
        ErrorText inner = { 0 };
        const char *text;
        int r;

        if (l->options->id_scope)
                json_object_object_add(l->document, "idScope", json_object_new_string(l->options->id_scope));

        r = roster_new(l->document, &l->roster, &inner);
        if (r < 0)
                return r == -EBADMSG ? error_set(error, "%s: %.300s", name, inner.text) : r;

        text = json_object_to_json_string_ext(l->document,
                                              JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
        r = file_write_atomic(AT_FDCWD, ENROLLMENTS_FILE, text, strlen(text), 0600, (gid_t) -1);
        return r < 0 ? error_set(error, ENROLLMENTS_FILE ": %s", strerror(-r)) : 0;
}

static int make_certificates(const Launch *l, ErrorText *error) {
        _cleanup_(strv_freep) char **hosts = NULL;
        int r;

        if ((r = strv_append(&hosts, "localhost")) < 0 || (r = strv_append(&hosts, l->options->listen)) < 0)
                return r;
        STRV_FOREACH(host, l->options->hosts)
                if ((r = strv_append(&hosts, *host)) < 0)
                        return r;
        return certificates_prepare(".", hosts, error);
}

/* Returns what comes first. 1: the broker is ready; 0: a signal asked us to end; -ECHILD: the broker has
 * ended. */
static int wait_for_broker(Launch *l, bool until_ready) {
        struct pollfd fds[] = {
                { .fd = l->signal_fd, .events = POLLIN },
                { .fd = until_ready ? l->broker.ready_fd : -1, .events = POLLIN },
        };
        struct signalfd_siginfo info;
        char byte;

        for (;;) {
                if (poll(fds, ELEMENTSOF(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (fds[1].revents)
                        return read(fds[1].fd, &byte, 1) == 1 ? 1 : -ECHILD;

                if (read(l->signal_fd, &info, sizeof(info)) != sizeof(info))
                        continue;
                if (info.ssi_signo != SIGCHLD)
                        return 0;
                if (waitpid(l->broker.pid, NULL, WNOHANG) == l->broker.pid) {
                        l->broker.pid = 0;
                        return -ECHILD;
                }
        }
}

/* 1: ready; 0: a signal asked us to end. Another program may take the free port before the broker does, hence
 * the tries. */
static int start(Launch *l, ErrorText *error) {
        unsigned tries = l->options->port == 0 ? PORT_TRIES : 1;
        int r = -ECHILD;

        while (r == -ECHILD && tries-- > 0) {
                l->port = l->options->port;
                r = l->port == 0 ? broker_find_port(l->options->listen, &l->port, error) : 0;
                if (r < 0)
                        return r;

                broker_stop(&l->broker);
                r = broker_start(l->plugin, l->options->listen, l->port, l->https_fd, &l->broker, error);
                if (r < 0)
                        return r;
                r = wait_for_broker(l, true);
        }
        return r == -ECHILD ? error_set(error, "Mosquitto could not start; its error is above") : r;
}

static const char *host_of(const LaunchOptions *options) {
        return options->hosts ? options->hosts[0] : options->listen;
}

static int announce(const Launch *l) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        _cleanup_(freep) char *ca_file = NULL, *text = NULL;
        int r;

        if (asprintf(&ca_file, "%s/" SERVER_CA_NAME ".pem", l->state_directory) < 0)
                return -ENOMEM;

        if ((r = json_add_string(o, "event", "ready")) < 0 ||
            (r = json_add_string(o, "host", host_of(l->options))) < 0 ||
            (r = json_add_u64(o, "port", l->port)) < 0 ||
            (l->https_port > 0 && (r = json_add_u64(o, "httpsPort", l->https_port)) < 0) ||
            (r = json_add_string(o, "idScope", l->roster->behaviour.id_scope)) < 0 ||
            (r = json_add_string(o, "caFile", ca_file)) < 0 ||
            (r = json_add_string(o, "stateDirectory", l->state_directory)) < 0 ||
            (r = json_add_u64(o, "pid", (uint64_t) getpid())) < 0 || (r = json_to_text(o, &text)) < 0)
                return r;

        defaults_explain(l->roster, l->state_directory, host_of(l->options), l->port, l->https_port);
        (void) puts(text);
        return fflush(stdout) == 0 ? 0 : -errno;
}

/* SIGCHLD is among them: it says that the broker has ended. */
static int take_signals(Launch *l) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGHUP);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        l->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
        return l->signal_fd < 0 ? -errno : 0;
}

/* Most users may not listen on port 443, and do not need it: only a port that was asked for must be had. */
static int open_https(Launch *l, ErrorText *error) {
        ErrorText inner = { 0 };
        int r;

        l->https_port = l->options->https_port;
        r = DPS_HTTPS_FRONT ? broker_listen(l->options->listen, &l->https_port, &l->https_fd, &inner)
                            : error_set(&inner, "this build has none, for want of libmicrohttpd");
        if (r >= 0)
                return 0;

        l->https_port = 0;
        if (l->options->has_https_port)
                return error_set(error, "HTTPS front: %.300s", inner.text);
        (void) fprintf(stderr, "dps-emulator: no HTTPS front: %s%s\n", inner.text,
                       DPS_HTTPS_FRONT ? "; --https-port= chooses another port" : "");
        return 0;
}

static int prepare(Launch *l, const char *enrollments, ErrorText *error) {
        const char *name = l->options->enrollments ?: ENROLLMENTS_FILE;
        int r;

        if ((r = broker_find_plugin(&l->plugin, error)) < 0 || (r = make_certificates(l, error)) < 0 ||
            (r = choose_enrollments(l, enrollments, error)) < 0 ||
            (r = store_enrollments(l, name, error)) < 0 || (r = open_https(l, error)) < 0)
                return r;
        return take_signals(l);
}

static int run(Launch *l, const char *enrollments, ErrorText *error) {
        _cleanup_(closep) int lock_fd = -1;
        int r;

        if (chdir(l->state_directory) < 0)
                return error_set(error, "%s: %s", l->state_directory, strerror(errno));

        if ((r = take_lock(&lock_fd, error)) < 0 || (r = prepare(l, enrollments, error)) < 0)
                return r;
        r = start(l, error);
        if (r <= 0)
                return r;
        r = announce(l);
        if (r < 0)
                return r;

        r = wait_for_broker(l, false);
        return r == -ECHILD ? error_set(error, "Mosquitto has ended") : r;
}

int launcher_run(const char *state_directory, const LaunchOptions *options) {
        _cleanup_(launch_done) Launch l = { .options = options,
                                            .state_directory = state_directory,
                                            .broker.ready_fd = -1,
                                            .https_fd = -1,
                                            .signal_fd = -1 };
        _cleanup_(freep) char *enrollments = NULL;
        ErrorText error = { 0 };
        int r = 0;

        /* A relative path must be resolved before the working directory changes. */
        if (options->enrollments) {
                enrollments = realpath(options->enrollments, NULL);
                if (!enrollments)
                        r = error_set(&error, "%s: %s", options->enrollments, strerror(errno));
        }

        if (r >= 0)
                r = run(&l, enrollments, &error);
        if (r < 0)
                (void) fprintf(stderr, "dps-emulator: %s\n", *error.text ? error.text : strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
