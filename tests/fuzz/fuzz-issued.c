/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/text.h"
#include "credential/issuance.h"
#include "fuzz.h"

#define NOW (UINT64_C(1800000000) * 1000000)

/* Input: the certificates of an issued chain in base64, a line each. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = fuzz_text(data, size);
        static Settings settings = { .registration_id = (char *) "gw-1" };
        static IssuanceRequest request;
        _cleanup_(strv_freep) char **chain = NULL;
        IssuedPair pair = { 0 };
        DpsError error;
        int r;

        issuance_set_module(&issuance_module);
        if (!request.key)
                PROMISE(issuance_request_new(&settings, NULL, &request, &error) == 0);
        PROMISE(strv_split(text, "\n", &chain) == 0);

        /* Nobody can make a certificate for a key that was made a moment ago. */
        r = issuance_module.pair_new(chain, &request, "gw-1", NOW, &pair, &error);
        PROMISE(r == -EBADMSG && !pair.text);
        PROMISE(error.id == DPS_ERROR_ISSUANCE && is_one_line(error.message));
        return 0;
}
