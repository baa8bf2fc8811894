# SPDX-License-Identifier: MIT
"""The emulator does what DPS does: a device's side of each exchange is checked byte by byte."""
import base64
import json
import os
import re
import subprocess
from ssl import TLSVersion
from urllib.parse import quote

import pytest

from mqtt import PUBACK, PUBLISH, Closed, Device, Refused, Session, derive_key, token
from process import DEADLINE, clean_environment, program

OTHER_KEY = base64.b64encode(b"nobody has this key, it is wrong").decode()


@pytest.fixture
def key(emulator):
    return emulator.enroll("gw-1")


@pytest.fixture
def device(emulator, key):
    device = Device(emulator, "gw-1", key)
    device.subscribe()
    return device


def hub_session(emulator, hub, device_id, key, **more):
    return Session(emulator.port, str(emulator.ca_file), device_id, f"{hub}/{device_id}/?api-version=2021-04-12",
                   token(key, f"{hub}/devices/{device_id}", policy=None) if key else None, **more)


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A CA that the test makes: a root, or an intermediate CA signed by `above`."""

    def __init__(self, directory, name, above=None, days=30):
        self.pem, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        signer = ["-CA", above.pem, "-CAkey", above.key] if above else []
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-days", days, "-keyout", self.key, "-out", self.pem, *signer)

    def leaf(self, directory, name, *chain):
        """A device's certificate, followed by those of `chain`, and its key."""
        pem, key = directory / f"{name}.pem", directory / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:FALSE", "-CA", self.pem, "-CAkey", self.key, "-keyout", key,
                "-out", pem)
        with pem.open("a", encoding="ascii") as file:
            for above in chain:
                file.write(above.pem.read_text(encoding="ascii"))
        return pem, key


# The session


def test_ready_line_says_where_the_emulator_listens(emulator):
    assert emulator.ready["event"] == "ready"
    assert emulator.ready["host"] == "127.0.0.1"
    assert emulator.ready["idScope"] == "0ne00AABBCC"
    assert emulator.ready["caFile"] == str(emulator.ca_file)
    assert os.path.samefile(f"/proc/{emulator.ready['pid']}/cwd", emulator.state)


def test_state_directory_is_private(emulator):
    assert emulator.state.stat().st_mode & 0o777 == 0o700
    assert (emulator.state / "enrollments.json").stat().st_mode & 0o777 == 0o600


def test_a_directory_with_files_of_others_is_not_made_private(tmp_path):
    (tmp_path / "other").touch()
    tmp_path.chmod(0o1777)
    done = subprocess.run([program("dps-emulator"), "certificate", f"--state={tmp_path}", "gw-1"], cwd=tmp_path,
                          env=clean_environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert "other users can enter it, and it holds other files" in done.stderr
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_client_id_must_be_the_registration_id(emulator, key):
    with pytest.raises(Refused) as refused:
        Device(emulator, "gw-1", key, client_id="gw-2")
    assert refused.value.code == 5


def test_unknown_id_scope_is_refused(emulator, key):
    with pytest.raises(Refused):
        Device(emulator, "gw-1", key, id_scope="0ne00FFFFFF")


@pytest.mark.parametrize("registration_id", ["a b", "gw.", "ä", "x" * 129])
def test_an_invalid_registration_id_is_refused(emulator, registration_id):
    group_key = emulator.enroll_group("line-1")
    with pytest.raises(Refused):
        Device(emulator, registration_id, derive_key(group_key, registration_id))


def test_user_name_must_have_an_api_version(emulator, key):
    with pytest.raises(Refused):
        Session(emulator.port, str(emulator.ca_file), "gw-1", "0ne00AABBCC/registrations/gw-1/",
                token(key, "0ne00AABBCC/registrations/gw-1"))


def test_only_mqtt_3_1_1_is_accepted(emulator, key):
    with pytest.raises((Refused, Closed)):
        Device(emulator, "gw-1", key, level=3)


def test_no_session_is_kept(emulator, key):
    first = Device(emulator, "gw-1", key, clean=False)
    first.subscribe()
    first.send_register()
    first.socket.close()
    second = Device(emulator, "gw-1", key, clean=False)
    assert second.session_present == 0
    assert second.is_quiet()


def test_second_connection_drops_the_first(emulator, key):
    first = Device(emulator, "gw-1", key)
    Device(emulator, "gw-1", key)
    assert first.is_closed()


@pytest.mark.parametrize("topic", ["#", "$dps/#", "$dps/registrations/PUT/#", "$SYS/#", "devices/gw-1/#"])
def test_other_filters_are_refused(emulator, key, topic):
    assert Device(emulator, "gw-1", key).subscribe(topic) == 0x80


def test_qos_2_is_granted_as_1(emulator, key):
    assert Device(emulator, "gw-1", key).subscribe(qos=2) == 1


@pytest.mark.parametrize("qos", [0, 1])
def test_answers_come_at_the_granted_qos(emulator, key, qos):
    device = Device(emulator, "gw-1", key)
    device.subscribe(qos=qos)
    device.register()
    assert device.qos == qos


def test_puback_comes_before_the_answer(device):
    device.register(qos=1)
    assert device.log[-2:] == [PUBACK, PUBLISH]


@pytest.mark.parametrize("forbidden", [{"topic": "somewhere/else"}, {"qos": 2}, {"retain": True}], ids=["topic", "qos 2", "retain"])
def test_a_forbidden_publish_closes_the_connection(device, forbidden):
    device.publish(**{"topic": "$dps/registrations/PUT/iotdps-register/?$rid=1"} | forbidden)
    assert device.is_closed()


def test_will_closes_the_connection_or_is_ignored(emulator, key):
    with pytest.raises(Closed):
        Device(emulator, "gw-1", key, will="somewhere/else")
    assert Device(emulator, "gw-1", key).provision().status == 200
    emulator.ctl("set", "*", "behaviour.will=ignore")
    assert Device(emulator, "gw-1", key, will="somewhere/else").provision().status == 200


def test_a_publish_to_a_foreign_topic_can_be_ignored_instead(emulator, device):
    emulator.ctl("set", "*", "behaviour.foreignTopic=ignore")
    device.publish("somewhere/else")
    assert device.register().status == 202


def test_foreign_filter_and_missing_rid_can_close_the_connection(emulator, key, device):
    emulator.ctl("set", "*", "behaviour.foreignFilter=close", "behaviour.missingRid=close")
    device.publish("$dps/registrations/PUT/iotdps-register/")
    assert device.is_closed()
    with pytest.raises(Closed):
        Device(emulator, "gw-1", key).subscribe("$dps/#")


def test_a_device_that_has_not_subscribed_gets_no_answer(emulator, key):
    device = Device(emulator, "gw-1", key)
    device.send_register()
    assert device.is_quiet()
    assert emulator.wait_for_requests(1, "register")[0]["status"] == 202


def test_request_without_rid_gets_no_answer(device):
    device.publish("$dps/registrations/PUT/iotdps-register/")
    assert device.is_quiet()


# Register and poll


def test_registration_ends_with_an_assignment(device):
    accepted = device.register()
    assert accepted.topic == "$dps/registrations/res/202/?$rid=1&retry-after=0"
    assert accepted.body["status"] == "assigning"
    assert re.fullmatch(r"5\.[0-9a-f]{16}\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", accepted.body["operationId"])

    done = device.poll(accepted.body["operationId"])
    assert done.topic == "$dps/registrations/res/200/?$rid=2"
    assert done.body["operationId"] == accepted.body["operationId"]
    state = done.body["registrationState"]
    assert done.body["status"] == state["status"] == "assigned"
    assert state["registrationId"] == state["deviceId"] == "gw-1"
    assert state["assignedHub"] in ("hub-1.example", "hub-2.example")
    assert state["substatus"] == "initialAssignment"
    assert state["symmetricKey"] == {}
    for name in ("createdDateTimeUtc", "lastUpdatedDateTimeUtc"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", state[name])
    assert re.fullmatch(rb'"[0-9a-f-]{36}"', base64.b64decode(state["etag"]))


@pytest.mark.parametrize("body", ["", '{"registrationId":"gw-1"}', '{"payload":{"a":1}}', '{"registrationId":"GW-1"}'])
def test_bodies_of_all_sdks_are_accepted(device, body):
    assert device.register(body).status == 202


@pytest.mark.parametrize("body", ["{", "[]", "nonsense", '{"registrationId":"gw-2"}'])
def test_bad_body_is_400(device, body):
    assert device.register(body).status == 400


@pytest.mark.parametrize("body", [" ", "", '{"registrationId":"gw-1"}'])
def test_body_of_a_poll_does_not_matter(device, body):
    operation_id = device.register().body["operationId"]
    assert device.poll(operation_id, body).status == 200


def test_body_of_a_poll_that_is_no_json_is_a_bad_request(device):
    answer = device.poll(device.register().body["operationId"], "{")
    assert (answer.status, answer.body["errorCode"]) == (400, 400012)


def test_rid_is_echoed_byte_for_byte(device):
    device.publish("$dps/registrations/PUT/iotdps-register/?$rid=aB-%20x", "")
    assert device.answer().topic.startswith("$dps/registrations/res/202/?$rid=aB-%20x&")


def test_operation_continues_in_a_new_session(emulator, key, device):
    operation_id = device.register().body["operationId"]
    device.socket.close()
    again = Device(emulator, "gw-1", key)
    again.subscribe()
    assert again.poll(operation_id).body["status"] == "assigned"


def test_operation_of_another_device_is_404(emulator, device):
    operation_id = device.register().body["operationId"]
    other = Device(emulator, "gw-2", emulator.enroll("gw-2"))
    other.subscribe()
    other.register()
    assert other.poll(operation_id).status == 404
    assert other.poll("5.0.0").status == 404


def test_assigning_lasts_for_the_assigning_time(emulator, device):
    emulator.set("gw-1", assigningTime="forever", retryAfter=4)
    answer = device.register()
    assert answer.params["retry-after"] == "4"
    assert device.poll(answer.body["operationId"]).status == 202


def test_assigned_at_once_and_unassigned_first(emulator, device):
    emulator.ctl("set", "*", "behaviour.unassignedFirst=true")
    assert device.register().body["status"] == "unassigned"
    emulator.ctl("set", "*", "behaviour.assignAtOnce=true")
    answer = device.register()
    assert (answer.status, answer.body["status"]) == (200, "assigned")


def test_error_document_has_all_members(emulator, device):
    emulator.ctl("remove", "gw-1")
    answer = device.register()
    assert answer.topic == "$dps/registrations/res/404/?$rid=1"
    assert answer.body["errorCode"] == 404201
    assert set(answer.body) == {"errorCode", "trackingId", "message", "timestampUtc"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.body["trackingId"])


def test_disabled_is_a_200_without_operation(emulator, device):
    emulator.set("gw-1", provisioningStatus="disabled")
    answer = device.register()
    assert (answer.status, answer.body["status"], answer.body["operationId"]) == (200, "disabled", "")


@pytest.mark.parametrize("failure", [{"errorCode": 400207, "errorMessage": '{"inner":"document"}'}, {"errorCode": 401002},
                                     {"errorCode": 400209, "deviceId": "press-7"}])
def test_failed_operation_is_a_200(emulator, device, failure):
    emulator.set("gw-1", failure=failure)
    answer = device.poll(device.register().body["operationId"])
    assert (answer.status, answer.body["status"]) == (200, "failed")
    state = answer.body["registrationState"]
    assert {name: state[name] for name in failure} == failure
    assert ("errorMessage" in state, "deviceId" in state) == ("errorMessage" in failure, "deviceId" in failure)
    assert "assignedHub" not in state


def test_no_hub_is_a_failure(emulator, device):
    emulator.set("*", hubs=[])
    answer = device.poll(device.register().body["operationId"])
    assert answer.body["registrationState"]["errorCode"] == 400208


def test_api_version_can_be_refused(emulator, device):
    emulator.ctl("set", "*", "behaviour.refusedApiVersions=2019-03-31,2021-06-01")
    answer = device.register()
    assert (answer.status, answer.body["errorCode"]) == (400, 400004)
    assert answer.body["message"] == "Unsupported API version 2019-03-31."


def test_sixth_poll_in_ten_seconds_is_throttled(emulator, device):
    emulator.set("gw-1", assigningTime="forever")
    operation_id = device.register().body["operationId"]
    assert [device.poll(operation_id).status for _ in range(6)] == [202] * 5 + [429]


def test_quota_of_registrations_is_for_all_devices(emulator, device):
    emulator.ctl("set", "*", "quotas.registrationsPerMinute=2")
    other = Device(emulator, "gw-2", emulator.enroll("gw-2"))
    other.subscribe()
    assert device.register().status == other.register().status == 202
    answer = other.register()
    assert answer.status == 429
    assert 1 <= int(answer.params["retry-after"]) <= 60


def test_concurrent_register_can_conflict(emulator, device):
    emulator.ctl("set", "*", "behaviour.conflict=true", "assigningTime=forever")
    device.register()
    assert device.register().body["errorCode"] == 409203


@pytest.mark.parametrize("length", [65, 129])
def test_operation_ids_can_be_long(emulator, device, length):
    emulator.set("*", assigningTime=0, behaviour={"operationIdLength": length})
    operation = device.register().body["operationId"]
    assert len(operation) == length
    assert device.poll(operation).body["status"] == "assigned"


@pytest.mark.parametrize("step", ["connect", "subscribe", "register"])
def test_connections_can_be_lost_at_every_step(emulator, key, step):
    device = Device(emulator, "gw-1", key) if step != "connect" else None
    if step == "register":
        device.subscribe()
    emulator.set("*", behaviour={"lostPercent": 100})
    with pytest.raises(Closed):
        {"connect": lambda: Device(emulator, "gw-1", key), "subscribe": lambda: device.subscribe(),
         "register": lambda: device.register()}[step]()


def test_connections_are_lost_at_random(emulator, key):
    def is_lost():
        try:
            Device(emulator, "gw-1", key)
        except Closed:
            return True
        return False

    emulator.set("*", behaviour={"lostPercent": 50})
    assert {is_lost() for _ in range(60)} == {True, False}
    emulator.set("*", behaviour={})
    assert not any(is_lost() for _ in range(20))


@pytest.mark.parametrize("body", ["{", "[]", "text"])
def test_the_body_must_be_a_json_object(device, body):
    answer = device.register(body)
    assert (answer.status, answer.body["errorCode"]) == (400, 400012)


@pytest.mark.parametrize("payload", ["text", [1], 7])
def test_the_payload_of_a_device_must_be_an_object(device, payload):
    answer = device.register(json.dumps({"payload": payload}))
    assert (answer.status, answer.body["errorCode"]) == (400, 400000)


@pytest.mark.parametrize("payload", [{"a": [1, None]}, [1], "text", "x" * 90000], ids=["object", "array", "string", "90 kB"])
def test_payload_is_in_the_answer(emulator, device, payload):
    emulator.set("gw-1", payload=json.dumps(payload))
    answer = device.poll(device.register().body["operationId"])
    assert answer.body["registrationState"]["payload"] == payload


def test_extra_members(emulator, device):
    emulator.ctl("set", "*", "behaviour.extraMembers=true")
    state = device.poll(device.register().body["operationId"]).body["registrationState"]
    assert state["trustBundle"] is None
    assert "notInAnyDocument" in state


# Moving


@pytest.mark.parametrize("policy, hub, substatus", [
    ({}, "hub-9.example", "deviceDataMigrated"),
    ({"updateHubAssignment": True, "migrateDeviceData": False}, "hub-9.example", "deviceDataReset"),
    ({"updateHubAssignment": False}, "hub-1.example", "initialAssignment"),
], ids=["migrate", "reset", "never"])
def test_move_follows_the_policy(emulator, policy, hub, substatus):
    key = emulator.enroll("gw-1", iotHubs=["hub-1.example"], reprovisionPolicy=policy)
    before = Device(emulator, "gw-1", key).provision().body["registrationState"]
    emulator.set("gw-1", iotHubs="hub-9.example")
    after = Device(emulator, "gw-1", key).provision().body["registrationState"]
    assert (after["assignedHub"], after["substatus"]) == (hub, substatus)
    assert after["createdDateTimeUtc"] == before["createdDateTimeUtc"]
    assert (after["etag"] == before["etag"]) == (hub == before["assignedHub"])


def test_registering_again_gives_the_same_assignment(emulator, key):
    first, second = (Device(emulator, "gw-1", key).provision().body["registrationState"] for _ in range(2))
    assert first == second


def test_device_id_may_differ(emulator):
    key = emulator.enroll("gw-1", deviceId="press-7")
    state = Device(emulator, "gw-1", key).provision().body["registrationState"]
    assert (state["registrationId"], state["deviceId"]) == ("gw-1", "press-7")


def test_ids_are_compared_without_case_and_echoed_as_enrolled(emulator):
    key = emulator.enroll("Plant-A")
    state = Device(emulator, "plant-a", key).provision().body["registrationState"]
    assert state["registrationId"] == "Plant-A"


def test_devices_of_a_group_are_spread_over_the_hubs(emulator):
    group_key = emulator.enroll_group("line-1")
    hubs = {Device(emulator, f"n-{i}", derive_key(group_key, f"n-{i}")).provision().body["registrationState"]["assignedHub"]
            for i in range(16)}
    assert hubs == {"hub-1.example", "hub-2.example"}


# Tokens


@pytest.mark.parametrize("encode", [lambda text: quote(text, safe=""), lambda text: text.replace("/", "%2f"), lambda text: text,
                                    lambda text: quote(text.lower(), safe="")], ids=["%2F", "%2f", "raw", "lower case"])
def test_token_is_accepted_in_every_encoding(emulator, key, encode):
    password = token(key, "0ne00AABBCC/registrations/gw-1", encode=encode)
    assert Device(emulator, "gw-1", password=password).provision().status == 200


def test_parameters_of_a_token_may_come_in_any_order(emulator, key):
    prefix, parameters = token(key, "0ne00AABBCC/registrations/gw-1").split(" ")
    password = f"{prefix} {'&'.join(reversed(parameters.split('&')))}"
    assert Device(emulator, "gw-1", password=password).provision().status == 200


def test_secondary_key_is_accepted(emulator):
    emulator.add({"individualEnrollments": [{"registrationId": "gw-1", "attestation": {
        "type": "symmetricKey", "symmetricKey": {"primaryKey": derive_key(OTHER_KEY, "a"), "secondaryKey": OTHER_KEY}}}]})
    assert Device(emulator, "gw-1", OTHER_KEY).provision().status == 200


def test_derived_key_of_a_group_is_accepted(emulator):
    group_key = emulator.enroll_group("line-1")
    state = Device(emulator, "Plant:A_01.gw", derive_key(group_key, "Plant:A_01.gw")).provision().body["registrationState"]
    assert state["symmetricKey"] == {"enrollmentGroupId": "line-1"}
    assert state["registrationId"] == "Plant:A_01.gw"


def test_individual_enrollment_takes_precedence_over_a_group(emulator, key):
    group_key = emulator.enroll_group("line-1")
    assert Device(emulator, "gw-1", derive_key(group_key, "gw-1")).provision().status == 401
    assert Device(emulator, "gw-1", key).provision().status == 200


@pytest.mark.parametrize("wrong", ["another key", "the group's own key", "another resource", "expired", "no token"])
def test_wrong_token_is_refused_at_register(emulator, wrong):
    group_key = emulator.enroll_group("line-1")
    good, resource = derive_key(group_key, "gw-1"), "0ne00AABBCC/registrations/gw-1"
    password = {
        "another key": token(OTHER_KEY, resource), "the group's own key": token(group_key, resource),
        "another resource": token(good, "0ne00AABBCC/registrations/gw-2"),
        "expired": token(good, resource, lifetime=-301), "no token": "secret",
    }[wrong]
    answer = Device(emulator, "gw-1", password=password).provision()
    assert (answer.status, answer.body["errorCode"]) == (401, 401000)
    assert emulator.requests("connect")[-1]["reason"]

    emulator.ctl("set", "*", "behaviour.badSignature=connect")
    with pytest.raises(Refused) as refused:
        Device(emulator, "gw-1", password=password)
    assert refused.value.code == 5


def test_expired_token_is_accepted_within_the_clock_tolerance(emulator, key):
    assert Device(emulator, "gw-1", key, lifetime=-200).provision().status == 200
    emulator.ctl("set", "*", "behaviour.clockTolerance=0")
    assert Device(emulator, "gw-1", key, lifetime=-200).provision().status == 401


def test_login_without_token_and_certificate_is_refused(emulator, key):
    with pytest.raises(Refused):
        Device(emulator, "gw-1")


# Certificates


def enroll_x509_group(emulator, group_id, authority):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": group_id, "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": str(authority)}}}}]})


@pytest.mark.parametrize("tls", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
def test_certificate_of_the_device_ca_is_accepted(emulator, tls):
    enroll_x509_group(emulator, "factory", "device-ca")
    certificate = emulator.certificate("gw-1")
    state = Device(emulator, "gw-1", certificate=certificate, tls=tls).provision().body["registrationState"]
    assert state["x509"] == {"enrollmentGroupId": "factory"}


def test_common_name_must_be_the_registration_id(emulator):
    enroll_x509_group(emulator, "factory", "device-ca")
    with pytest.raises(Refused) as refused:
        Device(emulator, "gw-2", certificate=emulator.certificate("gw-1"))
    assert refused.value.code == 5


def test_certificate_of_an_unknown_ca_is_refused_at_connect(emulator, tmp_path):
    enroll_x509_group(emulator, "factory", "device-ca")
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(Refused) as refused:
        Device(emulator, "gw-1", certificate=stranger.leaf(tmp_path, "gw-1"))
    assert refused.value.code == 5


def test_a_bad_certificate_is_refused_at_register_by_a_switch(emulator):
    emulator.set("*", **{"behaviour.badCertificate": "register"})
    device = Device(emulator, "gw-4", certificate=emulator.certificate("gw-4"))
    device.subscribe()
    answer = device.register()
    assert (answer.status, answer.body["errorCode"]) == (401, 401002)


def test_chain_must_reach_the_enrolled_certificate(emulator, tmp_path):
    root = Authority(tmp_path, "root")
    line = Authority(tmp_path, "line", above=root)
    enroll_x509_group(emulator, "factory", root.pem)
    with pytest.raises(Refused) as refused:
        Device(emulator, "gw-1", certificate=line.leaf(tmp_path, "gw-1"))
    assert refused.value.code == 5
    assert Device(emulator, "gw-2", certificate=line.leaf(tmp_path, "gw-2", line)).provision().status == 200


def test_group_with_the_shortest_chain_is_chosen_even_if_disabled(emulator, tmp_path):
    root = Authority(tmp_path, "root")
    line = Authority(tmp_path, "line", above=root)
    enroll_x509_group(emulator, "all", root.pem)
    enroll_x509_group(emulator, "line", line.pem)
    emulator.set("line", provisioningStatus="disabled")
    assert Device(emulator, "gw-1", certificate=line.leaf(tmp_path, "gw-1", line)).provision().body["status"] == "disabled"


def test_individual_enrollment_accepts_its_own_certificate_only(emulator, tmp_path):
    own = Authority(tmp_path, "gw-1")
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path, "ca").leaf(tmp_path / "other", "gw-1")
    emulator.add({"individualEnrollments": [{"registrationId": "gw-1", "attestation": {
        "type": "x509", "x509": {"clientCertificates": {"primary": own.pem.read_text(encoding="ascii")}}}}]})
    assert Device(emulator, "gw-1", certificate=(own.pem, own.key)).provision().body["registrationState"]["x509"] == {}
    with pytest.raises(Refused):
        Device(emulator, "gw-1", certificate=other)


def test_both_kinds_of_devices_use_one_port(emulator, key):
    enroll_x509_group(emulator, "factory", "device-ca")
    assert Device(emulator, "gw-1", key).provision().status == 200
    assert Device(emulator, "gw-2", certificate=emulator.certificate("gw-2")).provision().status == 200


# Scripts and other commands of an operator


def test_scripted_answers_come_in_order_and_then_the_normal_one(emulator, device):
    emulator.script("gw-1", "429,retry-after=7", "register:503,body=", "register:401,code=401002")
    first, second, third, fourth = (device.register() for _ in range(4))
    assert (first.status, first.params["retry-after"], first.body["errorCode"]) == (429, "7", 429000)
    assert (second.status, second.text) == (503, "")
    assert (third.status, third.body["errorCode"]) == (401, 401002)
    assert fourth.status == 202


def test_script_waits_for_its_step(emulator, device):
    emulator.script("*", "poll:500,retry-after=1", "poll:202,status=flabbergasted", "poll:200,code=400209")
    operation_id = device.register().body["operationId"]
    assert device.poll(operation_id).params["retry-after"] == "1"
    assert device.poll(operation_id).body["status"] == "flabbergasted"
    assert device.poll(operation_id).body["registrationState"]["errorCode"] == 400209


def test_script_ends_an_operation_that_would_last_forever(emulator, device):
    emulator.set("gw-1", assigningTime="forever")
    emulator.script("gw-1", "register:200", "poll:200")
    at_once = device.register()
    later = device.poll(device.register().body["operationId"])
    assert at_once.body["status"] == later.body["status"] == "assigned"
    assert at_once.body["operationId"] != later.body["operationId"]


def test_script_can_be_cleared(emulator, device):
    emulator.script("gw-1", "500")
    emulator.clear_script("gw-1")
    assert device.register().status == 202


def test_script_drops_the_connection(emulator, device):
    emulator.script("gw-1", "drop")
    device.send_register()
    assert device.is_closed()


def test_script_leaves_a_request_unanswered(emulator, device):
    emulator.script("gw-1", "silent")
    device.send_register()
    assert device.is_quiet()
    assert device.register().params["$rid"] == "2"


def test_script_refuses_a_subscribe(emulator, key):
    emulator.script("gw-1", "subscribe:refuse", "subscribe:drop")
    assert Device(emulator, "gw-1", key).subscribe() == 0x80
    with pytest.raises(Closed):
        Device(emulator, "gw-1", key).subscribe()
    assert Device(emulator, "gw-1", key).provision().status == 200


def test_script_refuses_at_connect(emulator, key):
    emulator.script("gw-1", "connect:refuse", "connect:drop")
    with pytest.raises(Refused) as refused:
        Device(emulator, "gw-1", key)
    assert refused.value.code == 5
    with pytest.raises(Closed):
        Device(emulator, "gw-1", key)
    assert Device(emulator, "gw-1", key).provision().status == 200


def test_script_changes_answers(emulator, device):
    emulator.script("gw-1", "malformed", "duplicate", "foreign-rid")
    with pytest.raises(json.JSONDecodeError):
        _ = device.register().body
    assert device.register().topic == device.answer().topic
    foreign, right = device.register(), device.answer()
    assert foreign.params["$rid"] != "3"
    assert (right.params["$rid"], right.status) == ("3", 202)


def test_script_delays_an_answer(emulator, device):
    emulator.script("gw-1", "normal,delay=1")
    device.send_register()
    device.send_register()
    assert [device.answer().params["$rid"] for _ in range(2)] == ["2", "1"]


def test_delayed_answer_is_dropped_when_its_session_ends(emulator, key, device):
    emulator.script("gw-1", "normal,delay=1.5", "normal,delay=2")
    device.send_register()
    emulator.wait_for_requests(1, "register")
    again = Device(emulator, "gw-1", key)
    again.subscribe()
    again.rid = 41
    assert again.register().params["$rid"] == "42"
    assert again.is_quiet()


def test_sessions_are_dropped(emulator, key, device):
    other = Device(emulator, "gw-2", emulator.enroll("gw-2"))
    emulator.drop("gw-1")
    assert device.is_closed()
    assert other.is_quiet()
    emulator.drop()
    assert other.is_closed()


@pytest.mark.parametrize("arguments, error", [
    (["set", "gw-1", "provisioningStatus=off"], "gw-1.provisioningStatus: must be one of enabled, disabled"),
    (["set", "gw-1", "provisoningStatus=disabled"], "gw-1.provisoningStatus: there is no such member"),
    (["set", "gw-7", "assigningTime=1"], "gw-7: no such enrollment"),
    (["set", "*", "behaviour.badSignature=never"], "behaviour.badSignature: must be one of register, connect"),
    (["script", "gw-1", "refuse"], "refuse is possible after connect: and subscribe: only"),
    (["script", "gw-1", "normal", "429,retry=1"], "retry: must be"),
    (["remove", "gw-7"], "gw-7: no such enrollment"),
    (["nonsense"], "ctl has no command 'nonsense'"),
])
def test_faulty_commands_change_nothing_and_say_why(emulator, key, arguments, error):
    with pytest.raises(AssertionError, match=re.escape(error)):
        emulator.ctl(*arguments)
    assert Device(emulator, "gw-1", key).provision().body["status"] == "assigned"


def test_a_command_that_ctl_does_not_have_is_a_usage_error(tmp_path):
    done = subprocess.run([program("dps-emulator"), "ctl", f"--state={tmp_path}/absent", "frob"], text=True, capture_output=True,
                          timeout=DEADLINE, check=False)
    assert done.returncode == 2 and "ctl has no command 'frob'" in done.stderr


def test_ctl_without_an_emulator_fails_and_creates_nothing(tmp_path):
    absent = tmp_path / "absent"
    done = subprocess.run([program("dps-emulator"), "ctl", f"--state={absent}", "list"], text=True, capture_output=True,
                          timeout=DEADLINE, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no emulator runs with the state directory {absent}" in done.stderr
    assert not absent.exists()


def test_changes_are_kept_over_a_restart(emulator, key):
    emulator.set("gw-1", iotHubs="hub-9.example")
    emulator.stop()
    emulator.start()
    assert Device(emulator, "gw-1", key).provision().body["registrationState"]["assignedHub"] == "hub-9.example"


def test_list_shows_registrations_and_sessions(emulator, key, device):
    device.provision()
    listed = emulator.list()
    assert [enrollment["registrationId"] for enrollment in listed["individualEnrollments"]] == ["gw-1"]
    assert listed["registrations"][0]["assignedHub"] in listed["hubs"]
    assert (listed["registrations"][0]["registers"], listed["registrations"][0]["polls"]) == (1, 1)
    assert listed["sessions"] == [{"registrationId": "gw-1", "subscribed": True}]


def test_log_has_a_line_for_each_event(emulator, key):
    device = Device(emulator, "gw-1", key)
    device.provision()
    device.close()
    emulator.wait_for_requests(1, "disconnect")
    assert [entry["event"] for entry in emulator.events("gw-1")] == [
        "connect", "subscribe", "register", "poll", "disconnect"]
    register, poll = emulator.requests("register")[0], emulator.requests("poll")[0]
    assert (register["status"], register["retryAfter"], register["rid"]) == (202, 0, "1")
    assert (poll["status"], poll["substatus"]) == (200, "initialAssignment")
    assert register["operationId"] == poll["operationId"]


def test_second_emulator_with_the_same_state_directory_fails(emulator):
    done = subprocess.run([program("dps-emulator"), f"--state={emulator.state}", "--port=0"], capture_output=True, text=True,
                          env=clean_environment(emulator.directory), timeout=20, check=False)
    assert done.returncode == 1
    assert "another emulator uses this state directory" in done.stderr
    assert done.stdout == ""


# The hub


def test_hub_accepts_the_assigned_device(emulator, key):
    hub = Device(emulator, "gw-1", key).provision().body["registrationState"]["assignedHub"]
    other = {"hub-1.example": "hub-2.example", "hub-2.example": "hub-1.example"}[hub]
    hub_session(emulator, hub, "gw-1", key)
    with pytest.raises(Refused):
        hub_session(emulator, other, "gw-1", key)
    with pytest.raises(Refused):
        hub_session(emulator, hub, "gw-1", OTHER_KEY)


def test_hub_accepts_a_device_of_a_group_by_its_derived_key(emulator):
    key = derive_key(emulator.enroll_group("line-1"), "Node-1")
    hub = Device(emulator, "Node-1", key).provision().body["registrationState"]["assignedHub"]
    hub_session(emulator, hub, "Node-1", key)


def test_hub_accepts_a_certificate(emulator):
    enroll_x509_group(emulator, "factory", "device-ca")
    certificate = emulator.certificate("gw-1")
    hub = Device(emulator, "gw-1", certificate=certificate).provision().body["registrationState"]["assignedHub"]
    hub_session(emulator, hub, "gw-1", None, certificate=certificate)


def test_message_to_a_hub_reaches_no_other_device(emulator):
    talker, listener = (hub_session(emulator, Device(emulator, name, key).provision().body["registrationState"]["assignedHub"],
                                    name, key) for name, key in [(n, emulator.enroll(n)) for n in ("gw-1", "gw-2")])
    assert listener.subscribe("$iothub/#") == 1
    talker.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", "{}", qos=1)
    talker.expect(PUBACK)
    assert listener.is_quiet()


def test_hub_refuses_a_device_that_never_registered(emulator, key):
    with pytest.raises(Refused) as refused:
        hub_session(emulator, "hub-1.example", "gw-1", key)
    assert refused.value.code == 5
    assert emulator.requests("hub-connect")[0]["status"] == 5
