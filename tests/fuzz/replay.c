/* SPDX-License-Identifier: MIT */
#include <fcntl.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "fuzz.h"

/* replay DIRECTORY: gives each file in it to the fuzz target that this is linked with. */

static bool is_seed(const char *name) {
        return name[0] != '.';
}

int main(int argc, char *argv[]) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_(closep) int fd = -1;

        PROMISE(argc == 2);
        fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        PROMISE(fd >= 0);
        PROMISE(directory_list(fd, is_seed, &names) >= 0);
        PROMISE(strv_length(names) > 0);

        STRV_FOREACH(name, names) {
                _cleanup_(freep) char *text = NULL;
                _cleanup_(freep) uint8_t *data = NULL;
                size_t size;

                PROMISE(file_read_at(fd, *name, 1024 * 1024, &text, &size) >= 0);
                data = malloc(size + (size == 0));
                PROMISE(data);
                memcpy(data, text, size);
                (void) fprintf(stderr, "%s\n", *name); /* the last one named is the one that failed */
                PROMISE(LLVMFuzzerTestOneInput(data, size) == 0);
        }
        return EXIT_SUCCESS;
}
