/* SPDX-License-Identifier: MIT */

/*
 * dpsctl-more: what dpsctl becomes for verbs that are used once in the life of a device, or that run beside it for long. They
 * stay out of dpsctl, so that it is small enough to be copied alone into an initrd.
 */

#include "dpsctl/program.h"
#include "dpsctl/verbs.h"

static const Verb verbs[] = {
        { "enrollment", 0, VERB_ANY, verb_enrollment, " [NAME...]" },
        { "metrics", 0, 0, verb_metrics, "" },
        { "monitor", 0, 0, verb_monitor, "" },
        { "import-key", 1, 2, verb_import_key, " NAME [FILE|-]" },
        { 0 },
};

int main(int argc, char **argv) {
        return program_main(argc, argv, verbs);
}
