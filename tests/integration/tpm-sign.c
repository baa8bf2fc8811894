/* SPDX-License-Identifier: MIT */
/*
 * tpm-sign TCTI KEY SIZE: signs SIZE bytes, 'a' to 'z' again and again, with the object at the handle KEY, and prints
 * the signature. For data that are longer than any token, which one command of a TPM does not take.
 */
#include <stdio.h>
#include <stdlib.h>

#include "basic/text.h"
#include "credential/tpm-internal.h"

static int fail(const DpsError *error) {
        fprintf(stderr, "%s\n", error->message);
        return EXIT_FAILURE;
}

int main(int argc, char **argv) {
        _cleanup_(tpm_chip_close) TpmChip chip = { 0 };
        Settings settings = { .ek_handle = 0x81010001, .srk_handle = 0x81000001 };
        size_t size = strtoul(argv[3], NULL, 10);
        char *data = malloc(size), hex[2 * DPS_HMAC_SIZE + 1];
        uint8_t signature[DPS_HMAC_SIZE];
        DpsError error = { 0 };
        TPM2B_NAME name;
        ESYS_TR key;

        settings.tcti = argv[1];
        settings.tpm_key_handle = (uint32_t) strtoul(argv[2], NULL, 0);
        for (size_t k = 0; k < size; k++)
                data[k] = (char) ('a' + k % 26);

        if (tpm_chip_open(&chip, &settings, &error) < 0 || tpm_key_find(&chip, &key, &name, &error) < 0 ||
            tpm_key_sign(&chip, key, data, size, signature, &error) < 0)
                return fail(&error);
        bytes_to_hex(signature, sizeof(signature), hex);
        puts(hex);
        free(data);
        return EXIT_SUCCESS;
}
