/* SPDX-License-Identifier: MIT */
#include "dpsd/access-internal.h"

#include <errno.h>
#include <systemd/sd-bus.h>

#include "basic/text.h"
#include "dpsd/log.h"

/* The connections that requests come from. The bus is asked for the user and the groups of each, and reports when it has
 * gone. */

#define BUS_DRIVER "org.freedesktop.DBus"

void sender_free(Sender *s) {
        Access *a = s->access;
        Sender **place = &a->senders;

        while (s->waiting.first)
                check_free(s->waiting.first);
        while (s->at_polkit.first)
                check_free(s->at_polkit.first);
        while (s->kept.first)
                check_free(s->kept.first);
        while (*place != s)
                place = &(*place)->next;
        *place = s->next;
        if (s->account)
                s->account->n_senders--;
        if (s->slot)
                a->n_asked--;
        sd_bus_slot_unref(s->slot);
        free(s->gids);
        free(s->name);
        free(s);
        if (!a->senders)
                a->gone = sd_bus_slot_unref(a->gone);
}

/* A sender is not forgotten before the bus has answered. Otherwise one that is always refused would make us ask again for
 * each request. While too much is asked for, a known sender is kept for the same reason. */
void sender_free_if_done(Sender *s) {
        if (s->n_checks == 0 && !s->slot && !(s->account && s->access->is_overloaded && s->access->gone))
                sender_free(s);
}

void access_forget_senders(Access *a) {
        Sender *next;

        for (Sender *s = a->senders; s; s = next) {
                next = s->next;
                sender_free_if_done(s);
        }
}

Sender *sender_find(const Access *a, const char *name) {
        for (Sender *s = a->senders; s; s = s->next)
                if (streq(s->name, name))
                        return s;
        return NULL;
}

/* ---- connections that end ---- */

/* What belongs to a connection ends with it; only what is carried out goes on. */
static int on_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *before, *now;
        Access *a = userdata;
        Sender *s;

        if (sd_bus_message_read(m, "sss", &name, &before, &now) < 0 || *now)
                return 0;
        s = sender_find(a, name);
        if (s) {
                while (s->waiting.first)
                        check_free(s->waiting.first);
                while (s->at_polkit.first)
                        check_free(s->at_polkit.first);
                sender_free_if_done(s);
                access_ask_polkit(a);
        }
        return 0;
}

/* Without the watch, a request ends with its deadline, and nothing else is kept of its sender. */
static int on_watched(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const sd_bus_error *refusal = sd_bus_message_get_error(reply);
        static bool is_told;
        Access *a = userdata;

        if (!refusal || sd_bus_error_has_name(refusal, SD_BUS_ERROR_NO_REPLY))
                return 0;
        a->gone = sd_bus_slot_unref(a->gone);
        access_forget_senders(a);
        if (!is_told)
                log_warning(
                        "D-Bus: the bus does not tell when a caller goes (%s): its requests wait for their "
                        "deadline",
                        refusal->message);
        is_told = true;
        return 0;
}

static void watch_senders(Access *a, sd_bus *bus) {
        if (!a->gone)
                (void) sd_bus_add_match_async(bus, &a->gone,
                                              "type='signal',sender='" BUS_DRIVER "',interface='" BUS_DRIVER
                                              "',member='NameOwnerChanged',arg2=''",
                                              on_gone, on_watched, a);
}

/* ---- who it is ---- */

static int read_gids(Sender *s, sd_bus_message *m) {
        const void *gids;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "au");
        if (r < 0)
                return r;
        r = sd_bus_message_read_array(m, 'u', &gids, &size);
        if (r < 0)
                return r;

        free(s->gids);
        s->gids = malloc(MAX(size, (size_t) 1));
        if (!s->gids)
                return -ENOMEM;
        memcpy(s->gids, gids, size);
        s->n_gids = size / sizeof(uint32_t);
        return sd_bus_message_exit_container(m);
}

static int read_credential(Sender *s, sd_bus_message *m) {
        const char *key;
        int r;

        r = sd_bus_message_read(m, "s", &key);
        if (r < 0)
                return r;

        if (streq(key, "UnixGroupIDs"))
                return read_gids(s, m);
        if (!streq(key, "UnixUserID"))
                return sd_bus_message_skip(m, "v");

        r = sd_bus_message_read(m, "v", "u", &s->uid);
        if (r < 0)
                return r;
        s->has_uid = true;
        return 0;
}

/* The answer is an a{sv}; we read the user and the groups. -ENODATA: the bus did not say who the sender
 * is. */
static int read_credentials(Sender *s, sd_bus_message *m) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_credential(s, m);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return s->has_uid ? 0 : -ENODATA;
}

static void decide_waiting(Sender *s) {
        Check *next;

        for (Check *c = s->waiting.first; c; c = next) {
                next = c->next;
                if (s->account)
                        check_decide(c);
                else
                        check_fail(c, SD_BUS_ERROR_ACCESS_DENIED, "The bus does not say who is asking");
        }
}

static int on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *error);

static int ask_bus(Sender *s, sd_bus *bus) {
        int r;

        r = sd_bus_call_method_async(bus, &s->slot, BUS_DRIVER, "/org/freedesktop/DBus", BUS_DRIVER,
                                     "GetConnectionCredentials", on_credentials, s, "s", s->name);
        if (r >= 0)
                s->access->n_asked++;
        return r;
}

/* The sender that has waited longest is the last one in the list. */
static Sender *find_not_asked(const Access *a) {
        Sender *found = NULL;

        for (Sender *s = a->senders; s; s = s->next)
                if (!s->slot && !s->account)
                        found = s;
        return found;
}

static void ask_bus_for_others(Access *a, sd_bus *bus) {
        Sender *s;

        while (a->n_asked < ACCESS_AT_BUS_MAX && (s = find_not_asked(a)))
                if (ask_bus(s, bus) < 0) {
                        decide_waiting(s);
                        sender_free(s);
                }
}

static int on_credentials(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        sd_bus *bus = sd_bus_message_get_bus(reply);
        Sender *s = userdata;
        Access *a = s->access;
        bool is_known;

        s->slot = sd_bus_slot_unref(s->slot);
        a->n_asked--;
        /* The answer itself is not kept: it may have brought a descriptor of the sender's process. */
        is_known = !sd_bus_message_is_method_error(reply, NULL) && read_credentials(s, reply) >= 0;
        if (is_known)
                s->account = accounts_get(&a->accounts, s->uid, access_now(a));
        if (s->account)
                s->account->n_senders++;
        decide_waiting(s);
        if (s->n_checks > 0 || a->is_overloaded)
                watch_senders(a, bus);
        sender_free_if_done(s);
        ask_bus_for_others(a, bus);
        access_ask_polkit(a);
        return 0;
}

int sender_new(Access *a, sd_bus_message *request, Sender **ret) {
        const char *name = sd_bus_message_get_sender(request);
        Sender *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Sender){ .access = a, .name = strdup(name), .next = a->senders };
        a->senders = s;
        if (!s->name)
                r = -ENOMEM;
        else
                r = a->n_asked < ACCESS_AT_BUS_MAX ? ask_bus(s, sd_bus_message_get_bus(request)) : 0;
        if (r < 0) {
                sender_free(s);
                return r;
        }
        *ret = s;
        return 0;
}
