# SPDX-License-Identifier: MIT
"""dpsctl --redact: no verb shows a private value."""
import json

import pytest

from fakedpsd import Refusal, identity

CONF = """[Provisioning]
IdScope=0ne00AABBCC
RegistrationId=reg-7
Payload={"site":"malmo"}
[Attestation]
Key=/etc/dps/reg-7.key
"""
SECRETS = ("0ne00AABBCC", "reg-7", "contoso", "malmo", "old-hub", "bad/id", "0neMINE")


def assert_no_private_value(text):
    assert not [secret for secret in SECRETS if secret.lower() in text.lower()], text


@pytest.fixture(params=["off", "short"])
def redacted(dpsctl, request):
    """The output of a verb, as text and as JSON."""
    def run(*arguments, code=0):
        actual, out, err = dpsctl(*arguments, "--redact", f"--json={request.param}")
        assert actual == code, out + err
        return out + err
    return run


@pytest.mark.parametrize("verb", ["status", "show", "history", "wait", "reprovision"])
def test_a_name_that_is_the_registration_id_is_not_shown(redacted, serve, verb):
    serve(identity("reg-7", RegistrationId="reg-7", DeviceId="reg-7")).history = {"reg-7": [(1000000, "assigned", "contoso.example")]}
    shown = redacted(verb, "reg-7")
    assert "id-1" in shown
    assert_no_private_value(shown)


def test_reprovision_uses_the_real_names_and_shows_masked_ones(dpsctl, serve):
    fake = serve(identity("reg-7", RegistrationId="reg-7"))
    assert dpsctl("reprovision", "--redact")[1] == "id-1: asking DPS; to see the result: dpsctl status id-1\n"
    assert dpsctl("reprovision", "--redact", "reg-7")[0] == 0
    assert fake.calls.count("Reprovision") == 2


def test_reprovision_wait_shows_no_private_value(redacted, serve):
    fake = serve(identity("reg-7", RegistrationId="reg-7"))
    fake.on_reprovision = lambda name, job: fake.finish(name, job, True)
    assert_no_private_value(redacted("reprovision", "--wait"))
    fake.on_reprovision = lambda name, job: fake.finish(name, job, False, "0ne00AABBCC has no reg-7")
    assert_no_private_value(redacted("reprovision", "--wait", code=1))


def test_a_refused_reprovision_shows_no_private_value(redacted, serve):
    serve(identity("a", RegistrationId="reg-7")).refuse["Reprovision"] = Refusal(
        "Config", "a: a.conf and b.conf both have registration id \"REG-7\" and ID scope \"0ne00AABBCC\": change one")
    assert_no_private_value(redacted("reprovision", code=1))


def test_history_masks_former_hubs(redacted, serve):
    fake = serve(identity("a"))
    fake.history = {"a": [(1, "assigned", "old-hub.azure-devices.net"), (2, "hub-changed", "contoso.azure-devices.net"),
                          (3, "failed", '/etc/dps/a.conf:3: RegistrationId="bad/id": not a registration ID')]}
    shown = redacted("history")
    assert "hub-1.azure-devices.net" in shown and "hub-2.azure-devices.net" in shown
    assert_no_private_value(shown)


def test_reload_masks_the_ids_in_errors(redacted, serve):
    serve().reload_errors = ['/etc/dps/a.conf:2: IdScope="0ne00AABBCC!": not an ID scope',
                             '/etc/dps/a.conf:3: RegistrationId="bad/id": not a registration ID']
    shown = redacted("reload", code=1).replace('\\"', '"')  # as JSON has it
    assert 'a.conf:2: IdScope="value-1": not an ID scope' in shown
    assert 'a.conf:3: RegistrationId="value-2": not a registration ID' in shown
    assert_no_private_value(shown)


def test_reload_does_not_show_a_file_that_is_named_like_its_id(redacted, serve):
    serve(identity("reg-7", RegistrationId="reg-7")).reload_errors = ["/etc/dps/reg-7.conf:2: no such key"]
    shown = redacted("reload", code=1)
    assert "/etc/dps/id-1.conf:2" in shown
    assert_no_private_value(shown)


@pytest.mark.parametrize("error, shown", [
    ('RegistrationId="bad/id": not valid', 'RegistrationId="value-1": not valid'),
    ('RegistrationId=""bad/id"": not valid', 'RegistrationId="value-1": not valid'),
    ('RegistrationId="bad"/"id": not valid', 'RegistrationId="value-1": not valid'),
    ('RegistrationId="bad/id and the message was cut', 'RegistrationId="value-1'),
    ('its common name is "bad/id", and must be the registration ID, "reg-7"',
     'its common name is "value-1", and must be the registration ID, "id-1"'),
    ('(the common name is "REG-7")', '(the common name is "id-1")'),
    ('IdScope="": not an ID scope', 'IdScope="": not an ID scope'),
    ("there is no specifier 'foo', such as {\"site\":1}", "there is no specifier 'foo', such as {\"site\":1}"),
])
def test_what_stands_in_double_quotes_is_private(dpsctl, serve, error, shown):
    serve(identity("a", "failed", RegistrationId="reg-7", LastError=error))
    assert dpsctl("show", "-p", "LastError", "--redact")[1] == f"LastError={shown}\n"
    assert json.loads(dpsctl("--redact", "--json=short")[1])["identities"][0]["LastError"] == shown
    assert dpsctl("show", "-p", "LastError")[1] == f"LastError={error}\n"


def test_the_configuration_is_shown_without_private_values(redacted, dpsctl):
    (dpsctl.etc / "reg-7.conf").write_text(CONF)
    for arguments, code in ((["cat-config"], 0), (["check", "--offline"], 1)):
        shown = redacted(*arguments, code=code)
        assert "id-1.conf" in shown
        assert_no_private_value(shown)


@pytest.mark.parametrize("conf, code", [
    (CONF.replace("reg-7\n", "bad/id\n"), 1), (CONF.replace("reg-7\n", '"bad/id" bad/id"\n'), 1),
    (CONF.replace("0ne00AABBCC", "0neMINE!"), 1), (CONF.replace('"malmo"}', '"malmo"'), 1),
    (CONF.replace("reg-7\n", "bad/id%{hostname}\n"), 0),  # which only check expands
], ids=["id", "quoted-id", "scope", "payload", "expanded-id"])
def test_errors_of_the_configuration_show_no_private_value(redacted, dpsctl, conf, code):
    (dpsctl.etc / "a.conf").write_text(conf.replace("reg-7.key", "a.key"))
    for arguments, expected in ((["verify-config"], code), (["cat-config"], 0), (["check", "--offline"], 1)):
        assert_no_private_value(redacted(*arguments, code=expected).replace("such as 0ne00AABBCC", "such as this"))


def test_verify_config_does_not_show_a_file_that_is_named_like_its_id(redacted, dpsctl):
    (dpsctl.etc / "reg-7.conf").write_text(CONF + "NoSuchKey=1\n")
    shown = redacted("verify-config")
    assert "/id-1.conf:" in shown
    assert_no_private_value(shown)


def test_connection_masks_secrets_and_ids(dpsctl, serve):
    serve(identity("reg-7", RegistrationId="reg-7"))
    connection = json.loads(dpsctl("connection", "reg-7", "--redact")[1])
    assert connection["password"] == "***"
    assert_no_private_value(json.dumps(connection))


@pytest.mark.parametrize("arguments", [["token", "gw"], ["expand", "%{hostname}"], ["derive-key", "gw"],
                                       ["sas", "--hub=h", "--device-id=d"]])
def test_verbs_that_print_only_private_data_refuse_redact(dpsctl, serve, arguments):
    serve(identity("gw"))
    code, out, err = dpsctl(*arguments, "--redact")
    assert code == 2 and not out and "--redact" in err
