/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Modules: parts of dpsd that are loaded on demand, because they need libraries that dpsd can run for days without.
 * The module NAME is NAME.so in the directory of modules, and comes in the package dps-NAME.
 *
 * A module has no copy of our code: it takes functions from libdps, those that src/module.sym lists from the
 * program that loads it, and what several modules need from a module that is shared. Nothing promises that these stay as they are, so program and module must be of
 * one build. Each carries a stamp that says which. It is read from the file first: a module of another build
 * may need functions that this program does not have, and must not run.
 */

#include "build-config.h"

#define MODULE_MAGIC "dps module 1"
#define MODULE_SHARED                                                                                        \
        "shared" /* the kind of a module that other modules take functions from; its class is NULL */

/* The layout never changes: it is read from modules of all builds. */
typedef struct ModuleStamp {
        char magic[16];
        char version[32];
        char build_id[64];
} ModuleStamp;

#define MODULE_STAMP                                                                                         \
        { .magic = MODULE_MAGIC, .version = DPS_VERSION, .build_id = DPS_BUILD_ID }

typedef struct Module {
        ModuleStamp stamp;
        const char *name;
        const char *kind;  /* which interface the class implements, such as "transport" */
        const void *class; /* a struct of functions; its type belongs to the kind */
} Module;

/* Used once in each module. This is the only symbol that a module exports, unless it is shared. */
#define MODULE_DEFINE(_name, _kind, _class)                                                                  \
        extern const Module dps_module;                                                                      \
        __attribute__((visibility("protected"))) const Module dps_module = {                                 \
                .stamp = MODULE_STAMP,                                                                       \
                .name = (_name),                                                                             \
                .kind = (_kind),                                                                             \
                .class = (_class),                                                                           \
        }

/*
 * Where modules are installed. $DPS_MODULE_DIRECTORY overrides it, so that programs can be tested before they
 * are installed; it is ignored where the program runs with more rights than its caller (secure_getenv).
 */
const char *module_directory(void);

/*
 * Loads a module and returns its class, which lives as long as the program. A second call returns the same.
 * `name` is of [a-z0-9-]. -ENOENT: it is not installed; -EPERM: users other than root and the program's own can
 * write to the directory or the file; -ENOEXEC: the file is not a module, or not the one that was asked for;
 * -ESTALE: it is of another build; -ELIBACC: the dynamic loader refuses it; -EINVAL: no such name. On failure
 * `ret_why` is a message for people, or NULL without memory.
 */
int module_load(const char *directory, const char *name, const char *kind, const void **ret_class,
                char **ret_why);
/* The same for a module that takes functions from the module `shared`, which is loaded first. */
int module_load_with_shared(const char *directory, const char *shared, const char *name, const char *kind,
                            const void **ret_class, char **ret_why);
