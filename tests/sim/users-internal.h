/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files that play the bus and those who use it:
 *
 *      users.c          the callers, and what they ask for
 *      users-bus.c      the bus, dpsd's connection to it, and what dpsd keeps
 *      users-polkit.c   polkit
 *      users-checks.c   what must hold
 */

#include <systemd/sd-bus.h>

#include "dpsd/bus-internal.h"
#include "users.h"

/* ---- names and bounds ---- */

#define DRIVER "org.freedesktop.DBus"
#define POLKIT "org.freedesktop.PolicyKit1"
#define OWN_NAME ":1.0"
#define GID_MEMBER 991 /* of machine.c */
/* What sd-bus and polkit's callers wait for. */
#define ANSWER_USEC (25 * USEC_PER_SEC)
#define PASSWORD_USEC (2 * USEC_PER_MINUTE)
/* A timer may be late by its accuracy. */
#define SLACK_USEC (2 * USEC_PER_SEC)
/* What a request that waits takes beside its arguments, with what sd-bus and the identity keep for it. */
#define REQUEST_SIZE 1400U
#define HELD_MAX (256U * 1024)
/* What io.dpsd.dps1(5) says. */
#define REQUESTS_MAX 80U
#define ARGUMENTS_MAX (16U * 1024)

/* ---- who calls, and what ---- */

typedef enum Right {
        RIGHT_NONE,
        RIGHT_USE,
        RIGHT_MANAGE,
} Right;

typedef struct Kind {
        const char *interface, *member;
        Right right;
        bool is_instant; /* dpsd answers as soon as it may */
} Kind;

typedef struct Person {
        uint32_t uid;
        bool is_member; /* of the group of all identities, by its process */
} Person;

/* A connection to the bus. */
typedef struct Caller {
        struct Caller *next_one;
        Users *users;
        const Person *person;
        const Kind *kind;
        char name[16];
        size_t text_size; /* of its arguments */
        bool is_gone, is_interactive;
        unsigned n_rounds, n_each; /* of calls that are still to come … */
        unsigned k;                /* … about this identity; IDENTITIES_MAX: about any */
        uint64_t pause_usec;       /* between two rounds, on the average */
        bool wants_answers;
        Event *next;               /* calls again, or leaves */
        unsigned n_calls;          /* that are not answered */
        unsigned n_granted, n_yes; /* answers that needed a right, and decisions of polkit for it */
        uint64_t known_usec;       /* when the bus has told dpsd who this is; 0: not yet */
} Caller;

typedef struct Call {
        struct Call *next;
        Caller *caller;
        uint64_t cookie;
        bool is_known; /* the bus had told who calls, and was not asked again since */
} Call;

/* That polkit was asked, and dpsd waits for the answer to. */
typedef struct Question {
        struct Question *next;
        Caller *caller;
        sd_bus_message *message;
        uint64_t answer_usec, end_usec;
} Question;

/* A question to the bus that it answers later. */
typedef struct Credentials {
        struct Credentials *next;
        Caller *caller;
        sd_bus_message *message;
        Event *event;
} Credentials;

/* A request that dpsd keeps. */
typedef struct Held {
        struct Held *next;
        Caller *caller;
        sd_bus_message *message;
        unsigned n_refs;
        uint64_t since_usec;
} Held;

typedef enum Mode {
        MODE_DECIDES,
        MODE_MISSING,
        MODE_SILENT,
        MODE_SLOW,
        MODE_REFUSES,
        MODE_PASSWORD, /* it would ask for one */
        MODE_BROKEN,   /* an error, or something else than an answer */
        _MODE_MAX,
} Mode;

struct Users {
        Sim *sim;
        Bus bus; /* dpsd's; its connection is NULL: there is none */
        sd_bus *server;
        bool is_connected, is_at_work;
        bool is_watched; /* dpsd wants to be told who has gone */
        unsigned n_matches;
        uint64_t last_name, cpu_usec, usec_of_message;
        Caller *callers;
        Call *calls;
        Held *held;
        Question *questions;
        Credentials *credentials;
        Event *due; /* what sd-bus or polkit has to do next */
        Mode mode;
        Event *mended;
        Random random; /* of the bus and of polkit */
};

/* ---- users.c ---- */

#define N_PEOPLE 5
extern const Person people[N_PEOPLE];

/* ---- users-bus.c ---- */

void users_connect(Users *u);
/* Until neither side has anything to do. */
void users_pump(Users *u);
Caller *caller_find(const Users *u, const char *name);
/* How many questions about callers the bus has not answered. */
unsigned users_n_asked(const Users *u);
/* This connection ends. */
void caller_leave(Caller *c);
/* A call that dpsd gets. */
sd_bus_message *users_new_call(Users *u, const char *sender, const char *path, const char *interface,
                               const char *member);

/* ---- users-polkit.c ---- */

int polkit_serve(Users *u, sd_bus_message *m);
/* How many questions about this user, or about all (NULL), dpsd waits for the answers to. */
unsigned polkit_n_open(const Users *u, const Person *person);
void polkit_answer(Users *u);
/* When the next answer is due. */
uint64_t polkit_next_usec(const Users *u);
void polkit_forget(Users *u);

/* ---- users-checks.c ---- */

/* dpsd has answered. */
void users_check_answer(Users *u, const Call *call, const char *error);
/* dpsd has done all that it can do for now. */
void users_check(Users *u);
