/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/bus.h"
#include "dpsctl/metrics.h"
#include "dpsctl/watch.h"

/* Metrics once, to standard output; or in a file that is kept current. Then a change is written within a second, and nothing
 * wakes this program while nothing changes. */

#define PAUSE_USEC USEC_PER_SEC

typedef struct Follower {
        const char *name; /* of the file, in the directory */
        int dir_fd;
        Counts counts;
        sd_event_source *pause; /* changes that come together are written together */
} Follower;

static int write_file(Watch *w) {
        _cleanup_(freep) char *text = NULL;
        Follower *f = w->userdata;
        size_t size;
        FILE *stream;
        int r;

        stream = open_memstream(&text, &size);
        if (!stream)
                return fail_memory();
        metrics_print(stream, &w->list, w->is_there, &f->counts);
        if (fclose(stream) != 0)
                return fail_memory();
        r = file_write_atomic(f->dir_fd, f->name, text, size, 0644, (gid_t) -1);
        return r < 0 ? fail_with(EXIT_FAILED, "%s: cannot be written: %s", w->options->follow, strerror(-r))
                     : 0;
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata) {
        Watch *w = userdata;
        int r = write_file(w);

        if (r != 0)
                watch_end(w, r);
        return 0;
}

static void write_soon(Watch *w) {
        Follower *f = w->userdata;
        int enabled = SD_EVENT_OFF, r;

        if (!f->pause)
                r = sd_event_add_time_relative(w->event, &f->pause, CLOCK_MONOTONIC, 0, USEC_PER_MSEC,
                                               on_pause_over, w);
        else {
                r = sd_event_source_get_enabled(f->pause, &enabled);
                if (r < 0 || enabled != SD_EVENT_OFF)
                        return;
                r = sd_event_source_set_time_relative(f->pause, PAUSE_USEC);
                if (r >= 0)
                        r = sd_event_source_set_enabled(f->pause, SD_EVENT_ONESHOT);
        }
        if (r < 0)
                watch_end(w, fail_with(EXIT_FAILED, "the event loop failed: %s", strerror(-r)));
}

static void on_changed(Watch *w, const Identity *before, const Identity *now) {
        Follower *f = w->userdata;

        if (counts_add(&f->counts, before, now, now_usec(CLOCK_MONOTONIC)) < 0)
                watch_end(w, fail_memory());
        else
                write_soon(w);
}

static void on_removed(Watch *w, const Identity *i) {
        write_soon(w);
}

static int follow(const Options *o) {
        static const WatchHandlers handlers = {
                .wants_steps = true,
                .on_list = write_soon,
                .on_changed = on_changed,
                .on_removed = on_removed,
                .on_gone = write_soon,
        };
        const char *slash = strrchr(o->follow, '/');
        _cleanup_(freep) char *directory =
                slash ? strndup(o->follow, (size_t) (slash - o->follow) + 1) : strdup(".");
        _cleanup_(closep) int dir_fd = -1;
        Follower f = { .name = slash ? slash + 1 : o->follow };
        int r;

        if (!directory)
                return fail_memory();
        dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                return fail_with(EXIT_FAILED, "--follow=%s: %s: %s", o->follow, directory, strerror(errno));
        if (isempty(f.name))
                return fail_with(EXIT_USAGE, "--follow=%s: must be the path of a file", o->follow);
        f.dir_fd = dir_fd;
        r = watch_run(o, &handlers, &f);
        f.pause = sd_event_source_unref(f.pause);
        counts_done(&f.counts);
        return r;
}

int verb_metrics(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(identity_list_done) IdentityList list = { 0 };
        int r;

        if (o->follow)
                return follow(o);
        r = bus_open(o, &bus);
        if (r == 0)
                r = identity_list_fetch(&list, bus, o);
        if (r == 0)
                metrics_print(stdout, &list, true, NULL);
        return r;
}
