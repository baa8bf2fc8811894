/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/conf.h"
#include "remove-tree.h"

/* Each test has its own tree of directories: T/etc, T/run, T/lib, searched in this order. */
typedef struct Tree {
        char path[64];
        char *etc, *run, *lib;
        char *directories[4];
        ConfReport report;
        Conf *conf;
} Tree;

static char *below(const char *directory, const char *name) {
        char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        return path;
}

static int set_up(void **state) {
        Tree *t = calloc(1, sizeof(Tree));

        strcpy(t->path, "/tmp/test-conf-XXXXXX");
        assert_non_null(mkdtemp(t->path));
        t->directories[0] = t->etc = below(t->path, "etc");
        t->directories[1] = t->run = below(t->path, "run");
        t->directories[2] = t->lib = below(t->path, "lib");
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(mkdir(t->directories[i], 0755), 0);
        *state = t;
        return 0;
}

static int tear_down(void **state) {
        Tree *t = *state;

        remove_tree(t->path);
        for (size_t i = 0; i < 3; i++)
                free(t->directories[i]);
        conf_report_done(&t->report);
        conf_free(t->conf);
        free(t);
        return 0;
}

static void put_bytes(const char *directory, const char *name, const void *data, size_t size) {
        _cleanup_(freep) char *path = below(directory, name), *parent = strdup(path);
        _cleanup_(closep) int fd = -1;

        *strrchr(parent, '/') = 0;
        assert_int_equal(directory_make_path(parent, 0755), 0);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, size), size);
}

static void put(const char *directory, const char *name, const char *text) {
        put_bytes(directory, name, text, strlen(text));
}

static void link_to(const char *directory, const char *name, const char *target) {
        _cleanup_(freep) char *path = below(directory, name);

        assert_int_equal(symlink(target, path), 0);
}

static void load(Tree *t, const char *name) {
        assert_int_equal(conf_load(t->directories, name, &t->report, &t->conf), 0);
}

static void assert_lines(const Tree *t, const char *expected) {
        _cleanup_(freep) char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        for (size_t i = 0; i < t->conf->n_lines; i++) {
                const ConfLine *l = &t->conf->lines[i];

                fprintf(f, "%s%s.%s=%s", i > 0 ? "|" : "", l->section, l->key, l->value);
        }
        fclose(f);
        assert_string_equal(text, expected);
}

static void assert_names(Tree *t, const char *expected) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_(freep) char *text = NULL;
        size_t size;
        FILE *f;

        assert_int_equal(conf_list(t->directories, &t->report, &names), 0);
        f = open_memstream(&text, &size);
        STRV_FOREACH(n, names)
                fprintf(f, "%s%s", n == names ? "" : " ", *n);
        fclose(f);
        assert_string_equal(text, expected);
}

static void assert_message(const Tree *t, ConfSeverity severity, const char *words) {
        for (size_t i = 0; i < t->report.n_messages; i++)
                if (t->report.messages[i].severity == severity && strstr(t->report.messages[i].text, words))
                        return;
        fail_msg("no message says: %s (the first of %zu: %s)", words, t->report.n_messages,
                 t->report.n_messages > 0 ? t->report.messages[0].text : "-");
}

/* --- syntax --------------------------------------------------------------------------------------------- */

static const struct syntax_case {
        const char *promise, *text, *lines; /* lines as assert_lines() writes them */
} good[] = {
        { "an assignment has section, key and value", "[A]\nK=v\n", "A.K=v" },
        { "white space around key and value is removed", "[A]\n \tK \t=  v w \t\n", "A.K=v w" },
        { "white space around a header is removed", "  [A]  \nK=v\n", "A.K=v" },
        { "only the first = separates", "[A]\nK=a=b=\n", "A.K=a=b=" },
        { "an empty value is a value", "[A]\nK=\n", "A.K=" },
        { "the same key again makes another line", "[A]\nK=1\nK=2\n", "A.K=1|A.K=2" },
        { "a section may come twice", "[A]\nK=1\n[B]\nK=2\n[A]\nL=3\n", "A.K=1|B.K=2|A.L=3" },
        { "# and ; begin comments at the start of a line", "# c\n; d\n[A]\n  # e=f\nK=v\n", "A.K=v" },
        { "# and ; within a value belong to it", "[A]\nK=a ; b # c\n", "A.K=a ; b # c" },
        { "quotes are plain characters", "[A]\nK=\"a b\"\n", "A.K=\"a b\"" },
        { "a backslash at the end joins with a space", "[A]\nK=a\\\nb\n", "A.K=a b" },
        { "joined lines keep their indentation", "[A]\nK=a \\\n   b\n", "A.K=a     b" },
        { "comments between joined lines are left out", "[A]\nK=a\\\n# c\n; d\\\nb\nL=1\n", "A.K=a b|A.L=1" },
        { "an empty line ends a joined line", "[A]\nK=a\\\n\nL=1\n", "A.K=a|A.L=1" },
        { "two backslashes do not join", "[A]\nK=a\\\\\nL=1\n", "A.K=a\\\\|A.L=1" },
        { "the file may end in a joined line", "[A]\nK=a\\", "A.K=a" },
        { "the last line needs no newline", "[A]\nK=v", "A.K=v" },
        { "lines may end as on Windows", "[A]\r\nK=v\\\r\nw\r\n", "A.K=v w" },
        { "a byte order mark is skipped", "\xef\xbb\xbf[A]\nK=v\n", "A.K=v" },
        { "UTF-8 is kept unchanged", "[A]\nK=Zürich\n", "A.K=Zürich" },
};

static void check_good(void **state) {
        const struct syntax_case *c = *state;
        void *fixture;
        Tree *t;

        set_up(&fixture);
        t = fixture;
        put(t->etc, "gw.conf", c->text);
        load(t, "gw");
        assert_lines(t, c->lines);
        assert_int_equal(t->report.n_messages, 0);
        tear_down(&fixture);
}

static const struct faulty_case {
        const char *promise, *text, *message, *lines;
} faulty[] = {
        { "an assignment outside a section is an error with its line", "\nK=v\n[A]\nL=1\n",
          "gw.conf:2: this assignment is outside any section", "A.L=1" },
        { "a line that is neither header nor assignment is an error with its line", "[A]\nnonsense\nL=1\n",
          "gw.conf:2: neither", "A.L=1" },
        { "an assignment without key is an error", "[A]\n=v\n", "gw.conf:2: there is no key", "" },
        { "an unfinished header is an error", "[A\nK=v\n[B]\nL=1\n", "gw.conf:1: a section", "B.L=1" },
        { "text after a header is an error", "[A] x\n", "gw.conf:1: a section", "" },
        { "a header without name is an error", "[]\n", "gw.conf:1: a section", "" },
        { "an error in a joined line names its first line", "[A]\nno\\\nth\\\ning\n", "gw.conf:2: neither",
          "" },
        { "text that is not UTF-8 is an error with its line", "[A]\nK=v\nL=\xff\n", "gw.conf:3: this is not",
          "" },
        { "an overlong form is not UTF-8", "[A]\nK=\xc0\xaf\n", "gw.conf:2: this is not", "" },
};

static void check_faulty(void **state) {
        const struct faulty_case *c = *state;
        void *fixture;
        Tree *t;

        set_up(&fixture);
        t = fixture;
        put(t->etc, "gw.conf", c->text);
        load(t, "gw");
        assert_message(t, CONF_ERROR, c->message);
        assert_true(t->report.has_errors);
        assert_int_equal(t->report.n_messages, 1);
        assert_lines(t, c->lines);
        tear_down(&fixture);
}

static void each_line_has_its_file_and_number(void **state) {
        Tree *t = *state;
        _cleanup_(freep) char *path = below(t->etc, "gw.conf");

        put(t->etc, "gw.conf", "# c\n[A]\nK=a\\\nb\nL=1\n");
        load(t, "gw");
        assert_string_equal(t->conf->lines[0].file, path);
        assert_int_equal(t->conf->lines[0].line, 3);
        assert_int_equal(t->conf->lines[1].line, 5);
}

static void zero_bytes_are_an_error(void **state) {
        Tree *t = *state;

        put_bytes(t->etc, "gw.conf", "[A]\nK=\0v\n", 9);
        load(t, "gw");
        assert_message(t, CONF_ERROR, "gw.conf:2: a zero byte");
        assert_int_equal(t->conf->n_lines, 0);
}

static void a_faulty_line_is_not_shown(void **state) {
        Tree *t = *state;

        put(t->etc, "gw.conf", "[A]\nc2VjcmV0c2VjcmV0\n");
        load(t, "gw");
        assert_true(t->report.has_errors);
        assert_null(strstr(conf_report_first_error(&t->report), "c2Vj"));
}

static void a_large_file_is_an_error(void **state) {
        Tree *t = *state;
        size_t size = 1024 * 1024 + 1;
        _cleanup_(freep) char *text = malloc(size);

        memset(text, '\n', size);
        put_bytes(t->etc, "gw.conf", text, size);
        load(t, "gw");
        assert_message(t, CONF_ERROR, "larger than 1 MB");
}

static void a_long_line_is_an_error_and_the_rest_is_read(void **state) {
        Tree *t = *state;
        size_t size = 70000;
        _cleanup_(freep) char *text = malloc(size + 32);

        memset(text, 'v', size);
        memcpy(text, "[A]\nK=", 6);
        strcpy(text + size, "\nL=1\n");
        put(t->etc, "gw.conf", text);
        load(t, "gw");
        assert_message(t, CONF_ERROR, "gw.conf:2: the line is longer");
        assert_lines(t, "A.L=1");
}

static void joined_lines_are_limited_together(void **state) {
        Tree *t = *state;
        _cleanup_(freep) char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        fputs("[A]\nK=\\\n", f);
        for (size_t i = 0; i < 40000; i++)
                fputs("xy\\\n", f);
        fputs("z\nL=1\n", f);
        fclose(f);
        put(t->etc, "gw.conf", text);
        load(t, "gw");
        assert_message(t, CONF_ERROR, "gw.conf:2: the line is longer");
        assert_lines(t, "A.L=1");
}

static void a_file_with_many_faults_is_not_read_further(void **state) {
        Tree *t = *state;
        _cleanup_(freep) char *text = calloc(1, 20001);

        for (size_t i = 0; i < 20000; i += 2)
                memcpy(text + i, "x\n", 2);
        put(t->etc, "gw.conf", text);
        load(t, "gw");
        assert_true(t->report.n_messages <= 21);
        assert_message(t, CONF_ERROR, "the rest of the file is not read");
}

static void a_message_is_one_printable_line(void **state) {
        Tree *t = *state;

        conf_report_add(&t->report, CONF_WARNING, "f\n", 3, "a\nb\x1b[31m %s", "c\r");
        assert_string_equal(t->report.messages[0].text, "f?:3: a?b?[31m c?");
        assert_false(t->report.has_errors);
        assert_string_equal(conf_report_first_error(&t->report), "");
}

/* --- search path ---------------------------------------------------------------------------------------- */

static void an_earlier_directory_replaces_the_file(void **state) {
        Tree *t = *state;

        put(t->lib, "gw.conf", "[A]\nK=lib\n");
        put(t->run, "gw.conf", "[A]\nK=run\n");
        load(t, "gw");
        assert_lines(t, "A.K=run");
}

static void an_empty_file_masks(void **state) {
        Tree *t = *state;

        put(t->etc, "gw.conf", "");
        put(t->lib, "gw.conf", "[A]\nK=lib\n");
        assert_names(t, "");
        assert_int_equal(conf_load(t->directories, "gw", &t->report, &t->conf), -ENOENT);
        assert_int_equal(t->report.n_messages, 0);
}

static void a_link_to_dev_null_masks(void **state) {
        Tree *t = *state;

        link_to(t->etc, "gw.conf", "/dev/null");
        put(t->lib, "gw.conf", "[A]\nK=lib\n");
        assert_names(t, "");
        assert_int_equal(conf_load(t->directories, "gw", &t->report, &t->conf), -ENOENT);
}

static void a_masked_identity_ignores_its_drop_ins(void **state) {
        Tree *t = *state;

        link_to(t->etc, "gw.conf", "/dev/null");
        put(t->etc, "gw.conf.d/a.conf", "[A]\nK=v\n");
        assert_names(t, "");
        assert_int_equal(conf_load(t->directories, "gw", &t->report, &t->conf), -ENOENT);
}

static void a_link_to_a_file_counts_as_a_file(void **state) {
        Tree *t = *state;

        put(t->path, "elsewhere", "[A]\nK=v\n");
        link_to(t->etc, "gw.conf", "../elsewhere");
        assert_names(t, "gw");
        load(t, "gw");
        assert_lines(t, "A.K=v");
}

static void a_file_that_is_not_regular_is_skipped_with_a_warning(void **state) {
        Tree *t = *state;
        _cleanup_(freep) char *fifo = below(t->etc, "a.conf"), *directory = below(t->etc, "b.conf");

        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(mkdir(directory, 0755), 0);
        put(t->lib, "b.conf", "[A]\nK=lib\n");
        assert_names(t, "b");
        assert_message(t, CONF_WARNING, "a.conf: neither a regular file");
        assert_message(t, CONF_WARNING, "b.conf: neither a regular file");
        assert_false(t->report.has_errors);
}

/* A volume may not be mounted yet. What an earlier directory replaced must not come into force meanwhile. */
static void a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(void **state) {
        Tree *t = *state;

        link_to(t->etc, "gw.conf", "nowhere/gw.conf");
        put(t->lib, "gw.conf", "[A]\nK=lib\n");
        assert_names(t, "gw");
        load(t, "gw");
        assert_lines(t, "");
        assert_message(t, CONF_ERROR, "gw.conf: cannot be read: it is a link to a file that is not there");
        assert_int_equal(strv_length(t->report.out_of_reach), 1);
}

static void drop_ins_out_of_reach_are_an_error(void **state) {
        Tree *t = *state;

        put(t->etc, "gw.conf", "[A]\nK=1\n");
        put(t->etc, "gw.conf.d/10.conf", "[A]\nK=2\n");
        link_to(t->etc, "gw.conf.d/20.conf", "nowhere");
        link_to(t->run, "gw.conf.d", "nowhere");
        put(t->lib, "gw.conf.d", "a file\n");
        load(t, "gw");
        assert_lines(t, "A.K=1|A.K=2");
        assert_message(t, CONF_ERROR, "20.conf: cannot be read: it is a link");
        assert_message(t, CONF_ERROR, "run/gw.conf.d: cannot be listed: it is a link");
        assert_message(t, CONF_ERROR, "lib/gw.conf.d: cannot be listed: Not a directory");
}

static void the_other_directories_are_listed_beside_one_that_cannot_be(void **state) {
        _cleanup_(strv_freep) char **names = NULL;
        Tree *t = *state;

        put(t->lib, "gw.conf", "[A]\nK=lib\n");
        assert_int_equal(rmdir(t->etc), 0);
        assert_int_equal(symlink(t->etc, t->etc), 0);
        assert_int_equal(conf_list(t->directories, &t->report, &names), 0);
        assert_message(t, CONF_ERROR, "etc: cannot be listed: Too many levels");
        assert_true(t->report.is_partial);

        /* It may hold a file of this name, which would count before the one that can be read. */
        load(t, "gw");
        assert_lines(t, "");
        assert_message(t, CONF_ERROR, "etc/gw.conf: cannot be read: Too many levels");
}

static void drop_ins_are_read_in_order_of_their_names(void **state) {
        Tree *t = *state;

        put(t->lib, "gw.conf", "[A]\nK=0\n");
        put(t->etc, "gw.conf.d/20.conf", "[A]\nK=20etc\n");
        put(t->lib, "gw.conf.d/30.conf", "[A]\nK=30lib\n");
        put(t->run, "gw.conf.d/10.conf", "[A]\nK=10run\n");
        load(t, "gw");
        assert_lines(t, "A.K=0|A.K=10run|A.K=20etc|A.K=30lib");
        assert_int_equal(strv_length(t->conf->files), 4);
}

static void an_earlier_directory_replaces_the_drop_in(void **state) {
        Tree *t = *state;

        put(t->lib, "gw.conf", "[A]\nK=0\n");
        put(t->etc, "gw.conf.d/10.conf", "[A]\nK=etc\n");
        put(t->lib, "gw.conf.d/10.conf", "[A]\nK=lib\n");
        load(t, "gw");
        assert_lines(t, "A.K=0|A.K=etc");
}

static void a_drop_in_can_be_masked(void **state) {
        Tree *t = *state;

        put(t->lib, "gw.conf", "[A]\nK=0\n");
        put(t->etc, "gw.conf.d/10.conf", "");
        put(t->lib, "gw.conf.d/10.conf", "[A]\nK=lib\n");
        load(t, "gw");
        assert_lines(t, "A.K=0");
}

static void a_drop_in_does_not_continue_a_section(void **state) {
        Tree *t = *state;

        put(t->etc, "gw.conf", "[A]\nK=0\n");
        put(t->etc, "gw.conf.d/10.conf", "L=1\n");
        load(t, "gw");
        assert_message(t, CONF_ERROR, "10.conf:1: this assignment is outside any section");
}

static void only_conf_files_are_drop_ins(void **state) {
        Tree *t = *state;

        put(t->etc, "gw.conf", "[A]\nK=0\n");
        put(t->etc, "gw.conf.d/10.conf~", "[A]\nK=1\n");
        put(t->etc, "gw.conf.d/README", "read me");
        put(t->etc, "gw.conf.d/x.conf.d/y.conf", "[A]\nK=2\n");
        load(t, "gw");
        assert_lines(t, "A.K=0");
        assert_int_equal(t->report.n_messages, 0);
}

static void drop_ins_alone_do_not_make_an_identity(void **state) {
        Tree *t = *state;

        put(t->etc, "gw.conf.d/10.conf", "[A]\nK=1\n");
        assert_names(t, "");
        assert_message(t, CONF_WARNING, "gw.conf.d: there is no gw.conf");
        assert_int_equal(conf_load(t->directories, "gw", &t->report, &t->conf), -ENOENT);
}

static void drop_ins_of_the_daemon_need_no_main_file(void **state) {
        Tree *t = *state;

        put(t->etc, "dpsd.conf.d/10.conf", "[Daemon]\nMaxAttempts=7\n");
        load(t, "dpsd");
        assert_lines(t, "Daemon.MaxAttempts=7");
        assert_names(t, "");
        assert_int_equal(t->report.n_messages, 0);
}

static void without_a_file_there_is_no_conf(void **state) {
        Tree *t = *state;

        assert_int_equal(conf_load(t->directories, "gw", &t->report, &t->conf), -ENOENT);
        assert_int_equal(conf_load(t->directories, "dpsd", &t->report, &t->conf), -ENOENT);
        assert_null(t->conf);
        assert_int_equal(t->report.n_messages, 0);
}

static void directories_may_be_missing(void **state) {
        Tree *t = *state;

        put(t->lib, "gw.conf", "[A]\nK=v\n");
        assert_int_equal(rmdir(t->etc), 0);
        assert_names(t, "gw");
        load(t, "gw");
        assert_lines(t, "A.K=v");
}

static void names_are_sorted_and_listed_once(void **state) {
        Tree *t = *state;

        put(t->lib, "b.conf", "#\n");
        put(t->lib, "a.conf", "#\n");
        put(t->etc, "b.conf", "#\n");
        put(t->run, "c.conf", "#\n");
        put(t->etc, "dpsd.conf", "#\n");
        assert_names(t, "a b c");
        assert_int_equal(t->report.n_messages, 0);
}

static void invalid_names_are_skipped_with_a_warning(void **state) {
        Tree *t = *state;

        put(t->etc, "-x.conf", "#\n");
        put(t->etc, "a b.conf", "#\n");
        put(t->etc, "a.json.conf", "#\n");
        assert_names(t, "");
        assert_message(t, CONF_WARNING, "-x.conf: not a valid name");
        assert_message(t, CONF_WARNING, "a b.conf: not a valid name");
        assert_message(t, CONF_WARNING, "a.json.conf: not a valid name");
        assert_int_equal(t->report.n_messages, 3);
}

static void keys_and_backups_in_the_same_directory_are_ignored(void **state) {
        Tree *t = *state;

        put(t->etc, "ca.pem", "#\n");
        put(t->etc, "gw.conf~", "#\n");
        put(t->etc, ".gw.conf.swp", "#\n");
        put(t->etc, "gw.conf.dpkg-new", "#\n");
        link_to(t->etc, ".#gw.conf", "me@here.1");
        assert_names(t, "");
        assert_int_equal(t->report.n_messages, 0);
}

static void one_file_alone_can_be_loaded(void **state) {
        Tree *t = *state;
        _cleanup_(freep) char *path = below(t->path, "draft");

        put(t->path, "draft", "[A]\nK=v\n");
        put(t->path, "draft.conf.d/10.conf", "[A]\nK=w\n");
        assert_int_equal(conf_load_file(path, "gw", &t->report, &t->conf), 0);
        assert_string_equal(t->conf->name, "gw");
        assert_lines(t, "A.K=v");
}

static void a_file_that_cannot_be_read_is_an_error(void **state) {
        Tree *t = *state;
        _cleanup_(freep) char *path = below(t->path, "draft");

        assert_int_equal(conf_load_file(path, "gw", &t->report, &t->conf), -ENOENT);
        assert_message(t, CONF_ERROR, "draft: cannot be read: No such file");
}

static void the_environment_replaces_the_search_path(void **state) {
        _cleanup_(strv_freep) char **directories = NULL;

        setenv("CONFIGURATION_DIRECTORY", "/a:/b/c", 1);
        assert_int_equal(conf_directories(NULL, &directories), 0);
        unsetenv("CONFIGURATION_DIRECTORY");
        assert_int_equal(strv_length(directories), 2);
        assert_string_equal(directories[0], "/a");
        assert_string_equal(directories[1], "/b/c");
}

static void the_search_path_is_etc_run_usr_lib(void **state) {
        _cleanup_(strv_freep) char **directories = NULL;

        unsetenv("CONFIGURATION_DIRECTORY");
        assert_int_equal(conf_directories("/image", &directories), 0);
        assert_int_equal(strv_length(directories), 3);
        assert_true(startswith(directories[0], "/image/"));
        assert_true(endswith(directories[0], "etc/dps"));
        assert_string_equal(directories[1], "/image/run/dps.d");
        assert_true(endswith(directories[2], "lib/dps"));
}

/* --- names ---------------------------------------------------------------------------------------------- */

static const struct name_case {
        const char *promise, *name;
        bool valid;
} names[] = {
        { "a name consists of letters, digits, _ . : -", "Gw_1.a:b-c", true },
        { "a digit may come first", "7", true },
        { "an underscore may come first", "_x", true },
        { "64 characters are allowed", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          true },
        { "65 characters are too many", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          false },
        { "an empty name is not valid", "", false },
        { "a dot cannot come first", ".x", false },
        { "a dash cannot come first", "-x", false },
        { "a name has no slash", "a/b", false },
        { "a name has no umlaut", "z\xc3\xbcrich", false },
        { "a name does not end in .conf", "a.conf", false },
        { "a name does not end in .d", "a.d", false },
        { "a name does not end in .json", "a.json", false },
        { "a name may hold .d inside", "a.d.b", true },
        { "dpsd is reserved for the daemon", "dpsd", false },
};

static void check_name(void **state) {
        const struct name_case *c = *state;

        assert_int_equal(conf_name_is_valid(c->name), c->valid);
}

#define WITH_TREE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest plain[] = {
                WITH_TREE(each_line_has_its_file_and_number),
                WITH_TREE(zero_bytes_are_an_error),
                WITH_TREE(a_faulty_line_is_not_shown),
                WITH_TREE(a_large_file_is_an_error),
                WITH_TREE(a_long_line_is_an_error_and_the_rest_is_read),
                WITH_TREE(joined_lines_are_limited_together),
                WITH_TREE(a_file_with_many_faults_is_not_read_further),
                WITH_TREE(a_message_is_one_printable_line),
                WITH_TREE(an_earlier_directory_replaces_the_file),
                WITH_TREE(an_empty_file_masks),
                WITH_TREE(a_link_to_dev_null_masks),
                WITH_TREE(a_masked_identity_ignores_its_drop_ins),
                WITH_TREE(a_link_to_a_file_counts_as_a_file),
                WITH_TREE(a_file_that_is_not_regular_is_skipped_with_a_warning),
                WITH_TREE(a_link_that_leads_nowhere_is_a_file_that_cannot_be_read),
                WITH_TREE(drop_ins_out_of_reach_are_an_error),
                WITH_TREE(the_other_directories_are_listed_beside_one_that_cannot_be),
                WITH_TREE(drop_ins_are_read_in_order_of_their_names),
                WITH_TREE(an_earlier_directory_replaces_the_drop_in),
                WITH_TREE(a_drop_in_can_be_masked),
                WITH_TREE(a_drop_in_does_not_continue_a_section),
                WITH_TREE(only_conf_files_are_drop_ins),
                WITH_TREE(drop_ins_alone_do_not_make_an_identity),
                WITH_TREE(drop_ins_of_the_daemon_need_no_main_file),
                WITH_TREE(without_a_file_there_is_no_conf),
                WITH_TREE(directories_may_be_missing),
                WITH_TREE(names_are_sorted_and_listed_once),
                WITH_TREE(invalid_names_are_skipped_with_a_warning),
                WITH_TREE(keys_and_backups_in_the_same_directory_are_ignored),
                WITH_TREE(one_file_alone_can_be_loaded),
                WITH_TREE(a_file_that_cannot_be_read_is_an_error),
                cmocka_unit_test(the_environment_replaces_the_search_path),
                cmocka_unit_test(the_search_path_is_etc_run_usr_lib),
        };
        struct CMUnitTest
                tests[ELEMENTSOF(good) + ELEMENTSOF(faulty) + ELEMENTSOF(names) + ELEMENTSOF(plain)] = { 0 };
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                tests[n++] = (struct CMUnitTest){ .name = good[i].promise,
                                                  .test_func = check_good,
                                                  .initial_state = (void *) &good[i] };
        for (size_t i = 0; i < ELEMENTSOF(faulty); i++)
                tests[n++] = (struct CMUnitTest){ .name = faulty[i].promise,
                                                  .test_func = check_faulty,
                                                  .initial_state = (void *) &faulty[i] };
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                tests[n++] = (struct CMUnitTest){ .name = names[i].promise,
                                                  .test_func = check_name,
                                                  .initial_state = (void *) &names[i] };
        memcpy(tests + n, plain, sizeof(plain));

        return cmocka_run_group_tests(tests, NULL, NULL);
}
