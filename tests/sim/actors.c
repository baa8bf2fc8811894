/* SPDX-License-Identifier: MIT */
#include "actors.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "basic/json.h"
#include "basic/text.h"
#include "checks.h"
#include "chip.h"
#include "disk.h"
#include "dpsd/identity-request.h"
#include "files.h"
#include "hang.h"
#include "journal.h"
#include "keys.h"
#include "machine.h"
#include "memory.h"
#include "net.h"
#include "token.h"
#include "users.h"

#define DEEDS_PER_ACTOR 128
#define BURST_PERCENT 20
#define STORM_PERCENT 35
#define STORM_EVERY_USEC (2 * USEC_PER_DAY)
#define STORM_USEC (2 * USEC_PER_MINUTE)
#define DENSE_DAYS 40U

typedef struct Actor {
        Sim *sim;
        unsigned number; /* of its kind */
        unsigned n_deeds;
        uint64_t mean_usec;
        Random random; /* of the times */
        Event *event;
} Actor;

struct Actors {
        Actor *actors;
        struct Call *calls; /* that are not answered yet */
        unsigned n_calls;
        Random blame, flood;
        unsigned n_flooding; /* calls that are still to come */
        uint64_t flood_usec; /* between two of them, on the average */
        uint64_t blame_until_usec;
        Event *ends[16]; /* of disturbances that last */
};

typedef enum Lasting {
        LASTING_NET,
        LASTING_DISK,
        LASTING_THROTTLE,
        LASTING_SLOW,
        LASTING_CLOCK,
        LASTING_CHIP,
        LASTING_WAYS,
        LASTING_HANG,
        LASTING_BLAME,
        LASTING_MOVING,
        LASTING_STALL,
        LASTING_HUGE,
        LASTING_FLOOD,
        LASTING_TOKEN,
        LASTING_ASSIGNING,
        _LASTING_MAX,
} Lasting;

/* A longer run has no more deeds, but longer waits between them. */
static uint64_t stretch(const Sim *s, uint64_t usec) {
        return usec * MAX(s->options.days, DENSE_DAYS) / DENSE_DAYS;
}

/* Now and then all happens at once, and to the same identity: faults meet where one of them alone does no harm. */
static uint64_t storm_number(const Sim *s) {
        return s->now_usec / stretch(s, STORM_EVERY_USEC);
}

static uint64_t storm_usec(const Sim *s, uint64_t number) {
        Random r = random_of(s->options.seed, "storm", number);
        uint64_t every = stretch(s, STORM_EVERY_USEC);

        return number == 0 ? 0 : number * every + random_below(&r, every - STORM_USEC);
}

/* This one, or the next. */
static uint64_t next_storm_usec(const Sim *s) {
        uint64_t n = storm_number(s);

        return storm_usec(s, s->now_usec > storm_usec(s, n) + STORM_USEC / 2 ? n + 1 : n);
}

static unsigned anybody(Sim *s, Random *r) {
        unsigned k = (unsigned) random_below(r, s->options.n_identities);
        uint64_t n = storm_number(s), begin = storm_usec(s, n);

        if (s->now_usec < begin || s->now_usec > begin + STORM_USEC || random_chance(r, 30))
                return k;
        return (unsigned) (n % s->options.n_identities);
}

/* ---- programs ---- */

typedef struct Call {
        Sim *sim;
        unsigned k;
        bool is_token;
        uint64_t since_usec;
        struct Call *next, *previous;
} Call;

static void begin_job(Sim *s, Identity *i, unsigned k, bool has_looked);

static Call *call_new(Sim *s, unsigned k, bool is_token) {
        Call *c = sim_alloc(sizeof(*c));

        *c = (Call){
                .sim = s, .k = k, .is_token = is_token, .since_usec = s->now_usec, .next = s->actors->calls
        };
        if (c->next)
                c->next->previous = c;
        s->actors->calls = c;
        s->actors->n_calls++;
        return c;
}

static void call_free(Call *c) {
        *(c->previous ? &c->previous->next : &c->sim->actors->calls) = c->next;
        if (c->next)
                c->next->previous = c->previous;
        c->sim->actors->n_calls--;
        sim_free(c);
}

unsigned actors_n_calls(const Sim *s) {
        return s->actors ? s->actors->n_calls : 0;
}

uint64_t actors_oldest_call(const Sim *s) {
        uint64_t oldest = UINT64_MAX;

        for (const Call *c = s->actors ? s->actors->calls : NULL; c; c = c->next)
                oldest = MIN(oldest, c->since_usec);
        return oldest;
}

static void on_looked(Identity *i, Credential *credential, const DpsError *error, void *userdata) {
        Call *c = userdata;
        Sim *s = c->sim;
        unsigned k = c->k;

        call_free(c);
        if (s->machine->is_dying)
                return;
        checks_looked(s, k);
        begin_job(s, i, k, true);
}

/* As identity-bus.c does it. A job may end before its number is told. */
static void begin_job(Sim *s, Identity *i, unsigned k, bool has_looked) {
        uint64_t job = s->machine->manager->core.last_job + 1, retry_usec = 0;
        int r;

        checks_job_begun(s, k, job);
        r = identity_reprovision(i, has_looked, &job, &retry_usec);
        trace(s, "call: %s: reprovision: %s", i->name, r < 0 ? strerrorname_np(-r) : "ok");
        if (r < 0)
                checks_job_refused(s, k);
        if (r == -EAGAIN) {
                Call *c = call_new(s, k, false);

                if (identity_wait_for_look(i, on_looked, c) < 0)
                        call_free(c);
        }
}

static void reprovision(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        Identity *i = machine_identity(s->machine, k);

        if (!i)
                return;
        checks_happened(s, k, HAPPENED_REQUEST);
        core_enter();
        begin_job(s, i, k, false);
        core_leave();
}

/* Promise: what a program gets is of the assignment of now. */
static void on_text(int r, char *text, uint64_t expires_at_usec, const DpsError *error, void *userdata) {
        Call *c = userdata;
        Sim *s = c->sim;
        const Identity *i = s->machine->is_dying ? NULL : machine_identity(s->machine, c->k);
        unsigned depth = core_pause();

        if (r >= 0 && !c->is_token && i) {
                json_object *o = json_tokener_parse(text);
                uint64_t generation = 0;

                (void) json_u64(json_member(o, "generation"), INT64_MAX, &generation);
                if (!identity_assignment(i) || generation != identity_assignment(i)->generation)
                        found(s, "GetConnection gives the assignment of now",
                              "identity %u: generation %" PRIu64, c->k, generation);
                if (!json_member(o, "password") && !json_member(o, "certificateFile"))
                        found(s, "GetConnection gives a credential", "identity %u: there is none", c->k);
                json_object_put(o);
        }
        erase_and_free(text);
        call_free(c);
        core_resume(depth);
}

static void ask_for_text(Sim *s, Random *r, bool is_token) {
        unsigned k = anybody(s, r);
        Identity *i = machine_identity(s->machine, k);
        Call *c;
        int ret;

        if (!i)
                return;
        c = call_new(s, k, is_token);
        checks_happened(s, k, HAPPENED_REQUEST);
        core_enter();
        ret = is_token ? identity_token(i, random_below(r, 5000), on_text, c)
                       : identity_connection(i, on_text, c);
        core_leave();
        trace(s, "call: %u: %s: %d", k, is_token ? "token" : "connection", ret);
        if (ret < 0)
                call_free(c);
}

static void token(Sim *s, Random *r) {
        ask_for_text(s, r, true);
}

static void connection(Sim *s, Random *r) {
        ask_for_text(s, r, false);
}

static void hub_failure(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        Identity *i = machine_identity(s->machine, k);
        DpsHubFailure kind = (DpsHubFailure) random_below(r, _DPS_HUB_FAILURE_MAX);
        uint64_t next, generation;
        bool registering;
        int ret;

        if (!i || !identity_assignment(i))
                return;
        generation = identity_assignment(i)->generation - random_chance(r, 10);
        checks_happened(s, k, HAPPENED_REQUEST);
        core_enter();
        ret = identity_report_hub_failure(i, generation, kind, 401, "refused", &registering, &next);
        core_leave();
        trace(s, "call: %s: the hub refused (%s): %d", i->name, dps_hub_failure_to_string(kind), ret);
}

static void blame_hub(Sim *s, unsigned k) {
        Identity *i = machine_identity(s->machine, k);
        uint64_t next;
        bool registering;

        if (!i || !identity_assignment(i))
                return;
        checks_happened(s, k, HAPPENED_REQUEST);
        core_enter();
        (void) identity_report_hub_failure(i, identity_assignment(i)->generation, DPS_HUB_FAILURE_AUTH, 401,
                                           "refused", &registering, &next);
        core_leave();
}

static void hub_connected(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        Identity *i = machine_identity(s->machine, k);

        if (!i || !identity_assignment(i))
                return;
        trace(s, "call: %s: the hub took it", i->name);
        core_enter();
        (void) identity_report_hub_connected(i, identity_assignment(i)->generation);
        core_leave();
}

/* ---- the operator ---- */

static void conf_id(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        SimConf *c = &s->machine->confs[k];

        c->is_alternative = !c->is_alternative;
        trace(s, "operator: %u: another registration id", k);
        checks_id_changed(s, k);
        machine_reload(s->machine);
}

static void conf_elsewhere(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        SimConf *c = &s->machine->confs[k];

        if (random_chance(r, 70))
                c->is_elsewhere = !c->is_elsewhere;
        else
                c->is_lost = !c->is_lost;
        trace(s, "operator: %u: another endpoint or scope", k);
        checks_device_changed(s, k);
        machine_reload(s->machine);
}

static void forget(Sim *s, Random *r) {
        machine_begin_anew(s->machine, anybody(s, r));
}

static void conf_break(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        SimConf *c = &s->machine->confs[k];

        c->is_broken = !c->is_broken;
        trace(s, "operator: %u: the conf is %s", k, c->is_broken ? "broken" : "mended");
        machine_reload(s->machine);
}

static void conf_other(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        SimConf *c = &s->machine->confs[k];

        switch (random_below(r, 4)) {
        case 0:
                c->lifetime = (unsigned) random_below(r, 4);
                break;
        case 1:
                c->renew = !c->renew;
                break;
        case 2:
                c->splay = !c->splay;
                break;
        default:
                c->has_other_group = !c->has_other_group;
                break;
        }
        trace(s, "operator: %u: other settings", k);
        machine_reload(s->machine);
}

static void conf_way(Sim *s, Random *r) {
        unsigned k = anybody(s, r);

        s->machine->confs[k].transport =
                random_chance(r, 60) ? TRANSPORT_AUTO : (TransportChoice) random_below(r, _TRANSPORT_MAX);
        trace(s, "operator: %u: Transport=%s", k, transport_choice_to_string(s->machine->confs[k].transport));
        machine_reload(s->machine);
}

static void conf_retire(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        SimConf *c = &s->machine->confs[k];

        c->is_there = !c->is_there;
        trace(s, "operator: %u: the conf is %s", k, c->is_there ? "there" : "gone");
        machine_reload(s->machine);
}

static void window(Sim *s, Random *r) {
        s->machine->max_attempts = random_chance(r, 50) ? 1 + (unsigned) random_below(r, 3) : 50;
        trace(s, "operator: MaxAttempts=%u", s->machine->max_attempts);
        machine_reload(s->machine);
}

static void reload(Sim *s, Random *r) {
        trace(s, "operator: reloads");
        machine_reload(s->machine);
}

/* ---- what lasts a while ---- */

static void lasting(Sim *s, Lasting what, uint64_t usec, event_handler_t end) {
        Actors *a = s->actors;

        a->ends[what] = event_cancel(s, a->ends[what]);
        a->ends[what] = event_add(s, s->now_usec + usec, end, s);
}

static void end_network(Sim *s, void *userdata) {
        s->actors->ends[LASTING_NET] = NULL;
        trace(s, "network: is well");
        net_set_fault(s->net, NET_FAULT_NONE);
}

static void net_fault(Sim *s, Random *r) {
        NetFault fault = 1 + (NetFault) random_below(r, NET_FAULT_SLOW);

        trace(s, "network: fault %d", (int) fault);
        net_set_fault(s->net, fault);
        lasting(s, LASTING_NET,
                random_wait_usec(r, random_chance(r, 50) ? USEC_PER_MINUTE : 2 * USEC_PER_HOUR), end_network);
}

static void network(Sim *s, Random *r) {
        machine_network_changed(s->machine);
}

static void block(Sim *s, NetFault mqtt, NetFault https) {
        trace(s, "network %u: over MQTT fault %d, over HTTPS fault %d", s->machine->network, (int) mqtt,
              (int) https);
        net_block(s->net, TRANSPORT_MQTT, mqtt);
        net_block(s->net, TRANSPORT_HTTPS, https);
}

static void end_ways(Sim *s, void *userdata) {
        s->actors->ends[LASTING_WAYS] = NULL;
        block(s, NET_FAULT_NONE, NET_FAULT_NONE);
}

/* A firewall closes one way or both, perhaps because the machine has been carried into another network. */
static void ways(Sim *s, Random *r) {
        static const NetFault faults[] = { NET_FAULT_UNREACHABLE, NET_FAULT_REFUSED, NET_FAULT_SILENT,
                                           NET_FAULT_LOSSY, NET_FAULT_INTERCEPTED };
        uint64_t which = random_below(r, 8);
        NetFault fault[2];

        for (unsigned k = 0; k < 2; k++)
                fault[k] = faults[random_below(r, ELEMENTSOF(faults))];
        if (random_chance(r, 40))
                s->machine->network = (unsigned) random_below(r, NETWORKS_MAX);
        block(s, which < 5 ? fault[0] : NET_FAULT_NONE, which > 3 && which < 7 ? fault[1] : NET_FAULT_NONE);
        lasting(s, LASTING_WAYS, random_wait_usec(r, random_chance(r, 50) ? USEC_PER_HOUR : 5 * USEC_PER_DAY),
                end_ways);
        machine_network_changed(s->machine);
}

static void end_disk(Sim *s, void *userdata) {
        s->actors->ends[LASTING_DISK] = NULL;
        trace(s, "disk: is well");
        disk_set_fault(s->disk, DISK_FAULT_NONE);
        checks_excuse_disk(s, false);
}

static void disk(Sim *s, Random *r) {
        DiskFault fault = 1 + (DiskFault) random_below(r, _DISK_FAULT_MAX - 1);

        trace(s, "disk: fault %d", (int) fault);
        disk_set_fault(s->disk, fault);
        checks_excuse_disk(s, fault == DISK_FAULT_BROKEN || fault == DISK_FAULT_RUNTIME_FULL);
        lasting(s, LASTING_DISK,
                random_wait_usec(r, random_chance(r, 50) ? 20 * USEC_PER_SEC : USEC_PER_HOUR), end_disk);
}

static void end_slow(Sim *s, void *userdata) {
        s->actors->ends[LASTING_SLOW] = NULL;
        s->machine->slowness = (Slowness){ 0 };
}

static void slow(Sim *s, Random *r) {
        WorkQueue queue = (WorkQueue) random_below(r, _WORK_QUEUE_MAX);

        trace(s, "machine: queue %d is slow", (int) queue);
        s->machine->slowness.usec[queue] = random_wait_usec(r, 10 * USEC_PER_SEC);
        lasting(s, LASTING_SLOW, random_wait_usec(r, USEC_PER_HOUR), end_slow);
}

/* ---- the clock ---- */

static void end_clock(Sim *s, void *userdata) {
        s->actors->ends[LASTING_CLOCK] = NULL;
        trace(s, "clock: is right, and synchronised");
        /* Setting it is told, and that it is synchronised must be looked for. An attempt that is hastened then connects later, where
         * keys or names are slow. */
        checks_free(s, machine_mend_clock(s->machine, true) ? 5 * USEC_PER_SEC
                                                            : SYNCHRONIZATION_USEC + USEC_PER_MINUTE);
}

static void clock_step(Sim *s, Random *r) {
        static const uint64_t sizes[] = { USEC_PER_SEC, USEC_PER_MINUTE, USEC_PER_HOUR,
                                          USEC_PER_DAY, USEC_PER_YEAR,   40 * USEC_PER_YEAR };
        int64_t step = (int64_t) random_wait_usec(r, sizes[random_below(r, ELEMENTSOF(sizes))]);

        step = random_chance(r, 50) ? -step : step;
        trace(s, "clock: is set by %" PRId64 " s", step / (int64_t) USEC_PER_SEC);
        s->machine->clock.is_synchronized = s->machine->clock.is_synchronized && random_chance(r, 30);
        checks_free(s, 5 * USEC_PER_SEC);
        machine_step_clock(s->machine, step);
        lasting(s, LASTING_CLOCK,
                random_wait_usec(r, random_chance(r, 50) ? 2 * USEC_PER_MINUTE : 5 * USEC_PER_HOUR),
                end_clock);
}

/* chrony sets the clock first, and says some time later that it is synchronised. */
static void set_clock_right(Sim *s, void *userdata) {
        Random r = random_of(s->options.seed, "clock", s->now_usec);
        bool is_synchronized = random_chance(&r, 50);

        trace(s, "clock: is right, and %s", is_synchronized ? "synchronised" : "soon synchronised");
        checks_free(s, 5 * USEC_PER_SEC);
        (void) machine_mend_clock(s->machine, is_synchronized);
        s->actors->ends[LASTING_CLOCK] = NULL;
        if (!is_synchronized)
                lasting(s, LASTING_CLOCK, random_wait_usec(&r, 10 * USEC_PER_MINUTE), end_clock);
}

/* All passes with such a clock, TLS and tokens too, so its time is taken for confirmed. */
static void clock_ahead(Sim *s, Random *r) {
        uint64_t ahead = USEC_PER_HOUR + random_wait_usec(r, 60 * USEC_PER_DAY);

        trace(s, "clock: is %" PRIu64 " s ahead", ahead / USEC_PER_SEC);
        s->machine->clock.is_synchronized = false;
        checks_free(s, 5 * USEC_PER_SEC);
        machine_step_clock(s->machine, (int64_t) ahead);
        lasting(s, LASTING_CLOCK, random_wait_usec(r, 2 * USEC_PER_DAY), set_clock_right);
}

/* ---- the service ---- */

static void id_of(Sim *s, Random *r, char ret[static 16]) {
        machine_id(s->machine, anybody(s, r), ret);
}

static void end_throttle(Sim *s, void *userdata) {
        s->actors->ends[LASTING_THROTTLE] = NULL;
        trace(s, "service: throttles no more");
        net_set(s->net, "*", "quotas.registrationsPerMinute=1000");
}

static void throttle(Sim *s, Random *r) {
        trace(s, "service: throttles");
        net_set(s->net, "*",
                random_chance(r, 50) ? "quotas.registrationsPerMinute=0" : "quotas.registrationsPerMinute=1");
        lasting(s, LASTING_THROTTLE, random_wait_usec(r, 20 * USEC_PER_MINUTE), end_throttle);
}

static void script(Sim *s, Random *r) {
        static const char *const texts[] = {
                "drop",
                "silent",
                "malformed",
                "duplicate",
                "foreign-rid",
                "500",
                "503,retry-after=20",
                "429",
                "429,retry-after=0",
                "register:429,retry-after=300",
                "poll:429,retry-after=40",
                "401",
                "poll:404",
                "poll:202,retry-after=120",
                "register:202,retry-after=3600",
                "400,code=400208",
                "200,status=pondering",
                "200,body={}",
                "connect:refuse",
                "poll:drop",
                "poll:silent",
                "poll:202,retry-after=0",
                "register:duplicate,delay=2",
                "register:503,retry-after=7200",
        };
        const char *text = texts[random_below(r, ELEMENTSOF(texts))];
        unsigned n = random_chance(r, 70) ? 1 : 1 + (unsigned) random_below(r, 12);
        char id[16];

        id_of(s, r, id);
        trace(s, "service: %s: %s, %u times", id, text, n);
        while (n-- > 0)
                net_script(s->net, id, text);
}

static void enrollment(Sim *s, Random *r) {
        char id[16];

        id_of(s, r, id);
        switch (random_below(r, 5)) {
        case 0:
        case 1:
                trace(s, "service: %s: enabled", id);
                net_set(s->net, id, "provisioningStatus=enabled");
                break;
        case 2:
                trace(s, "service: %s: disabled", id);
                net_set(s->net, id, "provisioningStatus=disabled");
                break;
        case 3:
                trace(s, "service: %s: hub-b", id);
                net_set(s->net, id, "iotHubs=[\"hub-b.example\"]");
                break;
        default:
                trace(s, "service: %s: hub-c", id);
                net_set(s->net, id, "iotHubs=[\"hub-c.example\"]");
                break;
        }
}

static void end_assigning(Sim *s, void *userdata) {
        s->actors->ends[LASTING_ASSIGNING] = NULL;
        trace(s, "service: assigns soon");
        net_set(s->net, "*", "assigningTime=2");
}

static void begin_assigning(Sim *s, void *userdata) {
        Random r = random_of(s->options.seed, "assigning", s->now_usec);

        s->actors->ends[LASTING_ASSIGNING] = NULL;
        trace(s, "service: takes 20 minutes to assign");
        net_set(s->net, "*", "assigningTime=1200");
        lasting(s, LASTING_ASSIGNING, 20 * USEC_PER_MINUTE + random_wait_usec(&r, 2 * USEC_PER_HOUR),
                end_assigning);
}

/* While it takes longer to assign than an attempt lasts, nobody gets an assignment, and most of what happens is polls: in some
 * seeds, that was two thirds of all messages. So it takes that long when most else happens, and some hours more. */
static void assign_slowly(Sim *s) {
        uint64_t storm = next_storm_usec(s);

        lasting(s, LASTING_ASSIGNING, usec_sub(storm, s->now_usec + 10 * USEC_PER_MINUTE), begin_assigning);
}

static void service(Sim *s, Random *r) {
        static const char *const texts[] = {
                "assigningTime=0",
                "assigningTime=4",
                "assigningTime=90",
                NULL, /* 20 minutes */
                "retryAfter=0",
                "retryAfter=3",
                "retryAfter=45",
                "behaviour.assignAtOnce=true",
                "behaviour.assignAtOnce=false",
                "behaviour.unassignedFirst=true",
                "behaviour.conflict=true",
                "behaviour.conflict=false",
                "behaviour.badSignature=connect",
                "behaviour.badSignature=register",
                "quotas.pollsPerTenSeconds=1",
                "quotas.pollsPerTenSeconds=5",
        };
        const char *text = texts[random_below(r, ELEMENTSOF(texts))];

        if (!text) {
                assign_slowly(s);
                return;
        }
        trace(s, "service: %s", text);
        net_set(s->net, "*", text);
}

/* ---- keys ---- */

static void key(Sim *s, Random *r) {
        unsigned k = anybody(s, r);
        KeyFile what = random_chance(r, 40) ? KEY_FILE_GOOD : (KeyFile) random_below(r, _KEY_FILE_MAX);

        trace(s, "key: %u: is of kind %d now", k, (int) what);
        keys_put(s->keys, k, what);
        checks_happened(s, k, HAPPENED_ON_MACHINE);
        machine_key_changed(s->machine, k);
}

static bool has_chip(const Sim *s) {
        return s->options.seed % 3 == 0;
}

static void end_chip(Sim *s, void *userdata) {
        s->actors->ends[LASTING_CHIP] = NULL;
        trace(s, "key: the chip is there");
        keys_set_chip(s->keys, has_chip(s), false);
}

static void chip(Sim *s, Random *r) {
        if (!has_chip(s))
                return;
        trace(s, "key: the chip is gone");
        keys_set_chip(s->keys, true, true);
        lasting(s, LASTING_CHIP, random_wait_usec(r, random_chance(r, 50) ? USEC_PER_MINUTE : USEC_PER_HOUR),
                end_chip);
}

static void end_hang(Sim *s, void *userdata) {
        s->actors->ends[LASTING_HANG] = NULL;
        trace(s, "key: all chips answer");
        hang_end_all(s);
}

static void hang(Sim *s, Random *r) {
        static const uint64_t waits[] = { USEC_PER_MINUTE, 2 * USEC_PER_HOUR, 3 * USEC_PER_DAY };
        unsigned k = anybody(s, r);

        if (!chip_is_of(k) && !has_chip(s) && s->machine->confs[k].key_place == KEY_PLACE_FILE)
                return;
        trace(s, "key: the chip of %u hangs", k);
        hang_set(s, k, random_chance(r, 50) ? HANG_ALWAYS : HANG_SIGNING);
        lasting(s, LASTING_HANG, random_wait_usec(r, waits[random_below(r, ELEMENTSOF(waits))]), end_hang);
}

/* ---- where keys of issued certificates are made ---- */

static void conf_key_place(Sim *s, Random *r) {
        SimConf *c = &s->machine->confs[ISSUED_IDENTITY];

        c->key_place = random_chance(r, 60) ? KEY_PLACE_TOKEN : (KeyPlace) random_below(r, _KEY_PLACE_MAX);
        trace(s, "operator: Key= of issued certificates is %s", key_place_to_string(c->key_place));
        machine_reload(s->machine);
}

static void end_token(Sim *s, void *userdata) {
        s->actors->ends[LASTING_TOKEN] = NULL;
        trace(s, "token: works");
        token_set_fault(TOKEN_GOOD);
}

static void token_fault(Sim *s, Random *r) {
        static const uint64_t waits[] = { USEC_PER_MINUTE, 2 * USEC_PER_HOUR, 3 * USEC_PER_DAY };
        TokenFault fault = (TokenFault) random_below(r, _TOKEN_FAULT_MAX);

        trace(s, "token: has fault %d", (int) fault);
        token_set_fault(fault);
        lasting(s, LASTING_TOKEN, random_wait_usec(r, waits[random_below(r, ELEMENTSOF(waits))]), end_token);
}

static void token_loss(Sim *s, Random *r) {
        trace(s, "token: somebody removes keys of ours");
        if (random_chance(r, 30))
                tpm_clear();
        else
                token_lose(random_next(r), random_chance(r, 30));
}

/* ---- parties without manners ---- */

/* A local user calls whatever can be called, as fast as it likes, or all at once: so it looks when polkit, which did not answer
 * for long, grants all requests that wait for it. Callers that have gone meanwhile do not come to the core. */
static void flood_once(Sim *s, void *userdata) {
        static void (*const calls[])(Sim * s, Random * r) = { reprovision,   token,  connection, hub_failure,
                                                              hub_connected, reload, network };
        Actors *a = s->actors;

        a->ends[LASTING_FLOOD] = NULL;
        calls[random_below(&a->flood, a->n_flooding % 50 ? 5 : ELEMENTSOF(calls))](s, &a->flood);
        checks_step(s);
        if (--a->n_flooding > 0)
                lasting(s, LASTING_FLOOD, a->flood_usec > 0 ? random_wait_usec(&a->flood, a->flood_usec) : 0,
                        flood_once);
}

static void flood(Sim *s, Random *r) {
        Actors *a = s->actors;

        a->n_flooding = 50 + (unsigned) random_below(r, 400);
        a->flood_usec = random_chance(r, 40) ? 0 : random_wait_usec(r, USEC_PER_SEC);
        a->flood = *r;
        trace(s, "programs: %u calls, one every %" PRIu64 " us", a->n_flooding, a->flood_usec);
        lasting(s, LASTING_FLOOD, 0, flood_once);
}

/* A program reports that its hub refuses it, whatever hub it is given. */
static void blame_once(Sim *s, void *userdata) {
        Actors *a = s->actors;

        a->ends[LASTING_BLAME] = NULL;
        for (unsigned k = 0; k < s->options.n_identities; k++)
                blame_hub(s, k);
        checks_step(s);
        if (s->now_usec < a->blame_until_usec)
                lasting(s, LASTING_BLAME, USEC_PER_SEC + random_wait_usec(&a->blame, 20 * USEC_PER_SEC),
                        blame_once);
}

void actors_blame(Sim *s, uint64_t usec) {
        s->actors->blame_until_usec = s->now_usec + usec;
        s->actors->blame = random_of(s->options.seed, "blame", s->now_usec);
        trace(s, "programs: every hub refuses them");
        lasting(s, LASTING_BLAME, 0, blame_once);
}

static void blame(Sim *s, Random *r) {
        actors_blame(s, random_wait_usec(r, 2 * USEC_PER_HOUR));
}

static void end_moving(Sim *s, void *userdata) {
        s->actors->ends[LASTING_MOVING] = NULL;
        trace(s, "service: hubs stay");
        net_set_moving(s->net, false);
}

static void moving(Sim *s, Random *r) {
        trace(s, "service: each answer names another hub");
        net_set_moving(s->net, true);
        lasting(s, LASTING_MOVING, random_wait_usec(r, USEC_PER_DAY), end_moving);
}

static void end_huge(Sim *s, void *userdata) {
        s->actors->ends[LASTING_HUGE] = NULL;
        trace(s, "service: answers are as they should be");
        net_set_padding(s->net, 0);
}

/* Answers that are as large as a transport lets pass, and those of other requests among them. */
static void huge(Sim *s, Random *r) {
        size_t size = (size_t) random_below(r, 500U * 1024);

        trace(s, "service: answers have %zu bytes more", size);
        net_set_padding(s->net, size);
        lasting(s, LASTING_HUGE, random_wait_usec(r, USEC_PER_HOUR), end_huge);
}

static void end_stall(Sim *s, void *userdata) {
        s->actors->ends[LASTING_STALL] = NULL;
        trace(s, "machine: nothing stalls");
        s->machine->slowness = (Slowness){ 0 };
}

/* A disk that syncs for minutes, a directory service for users and groups, a file system with keys: each alone, or all at once. */
static void stall(Sim *s, Random *r) {
        for (unsigned q = 0; q < _WORK_QUEUE_MAX; q++)
                if (random_chance(r, 40))
                        s->machine->slowness.usec[q] = random_wait_usec(r, 2 * USEC_PER_MINUTE);
        trace(s, "machine: the disk takes %" PRIu64 " s",
              s->machine->slowness.usec[WORK_DISK] / USEC_PER_SEC);
        lasting(s, LASTING_STALL, random_wait_usec(r, USEC_PER_HOUR), end_stall);
}

/* ---- the daemon and the machine ---- */

static void restart(Sim *s, Random *r) {
        if (!s->machine->manager)
                return;
        machine_stop(s->machine);
        machine_start_later(s->machine, random_wait_usec(r, 2 * USEC_PER_SEC));
}

static void kill_daemon(Sim *s, Random *r) {
        if (!s->machine->manager)
                return;
        machine_kill(s->machine, random_chance(r, 50) ? (unsigned) random_below(r, 6) : 0);
        machine_start_later(s->machine, random_wait_usec(r, 2 * USEC_PER_SEC));
}

static void power(Sim *s, Random *r) {
        Machine *m = s->machine;

        machine_cut_power(m, random_chance(r, 50) ? (unsigned) random_below(r, 6) : 0);
        if (random_chance(r, 40)) { /* it has no battery for its clock */
                m->clock.realtime_usec = -(int64_t) s->now_usec;
                m->clock.is_synchronized = false;
                lasting(s, LASTING_CLOCK, random_wait_usec(r, 5 * USEC_PER_MINUTE), end_clock);
        }
        machine_start_later(m, 15 * USEC_PER_SEC + random_wait_usec(r, USEC_PER_MINUTE));
}

static void memory(Sim *s, Random *r) {
        uint64_t after = random_below(r, random_chance(r, 50) ? 10 : 100);
        unsigned n = random_chance(r, 60) ? 1 : 1 + (unsigned) random_below(r, 10);

        trace(s, "memory: runs out after %" PRIu64 ", for %u", after, n);
        checks_memory(s, 20);
        memory_run_out(after, n);
}

/* ---- all of them ---- */

static const struct {
        const char *name;
        void (*perform)(Sim *s, Random *r);
        unsigned minutes; /* on the average between two */
} kinds[] = {
        { "reprovision", reprovision, 400 },
        { "token", token, 600 },
        { "connection", connection, 600 },
        { "hub-failure", hub_failure, 500 },
        { "hub-connected", hub_connected, 600 },
        { "conf-id", conf_id, 4000 },
        { "conf-elsewhere", conf_elsewhere, 2000 },
        { "conf-break", conf_break, 2000 },
        { "forget", forget, 3000 },
        { "conf-other", conf_other, 2000 },
        { "conf-retire", conf_retire, 2000 },
        { "reload", reload, 1500 },
        { "clock", clock_step, 1500 },
        { "clock-ahead", clock_ahead, 3000 },
        { "network", network, 400 },
        { "net-fault", net_fault, 800 },
        { "disk", disk, 1200 },
        { "slow", slow, 1200 },
        { "throttle", throttle, 1500 },
        { "script", script, 400 },
        { "enrollment", enrollment, 800 },
        { "service", service, 800 },
        { "key", key, 800 },
        { "restart", restart, 1000 },
        { "kill", kill_daemon, 1000 },
        { "power", power, 1500 },
        { "memory", memory, 800 },
        { "chip", chip, 1200 },
        { "window", window, 2000 },
        { "ways", ways, 1500 },
        { "conf-way", conf_way, 3000 },
        /* Those from here on are not there for findings of before (--kinds=31). */
        { "hang", hang, 1000 },
        { "flood", flood, 1500 },
        { "blame", blame, 2000 },
        { "moving", moving, 2000 },
        { "huge", huge, 2000 },
        { "stall", stall, 2000 },
        { "conf-key-place", conf_key_place, 1500 },
        { "token-fault", token_fault, 1000 },
        { "token-loss", token_loss, 4000 },
        { "user", users_call, 400 },
        { "polkit", users_disturb_polkit, 1000 },
        { "journal", journal_fill, 1500 },
        { "crowd", users_crowd, 3000 },  /* is not in findings of before (--kinds=43) */
        { "files", files_disturb, 800 }, /* nor is this (--kinds=44) */
};

void deed_format(size_t number, char ret[static 32]) {
        (void) snprintf(ret, 32, "%s.%zu", kinds[number / DEEDS_PER_ACTOR].name, number % DEEDS_PER_ACTOR);
}

int deed_parse(const char **text, size_t *ret) {
        for (unsigned k = 0; k < ELEMENTSOF(kinds); k++) {
                const char *p = *text;
                uint64_t n;

                if (!scan_literal(&p, kinds[k].name) || !scan_literal(&p, ".") || scan_u64(&p, &n) < 0 ||
                    n >= DEEDS_PER_ACTOR)
                        continue;
                *text = p;
                *ret = k * DEEDS_PER_ACTOR + n;
                return 0;
        }
        return -EINVAL;
}

static void plan_next(Actor *a);

static void on_deed(Sim *s, void *userdata) {
        Actor *a = userdata;
        size_t number = a->number * DEEDS_PER_ACTOR + a->n_deeds;
        Random r = random_of(s->options.seed, kinds[a->number].name, a->n_deeds);

        a->event = NULL;
        a->n_deeds++;
        plan_next(a);
        if (s->options.left_out && s->options.left_out[number])
                return;
        s->deeds[s->n_deeds++] = (Deed){ .at_usec = s->now_usec, .number = number };
        trace(s, "deed: %s.%u", kinds[a->number].name, a->n_deeds - 1);
        kinds[a->number].perform(s, &r);
        if (kinds[a->number].perform != memory)
                checks_step(s);
}

static uint64_t in_storm(Actor *a) {
        Sim *s = a->sim;

        return MAX(s->now_usec, next_storm_usec(s)) + random_below(&a->random, STORM_USEC / 2);
}

static void plan_next(Actor *a) {
        Sim *s = a->sim;
        uint64_t at;

        if (random_chance(&a->random, STORM_PERCENT))
                at = in_storm(a);
        else
                at = s->now_usec + random_wait_usec(&a->random, random_chance(&a->random, BURST_PERCENT)
                                                                        ? 20 * USEC_PER_SEC
                                                                        : a->mean_usec);
        if (a->n_deeds < DEEDS_PER_ACTOR && at < s->end_of_deeds_usec)
                a->event = event_add(s, at, on_deed, a);
}

Actors *actors_new(Sim *s) {
        static const unsigned tenths[] = { 0, 3, 10, 10, 40 };
        Actors *a = sim_alloc(sizeof(*a));

        s->actors = a;
        keys_set_chip(s->keys, has_chip(s), false);
        a->actors = sim_alloc(ELEMENTSOF(kinds) * sizeof(*a->actors));
        for (unsigned k = 0; k < ELEMENTSOF(kinds); k++) {
                Random random = random_of(s->options.seed, kinds[k].name, UINT64_MAX);
                unsigned factor = tenths[random_below(&random, ELEMENTSOF(tenths))];

                a->actors[k] =
                        (Actor){ .sim = s,
                                 .number = k,
                                 .mean_usec = stretch(s, kinds[k].minutes * USEC_PER_MINUTE * factor / 10),
                                 .random = random };
                if (factor > 0 && (s->options.n_kinds == 0 || k < s->options.n_kinds))
                        plan_next(&a->actors[k]);
        }
        return a;
}

Actors *actors_free(Actors *a) {
        if (!a)
                return NULL;
        sim_free(a->actors);
        sim_free(a);
        return NULL;
}

void actors_end(Sim *s) {
        Machine *m = s->machine;

        for (unsigned k = 0; k < ELEMENTSOF(kinds); k++)
                s->actors->actors[k].event = event_cancel(s, s->actors->actors[k].event);
        for (unsigned k = 0; k < ELEMENTSOF(s->actors->ends); k++)
                s->actors->ends[k] = event_cancel(s, s->actors->ends[k]);
        s->actors->n_flooding = 0;
        trace(s, "all is well from now on");
        memory_run_out(0, 0);
        net_mend(s->net);
        disk_set_fault(s->disk, DISK_FAULT_NONE);
        checks_excuse_disk(s, false);
        machine_mend(m);
        keys_set_chip(s->keys, has_chip(s), false);
        hang_end_all(s);
        token_set_fault(TOKEN_GOOD);
        users_mend(s);
        journal_mend(s);
        files_mend(s);
        end_clock(s, NULL);
        if (!m->manager)
                machine_start(m);
        else
                machine_reload(m);
}
