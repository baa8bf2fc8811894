/* SPDX-License-Identifier: MIT */
#include "transport/transports.h"

#include <errno.h>

#include "basic/text.h"
#include "transport/mqtt.h"

static const struct {
        const char *name;
        int (*open)(sd_event *event, World *world, TransportClass **ret);
} transports[] = {
        { "mqtt", mqtt_transport_open },
};

int transport_open(const char *name, sd_event *event, World *world, TransportClass **ret) {
        for (size_t i = 0; i < ELEMENTSOF(transports); i++)
                if (streq(transports[i].name, name))
                        return transports[i].open(event, world, ret);
        return -ENOENT;
}
