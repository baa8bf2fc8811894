/* SPDX-License-Identifier: MIT */
#include "dpsd/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/log.h"

/* When an interface comes up, links, addresses and routes appear within a moment. They are reported together
 * after this time, when the last of them has probably arrived. */
#define GATHER_USEC USEC_PER_SEC

/* Per turn of the event loop. */
#define MESSAGES_MAX 64

/* The kernel reports an address again whenever its lifetime is renewed, for example by each router
 * advertisement. A new one is at most this old. */
#define ADDRESS_NEW_CENTISEC 100U

struct Network {
        sd_event *event; /* borrowed */
        network_handler_t handler;
        void *userdata;

        int fd;          /* -1: nobody waits for the network */
        bool is_refused; /* the socket could not be opened, and that was logged */
        sd_event_source *io, *timer;
};

static const void *find_attribute(const struct rtattr *a, size_t size, unsigned short type, size_t min) {
        for (; RTA_OK(a, size); a = RTA_NEXT(a, size))
                if ((a->rta_type & NLA_TYPE_MASK) == type)
                        return RTA_PAYLOAD(a) >= min ? RTA_DATA(a) : NULL;
        return NULL;
}

static bool link_appears(const struct nlmsghdr *m) {
        const struct ifinfomsg *link = NLMSG_DATA(m);

        if (link->ifi_family != AF_UNSPEC) /* messages of a bridge about its ports */
                return false;
        /* Messages about scans, roaming and the like, while no link appears or disappears. */
        if (find_attribute(IFLA_RTA(link), IFLA_PAYLOAD(m), IFLA_WIRELESS, 0))
                return false;
        /* All bits set: the link is new, and may be the one whose MAC address a specifier needs. */
        return link->ifi_change == UINT32_MAX || (link->ifi_flags & IFF_RUNNING);
}

static bool address_appears(const struct nlmsghdr *m) {
        const struct ifaddrmsg *address = NLMSG_DATA(m);
        const struct ifa_cacheinfo *times;

        if (address->ifa_flags & IFA_F_TENTATIVE) /* the kernel reports it again when it can be used */
                return false;
        times = find_attribute(IFA_RTA(address), IFA_PAYLOAD(m), IFA_CACHEINFO, sizeof(*times));
        return !times || times->tstamp - times->cstamp < ADDRESS_NEW_CENTISEC;
}

static bool route_appears(const struct nlmsghdr *m) {
        const struct rtmsg *route = NLMSG_DATA(m);

        return route->rtm_type == RTN_UNICAST;
}

static bool message_appears(const struct nlmsghdr *m) {
        static const struct {
                uint16_t type;
                size_t size;
                bool (*appears)(const struct nlmsghdr *m);
        } rows[] = {
                { RTM_NEWLINK, sizeof(struct ifinfomsg), link_appears },
                { RTM_NEWADDR, sizeof(struct ifaddrmsg), address_appears },
                { RTM_NEWROUTE, sizeof(struct rtmsg), route_appears },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (m->nlmsg_type == rows[i].type)
                        return m->nlmsg_len >= NLMSG_LENGTH(rows[i].size) && rows[i].appears(m);
        return false;
}

/* 1: something appeared; 0: nothing did; -EAGAIN: there are no more messages for now. */
static int receive(int fd) {
        union {
                struct nlmsghdr header;
                uint8_t bytes[16 * 1024];
        } buffer;
        struct sockaddr_nl sender = { 0 };
        struct iovec iov = { &buffer, sizeof(buffer) };
        struct msghdr m = {
                .msg_name = &sender, .msg_namelen = sizeof(sender), .msg_iov = &iov, .msg_iovlen = 1
        };
        ssize_t n;

        n = recvmsg(fd, &m, 0);
        if (n < 0)
                return errno == ENOBUFS ? 1 : -errno; /* messages were lost, so something may have appeared */
        if (sender.nl_pid != 0)                       /* not the kernel */
                return 0;
        if (m.msg_flags & MSG_TRUNC)
                return 1;

        for (const struct nlmsghdr *h = &buffer.header; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
                if (message_appears(h))
                        return 1;
        return 0;
}

static int network_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Network *n = userdata;

        n->handler(n->userdata);
        return 0;
}

static int network_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        bool something = false;
        Network *n = userdata;
        int enabled, r = 0;

        for (unsigned i = 0; i < MESSAGES_MAX && r >= 0; i++) {
                r = receive(fd);
                something = something || r > 0;
        }
        if (!something || (sd_event_source_get_enabled(n->timer, &enabled) >= 0 && enabled != SD_EVENT_OFF))
                return 0;

        (void) sd_event_source_set_time_relative(n->timer, GATHER_USEC);
        (void) sd_event_source_set_enabled(n->timer, SD_EVENT_ONESHOT);
        return 0;
}

static int network_open(Network *n) {
        const struct sockaddr_nl address = {
                .nl_family = AF_NETLINK,
                .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                             RTMGRP_IPV6_ROUTE,
        };
        _cleanup_(closep) int fd = -1;
        int r;

        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
        if (fd < 0)
                return -errno;
        if (bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        r = sd_event_add_io(n->event, &n->io, fd, EPOLLIN, network_on_io, n);
        if (r < 0)
                return r;

        n->fd = TAKE_FD(fd);
        return 0;
}

static void network_close(Network *n) {
        n->io = sd_event_source_disable_unref(n->io);
        closep(&n->fd);
        n->fd = -1;
        (void) sd_event_source_set_enabled(n->timer, SD_EVENT_OFF);
}

int network_new(sd_event *event, network_handler_t handler, void *userdata, Network **ret) {
        _cleanup_(network_freep) Network *n = NULL;
        int r;

        n = calloc(1, sizeof(*n));
        if (!n)
                return -ENOMEM;
        n->event = event;
        n->handler = handler;
        n->userdata = userdata;
        n->fd = -1;

        r = sd_event_add_time_relative(event, &n->timer, CLOCK_MONOTONIC, 0, 0, network_on_timer, n);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(n->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(n);
        return 0;
}

Network *network_free(Network *n) {
        if (!n)
                return NULL;

        network_close(n);
        sd_event_source_disable_unref(n->timer);
        free(n);
        return NULL;
}

void network_watch(Network *n, bool on) {
        int r;

        if (on == (n->fd >= 0))
                return;
        if (!on) {
                network_close(n);
                return;
        }

        /* This is called in each turn of the event loop, so failures are logged only once. */
        r = network_open(n);
        if (r < 0 && !n->is_refused)
                log_warning("The network cannot be watched: %s; waiting identities retry only by time",
                            strerror(-r));
        n->is_refused = r < 0;
}

/* ---- the gateway ---- */

/* A line of /proc/net/route: IFACE DESTINATION GATEWAY FLAGS REFCNT USE METRIC MASK …, numbers in hex, addresses in the
 * order of the network. */
static bool read_route4(const char *line, char text[static INET6_ADDRSTRLEN]) {
        unsigned destination, gateway, flags, mask;
        struct in_addr address;

        if (sscanf(line, "%*s %x %x %x %*s %*s %*s %x", &destination, &gateway, &flags, &mask) != 4)
                return false;
        address.s_addr = gateway;
        return destination == 0 && mask == 0 && gateway != 0 &&
               inet_ntop(AF_INET, &address, text, INET6_ADDRSTRLEN);
}

/* A line of /proc/net/ipv6_route: DESTINATION LENGTH SOURCE LENGTH GATEWAY … */
static bool read_route6(const char *line, char text[static INET6_ADDRSTRLEN]) {
        static const char nothing[] = "00000000000000000000000000000000";
        char destination[33], gateway[33];
        struct in6_addr address;
        unsigned length;

        if (sscanf(line, "%32s %x %*s %*s %32s", destination, &length, gateway) != 3 || length != 0 ||
            !streq(destination, nothing) || streq(gateway, nothing))
                return false;
        for (size_t i = 0; i < sizeof(address.s6_addr); i++)
                if (sscanf(gateway + 2 * i, "%2hhx", &address.s6_addr[i]) != 1)
                        return false;
        return inet_ntop(AF_INET6, &address, text, INET6_ADDRSTRLEN);
}

static bool find_in(const char *path, bool (*read_route)(const char *, char *),
                    char text[static INET6_ADDRSTRLEN]) {
        bool is_found = false;
        FILE *f = fopen(path, "re");
        char line[512];

        if (!f)
                return false;
        while (!is_found && fgets(line, sizeof(line), f))
                is_found = read_route(line, text);
        (void) fclose(f);
        return is_found;
}

int network_find_gateway(char **ret) {
        char text[INET6_ADDRSTRLEN];
        bool is_found = find_in("/proc/net/route", read_route4, text) ||
                        find_in("/proc/net/ipv6_route", read_route6, text);

        *ret = strdup(is_found ? text : "");
        return *ret ? 0 : -ENOMEM;
}
