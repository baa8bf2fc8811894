/* SPDX-License-Identifier: MIT */
#pragma once

/* The stream between the two ends of a connection to the bus, in memory. Of the time of the simulation, a tenth went into the
 * system's own. sd-bus wants sockets, so it has two, and its calls of sendmsg() and recvmsg() on them come here. */

/* Both sockets are the caller's, or sd-bus's. */
void stream_open(int fds[static 2]);
/* What was not read yet is gone. */
void stream_close(void);
