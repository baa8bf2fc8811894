/* SPDX-License-Identifier: MIT */
#include "transport/trust.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/pem.h"

#define CA_FILE_MAX (4U * 1024 * 1024)

struct Trust {
        unsigned n_refs; /* atomic */
        X509_STORE *store;
        char **paths;        /* what it was made from, … */
        struct stat *stamps; /* … as that was just before; all zero: it was not there */
        size_t n_bundles;    /* of the paths, the first ones: those of the system; 0: CaFile= */
        bool has_bundle;     /* atomic; or there is none */
};

/* ---- files ---- */

static void take_stamp(const char *path, struct stat *ret) {
        if (stat(path, ret) < 0)
                *ret = (struct stat){ 0 };
}

/* The time of the last change of anything tells of a file that was written over, and given its old date. */
static bool is_same(const struct stat *a, const struct stat *b) {
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
               memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) == 0 &&
               memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) == 0;
}

static int add_file(X509_STORE *store, const char *file, const char **ret_why) {
        _cleanup_(certificates_freep) STACK_OF(X509) *certificates = NULL;
        _cleanup_(freep) char *text = NULL;
        size_t size;
        int r;

        r = file_read(file, CA_FILE_MAX, &text, &size);
        if (r < 0)
                *ret_why = file_error(r);
        else
                r = pem_read_certificates(text, size, INT_MAX, &certificates, ret_why);
        for (int i = 0; r >= 0 && i < sk_X509_num(certificates); i++)
                if (X509_STORE_add_cert(store, sk_X509_value(certificates, i)) != 1)
                        r = -ENOMEM;
        return r;
}

static int add_files(Trust *t, DpsError *error) {
        STRV_FOREACH(file, t->paths) {
                const char *why = "out of memory";
                int r = add_file(t->store, *file, &why);

                if (r >= 0)
                        continue;
                dps_error_set(error, r == -ENOMEM ? DPS_ERROR_MEMORY : DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                              "CaFile=%s cannot be used: %s", *file, why);
                return -EINVAL;
        }
        return 0;
}

/* ---- the system's store ---- */

static bool is_hash(const char *name) {
        size_t n = strspn(name, "0123456789abcdef");

        return n == 8 && name[n] == '.' && name[n + 1] >= '0' && name[n + 1] <= '9';
}

/* If there is a store, reads them into it; files that hold no certificate are passed over, as OpenSSL does. */
static bool directory_has_hashes(const char *path, X509_STORE *store) {
        const struct dirent *entry;
        bool found = false;
        DIR *d = opendir(path);
        const char *why;

        if (!d)
                return false;

        while ((store || !found) && (entry = readdir(d))) {
                char file[PATH_MAX];

                if (!is_hash(entry->d_name))
                        continue;
                found = true;
                if (store && snprintf(file, sizeof(file), "%s/%s", path, entry->d_name) < (int) sizeof(file))
                        (void) add_file(store, file, &why);
        }
        closedir(d);
        return found;
}

/* What the environment names is all that is looked at. */
static const char *named_bundle(void) {
        return secure_getenv(X509_get_default_cert_file_env());
}

static const char *named_directories(void) {
        return secure_getenv(X509_get_default_cert_dir_env());
}

static const char *directories(void) {
        return named_directories() ?: X509_get_default_cert_dir();
}

/* The bundles, and then the directories, of which OpenSSL takes several, with colons between them. */
static int find_system(char ***ret, size_t *ret_n_bundles) {
        const char *named = named_bundle(), *rest = directories();
        const char *const bundles[] = {
                named ?: X509_get_default_cert_file(),
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
        };
        _cleanup_(strv_freep) char **paths = NULL;
        int r = 0;

        *ret_n_bundles = named ? 1 : ELEMENTSOF(bundles);
        for (size_t i = 0; r >= 0 && i < *ret_n_bundles; i++)
                r = strv_append(&paths, bundles[i]);
        for (bool is_last = false; r >= 0 && !is_last;) {
                const char *end = strchrnul(rest, ':');
                _cleanup_(freep) char *path = strndup(rest, (size_t) (end - rest));

                is_last = !*end;
                rest = end + !is_last;
                r = path ? strv_append(&paths, path) : -ENOMEM;
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(paths);
        return 0;
}

bool trust_lacks_bundle(const Trust *t) {
        return t->n_bundles > 0 && !__atomic_load_n(&t->has_bundle, __ATOMIC_ACQUIRE);
}

bool trust_read_bundle(Trust *t) {
        bool is_to_read = trust_lacks_bundle(t), is_read = false;
        const char *why;

        for (size_t i = 0; is_to_read && i < t->n_bundles && !is_read; i++)
                is_read = add_file(t->store, t->paths[i], &why) >= 0;
        __atomic_store_n(&t->has_bundle, true, __ATOMIC_RELEASE); /* what failed fails again */
        ERR_clear_error();
        return is_read;
}

/* As by OpenSSL's defaults, both the hashed directory and the bundle are trusted. From the directory OpenSSL reads only
 * the root that is needed, in the loop. The bundle is read for a second connection, only where that did not suffice, or at once
 * where there are no hashes. What the environment names may be anywhere, so that all of it is read here. */
static int add_system(Trust *t, DpsError *error) {
        const char *named = named_directories();
        bool has_hashes = false;

        STRV_FOREACH(path, t->paths + t->n_bundles)
                has_hashes = directory_has_hashes(*path, named ? t->store : NULL) || has_hashes;
        if (!named)
                has_hashes = has_hashes && X509_STORE_load_path(t->store, directories()) == 1;
        ERR_clear_error();
        if (has_hashes && !named_bundle())
                return 0;
        if (trust_read_bundle(t) || has_hashes)
                return 0;

        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                      "the system trusts no CA: neither %s nor a bundle has certificates; install "
                      "ca-certificates or set CaFile=",
                      directories());
        return -ENOENT;
}

/* ---- life ---- */

int trust_read(char *const *ca_files, Trust **ret, DpsError *error) {
        _cleanup_(trust_unrefp) Trust *t = calloc(1, sizeof(*t));
        int r;

        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "no memory for certificates of CAs");
        if (!t)
                return -ENOMEM;
        t->n_refs = 1;
        t->store = X509_STORE_new();
        r = ca_files ? strv_extend(&t->paths, ca_files) : find_system(&t->paths, &t->n_bundles);
        if (r >= 0)
                t->stamps = calloc(strv_length(t->paths) + 1, sizeof(*t->stamps));
        if (!t->store || !t->stamps)
                return -ENOMEM;

        for (size_t i = 0; t->paths && t->paths[i]; i++)
                take_stamp(t->paths[i], &t->stamps[i]);
        r = ca_files ? add_files(t, error) : add_system(t, error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

bool trust_is_current(const Trust *t) {
        for (size_t i = 0; t->paths && t->paths[i]; i++) {
                struct stat now;

                take_stamp(t->paths[i], &now);
                if (!is_same(&now, &t->stamps[i]))
                        return false;
        }
        return true;
}

Trust *trust_ref(Trust *t) {
        __atomic_add_fetch(&t->n_refs, 1, __ATOMIC_RELAXED);
        return t;
}

Trust *trust_unref(Trust *t) {
        if (!t || __atomic_sub_fetch(&t->n_refs, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;

        X509_STORE_free(t->store);
        strv_free(t->paths);
        free(t->stamps);
        free(t);
        return NULL;
}

X509_STORE *trust_store(const Trust *t) {
        return t->store;
}
