/* SPDX-License-Identifier: MIT */
#include "credential/tpm-environment.h"

#include <stdio.h>
#include <stdlib.h>

#define TCTI_VARIABLE "TPM2OPENSSL_TCTI="
#define TCTI_SIZE_MAX 256

static char tcti_variable[sizeof(TCTI_VARIABLE) + TCTI_SIZE_MAX] = TCTI_VARIABLE;

void tpm_environment_prepare(void) {
        /* The libraries write to stderr what they return as errors as well. */
        (void) setenv("TSS2_LOG", "all+none", 0);
        /* The provider takes its TCTI from here only (1.1.1 ignores the parameter of OpenSSL's configuration). */
        (void) putenv(tcti_variable);
}

void tpm_environment_set_tcti(const char *tcti) {
        (void) snprintf(tcti_variable, sizeof(tcti_variable), TCTI_VARIABLE "%s", tcti);
}
