/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The system bus, the local users who call dpsd over it, and polkit. dpsd's side is the real one, from sd-bus on; between the
 * two is a pair of sockets, and what dbus-daemon and polkit would do is played here. The time that sd-bus sees is that of the
 * simulation, and so is the time that the processor takes.
 */

#include "sim.h"

typedef struct Users Users;

Users *users_new(Sim *s);
Users *users_free(Users *u);

/* Some calls of one user, from one or more connections, some of which do not wait for the answers. */
void users_call(Sim *s, Random *r);
/* One user floods dpsd, and another one, or root, calls again and again in the meantime. */
void users_crowd(Sim *s, Random *r);
/* For a while polkit is missing, silent, slow, or decides in another way. */
void users_disturb_polkit(Sim *s, Random *r);
/* polkit is there and decides at once. */
void users_mend(Sim *s);
/* dpsd ends, in whatever way. */
void users_disconnect(Sim *s);
/* After each event: what dpsd has sent arrives. */
void users_step(Sim *s);
/* How many calls dpsd may be carrying out. */
unsigned users_n_calls(const Sim *s);
