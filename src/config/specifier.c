/* SPDX-License-Identifier: MIT */
#include "config/specifier.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/why.h"
#include "config/pem.h"
#include "config/secret.h"

#define VALUE_FILE_MAX 4096
#define CERTIFICATE_FILE_MAX (256U * 1024)
#define MAC_SIZE 6

/* Makes %{machine-id} differ from the machine ids of other applications, which cannot be computed from it. */
#define DPS_APPLICATION_ID SD_ID128_MAKE(6b, 1f, 0e, 5d, 8a, 27, 4c, 93, b4, 5e, d1, 70, 2c, 96, 3f, a8)

/* --- values --------------------------------------------------------------------------------------------- */

/* What firmware reports if the vendor has set no value. In lower case. */
static const char *const placeholders[] = {
        "0123456789",
        "03000200-0400-0500-0006-000700080009",
        "123456789",
        "1234567890",
        "12345678",
        "base board serial number",
        "chassis serial number",
        "default",
        "default string",
        "empty",
        "invalid",
        "n/a",
        "na",
        "no asset tag",
        "none",
        "not applicable",
        "not available",
        "not settable",
        "not specified",
        "not set",
        "null",
        "o.e.m.",
        "oem",
        "serial",
        "serial number",
        "serialnumber",
        "sn",
        "system serial number",
        "tbd",
        "to be filled by o.e.m",
        "to be filled by o.e.m.",
        "to be filled by oem",
        "unknown",
        "unspecified",
};

/* Whether all letters and digits are 0, or all are F, or there are none. */
static bool is_blank(Span s) {
        char first = 0;

        for (size_t i = 0; i < s.size; i++) {
                char c = (char) toupper((unsigned char) s.start[i]);

                if (!isalnum((unsigned char) c))
                        continue;
                if ((c != '0' && c != 'F') || (first && c != first))
                        return false;
                first = c;
        }
        return true;
}

static bool is_placeholder(Span s) {
        for (size_t i = 0; i < ELEMENTSOF(placeholders); i++)
                if (span_is(s, placeholders[i]))
                        return true;
        return is_blank(s);
}

/* A value of the hardware, with characters that a registration id can have. -ENOENT: it is a placeholder. */
static int hardware_value(const char *text, size_t size, char **ret) {
        /* Values in the device tree end with a zero byte. */
        Span s = span_strip((Span){ text, strnlen(text, size) });
        char *value;

        if (is_placeholder(s))
                return -ENOENT;
        value = span_dup(s);
        if (!value)
                return -ENOMEM;
        for (char *p = value; *p; p++)
                *p = isalnum((unsigned char) *p) || strchr("-._:", *p) ? (char) tolower((unsigned char) *p)
                                                                       : '-';

        *ret = value;
        return 0;
}

/* The first line of a text. -ENODATA: it is empty; -EBADMSG: it is not printable. */
static int first_line(const char *text, size_t size, char **ret) {
        Span s = span_strip((Span){ text, size });
        const char *newline = memchr(s.start, '\n', s.size);
        _cleanup_(freep) char *plain = NULL, *value = NULL;

        if (newline)
                s = span_strip((Span){ s.start, (size_t) (newline - s.start) });
        if (s.size == 0)
                return -ENODATA;

        value = span_dup(s);
        plain = text_for_people(s.start, s.size, s.size);
        if (!value || !plain)
                return -ENOMEM;
        if (strlen(value) != s.size || !streq(plain, value))
                return -EBADMSG;

        *ret = TAKE_PTR(value);
        return 0;
}

static int read_below(const SpecifierContext *c, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_(freep) char *whole = text_format("%s%s", c->root ?: "", path);

        return whole ? file_read(whole, max, ret, ret_size) : -ENOMEM;
}

static const char *text_of_errno(int r) {
        switch (r) {
        case -ENODATA:
                return "it is empty";
        case -EBADMSG:
                return "its first line is not plain text";
        case -EFBIG:
                return "it is larger than 4 kB";
        default:
                return file_error(r);
        }
}

/* --- where values come from ----------------------------------------------------------------------------- */

/* As sd_id128_get_machine_app_specific(), which works for the running system only. */
static int machine_id_below(const SpecifierContext *c, sd_id128_t *ret) {
        static const sd_id128_t application = DPS_APPLICATION_ID;
        uint8_t hash[EVP_MAX_MD_SIZE];
        _cleanup_(freep) char *text = NULL, *line = NULL;
        sd_id128_t machine;
        size_t size;
        int r;

        r = read_below(c, "/etc/machine-id", VALUE_FILE_MAX, &text, &size);
        if (r >= 0)
                r = first_line(text, size, &line);
        if (r >= 0)
                r = sd_id128_from_string(line, &machine);
        if (r < 0)
                return r;
        if (!HMAC(EVP_sha256(), machine.bytes, sizeof(machine.bytes), application.bytes,
                  sizeof(application.bytes), hash, NULL))
                return -EIO;

        memcpy(ret->bytes, hash, sizeof(ret->bytes));
        ret->bytes[6] = (uint8_t) ((ret->bytes[6] & 0x0f) | 0x40); /* a UUID of version 4 */
        ret->bytes[8] = (uint8_t) ((ret->bytes[8] & 0x3f) | 0x80);
        return 0;
}

static int resolve_machine_id(const SpecifierContext *c, const char *argument, char **ret, char **ret_why) {
        char text[SD_ID128_STRING_MAX];
        sd_id128_t id;
        int r;

        r = c->root ? machine_id_below(c, &id) : sd_id128_get_machine_app_specific(DPS_APPLICATION_ID, &id);
        if (r < 0)
                return why(ret_why, r == -ENOMEM ? r : -ENOENT, "/etc/machine-id does not hold a machine id");

        *ret = strdup(sd_id128_to_string(id, text));
        return *ret ? 0 : -ENOMEM;
}

/* The first line that is neither empty nor a comment: see hostname(5). */
static Span hostname_line(Span text) {
        while (text.size > 0) {
                const char *newline = memchr(text.start, '\n', text.size);
                size_t size = newline ? (size_t) (newline - text.start) : text.size;
                Span line = span_strip((Span){ text.start, size });

                if (line.size > 0 && line.start[0] != '#')
                        return line;
                size += newline ? 1 : 0;
                text = (Span){ text.start + size, text.size - size };
        }
        return text;
}

static int resolve_hostname(const SpecifierContext *c, const char *argument, char **ret, char **ret_why) {
        _cleanup_(freep) char *text = NULL, *name = NULL;
        size_t size;
        Span line;
        int r;

        r = read_below(c, "/etc/hostname", VALUE_FILE_MAX, &text, &size);
        if (r >= 0) {
                line = hostname_line((Span){ text, size });
                r = first_line(line.start, line.size, &name);
        }
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return why(ret_why, -ENOENT, "there is no static host name (/etc/hostname: %s)",
                           text_of_errno(r));
        if (strcasecmp(name, "localhost") == 0 || strncasecmp(name, "localhost.", 10) == 0)
                return why(ret_why, -ENOENT, "the host name is %s, which is not unique", name);

        *ret = TAKE_PTR(name);
        return 0;
}

/* The permanent address, or the current one for virtual interfaces, which have no permanent one. -ENODEV:
 * there is no such interface; -ENODATA: it has no such address. This asks the kernel, because /sys may show
 * another network namespace. */
static int interface_address(const char *interface, uint8_t ret[static MAC_SIZE]) {
        static const uint8_t nothing[MAC_SIZE] = { 0 };
        union {
                struct ethtool_perm_addr address;
                uint8_t space[sizeof(struct ethtool_perm_addr) + 32];
        } request = { .address = { .cmd = ETHTOOL_GPERMADDR, .size = 32 } };
        struct ifreq ifr = { .ifr_data = (void *) &request };
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        const void *address = request.address.data;

        (void) snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
        if (ioctl(fd, SIOCETHTOOL, &ifr) < 0 || request.address.size != MAC_SIZE ||
            memcmp(address, nothing, MAC_SIZE) == 0) {
                if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
                        return errno == ENODEV ? -ENODEV : -ENODATA;
                if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER && ifr.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK)
                        return -ENODATA;
                address = ifr.ifr_hwaddr.sa_data;
        }

        memcpy(ret, address, MAC_SIZE);
        return 0;
}

/* The current address of an interface of the system below the root directory. */
static int address_below(const SpecifierContext *c, const char *interface, uint8_t ret[static MAC_SIZE]) {
        _cleanup_(freep) char *path = text_format("/sys/class/net/%s/address", interface), *text = NULL;
        size_t size;
        int r;

        r = path ? read_below(c, path, VALUE_FILE_MAX, &text, NULL) : -ENOMEM;
        if (r < 0)
                return r == -ENOENT ? -ENODEV : r;

        text[strcspn(text, "\n")] = 0;
        return OPENSSL_hexstr2buf_ex(ret, MAC_SIZE, &size, text, ':') && size == MAC_SIZE ? 0 : -ENODATA;
}

static int resolve_mac(const SpecifierContext *c, const char *interface, char **ret, char **ret_why) {
        uint8_t mac[MAC_SIZE];
        char text[2 * MAC_SIZE + 1];
        int r;

        r = c->root ? address_below(c, interface, mac) : interface_address(interface, mac);
        if (r == -ENOMEM)
                return r;
        if (r == -ENODEV)
                return why(ret_why, -EAGAIN, "there is no network interface %s", interface);
        if (r < 0)
                return why(ret_why, -ENOENT, "the network interface %s has no MAC address", interface);

        bytes_to_hex(mac, MAC_SIZE, text);
        if (is_blank((Span){ text, strlen(text) }))
                return why(ret_why, -ENOENT, "the MAC address of %s is all %c", interface, text[0]);

        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int explain_placeholder(const char *path, const char *what, const char *text, size_t size,
                               char **ret_why) {
        Span found = span_strip((Span){ text, strnlen(text, size) });
        _cleanup_(freep) char *shown = text_for_people(found.start, found.size, 40);

        return why(ret_why, -ENOENT, "the %s in %s is a placeholder ('%s')", what, path, shown ?: "");
}

/* Tries the files in turn. If none has a value, `ret_why` is about the last that exists. */
static int resolve_hardware(const SpecifierContext *c, const char *const *paths, const char *what, char **ret,
                            char **ret_why) {
        _cleanup_(freep) char *reason = NULL;
        int r;

        for (; *paths; paths++) {
                _cleanup_(freep) char *text = NULL, *before = NULL;
                size_t size = 0;

                r = read_below(c, *paths, VALUE_FILE_MAX, &text, &size);
                if (r == -ENOENT || r == -ENOTDIR)
                        continue;
                if (r >= 0)
                        r = hardware_value(text, size, ret);
                if (r >= 0 || r == -ENOMEM)
                        return r;

                before = TAKE_PTR(reason);
                if (text)
                        (void) explain_placeholder(*paths, what, text, size, &reason);
                else
                        (void) why(&reason, r, "%s: %s%s", *paths, text_of_errno(r),
                                   r == -EACCES ? " (the daemon's group must be able to read it)" : "");
        }

        if (!reason)
                return why(ret_why, -ENOENT, "this hardware reports no %s", what);
        *ret_why = TAKE_PTR(reason);
        return -ENOENT;
}

static int resolve_serial(const SpecifierContext *c, const char *argument, char **ret, char **ret_why) {
        static const char *const paths[] = { "/proc/device-tree/serial-number",
                                             "/sys/firmware/devicetree/base/serial-number",
                                             "/sys/class/dmi/id/product_serial", NULL };

        return resolve_hardware(c, paths, "serial number", ret, ret_why);
}

static int resolve_board_serial(const SpecifierContext *c, const char *argument, char **ret, char **ret_why) {
        static const char *const paths[] = { "/sys/class/dmi/id/board_serial", NULL };

        return resolve_hardware(c, paths, "board serial number", ret, ret_why);
}

static int resolve_uuid(const SpecifierContext *c, const char *argument, char **ret, char **ret_why) {
        static const char *const paths[] = { "/sys/class/dmi/id/product_uuid", NULL };

        return resolve_hardware(c, paths, "UUID", ret, ret_why);
}

static int resolve_file(const SpecifierContext *c, const char *path, char **ret, char **ret_why) {
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;
        int r;

        r = read_below(c, path, VALUE_FILE_MAX, &text, &size);
        if (r >= 0)
                r = first_line(text, size, ret);
        if (r >= 0 || r == -ENOMEM)
                return r;
        return why(ret_why, -ENOENT, "%s", text_of_errno(r));
}

static int read_credential(const SpecifierContext *c, const char *name, size_t max, char **ret,
                           size_t *ret_size) {
        _cleanup_(freep) char *path = NULL;
        int r;

        r = credential_find(c->credentials, name, &path);
        return r < 0 ? r : file_read(path, max, ret, ret_size);
}

static int resolve_credential(const SpecifierContext *c, const char *name, char **ret, char **ret_why) {
        _cleanup_(erase_and_freep) char *text = NULL;
        size_t size = 0;
        int r;

        r = read_credential(c, name, VALUE_FILE_MAX, &text, &size);
        if (r >= 0)
                r = first_line(text, size, ret);
        if (r >= 0 || r == -ENOMEM)
                return r;
        return why(ret_why, -ENOENT, "%s", r == -ENOENT ? "there is no such credential" : text_of_errno(r));
}

/* -ENODATA: it has no common name, or not a printable one. Other failures are those of pem_read_certificates(). */
static int common_name(const char *pem, size_t size, char **ret, const char **ret_why) {
        _cleanup_(certificates_freep) STACK_OF(X509) *chain = NULL;
        _cleanup_(freep) char *name = NULL;
        int r;

        r = pem_read_certificates(pem, size, PEM_CHAIN_MAX, &chain, ret_why);
        if (r < 0)
                return r;
        *ret_why = "the certificate's subject has no common name";
        r = certificate_common_name(sk_X509_value(chain, 0), &name);
        if (r < 0)
                return r;
        r = strchr(name, '\n') ? -ENODATA : first_line(name, strlen(name), ret);
        return r == -EBADMSG ? -ENODATA : r;
}

static int resolve_certificate_name(const SpecifierContext *c, const char *argument, char **ret,
                                    char **ret_why) {
        _cleanup_(freep) char *pem = NULL;
        const char *name = c->certificate, *reason;
        size_t size = 0;
        int r;

        if (!name)
                return why(ret_why, -ENOENT, "there is no Certificate= to take the name from");

        r = scan_literal(&name, "credential:") ? read_credential(c, name, CERTIFICATE_FILE_MAX, &pem, &size)
                                               : read_below(c, name, CERTIFICATE_FILE_MAX, &pem, &size);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return why(ret_why, -ENOENT, "%s: %s", c->certificate, strerror(-r));

        r = common_name(pem, size, ret, &reason);
        if (r >= 0 || r == -ENOMEM)
                return r;
        return why(ret_why, -ENOENT, "%s: %s", c->certificate, reason);
}

static int resolve_tpm(const SpecifierContext *c, const char *argument, char **ret, char **ret_why) {
        if (!c->tpm)
                return why(ret_why, -EAGAIN,
                           "only dpsd asks the TPM; dpsctl enrollment shows the registration ID");
        *ret = strdup(c->tpm);
        return *ret ? 0 : -ENOMEM;
}

/* --- the specifiers ------------------------------------------------------------------------------------- */

static bool is_interface(Span s) {
        if (s.size == 0 || s.size >= IFNAMSIZ || span_is_exact(s, ".") || span_is_exact(s, ".."))
                return false;
        for (size_t i = 0; i < s.size; i++)
                if (s.start[i] <= ' ' || s.start[i] >= 0x7f || strchr("/:%", s.start[i]))
                        return false;
        return true;
}

static bool is_safe_path(Span s) {
        if (s.size < 2 || s.size >= PATH_MAX || s.start[0] != '/')
                return false;
        for (size_t i = 0; i + 2 < s.size; i++) {
                const char *p = s.start + i;

                if (p[0] == '/' && p[1] == '.' && p[2] == '.' && (i + 3 == s.size || p[3] == '/'))
                        return false;
        }
        return true;
}

static bool is_credential(Span s) {
        _cleanup_(freep) char *name = span_dup(s);

        return name && credential_name_is_valid(name);
}

static const struct source {
        const char *name;
        bool (*takes)(Span argument); /* whether the argument is valid; NULL: there is none */
        const char *form;             /* what the argument must be */
        int (*resolve)(const SpecifierContext *c, const char *argument, char **ret, char **ret_why);
} sources[] = {
        { "machine-id", NULL, NULL, resolve_machine_id },
        { "hostname", NULL, NULL, resolve_hostname },
        { "mac", is_interface, "the name of a network interface, as in %{mac:eth0}", resolve_mac },
        { "serial", NULL, NULL, resolve_serial },
        { "board-serial", NULL, NULL, resolve_board_serial },
        { "uuid", NULL, NULL, resolve_uuid },
        { "cert-cn", NULL, NULL, resolve_certificate_name },
        { "file", is_safe_path, "an absolute path without .., as in %{file:/etc/serial}", resolve_file },
        { "credential", is_credential, "the name of a credential, as in %{credential:serial}",
          resolve_credential },
        { "tpm", NULL, NULL, resolve_tpm },
};

/* Splits "mac:eth0". Without an argument, the start of `ret_argument` is NULL. */
static const struct source *find_source(Span s, Span *ret_argument) {
        const char *colon = memchr(s.start, ':', s.size);
        Span name = { s.start, colon ? (size_t) (colon - s.start) : s.size };

        *ret_argument = colon ? (Span){ colon + 1, s.size - name.size - 1 } : (Span){ NULL, 0 };
        for (size_t i = 0; i < ELEMENTSOF(sources); i++)
                if (span_is_exact(name, sources[i].name))
                        return &sources[i];
        return NULL;
}

static int check_alternative(Span s, char **ret_why) {
        Span argument;
        const struct source *source = find_source(s, &argument);

        if (!source)
                return why(
                        ret_why, -EINVAL,
                        "there is no specifier '%.*s'; the specifiers are machine-id, hostname, mac:IFACE, "
                        "serial, board-serial, uuid, cert-cn, file:PATH, credential:NAME, tpm",
                        (int) MIN(s.size, (size_t) 40), s.start);
        if (!source->takes && argument.start)
                return why(ret_why, -EINVAL, "%%{%s} takes no argument", source->name);
        if (source->takes && !(argument.start && source->takes(argument)))
                return why(ret_why, -EINVAL, "%%{%s:…} needs %s", source->name, source->form);
        return 0;
}

/* Moves *rest past the next alternative of "a|b". There is always at least one, which may be empty. */
static bool next_alternative(Span *rest, Span *ret) {
        const char *bar;

        if (!rest->start)
                return false;
        bar = memchr(rest->start, '|', rest->size);
        *ret = (Span){ rest->start, bar ? (size_t) (bar - rest->start) : rest->size };
        *rest = bar ? (Span){ bar + 1, rest->size - ret->size - 1 } : (Span){ NULL, 0 };
        return true;
}

static int check_one(Span inside, char **ret_why) {
        Span alternative;
        int r;

        while (next_alternative(&inside, &alternative)) {
                r = check_alternative(alternative, ret_why);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The value of the first alternative that has one; else the reasons of all, each with its alternative. */
static int resolve_one(Span inside, const SpecifierContext *c, char **ret, char **ret_why) {
        _cleanup_(freep) char *reasons = NULL;
        Span alternative, span;
        int result = -ENOENT, r;

        while (next_alternative(&inside, &alternative)) {
                const struct source *source = find_source(alternative, &span);
                _cleanup_(freep) char *argument = span_dup(span), *reason = NULL, *before = TAKE_PTR(reasons);

                r = argument ? source->resolve(c, argument, ret, &reason) : -ENOMEM;
                if (r >= 0 || r == -ENOMEM)
                        return r;
                if (r == -EAGAIN)
                        result = -EAGAIN;
                (void) why(&reasons, 0, "%s%s%%{%.*s}: %s", before ?: "", before ? "; " : "",
                           (int) alternative.size, alternative.start, reason ?: strerror(-r));
        }
        *ret_why = TAKE_PTR(reasons);
        return result;
}

/* --- the whole text ------------------------------------------------------------------------------------- */

typedef enum PieceType {
        PIECE_TEXT,
        PIECE_SPECIFIER, /* what stands between %{ and } */
} PieceType;

/* Moves *text past its next piece. 1: there is one; 0: the text has ended; -EINVAL: bad syntax. */
static int next_piece(const char **text, PieceType *ret_type, Span *ret, char **ret_why) {
        const char *p = *text;
        size_t size = strcspn(p, "%");

        if (!*p)
                return 0;
        *ret_type = PIECE_TEXT;
        if (size > 0) {
                *ret = (Span){ p, size };
                *text = p + size;
                return 1;
        }
        if (p[1] == '%') {
                *ret = (Span){ p, 1 };
                *text = p + 2;
                return 1;
        }
        if (p[1] != '{')
                return why(ret_why, -EINVAL, "a percent sign is written %%%%; a specifier is %%{NAME}");

        size = strcspn(p + 2, "}");
        if (p[2 + size] != '}')
                return why(ret_why, -EINVAL, "a %%{ has no matching }");
        *ret_type = PIECE_SPECIFIER;
        *ret = (Span){ p + 2, size };
        *text = p + size + 3;
        return 1;
}

bool specifier_uses_tpm(const char *text) {
        return strstr(text, "{tpm}") || strstr(text, "{tpm|") || strstr(text, "|tpm}") ||
               strstr(text, "|tpm|");
}

int specifier_check(const char *text, char **ret_why) {
        PieceType type;
        Span piece;
        int r;

        while ((r = next_piece(&text, &type, &piece, ret_why)) > 0) {
                if (type == PIECE_SPECIFIER)
                        r = check_one(piece, ret_why);
                if (r < 0)
                        return r;
        }
        return r;
}

static int expand_piece(FILE *out, PieceType type, Span piece, const SpecifierContext *c, char **ret_why) {
        _cleanup_(freep) char *value = NULL;
        int r;

        if (type == PIECE_TEXT) {
                (void) fwrite(piece.start, 1, piece.size, out);
                return 0;
        }

        r = resolve_one(piece, c, &value, ret_why);
        if (r < 0)
                return r;
        (void) fputs(value, out);
        return 0;
}

int specifier_expand(const char *text, const SpecifierContext *context, char **ret, char **ret_why) {
        static const SpecifierContext here = { 0 };
        _cleanup_(freep) char *expanded = NULL;
        _cleanup_(fclosep) FILE *out = NULL;
        PieceType type;
        size_t size;
        Span piece;
        int r;

        /* The syntax is checked first: an error in it is final, so it must not be hidden by a value that may
         * still appear. */
        r = specifier_check(text, ret_why);
        if (r < 0)
                return r;

        out = open_memstream(&expanded, &size);
        if (!out)
                return -ENOMEM;
        while ((r = next_piece(&text, &type, &piece, ret_why)) > 0) {
                r = expand_piece(out, type, piece, context ?: &here, ret_why);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (fclose(TAKE_PTR(out)) != 0 || !expanded)
                return -ENOMEM;

        *ret = TAKE_PTR(expanded);
        return 0;
}

bool specifier_present(const char *text) {
        for (; (text = strchr(text, '%')); text += 2)
                if (text[1] != '%')
                        return true;
        return false;
}
