/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files of this room. All others include credential.h, and those that add a class
 * credential-class.h.
 *
 *      credential-error.c   how an error names the line of the configuration
 *      certificate.c        a client certificate and its key, loaded from files and checked
 *      hardware-key.c       keys in tokens and TPMs; with the files that hardware-key.h lists, the module
 *                           "hardware-key"
 *      tpm-environment.c    what libraries for TPMs take from the environment
 *      symmetric-key.c      the class for METHOD_SYMMETRIC_KEY
 *      x509.c               the class for METHOD_X509
 *      tpm.c                the class for METHOD_TPM; with tpm-….c the module "tpm"
 *      tpm-chip.c           the connection to a TPM, its two keys and its auths
 *      tpm-key.c            the key that DPS sends to a TPM
 *      tpm-error.c          what the TPM's answers mean
 *      tpm-owned.c          which object in the TPM is ours
 *      issued.c             a certificate that DPS has issued, and the class for it
 *      issuance.c           the request for one, and what DPS sends back; the module "issuance"
 *      credential.c         the credential, its classes and its references
 *      credential-choice.c  which method, and which of its credentials, is used
 *      credential-query.c   loading and signing on the worker
 *      credential-proof.c   whether a credential can sign
 *      credential-paths.c   which files to watch
 */

#include "credential/credential-class.h"

extern const CredentialClass symmetric_key_class, x509_class, issued_class;

/* Makes a credential with one reference. Blocks. On failure `error` is set. */
int credential_new(const CredentialClass *class, const CredentialSource *source, Credential **ret,
                   DpsError *error);

/* The same for one that has taken a key of DPS. */
int credential_new_answered(const Credential *c, const char *authentication_key, bool keep, Credential **ret,
                            DpsError *error);

/* Loads the credential that is wished for. Blocks. On failure `error` is set. -EINPROGRESS: a chip is needed,
 * and this thread may not wait for one. */
int credential_choose(const CredentialWish *wish, World *w, bool may_wait, Credential **ret, DpsError *error);
