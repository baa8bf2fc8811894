/* SPDX-License-Identifier: MIT */
#include <pthread.h>

#include "basic/text.h"
#include "credential/hardware-key.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects the list */
static HardwareKey *keys;

HardwareKey *hardware_key_new(HardwareKey k) {
        HardwareKey *copy = malloc(sizeof(*copy));

        if (!copy)
                return NULL;
        k.n_references = 1;
        k.settings = settings_ref(k.settings);
        k.reference = strdup(k.reference);
        k.text = k.text ? strdup(k.text) : NULL;
        *copy = k;

        (void) pthread_mutex_lock(&mutex);
        copy->next = keys;
        keys = copy;
        (void) pthread_mutex_unlock(&mutex);
        if (copy->reference && (copy->text || k.kind != HARDWARE_TPM_TEXT))
                return copy;
        return hardware_key_unref(copy);
}

HardwareKey *hardware_key_ref(HardwareKey *k) {
        __atomic_add_fetch(&k->n_references, 1, __ATOMIC_RELAXED);
        return k;
}

HardwareKey *hardware_key_unref(HardwareKey *k) {
        if (!k || __atomic_sub_fetch(&k->n_references, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;

        (void) pthread_mutex_lock(&mutex);
        for (HardwareKey **p = &keys; *p; p = &(*p)->next)
                if (*p == k) {
                        *p = k->next;
                        break;
                }
        (void) pthread_mutex_unlock(&mutex);
        settings_unref(k->settings);
        free(k->reference);
        erase_and_free(k->text);
        free(k);
        return NULL;
}

bool hardware_key_is_used(const char *reference) {
        bool found = false;

        (void) pthread_mutex_lock(&mutex);
        for (const HardwareKey *k = keys; k; k = k->next)
                found = found || streq_ptr(k->reference, reference);
        (void) pthread_mutex_unlock(&mutex);
        return found;
}
