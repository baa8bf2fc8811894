/* SPDX-License-Identifier: MIT */

/*
 * A PKCS#11 module that passes all calls on to $TOKEN_MODULE, counts logins in the file $TOKEN_LOGINS (a byte
 * each), and does not return from C_Initialize ($TOKEN_HANGS_IN=initialize) or from the second C_Sign (…=sign;
 * the first one proves at load that the key is the right one) until there is a file $TOKEN_GOES_ON. While it
 * hangs, there is a file $TOKEN_HANGS. With $TOKEN_IS_PULLED_OUT the second C_Sign fails.
 */

#include <dlfcn.h>
#include <fcntl.h>
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
        *ret = &functions;
        return CKR_OK;
}
