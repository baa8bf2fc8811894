/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <locale.h>

#include "basic/text.h"
#include "dpsctl/table.h"

static char *text;

static int set_up(void **state) {
        text = NULL;
        return 0;
}

static int tear_down(void **state) {
        free(text);
        return 0;
}

/* Prints two columns into `text`. */
static void print(bool with_header, const char *const *cells, size_t n) {
        static const char *const header[] = { "NAME", "NEXT" };
        size_t size;
        FILE *f = open_memstream(&text, &size);
        Table t;

        table_init(&t, header, ELEMENTSOF(header));
        for (size_t k = 0; k < n; k++)
                table_add(&t, k == 0 ? STYLE_GOOD : STYLE_PLAIN, cells[k]);
        assert_int_equal(table_print(&t, with_header, f), 0);
        table_done(&t);
        assert_int_equal(fclose(f), 0);
}
#define PRINT(with_header, ...)                                                                              \
        print(with_header, (const char *const[]){ __VA_ARGS__ },                                             \
              ELEMENTSOF(((const char *const[]){ __VA_ARGS__ })))

static void columns_are_as_wide_as_their_widest_cell(void **state) {
        style_set(false, true, 0);
        PRINT(true, "gw", "soon", "gateway", "later");
        assert_string_equal(text, "NAME     NEXT\ngw       soon\ngateway  later\n");
}

static void without_legend_there_is_no_header(void **state) {
        style_set(false, true, 0);
        PRINT(false, "gw", "soon");
        assert_string_equal(text, "gw  soon\n");
}

static void letters_count_by_their_width(void **state) {
        style_set(false, true, 0);
        PRINT(false, "größe", "a", "日本", "b", "abcde", "c");
        assert_string_equal(text, "größe  a\n日本   b\nabcde  c\n");
}

static void the_last_column_is_cut_at_the_edge_of_a_terminal(void **state) {
        style_set(false, true, 12);
        PRINT(false, "gw", "renews in 26 days");
        assert_string_equal(text, "gw  renews …\n");
}

static void nothing_is_cut_if_the_output_is_not_a_terminal(void **state) {
        style_set(false, true, 0);
        PRINT(false, "gw", "renews in 26 days");
        assert_string_equal(text, "gw  renews in 26 days\n");
}

static void colours_take_no_width(void **state) {
        style_set(true, true, 80);
        PRINT(false, "gw", "a", "gateway", "b");
        assert_string_equal(text, "\033[32mgw\033[0m       a\ngateway  b\n");
}

static void control_characters_are_not_printed(void **state) {
        style_set(false, true, 0);
        PRINT(false, "gw", "\033[2Jhello");
        assert_string_equal(text, "gw  ?[2Jhello\n");
}

static void a_missing_cell_is_a_dash(void **state) {
        style_set(false, true, 0);
        PRINT(false, "gw", NULL);
        assert_string_equal(text, "gw  -\n");
}

static void other_locales_get_plain_marks(void **state) {
        style_set(false, false, 0);
        assert_string_equal(style_bullet(), "*");
        assert_string_equal(style_arrow(), "->");
        assert_string_equal(style_ellipsis(), "...");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(columns_are_as_wide_as_their_widest_cell),
                TEST(without_legend_there_is_no_header),
                TEST(letters_count_by_their_width),
                TEST(the_last_column_is_cut_at_the_edge_of_a_terminal),
                TEST(nothing_is_cut_if_the_output_is_not_a_terminal),
                TEST(colours_take_no_width),
                TEST(control_characters_are_not_printed),
                TEST(a_missing_cell_is_a_dash),
                TEST(other_locales_get_plain_marks),
        };

        if (!setlocale(LC_ALL, "C.UTF-8"))
                return 77;
        return cmocka_run_group_tests_name("dpsctl-table", tests, NULL, NULL);
}
