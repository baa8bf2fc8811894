/* SPDX-License-Identifier: MIT */
#include "dpsctl/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stddef.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/say.h"

typedef enum OptionType {
        OPTION_FLAG,     /* bool */
        OPTION_TEXT,     /* const char * */
        OPTION_HOST,     /* const char *, passed to ssh */
        OPTION_LIST,     /* char **: words separated by commas; may be repeated */
        OPTION_DURATION, /* uint64_t, microseconds */
        OPTION_MOMENT,   /* uint64_t, seconds since 1970 */
        OPTION_ROOT,     /* const char *: a directory that exists */
        OPTION_JSON,     /* JsonMode; without a value: pretty */
        OPTION_VERB,     /* stands for the verb of this name */
} OptionType;

#define OF_THE_DAEMON                                                                                        \
        "status show reprovision wait token connection report-hub-failure report-hub-connected reload "      \
        "forget "                                                                                            \
        "log-level metrics monitor history"

/* `verbs`: those that take the option; NULL: all. */
static const struct Option {
        const char *name;
        char letter;
        OptionType type;
        size_t offset;
        const char *verbs;
} options[] = {
        { "json", 0, OPTION_JSON, offsetof(Options, json), NULL },
        { "no-pager", 0, OPTION_FLAG, offsetof(Options, no_pager), NULL },
        { "no-legend", 0, OPTION_FLAG, offsetof(Options, no_legend), NULL },
        { "quiet", 'q', OPTION_FLAG, offsetof(Options, quiet), NULL },
        { "redact", 0, OPTION_FLAG, offsetof(Options, redact), NULL },
        { "host", 'H', OPTION_HOST, offsetof(Options, host), OF_THE_DAEMON },
        { "help", 'h', OPTION_VERB, 0, NULL },
        { "version", 0, OPTION_VERB, 0, NULL },
        { "strict", 0, OPTION_FLAG, offsetof(Options, strict), "status" },
        { "property", 'p', OPTION_LIST, offsetof(Options, properties), "show" },
        { "wait", 0, OPTION_FLAG, offsetof(Options, wait), "reprovision" },
        { "timeout", 0, OPTION_DURATION, offsetof(Options, timeout_usec), "reprovision wait" },
        { "any", 0, OPTION_FLAG, offsetof(Options, any), "wait" },
        { "fresh", 0, OPTION_FLAG, offsetof(Options, fresh), "wait" },
        { "lifetime", 0, OPTION_DURATION, offsetof(Options, lifetime_usec), "token sas" },
        { "offline", 0, OPTION_FLAG, offsetof(Options, offline), "check" },
        { "hub-login", 0, OPTION_FLAG, offsetof(Options, hub_login), "check" },
        { "follow", 0, OPTION_TEXT, offsetof(Options, follow), "metrics" },
        { "root", 0, OPTION_ROOT, offsetof(Options, root), "verify-config cat-config expand" },
        { "force", 0, OPTION_FLAG, offsetof(Options, force), "import-key" },
        { "write-key", 0, OPTION_TEXT, offsetof(Options, write_key), "import-config" },
        { "key", 0, OPTION_TEXT, offsetof(Options, key), "derive-key sas" },
        { "id-scope", 0, OPTION_TEXT, offsetof(Options, id_scope), "sas" },
        { "registration-id", 0, OPTION_TEXT, offsetof(Options, registration_id), "sas" },
        { "hub", 0, OPTION_TEXT, offsetof(Options, hub), "sas" },
        { "device-id", 0, OPTION_TEXT, offsetof(Options, device_id), "sas" },
        { "expiry", 0, OPTION_MOMENT, offsetof(Options, expiry_sec), "sas" },
};

/* getopt_long() returns this plus the number of the row. */
#define OPTION_FIRST 256

static int store_json(JsonMode *ret, const char *word) {
        static const char *const modes[] = {
                [JSON_OFF] = "off", [JSON_SHORT] = "short", [JSON_PRETTY] = "pretty"
        };

        word = word ?: modes[JSON_PRETTY];
        for (size_t k = 0; k < ELEMENTSOF(modes); k++)
                if (streq(modes[k], word)) {
                        *ret = (JsonMode) k;
                        return 0;
                }
        return fail_with(EXIT_USAGE, "--json=%s: must be pretty, short or off", word);
}

static int store_list(char ***list, const char *words) {
        _cleanup_(strv_freep) char **more = NULL;

        if (strv_split(words, ",", &more) < 0)
                return fail_memory();
        if (!more)
                return fail_with(EXIT_USAGE, "--property=: must be one or more names, separated by commas");
        STRV_FOREACH(w, more)
                if (strv_append(list, *w) < 0)
                        return fail_memory();
        return 0;
}

/* Some options of ssh run commands, so neither part may look like an option, wherever sd-bus puts it. */
static int store_host(const char **ret, const char *host) {
        const char *at = strrchr(host, '@');
        const char *name = at ? at + 1 : host;

        if (isempty(name) || *name == '-' || *host == '-' || *host == '@')
                return fail_with(EXIT_USAGE,
                                 "--host=%s: must be HOST or USER@HOST; neither may begin with '-'", host);
        *ret = host;
        return 0;
}

/* Without this check, verify-config would find nothing wrong below a directory that does not exist. */
static int store_root(const char **ret, const char *path) {
        _cleanup_(closep) int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return fail_with(EXIT_USAGE, "--root=%s: must be a directory: %s", path, strerror(errno));
        *ret = path;
        return 0;
}

static int store(Options *o, const struct Option *row, const char *value) {
        void *field = (char *) o + row->offset;

        switch (row->type) {
        case OPTION_FLAG:
                *(bool *) field = true;
                return 0;
        case OPTION_TEXT:
                *(const char **) field = value;
                return 0;
        case OPTION_HOST:
                return store_host(field, value);
        case OPTION_LIST:
                return store_list(field, value);
        case OPTION_DURATION:
                if (parse_duration(value, field) < 0)
                        return fail_with(EXIT_USAGE,
                                         "--%s=%s: must be a duration, such as 90, 5min or 2h 30min",
                                         row->name, value);
                o->has_timeout = o->has_timeout || streq(row->name, "timeout");
                return 0;
        case OPTION_MOMENT:
                if (parse_u64(value, field) < 0 || *(uint64_t *) field == 0 ||
                    *(uint64_t *) field > UINT64_MAX / USEC_PER_SEC)
                        return fail_with(EXIT_USAGE, "--%s=%s: must be seconds since 1970", row->name, value);
                return 0;
        case OPTION_ROOT:
                return store_root(field, value);
        case OPTION_JSON:
                return store_json(field, value);
        case OPTION_VERB:
                o->verb = row->name;
                return 0;
        }
        abort();
}

static bool has_word(const char *words, const char *word) {
        size_t n = strlen(word);

        for (const char *p = words; (p = strstr(p, word)); p += n)
                if ((p == words || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
                        return true;
        return false;
}

/* Refuses an option that the verb does not have. */
static int check_verbs(const Options *o, const bool *given) {
        for (size_t k = 0; k < ELEMENTSOF(options); k++)
                if (given[k] && options[k].verbs && !has_word(options[k].verbs, o->verb))
                        return fail_with(EXIT_USAGE, "%s does not take --%s; it is for: %s", o->verb,
                                         options[k].name, options[k].verbs);
        return 0;
}

static void fill_getopt(struct option *ret_long, char *ret_short) {
        size_t n = 0;

        for (size_t k = 0; k < ELEMENTSOF(options); k++) {
                bool has_value = options[k].type != OPTION_FLAG && options[k].type != OPTION_VERB;
                int argument = options[k].type == OPTION_JSON ? optional_argument
                               : has_value                    ? required_argument
                                                              : no_argument;

                ret_long[k] = (struct option){ .name = options[k].name,
                                               .has_arg = argument,
                                               .val = OPTION_FIRST + (int) k };
                if (options[k].letter)
                        ret_short[n++] = options[k].letter;
                if (options[k].letter && has_value)
                        ret_short[n++] = ':';
        }
        ret_short[n] = '\0';
}

static const struct Option *find_row(int c) {
        if (c >= OPTION_FIRST)
                return &options[c - OPTION_FIRST];
        for (size_t k = 0; k < ELEMENTSOF(options); k++)
                if (options[k].letter == c)
                        return &options[k];
        return NULL;
}

static int read_options(int argc, char **argv, Options *o, bool *given) {
        struct option longs[ELEMENTSOF(options) + 1] = { 0 };
        char shorts[2 * ELEMENTSOF(options) + 1];
        int c, r;

        fill_getopt(longs, shorts);
        optind = 0; /* start again: tests parse many times */
        while ((c = getopt_long(argc, argv, shorts, longs, NULL)) >= 0) {
                const struct Option *row = find_row(c);

                if (!row) /* getopt_long() has said why */
                        return fail_with(EXIT_USAGE, "dpsctl --help lists the options");
                r = store(o, row, optarg);
                if (r != 0)
                        return r;
                given[row - options] = true;
        }
        return 0;
}

int options_parse(int argc, char **argv, Options *ret) {
        bool given[ELEMENTSOF(options)] = { 0 };
        Options o = { .timeout_usec = USEC_INFINITY };
        int r;

        r = read_options(argc, argv, &o, given);
        if (r == 0 && o.verb) /* --help wins over everything else */
                optind = argc;
        else if (r == 0) {
                o.verb = optind < argc ? argv[optind++] : "status";
                r = check_verbs(&o, given);
        }
        if (r != 0) {
                options_done(&o);
                return r;
        }

        o.arguments = argv + optind;
        o.n_arguments = (unsigned) (argc - optind);
        *ret = o;
        return 0;
}

void options_done(Options *o) {
        o->properties = strv_free(o->properties);
}
