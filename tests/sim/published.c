/* SPDX-License-Identifier: MIT */
#include "published.h"

#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "basic/json.h"
#include "basic/text.h"
#include "disk.h"
#include "memory.h"
#include "token.h"

/* connection.json is looked at when it is written, and again when its assignment counts. */
static struct Known {
        char *text;
        json_object *connection;
} known[IDENTITIES_MAX];

static json_object *parse(const char *folder, const char *text) {
        struct Known *k = &known[(unsigned) atoi(folder + 2) % IDENTITIES_MAX];

        if (!streq_ptr(k->text, text)) {
                json_object_put(k->connection);
                sim_free(k->text);
                *k = (struct Known){ sim_copy(text), json_tokener_parse(text) };
        }
        return k->connection;
}

void published_forget(void) {
        for (struct Known *k = known; k < known + IDENTITIES_MAX; k++) {
                json_object_put(k->connection);
                sim_free(k->text);
                *k = (struct Known){ 0 };
        }
}

bool published_read(const Sim *s, const char *folder, PublishedFiles *ret) {
        const char *text = disk_text(s->disk, WHERE_RUNTIME, folder, "connection.json", false),
                   *env = disk_text(s->disk, WHERE_RUNTIME, folder, "hub.env", false), *line;

        if (!text)
                return false;
        *ret = (PublishedFiles){ .connection = parse(folder, text) };
        (void) json_u64(json_member(ret->connection, "generation"), INT64_MAX, &ret->generation);
        ret->password = json_string(json_member(ret->connection, "password"));
        ret->hub = json_string(json_member(ret->connection, "hub"));
        ret->token = disk_text(s->disk, WHERE_RUNTIME, folder, "token", false);
        line = env ? strstr(env, "IOTHUB_GENERATION=") : NULL;
        ret->env_generation = line ? strtoull(line + strlen("IOTHUB_GENERATION="), NULL, 10) : 0;
        return true;
}

/* What the key of a published pair is called, or its file; NULL: there is none. */
static const char *published_key(const Sim *s, const char *folder, const PublishedFiles *p) {
        return json_string(json_member(p->connection, "keyUri"))
                       ?: disk_text(s->disk, WHERE_RUNTIME, folder, "key.pem", false);
}

static EVP_PKEY *read_key(const char *text) {
        EVP_PKEY *key = token_key(text);
        BIO *bio;

        if (key) {
                EVP_PKEY_up_ref(key);
                return key;
        }
        bio = BIO_new_mem_buf(text, -1);
        key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        BIO_free(bio);
        return key;
}

bool published_is_whole(const Sim *s, const char *folder, const PublishedFiles *p) {
        const char *certificate = disk_text(s->disk, WHERE_RUNTIME, folder, "cert.pem", false),
                   *key = published_key(s, folder, p);
        unsigned depth = core_pause();
        bool is_whole = false;

        if (certificate && key) {
                BIO *bio = BIO_new_mem_buf(certificate, -1);
                X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
                EVP_PKEY *k = read_key(key);

                is_whole = x && k && X509_check_private_key(x, k) == 1;
                X509_free(x);
                EVP_PKEY_free(k);
                BIO_free(bio);
        }
        core_resume(depth);
        return is_whole;
}

bool published_key_serves(const Sim *s, const char *folder, const PublishedFiles *p) {
        const char *key = published_key(s, folder, p);

        return !key || !token_key(key) || token_can_serve(key);
}
