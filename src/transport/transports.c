/* SPDX-License-Identifier: MIT */
#include "transport/transports.h"

#include <errno.h>

#include "basic/module.h"
#include "basic/text.h"
#include "transport/transport-module.h"

typedef struct RealTransports {
        Transports transports; /* first */
        sd_event *event;
        World *world;
        TransportClass *classes[_TRANSPORT_MAX]; /* NULL: not asked for yet */
} RealTransports;

static int open_module(RealTransports *t, const char *name, TransportClass **ret, DpsError *error) {
        _cleanup_(freep) char *why = NULL;
        const void *module;
        int r;

        r = module_load_with_shared(module_directory(), TRANSPORT_SHARED_MODULE, name, "transport", &module,
                                    &why);
        if (r < 0) {
                dps_error_set(error, r == -ENOMEM ? DPS_ERROR_MEMORY : DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                              "Transport=%s cannot be used: %s", name, why ?: strerror(-r));
                return r == -ENOMEM ? r : -EOPNOTSUPP;
        }
        return ((const TransportModule *) module)->open(t->event, t->world, ret);
}

static int get(Transports *transports, TransportChoice way, TransportClass **ret, DpsError *error) {
        RealTransports *t = (RealTransports *) transports;
        TransportClass **class = &t->classes[way];
        int r = 0;

        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "there is no memory to use %s",
                      transport_choice_to_string(way));
        if (!*class)
                r = open_module(t, transport_choice_to_string(way), class, error);
        *ret = *class;
        return r;
}

static void rest(Transports *transports) {
        RealTransports *t = (RealTransports *) transports;

        for (size_t i = 0; i < ELEMENTSOF(t->classes); i++)
                if (t->classes[i])
                        transport_class_rest(t->classes[i]);
}

int transports_new(sd_event *event, World *world, Transports **ret) {
        RealTransports *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        *t = (RealTransports){ .transports = { get, rest }, .event = sd_event_ref(event), .world = world };
        *ret = &t->transports;
        return 0;
}

Transports *transports_free(Transports *transports) {
        RealTransports *t = (RealTransports *) transports;

        if (!t)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(t->classes); i++)
                transport_class_close(t->classes[i]);
        sd_event_unref(t->event);
        free(t);
        return NULL;
}
