/* SPDX-License-Identifier: MIT */

/* credential/token-notes.c with the simulated disk in place of real directories, and random numbers that come from the seed. It
 * is included after all headers, so that nothing of them is renamed. */

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/folder.h"
#include "basic/text.h"
#include "config/pkcs11-uri.h"
#include "credential/credential-error.h"
#include "credential/token-notes.h"
#include "machine.h"
#include "notes.h"

static Sim *sim;
static Random numbers;

void notes_init(Sim *s) {
        sim = s;
        numbers = random_of(s->options.seed, "notes", 0);
}

/* A descriptor is the place of a folder in this list, and one more. */
static Folder *folder(int fd) {
        return (Folder *[]){ sim->machine->state, sim->machine->notes }[fd - 1];
}

static int note_open(const char *path) {
        for (int fd = 1; fd <= 2; fd++)
                if (streq(folder(fd)->path, path))
                        return fd;
        errno = ENOENT;
        return -1;
}

static void note_closep(int *fd) {
}

static int note_read_at(int fd, const char *name, size_t max, char **ret, size_t *ret_size) {
        size_t size;
        int r = folder_read(folder(fd), name, max, ret, &size);

        if (r >= 0 && ret_size)
                *ret_size = size;
        return r;
}

static int note_write(int fd, const char *name, const char *text, size_t size) {
        return folder_write(folder(fd), name, text, size, 0600, (gid_t) -1);
}

static int note_remove(int fd, const char *name) {
        int r = folder_remove(folder(fd), name);

        errno = -r;
        return r < 0 ? -1 : 0;
}

static int note_random(unsigned char *ret, int size) {
        for (int k = 0; k < size; k++)
                ret[k] = (unsigned char) random_next(&numbers);
        return 1;
}

#define RAND_bytes note_random
#define closep note_closep
#define open(path, flags) note_open(path)
#define directory_list(fd, is_wanted, ret) folder_list(folder(fd), is_wanted, ret)
#define directory_sync(fd) folder_sync(folder(fd))
#define file_read_at note_read_at
/* What a draft holds is seen when it is renamed, and not before. */
#define file_draft_write(draft, fd, name, text, size, mode, gid) ((void) (draft), 0)
#define file_draft_sync(draft) 0
#define file_draft_rename(draft, fd, name) note_write(fd, name, text, strlen(text))
#define file_draft_discard(draft, fd) ((void) 0)
#define unlinkat(fd, name, flags) note_remove(fd, name)

#include "../../src/credential/token-notes.c"
