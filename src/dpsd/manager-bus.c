/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "build-config.h"
#include "dpsd/bus-internal.h"

/* io.dpsd.dps1.Manager: the object for everything that concerns all identities. */

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", manager_state(((Bus *) userdata)->manager));
}

static int get_n_identities(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "u", (uint32_t) ((Bus *) userdata)->manager->n_identities);
}

static int get_n_assigned(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "u", manager_n_assigned(((Bus *) userdata)->manager));
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", DPS_VERSION);
}

static int method_list_identities(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Manager *m = ((Bus *) userdata)->manager;
        int r;

        r = sd_bus_message_new_method_return(request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(sos)");
        if (r < 0)
                return r;
        for (size_t k = 0; k < m->n_identities; k++) {
                const Identity *i = m->identities[k];
                _cleanup_(freep) char *path = NULL;

                r = identity_bus_path(i->name, &path);
                if (r < 0)
                        return r;
                r = sd_bus_message_append(reply, "(sos)", i->name, path, identity_state_to_string(i->state));
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int find_named(Bus *b, sd_bus_message *request, Identity **ret, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(request, "s", &name);
        if (r < 0)
                return r;
        return identity_bus_find(b, name, ret, error);
}

static int method_get_identity(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(freep) char *path = NULL;
        Identity *i;
        int r;

        r = find_named(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = identity_bus_path(i->name, &path);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(request, "o", path);
}

static int act_reprovision(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;
        Identity *i;
        int r;

        r = sd_bus_message_rewind(request, true);
        if (r < 0)
                return r;
        r = find_named(b, request, &i, error);
        if (r < 0)
                return r;
        return identity_bus_reprovision(b, request, i, error);
}

static int method_reprovision(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;
        Identity *i;
        int r;

        r = find_named(b, request, &i, error);
        if (r < 0)
                return r;
        return access_request(b->access, request, ACCESS_MANAGE, i->name, identity_group(i), act_reprovision,
                              error);
}

/* Fails with Error.Config and all faults, one per line. */
static int refuse_configuration(const ConfReport *report, sd_bus_error *error) {
        _cleanup_(freep) char *text = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t k = 0; k < report->n_messages; k++)
                if (report->messages[k].severity == CONF_ERROR)
                        fprintf(f, "%s%s", ftell(f) > 0 ? "\n" : "", report->messages[k].text);
        if (fclose(f) != 0 || !text)
                return -ENOMEM;
        return sd_bus_error_set(error, DPS_BUS_ERROR_CONFIG, text);
}

static int append_faults(sd_bus_message *m, const ConfReport *report, ConfSeverity severity) {
        int r = sd_bus_message_open_container(m, 'a', "s");

        for (size_t k = 0; r >= 0 && k < report->n_messages; k++)
                if (report->messages[k].severity == severity)
                        r = sd_bus_message_append(m, "s", report->messages[k].text);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int reply_with_report(sd_bus_message *request, const LoadReport *report) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        char *const *const lists[] = { report->added, report->changed, report->retired };
        int r;

        r = sd_bus_message_new_method_return(request, &reply);
        if (r >= 0)
                r = append_faults(reply, &report->faults, CONF_ERROR);
        if (r >= 0)
                r = append_faults(reply, &report->faults, CONF_WARNING);
        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(lists); k++)
                r = sd_bus_message_append_strv(reply, (char **) lists[k]);
        if (r >= 0)
                r = sd_bus_message_append(reply, "u", report->n_unchanged);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int answer_reload(sd_bus_message *request, int r, const LoadReport *report, sd_bus_error *error) {
        bool with_report = sd_bus_message_is_method_call(request, NULL, "ReloadWithReport") > 0;

        if (r == -EBADMSG && !with_report)
                return refuse_configuration(&report->faults, error);
        if (r < 0 && r != -EBADMSG)
                return sd_bus_error_set_errnof(error, r, "Cannot read the configuration: %s", strerror(-r));
        return with_report ? reply_with_report(request, report) : sd_bus_reply_method_return(request, NULL);
}

void bus_reloaded(Bus *b, uint64_t n, int r, const LoadReport *report) {
        unsigned n_left = 0;

        for (unsigned k = 0; b && k < b->n_reloads; k++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                sd_bus_message *request = b->reloads[k].request;
                int answered;

                if (b->reloads[k].load > n) {
                        b->reloads[n_left++] = b->reloads[k];
                        continue;
                }
                answered = answer_reload(request, r, report, &error);
                if (answered < 0)
                        (void) sd_bus_reply_method_errno(request, answered, &error);
                sd_bus_message_unref(request);
        }
        if (b)
                b->n_reloads = n_left;
}

void manager_bus_forget_reloads(Bus *b) {
        while (b->n_reloads > 0)
                sd_bus_message_unref(b->reloads[--b->n_reloads].request);
}

static int act_reload(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;
        BusReload *waiting = &b->reloads[b->n_reloads];

        if (b->n_reloads == BUS_RELOADS_MAX)
                return sd_bus_error_set(error, DPS_BUS_ERROR_RATE_LIMITED,
                                        "others wait for the configuration to be read; try again when it is");
        /* If memory runs out, the load ends before its number is known. */
        *waiting = (BusReload){ .request = sd_bus_message_ref(request) };
        b->n_reloads++;
        waiting->load = b->handlers.reload(b->userdata);
        return 1;
}

static int method_reload(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return access_request(((Bus *) userdata)->access, request, ACCESS_MANAGE, NULL, NULL, act_reload,
                              error);
}

static int refuse_forget(const char *name, int r, sd_bus_error *error) {
        _cleanup_(freep) char *shown = NULL;

        if (r == -ENOENT) {
                shown = text_for_people(name, strlen(name), 64);
                return sd_bus_error_setf(error, DPS_BUS_ERROR_NO_SUCH_IDENTITY,
                                         "There is no record of an identity named '%s'", shown ?: "?");
        }
        if (r == -EBUSY)
                return sd_bus_error_setf(error, DPS_BUS_ERROR_CONFIG,
                                         "%s is configured: first remove %s.conf and run dpsctl reload", name,
                                         name);
        if (r == -EAGAIN)
                return sd_bus_error_setf(error, DPS_BUS_ERROR_RATE_LIMITED,
                                         "%u identities are being forgotten already; try again when they are",
                                         MANAGER_FORGETS_MAX);
        return sd_bus_error_set_errnof(error, r, "Cannot forget %s: %s", name, strerror(-r));
}

/* Owns the request. */
static void on_forgotten(int r, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *request = userdata;
        const char *name;

        if (r >= 0)
                r = sd_bus_reply_method_return(request, NULL);
        else if (sd_bus_message_rewind(request, true) >= 0 && sd_bus_message_read(request, "s", &name) > 0)
                r = refuse_forget(name, r, &error);
        if (r < 0)
                (void) sd_bus_reply_method_errno(request, r, &error);
}

static int act_forget(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        const char *name;
        int r;

        r = sd_bus_message_read(request, "s", &name);
        if (r < 0)
                return r;
        (void) sd_bus_message_ref(request);
        r = conf_name_is_valid(name)
                    ? manager_forget(((Bus *) userdata)->manager, name, on_forgotten, request)
                    : -ENOENT;
        if (r < 0)
                on_forgotten(r, request);
        return 1;
}

static int method_forget(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return access_request(((Bus *) userdata)->access, request, ACCESS_MANAGE, NULL, NULL, act_forget,
                              error);
}

/* Reads what Check() is asked for. The strings are the message's. */
static int read_check(sd_bus_message *request, ManagerCheckWish *ret, sd_bus_error *error) {
        const char *option;
        int r;

        *ret = (ManagerCheckWish){ 0 };
        r = sd_bus_message_read(request, "s", &ret->name);
        if (r >= 0)
                r = sd_bus_message_enter_container(request, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read(request, "s", &option)) > 0)
                if (streq(option, "offline"))
                        ret->offline = true;
                else if (streq(option, "hub-login"))
                        ret->hub_login = true;
                else
                        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                                "The options of Check() are 'offline' and 'hub-login'");
        return r;
}

static int refuse_unknown(const char *name, sd_bus_error *error) {
        _cleanup_(freep) char *shown = text_for_people(name, strlen(name), 64);

        return sd_bus_error_setf(
                error, DPS_BUS_ERROR_NO_SUCH_IDENTITY,
                "there is no %s.conf, or it is masked; dps.conf(5) says where it is searched", shown ?: "?");
}

static void on_checked(int r, char *text, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *request = userdata;
        _cleanup_(freep) char *owned = text;
        ManagerCheckWish wish;

        if (r >= 0) {
                (void) sd_bus_reply_method_return(request, "s", owned);
                return;
        }
        if (r == -EOPNOTSUPP)
                r = sd_bus_error_set(&error, DPS_BUS_ERROR_NOT_SUPPORTED, owned ?: strerror(-r));
        if (r == -ENOENT && sd_bus_message_rewind(request, true) >= 0 &&
            read_check(request, &wish, &error) >= 0)
                r = refuse_unknown(wish.name, &error);
        (void) sd_bus_reply_method_errno(request, r, &error);
}

static int act_check(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        ManagerCheckWish wish;
        int r;

        r = sd_bus_message_rewind(request, true);
        if (r >= 0)
                r = read_check(request, &wish, error);
        if (r < 0)
                return r;
        if (*wish.name && !conf_name_is_valid(wish.name))
                return refuse_unknown(wish.name, error);
        r = manager_check(((Bus *) userdata)->manager, &wish, on_checked, sd_bus_message_ref(request));
        if (r >= 0)
                return 1;
        sd_bus_message_unref(request);
        if (r == -EBUSY)
                return sd_bus_error_setf(error, DPS_BUS_ERROR_RATE_LIMITED,
                                         "%u checks are running already; try again when they have ended",
                                         MANAGER_CHECKS_MAX);
        return r;
}

static int method_check(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return access_request(((Bus *) userdata)->access, request, ACCESS_MANAGE, NULL, NULL, act_check,
                              error);
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NIdentities", "u", get_n_identities, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("NAssigned", "u", get_n_assigned, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),

        SD_BUS_METHOD_WITH_ARGS("ListIdentities", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sos)", identities),
                                method_list_identities, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetAllIdentities", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", columns),
                                identity_bus_get_all, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetIdentity", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", path),
                                method_get_identity, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reprovision", SD_BUS_ARGS("s", name), SD_BUS_RESULT("t", id),
                                method_reprovision, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ReloadWithReport", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("as", errors, "as", warnings, "as", added, "as", changed, "as",
                                              retired, "u", n_unchanged),
                                method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, method_forget,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Check", SD_BUS_ARGS("s", name, "as", options), SD_BUS_RESULT("s", json),
                                method_check, SD_BUS_VTABLE_UNPRIVILEGED),

        SD_BUS_SIGNAL_WITH_ARGS("IdentityAdded", SD_BUS_ARGS("s", name, "o", path), 0),
        SD_BUS_SIGNAL_WITH_ARGS("IdentityRemoved", SD_BUS_ARGS("s", name, "o", path), 0),
        SD_BUS_VTABLE_END
};

void bus_manager_changed(Bus *b) {
        char *names[4] = { 0 };
        size_t n_names = 0;
        const Manager *m;
        const char *state;
        unsigned n_assigned;

        if (!b || !b->is_connected || !identity_bus_is_taken(b))
                return;

        m = b->manager;
        state = manager_state(m);
        n_assigned = manager_n_assigned(m);
        if (!b->state_shown || !streq(b->state_shown, state))
                names[n_names++] = (char *) "State";
        if (!b->state_shown || b->n_identities_shown != m->n_identities)
                names[n_names++] = (char *) "NIdentities";
        if (!b->state_shown || b->n_assigned_shown != n_assigned)
                names[n_names++] = (char *) "NAssigned";
        b->state_shown = state;
        b->n_identities_shown = (unsigned) m->n_identities;
        b->n_assigned_shown = n_assigned;
        (void) sd_bus_emit_properties_changed_strv(b->connection, DPS_BUS_PATH, DPS_BUS_MANAGER, names);
        identity_bus_tell_jobs(b);
}

int manager_bus_add(Bus *b) {
        return sd_bus_add_object_vtable(b->connection, NULL, DPS_BUS_PATH, DPS_BUS_MANAGER, manager_vtable,
                                        b);
}
