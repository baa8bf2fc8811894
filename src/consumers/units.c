/* SPDX-License-Identifier: MIT */
#include "consumers/units.h"

#include <errno.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"
#include "consumers/change.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER SYSTEMD_NAME ".Manager"
#define SYSTEMD_UNIT SYSTEMD_NAME ".Unit"

static int get_string(sd_bus *bus, const char *path, const char *property, char **ret,
                      sd_bus_error *ret_error) {
        return sd_bus_get_property_string(bus, SYSTEMD_NAME, path, SYSTEMD_UNIT, property, ret_error, ret);
}

static int get_time(sd_bus *bus, const char *path, const char *property, uint64_t *ret,
                    sd_bus_error *ret_error) {
        return sd_bus_get_property_trivial(bus, SYSTEMD_NAME, path, SYSTEMD_UNIT, property, ret_error, 't',
                                           ret);
}

/* 1: it runs. -ENOENT: there is no such unit. */
static int unit_look(sd_bus *bus, const char *path, UnitStart *ret, sd_bus_error *ret_error) {
        _cleanup_(freep) char *load = NULL, *active = NULL;
        int r;

        r = get_string(bus, path, "LoadState", &load, ret_error);
        if (r >= 0)
                r = get_string(bus, path, "ActiveState", &active, ret_error);
        if (r >= 0)
                r = get_time(bus, path, "InactiveExitTimestamp", &ret->realtime_usec, ret_error);
        if (r >= 0)
                r = get_time(bus, path, "InactiveExitTimestampMonotonic", &ret->monotonic_usec, ret_error);
        if (r < 0)
                return r;
        if (streq(active, "inactive") || streq(active, "failed"))
                return streq(load, "not-found") ? -ENOENT : 0;
        return 1;
}

int unit_tell(sd_bus *bus, const char *unit, UnitVerb verb, uint64_t changed_at_usec,
              sd_bus_error *ret_error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        UnitStart start;
        const char *path;
        int r;

        r = sd_bus_call_method(bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "LoadUnit", ret_error,
                               &reply, "s", unit);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = unit_look(bus, path, &start, ret_error);
        if (r <= 0)
                return r;
        if (!unit_is_older(&start, changed_at_usec, now_usec(CLOCK_MONOTONIC)))
                return 0;
        r = sd_bus_call_method(bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                               verb == UNIT_RESTART ? "TryRestartUnit" : "ReloadOrTryRestartUnit", ret_error,
                               NULL, "ss", unit, "replace");
        return r < 0 ? r : 1;
}
