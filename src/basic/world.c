/* SPDX-License-Identifier: MIT */
#include "basic/world.h"

#include "basic/times.h"

uint64_t world_boottime_of(const World *w, uint64_t realtime_usec) {
        uint64_t realtime = world_now_usec(w, CLOCK_REALTIME), boottime = world_now_usec(w, CLOCK_BOOTTIME);

        if (realtime_usec == USEC_INFINITY)
                return USEC_INFINITY;
        if (realtime_usec > realtime)
                return usec_add(boottime, usec_sub(realtime_usec, realtime));
        return usec_sub(boottime, realtime - realtime_usec);
}

uint64_t world_realtime_of(const World *w, uint64_t boottime_usec) {
        uint64_t realtime = world_now_usec(w, CLOCK_REALTIME), boottime = world_now_usec(w, CLOCK_BOOTTIME);

        if (boottime_usec == USEC_INFINITY)
                return USEC_INFINITY;
        if (boottime_usec > boottime)
                return usec_add(realtime, boottime_usec - boottime);
        return usec_sub(realtime, boottime - boottime_usec);
}
