/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "calls.h"
#include "dpsd/network.h"

/* Replaces libsystemd's function: a second passes ten times as fast. */
int sd_event_source_set_time_relative(sd_event_source *s, uint64_t usec) {
        return sd_event_source_set_time(s, now_usec(CLOCK_MONOTONIC) + usec / 10);
}

/* Each test has its own network namespace, which holds nothing but a loopback that is down. */
typedef struct Fixture {
        Calls calls;
        Network *network;
        int control; /* a socket for ioctl() */
} Fixture;

static int setup(void **state) {
        Fixture *f = test_calloc(1, sizeof(*f));

        assert_int_equal(unshare(CLONE_NEWNET), 0);
        f->control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(f->control >= 0);
        assert_true(sd_event_new(&f->calls.event) >= 0);
        assert_int_equal(network_new(f->calls.event, count_call, &f->calls, &f->network), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        network_free(f->network);
        sd_event_unref(f->calls.event);
        close(f->control);
        test_free(f);
        return 0;
}

static void set_link(Fixture *f, bool up) {
        struct ifreq request = { .ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0 };

        assert_int_equal(ioctl(f->control, SIOCSIFFLAGS, &request), 0);
}

static void add_address(Fixture *f, const char *name, const char *text) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        struct ifreq request = { 0 };

        assert_int_equal(inet_pton(AF_INET, text, &address.sin_addr), 1);
        (void) snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
        memcpy(&request.ifr_addr, &address, sizeof(address));
        assert_int_equal(ioctl(f->control, SIOCSIFADDR, &request), 0);
}

static void change_route(Fixture *f, unsigned long how, unsigned short flags) {
        struct sockaddr_in to = { .sin_family = AF_INET }, mask = { .sin_family = AF_INET };
        char device[] = "lo";
        struct rtentry route = { .rt_flags = RTF_UP | flags, .rt_dev = device };

        assert_int_equal(inet_pton(AF_INET, "192.0.2.0", &to.sin_addr), 1);
        assert_int_equal(inet_pton(AF_INET, "255.255.255.0", &mask.sin_addr), 1);
        memcpy(&route.rt_dst, &to, sizeof(to));
        memcpy(&route.rt_genmask, &mask, sizeof(mask));
        assert_int_equal(ioctl(f->control, how, &route), 0);
}

static void a_link_that_comes_up_is_reported_once(void **state) {
        Fixture *f = *state;

        network_watch(f->network, true);
        set_link(f, true); /* this adds addresses and routes too */
        await_call(&f->calls);
        assert_quiet(&f->calls);
}

static void a_new_address_is_reported(void **state) {
        Fixture *f = *state;

        set_link(f, true);
        network_watch(f->network, true);
        add_address(f, "lo:1", "198.51.100.7");
        await_call(&f->calls);
}

static void a_new_route_is_reported(void **state) {
        Fixture *f = *state;

        set_link(f, true);
        network_watch(f->network, true);
        change_route(f, SIOCADDRT, 0);
        await_call(&f->calls);
}

static void removals_are_not_reported(void **state) {
        Fixture *f = *state;

        set_link(f, true);
        change_route(f, SIOCADDRT, 0);
        network_watch(f->network, true);
        change_route(f, SIOCDELRT, 0);
        set_link(f, false);
        assert_quiet(&f->calls);
}

static void a_route_that_leads_nowhere_is_not_reported(void **state) {
        Fixture *f = *state;

        network_watch(f->network, true);
        change_route(f, SIOCADDRT, RTF_REJECT);
        assert_quiet(&f->calls);
}

static void lost_messages_count_as_a_change(void **state) {
        Fixture *f = *state;

        network_watch(f->network, true);
        /* None of these messages is a change, but they are more than the socket can hold. */
        for (unsigned i = 0; i < 2000; i++) {
                change_route(f, SIOCADDRT, RTF_REJECT);
                change_route(f, SIOCDELRT, RTF_REJECT);
        }
        await_call(&f->calls);
        assert_quiet(&f->calls);
}

static void nothing_is_reported_while_nobody_waits(void **state) {
        Fixture *f = *state;

        network_watch(f->network, true);
        set_link(f, true);
        assert_true(sd_event_run(f->calls.event, USEC_PER_SEC) > 0); /* it is on its way */
        network_watch(f->network, false);
        assert_quiet(&f->calls);
        network_watch(f->network, true);
        add_address(f, "lo:1", "198.51.100.7");
        await_call(&f->calls);
}

static unsigned count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static void there_is_no_socket_while_nobody_waits(void **state) {
        Fixture *f = *state;
        unsigned n = count_fds();

        network_watch(f->network, true);
        network_watch(f->network, true);
        assert_int_equal(count_fds(), n + 1);
        network_watch(f->network, false);
        network_watch(f->network, false);
        assert_int_equal(count_fds(), n);
}

#define IN_NAMESPACE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void a_socket_that_cannot_be_opened_is_logged_once(void **state) {
        Fixture *f = *state;
        struct rlimit files, none;
        int fds[2], saved = dup(STDERR_FILENO);
        char told[1024];
        ssize_t n;

        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
        none = (struct rlimit){ .rlim_cur = STDERR_FILENO + 1, .rlim_max = files.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        for (unsigned turn = 0; turn < 3; turn++)
                network_watch(f->network, true);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);

        n = read(fds[0], told, sizeof(told) - 1);
        assert_true(n > 0);
        told[n] = 0;
        assert_ptr_equal(strchr(told, '\n'), told + n - 1);
        close(saved);
        close(fds[0]);
        close(fds[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                IN_NAMESPACE(a_link_that_comes_up_is_reported_once),
                IN_NAMESPACE(a_new_address_is_reported),
                IN_NAMESPACE(a_new_route_is_reported),
                IN_NAMESPACE(removals_are_not_reported),
                IN_NAMESPACE(a_route_that_leads_nowhere_is_not_reported),
                IN_NAMESPACE(lost_messages_count_as_a_change),
                IN_NAMESPACE(nothing_is_reported_while_nobody_waits),
                IN_NAMESPACE(there_is_no_socket_while_nobody_waits),
                IN_NAMESPACE(a_socket_that_cannot_be_opened_is_logged_once),
        };

        if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
                printf("1..0 # SKIP no network namespace of our own: %s\n", strerror(errno));
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
