/* SPDX-License-Identifier: MIT */
#include "basic/cleanup.h"
#include "basic/times.h"

#include "fleet.h"

/*
 * What a device does. dps is the registration machine of libdps itself. The others are what their sources and
 * documents say of waits and repetitions, and nothing else of them is played here:
 *
 *   azure-iot-sdk-c     Azure/azure-iot-sdk-c, provisioning_client/src/prov_transport_mqtt_common.c and
 *                       prov_device_ll_client.c, inc/azure_prov_client/internal/prov_client_const.h: the next request
 *                       goes out after retry-after (1 to 300 s; else 1 s) on the same connection, a status of 429 or
 *                       more repeats the same request, without end; no jitter. A lost connection ends the
 *                       registration with an error to the application.
 *   azure-iot-sdk-node  Azure/azure-iot-sdk-node, provisioning/device/src/polling_state_machine.ts and constants.ts,
 *                       provisioning/transport/mqtt/src/mqtt.ts: the same, with 2000 ms where nothing is told, and
 *                       without a range.
 *   azure-iot-sdk       Azure/azure-iot-sdk (the new one, C 1.0), c/docs/connecting.md, "Reconnection", and
 *                       c/docs/eng/connection-c.md: each failure, a refused registration too, starts again from
 *                       CONNECT after 1 s that doubles to 60 s, ± 20 %, and not before retry-after; the operation is
 *                       not resumed.
 *
 * What an application does that is told "error" is not published. Here it starts again after 5 s, the least that
 * Microsoft's page on device reconnections asks for (articles/iot/concepts-manage-device-reconnections.md).
 */

#define APPLICATION_SEC 5
#define RECONNECT_FIRST_SEC 1
#define RECONNECT_MAX_SEC 60
#define RECONNECT_JITTER 5 /* a fifth to both sides */

static DpsAction connect_now(void) {
        return (DpsAction){ .type = DPS_ACTION_CONNECT, .wake_usec = USEC_INFINITY };
}

static DpsAction release_until(uint64_t usec) {
        return (DpsAction){ .type = DPS_ACTION_RELEASE, .wake_usec = usec };
}

static DpsAction send_next(const FleetDevice *d) {
        return (DpsAction){
                .type = DPS_ACTION_SEND,
                .wake_usec = USEC_INFINITY,
                .request.kind = d->has_operation ? DPS_REQUEST_POLL : DPS_REQUEST_REGISTER,
        };
}

static DpsAction wait_connected(const FleetPolicy *p, const DpsReply *reply, DpsMoment at) {
        uint64_t sec = reply->has_retry_after ? reply->retry_after_sec : p->default_sec;

        return (DpsAction){ .type = DPS_ACTION_WAIT,
                            .wake_usec = at.now_usec + MIN(sec, p->told_max_sec) * USEC_PER_SEC };
}

/* ---- dps ---- */

void fleet_error_set(DpsError *error, DpsErrorId id, DpsStep step, const char *format, ...) {
        *error = (DpsError){ .id = id, .step = step };
}

static int dps_prepare(FleetDevice *d) {
        return dps_registration_new(1, NULL, &d->registration);
}

static DpsAction dps_begin(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return dps_registration_begin(d->registration, at);
}

static DpsAction dps_on_ready(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return dps_registration_on_ready(d->registration, at);
}

/* There is never more than one request of a device, so the last one is answered. */
static DpsAction dps_on_reply(const FleetPolicy *p, FleetDevice *d, const DpsReply *reply, DpsMoment at) {
        return dps_registration_on_reply(d->registration, reply, at);
}

static DpsAction dps_on_lost(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        DpsError error;

        fleet_error_set(&error, DPS_ERROR_LOST, DPS_STEP_NONE, "the network broke");
        return dps_registration_on_lost(d->registration, &error, at);
}

static DpsAction dps_on_time(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return dps_registration_on_time(d->registration, at);
}

/* ---- the others ---- */

static int other_prepare(FleetDevice *d) {
        return 0;
}

static DpsAction other_begin(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return connect_now();
}

static DpsAction other_on_ready(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        d->has_operation = false;
        return send_next(d);
}

static DpsAction other_on_time(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return d->is_connected ? send_next(d) : connect_now();
}

static DpsAction sdk_on_reply(const FleetPolicy *p, FleetDevice *d, const DpsReply *reply, DpsMoment at) {
        if (reply->status == 200)
                return (DpsAction){ .type = DPS_ACTION_FINISH, .wake_usec = USEC_INFINITY };

        if (reply->status == 202)
                d->has_operation = true;
        return wait_connected(p, reply, at);
}

static DpsAction sdk_on_lost(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return release_until(at.now_usec + APPLICATION_SEC * USEC_PER_SEC);
}

static DpsAction reconnect(FleetDevice *d, uint64_t told_sec, DpsMoment at) {
        uint64_t wait_usec = RECONNECT_FIRST_SEC * USEC_PER_SEC;

        for (uint32_t k = 0; k < d->attempts && wait_usec < RECONNECT_MAX_SEC * USEC_PER_SEC; k++)
                wait_usec *= 2;
        wait_usec = MIN(wait_usec, RECONNECT_MAX_SEC * USEC_PER_SEC);
        d->attempts++;

        wait_usec +=
                fleet_device_draw_usec(d, 2 * wait_usec / RECONNECT_JITTER) - wait_usec / RECONNECT_JITTER;
        return release_until(at.now_usec + MAX(wait_usec, told_sec * USEC_PER_SEC));
}

static DpsAction new_on_reply(const FleetPolicy *p, FleetDevice *d, const DpsReply *reply, DpsMoment at) {
        if (reply->status == 200 || reply->status == 202)
                return sdk_on_reply(p, d, reply, at);
        return reconnect(d, reply->has_retry_after ? reply->retry_after_sec : 0, at);
}

static DpsAction new_on_lost(const FleetPolicy *p, FleetDevice *d, DpsMoment at) {
        return reconnect(d, 0, at);
}

const FleetPolicy fleet_policies[_FLEET_POLICY_MAX] = {
        [FLEET_DPS] = { "dps", 0, 0, 0, dps_prepare, dps_begin, dps_on_ready, dps_on_reply, dps_on_lost,
                        dps_on_time },
        [FLEET_SDK_C] = { "azure-iot-sdk-c", USEC_PER_SEC, 1, 300, other_prepare, other_begin, other_on_ready,
                          sdk_on_reply, sdk_on_lost, other_on_time },
        [FLEET_SDK_NODE] = { "azure-iot-sdk-node", 2 * USEC_PER_SEC, 2, UINT32_MAX, other_prepare,
                             other_begin, other_on_ready, sdk_on_reply, sdk_on_lost, other_on_time },
        [FLEET_SDK_NEW] = { "azure-iot-sdk", 0, 0, UINT32_MAX, other_prepare, other_begin, other_on_ready,
                            new_on_reply, new_on_lost, other_on_time },
};
