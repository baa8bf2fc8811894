/* SPDX-License-Identifier: MIT */
#include "emulator/device.h"

#include <ctype.h>
#include <errno.h>

#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "emulator/idtable.h"

#define POLL_WINDOW_USEC (10 * USEC_PER_SEC)

static void operation_done(Operation *o) {
        free(o->id);
        free(o->error_message);
        free(o->tpm_key);
        strv_free(o->issued_chain);
        *o = (Operation){ 0 };
}

static Device *device_free(Device *device) {
        if (!device)
                return NULL;

        for (size_t i = 0; i < OPERATIONS_PER_DEVICE; i++)
                operation_done(&device->operations[i]);
        free(device->registration_id);
        free(device->device_id);
        free(device->hub);
        free(device->enrollment);
        tpm_state_free(device->tpm);
        free(device->polls_usec);
        free(device);
        return NULL;
}
DEFINE_FREEP(Device, device_free)

static void entry_free(struct lh_entry *entry) {
        free(lh_entry_k(entry));
        device_free(lh_entry_v(entry));
}

int devices_new(struct lh_table **ret) {
        struct lh_table *table = lh_kchar_table_new(64, entry_free);

        if (!table)
                return -ENOMEM;

        *ret = table;
        return 0;
}

int devices_get(struct lh_table *devices, const char *registration_id, uint64_t now_usec, Device **ret) {
        _cleanup_(device_freep) Device *device = NULL;
        Device *known = id_table_get(devices, registration_id);
        int r;

        if (known) {
                *ret = known;
                return 0;
        }

        device = calloc(1, sizeof(*device));
        if (!device)
                return -ENOMEM;
        device->created_usec = device->updated_usec = now_usec;
        device->registration_id = strdup(registration_id);
        if (!device->registration_id)
                return -ENOMEM;

        r = id_table_insert(devices, registration_id, device);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(device);
        return 0;
}

static int replace(char **text, const char *with) {
        char *copy = strdup(with);

        if (!copy)
                return -ENOMEM;
        free(*text);
        *text = copy;
        return 0;
}

int device_enroll(Device *device, const Enrollment *e, bool is_x509) {
        device->is_group = e->is_group;
        device->is_x509 = is_x509;
        return replace(&device->enrollment, e->id);
}

/* FNV-1a of the id in lower case. */
static uint64_t hash(const char *id) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (; *id; id++)
                h = (h ^ (uint64_t) tolower((unsigned char) *id)) * UINT64_C(0x100000001b3);
        return h ^ h >> 32;
}

int device_assign(Device *device, const Enrollment *e, char *const *hubs, uint64_t now_usec) {
        size_t chosen = 0;
        int r;

        if (device->hub && (strv_contains(hubs, device->hub) || !e->updates_hub))
                return 0;
        if (e->allocation == ALLOCATION_HASHED)
                chosen = hash(device->registration_id) % strv_length(hubs);

        /* A device that was assigned before keeps its device id. */
        if (!device->device_id) {
                r = replace(&device->device_id, e->device_id ?: device->registration_id);
                if (r < 0)
                        return r;
        }

        if (!device->hub)
                device->substatus = "initialAssignment";
        else
                device->substatus = e->migrates_data ? "deviceDataMigrated" : "deviceDataReset";
        device->updated_usec = now_usec;
        return replace(&device->hub, hubs[chosen]);
}

void device_push(Device *device, Operation *o) {
        operation_done(&device->operations[OPERATIONS_PER_DEVICE - 1]);
        memmove(device->operations + 1, device->operations, (OPERATIONS_PER_DEVICE - 1) * sizeof(*o));
        device->operations[0] = *o;
        *o = (Operation){ 0 };
}

Operation *device_operation(Device *device, const char *operation_id) {
        for (size_t i = 0; i < OPERATIONS_PER_DEVICE; i++)
                if (device->operations[i].id && streq(device->operations[i].id, operation_id))
                        return &device->operations[i];
        return NULL;
}

int device_count_poll(Device *device, uint64_t limit, uint64_t now_usec, uint64_t *ret_free_usec) {
        size_t kept = 0;
        uint64_t *grown;

        for (size_t i = 0; i < device->n_polls; i++)
                if (now_usec >= device->polls_usec[i] && now_usec - device->polls_usec[i] < POLL_WINDOW_USEC)
                        device->polls_usec[kept++] = device->polls_usec[i];
        device->n_polls = kept;

        if (kept >= limit) {
                *ret_free_usec = (kept > 0 ? device->polls_usec[0] : now_usec) + POLL_WINDOW_USEC;
                return 0;
        }

        grown = reallocarray(device->polls_usec, kept + 1, sizeof(uint64_t));
        if (!grown)
                return -ENOMEM;
        device->polls_usec = grown;
        device->polls_usec[device->n_polls++] = now_usec;
        return 1;
}

static int to_json(const Device *device, json_object *o) {
        int r;

        if ((r = json_add_string(o, "registrationId", device->registration_id)) < 0 ||
            (r = json_add_string(o, "deviceId", device->device_id)) < 0 ||
            (r = json_add_string(o, "assignedHub", device->hub)) < 0 ||
            (r = json_add_string(o, "substatus", device->substatus)) < 0 ||
            (r = json_add_string(o, device->is_group ? "enrollmentGroupId" : "enrollment",
                                 device->enrollment)) < 0 ||
            (r = json_add_u64(o, "createdAt", device->created_usec)) < 0 ||
            (r = json_add_u64(o, "updatedAt", device->updated_usec)) < 0 ||
            (r = json_add_u64(o, "registers", device->registers)) < 0)
                return r;
        return json_add_u64(o, "polls", device->polls);
}

json_object *devices_to_json(const struct lh_table *devices) {
        json_object *list = json_object_new_array();
        struct lh_entry *entry;

        lh_foreach(devices, entry) {
                json_object *o = json_object_new_object();

                (void) to_json(lh_entry_v(entry), o);
                json_object_array_add(list, o);
        }
        return list;
}
