/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "config/secret.h"
#include "credential/credential.h"

/* A systemd credential that does not exist yet can appear under two names. */
static int add_systemd_credential_paths(char ***paths, const char *reference) {
        static const char *const prefixes[] = { "", "dps_" };
        const char *directory = getenv("CREDENTIALS_DIRECTORY"), *name = reference;

        if (isempty(directory) || !scan_literal(&name, "credential:"))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
                int r = strv_push(paths, text_format("%s/%s%s", directory, prefixes[i], name));

                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_paths(char ***paths, char *const *references) {
        STRV_FOREACH(reference, references) {
                _cleanup_(freep) char *reason = NULL;
                char *path = NULL;
                int r;

                if (private_key_is_uri(*reference))
                        continue;
                r = secret_path(*reference, &path, &reason);
                if (r == -EAGAIN)
                        r = add_systemd_credential_paths(paths, *reference);
                else if (r >= 0)
                        r = strv_push(paths, path);
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

int credential_paths(const Settings *s, char ***ret) {
        char *const pin[] = { s->pin, NULL }, *const proxy_password[] = { s->proxy_password, NULL };
        char *const *lists[] = {
                s->keys, s->group_keys, s->certificates, s->private_keys, pin, proxy_password
        };
        _cleanup_(strv_freep) char **paths = NULL;

        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                int r = add_paths(&paths, lists[i]);

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}
