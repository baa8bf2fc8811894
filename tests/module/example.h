/* SPDX-License-Identifier: MIT */
#pragma once

/* What the module of the tests does: the interface "example". */
typedef struct ExampleClass {
        /* Text as it can stand in a topic: without control characters, and percent-encoded. */
        int (*encode)(const char *text, char **ret);
} ExampleClass;
