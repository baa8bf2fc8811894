/* SPDX-License-Identifier: MIT */
#pragma once

/* json-c's hash table with ids as keys, which are compared without case. A table owns its keys, and its
 * entry_free function frees them. */

#include <json-c/linkhash.h>

/* NULL: the table has no such id. */
struct lh_entry *id_table_entry(const struct lh_table *t, const char *id);
void *id_table_get(const struct lh_table *t, const char *id);
/* `id` must not be in the table yet. -ENOMEM. */
int id_table_insert(struct lh_table *t, const char *id, void *value);
