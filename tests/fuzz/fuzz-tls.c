/* SPDX-License-Identifier: MIT */
#include <openssl/err.h>

#include "fuzz.h"
#include "transport/tls.h"
#include "tree.h"

/* What a server says before it is proven: TLS is OpenSSL's, but ours are the budget, the notes of the callbacks, and the
 * words for what went wrong. */

#define SAID_MAX (1024U * 1024)
#define BUDGET (256U * 1024)
#define READ_MAX (32U * 1024) /* of OpenSSL, at once */

static TlsContext *context;

/* A store without certificates. Who is believed all the same has broken TLS. */
static void start(void) {
        static const char *const directories[] = { "certificates" };
        _cleanup_(freep) char *path = NULL;
        _cleanup_(trust_unrefp) Trust *trust = NULL;
        DpsError error;

        tree_make(directories, 1);
        tree_write("certificates/00000000.0", "", 0);
        path = tree_path("certificates");
        PROMISE(setenv("SSL_CERT_DIR", path, true) == 0);
        PROMISE(setenv("SSL_CERT_FILE", "/nonexistent", true) == 0);
        PROMISE(trust_read(NULL, &trust, &error) >= 0);
        PROMISE(tls_context_new("dps.example", trust, NULL, NULL, &context, &error) >= 0);
}

/* Returns a BIO that holds what is said, and then nothing for now. */
static BIO *bio_of(const uint8_t *data, size_t size, bool is_repeated) {
        BIO *bio = BIO_new(BIO_s_mem());
        size_t n = 0;

        PROMISE(bio);
        BIO_set_mem_eof_return(bio, -1);
        do {
                PROMISE(size == 0 || BIO_write(bio, data, (int) size) == (int) size);
                n += size;
        } while (is_repeated && size > 0 && n < SAID_MAX);
        return bio;
}

/* Input: r, and what is repeated until more is said than a handshake may cost; or another letter, and what is said once. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        DpsError error;
        BIO *said, *heard;
        SSL *ssl;
        int r;

        if (size == 0)
                return 0;
        if (!context)
                start();
        ssl = SSL_new(tls_context_ssl(context));
        said = bio_of(data + 1, size - 1, *data == 'r');
        heard = BIO_new(BIO_s_mem());
        PROMISE(ssl && heard);
        SSL_set_bio(ssl, said, heard);
        SSL_set_connect_state(ssl);

        ERR_clear_error();
        r = SSL_do_handshake(ssl);
        PROMISE(r != 1);
        PROMISE(BIO_number_read(said) <= BUDGET + READ_MAX);
        r = SSL_get_error(ssl, r);
        PROMISE(r != SSL_ERROR_WANT_READ || BIO_pending(said) == 0);
        PROMISE(tls_connection_is_flooded(ssl) == (BIO_number_read(said) > BUDGET));
        tls_connection_error(ssl, &error);
        PROMISE(is_one_line(error.message));
        PROMISE(error.id != DPS_ERROR_NONE || !tls_connection_is_flooded(ssl));
        SSL_free(ssl);
        ERR_clear_error();
        return 0;
}
