/* SPDX-License-Identifier: MIT */
#include "emulator/idtable.h"

#include <ctype.h>
#include <errno.h>

#include "basic/cleanup.h"

static char *fold(const char *id) {
        char *folded = strdup(id);

        for (char *p = folded; p && *p; p++)
                *p = (char) tolower((unsigned char) *p);
        return folded;
}

struct lh_entry *id_table_entry(const struct lh_table *t, const char *id) {
        _cleanup_(freep) char *folded = fold(id);

        return folded ? lh_table_lookup_entry((struct lh_table *) t, folded) : NULL;
}

void *id_table_get(const struct lh_table *t, const char *id) {
        struct lh_entry *entry = id_table_entry(t, id);

        return entry ? lh_entry_v(entry) : NULL;
}

int id_table_insert(struct lh_table *t, const char *id, void *value) {
        _cleanup_(freep) char *folded = fold(id);

        if (!folded || lh_table_insert(t, folded, value) < 0)
                return -ENOMEM;

        folded = NULL;
        return 0;
}
