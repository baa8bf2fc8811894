/* SPDX-License-Identifier: MIT */

/* What must hold of the keys in the token. */

#include <string.h>

#include "basic/text.h"
#include "checks.h"
#include "disk.h"
#include "machine.h"
#include "token.h"

/* That which serves, the next one, and those that the token did not let dpsd remove (credential/token-notes.c). */
#define TOKEN_KEYS_MAX 6

/* Promises: a key is known whatever happens, since its note was durable first; and those that did not serve do not fill the
 * token. */
void checks_key_made(Sim *s, const char *reference) {
        const char *digits = strstr(reference, ";id=");
        char file[64], name[16];

        machine_name(ISSUED_IDENTITY, name);
        (void) snprintf(file, sizeof(file), "%s.%.16s.token", name, digits ? digits - 16 : "");
        if (!streq_ptr(disk_text(s->disk, WHERE_STATE, "", file, true), reference))
                found(s, "a key in a token is noted durably before it is made", "%s", file);
        if (token_n_keys() > TOKEN_KEYS_MAX)
                found(s, "a token holds at most 6 keys of an identity", "%u", token_n_keys());
}

/* Whether the pair that this fingerprint stands for has the key, now or after a power cut. */
static bool pair_has(const Sim *s, const char *fingerprint, const char *reference) {
        char file[64], name[16];

        machine_name(ISSUED_IDENTITY, name);
        (void) snprintf(file, sizeof(file), "%s.%.16s.issued", name, fingerprint);
        for (unsigned durable = 0; durable < 2; durable++) {
                const char *text = disk_text(s->disk, WHERE_STATE, "", file, durable);

                if (text && strstr(text, reference))
                        return true;
        }
        return false;
}

/* Promise: the old key serves until the assignment with the new one is durable, and then as long as programs have it. */
void checks_key_removed(Sim *s, const char *reference) {
        static const char member[] = "\"issuedFingerprint\":\"";
        const Identity *i = machine_identity(s->machine, ISSUED_IDENTITY);
        const Assignment *a = i ? identity_assignment(i) : NULL;
        char file[32], name[16];

        machine_name(ISSUED_IDENTITY, name);
        (void) snprintf(file, sizeof(file), "%s.json", name);
        for (unsigned durable = 0; durable < 2; durable++) {
                const char *text = disk_text(s->disk, WHERE_STATE, "", file, durable),
                           *fingerprint = text ? strstr(text, member) : NULL;

                if (fingerprint && pair_has(s, fingerprint + strlen(member), reference))
                        found(s,
                              "a key is removed from its token only when no certificate that counts needs it",
                              "the record that is %s", durable ? "durable" : "on disk");
        }
        if (a && a->issued && pair_has(s, a->issued, reference))
                found(s, "a key is removed from its token only when no certificate that counts needs it",
                      "the assignment that is served");
}
