/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Everybody who does something at random: programs that call dpsd, an operator, the clock, the network, the service, the disk,
 * the power. Each thing that is done is a deed with a number of its own, and can be left out without a change of the others.
 */

#include "sim.h"

typedef struct Actors Actors;

Actors *actors_new(Sim *s);
Actors *actors_free(Actors *a);
/* Nobody does anything any more, and all that was disturbed is as it was. */
void actors_end(Sim *s);
/* "kill.17": the 18th time that somebody does this. */
void deed_format(size_t number, char ret[static 32]);
/* Moves *text past it. -EINVAL. */
int deed_parse(const char **text, size_t *ret);
/* Programs report for so long that every hub refuses them. */
void actors_blame(Sim *s, uint64_t usec);
/* How many programs wait for an answer of dpsd. */
unsigned actors_n_calls(const Sim *s);
/* Since when a program waits for an answer of dpsd; UINT64_MAX: nobody does. */
uint64_t actors_oldest_call(const Sim *s);
