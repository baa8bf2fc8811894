/* SPDX-License-Identifier: MIT */
#include "dps/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "basic/cleanup.h"
#include "basic/text.h"

#define WORD_MIN 32U    /* bytes that are kept of a word that is shortened */
#define WORD_CUT_MIN 8U /* bytes that are cut from it: more than the ellipsis and parts of characters need */
#define ELLIPSIS "..."

#define NETWORK "DPS may also refuse this network (its IP filter, or a private endpoint)"

/* The manual of errors. A word never changes, because programs compare it. */
static const struct {
        const char *word, *meaning, *advice;
} manual[_DPS_ERROR_MAX] = {
        [DPS_ERROR_NONE] = {
                "",
                "there is no error",
                "nothing to do",
        },
        [DPS_ERROR_DNS] = {
                "dns",
                "the endpoint's name cannot be resolved",
                "check Endpoint=, the network and its name servers: resolvectl query HOST",
        },
        [DPS_ERROR_UNREACHABLE] = {
                "unreachable",
                "there is no route to the endpoint",
                "check addresses and routes (ip address, ip route); dpsd tries again when there is a route",
        },
        [DPS_ERROR_REFUSED] = {
                "refused",
                "the endpoint refuses connections to this port",
                "check Endpoint= and its port, and whether a firewall rejects connections to it (dpsctl check)",
        },
        [DPS_ERROR_TIMEOUT] = {
                "timeout",
                "no answer came in time",
                "check that no firewall drops the port (dpsctl check); if not, DPS is slow: dpsd tries again",
        },
        [DPS_ERROR_LOST] = {
                "lost",
                "the connection broke",
                "nothing to do if it is rare; otherwise look for a firewall or proxy that cuts connections",
        },
        [DPS_ERROR_TLS] = {
                "tls",
                "the TLS handshake failed",
                "check Endpoint= and its port, and that nothing on the way blocks TLS 1.2 (dpsctl check)",
        },
        [DPS_ERROR_TLS_NAME] = {
                "tls-name",
                "the server's certificate was issued for another name",
                "check Endpoint=; if it is right, a proxy or a wrong DNS entry leads to another server",
        },
        [DPS_ERROR_TLS_EXPIRED] = {
                "tls-expired",
                "the server's certificate has expired or is not yet valid",
                "check this machine's clock first (timedatectl); if it is right, the server is not DPS",
        },
        [DPS_ERROR_TLS_UNTRUSTED] = {
                "tls-untrusted",
                "the server's certificate was not issued by a CA that this machine trusts",
                "install or update ca-certificates, or name the right root certificates in CaFile= (dpsctl check tells which)",
        },
        [DPS_ERROR_TLS_INTERCEPTED] = {
                "tls-intercepted",
                "a proxy or firewall intercepts TLS and shows a certificate of its own",
                "exempt the endpoint from TLS inspection, or name the inspector's root certificate in CaFile=",
        },
        [DPS_ERROR_AUTH] = {
                "auth",
                "DPS refused the key, token or certificate",
                "compare ID scope, registration id and key or certificate with the enrollment; check the clock (timedatectl); " NETWORK,
        },
        [DPS_ERROR_ENROLLMENT_DISABLED] = {
                "enrollment-disabled",
                "the enrollment is disabled",
                "enable the enrollment in DPS, then: dpsctl reprovision",
        },
        [DPS_ERROR_ENROLLMENT_UNKNOWN] = {
                "enrollment-unknown",
                "DPS has no enrollment for this registration id",
                "create the enrollment, then: dpsctl reprovision; or correct RegistrationId= or IdScope=, then: dpsctl reload",
        },
        [DPS_ERROR_ALLOCATION] = {
                "allocation",
                "DPS could not assign a hub",
                "check the linked hubs and the enrollment's allocation or webhook; then: dpsctl reprovision",
        },
        [DPS_ERROR_API_VERSION] = {
                "api-version",
                "DPS in this cloud does not support the API version",
                "set ApiVersion= to one that it supports, such as 2019-03-31, then: dpsctl reload",
        },
        [DPS_ERROR_REQUEST] = {
                "request",
                "DPS refused the request as invalid",
                "check what the message names; most often it is Payload= or RegistrationId=",
        },
        [DPS_ERROR_CONFLICT] = {
                "conflict",
                "another registration of the same device is in progress",
                "nothing to do if it is rare; otherwise look for a second device with this registration id",
        },
        [DPS_ERROR_THROTTLED] = {
                "throttled",
                "the devices of this ID scope together send DPS too many requests",
                "nothing to do: dpsd asks again when DPS said it may; if it lasts, spread the fleet (Splay=)",
        },
        [DPS_ERROR_SERVICE] = {
                "service",
                "DPS has an internal error",
                "nothing to do: dpsd tries again; if it lasts, give Microsoft's support the tracking id",
        },
        [DPS_ERROR_PROTOCOL] = {
                "protocol",
                "the answer is not one that DPS would give",
                "check that Endpoint= is DPS and not a proxy; if it is, report the message",
        },
        [DPS_ERROR_OPERATION_LOST] = {
                "operation-lost",
                "DPS no longer knows the registration that was in progress",
                "nothing to do: dpsd registers again",
        },
        [DPS_ERROR_CLOCK] = {
                "clock",
                "the time of day is wrong, or not known to be right",
                "check time synchronisation (timedatectl); dpsd goes on as soon as the time is right",
        },
        [DPS_ERROR_CONFIG] = {
                "config",
                "the configuration, or a file that it names, cannot be used",
                "correct what the message names (dpsctl check); then, unless it is the file of a key or certificate: dpsctl reload",
        },
        [DPS_ERROR_KEY] = {
                "key",
                "a key, certificate or token is not available yet",
                "provide what the message names; dpsd notices it by itself, but a new LoadCredential= only after: systemctl restart dpsd",
        },
        [DPS_ERROR_ISSUANCE] = {
                "issuance",
                "DPS issued no certificate that can be used",
                "for a certificate from DPS, set Request=yes in [Issuance] and link a credential policy to the enrollment; for none, Request=no; then: dpsctl reload; dpsctl reprovision",
        },
        [DPS_ERROR_DISK] = {
                "disk",
                "the state cannot be saved to disk",
                "free space in the state directory (df) or make it writable; until then dpsd works from memory",
        },
        [DPS_ERROR_MEMORY] = {
                "memory",
                "there is not enough memory",
                "free some memory; dpsd tries again",
        },
        [DPS_ERROR_PROXY] = {
                "proxy",
                "the proxy cannot be used, or it refused to connect to the endpoint",
                "check Proxy=, ProxyPassword= and NoProxy=, and what the proxy allows (its log tells)",
        },
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
        [DPS_STEP_ATTEST] = "attest",
};

/*
 * The codes of DPS. An extended code begins with its HTTP status, and the first row that matches counts: a
 * narrow range stands before a wide one. A code in no row is final, because DPS has understood and refused
 * the request, and to ask again would flood it. A row without advice has that of its id.
 */
static const struct {
        uint32_t first, last;
        DpsErrorId id;
        DpsVerdict verdict;
        const char *meaning, *advice;
} codes[] = {
        { 400004, 400004, DPS_ERROR_API_VERSION, DPS_VERDICT_FINAL, "the API version is not supported",
          NULL },
        { 400207, 400207, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL, "the custom allocation webhook failed",
          "look into the webhook's log; the message may say what it answered; then: dpsctl reprovision" },
        { 400208, 400208, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL, "the enrollment has no hub to assign",
          "link a hub to DPS and select it in the enrollment; then: dpsctl reprovision" },
        { 400209, 400209, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL, "the hub refused DPS",
          "link the hub to DPS again, because its key or rights have changed; then: dpsctl reprovision" },
        { 401000, 401000, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the token was refused",
          "check that Key= is this enrollment's key, or GroupKey= its group's, and that there is an "
          "enrollment: in a group's scope, an unknown registration id is refused like this too; check the "
          "clock (timedatectl); " NETWORK },
        { 401002, 401002, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the certificate or token was refused",
          "check that Certificate= has every certificate between the device's and the CA of an enrollment "
          "group (dpsctl check), that the enrollment has this certificate or CA, and the clock "
          "(timedatectl); " NETWORK },
        { 404201, 404201, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL,
          "there is no enrollment for this registration id", NULL },
        { 409203, 409203, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY,
          "another registration of this device is in progress", NULL },
        { 400, 400, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL, "the request is invalid", NULL },
        { 401, 401, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the credential was refused", NULL },
        { 403, 403, DPS_ERROR_AUTH, DPS_VERDICT_FINAL, "the device is not allowed to register",
          "check whether the enrollment allows this device; " NETWORK },
        { 404, 404, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL,
          "there is no such DPS instance or enrollment", NULL },
        { 408, 408, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY, "the request took too long", NULL },
        { 409, 409, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY, "the request conflicts with another one", NULL },
        { 429, 429, DPS_ERROR_THROTTLED, DPS_VERDICT_RETRY, "there are too many requests", NULL },
        { 499, 499, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY, "the request was cancelled", NULL },
        { 402, 498, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL, "the request is invalid", NULL },
        { 500, 599, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY, "DPS has an internal error", NULL },
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
                                          codes[k].advice ?: manual[codes[k].id].advice };
        }
        return (DpsCode){ DPS_ERROR_REQUEST, DPS_VERDICT_FINAL, "the request was refused",
                          manual[DPS_ERROR_REQUEST].advice };
}

const char *dps_error_advice(const DpsError *error) {
        DpsCode code = dps_code_lookup(error->code);

        return code.id == error->id ? code.advice : manual[error->id].advice;
}

static char *find_longest_word(char *text, size_t *ret_size) {
        char *longest = text;

        *ret_size = 0;
        for (size_t n; *text; text += n) {
                text += strspn(text, " ");
                n = strcspn(text, " ");
                if (n > *ret_size) {
                        longest = text;
                        *ret_size = n;
                }
        }
        return longest;
}

static char *next_character(char *p) {
        while ((*p & 0xc0) == 0x80)
                p++;
        return p;
}

/*
 * Cuts the middle out of long words, which are most likely paths: the ends of a path tell which file it is,
 * and the cause follows it.
 */
static void shorten(char *text, size_t max) {
        size_t size, n;

        while ((size = strlen(text)) > max) {
                char *word = find_longest_word(text, &n), *from, *to;

                if (n < WORD_MIN + WORD_CUT_MIN)
                        return;
                to = word + n;
                n -= MIN(size - max + WORD_CUT_MIN, n - WORD_MIN);
                from = next_character(word + n / 2);
                to = next_character(to - n / 2);
                memcpy(from, ELLIPSIS, strlen(ELLIPSIS));
                from += strlen(ELLIPSIS);
                memmove(from, to, strlen(to) + 1);
        }
}

void dps_error_set(DpsError *error, DpsErrorId id, DpsStep step, const char *format, ...) {
        _cleanup_(freep) char *message = NULL;
        va_list ap;

        va_start(ap, format);
        message = text_vformat(format, ap);
        va_end(ap);

        *error = (DpsError){ .id = id, .step = step };
        if (!message) {
                (void) snprintf(error->message, sizeof(error->message), "%s", manual[id].meaning);
                return;
        }

        /* Before it is shortened: only valid UTF-8 can be cut between characters. */
        text_make_presentable(message, strlen(message), strlen(message), message);
        shorten(message, DPS_MESSAGE_MAX - 1);
        text_make_presentable(message, strlen(message), DPS_MESSAGE_MAX - 1, error->message);
}
