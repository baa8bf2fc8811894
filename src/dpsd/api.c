/* SPDX-License-Identifier: MIT */
#include "dpsd/api.h"

#include <errno.h>

#include "dpsd/log.h"
#include "dpsd/module-load.h"

static void on_loaded(const void *class, const char *why, void *userdata) {
        ApiDoor *d = userdata;
        int r = 0;

        d->loading = NULL;
        d->class = class;
        if (class)
                r = d->class->new (d->event, d->manager, &d->api);
        d->is_refused = !d->api;
        if (d->is_refused)
                log_warning("the sockets of Api=yes cannot be opened, until a reload: %s",
                            why ?: strerror(-r));
        else
                api_door_look(d);
}

void api_door_changed(ApiDoor *d, Identity *i) {
        const Settings *s = configuration_settings(&i->configuration);

        if (d->api)
                d->class->changed(d->api, i);
        else if (s && s->api && !d->loading && !d->is_refused)
                d->is_refused = module_load_later(d->manager->core.world, NULL, API_MODULE, API_MODULE_KIND,
                                                  on_loaded, d, &d->loading) < 0;
}

void api_door_removed(ApiDoor *d, const Identity *i) {
        if (d->api)
                d->class->removed(d->api, i->name);
}

void api_door_look(ApiDoor *d) {
        d->is_refused = false;
        for (size_t k = 0; k < d->manager->n_identities; k++)
                api_door_changed(d, d->manager->identities[k]);
}

void api_door_close(ApiDoor *d) {
        d->loading = work_forget(d->loading);
        if (d->api)
                d->api = d->class->free(d->api);
        d->is_refused = true;
}
