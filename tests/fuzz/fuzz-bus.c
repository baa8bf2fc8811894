/* SPDX-License-Identifier: MIT */
#include <syslog.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "busdaemon.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"
#include "fuzz.h"

#define CALLS_MAX 16
#define DEPTH_MAX 3

/* Of a call; the bits below choose the caller. */
#define FLAG_INTERACTIVE 0x08
#define FLAG_OWN_PATH 0x10
#define FLAG_OWN_NAMES 0x20
#define FLAG_OWN_ARGUMENTS 0x40
#define FLAG_NO_INTERFACE 0x80

#define ANSWER_MAX_USEC (10 * USEC_PER_SEC)

typedef enum Right { RIGHT_NONE, RIGHT_USE, RIGHT_MANAGE } Right;

#define PROPERTIES "org.freedesktop.DBus.Properties"

static const struct method {
        const char *interface, *member, *signature;
        Right right;
        bool tells_secrets;
} methods[] = {
        { DPS_BUS_MANAGER, "ListIdentities", "", RIGHT_NONE, false },
        { DPS_BUS_MANAGER, "GetIdentity", "s", RIGHT_NONE, false },
        { DPS_BUS_MANAGER, "Reprovision", "s", RIGHT_MANAGE, false },
        { DPS_BUS_MANAGER, "Reload", "", RIGHT_MANAGE, false },
        { DPS_BUS_MANAGER, "Forget", "s", RIGHT_MANAGE, false },
        { DPS_BUS_IDENTITY, "Reprovision", "", RIGHT_MANAGE, false },
        { DPS_BUS_IDENTITY, "GetConnection", "", RIGHT_USE, true },
        { DPS_BUS_IDENTITY, "GetToken", "t", RIGHT_USE, true },
        { DPS_BUS_IDENTITY, "ReportHubFailure", "tsus", RIGHT_USE, false },
        { DPS_BUS_IDENTITY, "ReportHubConnected", "t", RIGHT_USE, false },
        { DPS_BUS_IDENTITY, "GetHistory", "", RIGHT_NONE, false },
        { PROPERTIES, "Get", "ss", RIGHT_NONE, false },
        { PROPERTIES, "GetAll", "s", RIGHT_NONE, false },
        { PROPERTIES, "Set", "ssv", RIGHT_MANAGE, false },
        { "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", RIGHT_NONE, false },
        { "org.freedesktop.DBus.Introspectable", "Introspect", "", RIGHT_NONE, false },
        { "org.freedesktop.DBus.Peer", "Ping", "", RIGHT_NONE, false },
        { DPS_BUS_IDENTITY, "GetEnrollment", "", RIGHT_USE, false },
        { DPS_BUS_MANAGER, "GetAllIdentities", "", RIGHT_NONE, false },
};

static const char *const paths[] = {
        DPS_BUS_PATH,
        DPS_BUS_IDENTITY_PREFIX "/known",
        DPS_BUS_IDENTITY_PREFIX "/new",
        "/org/freedesktop/LogControl1",
        DPS_BUS_IDENTITY_PREFIX,
        "/",
};

static const char *const words[] = {
        "known",
        "new",
        "",
        DPS_BUS_MANAGER,
        DPS_BUS_IDENTITY,
        "org.freedesktop.LogControl1",
        "LogLevel",
        "debug",
        "LogTarget",
        "State",
        "AssignedHub",
        "NIdentities",
        "auth",
        "not-found",
        "throttled",
        "server",
        "network",
};

/* Of any argument; types that stand alone. */
static const char *const types[] = { "s", "t", "u", "v", "as", "b",    "y",     "i",      "x",
                                     "d", "o", "g", "n", "q",  "(su)", "a{sv}", "a(tss)", "at" };

/* ---- arguments ---- */

typedef struct Input {
        const uint8_t *data;
        size_t size;
} Input;

static uint8_t take_byte(Input *in) {
        if (in->size == 0)
                return 0;
        in->size--;
        return *in->data++;
}

static uint64_t take_number(Input *in) {
        uint8_t n = take_byte(in) % 9;
        uint64_t number = 0;

        while (n-- > 0)
                number = number << 8 | take_byte(in);
        return number;
}

/* A word of the table, or raw bytes; of these sd-bus takes only UTF-8. */
static char *take_text(Input *in) {
        uint8_t length = take_byte(in);
        size_t n = MIN((size_t) (length & 0x7f), in->size);
        char *text;

        if (length & 0x80) {
                text = strdup(words[(length & 0x7f) % ELEMENTSOF(words)]);
                PROMISE(text);
                return text;
        }
        text = fuzz_text(in->data, n);
        in->data += n;
        in->size -= n;
        if (!utf8_is_valid(text, strlen(text)))
                for (char *p = text; *p; p++)
                        *p &= 0x7f;
        return text;
}

static void append_text(Input *in, sd_bus_message *m, char type) {
        _cleanup_(freep) char *text = take_text(in), *path = NULL;

        if (type == 'o') {
                PROMISE(sd_bus_path_encode("/", text, &path) >= 0);
                PROMISE(sd_bus_message_append_basic(m, type, path) >= 0);
        } else if (type == 'g') /* what is no signature is refused on this side */
                PROMISE(sd_bus_message_append_basic(m, type, strlen(text) % 2 ? "a{sv}" : "") >= 0);
        else
                PROMISE(sd_bus_message_append_basic(m, type, text) >= 0);
}

static void append_basic(Input *in, sd_bus_message *m, char type) {
        uint64_t number;
        int truth;

        if (strchr("sog", type)) {
                append_text(in, m, type);
                return;
        }
        number = take_number(in);
        truth = number & 1;
        PROMISE(sd_bus_message_append_basic(m, type, type == 'b' ? (const void *) &truth : &number) >= 0);
}

static void append_values(Input *in, sd_bus_message *m, const char *signature, unsigned depth);

static void append_container(Input *in, sd_bus_message *m, char type, const char *contents, unsigned n,
                             unsigned depth) {
        PROMISE(sd_bus_message_open_container(m, type, contents) >= 0);
        while (n-- > 0)
                append_values(in, m, contents, depth + 1);
        PROMISE(sd_bus_message_close_container(m) >= 0);
}

/* The size of the first complete type. */
static size_t type_size(const char *signature) {
        const char *p = signature;
        unsigned depth = 0;

        while (*p == 'a')
                p++;
        do {
                if (*p == '(' || *p == '{')
                        depth++;
                else if (*p == ')' || *p == '}')
                        depth--;
                p++;
        } while (depth > 0);
        return (size_t) (p - signature);
}

static void append_values(Input *in, sd_bus_message *m, const char *signature, unsigned depth) {
        for (size_t n; *signature; signature += n) {
                char contents[16];
                const char *type;

                n = type_size(signature);
                PROMISE(n < sizeof(contents));
                switch (*signature) {
                case 'a':
                        snprintf(contents, n, "%s", signature + 1);
                        append_container(in, m, 'a', contents, take_byte(in) % 4, depth);
                        break;
                case '(':
                case '{':
                        snprintf(contents, n - 1, "%s", signature + 1);
                        append_container(in, m, *signature == '(' ? 'r' : 'e', contents, 1, depth);
                        break;
                case 'v':
                        type = depth < DEPTH_MAX ? types[take_byte(in) % ELEMENTSOF(types)] : "s";
                        append_container(in, m, 'v', type, 1, depth);
                        break;
                default:
                        append_basic(in, m, *signature);
                }
        }
}

/* ---- answers ---- */

static unsigned n_pending;

static bool has_pending(void) {
        return n_pending > 0;
}

typedef struct Call {
        const struct caller *caller;
        const struct method *method; /* NULL: made up */
} Call;

static bool call_is_allowed(const Call *c) {
        switch (c->method->right) {
        case RIGHT_USE:
                return c->caller->may_use;
        case RIGHT_MANAGE:
                return c->caller->may_manage;
        default:
                return true;
        }
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        bool is_error = sd_bus_message_is_method_error(m, NULL) > 0;
        Call *c = userdata;

        n_pending--;
        /* sd-bus says so for itself when time is up, or the daemon has hung up. */
        PROMISE(sd_bus_message_is_method_error(m, SD_BUS_ERROR_NO_REPLY) <= 0);
        PROMISE(!message_holds(m, KEY));
        PROMISE(is_error || !c->method || call_is_allowed(c));
        if (is_error || !c->method || !c->method->tells_secrets)
                PROMISE(!message_holds(m, TOKEN));
        return 1;
}

/* ---- calls ---- */

static char *take_path(Input *in, bool is_raw) {
        _cleanup_(freep) char *text = NULL;
        char *path;

        if (!is_raw) {
                path = strdup(paths[take_byte(in) % ELEMENTSOF(paths)]);
                PROMISE(path);
                return path;
        }
        text = take_text(in);
        if (sd_bus_object_path_is_valid(text) > 0)
                return TAKE_PTR(text);
        PROMISE(sd_bus_path_encode(DPS_BUS_IDENTITY_PREFIX, text, &path) >= 0);
        return path;
}

static const struct method *find_method(const char *member) {
        for (size_t k = 0; k < ELEMENTSOF(methods); k++)
                if (streq(methods[k].member, member))
                        return &methods[k];
        return NULL;
}

/* What comes has passed a bus, which lets no names through that are none: then it is a name of the table. */
static sd_bus_message *new_call(Input *in, const struct method *method, uint8_t flags) {
        _cleanup_(freep) char *path = take_path(in, flags & FLAG_OWN_PATH), *own_interface = NULL,
                              *own_member = NULL;
        const char *interface = flags & FLAG_NO_INTERFACE ? NULL : method->interface,
                   *member = method->member;
        sd_bus_message *m;

        if (flags & FLAG_OWN_NAMES) {
                own_interface = take_text(in);
                own_member = take_text(in);
                if (sd_bus_interface_name_is_valid(own_interface) > 0)
                        interface = own_interface;
                if (sd_bus_member_name_is_valid(own_member) > 0)
                        member = own_member;
        }
        PROMISE(sd_bus_message_new_method_call(server, &m, DPS_BUS_NAME, path, interface, member) >= 0);
        PROMISE(sd_bus_message_set_allow_interactive_authorization(m, flags & FLAG_INTERACTIVE) >= 0);
        return m;
}

static sd_bus_message *compose(Input *in, uint8_t flags) {
        const struct method *method = &methods[take_byte(in) % ELEMENTSOF(methods)];
        sd_bus_message *m = new_call(in, method, flags);

        if (!(flags & FLAG_OWN_ARGUMENTS))
                append_values(in, m, method->signature, 0);
        else
                for (unsigned n = take_byte(in) % 6; n > 0; n--)
                        append_values(in, m, types[take_byte(in) % ELEMENTSOF(types)], 0);
        return m;
}

static void call(Input *in, Call *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint8_t flags = take_byte(in);
        char sender[16];

        c->caller = &callers[flags % ELEMENTSOF(callers)];
        m = compose(in, flags);
        c->method = find_method(sd_bus_message_get_member(m));
        snprintf(sender, sizeof(sender), ":1.%zu", (size_t) (c->caller - callers));
        PROMISE(sd_bus_message_set_sender(m, sender) >= 0);
        PROMISE(sd_bus_call_async(server, NULL, m, on_answer, c, ANSWER_MAX_USEC) >= 0);
        n_pending++;
}

/* Whether a caller could say it himself: also behind what makes text of his bytes. */
static bool may_hold(const uint8_t *data, size_t size, const char *needle) {
        size_t length = strlen(needle);

        for (size_t k = 0; k + length <= size; k++) {
                size_t n = 0;

                while (n < length && (data[k + n] & 0x7f) == (uint8_t) needle[n])
                        n++;
                if (n == length)
                        return true;
        }
        return false;
}

/* Input: calls. Each is a byte with its caller and flags, one that chooses the method, the path, and the arguments. All
 * are on their way at once. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input in = { data, size };
        Call calls[CALLS_MAX];

        /* Errors quote their callers. */
        if (may_hold(data, size, KEY) || may_hold(data, size, TOKEN))
                return 0;
        if (!manager)
                start();

        for (size_t k = 0; k < manager->n_identities; k++)
                manager->identities[k]->requests = (RateLimit){ 0 };
        for (unsigned k = 0; k < CALLS_MAX && in.size > 0; k++)
                call(&in, &calls[k]);
        run_while(has_pending);
        log_set_level(LOG_EMERG);
        return 0;
}
