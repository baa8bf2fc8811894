/* SPDX-License-Identifier: MIT */
#include "client/way.h"

static TransportChoice first(const WayFacts *f) {
        return f->worked == TRANSPORT_HTTPS ? TRANSPORT_HTTPS : TRANSPORT_MQTT;
}

TransportChoice way_choose(const WayFacts *f) {
        bool is_other = f->failures / WAY_FAILURES_MAX % 2 != 0;

        if (f->wish != TRANSPORT_AUTO)
                return f->wish;
        if (f->https_is_missing)
                return TRANSPORT_MQTT;
        if (f->wants_challenge || f->mqtt_is_barred)
                return TRANSPORT_HTTPS;
        if (!is_other)
                return first(f);
        return first(f) == TRANSPORT_MQTT ? TRANSPORT_HTTPS : TRANSPORT_MQTT;
}

unsigned way_failures_after_answer(unsigned failures) {
        return failures / WAY_FAILURES_MAX % 2 * WAY_FAILURES_MAX;
}

bool way_is_blocked(const DpsError *error) {
        switch (error->id) {
        case DPS_ERROR_UNREACHABLE:
        case DPS_ERROR_REFUSED:
        case DPS_ERROR_TIMEOUT:
        case DPS_ERROR_LOST:
        case DPS_ERROR_TLS:
        case DPS_ERROR_TLS_NAME:
        case DPS_ERROR_TLS_EXPIRED:
        case DPS_ERROR_TLS_UNTRUSTED:
        case DPS_ERROR_TLS_INTERCEPTED:
        case DPS_ERROR_PROXY:
                return error->step == DPS_STEP_CONNECT || error->step == DPS_STEP_TLS ||
                       error->step == DPS_STEP_LOGIN || error->step == DPS_STEP_SUBSCRIBE;
        default:
                return false;
        }
}
