/* SPDX-License-Identifier: MIT */
#include "client/way.h"

TransportChoice way_choose(const WayFacts *f) {
        if (f->wish != TRANSPORT_AUTO)
                return f->wish;
        if (f->https_is_missing)
                return TRANSPORT_MQTT;
        if (f->wants_challenge || f->mqtt_is_barred)
                return TRANSPORT_HTTPS;
        if (f->last == TRANSPORT_AUTO)
                return f->worked == TRANSPORT_HTTPS ? TRANSPORT_HTTPS : TRANSPORT_MQTT;
        if (f->failures < WAY_FAILURES_MAX)
                return f->last;
        return f->last == TRANSPORT_MQTT ? TRANSPORT_HTTPS : TRANSPORT_MQTT;
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
