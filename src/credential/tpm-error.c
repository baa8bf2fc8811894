/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <tss2/tss2_rc.h>

#include "credential/credential-error.h"
#include "credential/tpm-internal.h"

#define BASE_OF_FORMAT_1 0x0bf /* without the number of the handle, parameter or session */

/* What a code means, and what to do. -EAGAIN: it may pass, and is tried again. */
static const struct {
        TSS2_RC rc;
        int r;
        const char *meaning;
} meanings[] = {
        { TPM2_RC_LOCKOUT, -EAGAIN,
          "it is locked after wrong auths: it opens after a time, or by tpm2_dictionarylockout -c" },
        { TPM2_RC_RETRY, -EAGAIN, "it is busy" },
        { TPM2_RC_YIELDED, -EAGAIN, "it is busy" },
        { TPM2_RC_TESTING, -EAGAIN, "it is testing itself" },
        { TPM2_RC_NV_RATE, -EAGAIN, "it limits how often its memory is written" },
        { TPM2_RC_NV_UNAVAILABLE, -EAGAIN, "its memory cannot be written now" },
        { TPM2_RC_OBJECT_MEMORY, -EAGAIN,
          "it has no room for another object: use Tcti=device:/dev/tpmrm0, or tpm2_flushcontext -t" },
        { TPM2_RC_OBJECT_HANDLES, -EAGAIN, "it has no handle left for another object" },
        { TPM2_RC_SESSION_MEMORY, -EAGAIN, "it has no room for another session: tpm2_flushcontext -l" },
        { TPM2_RC_SESSION_HANDLES, -EAGAIN, "it has no handle left for another session" },
        { TPM2_RC_MEMORY, -EAGAIN, "it has no memory left" },
        { TPM2_RC_NV_SPACE, -EAGAIN,
          "its memory is full: remove an object that nobody needs (tpm2_evictcontrol)" },
        { TPM2_RC_INITIALIZE, -EAGAIN, "it is not started (tpm2_startup -c)" },
        { TPM2_RC_FAILURE, -EAGAIN, "it is in failure mode: switch the device off and on" },
        { TPM2_RC_HIERARCHY, -EINVAL, "the hierarchy is disabled in the firmware's settings" },
        { TPM2_RC_AUTH_FAIL, -EACCES, "it refused the auth, which is not tried again until it changes" },
        { TPM2_RC_BAD_AUTH, -EACCES, "it refused the auth, which is not tried again until it changes" },
        { TPM2_RC_AUTH_MISSING, -EACCES, "an auth is missing" },
        { TPM2_RC_NV_DEFINED, -EEXIST, "there is an object at the handle already" },
        { TPM2_RC_SIZE, -EBADMSG, "a value has a wrong size" },
        { TPM2_RC_VALUE, -EBADMSG, "a value is out of range" },
        { TPM2_RC_INTEGRITY, -EBADMSG, "its integrity check failed" },
        { TPM2_RC_HANDLE, -EINVAL, "there is no such object" },
};

/* The code without the layer that passed it on, and without the number of a parameter. */
static TSS2_RC core_of(TSS2_RC rc) {
        rc &= ~TSS2_RC_LAYER_MASK;
        return rc & TPM2_RC_FMT1 ? rc & BASE_OF_FORMAT_1 : rc;
}

static bool is_from_chip(TSS2_RC rc) {
        TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;

        return layer == TSS2_TPM_RC_LAYER || layer == TSS2_RESMGR_TPM_RC_LAYER ||
               layer == TSS2_RESMGR_RC_LAYER;
}

bool tpm_rc_is_empty(TSS2_RC rc) {
        return is_from_chip(rc) && core_of(rc) == TPM2_RC_HANDLE;
}

bool tpm_rc_is_refusal(TSS2_RC rc) {
        return is_from_chip(rc) && (core_of(rc) == TPM2_RC_AUTH_FAIL || core_of(rc) == TPM2_RC_BAD_AUTH);
}

int tpm_fail(DpsError *error, const Settings *s, int r, const char *format, ...) {
        static const Place nowhere;
        DpsError plain; /* "Tcti=: what" */
        va_list ap;

        va_start(ap, format);
        r = credential_verror(&plain, r, &nowhere, "Tcti", format, ap);
        va_end(ap);
        if (r == -ENOMEM)
                *error = plain;
        else
                dps_error_set(error, plain.id, plain.step, "Tcti=%s%s", s->tcti, strchr(plain.message, ':'));
        return r;
}

int tpm_error(DpsError *error, const Settings *s, TSS2_RC rc, const char *what) {
        if (rc == TSS2_ESYS_RC_MEMORY || rc == TSS2_TCTI_RC_MEMORY)
                return tpm_fail(error, s, -ENOMEM, "%s", what);
        if (is_from_chip(rc))
                for (size_t k = 0; k < ELEMENTSOF(meanings); k++)
                        if (core_of(rc) == core_of(meanings[k].rc))
                                return tpm_fail(error, s, meanings[k].r, "%s: %s (0x%x)", what,
                                                meanings[k].meaning, rc);
        /* Whatever else a chip says, or goes wrong on the way to it, may pass. */
        (void) tpm_fail(error, s, -EAGAIN, "%s: %s (0x%x)", what, Tss2_RC_Decode(rc), rc);
        return is_from_chip(rc) ? -EIO : -EAGAIN;
}
