/* SPDX-License-Identifier: MIT */
#include "config/conf.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "basic/files.h"
#include "basic/text.h"
#include "build-config.h"
#include "config/file-kind.h"

/*
 * The syntax is that of systemd.syntax(7). A message never repeats the text of a faulty line, which may be a
 * key that was pasted into the wrong place. Hostile input costs time and memory in proportion to its size,
 * which is limited.
 */

#define FILE_SIZE_MAX (1024U * 1024)
#define LINE_SIZE_MAX (64U * 1024)
#define FAULTY_LINES_MAX 20 /* a file with more is probably not a configuration file */
#define MESSAGE_SIZE_MAX 1024
#define DAEMON_NAME "dpsd"

/* --- the report ----------------------------------------------------------------------------------------- */

static char *message_text(const char *file, unsigned line, const char *format, va_list arguments) {
        _cleanup_(freep) char *message = NULL, *whole = NULL;

        message = text_vformat(format, arguments);
        if (!message)
                return NULL;
        whole = file && line > 0 ? text_format("%s:%u: %s", file, line, message)
                                 : text_format("%s%s%s", file ?: "", file ? ": " : "", message);
        if (!whole)
                return NULL;

        text_hide_keys(whole);
        return text_for_people(whole, strlen(whole), MESSAGE_SIZE_MAX);
}

static void add_message(ConfReport *report, ConfSeverity severity, const char *file, unsigned line,
                        const char *format, va_list arguments) {
        _cleanup_(freep) char *text = message_text(file, line, format, arguments);
        ConfMessage *grown;

        grown = text ? reallocarray(report->messages, report->n_messages + 1, sizeof(ConfMessage)) : NULL;
        if (!grown) {
                report->has_errors = report->is_incomplete = true;
                return;
        }

        grown[report->n_messages++] = (ConfMessage){ severity, TAKE_PTR(text) };
        report->messages = grown;
        if (severity == CONF_ERROR)
                report->has_errors = true;
}

void conf_report_add(ConfReport *report, ConfSeverity severity, const char *file, unsigned line,
                     const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        add_message(report, severity, file, line, format, arguments);
        va_end(arguments);
}

void conf_report_line(ConfReport *report, ConfSeverity severity, const ConfLine *line, const char *format,
                      ...) {
        va_list arguments;

        va_start(arguments, format);
        add_message(report, severity, line->file, line->line, format, arguments);
        va_end(arguments);
}

void conf_report_done(ConfReport *report) {
        for (size_t i = 0; i < report->n_messages; i++)
                free(report->messages[i].text);
        free(report->messages);
        strv_free(report->out_of_reach);
        *report = (ConfReport){ 0 };
}

int (*conf_look)(const char *path);

static int look(const char *path) {
        return conf_look ? conf_look(path) : 0;
}

static bool is_link(const char *path) {
        struct stat st;

        return lstat(path, &st) >= 0 && S_ISLNK(st.st_mode);
}

const char *conf_report_first_error(const ConfReport *report) {
        for (size_t i = 0; i < report->n_messages; i++)
                if (report->messages[i].severity == CONF_ERROR)
                        return report->messages[i].text;
        return "";
}

/* Something is there, but the system does not let us read it: an error that may pass by itself. */
static void report_out_of_reach(ConfReport *report, const char *path, const char *what, int r) {
        conf_report_add(report, CONF_ERROR, path, 0, "cannot be %s: %s", what,
                        r == -ENOENT && is_link(path)
                                ? "it is a link to a file that is not there (is its volume not mounted?)"
                                : file_error(r));
        if (strv_append(&report->out_of_reach, path) < 0)
                report->is_incomplete = true;
}

/* --- directories and names ------------------------------------------------------------------------------ */

char *conf_directory_shown(void) {
        const char *list = getenv("CONFIGURATION_DIRECTORY");

        return isempty(list) ? strdup(DPS_SYSCONF_DIR) : strndup(list, strcspn(list, ":"));
}

int conf_directories(const char *root, char ***ret) {
        static const char *const usual[] = { DPS_SYSCONF_DIR, "/run/dps.d", DPS_VENDOR_CONF_DIR, NULL };
        _cleanup_(strv_freep) char **given = NULL, **directories = NULL;
        const char *list = getenv("CONFIGURATION_DIRECTORY");
        int r;

        if (!isempty(list)) {
                r = strv_split(list, ":", &given);
                if (r < 0)
                        return r;
        }

        STRV_FOREACH(d, given ?: (char *const *) usual) {
                r = strv_push(&directories,
                              text_format("%s%s%s", root ?: "", root && **d != '/' ? "/" : "", *d));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(directories);
        return 0;
}

bool conf_name_is_valid(const char *name) {
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
        size_t size = strlen(name);

        if (size == 0 || size > CONF_NAME_MAX || !strchr(letters, name[0]))
                return false;
        for (size_t i = 1; i < size; i++)
                if (!strchr(letters, name[i]) && !strchr(".:-", name[i]))
                        return false;

        return !endswith(name, ".conf") && !endswith(name, ".d") && !endswith(name, ".json") &&
               !streq(name, DAEMON_NAME);
}

static char *join(const char *directory, const char *name) {
        return text_format("%s/%s", directory, name);
}

/* --- which of the files count --------------------------------------------------------------------------- */

typedef enum FileKind {
        FILE_NONE,    /* it does not exist: the next directory is searched */
        FILE_EMPTY,   /* it masks those in later directories … */
        FILE_MASKED,  /* … as does a link to /dev/null */
        FILE_REGULAR, /* it is read */
        FILE_FOREIGN, /* it is something else: as FILE_NONE, with a warning */
} FileKind;

/* Only a name that is really gone is FILE_NONE. If stat() is refused, or a link leads nowhere or to what does not answer, the
 * file counts as regular: reading it fails, and the report says why. */
static FileKind kind_of(const char *path) {
        struct stat st;

        if (look(path) < 0)
                return FILE_REGULAR;
        if (stat(path, &st) < 0)
                return (errno == ENOENT || errno == ENOTDIR) && !is_link(path) ? FILE_NONE : FILE_REGULAR;

        if (S_ISREG(st.st_mode))
                return st.st_size > 0 ? FILE_REGULAR : FILE_EMPTY;
        if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
                return FILE_MASKED;
        return FILE_FOREIGN;
}

/* A file name, and the index of its directory in the search path. */
typedef struct Entry {
        char *name;
        unsigned rank;
} Entry;

typedef struct Listing {
        Entry *entries;
        size_t n_entries, n_allocated;
} Listing;

static void listing_done(Listing *l) {
        for (size_t i = 0; i < l->n_entries; i++)
                free(l->entries[i].name);
        free(l->entries);
}

static int listing_add(Listing *l, const char *name, unsigned rank) {
        char *copy;

        if (l->n_entries == l->n_allocated) {
                size_t n = MAX(2 * l->n_allocated, (size_t) 16);
                Entry *grown = reallocarray(l->entries, n, sizeof(Entry));

                if (!grown)
                        return -ENOMEM;
                l->entries = grown;
                l->n_allocated = n;
        }

        copy = strdup(name);
        if (!copy)
                return -ENOMEM;
        l->entries[l->n_entries++] = (Entry){ copy, rank };
        return 0;
}

static int compare_entries(const void *a, const void *b) {
        const Entry *x = a, *y = b;
        int r = strcmp(x->name, y->name);

        return r != 0 ? r : (int) x->rank - (int) y->rank;
}

/* Adds all names that end with ".conf" or ".conf.d", except lock files of editors (".#x.conf"). */
static int listing_scan(Listing *l, DIR *d, unsigned rank) {
        int r;

        for (;;) {
                struct dirent *e;

                errno = 0;
                e = readdir(d);
                if (!e)
                        return -errno;
                if (startswith(e->d_name, ".#") ||
                    (!endswith(e->d_name, ".conf") && !endswith(e->d_name, ".conf.d")))
                        continue;

                r = listing_add(l, e->d_name, rank);
                if (r < 0)
                        return r;
        }
}

/* A directory that does not exist counts as empty. One that exists but cannot be listed is an error:
 * returns 1. */
static int listing_read(Listing *l, const char *directory, unsigned rank, ConfReport *report) {
        DIR *d = NULL;
        struct stat st;
        int r = look(directory);

        if (r >= 0) {
                d = opendir(directory);
                r = d ? listing_scan(l, d, rank) : -errno;
        }
        if (d)
                closedir(d);
        if (r >= 0 || r == -ENOMEM)
                return r;
        if ((r == -ENOENT || r == -ENOTDIR) && lstat(directory, &st) < 0)
                return 0;
        report_out_of_reach(report, directory, "listed", r);
        return 1;
}

static void listing_sort(Listing *l) {
        if (l->n_entries > 0)
                qsort(l->entries, l->n_entries, sizeof(Entry), compare_entries);
}

/* Chooses between the files of one name, which are sorted by rank, and returns the path of the first that
 * counts. If there is none, `ret_kind` is FILE_NONE and `ret` untouched. `report` may be NULL. */
static int choose_file(char *const *directories, const Entry *entries, size_t n, ConfReport *report,
                       char **ret, FileKind *ret_kind) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_(freep) char *path = join(directories[entries[i].rank], entries[i].name);
                FileKind kind;

                if (!path)
                        return -ENOMEM;
                kind = kind_of(path);
                if (kind == FILE_FOREIGN && report)
                        conf_report_add(report, CONF_WARNING, path, 0,
                                        "neither a regular file nor a link to one, skipping");
                if (kind == FILE_FOREIGN || kind == FILE_NONE)
                        continue;

                *ret = TAKE_PTR(path);
                *ret_kind = kind;
                return 0;
        }

        *ret_kind = FILE_NONE;
        return 0;
}

/* The number of entries, from the i-th on, that have the name of the i-th. */
static size_t same_name(const Listing *l, size_t i) {
        size_t n = 1;

        while (i + n < l->n_entries && streq(l->entries[i + n].name, l->entries[i].name))
                n++;
        return n;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const Entry *) a)->name, ((const Entry *) b)->name);
}

/* NAME.conf.d without a NAME.conf does not make an identity. Its author may expect that it does. */
static void warn_of_lonely_drop_ins(const Listing *l, char *const *directories, const Entry *e,
                                    ConfReport *report) {
        _cleanup_(freep) char *main_name = strndup(e->name, strlen(e->name) - 2), *path = NULL;
        const Entry wanted = { .name = main_name };

        if (!main_name || streq(main_name, DAEMON_NAME ".conf") ||
            bsearch(&wanted, l->entries, l->n_entries, sizeof(wanted), compare_names))
                return;
        path = join(directories[e->rank], e->name);
        if (!path)
                return;
        conf_report_add(report, CONF_WARNING, path, 0,
                        "there is no %s that these drop-ins could add to, skipping", main_name);
}

static int list_one(const Listing *l, size_t i, size_t n, char *const *directories, ConfReport *report,
                    char ***names) {
        const Entry *e = &l->entries[i];
        _cleanup_(freep) char *name = strndup(e->name, strlen(e->name) - strlen(".conf")), *path = NULL;
        FileKind kind;
        int r;

        if (!name)
                return -ENOMEM;
        if (streq(name, DAEMON_NAME))
                return 0;
        if (!conf_name_is_valid(name)) {
                path = join(directories[e->rank], e->name);
                if (!path)
                        return -ENOMEM;
                conf_report_add(
                        report, CONF_WARNING, path, 0,
                        "not a valid name of an identity, skipping: a name is 1 to 64 of A-Z a-z 0-9 _ . : "
                        "-, begins with a letter, a digit or _, and does not end in .conf, .d or "
                        ".json");
                return 0;
        }

        r = choose_file(directories, e, n, report, &path, &kind);
        if (r < 0 || kind != FILE_REGULAR)
                return r;
        return strv_push(names, TAKE_PTR(name));
}

int conf_list(char *const *directories, ConfReport *report, char ***ret) {
        _cleanup_(listing_done) Listing l = { 0 };
        _cleanup_(strv_freep) char **names = NULL;
        unsigned rank = 0;
        int r;

        STRV_FOREACH(d, directories) {
                r = listing_read(&l, *d, rank++, report);
                if (r < 0)
                        return r;
                report->is_partial = report->is_partial || r > 0;
        }
        listing_sort(&l);

        for (size_t i = 0, n; i < l.n_entries; i += n) {
                n = same_name(&l, i);
                if (endswith(l.entries[i].name, ".d")) {
                        warn_of_lonely_drop_ins(&l, directories, &l.entries[i], report);
                        continue;
                }
                r = list_one(&l, i, n, directories, report, &names);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(names);
        return 0;
}

/* --- the lines of a file -------------------------------------------------------------------------------- */

/* One file while it is read. Lines that continue in the next one are joined in place, so that there is no
 * copy to wipe. */
typedef struct Reader {
        Conf *conf;
        ConfReport *report;
        const char *file; /* owned by `conf` */
        unsigned line;    /* the first line of what is being read */
        unsigned n_faulty;
        char *section;      /* NULL: no section has begun */
        bool skip_section;  /* its header is faulty, so its lines are skipped */
        char *joined;       /* the lines that are joined so far; NULL: none */
        size_t joined_size; /* of `joined` */
        size_t n_allocated; /* of the lines of `conf` */
} Reader;

static void reader_done(Reader *reader) {
        free(reader->section);
}

static void reader_fault(Reader *reader, const char *what) {
        if (++reader->n_faulty > FAULTY_LINES_MAX)
                return;
        conf_report_add(reader->report, CONF_ERROR, reader->file, reader->line, "%s", what);
        if (reader->n_faulty == FAULTY_LINES_MAX)
                conf_report_add(reader->report, CONF_ERROR, reader->file, reader->line,
                                "too many faults, the rest of the file is not read");
}

static int read_header(Reader *reader, Span line) {
        char *section;

        reader->skip_section = line.size < 3 || line.start[line.size - 1] != ']';
        if (reader->skip_section) {
                reader_fault(reader, "a section header must be [Name], with nothing after the ]");
                return 0;
        }

        section = strndup(line.start + 1, line.size - 2);
        if (!section)
                return -ENOMEM;
        free(reader->section);
        reader->section = section;
        return 0;
}

static int add_line(Reader *reader, Span key, Span value) {
        Conf *c = reader->conf;
        ConfLine line = { .file = reader->file, .line = reader->line };

        if (c->n_lines == reader->n_allocated) {
                size_t n = MAX(2 * reader->n_allocated, (size_t) 16);
                ConfLine *grown = reallocarray(c->lines, n, sizeof(ConfLine));

                if (!grown)
                        return -ENOMEM;
                c->lines = grown;
                reader->n_allocated = n;
        }

        line.section = strdup(reader->section);
        line.key = span_dup(key);
        line.value = span_dup(value);
        c->lines[c->n_lines++] = line; /* the conf owns it from now on, even if a part is missing */
        return line.section && line.key && line.value ? 0 : -ENOMEM;
}

static int read_assignment(Reader *reader, Span line) {
        const char *equals = memchr(line.start, '=', line.size);
        Span key, value;

        if (reader->skip_section)
                return 0;
        if (!equals) {
                reader_fault(reader,
                             "neither [Section] nor Key=Value (the line is not shown, as it may be a "
                             "secret); a comment begins with #, and a line that continues in the next "
                             "one ends with a backslash");
                return 0;
        }

        key = span_strip((Span){ line.start, (size_t) (equals - line.start) });
        value = span_strip((Span){ equals + 1, line.size - (size_t) (equals + 1 - line.start) });
        if (key.size == 0) {
                reader_fault(reader, "there is no key before the =");
                return 0;
        }
        if (!reader->section) {
                reader_fault(reader,
                             "this assignment is outside any section: a line such as [Provisioning] must "
                             "come before it");
                return 0;
        }
        return add_line(reader, key, value);
}

/* Reads the line that is complete now, if there is one. */
static int read_joined(Reader *reader) {
        Span line = span_strip((Span){ reader->joined, reader->joined_size });

        reader->joined = NULL;
        reader->joined_size = 0;
        if (line.size == 0)
                return 0;
        if (line.size > LINE_SIZE_MAX) {
                reader_fault(reader, "the line is longer than 64 kB");
                return 0;
        }
        return line.start[0] == '[' ? read_header(reader, line) : read_assignment(reader, line);
}

static bool is_continued(const char *line, size_t size) {
        size_t n = 0;

        while (n < size && line[size - 1 - n] == '\\')
                n++;
        return n % 2 == 1;
}

static int read_physical_line(Reader *reader, char *line, size_t size, unsigned number) {
        Span stripped = span_strip((Span){ line, size });
        bool is_last;

        if (stripped.size > 0 && strchr("#;", stripped.start[0]))
                return 0; /* also between lines that are joined */
        if (size > 0 && line[size - 1] == '\r')
                size--;

        is_last = !is_continued(line, size);
        if (!is_last)
                line[size - 1] = ' ';
        if (!reader->joined) {
                reader->line = number;
                reader->joined = line;
        }

        memmove(reader->joined + reader->joined_size, line, size);
        reader->joined_size += size;
        return is_last ? read_joined(reader) : 0;
}

/* Says why the file is not text, and in which line. NULL: it is text. */
static const char *find_garbage(Span text, unsigned *ret_line) {
        unsigned line = 0;

        if (!memchr(text.start, 0, text.size) && utf8_is_valid(text.start, text.size))
                return NULL;

        for (const char *p = text.start, *end = text.start + text.size; p < end; p++) {
                const char *newline = memchr(p, '\n', (size_t) (end - p));
                size_t size = (size_t) ((newline ?: end) - p);

                *ret_line = ++line;
                if (memchr(p, 0, size))
                        return "a zero byte: this is not a text file";
                if (!utf8_is_valid(p, size))
                        return "this is not UTF-8 text";
                p += size;
        }
        return "this is not UTF-8 text";
}

static int read_text(Reader *reader, char *text, size_t size) {
        const char *garbage = find_garbage((Span){ text, size }, &reader->line);
        char *p = text, *end = text + size;
        int r;

        if (garbage) {
                reader_fault(reader, garbage);
                return 0;
        }

        p += file_mark(p, (size_t) (end - p));
        for (unsigned number = 1; p < end && reader->n_faulty < FAULTY_LINES_MAX; number++) {
                char *newline = memchr(p, '\n', (size_t) (end - p));
                size_t length = (size_t) ((newline ?: end) - p);

                r = read_physical_line(reader, p, length, number);
                if (r < 0)
                        return r;
                p += length + 1;
        }
        return read_joined(reader);
}

/* --- one identity --------------------------------------------------------------------------------------- */

Conf *conf_free(Conf *c) {
        if (!c)
                return NULL;

        for (size_t i = 0; i < c->n_lines; i++) {
                free(c->lines[i].section);
                free(c->lines[i].key);
                erase_and_free(c->lines[i].value);
        }
        free(c->lines);
        strv_free(c->files);
        free(c->name);
        free(c);
        return NULL;
}

int conf_new(const char *name, const char *file, Conf **ret) {
        _cleanup_(conf_freep) Conf *c = calloc(1, sizeof(Conf));

        if (!c)
                return -ENOMEM;
        c->name = strdup(name);
        if (!c->name || (file && strv_append(&c->files, file) < 0))
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

/* Fails with -ENOMEM, or because the file cannot be read, which the report then says. Faulty lines are no
 * failure. */
static int conf_read(Conf *c, const char *path, ConfReport *report) {
        _cleanup_(reader_done) Reader reader = { .conf = c, .report = report };
        _cleanup_(freep) char *text = NULL;
        size_t size;
        int r;

        reader.n_allocated = c->n_lines;
        r = strv_append(&c->files, path);
        if (r < 0)
                return r;
        reader.file = c->files[strv_length(c->files) - 1];

        r = look(path);
        if (r >= 0)
                r = file_read(path, FILE_SIZE_MAX, &text, &size);
        if (r == -EFBIG)
                conf_report_add(report, CONF_ERROR, path, 0,
                                "larger than 1 MB: this is not a configuration file");
        else if (r < 0)
                report_out_of_reach(report, path, "read", r);
        if (r < 0)
                return r;

        r = read_text(&reader, text, size);
        explicit_bzero(text, size);
        return r;
}

static int conf_read_drop_ins(Conf *c, char *const *directories, ConfReport *report) {
        _cleanup_(listing_done) Listing l = { 0 };
        _cleanup_(strv_freep) char **paths = NULL;
        unsigned rank = 0;
        int r;

        STRV_FOREACH(d, directories) {
                r = strv_push(&paths, text_format("%s/%s.conf.d", *d, c->name));
                if (r < 0)
                        return r;
                r = listing_read(&l, paths[rank], rank, report);
                rank++;
                if (r < 0)
                        return r;
        }
        listing_sort(&l);

        for (size_t i = 0, n; i < l.n_entries; i += n) {
                _cleanup_(freep) char *path = NULL;
                FileKind kind;

                n = same_name(&l, i);
                if (endswith(l.entries[i].name, ".d"))
                        continue;
                r = choose_file(paths, &l.entries[i], n, report, &path, &kind);
                if (r >= 0 && kind == FILE_REGULAR)
                        r = conf_read(c, path, report);
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

static int choose_main_file(char *const *directories, const char *name, ConfReport *report, char **ret,
                            FileKind *ret_kind) {
        _cleanup_(freep) char *file_name = text_format("%s.conf", name);
        unsigned rank = 0;
        int r;

        if (!file_name)
                return -ENOMEM;

        *ret_kind = FILE_NONE;
        STRV_FOREACH(d, directories) {
                const Entry entry = { file_name, rank++ };

                r = choose_file(directories, &entry, 1, report, ret, ret_kind);
                if (r < 0 || *ret_kind != FILE_NONE)
                        return r;
        }
        return 0;
}

int conf_find_unusable(char *const *directories, const char *name, char **ret, const char **ret_what) {
        _cleanup_(freep) char *file = text_format("%s.conf", name), *found = NULL;

        if (!file)
                return -ENOMEM;
        STRV_FOREACH(directory, directories) {
                _cleanup_(freep) char *path = join(*directory, file);
                FileKind kind;

                if (!path)
                        return -ENOMEM;
                kind = kind_of(path);
                if (kind == FILE_REGULAR || (kind == FILE_MASKED && !found))
                        return 0; /* the first file counts, or is masked on purpose */
                if (kind == FILE_NONE || found)
                        continue;
                *ret_what = kind == FILE_FOREIGN ? "this is not a file" : "the file is empty";
                found = TAKE_PTR(path);
        }
        if (!found)
                return 0;

        *ret = TAKE_PTR(found);
        return 1;
}

int conf_load(char *const *directories, const char *name, ConfReport *report, Conf **ret) {
        _cleanup_(conf_freep) Conf *c = NULL;
        _cleanup_(freep) char *path = NULL;
        FileKind kind;
        int r;

        r = conf_new(name, NULL, &c);
        if (r < 0)
                return r;
        /* For the files of identities, conf_list() has given the warnings. */
        r = choose_main_file(directories, name, streq(name, DAEMON_NAME) ? report : NULL, &path, &kind);
        if (r < 0)
                return r;

        /* The drop-ins of dpsd.conf count even if there is no dpsd.conf: they add to the built-in
         * defaults. */
        if (kind != FILE_REGULAR && !streq(name, DAEMON_NAME))
                return -ENOENT;
        if (kind == FILE_REGULAR) {
                r = conf_read(c, path, report);
                if (r == -ENOMEM)
                        return r;
        }
        r = conf_read_drop_ins(c, directories, report);
        if (r < 0)
                return r;
        if (!c->files)
                return -ENOENT;

        *ret = TAKE_PTR(c);
        return 0;
}

int conf_load_file(const char *path, const char *name, ConfReport *report, Conf **ret) {
        _cleanup_(conf_freep) Conf *c = NULL;
        int r;

        r = conf_new(name, NULL, &c);
        if (r < 0)
                return r;
        r = conf_read(c, path, report);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}
