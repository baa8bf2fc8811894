/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "dps/reply.h"
#include "fuzz.h"

/* Input: the topic of an answer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *topic = fuzz_text(data, size);
        DpsReply reply = { .status = 1 };
        int r;

        r = dps_reply_parse_topic(topic, &reply);
        if (r < 0) {
                PROMISE(r == -ENOMSG || r == -EBADMSG);
                PROMISE(reply.status == 1 && reply.request_id == 0 && !reply.has_retry_after);
                return 0;
        }

        PROMISE(reply.status <= 999);
        PROMISE(strcasestr(topic, "$rid="));
        PROMISE(!reply.has_retry_after || strcasestr(topic, "retry-after="));
        PROMISE(!reply.malformed && !reply.operation_id && !reply.assigned_hub && !reply.payload);
        return 0;
}
