/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A whole daemon, with one identity that has a cached assignment and one that has none, on a bus that is played here:
 * the bus, its callers and polkit are one connection in the daemon's own loop. A caller's name, ":1.3", tells which of
 * the callers it is. The daemon stays from input to input.
 */

#include <openssl/crypto.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/contract.h"
#include "dpsd/daemon.h"
#include "dpsd/identity.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"
#include "tree.h"

#define KEY "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlYw=="
#define TOKEN "SharedAccessSignature"
#define DRIVER "org.freedesktop.DBus"

typedef enum Polkit { POLKIT_YES, POLKIT_NO, POLKIT_CHALLENGE, POLKIT_NONSENSE, POLKIT_MISSING } Polkit;

static const struct caller {
        uint32_t uid, gid;
        Polkit polkit;
        bool is_unknown; /* the bus does not tell who it is */
        bool may_use, may_manage;
} callers[] = {
        { .uid = 0, .may_use = true, .may_manage = true },
        { .uid = 12345, .gid = 12345, .polkit = POLKIT_YES, .may_use = true, .may_manage = true },
        { .uid = 12345, .gid = 12345, .polkit = POLKIT_NO },
        { .uid = 12345, .gid = 12345, .polkit = POLKIT_CHALLENGE },
        { .uid = 12345, .gid = 12345, .polkit = POLKIT_NONSENSE },
        { .uid = 12345, .gid = 0, .polkit = POLKIT_MISSING, .may_use = true },
        { .uid = 12345, .gid = 12345, .polkit = POLKIT_MISSING },
        { .is_unknown = true },
        { .uid = 12345,
          .gid = 0,
          .polkit = POLKIT_NO,
          .may_use = true }, /* polkit is not asked about members */
};

static Daemon *dpsd;
static Manager *manager;
static bool has_asked_for_name;
static sd_bus *server; /* our end of the daemon's connection */

/* ---- the bus ---- */

static bool message_holds(sd_bus_message *m, const char *needle) {
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;
        bool holds;
        FILE *f;

        f = open_memstream(&text, &size);
        PROMISE(f);
        PROMISE(sd_bus_message_dump(m, f, 0) >= 0);
        PROMISE(fclose(f) == 0);
        holds = memmem(text, size, needle, strlen(needle));
        PROMISE(sd_bus_message_rewind(m, true) >= 0);
        return holds;
}

static void send_from(sd_bus_message *m, const char *sender) {
        PROMISE(sd_bus_message_set_sender(m, sender) >= 0);
        PROMISE(sd_bus_send(server, m, NULL) >= 0);
}

static const struct caller *caller_named(const char *name) {
        unsigned k;

        PROMISE(sscanf(name, ":1.%u", &k) == 1 && k < ELEMENTSOF(callers));
        return &callers[k];
}

static sd_bus_message *answer_to(sd_bus_message *request) {
        sd_bus_message *answer;

        PROMISE(sd_bus_message_new_method_return(request, &answer) >= 0);
        return answer;
}

static sd_bus_message *refusal_of(sd_bus_message *request, const char *name) {
        sd_bus_message *answer;

        PROMISE(sd_bus_message_new_method_errorf(request, &answer, name, "not today") >= 0);
        return answer;
}

static sd_bus_message *answer_credentials(sd_bus_message *request) {
        const struct caller *c;
        sd_bus_message *answer;
        const char *name;

        PROMISE(sd_bus_message_read(request, "s", &name) > 0);
        c = caller_named(name);
        if (c->is_unknown)
                return refusal_of(request, SD_BUS_ERROR_NAME_HAS_NO_OWNER);

        answer = answer_to(request);
        PROMISE(sd_bus_message_append(answer, "a{sv}", 3, "ProcessID", "u", 7, "UnixUserID", "u", c->uid,
                                      "UnixGroupIDs", "au", 1, c->gid) >= 0);
        return answer;
}

static void answer_polkit(sd_bus_message *request) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *answer = NULL;
        const char *kind, *key, *name;
        Polkit polkit;

        PROMISE(sd_bus_message_enter_container(request, 'r', "sa{sv}") > 0);
        PROMISE(sd_bus_message_read(request, "s", &kind) > 0);
        PROMISE(sd_bus_message_read(request, "a{sv}", 1, &key, "s", &name) > 0);
        polkit = caller_named(name)->polkit;
        if (polkit == POLKIT_MISSING) {
                answer = refusal_of(request, SD_BUS_ERROR_SERVICE_UNKNOWN);
                send_from(answer, DRIVER);
                return;
        }

        answer = answer_to(request);
        if (polkit == POLKIT_NONSENSE)
                PROMISE(sd_bus_message_append(answer, "(bs)", 1, "yes") >= 0);
        else
                PROMISE(sd_bus_message_append(answer, "(bba{ss})", polkit == POLKIT_YES,
                                              polkit == POLKIT_CHALLENGE, 0) >= 0);
        send_from(answer, ":1.1000");
}

static void tell_name(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        PROMISE(sd_bus_message_new_signal(server, &m, "/org/freedesktop/DBus", DRIVER, "NameAcquired") >= 0);
        PROMISE(sd_bus_message_append(m, "s", DPS_BUS_NAME) >= 0);
        send_from(m, DRIVER);
        has_asked_for_name = true;
}

static void answer_driver(sd_bus_message *request) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *answer = NULL;
        const char *member = sd_bus_message_get_member(request);

        if (streq(member, "GetConnectionCredentials")) {
                answer = answer_credentials(request);
                send_from(answer, DRIVER);
                return;
        }

        answer = answer_to(request);
        if (streq(member, "Hello"))
                PROMISE(sd_bus_message_append(answer, "s", ":1.999") >= 0);
        else if (streq(member, "RequestName"))
                PROMISE(sd_bus_message_append(answer, "u", 1) >= 0);
        send_from(answer, DRIVER);
        if (streq(member, "RequestName"))
                tell_name();
}

/* All that the daemon sends. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *refusal = NULL;
        const char *destination = sd_bus_message_get_destination(m);

        if (sd_bus_message_is_signal(m, NULL, NULL) > 0)
                PROMISE(!message_holds(m, KEY) && !message_holds(m, TOKEN));
        if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
                return 0;

        if (streq_ptr(destination, DRIVER))
                answer_driver(m);
        else if (streq_ptr(destination, "org.freedesktop.PolicyKit1"))
                answer_polkit(m);
        else {
                refusal = refusal_of(m, SD_BUS_ERROR_SERVICE_UNKNOWN);
                send_from(refusal, DRIVER);
        }
        return 1;
}

/* ---- the daemon ---- */

static int listen_on(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        PROMISE(fd >= 0 && strlen(path) < sizeof(address.sun_path));
        strcpy(address.sun_path, path);
        PROMISE(bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0);
        PROMISE(listen(fd, 1) == 0);
        return fd;
}

static void accept_daemon(int listener) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        PROMISE(fd >= 0);
        PROMISE(sd_bus_new(&server) >= 0);
        PROMISE(sd_bus_set_fd(server, fd, fd) >= 0);
        PROMISE(sd_bus_set_server(
                        server, true,
                        SD_ID128_MAKE(5a, 1e, 7c, 00, 4b, 1f, 4d, 20, 9c, 5d, 2e, 6f, 80, 91, a2, b3)) >= 0);
        PROMISE(sd_bus_set_trusted(server, true) >= 0);
        PROMISE(sd_bus_add_filter(server, NULL, on_message, NULL) >= 0);
        PROMISE(sd_bus_attach_event(server, daemon_event(dpsd), SD_EVENT_PRIORITY_NORMAL) >= 0);
        PROMISE(sd_bus_start(server) >= 0);
}

static void write_world(void) {
        static const char *const directories[] = { "conf", "state", "run" };
        static const char state[] = "{\"version\":1,\"idScope\":\"0ne00AABBCC\",\"registrationId\":\"gw-1\","
                                    "\"endpoint\":\"localhost\","
                                    "\"method\":\"symmetric-key\",\"assignedHub\":\"hub.azure-devices.net\","
                                    "\"deviceId\":\"gw-1\","
                                    "\"generation\":7,\"assignedAt\":1700000000000000}";
        _cleanup_(freep) char *known = NULL, *new = NULL, *key = NULL;

        tree_make(directories, ELEMENTSOF(directories));
        tree_write("key", KEY, strlen(KEY));
        key = tree_path("key");
        PROMISE(chmod(key, 0600) == 0);
        tree_write("state/known.json", state, strlen(state));
        PROMISE(asprintf(&known,
                         "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\nEndpoint=localhost\n"
                         "MqttPort=1\n[Attestation]\nKey=%s\n[Access]\nGroup=root\n",
                         key) > 0);
        tree_write("conf/known.conf", known, strlen(known));
        PROMISE(asprintf(&new,
                         "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-2\nEndpoint=localhost\n"
                         "MqttPort=1\n[Attestation]\nKey=%s\n[Access]\nGroup=root\n",
                         key) > 0);
        tree_write("conf/new.conf", new, strlen(new));
}

static void set_environment(void) {
        static const struct {
                const char *variable, *name, *prefix;
        } rows[] = {
                { "CONFIGURATION_DIRECTORY", "conf", "" },
                { "STATE_DIRECTORY", "state", "" },
                { "RUNTIME_DIRECTORY", "run", "" },
                { "DBUS_SYSTEM_BUS_ADDRESS", "bus", "unix:path=" },
        };

        for (size_t k = 0; k < ELEMENTSOF(rows); k++) {
                _cleanup_(freep) char *path = tree_path(rows[k].name), *value = NULL;

                PROMISE(asprintf(&value, "%s%s", rows[k].prefix, path) > 0);
                PROMISE(setenv(rows[k].variable, value, true) == 0);
        }
        PROMISE(unsetenv("NOTIFY_SOCKET") == 0);
}

static void stop(void) {
        server = sd_bus_close_unref(server);
        dpsd = daemon_free(dpsd);
        manager = NULL;
}

static void run_while(bool (*goes_on)(void)) {
        while (goes_on())
                PROMISE(sd_event_run(daemon_event(dpsd), UINT64_MAX) >= 0);
}

static bool is_starting(void) {
        return !has_asked_for_name || !manager_is_serving(manager);
}

static void start(void) {
        _cleanup_(closep) int listener = -1;
        _cleanup_(freep) char *path = NULL;
        sigset_t before;

        write_world();
        set_environment();
        path = tree_path("bus");
        listener = listen_on(path);
        log_set_level(LOG_EMERG);

        /* A thread may be reading CA files when the fuzzer ends, and OpenSSL must not be taken away from it. */
        PROMISE(OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL) == 1);
        /* Signals are the fuzzer's. */
        PROMISE(sigprocmask(SIG_SETMASK, NULL, &before) == 0);
        PROMISE(daemon_new(&dpsd) == 0);
        manager = daemon_manager(dpsd);
        PROMISE(atexit(stop) == 0);
        PROMISE(daemon_start(dpsd) == EXIT_DONE);
        PROMISE(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
        accept_daemon(listener);
        run_while(is_starting);
        PROMISE(manager_find(manager, "known")->keeper.record->assignment);
        PROMISE(manager_find(manager, "new"));
}
