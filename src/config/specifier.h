/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Specifiers such as %{serial}, %{mac:eth0} and %{a|b}, so that one image serves a fleet. An expanded value
 * is not expanded again, and no command is ever run.
 */

#include <stdbool.h>

struct Place;

/* Where to look. If all are NULL, in the running system. */
typedef struct SpecifierContext {
        const char *root;        /* prefix of all paths that are read */
        const char *certificate; /* path or credential:NAME, for %{cert-cn} */
        const char *credentials; /* directory in place of $CREDENTIALS_DIRECTORY */
        const char *tpm;         /* the registration id that the TPM gives, for %{tpm}; NULL: not known yet */
        /* If not NULL, it is set to the place of the value that is being expanded, for a caller that has waited
         * for too long. */
        const struct Place **at;
} SpecifierContext;

/*
 * -EINVAL: bad syntax, or an unknown specifier. -EAGAIN: no alternative has a value yet, but one may get it
 * by itself, such as an interface that has not appeared. -ENOENT: no alternative has a value, and none will
 * get one by itself. On failure `ret_why` is a text for people: "%{serial}: this hardware reports no serial
 * number; %{mac:eth7}: there …". Hardware values are trimmed, lower-cased, and characters that a registration
 * id cannot have become "-".
 */
int specifier_expand(const char *text, const SpecifierContext *context, char **ret, char **ret_why);
/* Whether the text has specifiers, so that its value may change while the file stays the same. */
bool specifier_present(const char *text);
/* Whether it may need the context's `tpm`. */
bool specifier_uses_tpm(const char *text);
/* Checks the syntax only. -EINVAL. */
int specifier_check(const char *text, char **ret_why);
