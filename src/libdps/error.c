/* SPDX-License-Identifier: MIT */
#include "dps/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "basic/cleanup.h"
#include "basic/text.h"

/* The manual of errors: each id with what it means and what to do. Words never change; rows may be added. */
static const struct {
        const char *word, *meaning, *advice;
} manual[_DPS_ERROR_MAX] = {
        [DPS_ERROR_NONE] = { "", "nothing is wrong", "nothing is to be done" },
        [DPS_ERROR_DNS] = { "dns", "the name of the endpoint cannot be resolved",
                            "check the network and its name servers (resolvectl query NAME), and Endpoint=" },
        [DPS_ERROR_UNREACHABLE] = { "unreachable", "there is no way to the endpoint",
                                    "check routes and addresses (ip route, ip address); tried again when one "
                                    "appears" },
        [DPS_ERROR_REFUSED] = { "refused", "the endpoint does not take connections at this port",
                                "check Endpoint= and MqttPort=, and whether a firewall rejects port 8883" },
        [DPS_ERROR_TIMEOUT] = { "timeout", "no answer came in time",
                                "check whether a firewall drops port 8883; otherwise the service is slow and "
                                "it is "
                                "tried again" },
        [DPS_ERROR_LOST] = { "lost", "the connection broke", "nothing, if it is rare; it is tried again" },
        [DPS_ERROR_TLS] = { "tls", "the TLS handshake failed",
                            "check that TLS 1.2 gets through to the endpoint, and that it is the right one" },
        [DPS_ERROR_TLS_NAME] = { "tls-name", "the server's certificate is for another name",
                                 "check Endpoint=; if it is right, somebody else answers in its place" },
        [DPS_ERROR_TLS_EXPIRED] = { "tls-expired", "the server's certificate is expired or not yet valid",
                                    "check the clock of this machine first (timedatectl)" },
        [DPS_ERROR_TLS_UNTRUSTED] = { "tls-untrusted",
                                      "the server's certificate is of no authority that is trusted here",
                                      "install ca-certificates, or name the right roots in CaFile=" },
        [DPS_ERROR_TLS_INTERCEPTED] = { "tls-intercepted",
                                        "something on the way answers with a certificate of its own",
                                        "have the endpoint excepted from TLS inspection, or name the "
                                        "inspector's root "
                                        "in CaFile=" },
        [DPS_ERROR_AUTH] = { "auth", "DPS refused key, token or certificate",
                             "check key or certificate against the enrollment, the registration id, the ID "
                             "scope and "
                             "the clock" },
        [DPS_ERROR_ENROLLMENT_DISABLED] = { "enrollment-disabled", "the enrollment is disabled",
                                            "enable the enrollment in DPS, then dpsctl reprovision NAME" },
        [DPS_ERROR_ENROLLMENT_UNKNOWN] = { "enrollment-unknown",
                                           "DPS has no enrollment for this registration id",
                                           "create the enrollment, or check RegistrationId= and IdScope=" },
        [DPS_ERROR_ALLOCATION] = { "allocation", "DPS could not assign a hub",
                                   "check the hubs linked to DPS and the enrollment's allocation (or its "
                                   "webhook)" },
        [DPS_ERROR_API_VERSION] = { "api-version", "this cloud does not take the API version",
                                    "set ApiVersion= to one that it takes, such as 2019-03-31" },
        [DPS_ERROR_REQUEST] = { "request", "DPS did not take the request",
                                "check Payload= and the configuration" },
        [DPS_ERROR_CONFLICT] = { "conflict", "another registration of the same device is under way",
                                 "nothing, if it is rare; else look for a second device with this "
                                 "registration id" },
        [DPS_ERROR_THROTTLED] = { "throttled", "DPS is asked too often by all its devices together",
                                  "nothing: it is tried again when DPS said; spread the fleet with Splay=" },
        [DPS_ERROR_SERVICE] = { "service", "DPS has trouble of its own", "nothing: it is tried again" },
        [DPS_ERROR_PROTOCOL] = { "protocol", "the answer is not one that DPS would give",
                                 "check that Endpoint= is DPS; if it is, report the message" },
        [DPS_ERROR_OPERATION_LOST] = { "operation-lost",
                                       "DPS no longer knows the registration that it had begun",
                                       "nothing: it is registered anew" },
        [DPS_ERROR_CLOCK] = { "clock", "the time of day is wrong, or not known to be right",
                              "check time synchronisation (timedatectl); acted on as soon as it is right" },
        [DPS_ERROR_CONFIG] = { "config", "the configuration, or a file that it names, cannot be used",
                               "mend what the message names, then systemctl reload dpsd" },
        [DPS_ERROR_KEY] = { "key", "a key, certificate or credential is not there yet",
                            "provide it; it is noticed by itself" },
        [DPS_ERROR_DISK] = { "disk", "the disk does not take the state",
                             "free space in the state directory, or make it writable; served from memory "
                             "meanwhile" },
        [DPS_ERROR_MEMORY] = { "memory", "there is not enough memory", "free some; it is tried again" },
};

static const char *const steps[_DPS_STEP_MAX] = {
        [DPS_STEP_NONE] = "",
        [DPS_STEP_CONFIG] = "config",
        [DPS_STEP_RESOLVE] = "resolve",
        [DPS_STEP_CONNECT] = "connect",
        [DPS_STEP_TLS] = "tls",
        [DPS_STEP_LOGIN] = "login",
        [DPS_STEP_SUBSCRIBE] = "subscribe",
        [DPS_STEP_REGISTER] = "register",
        [DPS_STEP_POLL] = "poll",
        [DPS_STEP_STORE] = "store",
};

/*
 * An extended code begins with its HTTP status (dps-protocol §5.5). The narrower row comes first; a code in no row
 * is final: to ask again what DPS has understood and denied is a flood.
 */
static const struct {
        uint32_t first, last;
        DpsErrorId id;
        DpsVerdict verdict;
        const char *meaning;
} codes[] = {
        { 400004, 400004, DPS_ERROR_API_VERSION, DPS_VERDICT_FINAL, "the API version is not supported" },
        { 400207, 400207, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL, "the custom allocation webhook failed" },
        { 400208, 400208, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL, "the enrollment has no hub to assign" },
        { 400209, 400209, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL, "the hub refused DPS" },
        { 401000, 401000, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the token was refused" },
        { 401002, 401002, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the certificate or token was refused" },
        { 404201, 404201, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL,
          "there is no enrollment for this registration id" },
        { 409203, 409203, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY,
          "another registration of this device is under way" },
        { 400, 400, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL, "the request was not taken" },
        { 401, 401, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the credential was refused" },
        { 403, 403, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the device is not permitted" },
        { 404, 404, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL,
          "DPS instance or enrollment does not exist" },
        { 408, 408, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY, "the request took too long" },
        { 409, 409, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY, "the request is in conflict with another one" },
        { 429, 429, DPS_ERROR_THROTTLED, DPS_VERDICT_RETRY, "there are too many requests" },
        { 499, 499, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY, "the request was cancelled" },
        { 402, 498, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL, "the request was not taken" },
        { 500, 599, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY, "the service has trouble" },
};

const char *dps_error_id_to_string(DpsErrorId id) {
        return manual[id].word;
}

int dps_error_id_from_string(const char *word, DpsErrorId *ret) {
        for (DpsErrorId id = DPS_ERROR_NONE + 1; id < _DPS_ERROR_MAX; id++)
                if (streq(manual[id].word, word)) {
                        *ret = id;
                        return 0;
                }
        return -EINVAL;
}

const char *dps_step_to_string(DpsStep step) {
        return steps[step];
}

const char *dps_error_id_meaning(DpsErrorId id) {
        return manual[id].meaning;
}

const char *dps_error_id_advice(DpsErrorId id) {
        return manual[id].advice;
}

DpsCode dps_code_lookup(uint32_t code) {
        uint32_t status = code >= 1000 ? code / 1000 : code;

        for (size_t k = 0; k < ELEMENTSOF(codes); k++) {
                uint32_t wanted = codes[k].first >= 1000 ? code : status;

                if (wanted >= codes[k].first && wanted <= codes[k].last)
                        return (DpsCode){ codes[k].id, codes[k].verdict, codes[k].meaning,
                                          manual[codes[k].id].advice };
        }
        return (DpsCode){ DPS_ERROR_REQUEST, DPS_VERDICT_FINAL, "the request was not taken",
                          manual[DPS_ERROR_REQUEST].advice };
}

void dps_error_set(DpsError *error, DpsErrorId id, DpsStep step, const char *format, ...) {
        /* Longer, so that the cut to size sees the last character whole. */
        char message[DPS_MESSAGE_MAX + 3];
        _cleanup_(freep) char *safe = NULL;
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);

        *error = (DpsError){ .id = id, .step = step };
        safe = text_for_people(message, strlen(message), sizeof(error->message) - 1);
        (void) snprintf(error->message, sizeof(error->message), "%s", safe ?: manual[id].meaning);
}
