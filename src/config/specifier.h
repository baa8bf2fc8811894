/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Specifiers: %{serial}, %{mac:eth0}, %{a|b} … so that one image serves a fleet. The text that comes out is not
 * expanded again, and no command is ever run.
 */

#include <stdbool.h>

/* Where to look; all NULL is the running system. */
typedef struct SpecifierContext {
        const char *root;        /* prefix of all paths read */
        const char *certificate; /* file for %{cert-cn} */
        const char *credentials; /* instead of $CREDENTIALS_DIRECTORY */
} SpecifierContext;

/*
 * -EINVAL: bad syntax, or an unknown specifier: final. -EAGAIN: nothing resolves yet, such as an interface that is
 * not there. -ENOENT: nothing resolves, and nothing that could appear by itself is concerned.
 * On failure `ret_why` says it for people: "%{serial}: this hardware tells no serial number; %{mac:eth7}: there is …".
 * Hardware values are trimmed, lower-cased, and made fit for a registration id.
 */
int specifier_expand(const char *text, const SpecifierContext *context, char **ret, char **ret_why);
/* Whether it has any, so that its value may change without the file. */
bool specifier_present(const char *text);
/* Checks the syntax only: for verify-config. */
int specifier_check(const char *text, char **ret_why);
