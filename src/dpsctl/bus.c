/* SPDX-License-Identifier: MIT */
#include "dpsctl/bus.h"

#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"

#define CALL_TIMEOUT_USEC (25 * USEC_PER_SEC)
/* Time to type a password. */
#define GUARDED_TIMEOUT_USEC (2 * USEC_PER_MINUTE)
#define SLOW_TIMEOUT_USEC (5 * USEC_PER_MINUTE)

/* The calls of others may fill the queue to dpsd, and then the bus delivers no more for a moment. */
#define FULL_USEC (100 * USEC_PER_MSEC)
#define FULL_TRIES (CALL_TIMEOUT_USEC / FULL_USEC)

/* `has_message`: the daemon's own message says what is wrong, and the advice follows it; otherwise the advice says it. */
static const struct {
        const char *name;
        Exit code;
        bool has_message;
        const char *advice;
} bus_errors[] = {
        { DPS_BUS_ERROR_NOT_ASSIGNED, EXIT_NOT_ASSIGNED, true, NULL },
        { DPS_BUS_ERROR_NO_SUCH_IDENTITY, EXIT_NO_IDENTITY, true, "dpsctl status lists the identities" },
        { DPS_BUS_ERROR_RATE_LIMITED, EXIT_RATE_LIMITED, true, NULL },
        { DPS_BUS_ERROR_CONFIG, EXIT_FAILED, true, NULL },
        { SD_BUS_ERROR_UNKNOWN_OBJECT, EXIT_NO_IDENTITY, false,
          "the identity is gone; dpsctl status lists the identities" },
        { SD_BUS_ERROR_INVALID_ARGS, EXIT_USAGE, true, NULL },
        { SD_BUS_ERROR_ACCESS_DENIED, EXIT_NOT_PERMITTED, true, "try it as root: sudo dpsctl ..." },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EXIT_NOT_PERMITTED, false,
          "not permitted without a password: run it as root (sudo dpsctl ...) or at a terminal" },
        { SD_BUS_ERROR_SERVICE_UNKNOWN, EXIT_NO_DAEMON, false,
          "dpsd is not running; to start it: systemctl start dpsd" },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER, EXIT_NO_DAEMON, false,
          "dpsd is not running; to start it: systemctl start dpsd" },
        { SD_BUS_ERROR_NO_REPLY, EXIT_NO_DAEMON, false,
          "dpsd stopped before it answered; to see why: journalctl -u dpsd" },
        { SD_BUS_ERROR_TIMEOUT, EXIT_TIMED_OUT, false,
          "dpsd does not answer; to see what it does: systemctl status dpsd" },
        { SD_BUS_ERROR_LIMITS_EXCEEDED, EXIT_FAILED, true,
          "there are too many calls to dpsd; try again later" },
        { SD_BUS_ERROR_UNKNOWN_METHOD, EXIT_FAILED, true, "dpsd and dpsctl are different versions" },
        { SD_BUS_ERROR_UNKNOWN_INTERFACE, EXIT_FAILED, true, "dpsd and dpsctl are different versions" },
};

Exit exit_from_bus_error(const char *name) {
        for (size_t k = 0; k < ELEMENTSOF(bus_errors); k++)
                if (streq(bus_errors[k].name, name))
                        return bus_errors[k].code;
        return EXIT_FAILED;
}

/* Over ssh, a connection that could not be made fails like one that broke. */
static bool is_lost(const sd_bus_error *error, int r) {
        int e = error && error->name ? sd_bus_error_get_errno(error) : -r;

        return e == ECONNRESET || e == ENOTCONN || e == EPIPE || e == ECONNREFUSED;
}

int bus_fail(const sd_bus_error *error, int r) {
        if (is_lost(error, r))
                return fail_with(EXIT_NO_DAEMON, "the connection to the bus is lost");
        if (!error || !error->name)
                return fail_with(EXIT_FAILED, "D-Bus: %s", strerror(r < 0 ? -r : EIO));

        for (size_t k = 0; k < ELEMENTSOF(bus_errors); k++) {
                if (!streq(bus_errors[k].name, error->name))
                        continue;
                if (!bus_errors[k].has_message)
                        return fail_with(bus_errors[k].code, "%s", bus_errors[k].advice);
                return fail_with(bus_errors[k].code, "%s%s%s", error->message ?: error->name,
                                 bus_errors[k].advice ? "; " : "", bus_errors[k].advice ?: "");
        }
        return fail_with(EXIT_FAILED, "%s", error->message ?: error->name);
}

int bus_fail_answer(const char *member, int r) {
        return fail_with(
                EXIT_FAILED,
                "the answer to %s has an unexpected form (%s): dpsd and dpsctl are different versions",
                member, strerror(-r));
}

int bus_open(const Options *o, sd_bus **ret) {
        sd_id128_t id;
        int r;

        if (o->host) {
                r = sd_bus_open_system_remote(ret, o->host);
                if (r >= 0)
                        r = sd_bus_get_bus_id(*ret, &id); /* waits for the login to finish */
                if (r < 0)
                        return fail_with(EXIT_NO_DAEMON, "%s cannot be reached over ssh: %s", o->host,
                                         strerror(-r));
                return 0;
        }

        r = sd_bus_open_system(ret);
        if (r == -ENOMEM)
                return fail_memory();
        if (r == -EACCES || r == -EPERM)
                return fail_with(EXIT_NOT_PERMITTED, "the system bus refuses the connection: %s",
                                 strerror(-r));
        if (r < 0)
                return fail_with(
                        EXIT_NO_DAEMON,
                        "dpsd cannot be reached because there is no system bus (%s); its state: systemctl "
                        "status dpsd, its files: /run/dps",
                        strerror(-r));
        return 0;
}

/* `timeout_usec` is how long a person may take; 0: the method needs no right. */
static int call(sd_bus *bus, const char *path, const char *interface, const char *member,
                uint64_t timeout_usec, sd_bus_error *error, sd_bus_message **ret_reply, const char *types,
                va_list arguments) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *request = NULL;
        bool is_person = timeout_usec > 0 && isatty(STDIN_FILENO);
        int r;

        r = sd_bus_message_new_method_call(bus, &request, DPS_BUS_NAME, path, interface, member);
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(request, false);
        if (r < 0)
                return r;
        r = sd_bus_message_set_allow_interactive_authorization(request, is_person);
        if (r < 0)
                return r;
        if (!isempty(types)) {
                r = sd_bus_message_appendv(request, types, arguments);
                if (r < 0)
                        return r;
        }
        if (!is_person && timeout_usec != SLOW_TIMEOUT_USEC)
                timeout_usec = CALL_TIMEOUT_USEC;
        for (unsigned k = 0;; k++) {
                r = sd_bus_call(bus, request, timeout_usec, error, ret_reply);
                if (r >= 0 || k == FULL_TRIES || !sd_bus_error_has_name(error, SD_BUS_ERROR_LIMITS_EXCEEDED))
                        return r;
                sd_bus_error_free(error);
                (void) usleep(FULL_USEC);
        }
}

int bus_call(sd_bus *bus, const char *path, const char *interface, const char *member,
             sd_bus_message **ret_reply, const char *types, ...) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = call(bus, path, interface, member, 0, &error, ret_reply, types, arguments);
        va_end(arguments);
        return r < 0 ? bus_fail(&error, r) : 0;
}

int bus_try(sd_bus *bus, const char *path, const char *interface, const char *member, sd_bus_error *error,
            sd_bus_message **ret_reply, const char *types, ...) {
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = call(bus, path, interface, member, 0, error, ret_reply, types, arguments);
        va_end(arguments);
        return r;
}

int bus_call_guarded(sd_bus *bus, const char *path, const char *interface, const char *member,
                     sd_bus_error *error, sd_bus_message **ret_reply, const char *types, ...) {
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = call(bus, path, interface, member, GUARDED_TIMEOUT_USEC, error, ret_reply, types, arguments);
        va_end(arguments);
        return r;
}

int bus_call_slow(sd_bus *bus, const char *path, const char *interface, const char *member,
                  sd_bus_error *error, sd_bus_message **ret_reply, const char *types, ...) {
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = call(bus, path, interface, member, SLOW_TIMEOUT_USEC, error, ret_reply, types, arguments);
        va_end(arguments);
        return r;
}

int bus_find_identity(sd_bus *bus, const char *name, char **ret_path) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r;

        r = bus_call(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "GetIdentity", &reply, "s", name);
        if (r != 0)
                return r;
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return bus_fail_answer("GetIdentity", r);

        *ret_path = strdup(path);
        return *ret_path ? 0 : fail_memory();
}
