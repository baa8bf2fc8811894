/* SPDX-License-Identifier: MIT */

/*
 * A PKCS#11 module that passes all calls on to $TOKEN_MODULE, counts logins in the file $TOKEN_LOGINS (a byte
 * each), and does not return from C_Initialize ($TOKEN_HANGS_IN=initialize), from C_GenerateKeyPair (…=generate) or
 * from the second C_Sign (…=sign; the first one proves at load that the key is the right one) until there is a file
 * $TOKEN_GOES_ON. While it hangs, there is a file $TOKEN_HANGS. With $TOKEN_IS_PULLED_OUT the second C_Sign fails.
 * C_GenerateKeyPair fails with the code in the file $TOKEN_REFUSES, and kills the program before or after it has made
 * the key ($TOKEN_KILLS).
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "credential/pkcs11-api.h"

static CkFunctions functions;
static CkFunctions *real;

static void hang_if(const char *where) {
        const char *here = getenv("TOKEN_HANGS_IN");

        if (!here || strcmp(here, where) != 0)
                return;
        (void) close(open(getenv("TOKEN_HANGS"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        while (access(getenv("TOKEN_GOES_ON"), F_OK) < 0)
                (void) usleep(10000);
}

static CkUlong initialize(void *arguments) {
        hang_if("initialize");
        return real->initialize(arguments);
}

static CkUlong login(CkUlong session, CkUlong user, const CkByte *pin, CkUlong size) {
        const char *path = getenv("TOKEN_LOGINS");
        int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

        if (fd >= 0) {
                (void) !write(fd, "x", 1);
                (void) close(fd);
        }
        return real->login(session, user, pin, size);
}

static CkUlong sign(CkUlong session, const CkByte *data, CkUlong size, CkByte *ret, CkUlong *ret_size) {
        static unsigned n;

        if (++n > 1)
                hang_if("sign");
        if (n > 1 && getenv("TOKEN_IS_PULLED_OUT"))
                return CKR_DEVICE_REMOVED;
        return real->sign(session, data, size, ret, ret_size);
}

static void kill_if(const char *when) {
        const char *wanted = getenv("TOKEN_KILLS");

        if (wanted && strcmp(wanted, when) == 0)
                (void) raise(SIGKILL);
}

static CkUlong refusal(void) {
        const char *path = getenv("TOKEN_REFUSES");
        FILE *f = path ? fopen(path, "re") : NULL;
        CkUlong code = 0;

        if (!f)
                return CKR_OK;
        if (fscanf(f, "%lx", &code) != 1)
                code = CKR_DEVICE_ERROR;
        (void) fclose(f);
        return code;
}

static CkUlong generate_key_pair(CkUlong session, const CkMechanism *mechanism, CkAttribute *public_key,
                                 CkUlong n_public, CkAttribute *private_key, CkUlong n_private,
                                 CkUlong *ret_public, CkUlong *ret_private) {
        CkUlong code = refusal();

        hang_if("generate");
        kill_if("before");
        if (code == CKR_OK)
                code = real->generate_key_pair(session, mechanism, public_key, n_public, private_key,
                                               n_private, ret_public, ret_private);
        kill_if("after");
        return code;
}

CkUlong C_GetFunctionList(CkFunctions **ret);
__attribute__((visibility("default"))) CkUlong C_GetFunctionList(CkFunctions **ret) {
        void *library = dlopen(getenv("TOKEN_MODULE"), RTLD_NOW | RTLD_LOCAL);
        CkGetFunctionList get = NULL;

        if (library)
                *(void **) &get = dlsym(library, "C_GetFunctionList");
        if (!get || get(&real) != CKR_OK)
                return CKR_DEVICE_ERROR;
        functions = *real;
        functions.initialize = initialize;
        functions.login = login;
        functions.sign = sign;
        functions.generate_key_pair = generate_key_pair;
        *ret = &functions;
        return CKR_OK;
}
