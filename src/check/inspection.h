/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One run of `dpsctl check`, of one identity or of this device. The steps of check.h run one after the other on the worker,
 * each with a deadline. Then the device logs in at DPS as far as SUBACK, through the transport of registrations, and
 * registers nothing. An inspection changes nothing, and knows no identity: the facts about it are in the subject.
 */

#include "basic/world.h"
#include "check/check.h"
#include "client/window.h"
#include "transport/transport.h"

typedef struct Inspection Inspection;

/* All are borrowed. */
typedef struct InspectionParts {
        World *world;
        Transports *transports;
        Window *window; /* a log-in takes a slot, as an attempt does */
} InspectionParts;

typedef struct InspectionWish {
        bool offline;
        const char *no_login; /* why there must be no log-in at DPS (a literal); NULL: there may be one */
} InspectionWish;

/* Called from the loop, once, and never before inspection_new() returns. The handler frees the inspection. */
typedef void (*inspection_handler_t)(Inspection *i, const Checks *checks, const CheckSubject *subject,
                                     void *userdata);

/* The longest that an inspection takes: what has not been looked at by then is said to be so. */
#define INSPECTION_MAX_USEC USEC_PER_MINUTE

/* What the module "check" offers. */
#define CHECK_MODULE "check"
#define CHECK_MODULE_KIND "check"
typedef struct CheckClass {
        int (*subject_new)(const char *name, CheckSubject **ret);
        CheckSubject *(*subject_unref)(CheckSubject *s);
        /* What Check() of the Manager answers: {"version":1,"checks":[…],…}. -ENOMEM. */
        int (*to_json)(const Checks *c, const CheckSubject *s, char **ret);

        int (*inspection_new)(const InspectionParts *parts, CheckSubject *subject, const InspectionWish *wish,
                              inspection_handler_t handler, void *userdata, Inspection **ret);
        Inspection *(*inspection_free)(Inspection *i);
        void (*give_way)(Inspection *i);

        /* `dpsd --check`: what dpsctl check runs where no daemon can be asked. Prints what Check() of the Manager would answer,
         * a line for this device and one for each identity (`names` NULL or empty: all). Gives an exit code. */
        int (*once)(char *const *names, bool offline);
} CheckClass;

/* Takes the subject, also on failure. -ENOMEM. */
int inspection_new(const InspectionParts *parts, CheckSubject *subject, const InspectionWish *wish,
                   inspection_handler_t handler, void *userdata, Inspection **ret);
/* The handler is not called any more. */
Inspection *inspection_free(Inspection *i);
/* The identity registers, and DPS lets each device in once: the log-in makes room, and the answer says so. */
void inspection_give_way(Inspection *i);
