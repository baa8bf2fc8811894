# SPDX-License-Identifier: MIT
"""dpsctl with the real daemon: each verb once."""
import json
import re
import subprocess
import time

import pytest

from process import DEADLINE, clean_environment, eventually, program

SEC = 1_000_000


def assign(gateway, **options):
    gateway.identity(**options)
    gateway.start()
    return gateway.wait_for(State="assigned")


def fail(gateway, emulator, name):
    """An identity to which DPS gives a final answer."""
    gateway.identity(name, key=emulator.enroll(name, provisioningStatus="disabled"))


class Background:
    """dpsctl in the background."""

    def __init__(self, gateway, *arguments):
        environment = clean_environment(gateway.directory, **gateway.environment())
        self.process = subprocess.Popen([program("dpsctl"), *arguments], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self):
        """Its exit code and its output."""
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out + err


def test_status_shows_hub_and_what_comes_next(gateway):
    properties = assign(gateway)
    card = gateway.dpsctl("status", "gateway")
    assert card.code == 0 and properties["AssignedHub"] in card.out
    table = gateway.dpsctl()
    assert table.code == 0 and "gateway" in table.out


def test_status_in_json_is_what_the_bus_says(gateway):
    properties = assign(gateway)
    shown = gateway.dpsctl("--json=short", "status").json
    assert shown["version"] == 1
    assert {key: value for key, value in shown["identities"][0].items() if key in properties} == properties


def test_status_says_why_an_identity_is_not_assigned(gateway, emulator):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    result = gateway.dpsctl("status", "gateway")
    assert result.code == 3 and "enrollment-disabled" in result.out


def test_show_prints_the_property_asked_for(gateway):
    properties = assign(gateway)
    assert gateway.dpsctl("show", "gateway", "-p", "AssignedHub").out == f"AssignedHub={properties['AssignedHub']}\n"


def test_hub_authentication_is_sas_or_x509_and_empty_while_not_assigned(gateway, emulator):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    certificate, key = emulator.certificate("certified")
    key.chmod(0o400)
    gateway.identity("keyed")
    gateway.identity("certified", method="x509", attestation={"Certificate": certificate, "PrivateKey": key})
    fail(gateway, emulator, "refused")
    gateway.start()
    assert gateway.dpsctl("wait").code == 3
    for name, expected in (("keyed", "sas"), ("certified", "x509"), ("refused", "")):
        assert gateway.dpsctl("show", name, "-p", "HubAuthentication").out == f"HubAuthentication={expected}\n"
        if expected:
            assert gateway.connection(name)["auth"] == expected


def test_wait_is_0_when_all_are_assigned(gateway):
    gateway.identity("one")
    gateway.identity("two")
    gateway.start()
    assert gateway.dpsctl("wait").code == 0
    assert gateway.properties()["NAssigned"] == 2


def test_wait_is_3_when_one_has_failed(gateway, emulator):
    gateway.identity("good")
    fail(gateway, emulator, "bad")
    gateway.start()
    assert gateway.dpsctl("wait").code == 3
    assert gateway.dpsctl("wait", "good").code == 0


def test_wait_any_is_0_with_the_first(gateway, emulator):
    gateway.identity("good")
    gateway.identity("slow", key=emulator.enroll("slow", assigningTime=600, retryAfter=60))
    gateway.start()
    assert gateway.dpsctl("wait", "--any").code == 0


def test_wait_is_7_after_its_timeout(gateway, emulator):
    gateway.identity(key=emulator.enroll("gateway", assigningTime=600, retryAfter=60))
    gateway.start()
    result = gateway.dpsctl("wait", "--timeout=1s")
    assert result.code == 7 and "gateway" in result.err


def test_wait_does_not_wait_for_an_identity_that_is_not_required(gateway, emulator):
    gateway.identity("good")
    gateway.identity("optional", key=emulator.enroll("optional", provisioningStatus="disabled"),
                     provisioning={"RequiredForProvisioned": "no"})
    gateway.start()
    gateway.wait_for("optional", State="failed")
    assert gateway.dpsctl("wait").code == 0


def test_wait_outlasts_a_daemon_that_starts_late(gateway):
    gateway.identity()
    waiting = Background(gateway, "wait")
    gateway.start()
    assert waiting.result()[0] == 0


def test_reprovision_wait_sees_the_new_hub(gateway, emulator):
    before = assign(gateway)
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert gateway.properties("gateway")["AssignedHub"] != before["AssignedHub"]
    assert gateway.connection()["hub"] == gateway.properties("gateway")["AssignedHub"]


def test_reprovision_without_a_name_is_for_all(gateway, emulator):
    gateway.identity("one")
    gateway.identity("two")
    gateway.start()
    for name in ("one", "two"):
        gateway.wait_for(name, State="assigned")
    assert gateway.dpsctl("reprovision", "--wait").code == 0
    assert {len(emulator.requests("register", name)) for name in ("one", "two")} == {2}


def test_the_hub_accepts_the_token(gateway, emulator):
    assign(gateway)
    result = gateway.dpsctl("token", "gateway", "--lifetime=5min")
    assert result.code == 0
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], result.out.strip()) == 0
    expires_at = int(result.out.rsplit("&se=", 1)[1].split("&")[0])
    assert abs(expires_at - time.time() - 300) < DEADLINE


def test_connection_is_the_same_as_in_the_file(gateway):
    assign(gateway)
    assert gateway.dpsctl("connection", "gateway").json == gateway.connection()


@pytest.mark.parametrize("verb", ["token", "connection"])
def test_token_and_connection_of_an_unassigned_identity_are_3(gateway, emulator, verb):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    assert gateway.dpsctl(verb, "gateway").code == 3


def test_history_has_each_change_of_state(gateway, emulator):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    emulator.set("gateway", provisioningStatus="enabled")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    shown = gateway.dpsctl("history", "gateway").out
    places = [shown.index(word) for word in ("provisioning", "failed", "disabled", "assigned")]
    assert places == sorted(places)


def test_history_has_failures_and_the_same_one_once(gateway, emulator):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    for attempts in (2, 3):
        gateway.dpsctl("reprovision", "gateway", "--wait")
        gateway.wait_for(State="failed", Attempts=attempts)
    rows = gateway.dpsctl("history", "--json=short").json["transitions"]
    assert [row["State"] for row in rows] == ["provisioning", "failed"]
    assert "disabled (3 times in " in rows[1]["Detail"]
    gateway.restart()
    (row,) = [row for row in gateway.dpsctl("history", "--json=short").json["transitions"] if row["State"] == "failed"]
    assert "disabled (3 times in " in row["Detail"]


def test_history_has_failures_of_a_renewal_too(gateway, emulator):
    assign(gateway)
    emulator.script("gateway", "register:401,body=")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    rows = gateway.dpsctl("history", "--json=short").json["transitions"]
    assert [row["State"] for row in rows][-3:] == ["assigned", "attempt-failed", "renewed"]


def test_status_shows_what_an_attempt_waits_for(gateway, emulator):
    assign(gateway)
    emulator.script("gateway", "register:silent")
    gateway.dpsctl("reprovision", "gateway")
    emulator.wait_for_requests(2, "register")
    shown = eventually(lambda: (out := gateway.dpsctl("status").out) and "now, for" in out.splitlines()[-1] and out)
    assert re.search(r"next: asking DPS now, for \d+ s: waits for the answer to register$", shown.rstrip())
    properties = gateway.properties("gateway")
    assert properties["NextAttemptAt"] == 0 < properties["AttemptSince"] and properties["AttemptStep"] == "registering"


def test_status_shows_that_the_hub_refused_a_program(gateway):
    generation = assign(gateway, provisioning={"Splay": "1h"})["Generation"]
    for _ in range(2):
        gateway.call("gateway", "ReportHubFailure", "tsus", generation, "auth", 401, "Unauthorized\x1b[31m")
    shown = gateway.dpsctl("status").out
    assert re.search(r"Hub refused: auth, 401: Unauthorized\S+\n +2 times in a row, the last ", shown) and "\x1b[31m" not in shown
    gateway.call("gateway", "ReportHubConnected", "t", generation)
    assert "refused" not in gateway.dpsctl("status").out
    assert gateway.properties("gateway")["HubLastFailure"] == ""


def test_status_tells_a_move_from_the_first_assignment(gateway, emulator):
    before = assign(gateway)
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    eventually(lambda: re.search(" for [2-9] s", gateway.dpsctl("status").out))
    gateway.dpsctl("reprovision", "gateway", "--wait")
    shown = gateway.dpsctl("status").out
    assert "Moved:" in shown and "Assigned:" not in shown


def test_history_lasts_over_a_restart(gateway):
    assign(gateway)
    before = gateway.dpsctl("history", "gateway").out
    gateway.restart()
    assert gateway.dpsctl("history", "gateway").out == before


def test_monitor_shows_an_assignment(gateway):
    gateway.start()
    monitor = Background(gateway, "monitor")
    try:
        gateway.identity()
        # It does not say when it listens, so it gets more than one change to show.
        for _ in range(3):
            gateway.reload()
            gateway.wait_for(State="assigned")
            gateway.dpsctl("reprovision", "gateway", "--wait")
        gateway.stop()
        monitor.process.terminate()
        assert "gateway" in monitor.result()[1]
    finally:
        monitor.process.kill()
        monitor.process.wait()


def test_reload_lists_what_is_wrong(gateway):
    assign(gateway)
    path = gateway.write_conf("other", "[Provisioning]\nIdScope=!\n")
    result = gateway.dpsctl("reload")
    assert result.code == 1 and f"{path}:2" in result.err


def test_cat_config_names_each_file_and_hides_secrets(gateway):
    assign(gateway)
    directory = gateway.configuration / "gateway.conf.d"
    directory.mkdir()
    (directory / "10-splay.conf").write_text("[Provisioning]\nSplay=7min\n")
    result = gateway.dpsctl("cat-config", "gateway")
    assert result.code == 0 and "gateway.conf" in result.out and "10-splay.conf" in result.out and "7min" in result.out
    assert (gateway.credentials / "gateway.key").read_text().strip() not in result.out


def test_every_error_id_that_the_daemon_shows_is_explained(gateway, emulator):
    fail(gateway, emulator, "gateway")
    gateway.start()
    properties = gateway.wait_for(State="failed")
    result = gateway.dpsctl("explain", properties["LastErrorId"])
    assert result.code == 0 and "enrollment" in result.out


def test_redacted_output_of_the_real_daemon_shows_no_private_value(gateway):
    properties = assign(gateway, registration_id="sn-4711")
    shown = gateway.dpsctl("--redact", "status", "gateway").out + gateway.dpsctl("--redact", "--json=short", "status").out
    assert "assigned" in shown
    assert not [key for key in ("IdScope", "RegistrationId", "AssignedHub", "DeviceId") if properties[key] in shown]


def test_redacted_errors_of_the_real_daemon_show_no_private_value(gateway):
    assign(gateway)
    gateway.write_conf("other", "[Provisioning]\nIdScope=0neMINE!\nRegistrationId=bad/id\n")
    reloaded = gateway.dpsctl("--redact", "reload").err
    status = gateway.dpsctl("--redact", "status", "other").out
    assert 'IdScope="value-1": ' in reloaded and 'RegistrationId="value-2": ' in reloaded
    assert 'IdScope="value-1": ' in status
    assert not [secret for secret in ("0neMINE", "bad/id") if secret in reloaded + status]


def test_check_finds_nothing_wrong_with_a_gateway_that_works_but_its_hub(gateway):
    """The emulator's hub has a name that nobody can resolve."""
    assign(gateway)
    result = gateway.dpsctl("--json=short", "check", "gateway")
    failed = [check["Check"] for check in json.loads(result.out)["checks"] if check["Result"] == "failed"]
    assert (failed, result.code) == (["hub"], 1), result.out + result.err
