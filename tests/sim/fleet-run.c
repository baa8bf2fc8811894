/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "basic/cleanup.h"
#include "basic/times.h"

#include "fleet-queue.h"
#include "fleet.h"

/*
 * Devices share the service, and of the service only its quota of registrations. So only registers that arrive are
 * events with a common order, and even that order matters only while some of the minute's quota is left. Between two
 * registers a device is played by itself, with random numbers of its own.
 *
 * The service: minutes with `quota` registrations each, the first one begins with power; a register beyond it gets 429.
 * An accepted one gets 202 with retry-after=3 (as in each trace of the real service) and becomes an operation that
 * takes 2 to 10 s. More than 5 polls of a device in 10 s get 429.
 *
 * The network: TLS, CONNECT and SUBSCRIBE take 20 to 520 ms, a request and an answer 10 to 110 ms each. Of
 * `percent_lost`, so many connections do not come about; of those that do, as many break at one of four steps, each
 * equally likely: the first request is lost, its answer is, the first pause is cut, the first poll's answer is lost. The
 * device notices within 5 s.
 */

#define POWER_USEC USEC_PER_SEC /* in which all get power */
#define ASSIGNING_SEC 3
#define OPERATION_MIN_USEC (2 * USEC_PER_SEC)
#define OPERATION_SPREAD_USEC (8 * USEC_PER_SEC)
#define NOTICE_USEC (5 * USEC_PER_SEC)
#define RATE_ONE (UINT64_C(1) << 20) /* one request a second */

/* Where a connection breaks. */
typedef enum Fate {
        FATE_NONE,
        FATE_REQUEST,
        FATE_ANSWER,
        FATE_PAUSE,
        FATE_POLL,
        _FATE_MAX,
} Fate;

/* What the service knows of a device, and its times. */
typedef struct Operation {
        uint64_t end_usec;
        uint64_t polls_usec[DPS_POLLS_MAX]; /* the last ones */
        uint32_t n_polls;
        uint32_t n_accepted; /* registers that began an operation */
        bool polled_too_often;
        uint64_t power_usec, assigned_usec;
} Operation;

typedef struct Fleet {
        FleetOptions options;
        const FleetPolicy *policy;
        FleetDevice *devices;
        Operation *operations;
        FleetQueue *queue;
        FleetFigures figures;

        uint64_t minute; /* the quota's */
        unsigned n_used; /* of it */

        /* Requests by the second of their arrival; those that are not played one by one are in `rates`, which holds where
         * they begin and end (in 1/RATE_ONE a second). */
        size_t n_seconds;
        uint32_t *requests;
        int64_t *rates;
} Fleet;

static DpsMoment moment(FleetDevice *d, uint64_t now_usec) {
        return (DpsMoment){ .now_usec = now_usec,
                            .random = fleet_device_draw(d),
                            .clock_synchronized = true };
}

/* ---- the service ---- */

static Operation *operation_of(Fleet *f, const FleetDevice *d) {
        return &f->operations[d - f->devices];
}

static void count_request(Fleet *f, uint64_t now_usec) {
        if (now_usec / USEC_PER_SEC >= f->n_seconds)
                return;
        f->requests[now_usec / USEC_PER_SEC]++;
        f->figures.minutes[now_usec / USEC_PER_MINUTE].n_requests++;
}

static bool quota_is_used_up(const Fleet *f, uint64_t minute) {
        return minute == f->minute && f->n_used >= f->options.quota;
}

static uint64_t minute_end_usec(uint64_t now_usec) {
        return (now_usec / USEC_PER_MINUTE + 1) * USEC_PER_MINUTE;
}

static DpsReply on_register(Fleet *f, FleetDevice *d, uint64_t now_usec) {
        count_request(f, now_usec);
        f->figures.n_registers++;
        if (now_usec / USEC_PER_MINUTE != f->minute) {
                f->minute = now_usec / USEC_PER_MINUTE;
                f->n_used = 0;
        }
        if (f->n_used >= f->options.quota) {
                f->figures.n_registers_throttled++;
                return (DpsReply){ .status = 429,
                                   .has_retry_after = f->options.tells,
                                   .retry_after_sec =
                                           f->options.tells ? 60 - now_usec / USEC_PER_SEC % 60 : 0 };
        }

        f->n_used++;
        operation_of(f, d)->n_accepted++;
        operation_of(f, d)->end_usec =
                now_usec + OPERATION_MIN_USEC + fleet_device_draw_usec(d, OPERATION_SPREAD_USEC);
        return (DpsReply){ .status = 202,
                           .word = DPS_STATUS_ASSIGNING,
                           .operation_id = (char *) "4.op",
                           .has_retry_after = true,
                           .retry_after_sec = ASSIGNING_SEC };
}

static DpsReply on_poll(Fleet *f, FleetDevice *d, uint64_t now_usec) {
        Operation *o = operation_of(f, d);
        uint64_t *oldest = &o->polls_usec[o->n_polls % DPS_POLLS_MAX];
        bool is_too_many =
                o->n_polls >= DPS_POLLS_MAX && now_usec < *oldest + DPS_POLLS_WINDOW_SEC * USEC_PER_SEC;

        count_request(f, now_usec);
        f->figures.n_polls++;
        if (is_too_many) {
                f->figures.n_polls_throttled++;
                f->figures.n_poll_floods += !o->polled_too_often;
                o->polled_too_often = true;
                return (DpsReply){ .status = 429 };
        }

        *oldest = now_usec;
        o->n_polls++;
        if (now_usec >= o->end_usec)
                return (DpsReply){ .status = 200, .word = DPS_STATUS_ASSIGNED };
        return (DpsReply){ .status = 202,
                           .word = DPS_STATUS_ASSIGNING,
                           .has_retry_after = true,
                           .retry_after_sec = ASSIGNING_SEC };
}

/* ---- the network ---- */

static uint64_t travel_usec(FleetDevice *d) {
        return USEC_PER_SEC / 100 + fleet_device_draw_usec(d, USEC_PER_SEC / 10);
}

static bool is_lost(const Fleet *f, FleetDevice *d) {
        return f->options.percent_lost > 0 && fleet_device_draw(d) % 100 < f->options.percent_lost;
}

static DpsAction lose(Fleet *f, FleetDevice *d, uint64_t *now_usec) {
        d->is_connected = false;
        d->fate = FATE_NONE;
        *now_usec += fleet_device_draw_usec(d, NOTICE_USEC);
        return f->policy->on_lost(f->policy, d, moment(d, *now_usec));
}

static DpsAction connect_device(Fleet *f, FleetDevice *d, uint64_t *now_usec) {
        f->figures.n_connections++;
        *now_usec += USEC_PER_SEC / 50 + fleet_device_draw_usec(d, USEC_PER_SEC / 2);
        if (is_lost(f, d))
                return lose(f, d, now_usec);

        d->is_connected = true;
        d->fate =
                is_lost(f, d) ? FATE_REQUEST + fleet_device_draw(d) % (_FATE_MAX - FATE_REQUEST) : FATE_NONE;
        return f->policy->on_ready(f->policy, d, moment(d, *now_usec));
}

/* `reply` leaves the service. */
static DpsAction answer(Fleet *f, FleetDevice *d, DpsReply *reply, bool is_lost_now, uint64_t *now_usec) {
        if (is_lost_now)
                return lose(f, d, now_usec);

        *now_usec += travel_usec(d);
        if (reply->has_retry_after)
                d->told_usec = *now_usec + reply->retry_after_sec * USEC_PER_SEC;
        return f->policy->on_reply(f->policy, d, reply, moment(d, *now_usec));
}

static DpsAction wait_until(Fleet *f, FleetDevice *d, const DpsAction *a, uint64_t *now_usec) {
        if (a->type == DPS_ACTION_RELEASE)
                d->is_connected = false;
        if (d->is_connected && d->fate == FATE_PAUSE) {
                *now_usec += fleet_device_draw_usec(d, usec_sub(a->wake_usec, *now_usec));
                return lose(f, d, now_usec);
        }

        *now_usec = MAX(a->wake_usec, *now_usec);
        return f->policy->on_time(f->policy, d, moment(d, *now_usec));
}

/* ---- a device ---- */

static void finish(Fleet *f, FleetDevice *d, uint64_t now_usec) {
        Operation *o = operation_of(f, d);

        o->assigned_usec = now_usec;
        f->figures.n_assigned++;
        f->figures.n_abandoned += o->n_accepted - 1;
        if (now_usec / USEC_PER_SEC < f->n_seconds)
                f->figures.minutes[now_usec / USEC_PER_MINUTE].n_assigned++;
        d->registration = dps_registration_free(d->registration);
}

/* The action that follows, or none if a register is on its way to the service. */
static bool send(Fleet *f, FleetDevice *d, DpsAction *a, uint64_t *now_usec, int *ret_r) {
        DpsReply reply;

        f->figures.n_early += *now_usec < d->told_usec;
        d->request_id = a->request.request_id;
        if (d->fate == FATE_REQUEST) {
                *a = lose(f, d, now_usec);
                return true;
        }

        *now_usec += travel_usec(d);
        if (a->request.kind == DPS_REQUEST_REGISTER) {
                *ret_r = fleet_queue_push(f->queue, (FleetEvent){ *now_usec, d - f->devices });
                return false;
        }

        reply = on_poll(f, d, *now_usec);
        reply.request_id = d->request_id;
        *a = answer(f, d, &reply, d->fate == FATE_ANSWER || d->fate == FATE_POLL, now_usec);
        return true;
}

/* Until it has sent a register, or is assigned. */
static int live(Fleet *f, FleetDevice *d, DpsAction a, uint64_t now_usec) {
        int r = 0;

        while (now_usec / USEC_PER_SEC < f->n_seconds)
                switch (a.type) {
                case DPS_ACTION_CONNECT:
                        a = connect_device(f, d, &now_usec);
                        break;
                case DPS_ACTION_SEND:
                        if (!send(f, d, &a, &now_usec, &r))
                                return r;
                        break;
                case DPS_ACTION_WAIT:
                case DPS_ACTION_RELEASE:
                        a = wait_until(f, d, &a, &now_usec);
                        break;
                case DPS_ACTION_ANSWER_CHALLENGE: /* no device of the fleet has a TPM */
                        return 0;
                case DPS_ACTION_FINISH:
                        finish(f, d, now_usec);
                        return 0;
                }
        return 0; /* left behind */
}

/* The policy would repeat itself, and be refused, until there is a new quota. */
static int repeat(Fleet *f, FleetDevice *d, uint64_t now_usec) {
        uint64_t every_usec = f->policy->repeat_usec + travel_usec(d) + travel_usec(d);
        uint64_t n = (minute_end_usec(now_usec) - now_usec - 1) / every_usec;
        size_t second = now_usec / USEC_PER_SEC + 1, end = minute_end_usec(now_usec) / USEC_PER_SEC;

        f->figures.n_registers += n;
        f->figures.n_registers_throttled += n;
        if (end < f->n_seconds) {
                f->figures.minutes[now_usec / USEC_PER_MINUTE].n_requests += n;
                f->rates[second] += (int64_t) (RATE_ONE * USEC_PER_SEC / every_usec);
                f->rates[end] -= (int64_t) (RATE_ONE * USEC_PER_SEC / every_usec);
        }
        return fleet_queue_push(f->queue, (FleetEvent){ now_usec + (n + 1) * every_usec, d - f->devices });
}

static int arrive(Fleet *f, FleetEvent event) {
        FleetDevice *d = &f->devices[event.device];
        DpsReply reply = on_register(f, d, event.usec);
        uint64_t now_usec = event.usec;
        DpsAction a;

        if (reply.status == 429 && !reply.has_retry_after && f->policy->repeat_usec > 0 &&
            d->fate == FATE_NONE)
                return repeat(f, d, now_usec);

        reply.request_id = d->request_id;
        a = answer(f, d, &reply, d->fate == FATE_ANSWER, &now_usec);
        return live(f, d, a, now_usec);
}

/* ---- the fleet ---- */

static int power(Fleet *f, FleetDevice *d, uint64_t seed) {
        uint64_t now_usec;
        int r;

        d->seed = seed;
        d->seed = fleet_device_draw(d); /* those of neighbours would be the same sequence, shifted */
        r = f->policy->prepare(d);
        if (r < 0)
                return r;

        now_usec = fleet_device_draw_usec(d, POWER_USEC);
        operation_of(f, d)->power_usec = now_usec;
        return live(f, d, f->policy->begin(f->policy, d, moment(d, now_usec)), now_usec);
}

/* Devices come in no order, and each is a miss of the cache: half of the time. */
static void prefetch(const Fleet *f) {
        FleetEvent event;
        DpsRegistration *g;

        if (fleet_queue_peek(f->queue, 24, &event))
                __builtin_prefetch(&f->devices[event.device]);
        if (!fleet_queue_peek(f->queue, 12, &event))
                return;
        g = f->devices[event.device].registration;
        for (size_t k = 0; g && k < 640; k += 64)
                __builtin_prefetch((const char *) g + k);
}

static int play(Fleet *f) {
        uint64_t first_seed =
                (f->options.seed - 1) * FLEET_DEVICES_MAX + 1; /* fleets of two seeds share no device */
        FleetEvent event;
        int r;

        for (unsigned k = 0; k < f->options.n_devices; k++) {
                r = power(f, &f->devices[k], first_seed + k);
                if (r < 0)
                        return r;
        }

        for (size_t second = 0; second < f->n_seconds && fleet_queue_size(f->queue) > 0; second++) {
                r = fleet_queue_open(f->queue, second, !quota_is_used_up(f, second / 60));
                if (r < 0)
                        return r;
                while (fleet_queue_pop(f->queue, &event)) {
                        prefetch(f);
                        r = arrive(f, event);
                        if (r < 0)
                                return r;
                        if (quota_is_used_up(f, second / 60))
                                fleet_queue_disorder(f->queue);
                }
        }
        return 0;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

static int sum_up_waits(Fleet *f) {
        _cleanup_(freep) uint64_t *waits = NULL;
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        size_t n = 0;

        waits = calloc(f->options.n_devices, sizeof(*waits));
        if (!waits)
                return -ENOMEM;

        for (unsigned k = 0; k < f->options.n_devices; k++) {
                const Operation *o = &f->operations[k];

                hash = (hash ^ o->assigned_usec) * UINT64_C(0x100000001b3);
                f->figures.drain_usec = MAX(f->figures.drain_usec, o->assigned_usec);
                if (o->assigned_usec > 0)
                        waits[n++] = o->assigned_usec - o->power_usec;
        }

        qsort(waits, n, sizeof(*waits), compare);
        f->figures.median_usec = n > 0 ? waits[n / 2] : 0;
        f->figures.longest_usec = n > 0 ? waits[n - 1] : 0;
        f->figures.fingerprint = hash;
        return 0;
}

static void sum_up_peaks(Fleet *f) {
        int64_t rate = 0;

        for (size_t second = 0; second < f->n_seconds; second++) {
                uint64_t *peak = second < 60 ? &f->figures.first_peak : &f->figures.later_peak;

                rate += f->rates[second];
                *peak = MAX(*peak, f->requests[second] + (uint64_t) rate / RATE_ONE);
        }
}

/* In large pages: small ones are missed as often as the cache. */
static FleetDevice *new_devices(size_t n) {
        void *devices = mmap(NULL, n * sizeof(FleetDevice), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (devices == MAP_FAILED)
                return NULL;

        (void) madvise(devices, n * sizeof(FleetDevice), MADV_HUGEPAGE);
        return devices;
}

static void fleet_done(Fleet *f) {
        for (unsigned k = 0; f->devices && k < f->options.n_devices; k++)
                dps_registration_free(f->devices[k].registration);
        if (f->devices)
                (void) munmap(f->devices, f->options.n_devices * sizeof(*f->devices));
        free(f->operations);
        free(f->requests);
        free(f->rates);
        free(f->figures.minutes);
        fleet_queue_free(f->queue);
}

int fleet_run(const FleetOptions *options, const FleetPolicy *policy, FleetFigures *ret) {
        _cleanup_(fleet_done) Fleet f = { .options = *options, .policy = policy, .minute = UINT64_MAX };
        int r;

        /* Who takes longer is left behind. */
        f.figures.n_minutes = 4 * (fleet_limit_usec(options) / USEC_PER_MINUTE) + 24 * 60;
        f.n_seconds = f.figures.n_minutes * 60;
        f.devices = new_devices(options->n_devices);
        f.operations = calloc(options->n_devices, sizeof(*f.operations));
        f.requests = calloc(f.n_seconds, sizeof(*f.requests));
        f.rates = calloc(f.n_seconds, sizeof(*f.rates));
        f.figures.minutes = calloc(f.figures.n_minutes, sizeof(*f.figures.minutes));
        if (!f.devices || !f.operations || !f.requests || !f.rates || !f.figures.minutes)
                return -ENOMEM;

        r = fleet_queue_new(f.n_seconds, &f.queue);
        if (r < 0)
                return r;

        r = play(&f);
        if (r < 0)
                return r;

        r = sum_up_waits(&f);
        if (r < 0)
                return r;

        sum_up_peaks(&f);
        *ret = f.figures;
        f.figures.minutes = NULL;
        return 0;
}

uint64_t fleet_limit_usec(const FleetOptions *options) {
        return options->n_devices * USEC_PER_MINUTE / options->quota;
}

double fleet_drain_ratio(const FleetOptions *options, const FleetFigures *figures) {
        if (figures->n_assigned < options->n_devices)
                return INFINITY;
        return (double) figures->drain_usec / (double) fleet_limit_usec(options);
}
