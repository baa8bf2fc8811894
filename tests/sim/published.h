/* SPDX-License-Identifier: MIT */
#pragma once

/* What programs find in the runtime folder of an identity. */

#include <json-c/json.h>

#include "sim.h"

/* All of it is borrowed until a file changes. */
typedef struct PublishedFiles {
        json_object *connection;
        uint64_t generation, env_generation;
        const char *password, *token, *hub;
} PublishedFiles;

/* False: there is no connection.json. */
bool published_read(const Sim *s, const char *folder, PublishedFiles *ret);
/* Whether there are a key and the certificate of that key. */
bool published_is_whole(const Sim *s, const char *folder, const PublishedFiles *p);
/* Whether the key can sign, unless somebody else took it away. */
bool published_key_serves(const Sim *s, const char *folder, const PublishedFiles *p);
/* At the end of a simulation. */
void published_forget(void);
