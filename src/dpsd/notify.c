/* SPDX-License-Identifier: MIT */
#include "dpsd/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/log.h"

#define STATUS_INTERVAL_USEC USEC_PER_SEC
/* After a refused message we wait this long, and twice as long after each further one. */
#define RETRY_FIRST_USEC (100 * USEC_PER_MSEC)
#define RETRY_LAST_USEC USEC_PER_MINUTE

#define STATUS_MAX 1024

/*
 * The messages that are still to be sent, in this order. None of them may be lost. If a new reload begins
 * before the last one was reported, it replaces it: systemd expects a READY=1 after a RELOADING=1 that is
 * newer than its own request.
 */
typedef enum Pending {
        PENDING_STARTED, /* the READY=1 that must precede a reload */
        PENDING_RELOADING,
        PENDING_READY,
        PENDING_STOPPING,
        PENDING_WATCHDOG,
        PENDING_STATUS,
        _PENDING_MAX,
} Pending;

struct Notify {
        int fd; /* -1: there is no service manager */
        struct sockaddr_un address;
        socklen_t address_size;

        bool is_pending[_PENDING_MAX];
        char *status;              /* the newest status */
        uint64_t status_sent_usec; /* CLOCK_MONOTONIC; 0: never */
        uint64_t reloading_usec;   /* CLOCK_MONOTONIC */
        uint64_t retry_usec;       /* the wait after the last refusal; 0: the last message was accepted */
        uint64_t watchdog_usec;    /* between two keep-alive messages; 0: no watchdog */
        sd_event_source *timer, *watchdog;
};

static const struct {
        const char *text;
        bool has_status; /* the newest status is sent with this message */
} messages[_PENDING_MAX] = {
        [PENDING_STARTED] = { "READY=1\n", true },      [PENDING_RELOADING] = { "RELOADING=1\n", false },
        [PENDING_READY] = { "READY=1\n", true },        [PENDING_STOPPING] = { "STOPPING=1\n", false },
        [PENDING_WATCHDOG] = { "WATCHDOG=1\n", false }, [PENDING_STATUS] = { "", true },
};

static int notify_send(const Notify *n, Pending what) {
        bool has_status = messages[what].has_status && n->status;
        char text[STATUS_MAX + 128], since[64] = "";
        int size;

        if (what == PENDING_RELOADING)
                (void) snprintf(since, sizeof(since), "MONOTONIC_USEC=%" PRIu64 "\n", n->reloading_usec);
        size = snprintf(text, sizeof(text), "%s%s%s%s", messages[what].text, since,
                        has_status ? "STATUS=" : "", has_status ? n->status : "");

        if (sendto(n->fd, text, (size_t) size, MSG_DONTWAIT | MSG_NOSIGNAL,
                   (const struct sockaddr *) &n->address, n->address_size) < 0)
                return -errno;
        return 0;
}

static void notify_arm(Notify *n, uint64_t wait_usec) {
        (void) sd_event_source_set_time_relative(n->timer, wait_usec);
        (void) sd_event_source_set_enabled(n->timer, SD_EVENT_ONESHOT);
}

static void notify_flush(Notify *n) {
        uint64_t now = now_usec(CLOCK_MONOTONIC), due;

        /* What the timer was armed for may have been sent with another message meanwhile. */
        (void) sd_event_source_set_enabled(n->timer, SD_EVENT_OFF);
        for (Pending p = 0; p < _PENDING_MAX; p++) {
                if (!n->is_pending[p])
                        continue;

                due = n->status_sent_usec > 0 ? n->status_sent_usec + STATUS_INTERVAL_USEC : 0;
                if (p == PENDING_STATUS && now < due) {
                        notify_arm(n, due - now);
                        return;
                }
                if (notify_send(n, p) < 0) {
                        n->retry_usec = MIN(MAX(2 * n->retry_usec, RETRY_FIRST_USEC), RETRY_LAST_USEC);
                        notify_arm(n, n->retry_usec);
                        return;
                }

                n->retry_usec = 0;
                n->is_pending[p] = false;
                if (messages[p].has_status) {
                        n->is_pending[PENDING_STATUS] = false;
                        n->status_sent_usec = now;
                }
        }
}

static int notify_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        notify_flush(userdata);
        return 0;
}

/* sd_event_set_watchdog() does the same, but its sd_notify() blocks until the receiver reads. */
static int notify_on_watchdog(sd_event_source *source, uint64_t usec, void *userdata) {
        Notify *n = userdata;

        n->is_pending[PENDING_WATCHDOG] = true;
        notify_flush(n);
        (void) sd_event_source_set_time_relative(source, n->watchdog_usec);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

static int notify_parse_address(Notify *n, const char *text) {
        size_t size = strlen(text);

        if (*text != '/' && *text != '@')
                return -EAFNOSUPPORT;
        if (size < 2)
                return -EINVAL;
        if (size >= sizeof(n->address.sun_path))
                return -ENAMETOOLONG;

        n->address.sun_family = AF_UNIX;
        memcpy(n->address.sun_path, text, size);
        n->address_size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size);
        if (*text == '@')
                n->address.sun_path[0] = 0; /* an abstract socket: the address is not 0-terminated */
        else
                n->address_size++;
        return 0;
}

static int notify_open(Notify *n, const char *address) {
        _cleanup_(closep) int fd = -1;
        int r;

        r = notify_parse_address(n, address);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;

        n->fd = TAKE_FD(fd);
        return 0;
}

static int notify_start_watchdog(Notify *n, sd_event *event) {
        uint64_t usec;
        int r;

        r = sd_watchdog_enabled(true, &usec);
        if (r <= 0)
                return r;

        n->watchdog_usec = usec / 2;
        r = sd_event_add_time_relative(event, &n->watchdog, CLOCK_MONOTONIC, n->watchdog_usec, usec / 8,
                                       notify_on_watchdog, n);
        return r < 0 ? r : sd_event_source_set_priority(n->watchdog, SD_EVENT_PRIORITY_IMPORTANT);
}

static int notify_start(Notify *n, sd_event *event) {
        const char *address = getenv("NOTIFY_SOCKET");
        int r;

        if (isempty(address))
                return 0;

        r = notify_open(n, address);
        if (r < 0)
                log_warning("$NOTIFY_SOCKET is \"%s\": %s; nothing is sent to the service manager", address,
                            strerror(-r));
        (void) unsetenv("NOTIFY_SOCKET");
        if (r < 0)
                return 0;

        r = sd_event_add_time_relative(event, &n->timer, CLOCK_MONOTONIC, 0, 0, notify_on_timer, n);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(n->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        r = notify_start_watchdog(n, event);
        if (r < 0)
                log_warning("$WATCHDOG_USEC cannot be used: %s; no keep-alive messages are sent",
                            strerror(-r));
        return 0;
}

int notify_new(sd_event *event, Notify **ret) {
        _cleanup_(notify_freep) Notify *n = NULL;
        int r;

        n = calloc(1, sizeof(*n));
        if (!n)
                return -ENOMEM;
        n->fd = -1;

        r = notify_start(n, event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(n);
        return 0;
}

Notify *notify_free(Notify *n) {
        if (!n)
                return NULL;

        sd_event_source_disable_unref(n->watchdog);
        sd_event_source_disable_unref(n->timer);
        closep(&n->fd);
        free(n->status);
        free(n);
        return NULL;
}

void notify_status(Notify *n, const char *text) {
        char *status;

        if (n->fd < 0)
                return;

        /* A line break would begin another variable. */
        status = text_for_people(text, strlen(text), STATUS_MAX);
        if (!status || streq_ptr(status, n->status)) {
                free(status);
                return;
        }

        free(n->status);
        n->status = status;
        n->is_pending[PENDING_STATUS] = true;
        if (n->retry_usec == 0)
                notify_flush(n);
}

void notify_ready(Notify *n) {
        if (n->fd < 0)
                return;

        n->is_pending[PENDING_READY] = true;
        notify_flush(n);
}

void notify_reloading(Notify *n) {
        if (n->fd < 0)
                return;

        /* A READY=1 that was not sent yet ends either the start, or the reload that this one replaces. */
        if (n->is_pending[PENDING_READY] && !n->is_pending[PENDING_RELOADING])
                n->is_pending[PENDING_STARTED] = true;
        n->is_pending[PENDING_READY] = false;
        n->is_pending[PENDING_RELOADING] = true;
        n->reloading_usec = now_usec(CLOCK_MONOTONIC);
        notify_flush(n);
}

void notify_stopping(Notify *n) {
        if (n->fd < 0)
                return;

        n->is_pending[PENDING_STOPPING] = true;
        notify_flush(n);
}
