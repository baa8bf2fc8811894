/* SPDX-License-Identifier: MIT */
#pragma once

/* What libraries for TPMs take from the environment. To change the environment while other threads read it is not
 * safe, so it holds a buffer of ours from the start of the program, and only what is in the buffer changes. */

/* To be called before there are threads. */
void tpm_environment_prepare(void);
/* For OpenSSL's provider "tpm2". No other thread may load the provider meanwhile. */
void tpm_environment_set_tcti(const char *tcti);
