# SPDX-License-Identifier: MIT
"""DPS refuses: which error is shown, when DPS is asked again, and that no assignment is lost."""
import base64
import os
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import Issuer, key_pem, name, pem
from emulator import Emulator

SEC = 1_000_000
FINAL_WAIT = (46 * SEC, 74 * SEC)  # a minute ± 20 %, and two seconds of tolerance
TRACKING_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def a_key():
    return base64.b64encode(os.urandom(32)).decode()


def error_of(properties):
    return tuple(properties[f"LastError{what}"] for what in ("Id", "Step", "Code"))


def assert_final(properties):
    """Somebody has to act, so DPS is not asked for about a minute."""
    assert (properties["State"], properties["Waiting"]) == ("failed", "retry")
    assert properties["Attempts"] == 1 and not properties["Healthy"]
    assert FINAL_WAIT[0] < properties["NextAttemptAt"] - properties["LastErrorAt"] < FINAL_WAIT[1]
    assert properties["FailingSince"] == properties["LastErrorAt"]
    assert properties["LastError"]


def start_and_fail(gateway, **key):
    gateway.identity(**key)
    gateway.start()
    properties = gateway.wait_for(State="failed")
    assert_final(properties)
    return properties


# ---- final answers ----


def test_a_refused_login_is_final(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "connect:refuse")
    properties = start_and_fail(gateway, key=key)
    assert error_of(properties) == ("auth", "login", 0)
    assert properties["LastTrackingId"] == ""


def test_a_key_refused_at_the_login_is_final(gateway, emulator):
    emulator.set("*", behaviour={"badSignature": "connect"})
    emulator.enroll("gateway")
    properties = start_and_fail(gateway, key=a_key())
    assert error_of(properties) == ("auth", "login", 0)


def test_a_key_refused_at_register_is_final_and_has_a_tracking_id(gateway, emulator):
    emulator.enroll("gateway")
    properties = start_and_fail(gateway, key=a_key())
    assert error_of(properties)[:2] == ("auth", "register")
    assert properties["LastErrorCode"] in (401000, 401002)
    assert re.fullmatch(TRACKING_ID, properties["LastTrackingId"])


@pytest.mark.parametrize("where, step, code", [("connect", "login", 0), ("register", "register", 401002)])
def test_a_refused_chain_without_its_intermediate_is_named(gateway, emulator, where, step, code):
    root = Issuer("root")
    line = Issuer("line 7", root)
    key = ec.generate_private_key(ec.SECP256R1())
    for file, content in [("root.pem", pem(root.certificate)), ("gw.key", key_pem(key)),
                          ("gw.pem", pem(line.sign(name("gateway"), key, [])))]:
        (gateway.directory / file).write_bytes(content)
        (gateway.directory / file).chmod(0o600)
    emulator.set("*", behaviour={"badCertificate": where})
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": str(gateway.directory / "root.pem")}}}}]})
    gateway.identity(method="x509", attestation={"Certificate": gateway.directory / "gw.pem",
                                                 "PrivateKey": gateway.directory / "gw.key"})
    gateway.start()
    properties = gateway.wait_for(State="failed")
    assert error_of(properties) == ("auth", step, code)
    assert 'Certificate= may lack the certificate of its issuer, "line 7"' in properties["LastError"]
    assert bool(properties["LastTrackingId"]) == (step == "register")
    with (gateway.directory / "gw.pem").open("ab") as file:
        file.write(pem(line.certificate))
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0


def test_a_disabled_enrollment_is_final(gateway, emulator):
    key = emulator.enroll("gateway", provisioningStatus="disabled")
    properties = start_and_fail(gateway, key=key)
    assert properties["LastErrorId"] == "enrollment-disabled"
    assert properties["LastErrorStep"] in ("register", "poll")


@pytest.mark.parametrize("code", [400207, 400208, 400209])
def test_a_failed_operation_is_final_and_says_why(gateway, emulator, code):
    key = emulator.enroll("gateway", failure={"errorCode": code, "errorMessage": "the webhook said no"})
    properties = start_and_fail(gateway, key=key)
    assert error_of(properties) == ("allocation", "poll", code)
    assert "the webhook said no" in properties["LastError"]


def test_a_failed_operation_with_a_device_id_assigns_nothing(gateway, emulator):
    key = emulator.enroll("gateway", failure={"errorCode": 400209, "deviceId": "press-7"})
    properties = start_and_fail(gateway, key=key)
    assert error_of(properties) == ("allocation", "poll", 400209)
    assert (properties["DeviceId"], properties["AssignedHub"]) == ("", "") and not gateway.files()


def test_a_failed_operation_without_a_message_still_has_an_error_text(gateway, emulator):
    key = emulator.enroll("gateway", failure={"errorCode": 400208})
    properties = start_and_fail(gateway, key=key)
    assert error_of(properties) == ("allocation", "poll", 400208)
    assert "no hub to assign" in properties["LastError"]


def test_an_unknown_enrollment_is_final(gateway):
    properties = start_and_fail(gateway, key=a_key())
    assert properties["LastErrorId"] == "enrollment-unknown"
    assert (properties["LastErrorStep"], properties["LastErrorCode"] // 1000) == ("register", 404)
    assert re.fullmatch(TRACKING_ID, properties["LastTrackingId"])


def test_a_refused_api_version_is_final_and_the_log_names_the_setting(gateway, emulator):
    emulator.set("*", behaviour={"refusedApiVersions": ["2019-03-31"]})
    properties = start_and_fail(gateway)
    assert error_of(properties) == ("api-version", "register", 400004)
    assert re.fullmatch(TRACKING_ID, properties["LastTrackingId"])
    gateway.wait_for_log("ApiVersion=")


def test_a_final_answer_is_not_asked_about_again_at_once(gateway, emulator):
    start_and_fail(gateway, key=a_key())
    assert len(emulator.requests("connect")) == 1
    gateway.notify.wait_for_status("0 of 1 identities assigned")


def test_a_final_answer_is_logged_once_with_advice(gateway, emulator):
    key = emulator.enroll("gateway", provisioningStatus="disabled")
    start_and_fail(gateway, key=key)
    line = gateway.wait_for_log("enrollment-disabled")
    assert "gateway" in line and "dpsctl reprovision" in line and "next try in" in line
    assert gateway.whole_log().count("enrollment-disabled") == 1


def test_a_request_finds_a_corrected_enrollment(gateway, emulator):
    key = emulator.enroll("gateway", provisioningStatus="disabled")
    start_and_fail(gateway, key=key)
    emulator.set("gateway", provisioningStatus="enabled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    properties = gateway.wait_for(State="assigned")
    assert error_of(properties) == ("", "", 0) and properties["LastError"] == "" and properties["LastTrackingId"] == ""
    assert properties["Attempts"] == 0 and properties["LastErrorAt"] == 0 and properties["FailingSince"] == 0
    assert properties["Healthy"]


def test_a_restart_does_not_shorten_the_wait(gateway, emulator):
    before = start_and_fail(gateway, key=a_key())
    gateway.restart()
    after = gateway.wait_for(State="failed", Waiting="retry")
    assert abs(after["NextAttemptAt"] - before["NextAttemptAt"]) < 2 * SEC
    assert after["Attempts"] == 1 and error_of(after) == error_of(before)
    assert after["LastTrackingId"] == before["LastTrackingId"]
    assert len(emulator.requests("connect")) == 1


def test_the_wait_after_a_final_answer_doubles(gateway, emulator):
    first = start_and_fail(gateway, key=a_key())
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    second = gateway.wait_for(State="failed", Waiting="retry", Attempts=2)
    assert 2 * FINAL_WAIT[0] < second["NextAttemptAt"] - second["LastErrorAt"] < 2 * FINAL_WAIT[1]
    assert second["FailingSince"] == first["FailingSince"]


# ---- errors that may pass ----


def test_an_unknown_status_word_is_a_failed_attempt(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "poll:200,status=pondering")
    gateway.identity(key=key)
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting="retry", Attempts=1)
    assert error_of(properties)[:2] == ("protocol", "poll")
    assert "pondering" in properties["LastError"]
    gateway.wait_for(State="assigned")


@pytest.mark.parametrize("request_name", ["register", "poll"])
@pytest.mark.parametrize("status, error_id, waiting", [(429, "throttled", "throttled"), (500, "service", "retry"),
                                                       (503, "service", "retry")])
def test_a_retry_after_is_honoured(gateway, emulator, request_name, status, error_id, waiting):
    key = emulator.enroll("gateway")
    emulator.script("gateway", f"{request_name}:{status},retry-after=4")
    gateway.identity(key=key)
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting=waiting)
    assert error_of(properties)[:2] == (error_id, request_name)
    assert properties["LastErrorCode"] // (1000 if properties["LastErrorCode"] > 999 else 1) == status
    assert properties["NextAttemptAt"] >= properties["LastErrorAt"] + 4 * SEC - SEC // 10

    gateway.wait_for(State="assigned")
    refused, repeated = emulator.requests(request_name)[:2]
    assert refused["status"] == status
    assert repeated["time"] >= refused["time"] + 4 * SEC


def test_an_operation_continues_after_an_error_of_the_service(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "poll:503,retry-after=1")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == 1
    assert len({poll["operationId"] for poll in emulator.requests("poll")}) == 1


def test_a_request_does_not_shorten_a_retry_after(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:429,retry-after=4")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(Waiting="throttled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    throttled, again = emulator.requests("register")
    assert again["time"] >= throttled["time"] + 4 * SEC


def test_an_operation_that_dps_has_lost_is_registered_again(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "poll:404")
    gateway.identity(key=key)
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting="retry")
    assert error_of(properties)[:2] == ("operation-lost", "poll")
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == 2


# ---- throttled scopes ----


def test_a_throttled_scope_pauses_its_other_identities(gateway, emulator):
    key = emulator.enroll("first")
    emulator.script("first", "register:429,retry-after=6")
    gateway.identity("first", key=key)
    gateway.start()
    gateway.wait_for("first", Waiting="throttled")
    gateway.identity("second")
    gateway.reload()
    properties = gateway.wait_for("second", Waiting="throttled", State="provisioning")
    assert properties["LastErrorId"] == ""

    gateway.wait_for("second", State="assigned")
    throttled = emulator.requests("register", "first")[0]
    assert emulator.requests("register", "second")[0]["time"] >= throttled["time"] + 6 * SEC
    assert emulator.requests("connect", "second")[0]["time"] >= throttled["time"] + 6 * SEC


def test_a_throttled_scope_does_not_pause_another_scope(gateway, emulator, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Emulator(tmp_path / "elsewhere")
    elsewhere.enrollments["idScope"] = "0ne00FFFFFF"
    other_key = elsewhere.enroll("other")
    elsewhere.start()
    try:
        key = emulator.enroll("first")
        emulator.script("first", "register:429,retry-after=600")
        gateway.identity("first", key=key)
        gateway.start()
        gateway.wait_for("first", Waiting="throttled")
        gateway.identity("other", key=other_key, provisioning={
            "IdScope": "0ne00FFFFFF", "MqttPort": elsewhere.port, "CaFile": elsewhere.ca_file})
        gateway.reload()
        gateway.wait_for("other", State="assigned")
        assert gateway.properties("first")["Waiting"] == "throttled"
        gateway.stop()
    finally:
        elsewhere.stop()


def test_a_throttled_poll_pauses_nobody_else(gateway, emulator):
    key = emulator.enroll("first")
    emulator.script("first", "poll:429,retry-after=600")
    gateway.identity("first", key=key)
    gateway.start()
    gateway.wait_for("first", Waiting="throttled")
    gateway.identity("second")
    gateway.reload()
    gateway.wait_for("second", State="assigned")
    assert gateway.properties("first")["Waiting"] == "throttled"


# ---- more than one key ----


def test_a_refusal_is_final_only_after_all_keys_were_tried(gateway, emulator):
    emulator.enroll("gateway")
    keys = [gateway.write_key(f"{n}.key", a_key()) for n in ("first", "second")]
    gateway.identity(attestation={"Key": keys})
    gateway.start()
    properties = gateway.wait_for(State="failed")
    assert_final(properties)
    assert [r["status"] for r in emulator.requests("register")] == [401, 401]


def test_the_second_key_is_tried_when_the_login_is_refused(gateway, emulator):
    emulator.set("*", behaviour={"badSignature": "connect"})
    good, bad = gateway.write_key("good.key", emulator.enroll("gateway")), gateway.write_key("bad.key", a_key())
    gateway.identity(attestation={"Key": [bad, good]})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert [r["status"] for r in emulator.requests("connect")] == [5, 0]


# ---- assignments that stay ----


def served(gateway):
    """The files for programs: content and inode, so that a replaced file is noticed."""
    directory = gateway.run / "gateway"
    return {path.name: (path.stat().st_ino, path.read_text()) for path in directory.iterdir()}


@pytest.mark.parametrize("refusal, error_id", [
    ({"provisioningStatus": "disabled"}, "enrollment-disabled"),
    ({"failure": {"errorCode": 400208, "errorMessage": "no hub"}}, "allocation"),
])
def test_a_refusal_takes_no_assignment_away(gateway, emulator, refusal, error_id):
    gateway.identity()
    gateway.start()
    assigned = gateway.wait_for(State="assigned")
    files = served(gateway)
    emulator.set("gateway", **refusal)

    result = gateway.dpsctl("reprovision", "gateway", "--wait")
    assert result.code == 1
    properties = gateway.wait_for(LastErrorId=error_id)
    assert properties["State"] == "assigned" and properties["Waiting"] == "retry" and not properties["Healthy"]
    for same in ("AssignedHub", "DeviceId", "Generation", "AssignedAt", "TokenExpiresAt"):
        assert properties[same] == assigned[same]
    assert served(gateway) == files
    assert gateway.remembered()["assignedHub"] == assigned["AssignedHub"]
    gateway.notify.wait_for_status("1 of 1 identities assigned")
    assert gateway.dpsctl("status", "gateway").code == 0
    assert gateway.dpsctl("status", "gateway", "--strict").code == 3


def test_a_removed_enrollment_takes_no_assignment_away_over_a_restart(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    token = gateway.files()["token"]
    emulator.ctl("remove", "gateway")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    gateway.restart()
    properties = gateway.wait_for(State="assigned")
    assert not properties["Healthy"] and properties["LastErrorId"]
    assert gateway.files()["token"] == token
