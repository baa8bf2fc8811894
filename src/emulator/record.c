/* SPDX-License-Identifier: MIT */
#include "emulator/record.h"

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
        *o = (Operation){ 0 };
}

static Record *record_free(Record *record) {
        if (!record)
                return NULL;

        for (size_t i = 0; i < OPERATIONS_PER_DEVICE; i++)
                operation_done(&record->operations[i]);
        free(record->registration_id);
        free(record->device_id);
        free(record->hub);
        free(record->enrollment);
        free(record->polls_usec);
        free(record);
        return NULL;
}
DEFINE_FREEP(Record, record_free)

static void entry_free(struct lh_entry *entry) {
        free(lh_entry_k(entry));
        record_free(lh_entry_v(entry));
}

int records_new(struct lh_table **ret) {
        struct lh_table *table = lh_kchar_table_new(64, entry_free);

        if (!table)
                return -ENOMEM;

        *ret = table;
        return 0;
}

int records_get(struct lh_table *records, const char *registration_id, uint64_t now_usec, Record **ret) {
        _cleanup_(record_freep) Record *record = NULL;
        Record *known = id_table_get(records, registration_id);
        int r;

        if (known) {
                *ret = known;
                return 0;
        }

        record = calloc(1, sizeof(*record));
        if (!record)
                return -ENOMEM;
        record->created_usec = record->updated_usec = now_usec;
        record->registration_id = strdup(registration_id);
        if (!record->registration_id)
                return -ENOMEM;

        r = id_table_insert(records, registration_id, record);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(record);
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

int record_enroll(Record *record, const Enrollment *e, bool is_x509) {
        record->is_group = e->is_group;
        record->is_x509 = is_x509;
        return replace(&record->enrollment, e->id);
}

/* FNV-1a over the id in lower case: evenly spread, and the same for the same device. */
static uint64_t hash(const char *id) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (; *id; id++)
                h = (h ^ (uint64_t) tolower((unsigned char) *id)) * UINT64_C(0x100000001b3);
        return h ^ h >> 32;
}

static const char *choose(const Record *record, const Enrollment *e, char *const *hubs) {
        return hubs[e->allocation == ALLOCATION_HASHED ? hash(record->registration_id) % strv_length(hubs)
                                                       : 0];
}

int record_assign(Record *record, const Enrollment *e, char *const *hubs, uint64_t now_usec) {
        bool stays = record->hub && (strv_contains(hubs, record->hub) || !e->updates_hub);
        int r;

        if (stays)
                return 0;

        /* A registered device keeps its id. */
        if (!record->device_id) {
                r = replace(&record->device_id, e->device_id ?: record->registration_id);
                if (r < 0)
                        return r;
        }

        if (!record->hub)
                record->substatus = "initialAssignment";
        else
                record->substatus = e->migrates_data ? "deviceDataMigrated" : "deviceDataReset";
        record->updated_usec = now_usec;
        return replace(&record->hub, choose(record, e, hubs));
}

void record_push(Record *record, Operation *o) {
        operation_done(&record->operations[OPERATIONS_PER_DEVICE - 1]);
        memmove(record->operations + 1, record->operations, (OPERATIONS_PER_DEVICE - 1) * sizeof(*o));
        record->operations[0] = *o;
        *o = (Operation){ 0 };
}

Operation *record_operation(Record *record, const char *operation_id) {
        for (size_t i = 0; i < OPERATIONS_PER_DEVICE; i++)
                if (record->operations[i].id && streq(record->operations[i].id, operation_id))
                        return &record->operations[i];
        return NULL;
}

int record_count_poll(Record *record, uint64_t limit, uint64_t now_usec, uint64_t *ret_free_usec) {
        size_t kept = 0;
        uint64_t *grown;

        for (size_t i = 0; i < record->n_polls; i++)
                if (now_usec >= record->polls_usec[i] && now_usec - record->polls_usec[i] < POLL_WINDOW_USEC)
                        record->polls_usec[kept++] = record->polls_usec[i];
        record->n_polls = kept;

        if (kept >= limit) {
                *ret_free_usec = (kept > 0 ? record->polls_usec[0] : now_usec) + POLL_WINDOW_USEC;
                return 0;
        }

        grown = reallocarray(record->polls_usec, kept + 1, sizeof(uint64_t));
        if (!grown)
                return -ENOMEM;
        record->polls_usec = grown;
        record->polls_usec[record->n_polls++] = now_usec;
        return 1;
}

static int to_json(const Record *record, json_object *o) {
        int r;

        if ((r = json_add_string(o, "registrationId", record->registration_id)) < 0 ||
            (r = json_add_string(o, "deviceId", record->device_id)) < 0 ||
            (r = json_add_string(o, "assignedHub", record->hub)) < 0 ||
            (r = json_add_string(o, "substatus", record->substatus)) < 0 ||
            (r = json_add_string(o, record->is_group ? "enrollmentGroupId" : "enrollment",
                                 record->enrollment)) < 0 ||
            (r = json_add_u64(o, "createdAt", record->created_usec)) < 0 ||
            (r = json_add_u64(o, "updatedAt", record->updated_usec)) < 0 ||
            (r = json_add_u64(o, "registers", record->registers)) < 0)
                return r;
        return json_add_u64(o, "polls", record->polls);
}

json_object *records_to_json(const struct lh_table *records) {
        json_object *list = json_object_new_array();
        struct lh_entry *entry;

        lh_foreach(records, entry) {
                json_object *o = json_object_new_object();

                (void) to_json(lh_entry_v(entry), o);
                json_object_array_add(list, o);
        }
        return list;
}
