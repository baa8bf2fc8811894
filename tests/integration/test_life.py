# SPDX-License-Identifier: MIT
"""The life of an identity: its first assignment, and everything that happens to it later."""
import os
import re
import signal

from jeepney import DBusErrorResponse
import pytest

from emulator import SLOW
from gateway import IDENTITY


def test_a_gateway_is_assigned(gateway, emulator):
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert properties["AssignedHub"] in ("hub-1.example", "hub-2.example")
    assert properties["DeviceId"]
    assert properties["Healthy"] is True
    assert properties["Generation"] > 0
    assert len(emulator.requests("register")) == 1


def test_all_published_files_are_of_one_generation(gateway):
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    connection = gateway.connection()
    environment = dict(line.split("=", 1) for line in gateway.files()["hub.env"].splitlines())
    assert connection["generation"] == properties["Generation"] == int(environment["IOTHUB_GENERATION"])
    assert connection["hub"] == properties["AssignedHub"] == environment["IOTHUB_HOSTNAME"]
    assert connection["password"] == gateway.files()["token"].strip()


def test_a_derived_key_works_as_well(gateway, emulator):
    group_key = emulator.enroll_group("line-1")
    gateway.identity(registration_id="gw-7", attestation={
        "Key": None, "GroupKey": gateway.write_key("group.key", group_key)})
    gateway.start()
    assert gateway.wait_for(State="assigned")["RegistrationId"] == "gw-7"


def test_no_configuration_is_fine(gateway):
    gateway.start()
    assert gateway.properties()["State"] == "idle"
    assert gateway.dpsctl("status").code == 0


def test_a_restart_does_not_ask_dps(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    before = gateway.files()
    emulator.stop()
    n_requests = len(emulator.requests())
    gateway.restart()
    assert gateway.wait_for(State="assigned")["Healthy"] is True
    assert gateway.files() == before
    assert len(emulator.requests()) == n_requests


def test_a_restart_after_a_crash_does_not_ask_dps(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    before = gateway.files()
    gateway.kill()
    gateway.start()
    gateway.wait_for(State="assigned")
    assert gateway.files() == before
    assert len(emulator.requests("register")) == 1


def test_ready_does_not_wait_for_the_network(gateway, emulator):
    gateway.identity()
    emulator.stop()
    gateway.start()
    assert gateway.wait_for(check=lambda p: p["LastErrorId"] == "refused")["State"] == "provisioning"


def test_the_status_tells_the_truth(gateway, emulator):
    gateway.identity()
    emulator.stop()
    gateway.start()
    gateway.notify.wait_for_status("0 of 1 ")
    emulator.start()
    gateway.dpsctl("reprovision", "gateway", "--wait")
    gateway.notify.wait_for_status("1 of 1 ")


def test_a_request_finds_the_new_hub(gateway, emulator):
    gateway.identity("gateway", "moving", key=emulator.enroll("moving", iotHubs=["hub-1.example"]))
    gateway.start()
    before = gateway.wait_for(State="assigned", AssignedHub="hub-1.example")
    emulator.set("moving", iotHubs=["hub-2.example"])
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    after = gateway.properties("gateway")
    assert after["AssignedHub"] == gateway.connection()["hub"] == "hub-2.example"
    assert after["Generation"] > before["Generation"]


def test_a_failed_reprovision_takes_nothing_away(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    before = gateway.files()
    emulator.set("gateway", provisioningStatus="disabled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"] != "")
    assert (properties["State"], properties["Healthy"]) == ("assigned", False)
    assert gateway.files() == before


def test_a_disabled_enrollment_is_final_and_reported(gateway, emulator):
    gateway.identity()
    emulator.set("gateway", provisioningStatus="disabled")
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="retry")
    assert properties["LastErrorId"] == "enrollment-disabled"
    assert gateway.files() == {}


def test_a_lost_connection_resumes_the_operation(gateway, emulator):
    gateway.identity()
    emulator.set("gateway", **SLOW)
    gateway.start()
    emulator.wait_for_requests(1, "poll")
    emulator.drop("gateway")
    gateway.wait_for(LastErrorId="lost")
    emulator.assign("gateway")
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == 1


def test_a_changed_configuration_is_applied_by_reload(gateway):
    gateway.identity()
    gateway.start()
    since = gateway.wait_for(State="assigned")["StateSince"]
    gateway.identity("north")
    gateway.reload()
    gateway.wait_for("north", State="assigned")
    assert gateway.properties("gateway")["StateSince"] == since


def test_a_removed_configuration_retires_the_identity(gateway):
    conf = gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    conf.unlink()
    gateway.reload()
    with pytest.raises(DBusErrorResponse, match="NoSuchIdentity"):
        gateway.path("gateway")
    assert not (gateway.run / "gateway").exists()
    assert gateway.remembered()["assignedHub"]


def test_a_faulty_configuration_takes_nothing_away(gateway):
    conf = gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    conf.write_text("[Provisioning]\nIdScope=\nRegistrationId=not an id\n")
    gateway.process.send_signal(signal.SIGHUP)
    properties = gateway.wait_for(Waiting="config")
    assert properties["State"] == "assigned"
    gateway.wait_for_log(r"gateway\.conf:3")


def test_the_finished_reprovision_is_signalled(gateway):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    client = gateway.client()
    client.listen()
    path = gateway.path("gateway")
    job = client.call(path, IDENTITY, "Reprovision")[0]
    assert client.wait_for_signal("ReprovisionFinished") == (job, True, "")
    client.close()


def test_the_directory_of_an_identity_stays_the_same(gateway):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    inode = os.stat(gateway.run / "gateway").st_ino
    gateway.restart()
    gateway.wait_for(State="assigned")
    assert os.stat(gateway.run / "gateway").st_ino == inode


def test_a_second_daemon_on_the_same_state_directory_exits(gateway):
    gateway.start()
    other = gateway.run_once()
    assert other.code == 1
    assert str(gateway.pid) in other.err


def test_the_state_file_holds_no_secret(gateway):
    key = gateway.emulator.enroll("gateway")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert key not in gateway.whole_log()
    text = (gateway.state / "gateway.json").read_text()
    assert key not in text
    assert "SharedAccessSignature" not in text


def test_the_bus_may_appear_after_the_daemon(gateway, bus):
    gateway.identity()
    bus.stop()
    gateway.start()
    bus.start()
    assert gateway.wait_for(State="assigned")


def test_the_version_is_reported_on_the_bus(gateway):
    gateway.start()
    version = gateway.properties()["Version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", version)
    assert gateway.dpsctl("--version").out.split()[-1] == version
