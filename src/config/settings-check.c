/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "basic/files.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/why.h"
#include "config/file-kind.h"
#include "config/pkcs11-uri.h"
#include "config/proxy.h"
#include "config/secret.h"
#include "config/settings-internal.h"
#include "dps/request.h"

#define PAYLOAD_SIZE_MAX (96U * 1024) /* DPS limits messages to it */

static bool consists_of(const char *text, const char *extra) {
        for (const char *p = text; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr(extra, *p))
                        return false;
        return *text;
}

int id_scope_check(const char *value, char **ret_why) {
        if (dps_id_scope_is_valid(value))
                return 0;
        return why(ret_why, -EINVAL,
                   "not an ID scope, which consists of letters, digits and -, such as 0ne00AABBCC; the "
                   "overview page of the DPS instance shows it");
}

int registration_id_check(const char *value, char **ret_why) {
        if (dps_registration_id_is_valid(value))
                return 0;
        return why(ret_why, -EINVAL,
                   "not a registration ID, which is 1 to 128 of A-Z a-z 0-9 - . _ : and ends with a letter, "
                   "a digit or -");
}

static bool is_host(const char *value) {
        uint8_t address[16];

        return host_parse_address(value, address) > 0 || host_is_name(value);
}

#define IOT_HUB_DOMAIN ".azure-devices." /* and net, cn or us: the cloud */

int endpoint_check(const char *value, char **ret_why) {
        const char *colon = strchr(value, ':'), *hub;

        if (strstr(value, "://") || strchr(value, '/'))
                return why(ret_why, -EINVAL,
                           "must be a host name alone, without https:// or mqtts:// and without a path");
        if (colon && strspn(colon + 1, "0123456789") == strlen(colon + 1))
                return why(ret_why, -EINVAL,
                           "must be a host name alone; the port belongs in MqttPort= or HttpsPort=");
        hub = strstr(value, IOT_HUB_DOMAIN);
        if (hub && !strchr(hub + strlen(IOT_HUB_DOMAIN), '.'))
                return why(ret_why, -EINVAL,
                           "this is an IoT hub; the endpoint must be DPS, which assigns the hub, such as "
                           "global.azure-devices-provisioning.%.8s",
                           hub + strlen(IOT_HUB_DOMAIN));
        if (!is_host(value))
                return why(ret_why, -EINVAL, "neither a host name nor a numeric address");
        return 0;
}

int api_version_check(const char *value, char **ret_why) {
        if (strlen(value) <= 32 && value[strspn(value, "0123456789abcdefghijklmnopqrstuvwxyz-")] == 0)
                return 0;
        return why(ret_why, -EINVAL, "an API version is a date, such as %s or 2021-06-01",
                   DPS_API_VERSION_DEFAULT);
}

int payload_check(const char *value, char **ret_why) {
        _cleanup_(json_freep) json_object *object = NULL;
        size_t size = strlen(value), end;
        enum json_tokener_error e;
        int r;

        if (!utf8_is_valid(value, size))
                return why(ret_why, -EINVAL, "is not JSON: it is not UTF-8");
        r = json_parse(value, size, JSON_DEPTH_MAX, &object, &e, &end);
        if (r < 0)
                return r;
        if (e == json_tokener_continue)
                return why(ret_why, -EINVAL, "is not JSON: the text ends too early");
        if (e != json_tokener_success)
                return why(ret_why, -EINVAL, "is not JSON: %s at character %zu", json_tokener_error_desc(e),
                           end + 1);
        if (end != size)
                return why(ret_why, -EINVAL, "is not JSON: there is more text after its end");
        if (!json_object_is_type(object, json_type_object))
                return why(ret_why, -EINVAL, "must be a JSON object, such as {\"site\":\"north\"}");
        if (!json_numbers_are_valid(object))
                return why(ret_why, -EINVAL, "is not JSON: a number in it is not valid");
        return 0;
}

int payload_read(const char *path, char **ret, char **ret_why) {
        _cleanup_(freep) char *text = NULL;
        size_t size, mark;
        int r;

        r = file_read(path, PAYLOAD_SIZE_MAX, &text, &size);
        if (r < 0)
                return why(ret_why, r, "cannot be read: %s",
                           r == -EFBIG ? "it is larger than 96 kB, and DPS takes no more" : file_error(r));
        if (strlen(text) != size)
                return why(ret_why, -EBADMSG, "contains a zero byte, as UTF-16 text does: save it as UTF-8");
        /* JSON has no byte order mark (RFC 8259), but editors write one. */
        mark = file_mark(text, size);
        memmove(text, text + mark, size - mark + 1);
        for (size -= mark; size > 0 && isspace((unsigned char) text[size - 1]);)
                text[--size] = 0;
        r = payload_check(text, ret_why);
        if (r >= 0)
                *ret = TAKE_PTR(text);
        return r;
}

int path_check(const char *value, char **ret_why) {
        if (value[0] == '/' && strlen(value) < PATH_MAX)
                return 0;
        return why(ret_why, -EINVAL, "must be the absolute path of a file");
}

int proxy_check(const char *value, char **ret_why) {
        _cleanup_(proxy_freep) Proxy *proxy = NULL;

        return proxy_from_url(value, &proxy, ret_why);
}

int address_check(const char *word, char **ret_why) {
        if (is_host(word))
                return 0;
        return why(ret_why, -EINVAL, "'%.60s' is neither a host name nor a numeric address", word);
}

int reference_check(const char *value, char **ret_why) {
        if (specifier_present(value) && (value[0] == '/' || startswith(value, "credential:")))
                return 0; /* it is checked again when the specifiers are expanded */
        return secret_check(value, ret_why);
}

int certificate_check(const char *value, char **ret_why) {
        if (value[0] == '/' || startswith(value, "credential:"))
                return reference_check(value, ret_why);
        return why(ret_why, -EINVAL, "must be the absolute path of a PEM file, or credential:NAME");
}

/* A key in hardware is named by a URI, in which % does not begin a specifier. */
bool private_key_is_uri(const char *value) {
        return startswith(value, "pkcs11:") || startswith(value, "handle:");
}

int private_key_check(const char *value, char **ret_why) {
        const char *number = value;

        if (scan_literal(&number, "handle:0x") && consists_of(number, "") && strlen(number) <= 8 &&
            number[strspn(number, "0123456789abcdefABCDEF")] == 0)
                return 0;
        if (startswith(value, "handle:"))
                return why(ret_why, -EINVAL, "has an invalid handle; write it as handle:0x81000002");
        if (startswith(value, "pkcs11:"))
                return pkcs11_uri_parse(value, NULL, ret_why);
        return reference_check(value, ret_why);
}

int issuance_key_check(const char *value, char **ret_why) {
        if (streq(value, "file") || streq(value, "tpm"))
                return 0;
        if (startswith(value, "pkcs11:"))
                return pkcs11_uri_parse(value, NULL, ret_why);
        return why(ret_why, -EINVAL,
                   "must be file, tpm, or a URI such as pkcs11:token=gw;object=hub (the value is not shown)");
}

/* The part before the first colon is loaded as a library of that name, so it must not be a path. */
int tcti_check(const char *value, char **ret_why) {
        size_t n = strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-");

        if (n > 0 && (value[n] == ':' || !value[n]) && strlen(value) < 256)
                return 0;
        return why(ret_why, -EINVAL,
                   "must be the name of a TCTI and its configuration, such as device:/dev/tpmrm0");
}

int group_check(const char *value, char **ret_why) {
        if (consists_of(value, "_-.") && value[0] != '-' && strlen(value) <= 31)
                return 0;
        return why(ret_why, -EINVAL, "not a valid name of a group");
}

/* As systemd has it, but for kinds of units that are nothing to restart, and for templates without an instance. */
int unit_check(const char *word, char **ret_why) {
        static const char *const kinds[] = { ".service", ".socket", ".target", ".timer", ".path", NULL };
        const char *at = strchr(word, '@'), *dot = strrchr(word, '.');

        if (!dot || !strv_contains((char *const *) kinds, dot))
                return why(
                        ret_why, -EINVAL,
                        "'%.64s' must be the whole name of a service, socket, target, timer or path, such as "
                        "telegraf.service",
                        word);
        if (strlen(word) > 255 || dot == word || at == word || (at && at + 1 == dot) || word[0] == '-' ||
            !consists_of(word, ":_.\\-@"))
                return why(ret_why, -EINVAL, "'%.64s' is not a valid name of a unit", word);
        return 0;
}
