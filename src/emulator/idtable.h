/* SPDX-License-Identifier: MIT */
#pragma once

/* json-c's hash table, keyed by ids whose case counts not. The tables own their keys; entry_free functions free them. */

#include <json-c/linkhash.h>

/* NULL: not there. */
struct lh_entry *id_table_entry(const struct lh_table *t, const char *id);
void *id_table_get(const struct lh_table *t, const char *id);
/* `id` must not be there yet. -ENOMEM. */
int id_table_insert(struct lh_table *t, const char *id, void *value);
