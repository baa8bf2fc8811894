/* SPDX-License-Identifier: MIT */
#include "dpsd/publication.h"

#include <errno.h>

#include "basic/times.h"
#include "dps/sas.h"

#define HUB_PORT 8883

void publication_to_connection(const Publication *p, Connection *ret) {
        const ClientCertificate *certificate = p->certificate;
        const char *key = certificate ? certificate->key_reference : NULL;
        const Assignment *a = p->assignment;

        *ret = (Connection){
                .generation = a->generation,
                .hub = a->hub,
                .device_id = a->device_id,
                .registration_id = a->registration_id,
                .id_scope = a->id_scope,
                .port = HUB_PORT,
                .auth = hub_auth_to_string(a->hub_auth),
                .token = p->token,
                .expires_at_usec = p->token ? a->token_expires_at_usec : 0,
                .certificate_pem = certificate ? certificate->pem : NULL,
                .key_pem = certificate ? certificate->key_pem : NULL,
                .key_file = key && key[0] == '/' ? key : NULL,
                .key_uri = key && key[0] != '/' ? key : NULL,
                .ca_file = p->settings && p->settings->ca_files ? p->settings->ca_files[0] : NULL,
                .payload = a->payload,
                .registration_state = a->registration_state,
        };
}

Standing publication_standing(const Outputs *o, const char *name, const Assignment *a,
                              uint64_t realtime_usec) {
        uint64_t generation, expires_at;
        int r;

        r = outputs_published(o, name, &generation, &expires_at);
        if (r == -ENOENT || r == -EBADMSG || (r >= 0 && generation != a->generation))
                return STANDING_NOTHING;
        if (r < 0) /* the files could not be read; files that may exist must not be replaced by less */
                return STANDING_BARE;
        if (expires_at > realtime_usec &&
            (expires_at == a->token_expires_at_usec || expires_at == USEC_INFINITY))
                return STANDING_COMPLETE;
        return STANDING_BARE;
}

int publication_resource(const Assignment *a, char **ret) {
        return dps_sas_resource_hub(a->hub, a->device_id, ret);
}
