# SPDX-License-Identifier: MIT
"""The main job: from nothing to assigned, and what programs get from it."""
import base64
import hashlib
import hmac
import os
import stat
import subprocess

import pytest

from emulator import ID_SCOPE


def derive(group_key, registration_id):
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def test_a_gateway_goes_from_nothing_to_assigned(gateway, emulator):
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned")

    assert properties["AssignedHub"] in ("hub-1.example", "hub-2.example")
    assert properties["DeviceId"] == "gateway"
    assert properties["Substatus"] == "initialAssignment"
    assert properties["Healthy"] and properties["Waiting"] == ""
    assert properties["Generation"] == 1
    assert properties["AssignedAt"] <= properties["StateSince"] < properties["RenewAt"] < properties["TokenExpiresAt"]
    assert properties["NextAttemptAt"] == properties["RenewAt"]
    emulator.wait_for_requests(1, "disconnect")
    assert [entry["event"] for entry in emulator.events()] == ["connect", "subscribe", "register", "poll", "disconnect"]
    assert gateway.properties()["State"] == "ok"
    gateway.notify.wait_for_status("1 of 1 identities assigned")


def test_the_device_id_is_what_dps_says(gateway, emulator):
    key = emulator.enroll("gateway", deviceId="another-name")
    gateway.identity(key=key)
    gateway.start()
    assert gateway.wait_for(State="assigned")["DeviceId"] == "another-name"
    assert gateway.connection()["clientId"] == "another-name"


@pytest.mark.parametrize("device_id", ["press+7", "a#b;c", "-.%_*?!(),:=@$'"])
def test_a_device_id_may_have_all_characters_that_azure_allows(gateway, emulator, device_id):
    key = emulator.enroll("gateway", deviceId=device_id)
    gateway.identity(key=key)
    gateway.start()
    assert gateway.wait_for(State="assigned")["DeviceId"] == device_id
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0
    shell = f". {gateway.run}/gateway/hub.env && printf %s \"$IOTHUB_DEVICE_ID\""
    assert subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE, check=True).stdout.decode() == device_id
    assert ("wildcard" in gateway.whole_log()) == any(c in device_id for c in "+#")


def test_programs_get_files_that_agree_with_the_bus(gateway):
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    files, connection = gateway.files(), gateway.connection()

    assert sorted(files) == ["connection.json", "hub.env", "token"]
    assert connection["hub"] == properties["AssignedHub"]
    assert connection["generation"] == properties["Generation"]
    assert connection["password"] == files["token"].strip()
    assert connection["expiresAt"] == properties["TokenExpiresAt"]
    assert connection["registrationState"]["status"] == "assigned"
    assert f"IOTHUB_HOSTNAME={properties['AssignedHub']}\n" in files["hub.env"]
    assert stat.S_IMODE(os.stat(gateway.run / "gateway").st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in (gateway.run / "gateway").iterdir()} == {0o640}


def test_the_hub_accepts_the_token(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    connection = gateway.connection()

    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"][:-1]) == 5


def test_the_record_has_everything_and_no_secret(gateway, emulator):
    key = emulator.enroll("gateway")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(State="assigned")
    state = gateway.remembered()

    assert state["version"] == 1
    assert state["idScope"] == ID_SCOPE and state["registrationId"] == "gateway"
    assert state["endpoint"] == "127.0.0.1" and state["method"] == "symmetric-key"
    assert state["assignedHub"] == gateway.connection()["hub"] and state["generation"] == 1
    assert [t["state"] for t in state["transitions"]] == ["provisioning", "assigned"]
    assert stat.S_IMODE((gateway.state / "gateway.json").stat().st_mode) == 0o600
    text = (gateway.state / "gateway.json").read_text()
    assert key not in text and "SharedAccessSignature" not in text


def test_a_group_key_is_derived_in_the_daemon(gateway, emulator):
    group_key = emulator.enroll_group("line-1")
    reference = gateway.write_key("group.key", group_key)
    gateway.identity(registration_id="sn-1", attestation={"Key": None, "GroupKey": reference})
    gateway.start()
    gateway.wait_for(State="assigned")
    connection = gateway.connection()
    assert emulator.hub_connack("sn-1", connection["username"], connection["password"]) == 0
    log = gateway.whole_log()
    assert group_key not in log and derive(group_key, "sn-1") not in log


def test_the_second_key_is_tried_when_the_first_is_refused(gateway, emulator):
    good = gateway.write_key("good.key", emulator.enroll("gateway"))
    bad = gateway.write_key("bad.key", base64.b64encode(os.urandom(32)).decode())
    gateway.identity(attestation={"Key": [bad, good]})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert [r["status"] for r in emulator.requests("register")] == [401, 202]

    # Next time the key that worked is tried first.
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert [r["status"] for r in emulator.requests("register")] == [401, 202, 202]


def test_a_certificate_of_a_group_proves_who_it_is(gateway, emulator):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    certificate, key = emulator.certificate("gw-x509")
    os.chmod(key, 0o400)
    gateway.identity(registration_id="%{cert-cn}", method="x509",
                     attestation={"Certificate": certificate, "PrivateKey": key})
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    connection = gateway.connection()

    assert properties["RegistrationId"] == "gw-x509" and properties["AttestationMethod"] == "x509"
    assert properties["TokenExpiresAt"] == 0 and properties["RenewAt"] == 0
    assert properties["CertificateExpiresAt"] > properties["AssignedAt"]
    assert connection["auth"] == "x509" and "password" not in connection
    assert connection["keyFile"] == str(key)
    assert gateway.files()["cert.pem"] == certificate.read_text()
    assert "key.pem" not in gateway.files()


@pytest.mark.parametrize("length", [65, 129, 256])
def test_operation_ids_may_be_long(gateway, emulator, length):
    emulator.set("*", behaviour={"operationIdLength": length})
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    assert {len(r["operationId"]) for r in emulator.requests("poll")} == {length}


def test_the_name_of_a_hub_may_be_long(gateway, emulator):
    hub = ".".join(["a" * 60] * 4)
    emulator.set("*", hubs=[hub])
    gateway.identity()
    gateway.start()
    assert gateway.wait_for(State="assigned")["AssignedHub"] == hub


def test_where_every_connection_is_lost_the_next_one_is_tried(gateway, emulator):
    emulator.set("*", behaviour={"lostPercent": 100})
    gateway.identity()
    gateway.start()
    gateway.wait_for(LastErrorId="lost")
    emulator.set("*", behaviour={})
    gateway.wait_for(State="assigned")


def test_a_payload_goes_there_and_comes_back(gateway, emulator):
    key = emulator.enroll("gateway", payload={"zone": "north", "n": 7})
    gateway.identity(key=key, provisioning={"Payload": '{"site": "here"}'})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert gateway.connection()["payload"] == {"zone": "north", "n": 7}
    assert emulator.requests("register")[0]["payload"] == {"site": "here"}


def test_a_long_wait_is_spent_without_a_connection(gateway, emulator):
    key = emulator.enroll("gateway", assigningTime=600, retryAfter=60)
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "disconnect")
    assert [r["event"] for r in emulator.events()] == ["connect", "subscribe", "register", "disconnect"]
    properties = gateway.properties("gateway")
    assert properties["State"] == "provisioning" and properties["LastErrorId"] == ""
    assert properties["NextAttemptAt"] >= emulator.requests("register")[0]["time"] + 60_000_000


def test_many_identities_share_one_daemon(gateway, emulator):
    for k in range(20):
        gateway.identity(f"device-{k}")
    gateway.start()
    for k in range(20):
        assert gateway.wait_for(f"device-{k}", State="assigned")["DeviceId"] == f"device-{k}"
    manager = gateway.properties()
    assert (manager["State"], manager["NIdentities"], manager["NAssigned"]) == ("ok", 20, 20)
    assert len(emulator.requests("register")) == 20


def test_once_provisions_without_a_bus_and_exits(gateway, emulator):
    gateway.identity()
    result = gateway.run_once("--once", DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent")
    assert result.code == 0, result.err
    assert gateway.connection()["deviceId"] == "gateway"
    # The second time there is nothing to ask DPS.
    assert gateway.run_once("--once").code == 0
    assert len(emulator.requests("register")) == 1


def test_once_tells_failure_apart(gateway, emulator):
    gateway.identity()
    assert gateway.run_once("--once", "nobody").code == 4
    emulator.set("gateway", provisioningStatus="disabled")
    assert gateway.run_once("--once").code == 3
    emulator.stop()
    gateway.identity("other", key=base64.b64encode(bytes(32)).decode())
    assert gateway.run_once("--once", "--timeout=1", "other").code == 7


def test_without_a_configuration_the_daemon_says_so(gateway):
    gateway.start()
    assert gateway.notify.wait_for_status("no identity is configured")
    assert gateway.properties()["State"] == "idle"
    assert gateway.dpsctl("status").code == 0


def test_a_clean_stop_saves_the_attempts_and_the_next_time(gateway, emulator):
    gateway.identity()
    emulator.script("gateway", *["register:503"] * 3)
    gateway.start()
    gateway.wait_for(Attempts=1)
    for attempts in (2, 3):
        gateway.dpsctl("reprovision", "gateway")
        gateway.wait_for(Attempts=attempts)
    planned = gateway.properties("gateway")["NextAttemptAt"]
    gateway.stop()
    assert gateway.remembered()["attempts"] == 3
    assert abs(gateway.remembered()["nextAttemptAt"] - planned) < 1_000_000


def test_a_failing_renewal_continues_after_a_restart(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    emulator.script("gateway", "register:429,retry-after=600")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    planned = gateway.properties("gateway")["NextAttemptAt"]
    gateway.restart()
    properties = gateway.wait_for(State="assigned", Waiting="throttled")
    assert abs(properties["NextAttemptAt"] - planned) < 1_000_000
    assert properties["LastErrorId"] == "throttled" and not properties["Healthy"]
