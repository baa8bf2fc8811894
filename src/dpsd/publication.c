/* SPDX-License-Identifier: MIT */
#include "dpsd/publication.h"

#include <errno.h>
#include <strings.h>

#include "basic/times.h"
#include "client/route.h"
#include "dps/reply.h"
#include "dps/sas.h"

#define HUB_PORT 8883

void publication_to_connection(const Publication *p, Connection *ret) {
        const ClientCertificate *certificate = p->certificate;
        const char *key = certificate ? certificate->key_reference : NULL;
        const Assignment *a = p->assignment;
        bool is_v5 = dps_connection_profile_is_v5(a->connection_profile);
        bool is_classic = !a->connection_profile || strcasecmp(a->connection_profile, "classic") == 0;

        *ret = (Connection){
                .generation = a->generation,
                .hub = a->hub,
                .device_id = a->device_id,
                .registration_id = a->registration_id,
                .id_scope = a->id_scope,
                .port = HUB_PORT,
                .auth = assignment_lacks_credential(a) ? NULL : hub_auth_to_string(assignment_hub_auth(a)),
                .connection_profile = a->connection_profile ?: "classic",
                .mqtt_version = is_v5        ? 5
                                : is_classic ? 4
                                             : 0,
                .lacks_username = !is_classic,
                .token = p->token,
                .expires_at_usec = p->token ? a->token_expires_at_usec : 0,
                .certificate_pem = certificate ? certificate->pem : NULL,
                .key_pem = certificate ? certificate->key_pem : NULL,
                .certificate_kind = certificate ? a->issued ? "issued" : "onboarding" : NULL,
                .certificate_expires_at_usec = certificate ? certificate->not_after_usec : 0,
                .key_file = key && key[0] == '/' ? key : NULL,
                .key_uri = key && key[0] != '/' ? key : NULL,
                .ca_file = p->settings && p->settings->ca_files ? p->settings->ca_files[0] : NULL,
                .proxy = p->proxy,
                .payload = a->payload,
                .registration_state = a->registration_state,
        };
}

int publication_proxy(const Settings *settings, const char *hub, char **ret) {
        _cleanup_(proxy_freep) Proxy *proxy = NULL;
        _cleanup_(freep) char *reason = NULL;
        int r;

        *ret = NULL;
        if (!settings)
                return 0;
        r = route_choose(settings, hub, &proxy, &reason);
        if (r == -ENOMEM)
                return r;
        /* A proxy of the environment may be invalid. That is reported when dpsd itself uses it. */
        return r < 0 || !proxy ? 0 : proxy_to_url(proxy, ret);
}

void publication_look(Folder *runtime, const char *name, Published *ret) {
        Published p = { 0 };
        int r;

        r = outputs_published(runtime, name, &p.generation, &p.expires_at_usec);
        p.state = r >= 0                          ? PUBLISHED_FILES
                  : r == -ENOENT || r == -EBADMSG ? PUBLISHED_NOTHING
                                                  : PUBLISHED_UNREADABLE;
        *ret = p;
}

Standing publication_standing(const Published *p, const Assignment *a, uint64_t realtime_usec) {
        if (p->state == PUBLISHED_UNKNOWN)
                return STANDING_UNKNOWN;
        if (p->state == PUBLISHED_UNREADABLE) /* files that may exist must not be replaced by less */
                return STANDING_BARE;
        if (p->state == PUBLISHED_NOTHING || p->generation != a->generation)
                return STANDING_NOTHING;
        if (p->expires_at_usec > realtime_usec &&
            (p->expires_at_usec == a->token_expires_at_usec || p->expires_at_usec == USEC_INFINITY))
                return STANDING_COMPLETE;
        return STANDING_BARE;
}

int publication_resource(const Assignment *a, char **ret) {
        return dps_sas_resource_hub(a->hub, a->device_id, ret);
}
