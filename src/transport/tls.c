/* SPDX-License-Identifier: MIT */
#include "transport/tls.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"

/*
 * What went wrong is noted by OpenSSL's callbacks while the handshake runs, since it cannot be found out afterwards:
 * libmosquitto empties OpenSSL's queue of errors, and knows of a certificate only that it "failed".
 */

#define NAME_MAX_FOR_PEOPLE 64
#define NAMES_TOLD_MAX 3

struct TlsContext {
        unsigned n_refs;
        SSL_CTX *ssl;
        char *host; /* without a dot at its end */
        bool is_numeric;
        bool has_certificate;
        bool holds; /* connections that begin now */
};

/* Belongs to an SSL, as its ex_data, from the beginning of the handshake on. */
typedef struct Connection {
        TlsContext *context; /* a reference */
        bool is_held;
        int verify_error;    /* X509_V_OK: the server's certificate was not refused */
        X509 *certificate;   /* the one that verify_error is about, a reference */
        X509 *leaf;          /* a reference */
        int alert;           /* the fatal one that was received; -1: none */
        unsigned long error; /* of OpenSSL's queue; 0: none */
} Connection;

static int connection_index = -1;

/* ---- connections ---- */

static void connection_free(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) {
        Connection *c = data;

        if (!c)
                return;

        X509_free(c->certificate);
        X509_free(c->leaf);
        tls_context_unref(c->context);
        free(c);
}

/* NULL: there was no memory for it, or no handshake has begun. */
static Connection *connection_of(const SSL *ssl) {
        return SSL_get_ex_data(ssl, connection_index);
}

/* Called before each read and write of the socket, among others. */
static long on_bio(BIO *bio, int operation, const char *data, size_t size, int i, long l, int result,
                   size_t *done) {
        const Connection *c = (const Connection *) BIO_get_callback_arg(bio);

        if (operation != BIO_CB_READ || !c->is_held)
                return result;

        BIO_set_retry_read(bio);
        return -1;
}

static void connection_begin(SSL *ssl, TlsContext *context) {
        Connection *c = calloc(1, sizeof(*c));

        if (!c || SSL_set_ex_data(ssl, connection_index, c) != 1) {
                free(c);
                return;
        }

        *c = (Connection){ .context = tls_context_ref(context), .is_held = context->holds, .alert = -1 };
        BIO_set_callback_arg(SSL_get_rbio(ssl), (char *) c);
        BIO_set_callback_ex(SSL_get_rbio(ssl), on_bio);
}

static void keep(X509 **where, X509 *certificate) {
        if (certificate && X509_up_ref(certificate) == 1) {
                X509_free(*where);
                *where = certificate;
        }
}

/* Called for each certificate that passes, and for each reason to refuse one. */
static int on_verify(int is_good, X509_STORE_CTX *store) {
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        Connection *c = connection_of(ssl);

        if (is_good)
                return 1;

        if (c) {
                c->verify_error = X509_STORE_CTX_get_error(store);
                keep(&c->certificate, X509_STORE_CTX_get_current_cert(store));
                keep(&c->leaf, X509_STORE_CTX_get0_cert(store));
        }
        return 0;
}

/* The last error of the handshake. That the peer closed the connection is not an error of TLS. */
static unsigned long handshake_error(void) {
        unsigned long error = ERR_peek_error();

        return ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? 0 : error;
}

static void on_info(const SSL *ssl, int where, int result) {
        TlsContext *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
        Connection *c = connection_of(ssl);

        if (where & SSL_CB_HANDSHAKE_START && !c) {
                /* libmosquitto has set what it connects to, which is a numeric address. */
                (void) SSL_set_tlsext_host_name((SSL *) ssl, context->is_numeric ? NULL : context->host);
                connection_begin((SSL *) ssl, context);
        }
        if (!c)
                return;

        /* Warnings, and the close_notify at the end is one, are no errors. */
        if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && result >> 8 == SSL3_AL_FATAL)
                c->alert = result & 0xff;
        if (where & SSL_CB_EXIT && result <= 0 && !c->error)
                c->error = handshake_error();
}

/* ---- trust ---- */

static bool is_hash(const char *name) {
        size_t n = strspn(name, "0123456789abcdef");

        return n == 8 && name[n] == '.' && name[n + 1] >= '0' && name[n + 1] <= '9';
}

static bool directory_has_hashes(const char *path) {
        const struct dirent *entry;
        bool found = false;
        DIR *d = opendir(path);

        if (!d)
                return false;

        while (!found && (entry = readdir(d)))
                found = is_hash(entry->d_name);
        closedir(d);
        return found;
}

static const char *environment_or(const char *variable, const char *fallback) {
        return secure_getenv(variable) ?: fallback;
}

/* The hashed directory is preferred, since OpenSSL reads only the root that is needed. Some images have no hashes. */
static int trust_system(SSL_CTX *ssl, DpsError *error) {
        const char *directory = environment_or(X509_get_default_cert_dir_env(), X509_get_default_cert_dir());
        const char *bundles[] = {
                environment_or(X509_get_default_cert_file_env(), X509_get_default_cert_file()),
                "/etc/ssl/certs/ca-certificates.crt",
                "/etc/pki/tls/certs/ca-bundle.crt",
        };

        if (directory_has_hashes(directory) && SSL_CTX_load_verify_dir(ssl, directory) == 1)
                return 0;

        for (size_t i = 0; i < ELEMENTSOF(bundles); i++)
                if (access(bundles[i], R_OK) == 0 && SSL_CTX_load_verify_file(ssl, bundles[i]) == 1)
                        return 0;

        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                      "the system trusts no CA: neither %s nor a bundle has certificates; install "
                      "ca-certificates or set CaFile=",
                      directory);
        return -ENOENT;
}

static const char *openssl_reason(unsigned long error) {
        if (ERR_SYSTEM_ERROR(error))
                return strerror(ERR_GET_REASON(error));
        return ERR_reason_error_string(error) ?: "OpenSSL does not say why";
}

static int trust_files(SSL_CTX *ssl, char *const *files, DpsError *error) {
        STRV_FOREACH(file, files) {
                ERR_clear_error();
                errno = 0;
                if (SSL_CTX_load_verify_file(ssl, *file) == 1)
                        continue;

                dps_error_set(error, errno == ENOMEM ? DPS_ERROR_MEMORY : DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                              "CaFile=%s cannot be used: %s", *file, openssl_reason(ERR_peek_error()));
                ERR_clear_error();
                return -EINVAL;
        }
        return 0;
}

/* ---- construction ---- */

static int use_certificate(SSL_CTX *ssl, STACK_OF(X509) * chain, EVP_PKEY *key, DpsError *error) {
        bool good;

        ERR_clear_error();
        good = sk_X509_num(chain) > 0 && SSL_CTX_use_certificate(ssl, sk_X509_value(chain, 0)) == 1 &&
               SSL_CTX_use_PrivateKey(ssl, key) == 1 && SSL_CTX_check_private_key(ssl) == 1;
        for (int i = 1; good && i < sk_X509_num(chain); i++)
                good = SSL_CTX_add1_chain_cert(ssl, sk_X509_value(chain, i)) == 1;
        if (good)
                return 0;

        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                      "the client certificate cannot be used with its key: %s",
                      openssl_reason(ERR_peek_error()));
        ERR_clear_error();
        return -EINVAL;
}

/* OpenSSL checks no name unless one is set here. */
static int check_name(TlsContext *c) {
        X509_VERIFY_PARAM *param = SSL_CTX_get0_param(c->ssl);

        if (c->is_numeric)
                return X509_VERIFY_PARAM_set1_ip_asc(param, c->host) == 1 ? 0 : -ENOMEM;

        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        return X509_VERIFY_PARAM_set1_host(param, c->host, 0) == 1 ? 0 : -ENOMEM;
}

static int set_rules(TlsContext *c) {
        SSL_CTX_set_app_data(c->ssl, c);
        SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER, on_verify);
        SSL_CTX_set_info_callback(c->ssl, on_info);
        SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                         SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(c->ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
        /* A resumed session skips the checks, and a device connects once per boot. */
        SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
        if (SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION) != 1)
                return -ENOMEM;
        return check_name(c);
}

static bool is_numeric(const char *host) {
        struct in6_addr address;

        return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static int context_new(const char *host, TlsContext **ret) {
        _cleanup_(tls_context_unrefp) TlsContext *c = calloc(1, sizeof(*c));
        size_t size = strlen(host);

        if (!c)
                return -ENOMEM;

        if (connection_index < 0)
                connection_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, connection_free);
        if (connection_index < 0)
                return -ENOMEM;

        c->n_refs = 1;
        c->is_numeric = is_numeric(host);
        if (size > 1 && host[size - 1] == '.')
                size--;
        c->host = strndup(host, size);
        c->ssl = SSL_CTX_new(TLS_client_method());
        if (!c->host || !c->ssl || set_rules(c) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

int tls_context_new(const char *host, char *const *ca_files, STACK_OF(X509) * chain, EVP_PKEY *key,
                    TlsContext **ret, DpsError *error) {
        _cleanup_(tls_context_unrefp) TlsContext *c = NULL;
        int r;

        r = context_new(host, &c);
        if (r < 0) {
                dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "no memory for a TLS context");
                return r;
        }

        r = ca_files ? trust_files(c->ssl, ca_files, error) : trust_system(c->ssl, error);
        if (r < 0)
                return r;

        if (chain) {
                r = use_certificate(c->ssl, chain, key, error);
                if (r < 0)
                        return r;
                c->has_certificate = true;
        }

        *ret = TAKE_PTR(c);
        return 0;
}

TlsContext *tls_context_ref(TlsContext *c) {
        c->n_refs++;
        return c;
}

TlsContext *tls_context_unref(TlsContext *c) {
        if (!c || --c->n_refs > 0)
                return NULL;

        SSL_CTX_free(c->ssl);
        free(c->host);
        free(c);
        return NULL;
}

SSL_CTX *tls_context_ssl(TlsContext *c) {
        return c->ssl;
}

void tls_context_hold(TlsContext *c, bool on) {
        c->holds = on;
}

void tls_connection_release(SSL *ssl) {
        Connection *c = connection_of(ssl);

        if (c)
                c->is_held = false;
}

/* ---- errors ---- */

/* Whoever made the certificate wrote its names: they may contain anything, and be long. */
static char *name_for_people(const X509_NAME *name, int nid) {
        int at = X509_NAME_get_index_by_NID(name, nid, -1);
        const ASN1_STRING *value;

        if (at < 0)
                return NULL;

        value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
        return text_for_people(ASN1_STRING_get0_data(value), (size_t) ASN1_STRING_length(value),
                               NAME_MAX_FOR_PEOPLE);
}

static char *name_of(const X509_NAME *name) {
        return name_for_people(name, NID_commonName) ?: name_for_people(name, NID_organizationName);
}

static void general_namesp(GENERAL_NAMES **names) {
        GENERAL_NAMES_free(*names);
}

static char *general_name_for_people(const GENERAL_NAME *name) {
        char text[INET6_ADDRSTRLEN];
        const ASN1_STRING *value;
        int type;

        value = GENERAL_NAME_get0_value(name, &type);
        if (type == GEN_DNS)
                return text_for_people(ASN1_STRING_get0_data(value), (size_t) ASN1_STRING_length(value),
                                       NAME_MAX_FOR_PEOPLE);
        if (type == GEN_IPADD && (ASN1_STRING_length(value) == 4 || ASN1_STRING_length(value) == 16) &&
            inet_ntop(ASN1_STRING_length(value) == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), text,
                      sizeof(text)))
                return strdup(text);
        return NULL;
}

/* "a.example, b.example": what the certificate is for. */
static char *names_for_people(X509 *certificate) {
        _cleanup_(general_namesp) GENERAL_NAMES *names =
                X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
        _cleanup_(freep) char *list = NULL;
        int told = 0;

        for (int i = 0; i < sk_GENERAL_NAME_num(names) && told < NAMES_TOLD_MAX; i++) {
                _cleanup_(freep) char *name = general_name_for_people(sk_GENERAL_NAME_value(names, i));
                char *longer;

                if (!name)
                        continue;
                if (asprintf(&longer, "%s%s%s", list ?: "", list ? ", " : "", name) < 0)
                        return NULL;
                free(list);
                list = longer;
                told++;
        }
        return TAKE_PTR(list) ?: name_of(X509_get_subject_name(certificate));
}

static void set_name_error(const Connection *c, DpsError *ret) {
        _cleanup_(freep) char *names = names_for_people(c->leaf);

        dps_error_set(ret, DPS_ERROR_TLS_NAME, DPS_STEP_TLS, "the certificate is for %s, not for %s",
                      names ?: "no name at all", c->context->host);
}

static const char *format_asn1_time(const ASN1_TIME *time, char buffer[static TIMESTAMP_TEXT_MAX]) {
        struct tm tm;

        if (ASN1_TIME_to_tm(time, &tm) != 1)
                return "an unreadable date";
        return format_timestamp((uint64_t) timegm(&tm) * USEC_PER_SEC, buffer);
}

static void set_time_error(const Connection *c, DpsError *ret) {
        const X509 *certificate = c->certificate;
        _cleanup_(freep) char *subject = name_of(X509_get_subject_name(certificate));
        bool is_early = c->verify_error == X509_V_ERR_CERT_NOT_YET_VALID;
        char when[TIMESTAMP_TEXT_MAX], now[TIMESTAMP_TEXT_MAX];
        const ASN1_TIME *limit =
                is_early ? X509_get0_notBefore(certificate) : X509_get0_notAfter(certificate);

        dps_error_set(ret, DPS_ERROR_TLS_EXPIRED, DPS_STEP_TLS,
                      "the certificate of %s is valid %s %s, and the clock of this machine says %s: is the "
                      "clock right?",
                      subject ?: "the server", is_early ? "not before" : "only until",
                      format_asn1_time(limit, when), format_timestamp(now_usec(CLOCK_REALTIME), now));
}

/* The names of DPS in Azure's clouds. */
static bool is_public_dps(const char *host) {
        static const char *const domains[] = {
                ".azure-devices-provisioning.net",
                ".azure-devices-provisioning.cn",
                ".azure-devices-provisioning.us",
        };

        for (size_t i = 0; i < ELEMENTSOF(domains); i++) {
                size_t size = strlen(host), n = strlen(domains[i]);

                if (size > n && strcasecmp(host + size - n, domains[i]) == 0)
                        return true;
        }
        return false;
}

/* Azure's own certificates come from one of these. Where they are not trusted, the system's store is too old. */
static bool is_azure_issuer(const X509 *certificate) {
        _cleanup_(freep) char *maker =
                name_for_people(X509_get_issuer_name(certificate), NID_organizationName);

        return maker && (startswith(maker, "DigiCert") || startswith(maker, "Microsoft"));
}

/* A proxy that intercepts TLS shows a certificate for Azure's DPS that was issued by somebody else. */
static bool is_intercepted(const Connection *c) {
        return is_public_dps(c->context->host) &&
               X509_check_host(c->leaf, c->context->host, 0, 0, NULL) == 1 &&
               !is_azure_issuer(c->certificate);
}

static void set_trust_error(const Connection *c, DpsError *ret) {
        _cleanup_(freep) char *issuer = name_of(X509_get_issuer_name(c->certificate));

        if (is_intercepted(c))
                dps_error_set(
                        ret, DPS_ERROR_TLS_INTERCEPTED, DPS_STEP_TLS,
                        "the certificate was issued by %s, which is not a CA of Azure: a proxy intercepts "
                        "the connection",
                        issuer ?: "a CA without a name");
        else
                dps_error_set(ret, DPS_ERROR_TLS_UNTRUSTED, DPS_STEP_TLS,
                              "the certificate, issued by %s, is not trusted: %s",
                              issuer ?: "a CA without a name",
                              X509_verify_cert_error_string(c->verify_error));
}

static void set_certificate_error(const Connection *c, DpsError *ret) {
        switch (c->verify_error) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                return set_name_error(c, ret);
        case X509_V_ERR_CERT_HAS_EXPIRED:
        case X509_V_ERR_CERT_NOT_YET_VALID:
                return set_time_error(c, ret);
        default:
                return set_trust_error(c, ret);
        }
}

/* By which a server refuses our certificate. */
static bool is_alert_about_certificate(int alert) {
        switch (alert) {
        case SSL_AD_BAD_CERTIFICATE:
        case SSL_AD_UNSUPPORTED_CERTIFICATE:
        case SSL_AD_CERTIFICATE_REVOKED:
        case SSL_AD_CERTIFICATE_EXPIRED:
        case SSL_AD_CERTIFICATE_UNKNOWN:
        case SSL_AD_UNKNOWN_CA:
        case SSL_AD_ACCESS_DENIED:
        case SSL_AD_CERTIFICATE_REQUIRED:
                return true;
        default:
                return false;
        }
}

static void set_alert_error(const Connection *c, DpsError *ret) {
        int alert = c->alert;
        const char *words = SSL_alert_desc_string_long(alert);

        if (alert == SSL_AD_CERTIFICATE_REQUIRED)
                dps_error_set(ret, DPS_ERROR_AUTH, DPS_STEP_TLS, "the server wants a client certificate");
        else if (c->context->has_certificate && is_alert_about_certificate(alert))
                dps_error_set(ret, DPS_ERROR_AUTH, DPS_STEP_TLS, "the server refused our certificate: %s",
                              words);
        else
                dps_error_set(ret, DPS_ERROR_TLS, DPS_STEP_TLS, "the server ended the TLS session: %s",
                              words);
}

void tls_connection_error(const SSL *ssl, DpsError *ret) {
        const Connection *c = connection_of(ssl);

        *ret = (DpsError){ 0 };

        if (!c && !SSL_in_before(ssl))
                dps_error_set(ret, DPS_ERROR_MEMORY, DPS_STEP_TLS, "no memory for a TLS connection");
        else if (!c)
                return;
        else if (c->verify_error != X509_V_OK && c->certificate && c->leaf)
                set_certificate_error(c, ret);
        else if (c->alert >= 0)
                set_alert_error(c, ret);
        else if (c->error)
                dps_error_set(ret, DPS_ERROR_TLS, DPS_STEP_TLS, "the TLS handshake failed: %s",
                              openssl_reason(c->error));
}
