/* SPDX-License-Identifier: MIT */
#pragma once

/* Enrollments in a file may name certificates by their paths. The service takes PEM text only, and reads no
 * files. */

#include "emulator/reader.h"

/*
 * Replaces the path of each certificate by what is in the file. `document` is an enrollments document, or one
 * enrollment. Relative paths are under `directory`; "device-ca" is the certificate of that name in
 * `state_directory`.
 */
int enrollment_files_include(json_object *document, const char *directory, const char *state_directory,
                             ErrorText *error);
