/* SPDX-License-Identifier: MIT */
#include "hang.h"

#include <errno.h>
#include <string.h>

#include "machine.h"
#include "world.h"

/* As credential/device.c has it. */
#define WAIT_MAX_USEC (10 * USEC_PER_SEC)

typedef struct Chip {
        Hang hang;
        const void *call; /* the work that is in the chip and does not return; NULL: none */
        uint64_t since_usec;
} Chip;

static Chip chips[IDENTITIES_MAX];

static void go_on(Sim *s) {
        if (s->machine && s->machine->world)
                sim_world_go_on(s->machine->world);
}

void hang_set(Sim *s, unsigned k, Hang hang) {
        chips[k].hang = hang;
        if (hang == HANG_NOT)
                go_on(s);
}

void hang_end_all(Sim *s) {
        for (unsigned k = 0; k < IDENTITIES_MAX; k++)
                chips[k].hang = HANG_NOT;
        go_on(s);
}

void hang_forget_calls(void) {
        for (unsigned k = 0; k < IDENTITIES_MAX; k++)
                chips[k].call = NULL;
}

static int refuse(DpsError *error) {
        dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the chip does not return from an earlier call");
        return -EAGAIN;
}

int hang_enter(unsigned k, bool is_signing, DpsError *error) {
        Chip *c = &chips[k];
        const void *call = sim_world_running();

        if (c->hang == HANG_NOT || (c->hang == HANG_SIGNING && !is_signing && !c->call)) {
                if (c->call == call)
                        c->call = NULL;
                return 0;
        }
        if (!c->call) {
                c->call = call;
                c->since_usec = sim_world_hang(call, USEC_INFINITY);
        } else if (c->call == call)
                (void) sim_world_hang(call, USEC_INFINITY);
        else
                (void) sim_world_hang(call, c->since_usec + WAIT_MAX_USEC);
        return refuse(error);
}
