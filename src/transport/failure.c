/* SPDX-License-Identifier: MIT */
#include "transport/failure.h"

#include <errno.h>
#include <mosquitto.h>
#include <netdb.h>
#include <string.h>

#include "basic/cleanup.h"

static DpsErrorId id_from_errno(int error) {
        switch (error) {
        case ENETUNREACH:
        case EHOSTUNREACH:
        case ENETDOWN:
        case EHOSTDOWN:
        case EADDRNOTAVAIL:
        case EAFNOSUPPORT:
        case EACCES: /* a firewall on this machine */
        case EPERM:
                return DPS_ERROR_UNREACHABLE;
        case ETIMEDOUT:
                return DPS_ERROR_TIMEOUT;
        case ENOMEM:
        case ENOBUFS:
        case EMFILE:
        case ENFILE:
                return DPS_ERROR_MEMORY;
        default:
                return DPS_ERROR_REFUSED;
        }
}

Failure failure_from_errno(int error) {
        DpsErrorId id = id_from_errno(error);

        if (id != DPS_ERROR_REFUSED)
                return (Failure){ .id = id, .what = "cannot be reached", .why = strerror(error) };
        if (error == ECONNRESET)
                return (Failure){ .id = id, .what = "accepted the connection and closed it at once" };
        /* libmosquitto loses the number of most refusals, so it is not reported. */
        return (Failure){ .id = id, .what = "refused the connection" };
}

Failure failure_from_resolver(int error) {
        return (Failure){ .id = error == EAI_MEMORY ? DPS_ERROR_MEMORY : DPS_ERROR_DNS,
                          .what = "cannot be resolved",
                          .why = gai_strerror(error) };
}

Failure failure_from_connack(int code) {
        static const Failure failures[] = {
                { DPS_ERROR_PROTOCOL, "answered the log-in with an unknown code", NULL },
                { DPS_ERROR_PROTOCOL, "refused the version of MQTT", NULL },
                { DPS_ERROR_PROTOCOL, "refused the client id", NULL },
                { DPS_ERROR_SERVICE, "is not available at the moment", NULL },
                { DPS_ERROR_AUTH, "refused the user name or the password", NULL },
                { DPS_ERROR_AUTH, "did not authorize this device", NULL },
        };

        return failures[code > 0 && (size_t) code < ELEMENTSOF(failures) ? code : 0];
}

Failure failure_from_library(int rc, const char *lost) {
        switch (rc) {
        case MOSQ_ERR_PROTOCOL:
        case MOSQ_ERR_MALFORMED_PACKET:
        case MOSQ_ERR_MALFORMED_UTF8:
        case MOSQ_ERR_PAYLOAD_SIZE:
                return (Failure){ .id = DPS_ERROR_PROTOCOL, .what = "sent something that is not MQTT" };
        case MOSQ_ERR_NOMEM:
                return (Failure){ .id = DPS_ERROR_MEMORY,
                                  .what = "cannot be reached",
                                  .why = strerror(ENOMEM) };
        default:
                return (Failure){ .id = DPS_ERROR_LOST, .what = lost };
        }
}

int failure_weight(DpsErrorId id) {
        switch (id) {
        case DPS_ERROR_NONE:
                return 0;
        case DPS_ERROR_UNREACHABLE:
                return 1;
        case DPS_ERROR_TIMEOUT:
                return 2;
        default:
                return 3;
        }
}
