/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <dlfcn.h>
#include <stdlib.h>

/* As the constructor of libsystemd 262 does: dlsym() frees its error at the next call, which is in the first free(). */
__attribute__((constructor)) static void a_library_begins(void) {
        (void) dlsym(RTLD_DEFAULT, "dps_no_such_symbol");
        free(malloc(1));
}

static void a_library_may_miss_a_symbol_before_anything_is_freed(void **state) {
        void *p = malloc(16);

        assert_non_null(p);
        free(p);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(
                a_library_may_miss_a_symbol_before_anything_is_freed) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
