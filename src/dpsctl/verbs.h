/* SPDX-License-Identifier: MIT */
#pragma once

/* One function for each verb. It gives the exit code, after it has said what went wrong. */

#include "dpsctl/identity-list.h"
#include "dpsctl/options.h"
#include "dpsctl/say.h"

int verb_status(const Options *o);
int verb_show(const Options *o);
int verb_reprovision(const Options *o);
int verb_wait(const Options *o);
int verb_enrollment(const Options *o);
int verb_token(const Options *o);
int verb_connection(const Options *o);
int verb_report_hub_connected(const Options *o);
int verb_report_hub_failure(const Options *o);
int verb_reload(const Options *o);
int verb_forget(const Options *o);
int verb_log_level(const Options *o);
int verb_metrics(const Options *o);
int verb_monitor(const Options *o);
int verb_history(const Options *o);
int verb_check(const Options *o);
int verb_cat_config(const Options *o);
int verb_verify_config(const Options *o);
int verb_expand(const Options *o);
int verb_explain(const Options *o);
int verb_derive_key(const Options *o);
int verb_sas(const Options *o);
int verb_import_key(const Options *o);

#define KEY_TEXT_MAX 16384 /* what is longer is no key */
/* Reads what should be a key from a file, or from standard input if `source` is "-". A zero byte follows the text, which the
 * caller wipes. 0, or an exit code after it has said what went wrong. */
int read_key_text(const char *source, char text[static KEY_TEXT_MAX + 1], size_t *ret_size);
int key_refused(const char *source, const char *why);

#define WAIT_ON (-1)
/* The exit code of `wait` in the present state, or WAIT_ON. `booted_at_usec`: CLOCK_REALTIME, for --fresh. */
int wait_verdict(const IdentityList *l, const Options *o, uint64_t booted_at_usec);

/* The exit code of `status`. */
Exit status_code(const IdentityList *l, bool strict);
