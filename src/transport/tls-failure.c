/* SPDX-License-Identifier: MIT */
#include "transport/tls-failure.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"

#define NAME_MAX_FOR_PEOPLE 64
#define NAMES_TOLD_MAX 3

const char *tls_reason(unsigned long error) {
        if (ERR_SYSTEM_ERROR(error))
                return strerror(ERR_GET_REASON(error));
        return ERR_reason_error_string(error) ?: "OpenSSL does not say why";
}

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
                longer = text_format("%s%s%s", list ?: "", list ? ", " : "", name);
                if (!longer)
                        return NULL;
                free(list);
                list = longer;
                told++;
        }
        return TAKE_PTR(list) ?: name_of(X509_get_subject_name(certificate));
}

static void set_name_error(const TlsFailure *f, const char *host, DpsError *ret) {
        _cleanup_(freep) char *names = names_for_people(f->leaf);

        dps_error_set(ret, DPS_ERROR_TLS_NAME, DPS_STEP_TLS, "the certificate is for %s, not for %s",
                      names ?: "no name at all", host);
}

static const char *format_asn1_time(const ASN1_TIME *time, char buffer[static TIMESTAMP_TEXT_MAX]) {
        struct tm tm;

        if (ASN1_TIME_to_tm(time, &tm) != 1)
                return "an unreadable date";
        return format_timestamp((uint64_t) timegm(&tm) * USEC_PER_SEC, buffer);
}

static void set_time_error(const TlsFailure *f, DpsError *ret) {
        const X509 *certificate = f->certificate;
        _cleanup_(freep) char *subject = name_of(X509_get_subject_name(certificate));
        bool is_early = f->verify_error == X509_V_ERR_CERT_NOT_YET_VALID;
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

/* A proxy that intercepts TLS shows a certificate for Azure's DPS that Azure's CAs have not issued. */
static bool is_intercepted(const TlsFailure *f, const char *host) {
        return is_public_dps(host) && X509_check_host(f->leaf, host, 0, 0, NULL) == 1 &&
               !is_azure_issuer(f->certificate);
}

static void set_trust_error(const TlsFailure *f, const char *host, DpsError *ret) {
        _cleanup_(freep) char *issuer = name_of(X509_get_issuer_name(f->certificate));

        if (is_intercepted(f, host))
                dps_error_set(
                        ret, DPS_ERROR_TLS_INTERCEPTED, DPS_STEP_TLS,
                        "the certificate was issued by %s, which is not a CA of Azure: a proxy intercepts "
                        "the connection",
                        issuer ?: "a CA without a name");
        else
                dps_error_set(ret, DPS_ERROR_TLS_UNTRUSTED, DPS_STEP_TLS,
                              "the certificate, issued by %s, is not trusted: %s",
                              issuer ?: "a CA without a name",
                              X509_verify_cert_error_string(f->verify_error));
}

static void set_certificate_error(const TlsFailure *f, const char *host, DpsError *ret) {
        switch (f->verify_error) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                return set_name_error(f, host, ret);
        case X509_V_ERR_CERT_HAS_EXPIRED:
        case X509_V_ERR_CERT_NOT_YET_VALID:
                return set_time_error(f, ret);
        default:
                return set_trust_error(f, host, ret);
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

static void set_alert_error(const TlsFailure *f, bool has_certificate, DpsError *ret) {
        int alert = f->alert;
        const char *words = SSL_alert_desc_string_long(alert);

        if (alert == SSL_AD_CERTIFICATE_REQUIRED)
                dps_error_set(ret, DPS_ERROR_AUTH, DPS_STEP_TLS, "the server wants a client certificate");
        else if (has_certificate && is_alert_about_certificate(alert))
                dps_error_set(ret, DPS_ERROR_AUTH, DPS_STEP_TLS, "the server refused our certificate: %s",
                              words);
        else
                dps_error_set(ret, DPS_ERROR_TLS, DPS_STEP_TLS, "the server ended the TLS session: %s",
                              words);
}

void tls_failure_tell(const TlsFailure *f, const char *host, bool has_certificate, DpsError *ret) {
        if (f->verify_error != X509_V_OK && f->certificate && f->leaf)
                set_certificate_error(f, host, ret);
        else if (f->is_flooded)
                dps_error_set(ret, DPS_ERROR_TLS, DPS_STEP_TLS,
                              "the server sends more data than any exchange has");
        else if (f->alert >= 0)
                set_alert_error(f, has_certificate, ret);
        else if (f->error)
                dps_error_set(ret, DPS_ERROR_TLS, DPS_STEP_TLS, "the TLS handshake failed: %s",
                              tls_reason(f->error));
        else
                *ret = (DpsError){ 0 };
}
