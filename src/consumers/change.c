/* SPDX-License-Identifier: MIT */
#include "consumers/change.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"

#define FILE_SIZE_MAX (1024U * 1024)

/* dpsd wakes us within milliseconds. A unit that has run for longer than this is older, whatever the clock of the day did
 * in between. */
#define SURELY_OLDER_USEC (10 * USEC_PER_SEC)

/* Named one by one, so that a member that a newer dpsd adds restarts nothing. */
static const char *const connection_members[] = {
        "hub",      "port",  "deviceId",        "registrationId",    "idScope",
        "clientId", "auth",  "certificateFile", "keyFile",           "keyUri",
        "caFile",   "proxy", "payload",         "connectionProfile", "mqttVersion",
};

static int digest_add(EVP_MD_CTX *c, const void *data, size_t size) {
        /* With the size first, so that no two lists of values look alike. */
        return EVP_DigestUpdate(c, &size, sizeof(size)) == 1 && EVP_DigestUpdate(c, data, size) == 1
                       ? 0
                       : -ENOMEM;
}

static int digest_end(EVP_MD_CTX *c, char ret[static DIGEST_TEXT_MAX]) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned size;

        if (EVP_DigestFinal_ex(c, digest, &size) != 1 || 2 * size >= DIGEST_TEXT_MAX)
                return -ENOMEM;
        bytes_to_hex(digest, size, ret);
        return 0;
}

static int digest_connection(EVP_MD_CTX *c, json_object *connection, char ret[static DIGEST_TEXT_MAX]) {
        int r = EVP_DigestInit_ex2(c, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;

        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(connection_members); k++) {
                json_object *member = json_member(connection, connection_members[k]);
                const char *text = member ? json_render(member, JSON_C_TO_STRING_PLAIN) : "";

                r = text ? digest_add(c, text, strlen(text)) : -ENOMEM;
        }
        return r < 0 ? r : digest_end(c, ret);
}

static int digest_credential(EVP_MD_CTX *c, int dir_fd, json_object *connection,
                             char ret[static DIGEST_TEXT_MAX]) {
        const char *password = json_string(json_member(connection, "password")) ?: "";
        _cleanup_(freep) char *certificate = NULL;
        size_t size = 0;
        int r = EVP_DigestInit_ex2(c, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;

        if (r >= 0 && json_member(connection, "certificateFile"))
                r = file_read_at(dir_fd, "cert.pem", FILE_SIZE_MAX, &certificate, &size);
        if (r >= 0)
                r = digest_add(c, password, strlen(password));
        if (r >= 0)
                r = digest_add(c, certificate ?: "", size);
        return r < 0 ? r : digest_end(c, ret);
}

int digests_read(int dir_fd, Digests *ret, uint64_t *ret_changed_at_usec) {
        _cleanup_(erase_and_freep) char *text = NULL;
        _cleanup_(json_freep) json_object *connection = NULL;
        EVP_MD_CTX *c = NULL;
        const char *why;
        struct stat st;
        Digests d;
        size_t size;
        int r;

        if (fstatat(dir_fd, "connection.json", &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        r = S_ISREG(st.st_mode) ? file_read_at(dir_fd, "connection.json", FILE_SIZE_MAX, &text, &size)
                                : -EBADMSG;
        if (r >= 0)
                r = json_read_object(text, size, FILE_SIZE_MAX, &connection, &why);
        if (r < 0)
                return r;
        c = EVP_MD_CTX_new();
        r = c ? digest_connection(c, connection, d.connection) : -ENOMEM;
        if (r >= 0)
                r = digest_credential(c, dir_fd, connection, d.credential);
        EVP_MD_CTX_free(c);
        if (r < 0)
                return r;

        *ret = d;
        *ret_changed_at_usec =
                (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t) st.st_mtim.tv_nsec / 1000;
        return 0;
}

Change digests_compare(const Digests *old, const Digests *now) {
        if (!old || !streq(old->connection, now->connection))
                return CHANGE_CONNECTION;
        return streq(old->credential, now->credential) ? CHANGE_NONE : CHANGE_CREDENTIAL;
}

void digests_to_text(const Digests *d, char buffer[static DIGESTS_TEXT_MAX]) {
        (void) snprintf(buffer, DIGESTS_TEXT_MAX, "%s %s\n", d->connection, d->credential);
}

int digests_from_text(const char *text, Digests *ret) {
        const size_t n = DIGEST_TEXT_MAX - 1;
        Digests d = { 0 };

        if (strlen(text) != 2 * n + 2 || text[n] != ' ' || text[2 * n + 1] != '\n')
                return -EBADMSG;
        memcpy(d.connection, text, n);
        memcpy(d.credential, text + n + 1, n);

        *ret = d;
        return 0;
}

bool unit_is_older(const UnitStart *start, uint64_t changed_at_usec, uint64_t now_monotonic_usec) {
        return start->realtime_usec < changed_at_usec ||
               start->monotonic_usec < usec_sub(now_monotonic_usec, SURELY_OLDER_USEC);
}
