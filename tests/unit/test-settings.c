/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>

#include "basic/text.h"
#include "basic/times.h"
#include "config/settings.h"
#include "table.h"

#define MINIMUM                                                                                              \
        "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\n[Attestation]\nKey=credential:gw.key\n"
#define WITHOUT_KEY "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\n[Attestation]\n"

static ConfReport report;
static Settings *settings;

static int set_up(void **state) {
        report = (ConfReport){ 0 };
        settings = NULL;
        return 0;
}

static int tear_down(void **state) {
        conf_report_done(&report);
        settings = settings_unref(settings);
        return 0;
}

static Conf *conf_from_text(const char *name, const char *text) {
        char path[] = "/tmp/test-settings-XXXXXX";
        _cleanup_(closep) int fd = mkstemp(path);
        Conf *conf = NULL;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        assert_int_equal(conf_load_file(path, name, &report, &conf), 0);
        assert_int_equal(unlink(path), 0);
        return conf;
}

static Settings *settings_from_text(const char *defaults, const char *own) {
        _cleanup_(conf_freep) Conf *d = defaults ? conf_from_text("dpsd", defaults) : NULL;
        _cleanup_(conf_freep) Conf *o = conf_from_text("gw", own);
        Settings *s = NULL;

        assert_int_equal(settings_from_conf(d, o, &report, &s), 0);
        assert_non_null(s);
        return s;
}

static void read_text(const char *defaults, const char *own) {
        settings = settings_from_text(defaults, own);
}

static void assert_message(ConfSeverity severity, const char *words) {
        for (size_t i = 0; i < report.n_messages; i++)
                if (report.messages[i].severity == severity && strstr(report.messages[i].text, words))
                        return;
        fail_msg("no message says: %s (the first of %zu: %s)", words, report.n_messages,
                 report.n_messages > 0 ? report.messages[0].text : "-");
}

static void assert_nowhere(const char *secret) {
        for (size_t i = 0; i < report.n_messages; i++)
                assert_null(strstr(report.messages[i].text, secret));
}

static void assert_texts(char *const *texts, const char *expected) {
        _cleanup_(freep) char *joined = NULL;
        size_t size;
        FILE *f = open_memstream(&joined, &size);

        STRV_FOREACH(t, texts)
                fprintf(f, "%s%s", t == texts ? "" : "|", *t);
        fclose(f);
        assert_string_equal(joined, expected);
}

/* --- values --------------------------------------------------------------------------------------------- */

static void defaults_are_those_of_the_manual(void **state) {
        read_text(NULL, MINIMUM);
        assert_int_equal(report.n_messages, 0);
        assert_string_equal(settings->name, "gw");
        assert_string_equal(settings->endpoint, "global.azure-devices-provisioning.net");
        assert_int_equal(settings->mqtt_port, 8883);
        assert_int_equal(settings->https_port, 443);
        assert_int_equal(settings->transport, TRANSPORT_AUTO);
        assert_string_equal(settings->api_version, "2019-03-31");
        assert_null(settings->payload);
        assert_null(settings->payload_file);
        assert_int_equal(settings->splay_usec, 2 * USEC_PER_MINUTE);
        assert_true(settings->required_for_provisioned);
        assert_null(settings->proxy);
        assert_null(settings->ca_files);
        assert_int_equal(settings->n_methods, 1);
        assert_int_equal(settings->methods[0], METHOD_SYMMETRIC_KEY);
        assert_int_equal(settings->token_lifetime_usec, 30 * USEC_PER_DAY);
        assert_int_equal(settings->renew_before_percent, 10);
        assert_int_equal(settings->renew, RENEW_PROVISION);
        assert_string_equal(settings->group, "dps");
        assert_false(settings->share_key);
}

static void the_section_about_certificates_is_read(void **state) {
        read_text(NULL, MINIMUM "[Issuance]\nRequest=yes\nKey=file\nKeyType=rsa-2048\nRenewAt=2d\n");
        assert_int_equal(report.n_messages, 0);
        assert_texts(settings->keys, "credential:gw.key");
        assert_true(settings->issuance_requested);
        assert_int_equal(settings->issuance_key_type, KEY_TYPE_RSA_2048);
        assert_int_equal(settings->issuance_renew_percent, 0);
        assert_int_equal(settings->issuance_renew_before_usec, 2 * USEC_PER_DAY);
        assert_string_equal(settings->api_version, "2026-11-02-preview");
        assert_true(settings->api_version_steps);
}

static void without_a_request_the_version_is_the_one_that_every_cloud_takes(void **state) {
        read_text(NULL, MINIMUM "[Issuance]\nRequest=no\n");
        assert_string_equal(settings->api_version, "2019-03-31");
        assert_false(settings->api_version_steps || settings->issuance_requested);
        assert_int_equal(settings->issuance_renew_percent, 80);
}

static void a_version_that_is_set_does_not_step(void **state) {
        read_text(NULL, MINIMUM "[Provisioning]\nApiVersion=2026-11-02-preview\n[Issuance]\nRequest=yes\n");
        assert_false(settings->api_version_steps);
}

static void every_key_is_read(void **state) {
        read_text(
                NULL,
                "[Provisioning]\nIdScope=0ne1\nRegistrationId=gw-%{serial|mac:eth0}\nEndpoint=dps.example."
                "com\n"
                "Address=10.0.0.5, gw.example\nAddress=fd00::1\n"
                "MqttPort=18883\nHttpsPort=1443\nTransport=mqtt\nApiVersion=2021-06-01\n"
                "Payload={\"site\":\"north\"}\nSplay=5min\nRequiredForProvisioned=no\n"
                "Proxy=http://joe@proxy:3128\nProxyPassword=credential:proxy\nNoProxy=.internal, "
                "10.0.0.1\nNoProxy=other\n"
                "CaFile=/etc/a.pem\nCaFile=/etc/b.pem\n"
                "[Attestation]\nMethod=x509 symmetric-key\nKey=credential:a\nKey=/etc/dps/b\n"
                "Certificate=/etc/c.pem\nPrivateKey=credential:c.key\n"
                "[Hub]\nTokenLifetime=2d\nRenewBefore=1h\nRenew=token\nRestartUnits=a.service b@c.timer\n"
                "RestartUnits=d.socket\nReloadUnits=e.target\n[Access]\nGroup=adm\nShareKey=yes\nApi=yes\n");
        assert_int_equal(report.n_messages, 0);
        assert_string_equal(settings->id_scope, "0ne1");
        assert_string_equal(settings->registration_id, "gw-%{serial|mac:eth0}");
        assert_string_equal(settings->endpoint, "dps.example.com");
        assert_int_equal(settings->mqtt_port, 18883);
        assert_int_equal(settings->https_port, 1443);
        assert_int_equal(settings->transport, TRANSPORT_MQTT);
        assert_string_equal(settings->api_version, "2021-06-01");
        assert_string_equal(settings->payload, "{\"site\":\"north\"}");
        assert_int_equal(settings->splay_usec, 5 * USEC_PER_MINUTE);
        assert_false(settings->required_for_provisioned);
        assert_texts(settings->addresses, "10.0.0.5|gw.example|fd00::1");
        assert_string_equal(settings->proxy, "http://joe@proxy:3128");
        assert_string_equal(settings->proxy_password, "credential:proxy");
        assert_texts(settings->no_proxy, ".internal|10.0.0.1|other");
        assert_texts(settings->ca_files, "/etc/a.pem|/etc/b.pem");
        assert_int_equal(settings->n_methods, 2);
        assert_int_equal(settings->methods[0], METHOD_X509);
        assert_int_equal(settings->methods[1], METHOD_SYMMETRIC_KEY);
        assert_texts(settings->keys, "credential:a|/etc/dps/b");
        assert_texts(settings->certificates, "/etc/c.pem");
        assert_texts(settings->private_keys, "credential:c.key");
        assert_int_equal(settings->keys_place.line, 23);
        assert_int_equal(settings->certificates_place.line, 24);
        assert_true(startswith(settings->keys_place.file, "/tmp/test-settings-"));
        assert_int_equal(settings->token_lifetime_usec, 2 * USEC_PER_DAY);
        assert_int_equal(settings->renew_before_percent, 0);
        assert_int_equal(settings->renew_before_usec, USEC_PER_HOUR);
        assert_int_equal(settings->renew, RENEW_TOKEN);
        assert_texts(settings->restart_units, "a.service|b@c.timer|d.socket");
        assert_texts(settings->reload_units, "e.target");
        assert_string_equal(settings->group, "adm");
        assert_true(settings->share_key);
        assert_true(settings->api);
}

static void the_last_assignment_wins(void **state) {
        read_text(NULL, MINIMUM "[Provisioning]\nMqttPort=1\nMqttPort=2\n");
        assert_int_equal(settings->mqtt_port, 2);
}

static void an_empty_value_resets_to_the_default(void **state) {
        read_text(NULL, MINIMUM "[Provisioning]\nMqttPort=1\nMqttPort=\nEndpoint=a\nEndpoint=\n");
        assert_int_equal(report.n_messages, 0);
        assert_int_equal(settings->mqtt_port, 8883);
        assert_string_equal(settings->endpoint, "global.azure-devices-provisioning.net");
}

static void an_empty_value_empties_a_list(void **state) {
        read_text(NULL, MINIMUM "Key=credential:b\nKey=\nKey=credential:c\n");
        assert_texts(settings->keys, "credential:c");
}

static void a_bad_value_that_is_replaced_is_not_an_error(void **state) {
        read_text(NULL, MINIMUM "[Provisioning]\nMqttPort=x\nMqttPort=2\n");
        assert_int_equal(report.n_messages, 0);
        assert_int_equal(settings->mqtt_port, 2);
}

static void system_is_the_default_of_CaFile(void **state) {
        read_text(NULL, MINIMUM "[Provisioning]\nCaFile=/a.pem\nCaFile=system\n");
        assert_int_equal(report.n_messages, 0);
        assert_null(settings->ca_files);
}

static void methods_may_be_in_one_line_or_in_several(void **state) {
        read_text(NULL, MINIMUM "Certificate=/c\nPrivateKey=/k\nMethod=x509\nMethod=symmetric-key, x509\n");
        assert_int_equal(settings->n_methods, 2);
        assert_int_equal(settings->methods[0], METHOD_X509);
        assert_int_equal(settings->methods[1], METHOD_SYMMETRIC_KEY);
}

/* --- dpsd.conf ------------------------------------------------------------------------------------------ */

static void dpsd_conf_gives_defaults(void **state) {
        read_text("[Provisioning]\nIdScope=0neX\nMqttPort=7\n[Hub]\nRenew=token\n",
                  "[Provisioning]\nRegistrationId=a\nMqttPort=8\n[Attestation]\nKey=/k\n");
        assert_int_equal(report.n_messages, 0);
        assert_string_equal(settings->id_scope, "0neX");
        assert_int_equal(settings->mqtt_port, 8);
        assert_int_equal(settings->renew, RENEW_TOKEN);
}

static void a_list_of_the_identity_replaces_the_default_list(void **state) {
        read_text("[Provisioning]\nCaFile=/d1\nCaFile=/d2\n",
                  MINIMUM "[Provisioning]\nCaFile=/a\nCaFile=/b\n");
        assert_texts(settings->ca_files, "/a|/b");
}

static void an_empty_value_resets_the_default_of_dpsd_conf(void **state) {
        read_text("[Provisioning]\nMqttPort=7\nCaFile=/d\n", MINIMUM "[Provisioning]\nMqttPort=\nCaFile=\n");
        assert_int_equal(settings->mqtt_port, 8883);
        assert_null(settings->ca_files);
}

static void a_key_of_the_identity_cancels_a_default_group_key(void **state) {
        read_text("[Attestation]\nGroupKey=credential:group\n", MINIMUM);
        assert_int_equal(report.n_messages, 0);
        assert_texts(settings->keys, "credential:gw.key");
        assert_null(settings->group_keys);
}

static void a_bad_default_is_an_error_where_it_is_used(void **state) {
        read_text("[Provisioning]\nMqttPort=x\n", MINIMUM);
        assert_message(CONF_ERROR, ":2: MqttPort=x: must be a port");
}

static void a_bad_default_is_not_an_error_where_it_is_not_used(void **state) {
        read_text("[Provisioning]\nMqttPort=x\n", MINIMUM "[Provisioning]\nMqttPort=1\n");
        assert_int_equal(report.n_messages, 0);
}

static void unknown_keys_of_dpsd_conf_are_not_reported_for_each_identity(void **state) {
        read_text("[Provisioning]\nWhatever=1\n", MINIMUM);
        assert_int_equal(report.n_messages, 0);
}

static DaemonSettings daemon_settings(const char *text) {
        _cleanup_(conf_freep) Conf *conf = text ? conf_from_text("dpsd", text) : NULL;
        DaemonSettings d;

        daemon_settings_from_conf(conf, &report, &d);
        return d;
}

static void MaxAttempts_is_50_by_default(void **state) {
        assert_int_equal(daemon_settings(NULL).max_attempts, 50);
        assert_int_equal(daemon_settings("[Provisioning]\nMqttPort=1\n").max_attempts, 50);
        assert_int_equal(report.n_messages, 0);
}

static void MaxAttempts_is_read(void **state) {
        assert_int_equal(daemon_settings("[Daemon]\nMaxAttempts=7\n").max_attempts, 7);
        assert_int_equal(daemon_settings("[Daemon]\nMaxAttempts=10000\n").max_attempts, 10000);
        assert_int_equal(report.n_messages, 0);
}

static void a_bad_MaxAttempts_is_an_error_and_not_used(void **state) {
        assert_int_equal(daemon_settings("[Daemon]\nMaxAttempts=0\n").max_attempts, 50);
        assert_message(CONF_ERROR, ":2: MaxAttempts=0: must be 1 to 10000");
        assert_int_equal(daemon_settings("[Daemon]\nMaxAttempts=10001\n").max_attempts, 50);
        assert_int_equal(report.n_messages, 2);
}

static void faults_in_dpsd_conf_are_reported_without_identities(void **state) {
        (void) daemon_settings("[Provisioning]\nMqttPort=x\nWhatever=1\n[Attestation]\nGroupKey=/g\n");
        assert_message(CONF_ERROR, ":2: MqttPort=x");
        assert_message(CONF_WARNING, ":3: there is no Whatever=");
        assert_message(CONF_WARNING, ":5: GroupKey=");
        assert_int_equal(report.n_messages, 3);
}

static void the_section_Daemon_belongs_in_dpsd_conf(void **state) {
        read_text(NULL, MINIMUM "[Daemon]\nMaxAttempts=3\n");
        assert_message(CONF_WARNING, ":7: [Daemon] belongs in dpsd.conf");
        assert_int_equal(report.n_messages, 1);
}

/* --- faults and warnings -------------------------------------------------------------------------------- */

#define AFTER(lines) MINIMUM lines
#define TEXT_32 "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
#define TEXT_129 TEXT_32 TEXT_32 TEXT_32 TEXT_32 "z"
/* The first line after MINIMUM is the sixth of the file. */
static const struct message_case {
        const char *promise;
        ConfSeverity severity;
        const char *text, *message;
} cases[] = {
        { "an unknown key is a warning", CONF_WARNING, AFTER("Foo=1\n"),
          ":6: there is no Foo= in [Attestation]" },
        { "the warning of a misspelt key names the right one", CONF_WARNING, AFTER("Metod=x509\n"),
          "did you mean Method=?" },
        { "a key in the wrong case is misspelt", CONF_WARNING, AFTER("[Hub]\nrenew=token\n"),
          ":7: there is no renew= in [Hub], did you mean Renew=?" },
        { "the warning of a key in the wrong section names the right one", CONF_WARNING,
          AFTER("MqttPort=1\n"), ":6: MqttPort= belongs in [Provisioning]" },
        { "an unknown section is a warning", CONF_WARNING, AFTER("[Foo]\nA=1\n"),
          ":7: there is no section [Foo], ignoring A=" },
        { "the warning of a misspelt section names the right one", CONF_WARNING,
          AFTER("[provisioning]\nMqttPort=1\n"), "did you mean [Provisioning]?" },
        { "no IdScope= is an error", CONF_ERROR, "[Provisioning]\nRegistrationId=a\n[Attestation]\nKey=/k\n",
          "IdScope= in [Provisioning] is missing" },
        { "no RegistrationId= is an error", CONF_ERROR,
          "[Provisioning]\nIdScope=0neA\n[Attestation]\nKey=/k\n",
          "RegistrationId= in [Provisioning] is missing" },
        { "quotes around a value are named", CONF_ERROR, AFTER("[Provisioning]\nEndpoint=\"host\"\n"),
          "(remove the quotes)" },
        { "quotes around a secret are named", CONF_ERROR, AFTER("Key='/etc/dps/key'\n"),
          "(remove the quotes)" },
        { "an ID scope without 0ne is warned of", CONF_WARNING, AFTER("[Provisioning]\nIdScope=A0ne\n"),
          ":7: IdScope= does not begin with 0ne" },
        { "an ID scope has no slash", CONF_ERROR, AFTER("[Provisioning]\nIdScope=a/b\n"),
          ":7: IdScope=\"a/b\": not an ID scope" },
        { "a registration ID has no space", CONF_ERROR, AFTER("[Provisioning]\nRegistrationId=a b\n"),
          ":7: RegistrationId=\"a b\": not a registration ID" },
        { "quotes in a private value become single ones", CONF_ERROR,
          AFTER("[Provisioning]\nRegistrationId=\"a\" b\"\n"),
          ":7: RegistrationId=\"'a' b'\": not a registration ID" },
        { "a private value that is cut is still in quotes", CONF_ERROR,
          AFTER("[Provisioning]\nRegistrationId=" TEXT_129 "\n"), "y...\": not a registration ID" },
        { "a registration ID does not end with a dot", CONF_ERROR,
          AFTER("[Provisioning]\nRegistrationId=a.\n"), "not a registration ID" },
        { "an unknown specifier is an error at once", CONF_ERROR,
          AFTER("[Provisioning]\nRegistrationId=a-%{foo}\n"),
          ":7: RegistrationId=\"a-%{foo}\": there is no specifier 'foo'" },
        { "a lone percent sign is an error", CONF_ERROR, AFTER("[Provisioning]\nPayload={\"a\":\"5%\"}\n"),
          "a percent sign is written %%" },
        { "an endpoint has no scheme", CONF_ERROR, AFTER("[Provisioning]\nEndpoint=https://a.b\n"),
          "without https://" },
        { "an endpoint has no port", CONF_ERROR, AFTER("[Provisioning]\nEndpoint=a.b:8883\n"),
          "the port belongs in MqttPort=" },
        { "an endpoint is not a hub", CONF_ERROR, AFTER("[Provisioning]\nEndpoint=x.azure-devices.net\n"),
          "this is an IoT hub; the endpoint must be DPS, which assigns the hub, such as "
          "global.azure-devices-provisioning.net" },
        { "an endpoint is not a hub in another cloud", CONF_ERROR,
          AFTER("[Provisioning]\nEndpoint=x.azure-devices.cn\n"), "global.azure-devices-provisioning.cn" },
        { "an endpoint has no space", CONF_ERROR, AFTER("[Provisioning]\nEndpoint=a b\n"),
          "neither a host name" },
        { "0 is not a port", CONF_ERROR, AFTER("[Provisioning]\nMqttPort=0\n"),
          ":7: MqttPort=0: must be a port from 1 to 65535" },
        { "65536 is not a port", CONF_ERROR, AFTER("[Provisioning]\nHttpsPort=65536\n"), "must be a port" },
        { "a port is a number", CONF_ERROR, AFTER("[Provisioning]\nMqttPort=-1\n"), "must be a port" },
        { "a comment after a value is explained", CONF_ERROR, AFTER("[Provisioning]\nMqttPort=8883  # TLS\n"),
          "(a comment begins at the start of a line)" },
        { "a transport is one of three", CONF_ERROR, AFTER("[Provisioning]\nTransport=amqp\n"),
          "auto, mqtt or https" },
        { "an API version has no capitals", CONF_ERROR,
          AFTER("[Provisioning]\nApiVersion=2021-06-01-Preview\n"),
          "ApiVersion=2021-06-01-Preview: an API version" },
        { "a payload is JSON", CONF_ERROR, AFTER("[Provisioning]\nPayload={a}\n"),
          ":7: Payload= is not JSON" },
        { "a payload's numbers are valid JSON", CONF_ERROR, AFTER("[Provisioning]\nPayload={\"a\":NaN}\n"),
          ":7: Payload= is not JSON: a number in it is not valid" },
        { "a payload is not nested deeper than one that can be sent", CONF_ERROR,
          AFTER("[Provisioning]\nPayload={\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}\n"),
          ":7: Payload= is not JSON" },
        { "a payload is a JSON object", CONF_ERROR, AFTER("[Provisioning]\nPayload=[1]\n"),
          "must be a JSON object" },
        { "a payload ends where its object ends", CONF_ERROR, AFTER("[Provisioning]\nPayload={} {}\n"),
          "not JSON" },
        { "a payload is complete", CONF_ERROR, AFTER("[Provisioning]\nPayload={\"a\":1\n"),
          "the text ends too early" },
        { "Payload= and PayloadFile= cannot be used together", CONF_ERROR,
          AFTER("[Provisioning]\nPayload={}\nPayloadFile=/p\n"),
          ":8: PayloadFile= cannot be used together with Payload=, which is in" },
        { "a payload's file is an absolute path", CONF_ERROR, AFTER("[Provisioning]\nPayloadFile=p.json\n"),
          "absolute path" },
        { "a splay is a duration", CONF_ERROR, AFTER("[Provisioning]\nSplay=soon\n"),
          ":7: Splay=soon: not a duration" },
        { "a splay is finite", CONF_ERROR, AFTER("[Provisioning]\nSplay=infinity\n"), "too long" },
        { "a boolean is yes or no", CONF_ERROR, AFTER("[Provisioning]\nRequiredForProvisioned=maybe\n"),
          "must be yes or no" },
        { "an address has no port", CONF_ERROR, AFTER("[Provisioning]\nAddress=a 10.0.0.5:8883\n"),
          ":7: Address=a 10.0.0.5:8883: '10.0.0.5:8883' is neither a host name nor a numeric address" },
        { "an exception makes sense", CONF_ERROR, AFTER("[Provisioning]\nNoProxy=.a 10.0.0.0/33\n"),
          ":7: NoProxy=.a 10.0.0.0/33: '10.0.0.0/33' must be a name" },
        { "a unit has its whole name", CONF_ERROR, AFTER("[Hub]\nRestartUnits=a.service telegraf\n"),
          ":7: RestartUnits=a.service telegraf: 'telegraf' must be the whole name of a service" },
        { "a mount is not restarted", CONF_ERROR, AFTER("[Hub]\nRestartUnits=var.mount\n"),
          "'var.mount' must be" },
        { "a template is no unit", CONF_ERROR, AFTER("[Hub]\nReloadUnits=a@.service\n"),
          ":7: ReloadUnits=a@.service: 'a@.service' is not a valid name of a unit" },
        { "a unit is not an option", CONF_ERROR, AFTER("[Hub]\nReloadUnits=-a.service\n"),
          "'-a.service' is not a valid name" },
        { "a unit is not a path", CONF_ERROR, AFTER("[Hub]\nReloadUnits=/etc/a.service\n"),
          "'/etc/a.service' is not a valid name" },
        { "a password of a proxy is a reference", CONF_ERROR,
          AFTER("[Provisioning]\nProxy=http://joe:pw@p:3128\n"), ":7: Proxy= must not hold a password" },
        { "a password needs a user", CONF_ERROR,
          AFTER("[Provisioning]\nProxy=http://p:3128\nProxyPassword=/p\n"), ":7: Proxy= names no user" },
        { "a password needs a proxy", CONF_WARNING, AFTER("[Provisioning]\nProxyPassword=/p\n"),
          ":7: ProxyPassword= is not used" },
        { "MQTT has no TLS in TLS", CONF_ERROR, AFTER("[Provisioning]\nProxy=https://p\nTransport=mqtt\n"),
          ":7: Transport=mqtt cannot go through" },
        { "a proxy has a scheme", CONF_ERROR, AFTER("[Provisioning]\nProxy=p:3128\n"),
          "Proxy= must be http://" },
        { "a CA file is an absolute path", CONF_ERROR, AFTER("[Provisioning]\nCaFile=ca.pem\n"),
          ":7: CaFile=ca.pem: must be the absolute path" },
        { "a method is one of three", CONF_ERROR, AFTER("Method=password\n"),
          ":6: Method=password: there is no method 'password'" },
        { "a symmetric key needs Key=", CONF_ERROR, WITHOUT_KEY, "Key= in [Attestation] is missing" },
        { "a certificate without Method= is explained", CONF_ERROR,
          WITHOUT_KEY "Certificate=/c\nPrivateKey=/k\n", "to use a certificate, set Method=x509" },
        { "X.509 needs a certificate", CONF_ERROR, WITHOUT_KEY "Method=x509\nPrivateKey=/k\n",
          "Certificate= in [Attestation] is missing" },
        { "X.509 needs a private key", CONF_ERROR, WITHOUT_KEY "Method=x509\nCertificate=/k\n",
          "PrivateKey= in [Attestation] is missing" },
        { "certificates and private keys come in pairs", CONF_ERROR,
          WITHOUT_KEY "Method=x509\nCertificate=/c\nCertificate=/d\nPrivateKey=/k\n",
          ":8: there must be a line PrivateKey= for each" },
        { "certificates without private keys are an error beside another method too", CONF_ERROR,
          AFTER("Method=x509 symmetric-key\nCertificate=/c\nCertificate=/d\nPrivateKey=/k\n"),
          "there must be a line PrivateKey= for each" },
        { "the PIN is not part of the URI", CONF_ERROR, AFTER("PrivateKey=pkcs11:object=a?pin-value=1234\n"),
          "name that file with Pin=" },
        { "the URI names a key", CONF_ERROR, AFTER("PrivateKey=pkcs11:token=gw\n"),
          "must name the key with object= or id=" },
        { "the URI has known attributes", CONF_ERROR, AFTER("PrivateKey=pkcs11:object=a;label=b\n"),
          "has an attribute that is not used here" },
        { "the URI has whole percent escapes", CONF_ERROR, AFTER("PrivateKey=pkcs11:object=a%2\n"),
          "has an invalid object=" },
        { "the URI has an attribute once", CONF_ERROR, AFTER("PrivateKey=pkcs11:object=a;object=b\n"),
          "has object= twice" },
        { "the URI is of a private key", CONF_ERROR, AFTER("PrivateKey=pkcs11:object=a;type=cert\n"),
          "must name a private key" },
        { "the PIN is a reference, and is not echoed", CONF_ERROR, AFTER("Pin=1234\n"), ":6: Pin= " },
        { "a TCTI is not a path", CONF_ERROR, AFTER("Tcti=/usr/lib/evil.so\n"),
          ":6: Tcti=/usr/lib/evil.so: must be the name of a TCTI" },
        { "a TCTI has a name", CONF_ERROR, AFTER("Tcti=:/dev/tpm0\n"), "must be the name of a TCTI" },
        { "a handle in the TPM is one of a persistent object", CONF_ERROR, AFTER("TpmKeyHandle=0x80000000\n"),
          ":6: TpmKeyHandle=0x80000000: must be the handle of a persistent object" },
        { "a handle in the TPM has eight digits", CONF_ERROR, AFTER("EkHandle=0x8101\n"),
          "must be the handle of a persistent object" },
        { "a handle in the TPM is hexadecimal", CONF_ERROR, AFTER("SrkHandle=2164260864\n"),
          "must be the handle of a persistent object" },
        { "an auth is a reference, and is not echoed", CONF_ERROR, AFTER("TpmOwnerAuth=hunter2\n"),
          ":6: TpmOwnerAuth= " },
        { "without a TPM alone a registration ID is needed", CONF_ERROR,
          "[Provisioning]\nIdScope=0ne00AABBCC\n[Attestation]\nMethod=tpm symmetric-key\nKey=/k\n",
          "RegistrationId= in [Provisioning] is missing" },
        { "a method without its keys beside another is a warning", CONF_WARNING,
          AFTER("Method=x509 symmetric-key\n"), "Certificate= in [Attestation] is missing" },
        { "a handle is hexadecimal", CONF_ERROR,
          WITHOUT_KEY "Method=x509\nCertificate=/c\nPrivateKey=handle:12\n", "handle:0x81000002" },
        { "a certificate is a path", CONF_ERROR,
          WITHOUT_KEY "Method=x509\nCertificate=c.pem\nPrivateKey=/k\n",
          ":6: Certificate=c.pem: must be the absolute path" },
        { "Key= and GroupKey= cannot be used together", CONF_ERROR, AFTER("GroupKey=/g\n"),
          ":6: GroupKey= cannot be used together with Key=, which is in" },
        { "a group key is warned of", CONF_WARNING, WITHOUT_KEY "GroupKey=/g\n",
          ":5: GroupKey= gives every device" },
        { "a key is a reference", CONF_ERROR, WITHOUT_KEY "Key=secret.key\n",
          ":5: Key= must be credential:NAME or the absolute path" },
        { "a token is valid for at least 30 s", CONF_ERROR, AFTER("[Hub]\nTokenLifetime=29\n"),
          ":7: TokenLifetime=29: too short: at least 30 s" },
        { "the lifetime of a token is finite", CONF_ERROR, AFTER("[Hub]\nTokenLifetime=infinity\n"),
          "too long" },
        { "a lifetime below an hour is warned of with the registrations a day", CONF_WARNING,
          AFTER("[Hub]\nTokenLifetime=30min\n"), ":7: TokenLifetime=30min: up to 53 registrations" },
        { "for tokens that are made locally, the warning counts tokens", CONF_WARNING,
          AFTER("[Hub]\nTokenLifetime=30min\nRenew=token\n"), "up to 53 new tokens" },
        { "renewing at once is warned of too", CONF_WARNING,
          AFTER("[Hub]\nTokenLifetime=2h\nRenewBefore=119min\n"),
          ":8: RenewBefore=119min: up to 1440 registrations" },
        { "RenewBefore= is not 0 %", CONF_ERROR, AFTER("[Hub]\nRenewBefore=0%\n"), "1% to 99%" },
        { "RenewBefore= is not 100 %", CONF_ERROR, AFTER("[Hub]\nRenewBefore=100%\n"), "1% to 99%" },
        { "RenewBefore= is less than the lifetime", CONF_ERROR,
          AFTER("[Hub]\nTokenLifetime=2h\nRenewBefore=2h\n"),
          ":8: RenewBefore= must be less than TokenLifetime=, which is 2 h" },
        { "Renew= is provision or token", CONF_ERROR, AFTER("[Hub]\nRenew=never\n"), "provision or token" },
        { "RenewAt= is not 100 %", CONF_ERROR, AFTER("[Issuance]\nRenewAt=100%\n"),
          ":7: RenewAt=100%: must be 1% to 99%" },
        { "a type of key is one of three", CONF_ERROR, AFTER("[Issuance]\nKeyType=ed25519\n"),
          ":7: KeyType=ed25519: must be ec-p256, ec-p384 or rsa-2048" },
        { "an issued certificate's key in a TPM is not RSA", CONF_ERROR,
          AFTER("[Issuance]\nKey=tpm\nKeyType=rsa-2048\n"), ":8: KeyType=rsa-2048: RSA keys of a TPM" },
        { "a PIN in a URI is not shown", CONF_ERROR, AFTER("[Issuance]\nKey=pkcs11:pin-value=1234\n"),
          ":7: Key= must not hold the PIN" },
        { "the URI for new keys has a name for them", CONF_ERROR, AFTER("[Issuance]\nKey=pkcs11:token=gw\n"),
          ":7: Key= must name the key with object= or id=" },
        { "another word as Key= is not shown, since it may be a key", CONF_ERROR,
          AFTER("[Issuance]\nKey=c2VjcmV0\n"), ":7: Key= must be file, tpm, or a URI" },
        { "a version that issues nothing is an error", CONF_ERROR,
          AFTER("[Provisioning]\nApiVersion=2021-06-01\n[Issuance]\nRequest=yes\n"),
          "this version issues no certificates" },
        { "a group is a name", CONF_ERROR, AFTER("[Access]\nGroup=a b\n"),
          ":7: Group=a b: not a valid name of a group" },
};

static void check_message(void **state) {
        const struct message_case *c = *state;

        set_up(NULL);
        read_text(NULL, c->text);
        assert_message(c->severity, c->message);
        assert_int_equal(report.has_errors, c->severity == CONF_ERROR);
        assert_int_equal(report.n_messages, 1);
        tear_down(NULL);
}

static const struct accepted_case {
        const char *promise, *text;
} accepted[] = {
        { "an endpoint may be an IPv4 address", AFTER("[Provisioning]\nEndpoint=127.0.0.1\n") },
        { "an endpoint may be an IPv6 address", AFTER("[Provisioning]\nEndpoint=::1\n") },
        { "an endpoint may be a name without dot", AFTER("[Provisioning]\nEndpoint=localhost\n") },
        { "an API version may be a preview", AFTER("[Provisioning]\nApiVersion=2021-11-01-preview\n") },
        { "a payload may have specifiers", AFTER("[Provisioning]\nPayload={\"serial\":\"%{serial}\"}\n") },
        { "a payload may have a doubled percent sign",
          AFTER("[Provisioning]\nPayload={\"load\":\"5%%\"}\n") },
        { "a payload may have letters beyond ASCII",
          AFTER("[Provisioning]\nPayload={\"site\":\"Z\xc3\xbcrich\"}\n") },
        { "a payload may continue in the next line", AFTER("[Provisioning]\nPayload={\"a\": \\\n  1}\n") },
        { "a splay may be 0", AFTER("[Provisioning]\nSplay=0\n") },
        { "RenewBefore= may be a duration", AFTER("[Hub]\nRenewBefore=3d\n") },
        { "[Issuance] has a Key= of its own beside that of [Attestation]",
          AFTER("[Issuance]\nKey=file\nRequest=yes\n") },
        { "RenewAt= may be a duration", AFTER("[Issuance]\nRenewAt=3d\n") },
        { "an older version that issues may be set",
          AFTER("[Provisioning]\nApiVersion=2025-07-01-preview\n[Issuance]\nRequest=yes\n") },
        { "a lifetime of an hour is not warned of", AFTER("[Hub]\nTokenLifetime=1h\n") },
        { "30 s is allowed in tests, with RenewBefore= in percent",
          AFTER("[Hub]\nTokenLifetime=1h\nRenewBefore=50%\n") },
        { "a key's path may have specifiers", WITHOUT_KEY "Key=/etc/dps/%{hostname}.key\n" },
        { "a credential's name may have specifiers", WITHOUT_KEY "Key=credential:%{hostname}.key\n" },
        { "a certificate may be a credential",
          WITHOUT_KEY "Method=x509\nCertificate=credential:c\nPrivateKey=/k\n" },
};

static void check_accepted(void **state) {
        const struct accepted_case *c = *state;

        set_up(NULL);
        read_text(NULL, c->text);
        if (report.n_messages > 0)
                fail_msg("%s", report.messages[0].text);
        tear_down(NULL);
}

/* --- secrets -------------------------------------------------------------------------------------------- */

#define SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static const struct secret_case {
        const char *promise, *text;
} secrets[] = {
        { "a key pasted into Key= is not shown", WITHOUT_KEY "Key=" SECRET "\n" },
        { "a key that begins like a path is not shown", WITHOUT_KEY "Key=/" SECRET "\n" },
        { "a key pasted into GroupKey= is not shown", WITHOUT_KEY "GroupKey=" SECRET "\n" },
        { "a key pasted after credential: is not shown", WITHOUT_KEY "Key=credential:/" SECRET "\n" },
        { "a key pasted with a specifier in it is not shown", WITHOUT_KEY "Key=/" SECRET "%{" SECRET "}\n" },
        { "a key pasted onto its own line is not shown", MINIMUM SECRET "\n" },
        { "a key pasted as a section is not shown", MINIMUM "[" SECRET "]\nA=1\n" },
        { "a key pasted into PrivateKey= is not shown",
          WITHOUT_KEY "Method=x509\nCertificate=/c\nPrivateKey=" SECRET "\n" },
        { "the PIN of a hardware key is not shown",
          WITHOUT_KEY "Method=x509\nCertificate=/c\nPrivateKey=pkcs11:a?pin-value=" SECRET "\n" },
        { "a password pasted into ProxyPassword= is not shown",
          MINIMUM "[Provisioning]\nProxyPassword=" SECRET "\n" },
        { "the user info of a good proxy is not shown",
          MINIMUM "[Provisioning]\nProxy=http://u:" SECRET "@p:1\n" },
        { "the user of a proxy is not shown", MINIMUM "[Provisioning]\nProxy=http://" SECRET "%0a@p:1\n" },
        { "the user info of a bad proxy is not shown",
          MINIMUM "[Provisioning]\nProxy=ftp://u:" SECRET "@p:1\n" },
        { "a payload is not shown", MINIMUM "[Provisioning]\nPayload={" SECRET "}\n" },
        { "a connection string in the wrong place is not shown",
          MINIMUM "[Provisioning]\nEndpoint=HostName=a;SharedAccessKey=" SECRET "\n" },
};

static void check_secret(void **state) {
        const struct secret_case *c = *state;

        set_up(NULL);
        read_text(NULL, c->text);
        assert_true(report.n_messages > 0);
        assert_nowhere("AAEC");
        tear_down(NULL);
}

static void the_error_of_a_missing_key_names_the_line_where_it_is_misspelt(void **state) {
        read_text(NULL, "[Provisioning]\nIdScope=0neA\nRegistratonId=a\n[Attestation]\nkey=/k\n");
        assert_message(CONF_WARNING, ":3: there is no RegistratonId= in [Provisioning], did you mean");
        assert_message(CONF_ERROR,
                       ":3: RegistrationId= is missing; is RegistratonId= in this line meant to be it?");
        assert_message(CONF_ERROR, ":5: Key= is missing; is key= in this line meant to be it?");
}

static void capitals_are_warned_of_where_a_key_is_derived(void **state) {
        read_text(NULL, "[Provisioning]\nIdScope=0neA\nRegistrationId=gW\n[Attestation]\nGroupKey=/k\n");
        assert_message(CONF_WARNING, ":3: RegistrationId= has capital letters");
        assert_true(settings_derive_from_capitals(settings));
}

static void capitals_are_warned_of_only_where_a_key_is_derived(void **state) {
        read_text(NULL, "[Provisioning]\nIdScope=0neA\nRegistrationId=gW\n[Attestation]\nKey=/k\n");
        assert_int_equal(report.n_messages, 0);
        assert_false(settings_derive_from_capitals(settings));
}

static void cat_config_hides_what_may_be_a_secret(void **state) {
        static const char *const hidden[] = { "Key", "GroupKey", "PrivateKey", "GroupKye" };

        for (size_t i = 0; i < ELEMENTSOF(hidden); i++)
                assert_true(settings_key_is_secret("Attestation", hidden[i]));
        assert_true(settings_key_is_secret("Provisioning", "Proxy"));
        assert_true(settings_key_is_secret("Provisioning", "ProxyPassword"));
        assert_false(settings_key_is_secret("Provisioning", "IdScope"));
        assert_false(settings_key_is_secret("Attestation", "Certificate"));
        assert_false(settings_key_is_secret("Daemon", "MaxAttempts"));
}

/* --- limits --------------------------------------------------------------------------------------------- */

static char *repeated(const char *head, const char *line, unsigned n) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        fputs(head, f);
        while (n-- > 0)
                fputs(line, f);
        fclose(f);
        return text;
}

static void a_list_of_too_many_lines_is_an_error(void **state) {
        _cleanup_(freep) char *text = repeated(MINIMUM, "Key=/k\n", 10000);

        read_text(NULL, text);
        assert_message(CONF_ERROR, "Key= has more than 64 lines");
}

static void a_list_of_too_many_words_is_an_error(void **state) {
        _cleanup_(freep) char *text = repeated(MINIMUM "[Provisioning]\nNoProxy=", "a,", 10000);

        read_text(NULL, text);
        assert_message(CONF_ERROR, "more than 256 words");
}

static void only_the_first_20_unknown_keys_are_reported(void **state) {
        _cleanup_(freep) char *text = repeated(MINIMUM, "Foo=1\n", 10000);

        read_text(NULL, text);
        assert_int_equal(report.n_messages, 20);
}

/* --- equality, expansion -------------------------------------------------------------------------------- */

/* One line for each key. A new key needs a line here. */
static const char *const changes[] = {
        "[Provisioning]\nIdScope=other",
        "[Provisioning]\nRegistrationId=other",
        "[Provisioning]\nEndpoint=other",
        "[Provisioning]\nAddress=other",
        "[Provisioning]\nMqttPort=1",
        "[Provisioning]\nHttpsPort=1",
        "[Provisioning]\nTransport=mqtt",
        "[Provisioning]\nApiVersion=2021-06-01",
        "[Provisioning]\nPayload={}",
        "[Provisioning]\nPayloadFile=/p",
        "[Provisioning]\nSplay=1",
        "[Provisioning]\nRequiredForProvisioned=no",
        "[Provisioning]\nProxy=http://p",
        "[Provisioning]\nProxyPassword=/p",
        "[Provisioning]\nNoProxy=a",
        "[Provisioning]\nCaFile=/c",
        "[Attestation]\nMethod=tpm",
        "[Attestation]\nKey=/k",
        "[Attestation]\nGroupKey=/k",
        "[Attestation]\nCertificate=/c",
        "[Attestation]\nPrivateKey=/c",
        "[Attestation]\nPin=/p",
        "[Attestation]\nPkcs11Module=/m",
        "[Attestation]\nTcti=swtpm",
        "[Attestation]\nEkHandle=0x81010002",
        "[Attestation]\nSrkHandle=0x81000002",
        "[Attestation]\nTpmKeyHandle=0x81000101",
        "[Attestation]\nTpmOwnerAuth=/o",
        "[Attestation]\nTpmEndorsementAuth=/e",
        "[Hub]\nTokenLifetime=2d",
        "[Hub]\nRenewBefore=11%",
        "[Hub]\nRenewBefore=2h",
        "[Hub]\nRenew=token",
        "[Hub]\nRestartUnits=a.service",
        "[Hub]\nReloadUnits=a.service",
        "[Access]\nGroup=other",
        "[Access]\nShareKey=yes",
        "[Access]\nApi=yes",
};

static void the_password_of_the_default_proxy_is_for_that_proxy_only(void **state) {
        static const char defaults[] = "[Provisioning]\nProxy=http://joe@a:1\nProxyPassword=/a\n";

        read_text(defaults, MINIMUM);
        assert_string_equal(settings->proxy_password, "/a");
        settings = settings_unref(settings);
        read_text(defaults, MINIMUM "[Provisioning]\nProxy=http://joe@b:1\n");
        assert_string_equal(settings->proxy, "http://joe@b:1");
        assert_null(settings->proxy_password);
}

static void the_same_text_gives_equal_settings(void **state) {
        _cleanup_(settings_unrefp) Settings *other = NULL;

        read_text(NULL, MINIMUM "Key=/b\n[Provisioning]\nNoProxy=a b\nPayload={}\n");
        other = settings_from_text(NULL,
                                   "# moved\n" MINIMUM "Key=/b\n[Provisioning]\nNoProxy=a b\nPayload={}\n");
        assert_true(settings_equal(settings, other));
}

static void each_key_counts_in_a_comparison(void **state) {
        read_text(NULL, MINIMUM);
        for (size_t i = 0; i < ELEMENTSOF(changes); i++) {
                _cleanup_(freep) char *text = NULL;
                _cleanup_(settings_unrefp) Settings *other = NULL;

                assert_true(asprintf(&text, "%s%s\n", MINIMUM, changes[i]) > 0);
                other = settings_from_text(NULL, text);
                if (settings_equal(settings, other) || settings_equal(other, settings))
                        fail_msg("no difference: %s", changes[i]);
        }
}

static void lists_of_different_length_differ(void **state) {
        _cleanup_(settings_unrefp) Settings *other = NULL;

        read_text(NULL, MINIMUM "Key=/b\n");
        other = settings_from_text(NULL, MINIMUM);
        assert_false(settings_equal(settings, other));
        assert_false(settings_equal(other, settings));
}

static void expanding_changes_nothing_without_specifiers(void **state) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL;

        read_text(NULL, MINIMUM "[Provisioning]\nNoProxy=a b\nCaFile=/c\nPayload={}\n[Hub]\nRenew=token\n");
        assert_int_equal(settings_expand(settings, &(SpecifierContext){ 0 }, &expanded, &reason), 0);
        assert_true(settings_equal(settings, expanded));
        assert_int_equal(expanded->keys_place.line, settings->keys_place.line);
        assert_string_equal(expanded->keys_place.file, settings->keys_place.file);
}

static void settings_last_until_their_last_reference_goes(void **state) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL, *other = NULL;
        _cleanup_(freep) char *reason = NULL;

        read_text(NULL, MINIMUM);
        other = settings_ref(settings);
        assert_ptr_equal(other, settings);
        assert_int_equal(settings_expand(settings, &(SpecifierContext){ 0 }, &expanded, &reason), 0);
        settings = settings_unref(settings);
        assert_true(settings_equal(expanded, other));
        /* A copy has one reference, however many the original has. */
        assert_int_equal(expanded->n_more_references, 0);
}

/* A root with a host name only. */
static void make_root(char *root) {
        _cleanup_(freep) char *etc = NULL, *name = NULL;
        _cleanup_(fclosep) FILE *f = NULL;

        assert_non_null(mkdtemp(root));
        assert_true(asprintf(&etc, "%s/etc", root) > 0 && asprintf(&name, "%s/hostname", etc) > 0);
        assert_int_equal(mkdir(etc, 0755), 0);
        f = fopen(name, "we");
        assert_non_null(f);
        fputs("box7\n", f);
}

static void remove_root(const char *root) {
        _cleanup_(freep) char *etc = NULL, *name = NULL;

        assert_true(asprintf(&etc, "%s/etc", root) > 0 && asprintf(&name, "%s/hostname", etc) > 0);
        assert_int_equal(unlink(name), 0);
        assert_int_equal(rmdir(etc), 0);
        assert_int_equal(rmdir(root), 0);
}

static void expand_in_root(int expected, Settings **ret, char **ret_why) {
        char root[] = "/tmp/test-settings-XXXXXX";
        int r;

        make_root(root);
        r = settings_expand(settings, &(SpecifierContext){ .root = root }, ret, ret_why);
        remove_root(root);
        assert_int_equal(r, expected);
}

static void specifiers_are_expanded_in_texts_and_lists(void **state) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL;

        read_text(NULL, WITHOUT_KEY "Key=/etc/%{hostname}.key\nKey=credential:%{hostname}\n[Provisioning]\n"
                                    "RegistrationId=gw-%{hostname}\nPayload={\"h\":\"%{hostname} 5%%\"}\n");
        expand_in_root(0, &expanded, &reason);
        assert_string_equal(expanded->registration_id, "gw-box7");
        assert_texts(expanded->keys, "/etc/box7.key|credential:box7");
        assert_string_equal(expanded->payload, "{\"h\":\"box7 5%\"}");
        assert_string_equal(settings->registration_id, "gw-%{hostname}");
}

static void expanded_values_are_checked(void **state) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL;

        read_text(NULL, MINIMUM "[Provisioning]\nRegistrationId=%{hostname}.\n");
        assert_int_equal(report.n_messages, 0);
        expand_in_root(-EINVAL, &expanded, &reason);
        assert_null(expanded);
        assert_non_null(
                strstr(reason, ":7: RegistrationId=\"%{hostname}.\" gives \"box7.\": not a registration ID"));
}

static void a_credential_that_is_not_a_valid_value_is_not_shown(void **state) {
        char root[] = "/tmp/test-settings-XXXXXX";
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL, *credentials = NULL;

        read_text(NULL, MINIMUM "[Provisioning]\nRegistrationId=%{uuid|credential:hostname}.\n");
        make_root(root);
        assert_true(asprintf(&credentials, "%s/etc", root) > 0);
        assert_int_equal(settings_expand(settings,
                                         &(SpecifierContext){ .root = root, .credentials = credentials },
                                         &expanded, &reason),
                         -EINVAL);
        remove_root(root);
        assert_non_null(strstr(reason, "RegistrationId=\"%{uuid|credential:hostname}.\" gives \"...\": "));
        assert_null(strstr(reason, "box7"));
}

static void assert_unresolved(int expected, const char *words) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL;

        expand_in_root(expected, &expanded, &reason);
        if (!startswith(reason, "/tmp/test-settings-") || !endswith(reason, words))
                fail_msg("\"%s\" is not \"FILE%s\"", reason, words);
}

static void a_specifier_without_a_value_is_an_error_with_its_line(void **state) {
        read_text(NULL, MINIMUM "[Provisioning]\nRegistrationId=%{mac:eth7}\n");
        assert_unresolved(-EAGAIN, ":7: RegistrationId=: %{mac:eth7}: there is no network interface eth7");
}

static void an_error_in_a_list_names_the_line_of_the_value(void **state) {
        read_text(NULL, MINIMUM "[Attestation]\n"
                                "Key=/etc/%%a.key\n"
                                "Key=/etc/b.key\n"
                                "Key=/etc/%{file:/c}.key\n"
                                "Key=/etc/%{file:/d}.key\n");
        assert_unresolved(-ENOENT, ":9: Key=: %{file:/c}: No such file or directory");
}

static void an_error_in_a_default_names_the_line_of_the_default(void **state) {
        read_text("[Provisioning]\nEndpoint=%{file:/c}\n", MINIMUM);
        assert_unresolved(-ENOENT, ":2: Endpoint=: %{file:/c}: No such file or directory");
}

static void an_error_in_the_path_of_a_certificate_names_its_line(void **state) {
        read_text(NULL, WITHOUT_KEY "Method=x509\nCertificate=/etc/a.pem\nCertificate=/etc/%{file:/c}.pem\n"
                                    "PrivateKey=/etc/a.key\nPrivateKey=/etc/b.key\n");
        assert_unresolved(-ENOENT, ":7: Certificate=: %{file:/c}: No such file or directory");
}

static void with_a_tpm_alone_the_registration_id_is_that_of_the_tpm(void **state) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL;

        read_text(NULL, "[Provisioning]\nIdScope=0ne00AABBCC\n[Attestation]\nMethod=tpm\n");
        assert_int_equal(report.n_messages, 0);
        assert_string_equal(settings->registration_id, "%{tpm}");
        assert_string_equal(settings->tcti, "device:/dev/tpmrm0");
        assert_int_equal(settings->tpm_key_handle, 0x81000100);
        assert_unresolved(-EAGAIN,
                          ":4: RegistrationId=: %{tpm}: only dpsd asks the TPM; dpsctl enrollment shows the "
                          "registration ID");
        assert_int_equal(
                settings_expand(settings, &(SpecifierContext){ .tpm = "6rek5qn" }, &expanded, &reason), 0);
        assert_string_equal(expanded->registration_id, "6rek5qn");
}

static void names_of_methods_and_transports_are_those_of_the_manual(void **state) {
        Method m;

        assert_string_equal(method_to_string(METHOD_SYMMETRIC_KEY), "symmetric-key");
        assert_string_equal(method_to_string(METHOD_X509), "x509");
        assert_string_equal(method_to_string(METHOD_TPM), "tpm");
        assert_int_equal(method_from_string("x509", &m), 0);
        assert_int_equal(m, METHOD_X509);
        assert_int_equal(method_from_string("X509", &m), -EINVAL);
        assert_string_equal(transport_choice_to_string(TRANSPORT_HTTPS), "https");
}

#define PLAIN(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest plain[] = {
                PLAIN(defaults_are_those_of_the_manual),
                PLAIN(with_a_tpm_alone_the_registration_id_is_that_of_the_tpm),
                PLAIN(the_section_about_certificates_is_read),
                PLAIN(without_a_request_the_version_is_the_one_that_every_cloud_takes),
                PLAIN(a_version_that_is_set_does_not_step),
                PLAIN(every_key_is_read),
                PLAIN(the_last_assignment_wins),
                PLAIN(an_empty_value_resets_to_the_default),
                PLAIN(an_empty_value_empties_a_list),
                PLAIN(a_bad_value_that_is_replaced_is_not_an_error),
                PLAIN(system_is_the_default_of_CaFile),
                PLAIN(methods_may_be_in_one_line_or_in_several),
                PLAIN(dpsd_conf_gives_defaults),
                PLAIN(a_list_of_the_identity_replaces_the_default_list),
                PLAIN(an_empty_value_resets_the_default_of_dpsd_conf),
                PLAIN(a_key_of_the_identity_cancels_a_default_group_key),
                PLAIN(a_bad_default_is_an_error_where_it_is_used),
                PLAIN(a_bad_default_is_not_an_error_where_it_is_not_used),
                PLAIN(unknown_keys_of_dpsd_conf_are_not_reported_for_each_identity),
                PLAIN(MaxAttempts_is_50_by_default),
                PLAIN(MaxAttempts_is_read),
                PLAIN(a_bad_MaxAttempts_is_an_error_and_not_used),
                PLAIN(faults_in_dpsd_conf_are_reported_without_identities),
                PLAIN(the_section_Daemon_belongs_in_dpsd_conf),
                PLAIN(cat_config_hides_what_may_be_a_secret),
                PLAIN(the_error_of_a_missing_key_names_the_line_where_it_is_misspelt),
                PLAIN(capitals_are_warned_of_where_a_key_is_derived),
                PLAIN(capitals_are_warned_of_only_where_a_key_is_derived),
                PLAIN(a_list_of_too_many_lines_is_an_error),
                PLAIN(a_list_of_too_many_words_is_an_error),
                PLAIN(only_the_first_20_unknown_keys_are_reported),
                PLAIN(the_password_of_the_default_proxy_is_for_that_proxy_only),
                PLAIN(the_same_text_gives_equal_settings),
                PLAIN(each_key_counts_in_a_comparison),
                PLAIN(lists_of_different_length_differ),
                PLAIN(expanding_changes_nothing_without_specifiers),
                PLAIN(settings_last_until_their_last_reference_goes),
                PLAIN(specifiers_are_expanded_in_texts_and_lists),
                PLAIN(expanded_values_are_checked),
                PLAIN(a_credential_that_is_not_a_valid_value_is_not_shown),
                PLAIN(a_specifier_without_a_value_is_an_error_with_its_line),
                PLAIN(an_error_in_a_list_names_the_line_of_the_value),
                PLAIN(an_error_in_a_default_names_the_line_of_the_default),
                PLAIN(an_error_in_the_path_of_a_certificate_names_its_line),
                PLAIN(names_of_methods_and_transports_are_those_of_the_manual),
        };
        struct CMUnitTest tests[ELEMENTSOF(cases) + ELEMENTSOF(accepted) + ELEMENTSOF(secrets) +
                                ELEMENTSOF(plain)] = { 0 };
        size_t n = 0;

        ADD_ROWS(tests, n, cases, check_message);
        ADD_ROWS(tests, n, accepted, check_accepted);
        ADD_ROWS(tests, n, secrets, check_secret);
        memcpy(tests + n, plain, sizeof(plain));

        return cmocka_run_group_tests(tests, NULL, NULL);
}
