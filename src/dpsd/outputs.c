/* SPDX-License-Identifier: MIT */
#include "dpsd/outputs.h"

#include <ctype.h>
#include <errno.h>

#include "basic/contract.h"
#include "basic/files.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "config/conf.h"
#include "dps/request.h"

/*
 * All files of an identity are first made in memory and then written. A file that names others is written
 * after them. Files that no longer apply are removed last, in the opposite order, so that no file ever names
 * one that does not exist.
 */

#define OUTPUT_MODE 0640
#define DIRECTORY_MODE 0750
#define CONNECTION_SIZE_MAX (1024U * 1024)

typedef enum OutputFile {
        OUTPUT_TOKEN,
        OUTPUT_CERTIFICATE,
        OUTPUT_KEY,
        OUTPUT_ENVIRONMENT,
        OUTPUT_CONNECTION,
        _OUTPUT_MAX,
} OutputFile;

/* In the order in which they are published, and then what else may be there. */
static const char *const file_names[] = {
        [OUTPUT_TOKEN] = "token",
        [OUTPUT_CERTIFICATE] = "cert.pem",
        [OUTPUT_KEY] = "key.pem",
        [OUTPUT_ENVIRONMENT] = "hub.env",
        [OUTPUT_CONNECTION] = "connection.json",
        [_OUTPUT_MAX] = API_SOCKET,
        ".",
        "..",
        NULL,
};

/* --- hub.env -------------------------------------------------------------------------------------------- */

/* systemd and the shell both remove one backslash before these characters, and before no others. */
#define ESCAPED "\\\"$`"

static bool is_bare(const char *value) {
        for (const char *p = value; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr("._:-", *p))
                        return false;
        return true;
}

static int write_variable(FILE *f, const char *name, const char *value) {
        if (!value)
                return 0;
        for (const char *p = value; *p; p++)
                if (iscntrl((unsigned char) *p))
                        return -EINVAL;

        if (is_bare(value)) {
                (void) fprintf(f, "%s=%s\n", name, value);
                return 0;
        }
        (void) fprintf(f, "%s=\"", name);
        for (const char *p = value; *p; p++) {
                if (strchr(ESCAPED, *p))
                        (void) fputc('\\', f);
                (void) fputc(*p, f);
        }
        (void) fputs("\"\n", f);
        return 0;
}

/* --- derived values ------------------------------------------------------------------------------------- */

/* Values of the files that are derived from the connection. */
typedef struct Derived {
        char *username;
        char *token_file, *certificate_file, *key_file; /* paths; NULL: there is no such file */
} Derived;

static void derived_done(Derived *d) {
        free(d->username);
        free(d->token_file);
        free(d->certificate_file);
        free(d->key_file);
}

static int output_path(Folder *runtime, const char *name, OutputFile file, const char *content, char **ret) {
        *ret = content ? text_format("%s/%s/%s", runtime->path, name, file_names[file]) : NULL;
        return content && !*ret ? -ENOMEM : 0;
}

static int derive(Folder *runtime, const char *name, const Connection *c, Derived *ret) {
        int r;

        r = !c->lacks_username ? dps_hub_username(c->hub, c->device_id, &ret->username) : 0;
        if (r < 0)
                return r;
        r = output_path(runtime, name, OUTPUT_TOKEN, c->token, &ret->token_file);
        if (r < 0)
                return r;
        r = output_path(runtime, name, OUTPUT_CERTIFICATE, c->certificate_pem, &ret->certificate_file);
        if (r < 0)
                return r;
        if (c->key_pem)
                return output_path(runtime, name, OUTPUT_KEY, c->key_pem, &ret->key_file);
        if (!c->key_file)
                return 0;
        ret->key_file = strdup(c->key_file);
        return ret->key_file ? 0 : -ENOMEM;
}

static int environment_to_text(const Connection *c, const Derived *d, char **ret) {
        _cleanup_(freep) char *text = NULL;
        char generation[24], port[8];
        size_t size;
        FILE *f;
        int r = 0;

        (void) snprintf(generation, sizeof(generation), "%llu", (unsigned long long) c->generation);
        (void) snprintf(port, sizeof(port), "%u", (unsigned) c->port);
        const struct {
                const char *name, *value;
        } variables[] = {
                { "IOTHUB_HOSTNAME", c->hub },
                { "IOTHUB_DEVICE_ID", c->device_id },
                { "IOTHUB_REGISTRATION_ID", c->registration_id },
                { "IOTHUB_ID_SCOPE", c->id_scope },
                { "IOTHUB_CLIENT_ID", c->device_id },
                { "IOTHUB_USERNAME", d->username },
                { "IOTHUB_AUTH", c->auth },
                { "IOTHUB_TOKEN_FILE", d->token_file },
                { "IOTHUB_CERT_FILE", d->certificate_file },
                { "IOTHUB_KEY_FILE", d->key_file },
                { "IOTHUB_KEY_URI", c->key_uri },
                { "IOTHUB_PORT", port },
                { "IOTHUB_CA_FILE", c->ca_file },
                { "IOTHUB_CONNECTION_PROFILE", c->connection_profile },
                { "IOTHUB_GENERATION", generation },
        };

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(variables); i++)
                r = write_variable(f, variables[i].name, variables[i].value);
        if (fclose(f) != 0 || !text)
                return -ENOMEM;
        if (r < 0)
                return r;

        *ret = TAKE_PTR(text);
        return 0;
}

static int add_connection(json_object *o, const Connection *c, const Derived *d) {
        const struct {
                const char *name, *value;
        } texts[] = {
                { "hub", c->hub },
                { "deviceId", c->device_id },
                { "registrationId", c->registration_id },
                { "idScope", c->id_scope },
                { "clientId", c->device_id },
                { "username", d->username },
                { "auth", c->auth },
                { "certificateFile", d->certificate_file },
                { "keyFile", d->key_file },
                { "keyUri", c->key_uri },
                { "certificateKind", d->certificate_file ? c->certificate_kind : NULL },
                { "connectionProfile", c->connection_profile },
                { "caFile", c->ca_file },
                { "proxy", c->proxy },
        };
        int r;

        r = json_add_u64(o, "generation", c->generation);
        if (r >= 0)
                r = json_add_u64(o, "port", c->port);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(texts); i++)
                r = json_add_string(o, texts[i].name, texts[i].value);
        if (r >= 0 && c->mqtt_version > 0)
                r = json_add_u64(o, "mqttVersion", c->mqtt_version);
        if (r >= 0 && c->certificate_expires_at_usec > 0)
                r = json_add_u64(o, "certificateExpiresAt", c->certificate_expires_at_usec);
        if (r >= 0)
                r = json_add_text(o, "payload", c->payload);
        if (r >= 0)
                r = json_add_text(o, "registrationState", c->registration_state);
        if (r >= 0 && c->token)
                r = json_add_u64(o, "expiresAt", c->expires_at_usec);
        /* The password comes last, because json-c's buffer would leave a copy in the heap each time it grows
         * after it. */
        return r < 0 ? r : json_add_string(o, "password", c->token);
}

static void wipe(const char *text) {
        if (text)
                explicit_bzero((void *) (uintptr_t) text, strlen(text));
}

/* Copies the text and adds a line break. */
static int copy_line(const char *text, char **ret) {
        size_t size = strlen(text);
        char *copy = malloc(size + 2);

        if (!copy)
                return -ENOMEM;
        memcpy(copy, text, size);
        memcpy(copy + size, "\n", 2);
        *ret = copy;
        return 0;
}

static int derived_to_json(const Connection *c, const Derived *d, char **ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        const char *text;
        int r;

        if (!o)
                return -ENOMEM;
        r = add_connection(o, c, d);
        if (r < 0)
                return r;

        text = json_render(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
        r = text ? copy_line(text, ret) : -ENOMEM;
        wipe(text);
        wipe(json_string(json_member(o, "password")));
        return r;
}

int connection_to_json(Folder *runtime, const char *name, const Connection *connection, char **ret) {
        _cleanup_(derived_done) Derived derived = { 0 };
        int r;

        r = derive(runtime, name, connection, &derived);
        if (r < 0)
                return r;
        return derived_to_json(connection, &derived, ret);
}

/* --- files ---------------------------------------------------------------------------------------------- */

/* NULL: this file does not apply. */
typedef struct Contents {
        char *texts[_OUTPUT_MAX];
} Contents;

static void contents_done(Contents *c) {
        for (size_t i = 0; i < _OUTPUT_MAX; i++)
                c->texts[i] = erase_and_free(c->texts[i]);
}

static int make_contents(Folder *runtime, const char *name, const Connection *c, Contents *ret) {
        const char *const texts[] = {
                [OUTPUT_TOKEN] = c->token,
                [OUTPUT_CERTIFICATE] = c->certificate_pem,
                [OUTPUT_KEY] = c->key_pem,
        };
        _cleanup_(derived_done) Derived derived = { 0 };
        int r;

        r = derive(runtime, name, c, &derived);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                ret->texts[i] = texts[i] ? strdup(texts[i]) : NULL;
                if (texts[i] && !ret->texts[i])
                        return -ENOMEM;
        }
        r = environment_to_text(c, &derived, &ret->texts[OUTPUT_ENVIRONMENT]);
        if (r < 0)
                return r;
        return derived_to_json(c, &derived, &ret->texts[OUTPUT_CONNECTION]);
}

/* Whether the file already has this text, group and mode. */
static bool is_current(Folder *f, const char *name, const char *text, gid_t gid) {
        _cleanup_(erase_and_freep) char *old = NULL;
        FileFacts facts;
        size_t size;

        if (folder_look(f, name, &facts) < 0 || !facts.is_regular || facts.gid != gid ||
            facts.mode != OUTPUT_MODE || facts.size != strlen(text))
                return false;
        return folder_read(f, name, strlen(text), &old, &size) >= 0 && size == strlen(text) &&
               streq(old, text);
}

/* 1: connection.json, and so what programs are to use, has changed. */
static int write_contents(Folder *f, const Contents *c) {
        bool is_changed = false;
        FileFacts facts;
        int r;

        r = folder_look(f, ".", &facts);
        if (r < 0)
                return r;
        for (size_t i = 0; i < _OUTPUT_MAX; i++) {
                const char *text = c->texts[i];

                if (!text || is_current(f, file_names[i], text, facts.gid))
                        continue;
                r = folder_write(f, file_names[i], text, strlen(text), OUTPUT_MODE, facts.gid);
                if (r < 0)
                        return r;
                is_changed = i == OUTPUT_CONNECTION;
        }
        return is_changed;
}

/* Removes all files without contents. A failure does not keep the others from being removed; the first one is
 * returned. */
static int remove_others(Folder *f, const Contents *c) {
        int r = 0;

        for (size_t i = _OUTPUT_MAX; i-- > 0;) {
                int k = c->texts[i] ? 0 : folder_remove(f, file_names[i]);

                if (r >= 0 && k != -ENOENT)
                        r = k;
        }
        return r;
}

int outputs_prepare(Folder *runtime, const char *name, gid_t gid) {
        _cleanup_(folder_freep) Folder *f = NULL;
        bool is_refused;
        int r;

        r = folder_make_folder(runtime, name, DIRECTORY_MODE, gid, &f);
        is_refused = r == -EPERM && gid != getegid();
        if (is_refused)
                r = folder_make_folder(runtime, name, DIRECTORY_MODE, getegid(), &f);
        if (r < 0)
                return r;
        /* Of an earlier run, or of another group; whoever listens makes it again. */
        (void) folder_remove(f, API_SOCKET);
        return is_refused;
}

int outputs_publish(Folder *runtime, const char *name, const Connection *connection) {
        _cleanup_(contents_done) Contents contents = { 0 };
        _cleanup_(folder_freep) Folder *f = NULL;
        int r, k;

        r = folder_open_folder(runtime, name, &f);
        if (r < 0)
                return r;
        r = make_contents(runtime, name, connection, &contents);
        if (r < 0)
                return r;
        r = write_contents(f, &contents);
        if (r < 0)
                return r;
        k = remove_others(f, &contents);
        return k < 0 ? k : r;
}

int outputs_flag(Folder *runtime, const char *name) {
        _cleanup_(folder_freep) Folder *flags = NULL, *flag = NULL;
        int r;

        r = folder_make_folder(runtime, CONSUMERS_FLAGS, 0700, (gid_t) -1, &flags);
        if (r < 0)
                return r;
        r = folder_make_folder(flags, name, 0700, (gid_t) -1, &flag);
        return r == -ENOENT ? 0 : r; /* it has been seen already */
}

int outputs_read_connection(Folder *runtime, const char *name, char **ret, size_t *ret_size) {
        _cleanup_(folder_freep) Folder *f = NULL;
        int r;

        r = folder_open_folder(runtime, name, &f);
        return r < 0 ? r : folder_read(f, file_names[OUTPUT_CONNECTION], CONNECTION_SIZE_MAX, ret, ret_size);
}

/* Whether somebody has removed it. */
static bool lacks(Folder *f, bool is_expected, OutputFile file) {
        FileFacts facts;

        return is_expected && folder_look(f, file_names[file], &facts) == -ENOENT;
}

int outputs_published(Folder *runtime, const char *name, uint64_t *ret_generation,
                      uint64_t *ret_expires_at_usec) {
        _cleanup_(erase_and_freep) char *text = NULL;
        _cleanup_(json_freep) json_object *connection = NULL;
        _cleanup_(folder_freep) Folder *f = NULL;
        uint64_t generation, expires_at = 0;
        json_object *expiry;
        const char *reason;
        size_t size;
        int r;

        r = folder_open_folder(runtime, name, &f);
        if (r >= 0)
                r = folder_read(f, file_names[OUTPUT_CONNECTION], CONNECTION_SIZE_MAX, &text, &size);
        if (r < 0)
                return r;
        r = json_read_object(text, size, CONNECTION_SIZE_MAX, &connection, &reason);
        if (r < 0)
                return r;
        wipe(json_string(json_member(connection, "password")));
        if (json_u64(json_member(connection, "generation"), INT64_MAX, &generation) < 0)
                return -EBADMSG;
        expiry = json_member(connection, "expiresAt");
        if (expiry && json_u64(expiry, INT64_MAX, &expires_at) < 0)
                return -EBADMSG;
        if (lacks(f, true, OUTPUT_ENVIRONMENT) || lacks(f, expiry, OUTPUT_TOKEN) ||
            lacks(f, json_member(connection, "certificateFile"), OUTPUT_CERTIFICATE))
                return -ENOENT;
        if (json_member(connection, "certificateFile"))
                expires_at = USEC_INFINITY;

        *ret_generation = generation;
        *ret_expires_at_usec = expires_at;
        return 0;
}

static void remove_unfinished(Folder *f) {
        _cleanup_(strv_freep) char **names = NULL;

        if (folder_list(f, file_is_temporary, &names) < 0)
                return;
        STRV_FOREACH(name, names)
                (void) folder_remove(f, *name);
}

int outputs_clear(Folder *runtime, const char *name) {
        static const Contents nothing = { 0 };
        _cleanup_(folder_freep) Folder *f = NULL;
        int r;

        r = folder_open_folder(runtime, name, &f);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        remove_unfinished(f);
        return remove_others(f, &nothing);
}

static bool is_foreign(const char *name) {
        return !strv_contains((char *const *) file_names, name) && !file_is_temporary(name);
}

int outputs_list(Folder *runtime, char ***ret) {
        return folder_list(runtime, conf_name_is_valid, ret);
}

bool outputs_is_ours(Folder *runtime, const char *name) {
        _cleanup_(strv_freep) char **foreign = NULL;
        _cleanup_(folder_freep) Folder *f = NULL;
        FileFacts facts;

        if (folder_open_folder(runtime, name, &f) < 0 || folder_look(f, ".", &facts) < 0)
                return false;
        return facts.uid == geteuid() && facts.mode == DIRECTORY_MODE &&
               folder_list(f, is_foreign, &foreign) >= 0 && !foreign;
}

int outputs_remove(Folder *runtime, const char *name) {
        _cleanup_(folder_freep) Folder *f = NULL;
        int r;

        r = outputs_clear(runtime, name);
        if (r < 0)
                return r;
        if (folder_open_folder(runtime, name, &f) >= 0)
                (void) folder_remove(f, API_SOCKET);
        r = folder_remove_folder(runtime, name);
        return r == -ENOENT ? 0 : r;
}
