/* SPDX-License-Identifier: MIT */
#include "dpsd/places.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include "basic/folder-directory.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/filewatch.h"
#include "dpsd/log.h"

/* Many mounts may come together. */
#define MOUNTS_DELAY_USEC (500 * USEC_PER_MSEC)
/* How often to look if there is no table of mounts. */
#define LOOK_AGAIN_USEC (5 * USEC_PER_MINUTE)

typedef enum Place {
        PLACE_STATE,
        PLACE_RUNTIME,
        PLACE_NOTES, /* in the runtime directory */
        _PLACE_MAX,
} Place;

struct Places {
        World *world;
        PlacesHandlers handlers;
        void *userdata;

        Folder *folders[_PLACE_MAX];
        FileWatch *watch;
        int mounts_fd; /* -1: there is no /proc */
        sd_event_source *mounts;
        Timer *later;

        Work *looking;
        bool is_to_look;         /* once more */
        int refused[_PLACE_MAX]; /* what was reported: an errno, or 0 */
};

/* What the worker finds. */
typedef struct Look {
        Places *places; /* used only in the loop */
        Folder *folders[_PLACE_MAX];
        pid_t pids[_PLACE_MAX];
        int r[_PLACE_MAX];
} Look;

static void look_run(void *task) {
        Look *l = task;

        for (Place p = 0; p < _PLACE_MAX; p++)
                l->r[p] = l->folders[p] ? directory_folder_renew(l->folders[p], &l->pids[p]) : 0;
}

static void tell_refusal(Places *p, Place place, int r, pid_t pid) {
        const char *path = p->folders[place]->path;

        if (r == p->refused[place])
                return;
        p->refused[place] = r;
        if (r == -EBUSY)
                log_error("%s is another directory now, which process %d uses: going on in the old one", path,
                          (int) pid);
        else if (r < 0)
                log_error("%s was removed, and cannot be made again (%s): make it, dpsd will notice", path,
                          strerror(-r));
}

static void look_done(void *task) {
        _cleanup_(freep) Look *l = task;
        Places *p = l->places;

        p->looking = NULL;
        for (Place k = 0; k < PLACE_NOTES; k++) {
                tell_refusal(p, k, MIN(l->r[k], 0), l->pids[k]);
                if (l->r[k] > 0)
                        log_warning("%s is another directory now: everything in it is written again",
                                    p->folders[k]->path);
        }
        if (l->r[PLACE_STATE] > 0)
                p->handlers.on_state(p->userdata);
        if (l->r[PLACE_RUNTIME] > 0)
                p->handlers.on_runtime(p->userdata);
        if (p->is_to_look)
                places_look(p);
}

static const WorkClass look_class = { .queue = WORK_DISK, .run = look_run, .done = look_done, .free = free };

void places_look(Places *p) {
        Look *l;

        p->is_to_look = p->looking;
        if (p->looking)
                return;
        l = malloc(sizeof(*l));
        if (!l)
                return;
        *l = (Look){ .places = p };
        memcpy(l->folders, p->folders, sizeof(l->folders));
        if (work_begin(p->world, &look_class, l, &p->looking) < 0)
                free(l);
}

static void on_watch(void *userdata) {
        places_look(userdata);
}

static void on_later(void *userdata) {
        Places *p = userdata;

        if (!p->mounts)
                timer_set(p->later, world_now_usec(p->world, CLOCK_BOOTTIME) + LOOK_AGAIN_USEC,
                          USEC_PER_MINUTE);
        places_look(p);
        p->handlers.on_mount(p->userdata);
}

static int on_mounts(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Places *p = userdata;

        timer_set(p->later, world_now_usec(p->world, CLOCK_BOOTTIME) + MOUNTS_DELAY_USEC, 0);
        return 0;
}

/* The kernel reports mounts by an exceptional condition of this file. */
static int watch_mounts(Places *p, sd_event *event) {
        p->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (p->mounts_fd < 0)
                return -errno;
        return sd_event_add_io(event, &p->mounts, p->mounts_fd, EPOLLPRI, on_mounts, p);
}

int places_new(sd_event *event, World *world, Folder *state, Folder *runtime, Folder *notes,
               const PlacesHandlers *handlers, void *userdata, Places **ret) {
        char *paths[] = { (char *) state->path, (char *) runtime->path, NULL };
        _cleanup_(places_freep) Places *p = malloc(sizeof(*p));
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Places){ .world = world,
                       .handlers = *handlers,
                       .userdata = userdata,
                       .folders = { state, runtime, notes },
                       .mounts_fd = -1 };
        r = timer_new(world, on_later, p, &p->later);
        if (r >= 0)
                r = file_watch_new_directories(event, world, paths, on_watch, p, &p->watch);
        if (r < 0)
                return r;
        r = watch_mounts(p, event);
        if (r < 0) {
                log_warning(
                        "mounts cannot be watched (%s): directories that are mounted over are noticed within "
                        "minutes only",
                        strerror(-r));
                timer_set(p->later, world_now_usec(world, CLOCK_BOOTTIME) + LOOK_AGAIN_USEC, USEC_PER_MINUTE);
        }

        *ret = TAKE_PTR(p);
        return 0;
}

Places *places_free(Places *p) {
        if (!p)
                return NULL;

        work_forget(p->looking);
        timer_free(p->later);
        sd_event_source_disable_unref(p->mounts);
        closep(&p->mounts_fd);
        file_watch_free(p->watch);
        free(p);
        return NULL;
}
