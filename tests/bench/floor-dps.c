/* SPDX-License-Identifier: MIT */

/*
 * floor-dps ADDRESS PORT CA-FILE ID-SCOPE REGISTRATION-ID KEY-FILE
 *
 * The least that a registration costs: blocking sockets, OpenSSL, and MQTT by hand. It has only the checks that a
 * success needs, and does not try again. tests/bench/bench compares the daemon with it.
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MQTT_CONNECT = 0x10, MQTT_CONNACK = 0x20, MQTT_PUBLISH = 0x30, MQTT_SUBSCRIBE = 0x82 };

#define RESULTS "$dps/registrations/res/#"

/* A packet under construction; the two bytes in front are for its length. */
typedef struct Packet {
        unsigned char bytes[4096];
        size_t size;
} Packet;

static void die(const char *what) {
        fprintf(stderr, "floor-dps: %s\n", what);
        exit(EXIT_FAILURE);
}

/* ---- the token ---- */

static size_t read_key(const char *path, unsigned char *ret, size_t size) {
        unsigned char text[512];
        FILE *f = fopen(path, "re");
        size_t n = f ? fread(text, 1, sizeof(text), f) : 0;
        int length;

        if (f)
                fclose(f);
        while (n > 0 && text[n - 1] == '\n')
                n--;
        length = n > 0 && n / 4 * 3 <= size ? EVP_DecodeBlock(ret, text, (int) n) : -1;
        if (length < 0)
                die("no key");
        while (n > 0 && text[n - 1] == '=') {
                n--;
                length--;
        }
        return (size_t) length;
}

static void make_token(const char *scope, const char *id, const char *key_file, char *ret, size_t size) {
        unsigned char key[256], mac[EVP_MAX_MD_SIZE], signature[EVP_MAX_MD_SIZE * 2];
        size_t key_size = read_key(key_file, key, sizeof(key));
        long expires_at = (long) time(NULL) + 3600;
        unsigned mac_size;
        char text[512];
        int n;

        n = snprintf(text, sizeof(text), "%s%%2fregistrations%%2f%s\n%ld", scope, id, expires_at);
        if (!HMAC(EVP_sha256(), key, (int) key_size, (unsigned char *) text, (size_t) n, mac, &mac_size))
                die("no signature");
        EVP_EncodeBlock(signature, mac, (int) mac_size);

        n = snprintf(ret, size, "SharedAccessSignature sr=%s%%2fregistrations%%2f%s&sig=", scope, id);
        for (const unsigned char *p = signature; *p; p++)
                n += snprintf(ret + n, size - (size_t) n, strchr("+/=", *p) ? "%%%02X" : "%c", *p);
        snprintf(ret + n, size - (size_t) n, "&se=%ld&skn=registration", expires_at);
}

/* ---- MQTT ---- */

static void add(Packet *p, const void *data, size_t size) {
        if (size > sizeof(p->bytes) - p->size)
                die("too long");
        memcpy(p->bytes + p->size, data, size);
        p->size += size;
}

static void add_string(Packet *p, const char *s) {
        size_t n = strlen(s);

        add(p, (unsigned char[]){ (unsigned char) (n >> 8), (unsigned char) n }, 2);
        add(p, s, n);
}

static size_t begin(Packet *p, unsigned char type) {
        add(p, (unsigned char[]){ type, 0x80, 0 }, 3);
        return p->size;
}

/* The length always has two bytes. MQTT does not allow that for small lengths, but Mosquitto accepts it. */
static void end(Packet *p, size_t start) {
        size_t n = p->size - start;

        p->bytes[start - 2] = (unsigned char) (0x80 | (n & 0x7f));
        p->bytes[start - 1] = (unsigned char) (n >> 7);
}

static void add_connect(Packet *p, const char *scope, const char *id, const char *key_file) {
        char username[512], token[1024];
        size_t start = begin(p, MQTT_CONNECT);

        snprintf(username, sizeof(username), "%s/registrations/%s/api-version=2019-03-31", scope, id);
        make_token(scope, id, key_file, token, sizeof(token));
        add(p, "\0\4MQTT\4\xc2\0\x3c", 10); /* 3.1.1, user name, password, clean session, 60 s */
        add_string(p, id);
        add_string(p, username);
        add_string(p, token);
        end(p, start);
}

static void add_subscribe(Packet *p) {
        size_t start = begin(p, MQTT_SUBSCRIBE);

        add(p, "\0\1", 2);
        add_string(p, RESULTS);
        add(p, "\0", 1);
        end(p, start);
}

static void add_publish(Packet *p, const char *topic, const char *payload) {
        size_t start = begin(p, MQTT_PUBLISH);

        add_string(p, topic);
        add(p, payload, strlen(payload));
        end(p, start);
}

static void transmit(SSL *ssl, Packet *p) {
        if (SSL_write(ssl, p->bytes, (int) p->size) <= 0)
                die("cannot write");
        p->size = 0;
}

static void receive_all(SSL *ssl, void *data, size_t size) {
        for (size_t done = 0; done < size;) {
                int n = SSL_read(ssl, (char *) data + done, (int) (size - done));

                if (n <= 0)
                        die("the server has gone");
                done += (size_t) n;
        }
}

/* Receives the next packet of this type, as a string. */
static void receive(SSL *ssl, unsigned char type, char *ret, size_t ret_size) {
        for (;;) {
                unsigned char head, digit;
                size_t size = 0;
                unsigned shift = 0;

                receive_all(ssl, &head, 1);
                do {
                        receive_all(ssl, &digit, 1);
                        size |= (size_t) (digit & 0x7f) << shift;
                        shift += 7;
                } while (digit & 0x80 && shift < 28);
                if (size >= ret_size)
                        die("an answer too long");
                receive_all(ssl, ret, size);
                ret[size] = 0;
                if ((head & 0xf0) != type)
                        continue;

                for (size_t i = 0; i < size;
                     i++) /* zero bytes become spaces, so that the packet is one string */
                        if (!ret[i])
                                ret[i] = ' ';
                return;
        }
}

/* ---- DPS ---- */

static SSL *connect_to(const char *address, const char *port, const char *ca_file) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t) atoi(port)) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL *ssl;

        if (inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
            connect(fd, (struct sockaddr *) &to, sizeof(to)) < 0)
                die("cannot connect");
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        if (SSL_CTX_load_verify_file(context, ca_file) != 1)
                die("no CA");
        ssl = SSL_new(context);
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), address) != 1 || SSL_set_fd(ssl, fd) != 1 ||
            SSL_connect(ssl) != 1)
                die("no TLS");
        return ssl;
}

static void find_operation(const char *answer, char *ret, size_t size) {
        const char *found = strstr(answer, "\"operationId\":\"");

        if (!found)
                die(answer);
        found += strlen("\"operationId\":\"");
        snprintf(ret, size, "%.*s", (int) strcspn(found, "\""), found);
}

static unsigned find_retry_after(const char *answer) {
        const char *found = strstr(answer, "retry-after=");

        return found ? (unsigned) atoi(found + strlen("retry-after=")) : 2;
}

int main(int argc, char *argv[]) {
        char answer[8192], operation[256], topic[512], body[256];
        Packet p = { .size = 0 };
        SSL *ssl;

        if (argc != 7)
                die("ADDRESS PORT CA-FILE ID-SCOPE REGISTRATION-ID KEY-FILE");

        ssl = connect_to(argv[1], argv[2], argv[3]);
        add_connect(&p, argv[4], argv[5], argv[6]);
        transmit(ssl, &p);
        receive(ssl, MQTT_CONNACK, answer, sizeof(answer));
        if (answer[1] != ' ') /* receive() makes a zero a space */
                die("refused");

        snprintf(body, sizeof(body), "{\"registrationId\":\"%s\"}", argv[5]);
        add_subscribe(&p);
        add_publish(&p, "$dps/registrations/PUT/iotdps-register/?$rid=1", body);
        transmit(ssl, &p);
        for (unsigned rid = 2;; rid++) {
                receive(ssl, MQTT_PUBLISH, answer, sizeof(answer));
                if (strstr(answer, "\"status\":\"assigned\""))
                        return 0;

                find_operation(answer, operation, sizeof(operation));
                sleep(find_retry_after(answer));
                snprintf(topic, sizeof(topic),
                         "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=%u&operationId=%s", rid,
                         operation);
                add_publish(&p, topic, "");
                transmit(ssl, &p);
        }
}
