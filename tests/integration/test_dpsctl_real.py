# SPDX-License-Identifier: MIT
"""dpsctl against the real daemon: each verb once, for what the two have to agree on."""
import json
import subprocess
import time

import pytest

from process import DEADLINE, clean_environment, program

SEC = 1_000_000


def assign(gateway, **options):
    gateway.identity(**options)
    gateway.start()
    return gateway.wait_for(State="assigned")


def fail(gateway, emulator, name):
    """An identity that DPS has refused for good."""
    gateway.identity(name, key=emulator.enroll(name, provisioningStatus="disabled"))


class Background:
    """dpsctl that runs on."""

    def __init__(self, gateway, *arguments):
        environment = clean_environment(gateway.directory, **gateway.environment())
        self.process = subprocess.Popen([program("dpsctl"), *arguments], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self):
        """Its exit status and what it said."""
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


def test_status_tells_why_one_is_not_assigned(gateway, emulator):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    result = gateway.dpsctl("status", "gateway")
    assert result.code == 3 and "enrollment-disabled" in result.out


def test_show_prints_the_property_asked_for(gateway):
    properties = assign(gateway)
    assert gateway.dpsctl("show", "gateway", "-p", "AssignedHub").out == f"AssignedHub={properties['AssignedHub']}\n"


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


def test_wait_is_7_when_the_time_is_up(gateway, emulator):
    gateway.identity(key=emulator.enroll("gateway", assigningTime=600, retryAfter=60))
    gateway.start()
    result = gateway.dpsctl("wait", "--timeout=1s")
    assert result.code == 7 and "gateway" in result.err


def test_wait_for_an_identity_that_is_not_required_is_not_done(gateway, emulator):
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


def test_token_is_one_that_the_hub_takes(gateway, emulator):
    assign(gateway)
    result = gateway.dpsctl("token", "gateway", "--lifetime=5min")
    assert result.code == 0
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], result.out.strip()) == 0
    expires_at = int(result.out.rsplit("&se=", 1)[1].split("&")[0])
    assert abs(expires_at - time.time() - 300) < DEADLINE


def test_connection_is_that_of_the_files(gateway):
    assign(gateway)
    assert gateway.dpsctl("connection", "gateway").json == gateway.connection()


@pytest.mark.parametrize("verb", ["token", "connection"])
def test_what_is_not_assigned_is_3(gateway, emulator, verb):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    assert gateway.dpsctl(verb, "gateway").code == 3


def test_history_has_the_way_there(gateway, emulator):
    fail(gateway, emulator, "gateway")
    gateway.start()
    gateway.wait_for(State="failed")
    emulator.set("gateway", provisioningStatus="enabled")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    shown = gateway.dpsctl("history", "gateway").out
    places = [shown.index(word) for word in ("provisioning", "failed", "disabled", "assigned")]
    assert places == sorted(places)


def test_history_lasts_over_a_restart(gateway):
    assign(gateway)
    before = gateway.dpsctl("history", "gateway").out
    gateway.restart()
    assert gateway.dpsctl("history", "gateway").out == before


def test_monitor_tells_an_assignment(gateway):
    gateway.start()
    monitor = Background(gateway, "monitor")
    try:
        gateway.identity()
        # It says nothing of when it listens; so it gets something to tell more than once.
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


def test_redacted_output_of_the_real_daemon_names_nobody(gateway):
    properties = assign(gateway, registration_id="sn-4711")
    shown = gateway.dpsctl("--redact", "status", "gateway").out + gateway.dpsctl("--redact", "--json=short", "status").out
    assert "assigned" in shown
    assert not [key for key in ("IdScope", "RegistrationId", "AssignedHub", "DeviceId") if properties[key] in shown]


def test_check_finds_nothing_wrong_with_a_gateway_that_works(gateway):
    assign(gateway)
    result = gateway.dpsctl("--json=short", "check", "gateway")
    assert result.code == 0, result.out + result.err
    json.loads(result.out)
