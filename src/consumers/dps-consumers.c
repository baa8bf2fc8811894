/* SPDX-License-Identifier: MIT */

/* dps-consumers DIRECTORY: run by dps-consumers.service when dpsd has raised a flag in its DIRECTORY. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <syslog.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "config/conf.h"
#include "consumers/consumers.h"

static int fail(const char *what, int r) {
        (void) fprintf(stderr, "<%d>%s: %s\n", LOG_ERR, what, strerror(-r));
        return EXIT_FAILURE;
}

int main(int argc, char **argv) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(strv_freep) char **directories = NULL;
        _cleanup_(closep) int runtime_fd = -1, state_fd = -1;
        const char *state = secure_getenv("RUNTIME_DIRECTORY");
        int r;

        if (argc != 2 || !state) {
                fputs("usage: RUNTIME_DIRECTORY=/run/dps-consumers dps-consumers /run/dps; "
                      "dps-consumers.service does it\n",
                      stderr);
                return 2;
        }
        runtime_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (runtime_fd < 0)
                return fail(argv[1], -errno);
        state_fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (state_fd < 0)
                return fail(state, -errno);
        r = conf_directories(NULL, &directories);
        if (r < 0)
                return fail("the directories of the configuration cannot be found", r);
        r = sd_bus_open_system(&bus);
        if (r < 0)
                return fail(
                        "units cannot be restarted or reloaded without the system bus, trying again in 30 s",
                        r);

        r = consumers_tell_all(&(Consumers){
                .bus = bus, .runtime_fd = runtime_fd, .state_fd = state_fd, .directories = directories });
        if (r < 0 && r != -EAGAIN)
                return fail("the flags of changed identities cannot be taken down, trying again in 30 s", r);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
