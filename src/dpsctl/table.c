/* SPDX-License-Identifier: MIT */
#include "dpsctl/table.h"

#include <errno.h>
#include <stdlib.h>
#include <wchar.h>

#include "basic/cleanup.h"
#include "basic/text.h"

#define GAP 2

void table_init(Table *t, const char *const *header, unsigned n_columns) {
        *t = (Table){ .n_columns = n_columns };
        for (unsigned c = 0; c < n_columns; c++)
                table_add(t, STYLE_BOLD, header[c]);
}

void table_done(Table *t) {
        for (size_t k = 0; k < t->n_cells; k++)
                free(t->cells[k].text);
        free(t->cells);
        *t = (Table){ 0 };
}

void table_add(Table *t, Style style, const char *text) {
        TableCell *grown;
        char *copy;

        text = text ?: "-"; /* but "" stays empty: a column without a title */
        copy = text_for_people(text, strlen(text), strlen(text));
        grown = reallocarray(t->cells, t->n_cells + 1, sizeof(TableCell));
        if (grown)
                t->cells = grown;
        if (!grown || !copy) {
                free(copy);
                t->failed = true;
                return;
        }
        t->cells[t->n_cells++] = (TableCell){ copy, style };
}

/* Returns the bytes of the next character, and the columns that it takes on a terminal: one where the locale cannot say. */
static size_t next_character(const char *p, mbstate_t *state, size_t *ret_columns) {
        wchar_t c;
        size_t n;
        int columns;

        if (*p >= ' ' && *p < 0x7f) { /* nearly all are */
                *ret_columns = 1;
                return 1;
        }
        n = mbrtowc(&c, p, strlen(p), state);
        if (n == (size_t) -1 || n == (size_t) -2 || n == 0) {
                *state = (mbstate_t){ 0 };
                for (n = 1; ((unsigned char) p[n] & 0xc0) == 0x80; n++)
                        ;
                *ret_columns = 1;
                return n;
        }

        columns = wcwidth(c);
        *ret_columns = columns < 0 ? 1 : (size_t) columns;
        return n;
}

/* In columns of a terminal. */
static size_t text_width(const char *text) {
        mbstate_t state = { 0 };
        size_t width = 0, columns;

        while (*text) {
                text += next_character(text, &state, &columns);
                width += columns;
        }
        return width;
}

/* How many bytes of the text fit into `max` columns. */
static size_t text_fit(const char *text, size_t max) {
        mbstate_t state = { 0 };
        size_t width = 0, used = 0;

        while (text[used]) {
                size_t columns, n = next_character(text + used, &state, &columns);

                if (width + columns > max)
                        break;
                width += columns;
                used += n;
        }
        return used;
}

static void measure(const Table *t, bool with_header, size_t *ret_widths) {
        for (size_t k = with_header ? 0 : t->n_columns; k < t->n_cells; k++) {
                size_t *width = &ret_widths[k % t->n_columns];

                *width = MAX(*width, text_width(t->cells[k].text));
        }
}

static void print_last(const TableCell *cell, bool is_whole, size_t used, FILE *f) {
        size_t columns = is_whole ? 0 : style_columns(), room = columns > used ? columns - used : 0;
        size_t dots = text_width(style_ellipsis());

        if (columns == 0 || text_width(cell->text) <= room || room <= dots)
                fprintf(f, "%s%s%s\n", style_begin(cell->style), cell->text, style_end(cell->style));
        else
                fprintf(f, "%s%.*s%s%s\n", style_begin(cell->style), (int) text_fit(cell->text, room - dots),
                        cell->text, style_ellipsis(), style_end(cell->style));
}

static void print_row(const Table *t, const TableCell *row, const size_t *widths, FILE *f) {
        size_t used = 0;

        for (unsigned c = 0; c + 1 < t->n_columns; c++) {
                size_t padding = widths[c] - text_width(row[c].text) + (widths[c] > 0 ? GAP : 0);

                /* After a bullet one space is enough. */
                if (widths[c] == 1)
                        padding--;
                fprintf(f, "%s%s%s%*s", style_begin(row[c].style), row[c].text, style_end(row[c].style),
                        (int) padding, "");
                used += text_width(row[c].text) + padding;
        }
        print_last(&row[t->n_columns - 1], t->is_whole, used, f);
}

int table_print(const Table *t, bool with_header, FILE *f) {
        size_t widths[TABLE_COLUMNS_MAX] = { 0 };

        if (t->failed)
                return -ENOMEM;
        measure(t, with_header, widths);
        for (size_t k = with_header ? 0 : t->n_columns; k + t->n_columns <= t->n_cells; k += t->n_columns)
                print_row(t, &t->cells[k], widths, f);
        return 0;
}
