/* SPDX-License-Identifier: MIT */

/* The least that the start of a daemon costs: opens the bus, claims a name, and says that it is ready. */

#include <stdlib.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

int main(void) {
        sd_bus *bus = NULL;

        if (sd_bus_open_system(&bus) < 0 || sd_bus_request_name(bus, "io.dpsd.floor", 0) < 0 ||
            sd_notify(0, "READY=1") < 0)
                return EXIT_FAILURE;
        sd_bus_flush_close_unref(bus);
        return EXIT_SUCCESS;
}
