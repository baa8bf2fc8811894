/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The machine's disk with the folder of the state, and the memory of a boot (a tmpfs) with the runtime folder. Each run of the
 * daemon gets its own Folders of them, which do nothing any more when that run was killed.
 */

#include "basic/folder.h"
#include "sim.h"

typedef struct Disk Disk;

typedef enum Where {
        WHERE_STATE,   /* survives a power cut as far as it was synced */
        WHERE_RUNTIME, /* does not survive a power cut */
} Where;

typedef enum DiskFault {
        DISK_FAULT_NONE,
        DISK_FAULT_FULL,
        DISK_FAULT_READ_ONLY,
        DISK_FAULT_BROKEN,       /* EIO, reading and writing */
        DISK_FAULT_RUNTIME_FULL, /* the tmpfs is */
        _DISK_FAULT_MAX,
} DiskFault;

Disk *disk_new(Sim *s);
Disk *disk_free(Disk *d);

/* `path` is for people. */
Folder *disk_open(Disk *d, Where where, const char *path);
/* A folder in the runtime folder, made if it is not there. */
Folder *disk_open_notes(Disk *d);

void disk_set_fault(Disk *d, DiskFault fault);
DiskFault disk_fault(const Disk *d);
/* From the n-th step on (a write, a sync, a rename) nothing that open Folders do has an effect. */
void disk_die(Disk *d, unsigned after);
/* What was not synced comes back old or new, as the dice say; what is open is dead. */
void disk_cut_power(Disk *d);

/* For the checks: the text of a file as readers see it, or as a power cut would leave it at worst (`is_durable`); NULL: it is
 * not there. Borrowed. */
const char *disk_text(const Disk *d, Where where, const char *folder, const char *name, bool is_durable);
/* Counts every change. */
uint64_t disk_n_changes(const Disk *d);
/* What it was when a file in this folder changed last. */
uint64_t disk_n_changes_of(const Disk *d, Where where, const char *folder);
