/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "fuzz.h"
#include "transport/https-head.h"

/* Each line as libcurl hands it over, in memory of its own, so that ASan sees what is read behind it. */
static int take_line(HttpsHead *h, const uint8_t *line, size_t size) {
        char *copy = malloc(size);
        int r;

        PROMISE(copy || size == 0);
        memcpy(copy, line, size);
        r = https_head_take(h, copy, size);
        free(copy);
        return r;
}

/* Input: the heads of an answer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint64_t sec = UINT64_MAX;
        HttpsHead h = { 0 };

        while (size > 0) {
                const uint8_t *end = memchr(data, '\n', size);
                size_t n = end ? (size_t) (end - data) + 1 : size, before = h.size;
                int r = take_line(&h, data, n);

                PROMISE(h.size <= HTTPS_HEAD_SIZE_MAX);
                PROMISE(r == 0 ? h.size == before + n : r == -E2BIG && h.size == before);
                data += n;
                size -= n;
        }
        if (https_head_retry_after(&h, 1790000000, &sec))
                PROMISE(h.retry_after);
        else
                PROMISE(sec == UINT64_MAX);
        https_head_done(&h);
        PROMISE(!h.retry_after && !h.date && h.size == 0);
        return 0;
}
