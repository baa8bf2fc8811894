/* SPDX-License-Identifier: MIT */
#include "credential/pin.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "basic/text.h"
#include "basic/times.h"
#include "config/secret.h"

#define PIN_SIZE_MAX 255
#define REFUSED_MAX 64

/* A PIN is known by a digest, which is made with the name of the device. */
static struct Refused {
        unsigned char digest[32];
        uint64_t at_usec;
} refused[REFUSED_MAX];
static unsigned n_refused;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t changed_usec(const char *reference) {
        _cleanup_(freep) char *path = NULL, *reason = NULL;
        struct stat st;

        if (secret_path(reference, &path, &reason) < 0 || stat(path, &st) < 0)
                return 0;
        return (uint64_t) st.st_ctim.tv_sec * USEC_PER_SEC + (uint64_t) st.st_ctim.tv_nsec / 1000;
}

int pin_read(const Settings *s, Pin *ret, char **ret_why) {
        Pin p = { 0 };
        int r;

        if (s->pin) {
                p.changed_usec = changed_usec(s->pin);
                r = secret_read(s->pin, &p.text, &p.size, ret_why);
                if (r < 0)
                        return r;
                while (p.size > 0 && (p.text[p.size - 1] == '\n' || p.text[p.size - 1] == '\r'))
                        p.text[--p.size] = 0;
                if (p.size == 0 || p.size > PIN_SIZE_MAX) {
                        pin_done(&p);
                        *ret_why = strdup("the file must hold the PIN and nothing else");
                        return *ret_why ? -EINVAL : -ENOMEM;
                }
        }
        *ret = p;
        return 0;
}

void pin_done(Pin *p) {
        if (p->text)
                explicit_bzero(p->text, p->size);
        free(p->text);
        *p = (Pin){ 0 };
}

static bool digest(const Pin *p, const char *device, unsigned char ret[static 32]) {
        EVP_MD_CTX *c = EVP_MD_CTX_new();
        bool good = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 &&
                    EVP_DigestUpdate(c, device, strlen(device) + 1) == 1 &&
                    EVP_DigestUpdate(c, p->text, p->size) == 1 && EVP_DigestFinal_ex(c, ret, NULL) == 1;

        EVP_MD_CTX_free(c);
        return good;
}

/* If this cannot be found out, the PIN must not be tried. */
bool pin_was_refused(const Pin *p, const char *device) {
        unsigned char d[32];
        bool found = false;

        if (!digest(p, device, d))
                return true;
        (void) pthread_mutex_lock(&mutex);
        for (unsigned i = 0; i < n_refused; i++)
                found = found || (memcmp(refused[i].digest, d, sizeof(d)) == 0 &&
                                  p->changed_usec <= refused[i].at_usec);
        (void) pthread_mutex_unlock(&mutex);
        return found;
}

void pin_note_refused(const Pin *p, const char *device) {
        struct Refused r = { .at_usec = MAX(now_usec(CLOCK_REALTIME), p->changed_usec) };
        unsigned i = 0;

        if (!digest(p, device, r.digest))
                return;
        (void) pthread_mutex_lock(&mutex);
        while (i < n_refused && memcmp(refused[i].digest, r.digest, sizeof(r.digest)) != 0)
                i++;
        if (i == REFUSED_MAX) {
                memmove(refused, refused + 1, sizeof(refused) - sizeof(refused[0]));
                i--;
        } else if (i == n_refused)
                n_refused++;
        refused[i] = r;
        (void) pthread_mutex_unlock(&mutex);
}
