/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A fleet of devices that all get power within one second, and register with one DPS that has the real one's quotas.
 * Each device follows a policy: that of libdps, driven through its real registration machine, or the published one of
 * another client. Time is simulated, and everything follows from one seed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dps/backoff.h"
#include "dps/registration.h"

#define FLEET_DEVICES_MAX (1U << 24) /* an event keeps its device in 24 bits (see fleet-queue.c) */

typedef struct FleetPolicy FleetPolicy;

/** What the service and the network do in one run. */
typedef struct FleetOptions {
        unsigned n_devices;
        unsigned quota;        /* registrations per minute for all devices */
        bool tells;            /* a 429 carries retry-after: the seconds until the quota is there again */
        unsigned percent_lost; /* of connections (see fleet-run.c) */
        uint64_t seed;
} FleetOptions;

typedef struct FleetMinute {
        uint32_t n_assigned;
        uint64_t n_requests;
} FleetMinute;

/** What came of it. Owns `minutes`: free it. */
typedef struct FleetFigures {
        uint64_t n_assigned;
        uint64_t n_connections;
        uint64_t n_registers, n_registers_throttled; /* throttled: answered 429 */
        uint64_t n_polls, n_polls_throttled;
        uint64_t n_abandoned;   /* operations that DPS began, and for whose device it had to begin another */
        uint64_t n_early;       /* requests that were sent before the time that DPS had told */
        uint64_t n_poll_floods; /* devices that broke the limit of polls */
        uint64_t drain_usec;    /* from power to the last assignment */
        uint64_t longest_usec, median_usec; /* from a device's power to its assignment */
        uint64_t first_peak;                /* requests in the busiest second of the first minute … */
        uint64_t later_peak;                /* … and of all the time after it */
        uint64_t fingerprint;               /* of the time of each device's assignment */
        FleetMinute *minutes;
        size_t n_minutes;
} FleetFigures;

/** -ENOMEM. */
int fleet_run(const FleetOptions *options, const FleetPolicy *policy, FleetFigures *ret);

/** The shortest drain that the quota allows. */
uint64_t fleet_limit_usec(const FleetOptions *options);
/** drain_usec over that; infinity where a device was left without an assignment. */
double fleet_drain_ratio(const FleetOptions *options, const FleetFigures *figures);

/* ---- devices and their policies ---- */

/** What each of its requests needs, in one line of the cache; the rest is in Operation (fleet-run.c). */
typedef struct FleetDevice {
        uint64_t seed; /* each device has its own, so that it does not matter who is played first */
        DpsRegistration *registration; /* of dps */
        uint64_t told_usec;            /* DPS told: nothing before then */
        uint64_t request_id;           /* of the last request */
        uint32_t attempts;             /* failures in a row, of the others */
        bool has_operation;            /* of the others: a poll comes next */
        bool is_connected;
        uint8_t fate; /* of the connection */
} __attribute__((aligned(64))) FleetDevice;

/** Its next random number. */
static inline uint64_t fleet_device_draw(FleetDevice *d) {
        uint64_t z = d->seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

/** dps_fraction_usec() of it, for machines that are fast at that. */
static inline uint64_t fleet_device_draw_usec(FleetDevice *d, uint64_t usec) {
#ifdef __SIZEOF_INT128__
        return (unsigned __int128) usec * fleet_device_draw(d) >> 64;
#else
        return dps_fraction_usec(usec, fleet_device_draw(d));
#endif
}

/** Any policy answers events with the actions of libdps. */
struct FleetPolicy {
        const char *name;
        /* Without a retry-after, a refused register is sent again after this time on the same connection, whatever came
         * before: so the simulation need not play each one. 0: this policy is not so simple. */
        uint64_t repeat_usec;

        /* Of the policies that wait on their connection. */
        uint64_t default_sec, told_max_sec;

        int (*prepare)(FleetDevice *d);
        DpsAction (*begin)(const FleetPolicy *p, FleetDevice *d, DpsMoment at);
        DpsAction (*on_ready)(const FleetPolicy *p, FleetDevice *d, DpsMoment at);
        DpsAction (*on_reply)(const FleetPolicy *p, FleetDevice *d, const DpsReply *reply, DpsMoment at);
        DpsAction (*on_lost)(const FleetPolicy *p, FleetDevice *d, DpsMoment at);
        DpsAction (*on_time)(const FleetPolicy *p, FleetDevice *d, DpsMoment at);
};

/** Stands for dps_error_set() in the machine of this simulation: nobody reads a message here, and to write it takes most
 * of the time. */
void fleet_error_set(DpsError *error, DpsErrorId id, DpsStep step, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

typedef enum FleetPolicyId {
        FLEET_DPS,
        FLEET_SDK_C,
        FLEET_SDK_NODE,
        FLEET_SDK_NEW,
        _FLEET_POLICY_MAX,
} FleetPolicyId;
extern const FleetPolicy fleet_policies[_FLEET_POLICY_MAX];
