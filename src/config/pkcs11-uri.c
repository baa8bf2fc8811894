/* SPDX-License-Identifier: MIT */
#include "config/pkcs11-uri.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/why.h"
#include "config/secret.h"

static const char *const names[_PKCS11_ATTRIBUTE_MAX] = {
        [PKCS11_TOKEN] = "token", [PKCS11_MANUFACTURER] = "manufacturer", [PKCS11_SERIAL] = "serial",
        [PKCS11_MODEL] = "model", [PKCS11_SLOT_ID] = "slot-id",           [PKCS11_OBJECT] = "object",
        [PKCS11_ID] = "id",
};

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int decode(Span text, Pkcs11Value *ret) {
        Pkcs11Value value = { .is_set = true };

        for (size_t i = 0; i < text.size; i++) {
                unsigned char byte = (unsigned char) text.start[i];

                if (byte == '%') {
                        int high = i + 2 < text.size ? hex_digit(text.start[i + 1]) : -1;
                        int low = high >= 0 ? hex_digit(text.start[i + 2]) : -1;

                        if (low < 0)
                                return -EINVAL;
                        byte = (unsigned char) (high * 16 + low);
                        i += 2;
                } else if (byte <= ' ' || byte >= 0x7f)
                        return -EINVAL;
                if (value.size == sizeof(value.bytes))
                        return -EINVAL;
                value.bytes[value.size++] = byte;
        }
        *ret = value;
        return 0;
}

static int set_attribute(Pkcs11Uri *uri, Span name, Span value, char **ret_why) {
        for (int i = 0; i < _PKCS11_ATTRIBUTE_MAX; i++) {
                if (!span_is_exact(name, names[i]))
                        continue;
                if (uri->values[i].is_set)
                        return why(ret_why, -EINVAL, "has %s= twice", names[i]);
                if (decode(value, &uri->values[i]) < 0)
                        return why(ret_why, -EINVAL,
                                   "has an invalid %s=: at most 128 characters, and %%20 for a space",
                                   names[i]);
                return 0;
        }
        if (span_is_exact(name, "type") && span_is_exact(value, "private"))
                return 0;
        if (span_is_exact(name, "type"))
                return why(ret_why, -EINVAL, "must name a private key, with type=private or no type=");
        return why(ret_why, -EINVAL,
                   "has an attribute that is not used here: use token, serial, manufacturer, model, slot-id, "
                   "object and id");
}

static int refuse_query(const char *query, char **ret_why) {
        if (strstr(query, "pin-"))
                return why(ret_why, -EINVAL,
                           "must not hold the PIN, because programs get this URI: put it into a file "
                           "(" SECRET_INSTALL " /dev/stdin FILE), and name that file with Pin=");
        return why(ret_why, -EINVAL, "must not have a part after '?': name the module with Pkcs11Module=");
}

int pkcs11_uri_parse(const char *text, Pkcs11Uri *ret, char **ret_why) {
        Pkcs11Uri uri = { 0 };

        if (strstr(text, "pin-value") || strstr(text, "pin-source"))
                return refuse_query("pin-", ret_why);
        if (!scan_literal(&text, "pkcs11:"))
                return why(ret_why, -EINVAL, "must begin with pkcs11:");
        while (*text && *text != '?') {
                size_t size = strcspn(text, ";?"), n = strcspn(text, "=;?");
                int r;

                if (n >= size)
                        return why(ret_why, -EINVAL, "must be like pkcs11:token=gw;object=dps");
                r = set_attribute(&uri, (Span){ text, n }, (Span){ text + n + 1, size - n - 1 }, ret_why);
                if (r < 0)
                        return r;
                text += size;
                if (*text == ';')
                        text++;
        }
        if (*text)
                return refuse_query(text, ret_why);
        if (!uri.values[PKCS11_OBJECT].is_set && !uri.values[PKCS11_ID].is_set)
                return why(ret_why, -EINVAL, "must name the key with object= or id=");

        if (ret)
                *ret = uri;
        return 0;
}
