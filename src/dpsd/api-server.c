/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/access-verdict.h"
#include "dpsd/api-request.h"
#include "dpsd/api.h"
#include "dpsd/log.h"
#include "dpsd/outputs.h"

/*
 * The sockets of all identities, and one server of libmicrohttpd, which has no socket and no thread of its own: it is given
 * connections, and its epoll is a source of our loop. Everything is of the lowest rank, and all limits are by uid or by time.
 *
 *      socket ──> Peer: who it is, and whether there is room ──> waits for its turn ──> libmicrohttpd ──> ApiRequest
 *                                                                    the answer, and it is closed <──┘
 *
 * A connection is for one request. It is ended if that does not come in time, or its answer is not read in time. Users take
 * turns: each connection of a user is in a later turn than the one before, so a user who has one comes next, however many
 * others have.
 */

#define PEERS_MAX 128U
#define PEERS_PER_USER_MAX 16U /* with 8 kB each */
#define MEMORY_PER_PEER 8192U
#define PATIENCE_USEC (5 * USEC_PER_SEC)      /* for the request, and for reading the answer */
#define KEY_PATIENCE_USEC (60 * USEC_PER_SEC) /* for an answer that a slow key signs */
#define ACCEPT_PAUSE_USEC USEC_PER_SEC        /* while there are no descriptors */
#define BACKLOG 16
#define SOCKET_MODE 0660
#define GROUPS_SIZE_MAX (65536U * sizeof(gid_t)) /* NGROUPS_MAX */

/* The socket of one identity. */
typedef struct Door {
        struct Door *next;
        Api *api;
        char *name;
        int fd;
        dev_t device;
        ino_t inode;
        sd_event_source *source;
        bool has_failed; /* could not be opened, and that was logged */
} Door;

typedef struct Peer {
        struct Peer *next;
        Api *api;
        char *name; /* of the identity */
        int fd;     /* libmicrohttpd closes it */
        uid_t uid;
        uint64_t turn;
        struct MHD_Connection *connection; /* NULL: not begun */
        bool is_waiting;                   /* for its turn */
        bool is_suspended;
        uint64_t deadline_usec; /* CLOCK_BOOTTIME */
        ApiRequest request;
} Peer;

struct Api {
        sd_event *event;
        Manager *manager;
        struct MHD_Daemon *daemon;
        sd_event_source *source, *timer;
        Door *doors;
        Peer *peers;
        unsigned n_peers, n_waiting;
        uint64_t turn;
        bool is_paused;  /* no connections are taken */
        bool has_answer; /* for a connection that was suspended: libmicrohttpd's epoll does not tell */
};

/* ---- connections ---- */

static void peer_free(Peer *p) {
        for (Peer **at = &p->api->peers; *at; at = &(*at)->next)
                if (*at == p) {
                        *at = p->next;
                        p->api->n_peers--;
                        break;
                }
        if (p->is_waiting) {
                p->api->n_waiting--;
                (void) close(p->fd);
        }
        api_request_done(&p->request);
        free(p->name);
        free(p);
}

static Door *find_door(const Api *a, const char *name) {
        for (Door *d = a->doors; d; d = d->next)
                if (streq(d->name, name))
                        return d;
        return NULL;
}

static Peer *find_peer(const Api *a, struct MHD_Connection *c) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);

        for (Peer *p = a->peers; p && info; p = p->next)
                if (p->fd == info->connect_fd)
                        return p;
        return NULL;
}

static void on_connection(void *userdata, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode code) {
        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                Peer *p = find_peer(userdata, c);

                if (p)
                        p->connection = c;
                *context = p;
        } else if (*context)
                peer_free(*context);
}

/* Fails if the user is not known: without a uid, nobody could be told apart from others. */
static int ask_who(int fd, struct ucred *ret, gid_t **ret_gids, size_t *ret_n) {
        socklen_t size = sizeof(*ret), groups_size = 0;
        gid_t *gids;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &size) < 0)
                return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &groups_size) < 0 && errno != ERANGE)
                return -errno;
        if (groups_size > GROUPS_SIZE_MAX)
                return -E2BIG;
        gids = malloc(groups_size + sizeof(gid_t));
        if (!gids)
                return -ENOMEM;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &groups_size) < 0) {
                free(gids);
                return -errno;
        }
        *ret_n = groups_size / sizeof(gid_t);
        gids[(*ret_n)++] = ret->gid;
        *ret_gids = gids;
        return 0;
}

/* As on the bus, but polkit is not asked: it knows no processes of containers. */
static bool may_use(const Api *a, const Identity *i, uid_t uid, const gid_t *gids, size_t n) {
        return access_by_uid(uid, geteuid()) == ACCESS_GRANTED ||
               access_by_group_name(ACCESS_USE, a->manager->core.groups, identity_group(i), gids, n) ==
                       ACCESS_GRANTED;
}

static unsigned count_peers(const Api *a, uid_t uid) {
        unsigned n = 0;

        for (Peer *p = a->peers; p; p = p->next)
                n += p->uid == uid;
        return n;
}

static uint64_t next_turn(const Api *a, uid_t uid) {
        uint64_t turn = a->turn;

        for (Peer *p = a->peers; p; p = p->next)
                if (p->uid == uid)
                        turn = MAX(turn, p->turn + 1);
        return turn;
}

static void look_at_peers(Api *a);

static void on_answer(ApiRequest *q) {
        Peer *p = (Peer *) ((char *) q - offsetof(Peer, request));

        p->deadline_usec = usec_add(now_usec(CLOCK_BOOTTIME), PATIENCE_USEC);
        if (p->is_suspended) {
                p->is_suspended = false;
                p->api->has_answer = true;
                MHD_resume_connection(p->connection);
        }
        look_at_peers(p->api);
}

/* Owns `fd`. */
static int add_peer(Door *d, int fd) {
        _cleanup_(freep) gid_t *gids = NULL;
        const Identity *i = manager_find(d->api->manager, d->name);
        _cleanup_(closep) int owned = fd;
        Api *a = d->api;
        struct ucred who;
        size_t n = 0;
        Peer *p;
        int r;

        r = ask_who(fd, &who, &gids, &n);
        if (r < 0)
                return r;
        if (!i || a->n_peers >= PEERS_MAX || count_peers(a, who.uid) >= PEERS_PER_USER_MAX)
                return -EUSERS;
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        *p = (Peer){ .next = a->peers,
                     .api = a,
                     .name = strdup(d->name),
                     .fd = TAKE_FD(owned),
                     .uid = who.uid,
                     .turn = next_turn(a, who.uid),
                     .is_waiting = true,
                     .deadline_usec = USEC_INFINITY, /* it begins with the turn */
                     .request = { .manager = a->manager,
                                  .is_allowed = may_use(a, i, who.uid, gids, n),
                                  .on_answer = on_answer } };
        p->request.name = p->name;
        a->peers = p;
        a->n_peers++;
        a->n_waiting++;
        if (p->name)
                return 0;
        peer_free(p);
        return -ENOMEM;
}

/* The newest is the first of the list. */
static Peer *find_next(const Api *a) {
        Peer *next = NULL;

        for (Peer *p = a->peers; p; p = p->next)
                if (p->is_waiting && (!next || p->turn <= next->turn))
                        next = p;
        return next;
}

static void begin_next(Api *a) {
        Peer *p = find_next(a);

        if (!p)
                return;
        a->turn = p->turn;
        p->is_waiting = false;
        p->deadline_usec = usec_add(now_usec(CLOCK_BOOTTIME), PATIENCE_USEC);
        a->n_waiting--;
        /* libmicrohttpd closes the socket, also on failure; then it may have reported that. */
        if (MHD_add_connection(a->daemon, p->fd,
                               (const struct sockaddr *) &(struct sockaddr_un){ .sun_family = AF_UNIX },
                               sizeof(struct sockaddr_un)) == MHD_YES)
                return;
        for (Peer *left = a->peers; left; left = left->next)
                if (left == p) {
                        peer_free(p);
                        break;
                }
}

/* ---- requests ---- */

static void free_answer(void *text) {
        erase_and_free(text);
}

static enum MHD_Result send_answer(Peer *p) {
        ApiRequest *q = &p->request;
        char *text = TAKE_PTR(q->answer);
        struct MHD_Response *response;
        enum MHD_Result r;

        if (text)
                response =
                        MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free_answer);
        else
                response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (!response) {
                erase_and_free(text);
                return MHD_NO;
        }
        if (text)
                (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
        if (q->allow)
                (void) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, q->allow);
        (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
        r = MHD_queue_response(p->connection, q->status, response);
        MHD_destroy_response(response);
        return r;
}

static void take_body(ApiRequest *q, const char *data, size_t size) {
        if (q->size + size <= API_BODY_MAX)
                memcpy(q->body + q->size, data, size);
        q->size = MIN(q->size + size, API_BODY_MAX + 1);
}

/* Called for the head of a request, for each part of its body, at its end, and when the connection is resumed. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **context) {
        Peer *p = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
        ApiRequest *q;

        if (!p)
                return MHD_NO;
        q = &p->request;
        if (!*context) {
                *context = p;
                return MHD_YES;
        }
        if (*size > 0) {
                take_body(q, data, *size);
                *size = 0;
                return MHD_YES;
        }
        if (!q->has_begun && find_door(p->api, p->name))
                api_request_begin(q, c, method, url);
        else if (!q->has_begun)
                api_request_changed(q, NULL); /* it has gone meanwhile */
        if (q->status > 0)
                return send_answer(p);
        p->is_suspended = true;
        p->deadline_usec = q->waiting ? q->until_usec : usec_add(now_usec(CLOCK_BOOTTIME), KEY_PATIENCE_USEC);
        MHD_suspend_connection(c);
        return MHD_YES;
}

/* ---- the loop ---- */

static void pause_doors(Api *a, bool paused) {
        a->is_paused = paused;
        for (Door *d = a->doors; d; d = d->next)
                (void) sd_event_source_set_enabled(d->source, paused ? SD_EVENT_OFF : SD_EVENT_ON);
}

/* Sets the timer for whatever is due first. */
static void look_at_peers(Api *a) {
        uint64_t at = USEC_INFINITY, now = now_usec(CLOCK_BOOTTIME);
        MHD_UNSIGNED_LONG_LONG timeout_msec;

        for (Peer *p = a->peers; p; p = p->next)
                at = MIN(at, p->deadline_usec);
        if (MHD_get_timeout(a->daemon, &timeout_msec) == MHD_YES)
                at = MIN(at, usec_add(now, timeout_msec * USEC_PER_MSEC));
        if (a->has_answer || a->n_waiting > 0)
                at = now;
        if (a->is_paused)
                at = MIN(at, usec_add(now, ACCEPT_PAUSE_USEC));
        (void) sd_event_source_set_time(a->timer, at);
        (void) sd_event_source_set_enabled(a->timer, at == USEC_INFINITY ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

static int on_ready(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        Api *a = userdata;

        (void) MHD_run(a->daemon);
        look_at_peers(a);
        return 0;
}

/* The deadline is moved, so that an end that nobody reacts to is not tried again without a pause. */
static void end_late_peers(Api *a) {
        uint64_t now = now_usec(CLOCK_BOOTTIME);

        for (Peer *p = a->peers; p; p = p->next) {
                if (p->deadline_usec > now)
                        continue;
                p->deadline_usec = usec_add(now, PATIENCE_USEC);
                if (!p->is_suspended) {
                        (void) shutdown(p->fd, SHUT_RDWR); /* libmicrohttpd closes it then */
                        continue;
                }
                api_request_end(&p->request);
                p->is_suspended = false;
                MHD_resume_connection(p->connection);
        }
}

static int on_time(sd_event_source *s, uint64_t due_usec, void *userdata) {
        Api *a = userdata;

        if (a->is_paused)
                pause_doors(a, false);
        a->has_answer = false;
        end_late_peers(a);
        begin_next(a);
        (void) MHD_run(a->daemon);
        look_at_peers(a);
        return 0;
}

/* Accepts all connections that wait at this socket before the next one is served: some of them may have an
 * earlier turn. */
static int on_knock(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        Door *d = userdata;
        int peer = 0;

        for (unsigned n = 0; n <= BACKLOG && peer >= 0; n++) {
                peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (peer >= 0)
                        (void) add_peer(d, peer); /* a connection too many is closed */
                else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                        pause_doors(d->api, true);
        }
        begin_next(d->api);
        (void) MHD_run(d->api->daemon);
        look_at_peers(d->api);
        return 0;
}

/* ---- sockets ---- */

static void door_close(Door *d) {
        sd_event_source_disable_unref(TAKE_PTR(d->source));
        if (d->fd >= 0)
                (void) close(TAKE_FD(d->fd));
}

static int open_directory(const Api *a, const char *name) {
        char path[PATH_MAX];
        int fd;

        if (snprintf(path, sizeof(path), "%s/%s", a->manager->core.runtime->path, name) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Whether the socket in the directory is the one that we listen to. */
static bool is_current(const Door *d, int directory) {
        struct stat st;

        return d->fd >= 0 && fstatat(directory, API_SOCKET, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
               st.st_dev == d->device && st.st_ino == d->inode;
}

/* The path of a socket is at most 108 bytes long, and that of a directory may be longer. */
static int bind_at(int fd, int directory) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" API_SOCKET,
                        directory);
        if (unlinkat(directory, API_SOCKET, 0) < 0 && errno != ENOENT)
                return -errno;
        return bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ? -errno : 0;
}

/* The group of the directory is that of the identity, or our own where that one does not exist. */
static int give_to_group(Door *d, int directory) {
        struct stat st;

        if (fstat(directory, &st) < 0 ||
            fchownat(directory, API_SOCKET, (uid_t) -1, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
            fchmodat(directory, API_SOCKET, SOCKET_MODE, 0) < 0 ||
            fstatat(directory, API_SOCKET, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        d->device = st.st_dev;
        d->inode = st.st_ino;
        return 0;
}

static int door_open(Door *d, int directory) {
        int r;

        d->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        r = d->fd < 0 ? -errno : bind_at(d->fd, directory);
        if (r >= 0)
                r = give_to_group(d, directory);
        if (r >= 0 && listen(d->fd, BACKLOG) < 0)
                r = -errno;
        if (r >= 0)
                r = sd_event_add_io(d->api->event, &d->source, d->fd, EPOLLIN, on_knock, d);
        if (r >= 0)
                r = sd_event_source_set_priority(d->source, SD_EVENT_PRIORITY_IDLE);
        if (r < 0)
                door_close(d);
        return r;
}

static Door *door_new(Api *a, const char *name) {
        Door *d = calloc(1, sizeof(*d));

        if (!d)
                return NULL;
        *d = (Door){ .next = a->doors, .api = a, .name = strdup(name), .fd = -1 };
        if (!d->name) {
                free(d);
                return NULL;
        }
        return a->doors = d;
}

/* The socket is removed with its identity, or when Api= is no longer set. Those that are connected still get
 * answers. */
static void api_removed(Api *a, const char *name) {
        for (Peer *p = a->peers; p; p = p->next)
                if (p->is_suspended && p->request.waiting && streq(p->name, name)) {
                        api_request_changed(&p->request, NULL);
                        on_answer(&p->request);
                }
        for (Door **at = &a->doors; *at; at = &(*at)->next) {
                Door *d = *at;

                if (!streq(d->name, name))
                        continue;
                *at = d->next;
                door_close(d);
                free(d->name);
                free(d);
                return;
        }
}

static void tell_peers(Api *a, Identity *i) {
        for (Peer *p = a->peers; p; p = p->next) {
                if (!p->is_suspended || !p->request.waiting || !streq(p->name, i->name))
                        continue;
                api_request_changed(&p->request, i);
                if (p->request.status > 0)
                        on_answer(&p->request);
        }
}

static void api_changed(Api *a, Identity *i) {
        const Settings *s = configuration_settings(&i->configuration);
        _cleanup_(closep) int directory = -1;
        Door *d = find_door(a, i->name);
        int r = 0;

        if (!s || !s->api) {
                if (d) {
                        directory = open_directory(a, i->name);
                        if (directory >= 0)
                                (void) unlinkat(directory, API_SOCKET, 0);
                        api_removed(a, i->name);
                }
                return;
        }
        tell_peers(a, i);
        directory = open_directory(a, i->name);
        if (directory == -ENOENT) /* it will be made, and then this is called again */
                return;
        if (!d)
                d = door_new(a, i->name);
        if (directory < 0 || !d)
                r = directory < 0 ? directory : -ENOMEM;
        else if (!is_current(d, directory)) {
                door_close(d);
                r = door_open(d, directory);
        }
        if (r < 0 && d && !d->has_failed)
                identity_log(i, LOG_WARNING, "its socket " API_SOCKET " cannot be opened: %s", strerror(-r));
        if (d)
                d->has_failed = r < 0;
}

/* ---- begin and end ---- */

static void hush(void *userdata, const char *format, va_list ap) {
}

static int start(Api *a) {
        const union MHD_DaemonInfo *info;
        int r;

        a->daemon = MHD_start_daemon(
                MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
                NULL, NULL, on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER, hush, NULL,
                MHD_OPTION_CONNECTION_LIMIT, PEERS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                (size_t) MEMORY_PER_PEER, MHD_OPTION_NOTIFY_CONNECTION, on_connection, a,
                MHD_OPTION_CONNECTION_TIMEOUT, 0U, MHD_OPTION_END);
        info = a->daemon ? MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
        if (!info)
                return -ENOMEM;
        r = sd_event_add_io(a->event, &a->source, info->epoll_fd, EPOLLIN, on_ready, a);
        if (r >= 0)
                r = sd_event_add_time(a->event, &a->timer, CLOCK_BOOTTIME, USEC_INFINITY, 1, on_time, a);
        if (r >= 0)
                r = sd_event_source_set_enabled(a->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(a->source, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_source_set_priority(a->timer, SD_EVENT_PRIORITY_IDLE);
        return r;
}

static Api *api_free(Api *a) {
        while (a->doors)
                api_removed(a, a->doors->name);
        for (Peer *p = a->peers; p; p = p->next)
                if (p->is_suspended) { /* none may be when the server stops */
                        api_request_end(&p->request);
                        p->is_suspended = false;
                        MHD_resume_connection(p->connection);
                }
        if (a->daemon) {
                (void) MHD_run(a->daemon);
                MHD_stop_daemon(a->daemon);
        }
        while (a->peers)
                peer_free(a->peers);
        sd_event_source_disable_unref(a->source);
        sd_event_source_disable_unref(a->timer);
        free(a);
        return NULL;
}

static int api_new(sd_event *event, Manager *m, Api **ret) {
        Api *a = calloc(1, sizeof(*a));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Api){ .event = event, .manager = m };
        r = start(a);
        if (r < 0) {
                api_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

static const ApiClass api_class = {
        .new = api_new, .changed = api_changed, .removed = api_removed, .free = api_free
};
MODULE_DEFINE(API_MODULE, API_MODULE_KIND, &api_class);
