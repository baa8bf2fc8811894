/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What programs on the box get: /run/dps/NAME/. Written in the order of the contract (token, cert.pem, key.pem,
 * hub.env, connection.json), each replaced atomically, and not at all where it would not change.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "basic/cleanup.h"
#include "basic/folder.h"

/* All of one generation; strings NULL where there is none. Borrowed. */
typedef struct Connection {
        uint64_t generation;
        const char *hub, *device_id, *registration_id, *id_scope;
        uint16_t port;
        const char *auth; /* "sas" or "x509" */
        const char *token;
        uint64_t expires_at_usec;
        const char *certificate_pem; /* published as cert.pem */
        const char *key_pem;         /* published as key.pem: only with ShareKey=yes */
        const char *key_file, *key_uri;
        const char *ca_file, *proxy;
        const char *payload, *registration_state; /* JSON text */
} Connection;

typedef struct Outputs Outputs;

/* `runtime`: the folder of $RUNTIME_DIRECTORY, borrowed. */
int outputs_new(Folder *runtime, Outputs **ret);
Outputs *outputs_free(Outputs *o);
DEFINE_FREEP(Outputs, outputs_free)

/* Makes NAME/ (0750, group `gid`) if it is not there: the same directory stays for the whole boot, so that containers can
 * mount it. 1: it has our own group, as we are no member of that one and cannot give it away. */
int outputs_prepare(Outputs *o, const char *name, gid_t gid);
/* -ENOENT: somebody removed the directory; to be prepared anew. */
int outputs_publish(Outputs *o, const char *name, const Connection *connection);
/* The published connection.json. The caller erases and frees it. -ENOENT: there is none. */
int outputs_read_connection(const Outputs *o, const char *name, char **ret, size_t *ret_size);
/* What the published connection.json says, or an earlier run's: its generation, and when its credential expires
 * (USEC_INFINITY: not by what is written there, as a certificate's; 0: it has none).
 * -ENOENT: there is none; -EBADMSG: it is none of ours. */
int outputs_published(const Outputs *o, const char *name, uint64_t *ret_generation,
                      uint64_t *ret_expires_at_usec);
/* The files go, the directory stays (identity without an assignment). */
int outputs_clear(Outputs *o, const char *name);
/* The directory goes too (retired identity). */
int outputs_remove(Outputs *o, const char *name);
/* What is there under names that identities may have, whosever it is. */
int outputs_list(const Outputs *o, char ***ret);
/* Whether it is a directory such as we make, and nobody else has put anything into it. */
bool outputs_is_ours(const Outputs *o, const char *name);

/* The text of connection.json, for GetConnection(). The caller erases and frees it. */
int connection_to_json(const Outputs *o, const char *name, const Connection *connection, char **ret);
