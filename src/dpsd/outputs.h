/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The files that programs on this machine get, in /run/dps/NAME/. They are written in the order of the
 * contract (token, cert.pem, key.pem, hub.env, connection.json). Each is replaced atomically, and only if it
 * changes.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "basic/cleanup.h"
#include "basic/folder.h"

/* All values belong to one generation. Strings are NULL if there is no value. Borrowed. */
typedef struct Connection {
        uint64_t generation;
        const char *hub, *device_id, *registration_id, *id_scope;
        uint16_t port;
        const char *auth; /* "sas" or "x509" */
        const char *token;
        uint64_t expires_at_usec;
        const char *certificate_pem;  /* published as cert.pem */
        const char *key_pem;          /* published as key.pem: only with ShareKey=yes, or of an issued one */
        const char *certificate_kind; /* "onboarding" or "issued" */
        uint64_t certificate_expires_at_usec;
        const char *connection_profile; /* DPS's word for the kind of hub */
        unsigned mqtt_version;          /* 4 or 5; 0: the kind of hub is not known, so neither is this */
        bool lacks_username; /* a hub of MQTT 5 takes a user name only once: each connection needs a new one */
        const char *key_file, *key_uri;
        const char *ca_file, *proxy;
        const char *payload, *registration_state; /* JSON text */
} Connection;

/* What Api=yes adds to the files: a socket, which is made and opened by the module "api". */
#define API_SOCKET "api.sock"

/* `runtime` is the folder of $RUNTIME_DIRECTORY: the directory of all identities' directories. */

/* Makes NAME/ (0750, group `gid`) if it does not exist. The directory is never replaced during a boot, so
 * that containers can mount it. 1: the directory has our own group, because we are not a member of `gid` and
 * so cannot give it away. */
int outputs_prepare(Folder *runtime, const char *name, gid_t gid);
/* 1: connection.json has changed. -ENOENT: somebody removed the directory; call outputs_prepare() again. */
int outputs_publish(Folder *runtime, const char *name, const Connection *connection);
/* Makes dps-consumers.path start the service that restarts the units of RestartUnits= and ReloadUnits=. The flag is a
 * directory, since those are made in one step, and root can remove one without asking what it is. */
int outputs_flag(Folder *runtime, const char *name);
/* Reads the published connection.json. The caller erases and frees it. -ENOENT: there is none. */
int outputs_read_connection(Folder *runtime, const char *name, char **ret, size_t *ret_size);
/* Reads from the published connection.json, perhaps of an earlier run, its generation and when its credential
 * expires (USEC_INFINITY: the file names no expiry, as for a certificate; 0: there is no credential).
 * -ENOENT: there is no such file. -EBADMSG: it was not written by us. */
int outputs_published(Folder *runtime, const char *name, uint64_t *ret_generation,
                      uint64_t *ret_expires_at_usec);
/* Removes the files but not the directory (for an identity without an assignment). */
int outputs_clear(Folder *runtime, const char *name);
/* Removes the directory too (for a retired identity). */
int outputs_remove(Folder *runtime, const char *name);
/* Lists everything whose name could be an identity's, whoever owns it. */
int outputs_list(Folder *runtime, char ***ret);
/* Whether it is a directory as we make it, with no files of anybody else in it. */
bool outputs_is_ours(Folder *runtime, const char *name);

/* Makes the text of connection.json, for GetConnection(). The caller erases and frees it. */
int connection_to_json(Folder *runtime, const char *name, const Connection *connection, char **ret);
