/* SPDX-License-Identifier: MIT */
#include "emulator/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "basic/files.h"
#include "basic/text.h"
#include "build-config.h"
#include "emulator/statedir.h"

#define PLUGIN_NAME "dps-emulator-plugin.so"

/*
 * No persistence: the plugin keeps all state. Without TCP_NODELAY an answer waits 40 ms for the client's
 * delayed ACK. Started as root, Mosquitto would change to a user who cannot enter the state directory, hence
 * "user root".
 */
static const char config_format[] = "per_listener_settings false\n"
                                    "persistence false\n"
                                    "allow_anonymous false\n"
                                    "retain_available false\n"
                                    "connection_messages false\n"
                                    "log_dest stderr\n"
                                    "log_type error\n"
                                    "log_timestamp false\n"
                                    "set_tcp_nodelay true\n"
                                    "max_inflight_messages 0\n"
                                    "max_queued_messages 0\n"
                                    "user root\n"
                                    "plugin %s\n"
                                    "plugin_opt_ready_fd %d\n"
                                    "plugin_opt_https_fd %d\n"
                                    "\n"
                                    "listener 0 " CONTROL_SOCKET "\n"
                                    "max_connections -1\n"
                                    "\n"
                                    "listener %u %s\n"
                                    "max_connections -1\n"
                                    "max_qos 1\n"
                                    "certfile " SERVER_NAME ".pem\n"
                                    "keyfile " SERVER_NAME ".key\n"
                                    "tls_version tlsv1.2\n";

static int fill_address(const char *text, uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_size) {
        struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

        if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
                memcpy(ret, &v4, sizeof(v4));
                *ret_size = sizeof(v4);
                return 0;
        }
        if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
                memcpy(ret, &v6, sizeof(v6));
                *ret_size = sizeof(v6);
                return 0;
        }
        return -EINVAL;
}

/* A socket with this address. `port` 0 becomes one that is free. */
static int bind_socket(const char *address, uint16_t *port, int *ret_fd, ErrorText *error) {
        _cleanup_(closep) int fd = -1;
        struct sockaddr_storage sa;
        socklen_t size;
        int on = 1;

        if (fill_address(address, *port, &sa, &size) < 0)
                return error_set(error, "--listen=%s: must be a numeric address", address);

        fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || (*port > 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) ||
            bind(fd, (struct sockaddr *) &sa, size) < 0 ||
            getsockname(fd, (struct sockaddr *) &sa, &size) < 0)
                return error_set(error, "%s port %u: %s", address, *port, strerror(errno));

        *port = ntohs(sa.ss_family == AF_INET ? ((struct sockaddr_in *) &sa)->sin_port
                                              : ((struct sockaddr_in6 *) &sa)->sin6_port);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int broker_find_port(const char *address, uint16_t *ret, ErrorText *error) {
        _cleanup_(closep) int fd = -1;

        *ret = 0;
        return bind_socket(address, ret, &fd, error);
}

int broker_listen(const char *address, uint16_t *port, int *ret_fd, ErrorText *error) {
        _cleanup_(closep) int fd = -1;
        int r;

        r = bind_socket(address, port, &fd, error);
        if (r < 0)
                return r;
        if (listen(fd, SOMAXCONN) < 0)
                return error_set(error, "%s port %u: %s", address, *port, strerror(errno));

        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int write_config(const char *plugin, const char *address, uint16_t port, int ready_fd, int https_fd) {
        _cleanup_(freep) char *text = NULL;
        int n;

        n = asprintf(&text, config_format, plugin, ready_fd, https_fd, port, address);
        if (n < 0)
                return -ENOMEM;
        return file_write_atomic(AT_FDCWD, BROKER_CONFIG_FILE, text, (size_t) n, 0600, (gid_t) -1);
}

/* Runs in the child. Our standard output is for the ready line only, so Mosquitto's goes to standard
 * error. */
static void become_broker(const char *plugin, pid_t parent) {
        const char *path = getenv("PATH");
        _cleanup_(freep) char *longer = NULL;
        sigset_t none;

        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
                _exit(EXIT_FAILURE);

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) dup2(STDERR_FILENO, STDOUT_FILENO);

        /* Debian installs it in a directory that is not in a user's $PATH. */
        if (asprintf(&longer, "%s:/usr/sbin:/usr/local/sbin", path ?: "/usr/bin") >= 0)
                (void) setenv("PATH", longer, 1);
        (void) setenv("LD_PRELOAD", plugin, 1); /* interpose.c says why */
        (void) execlp("mosquitto", "mosquitto", "-c", BROKER_CONFIG_FILE, NULL);
        (void) dprintf(STDERR_FILENO, "dps-emulator: mosquitto: %s; is it installed?\n", strerror(errno));
        _exit(EXIT_FAILURE);
}

int broker_start(const char *plugin, const char *address, uint16_t port, int https_fd, Broker *ret,
                 ErrorText *error) {
        pid_t parent = getpid(), pid;
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;

        r = write_config(plugin, address, port, fds[1], https_fd);
        if (r < 0) {
                (void) close(fds[0]);
                (void) close(fds[1]);
                return error_set(error, BROKER_CONFIG_FILE ": %s", strerror(-r));
        }

        (void) unlink(CONTROL_SOCKET);
        pid = fork();
        if (pid == 0) {
                (void) fcntl(fds[1], F_SETFD, 0);
                if (https_fd >= 0)
                        (void) fcntl(https_fd, F_SETFD, 0);
                become_broker(plugin, parent);
        }

        (void) close(fds[1]);
        if (pid < 0) {
                (void) close(fds[0]);
                return error_set(error, "fork: %s", strerror(errno));
        }
        *ret = (Broker){ pid, fds[0] };
        return 0;
}

void broker_stop(Broker *b) {
        if (b->pid > 0) {
                (void) kill(b->pid, SIGTERM);
                (void) waitpid(b->pid, NULL, 0);
        }
        if (b->ready_fd >= 0)
                (void) close(b->ready_fd);
        *b = (Broker){ .ready_fd = -1 };
}

static int plugin_beside(char **ret) {
        _cleanup_(freep) char *executable = realpath("/proc/self/exe", NULL);
        char *path;

        if (!executable)
                return -ENOENT;

        *strrchr(executable, '/') = 0;
        if (asprintf(&path, "%s/" PLUGIN_NAME, executable) < 0)
                return -ENOMEM;
        if (access(path, R_OK) < 0) {
                free(path);
                return -ENOENT;
        }

        *ret = path;
        return 0;
}

int broker_find_plugin(char **ret, ErrorText *error) {
        const char *told = getenv("DPS_EMULATOR_PLUGIN");
        char *path;

        if (isempty(told) && plugin_beside(ret) >= 0)
                return 0;

        path = realpath(isempty(told) ? DPS_PLUGIN_DIR "/" PLUGIN_NAME : told, NULL);
        if (!path)
                return error_set(error, "%s: %s", isempty(told) ? DPS_PLUGIN_DIR "/" PLUGIN_NAME : told,
                                 strerror(errno));

        *ret = path;
        return 0;
}
