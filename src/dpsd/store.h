/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The records of identities, in the folder of the state. Saving is asynchronous: while some saves are being
 * written, later ones gather, and then these are written and made durable together. So slow flash never
 * blocks the event loop. A newer save of a name overtakes one that is still waiting.
 *
 * The waits of an identity change far more often than flash should be written. They are noted at once in
 * memory that outlives the daemon, $RUNTIME_DIRECTORY/.waits, so that a daemon that was killed does not ask
 * sooner than DPS allowed. Everything that the disk refuses is noted there too. So a restart loses nothing,
 * but a reboot does.
 */

#include <stdbool.h>

#include "basic/cleanup.h"
#include "basic/folder.h"
#include "basic/world.h"
#include "config/conf.h"
#include "dpsd/record.h"

typedef struct Store Store;

/* Called from the loop, one in each turn: r is 0, or the errno with which the disk refused. It may call the
 * store, but not free it. */
typedef void (*store_handler_t)(int r, void *userdata);

/* Both folders are borrowed. If `notes` is NULL, nothing is noted. */
int store_new(World *w, Folder *state, Folder *notes, Store **ret);
/* Blocks until everything is written. Handlers that were not called yet are called with -ECANCELED. */
Store *store_free(Store *s);
DEFINE_FREEP(Store, store_free)

#define STORE_FILE_SIZE (CONF_NAME_MAX + sizeof(".json"))

/* What was read of an identity. Its handler owns it. */
typedef struct StoreReading StoreReading;
typedef void (*store_reading_handler_t)(StoreReading *t, void *userdata);

struct StoreReading {
        /* NULL: `r` says why. -ENOENT: there is none. -EBADMSG: its content cannot be used, and `wrong` (a literal) says
         * why. Others: store_could_not_read(). */
        Record *record;
        int r;
        const char *wrong;
        /* The disk does not have the record yet, but it is on its way there: nobody waits for that, so save it anew. */
        bool is_on_its_way;
        /* The last note, which is at least as new as the saved record. NULL: `note_r` says why, as `r` does. */
        Record *note;
        int note_r;

        /* For the store. */
        Folder *state, *notes;
        char file[STORE_FILE_SIZE];
        char corrupt[STORE_FILE_SIZE + sizeof(".corrupt")];
        store_reading_handler_t handler;
        void *userdata;
};

void store_reading_free(void *task);
DEFINE_FREEP(StoreReading, store_reading_free)

/* Reads what there is. Blocks: for the start, when there is nothing to hold up. NULL: out of memory. */
StoreReading *store_load(Store *s, const char *name);
/* The same while the loop goes on, one after the other. The handler is called later. */
int store_load_later(Store *s, const char *name, store_reading_handler_t handler, void *userdata, Work **ret);
/* The system refused to read the file (permission, a broken disk, no memory or file descriptors), so the content may
 * be good. */
bool store_could_not_read(int r);
/* The file of a record that cannot be used becomes NAME.json.corrupt, before any record that is saved later is written,
 * unless the disk refuses that. This is logged. Takes what was read. */
void store_set_aside(Store *s, const char *name, StoreReading *t);
/* The names that have a record, sorted. */
int store_list(Store *s, char ***ret);
/* `handler` may be NULL. Once it is called with 0, this record, or a newer one of the same name, is durable.
 * If the call itself fails (no memory, a bad name), no handler is called. `is_refused` is explained at
 * store_note(). */
int store_save(Store *s, const char *name, const Record *record, bool is_refused, store_handler_t handler,
               void *userdata);
/* Notes a record only for a daemon that starts later in this boot. `is_refused` means that the disk has not
 * stored the record, so it is noted completely; otherwise it is noted without assignment and history.
 * store_save() does this too. */
void store_note(Store *s, const char *name, const Record *record, bool is_refused);
/* Saves the file of an issued certificate and its key (credential/issued.h), 0600. It is on disk before any record
 * that is saved later. If the disk refuses it, it is noted for this boot. `ret`: forget it if the handler must not be
 * called any more; the file is saved all the same. */
int store_save_issued(Store *s, const char *file, const char *text, store_handler_t handler, void *userdata,
                      Work **ret);
/* Removes the files of the identity's issued certificates but that of this fingerprint (NULL: all of them), and then the
 * keys that were made for them in tokens. `settings` are the identity's; NULL: such keys stay for now. */
void store_remove_issued(Store *s, const char *name, const char *fingerprint, Settings *settings);
/* The folder of the records, and the one (which may be NULL) with what the disk refused. */
Folder *store_state(const Store *s);
Folder *store_notes(const Store *s);
/* After this, no handler with this userdata is called. */
void store_cancel(Store *s, void *userdata);
/* Removes the record and the issued certificates durably, for decommissioning. From now on there is no record. The handler
 * is called as by store_save(), also with -ENOENT. */
int store_forget(Store *s, const char *name, store_handler_t handler, void *userdata);
/* Blocks until everything that was saved is written or refused. The handlers are called later, from the loop
 * as usual. */
void store_flush(Store *s);
