/* SPDX-License-Identifier: MIT */
#pragma once

/* Aligned columns. On a terminal, the last column is cut where a line would not fit; elsewhere nothing is cut. */

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
        bool failed;   /* out of memory in table_add() */
} Table;

/* `header`: n_columns titles. */
void table_init(Table *t, const char *const *header, unsigned n_columns);
void table_done(Table *t);
/* Adds the next cell, from left to right and row by row. NULL is shown as "-". */
void table_add(Table *t, Style style, const char *text);
/* -ENOMEM if a table_add() failed. */
int table_print(const Table *t, bool with_header, FILE *f);
