/* SPDX-License-Identifier: MIT */
#pragma once

/* Aligned columns. On a terminal the last column is cut at its edge, elsewhere nothing is. */

#include <stdbool.h>
#include <stdio.h>

#include "dpsctl/say.h"

#define TABLE_COLUMNS_MAX 8

typedef struct TableCell {
        char *text;
        Style style;
} TableCell;

typedef struct Table {
        unsigned n_columns;
        TableCell *cells; /* row by row; the first row is the header */
        size_t n_cells;
        bool is_whole; /* the last column is not cut */
        bool failed;   /* memory did not last */
} Table;

/* `header`: n_columns titles. */
void table_init(Table *t, const char *const *header, unsigned n_columns);
void table_done(Table *t);
/* Cells come from left to right. Text that is none is shown as "-". */
void table_add(Table *t, Style style, const char *text);
/* -ENOMEM, also if a table_add() failed. */
int table_print(const Table *t, bool with_header, FILE *f);
