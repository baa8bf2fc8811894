/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The files of the configuration: real ones, in a directory of the simulation, which the real loader reads. Some are on other
 * file systems, to which links lead, and each of those hangs now and then. The threads that look whether such a file answers are
 * those of basic/patience.c, in simulated time (looks.c).
 */

#include <sys/stat.h>

#include "basic/world.h"
#include "sim.h"

/* Where the configuration of an identity is. */
typedef enum ConfPlace {
        CONF_HERE,
        CONF_LINK,        /* NAME.conf is a link */
        CONF_DROP_IN,     /* a file in NAME.conf.d is one */
        CONF_DROP_INS,    /* NAME.conf.d is one */
        CONF_DIRECTORY,   /* it is in a directory of the search path that is one */
        CONF_NAMES_FILES, /* it is here, but what it names is not: the registration id, and the key */
        _CONF_PLACE_MAX,
} ConfPlace;

typedef struct Files Files;

Files *files_new(Sim *s);
Files *files_free(Files *f);
/* What identity k (IDENTITIES_MAX: dpsd.conf) is to have in its files; NULL: it is to have none. Where one of them hangs, whoever
 * writes it waits until it answers. */
void files_put(Files *f, unsigned k, const char *main, const char *drop_in);
/* What RegistrationId= says where `id` is meant. Valid until it is asked for the next one. */
const char *files_registration_id(const Files *f, unsigned k, const char *id);

/* A configuration moves, a file system hangs for a while, and perhaps dpsd starts or reads all again meanwhile. */
void files_disturb(Sim *s, Random *r);
/* All answer. */
void files_mend(Sim *s);
/* All are here but this one (IDENTITIES_MAX: dpsd.conf) … */
void files_place(Sim *s, unsigned k, ConfPlace place);
/* … and its file system hangs. */
void files_hang(Sim *s, unsigned k);
bool files_any_hangs(const Files *f);
/* Whether dpsd cannot know the configuration of identity k now, or not all of it. */
bool files_are_hidden(const Files *f, unsigned k);
/* Whether what is at this path hangs, if links are followed, or if the last one is not. */
bool files_hang_at(const char *path, bool follows);
/* As statx() of the path itself, which does not hang, but fails where what is above it does. */
int files_statx(const char *path, struct statx *ret);
/* Whether this work hangs as soon as it begins, since an identity names what does not answer. */
bool files_hold(const WorkClass *class, const void *task);

/* ---- what must hold ---- */

/* After each event. */
void files_step(Sim *s, bool had_memory);
void files_started(Sim *s);
void files_removed(Sim *s, unsigned k);
/* One hangs for some time, or all have answered for some time. */
void files_check_all(Sim *s);

/* ---- looks.c ---- */

/* From here to the end dpsd starts, and has nothing else to do. */
void looks_starting(Sim *s, bool is_starting);
/* How long the work that has just run has waited for looks. */
uint64_t looks_take_waited(void);
/* Those whose file answers again end. */
void looks_go_on(void);
/* The process is gone, and its threads with it. */
void looks_forget(void);
