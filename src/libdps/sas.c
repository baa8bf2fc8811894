/* SPDX-License-Identifier: MIT */
#include "dps/sas.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <strings.h>

#include "basic/cleanup.h"
#include "basic/text.h"

#define TOKEN_PREFIX "SharedAccessSignature "

/* ---- percent-encoding ---- */

static bool is_unreserved(unsigned char c) {
        return (c < 0x80 && isalnum(c)) || (c && strchr("-._~", c));
}

int dps_percent_encode(const char *text, char **ret) {
        static const char digits[] = "0123456789ABCDEF";
        char *encoded, *p;

        p = encoded = malloc(strlen(text) * 3 + 1);
        if (!encoded)
                return -ENOMEM;

        for (; *text; text++) {
                unsigned char c = (unsigned char) *text;

                if (is_unreserved(c)) {
                        *p++ = (char) c;
                        continue;
                }
                *p++ = '%';
                *p++ = digits[c >> 4];
                *p++ = digits[c & 15];
        }
        *p = '\0';

        *ret = encoded;
        return 0;
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char) (c | 0x20);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int dps_percent_decode(const char *text, size_t size, char **ret) {
        _cleanup_(freep) char *decoded = NULL;
        char *p;

        p = decoded = malloc(size + 1);
        if (!decoded)
                return -ENOMEM;

        for (size_t k = 0; k < size; k++) {
                int high, low;

                if (text[k] != '%') {
                        *p++ = text[k];
                        continue;
                }
                high = k + 2 < size ? hex_digit(text[k + 1]) : -1;
                low = k + 2 < size ? hex_digit(text[k + 2]) : -1;
                if (high < 0 || low < 0 || (high == 0 && low == 0))
                        return -EBADMSG;
                *p++ = (char) (high << 4 | low);
                k += 2;
        }
        *p = '\0';

        *ret = TAKE_PTR(decoded);
        return 0;
}

/* ---- making ---- */

static int encode_resource(const char *owner, const char *kind, const char *id, char **ret) {
        _cleanup_(freep) char *resource = text_format("%s/%s/%s", owner, kind, id);

        return resource ? dps_percent_encode(resource, ret) : -ENOMEM;
}

int dps_sas_resource_registration(const char *id_scope, const char *registration_id, char **ret) {
        return encode_resource(id_scope, "registrations", registration_id, ret);
}

int dps_sas_resource_hub(const char *hub, const char *device_id, char **ret) {
        return encode_resource(hub, "devices", device_id, ret);
}

int dps_sas_string_to_sign(const char *resource, uint64_t expiry_sec, char **ret) {
        return asprintf(ret, "%s\n%" PRIu64, resource, expiry_sec) < 0 ? -ENOMEM : 0;
}

int dps_sas_format(const char *resource, const uint8_t *signature, size_t signature_size, uint64_t expiry_sec,
                   const char *policy, char **ret) {
        _cleanup_(erase_and_freep) char *base64 = NULL, *encoded = NULL;
        int r;

        r = dps_base64_encode(signature, signature_size, &base64);
        if (r < 0)
                return r;
        r = dps_percent_encode(base64, &encoded);
        if (r < 0)
                return r;

        if (asprintf(ret, TOKEN_PREFIX "sr=%s&sig=%s&se=%" PRIu64 "%s%s", resource, encoded, expiry_sec,
                     policy ? "&skn=" : "", policy ?: "") < 0)
                return -ENOMEM;
        return 0;
}

int dps_sas_new(const DpsKey *key, const char *resource, uint64_t expiry_sec, const char *policy,
                char **ret) {
        _cleanup_(freep) char *text = NULL;
        uint8_t signature[DPS_HMAC_SIZE];
        int r;

        r = dps_sas_string_to_sign(resource, expiry_sec, &text);
        if (r < 0)
                return r;
        r = dps_key_sign(key, text, strlen(text), signature);
        if (r >= 0)
                r = dps_sas_format(resource, signature, sizeof(signature), expiry_sec, policy, ret);
        OPENSSL_cleanse(signature, sizeof(signature));
        return r;
}

/* ---- reading ---- */

/* Some devices omit the padding, because an example of Microsoft's SDK for embedded C does. */
static int parse_signature(Span value, DpsSas *sas) {
        _cleanup_(erase_and_freep) char *base64 = NULL, *padded = NULL;
        int r;

        if (sas->signature)
                return -EBADMSG;
        r = dps_percent_decode(value.start, value.size, &base64);
        if (r < 0)
                return r;

        r = asprintf(&padded, "%s%.*s", base64, (int) (-strlen(base64) % 4), "===");
        if (r < 0)
                return -ENOMEM;
        return dps_base64_decode(padded, (size_t) r, &sas->signature, &sas->signature_size);
}

static int parse_text(Span value, char **field) {
        if (*field)
                return -EBADMSG;
        *field = span_dup(value);
        return *field ? 0 : -ENOMEM;
}

static int parse_param(Span name, Span value, DpsSas *sas, bool *has_expiry) {
        if (span_is_exact(name, "sr"))
                return parse_text(value, &sas->resource);
        if (span_is_exact(name, "skn"))
                return parse_text(value, &sas->policy);
        if (span_is_exact(name, "sig"))
                return parse_signature(value, sas);
        if (!span_is_exact(name, "se"))
                return 0;

        if (*has_expiry || span_to_u64(value, &sas->expiry_sec) < 0)
                return -EBADMSG;
        *has_expiry = true;
        return 0;
}

int dps_sas_parse(const char *token, DpsSas *ret) {
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };
        bool has_expiry = false;
        Span name, value;
        int r;

        if (!scan_literal(&token, TOKEN_PREFIX))
                return -EBADMSG;
        while (scan_param(&token, &name, &value)) {
                r = parse_param(name, value, &sas, &has_expiry);
                if (r < 0)
                        return r;
        }
        if (!sas.resource || !sas.signature || !has_expiry)
                return -EBADMSG;

        *ret = sas;
        sas = (DpsSas){ 0 };
        return 0;
}

void dps_sas_done(DpsSas *sas) {
        free(sas->resource);
        free(sas->policy);
        if (sas->signature)
                OPENSSL_cleanse(sas->signature, sas->signature_size);
        free(sas->signature);
        *sas = (DpsSas){ 0 };
}

int dps_sas_is_signed_by(const DpsSas *sas, const DpsKey *key) {
        _cleanup_(freep) char *text = NULL;
        uint8_t signature[DPS_HMAC_SIZE];
        int r;

        r = dps_sas_string_to_sign(sas->resource, sas->expiry_sec, &text);
        if (r < 0)
                return r;
        r = dps_key_sign(key, text, strlen(text), signature);
        if (r < 0)
                return r;

        r = sas->signature_size == sizeof(signature) &&
            CRYPTO_memcmp(signature, sas->signature, sizeof(signature)) == 0;
        OPENSSL_cleanse(signature, sizeof(signature));
        return r;
}

bool dps_sas_is_for(const DpsSas *sas, const char *resource) {
        _cleanup_(freep) char *plain = NULL;

        return dps_percent_decode(sas->resource, strlen(sas->resource), &plain) >= 0 &&
               strcasecmp(plain, resource) == 0;
}
