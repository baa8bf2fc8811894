/* SPDX-License-Identifier: MIT */
#pragma once

/* What we read of the head of an answer; libcurl reads the rest. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTPS_HEAD_SIZE_MAX                                                                                  \
        (64U * 1024) /* bytes of one answer, with all heads before the last and the trailer */

/* All 0 at first. */
typedef struct HttpsHead {
        size_t size;
        char *retry_after, *date;
} HttpsHead;

/* Takes the next line, with its end; it need not end in a NUL. A status line begins a new head: an informational answer that
 * came before is forgotten. -E2BIG: the head is too long; -ENOMEM. */
int https_head_take(HttpsHead *h, const char *line, size_t size);
/* How long to wait: Retry-After has a number of seconds or a date, which counts from the server's own clock, if it says its
 * time, since ours (`now_sec`) may be wrong. False: there is no such header, or it makes no sense. */
bool https_head_retry_after(const HttpsHead *h, uint64_t now_sec, uint64_t *ret_sec);
void https_head_done(HttpsHead *h);
