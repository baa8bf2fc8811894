/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files of this room. All others include credential.h, and those that add a class
 * credential-class.h.
 *
 *      credential-error.c   how an error names the line of the configuration
 *      certificate.c        a client certificate and its key, loaded from files and checked
 *      symmetric-key.c      the class for METHOD_SYMMETRIC_KEY
 *      x509.c               the class for METHOD_X509
 *      issued.c             a certificate that DPS has issued, its request, and the class for it
 *      credential.c         the credential, its classes and its references
 *      credential-choice.c  which method, and which of its credentials, is used
 *      credential-query.c   loading and signing on the worker
 *      credential-paths.c   which files to watch
 */

#include "credential/credential-class.h"

extern const CredentialClass symmetric_key_class, x509_class, issued_class;

/* Makes a credential with one reference. Blocks. On failure `error` is set. */
int credential_new(const CredentialClass *class, const CredentialSource *source, Credential **ret,
                   DpsError *error);

/* Loads the credential that is wished for. Blocks. On failure `error` is set. */
int credential_choose(const CredentialWish *wish, Credential **ret, DpsError *error);
