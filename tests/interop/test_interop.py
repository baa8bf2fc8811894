# SPDX-License-Identifier: MIT
"""Clients that we have not written register at the emulator: Microsoft's for Node.js, and Mosquitto's."""
import base64
import json
import os
import subprocess

import pytest

from emulator import ID_SCOPE
from process import DEADLINE, REPOSITORY, clean_environment, program

PAYLOAD = {"site": "north"}


def run(directory, *command, **environment):
    return subprocess.run([str(word) for word in command], env=clean_environment(directory, **environment), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * DEADLINE, check=False)


def write_key(directory, key):
    path = directory / "device.key"
    path.unlink(missing_ok=True)
    path.write_text(key + "\n", encoding="ascii")
    path.chmod(0o400)
    return path


def derive_key(directory, group_key, registration_id):
    done = run(directory, program("dpsctl"), "derive-key", registration_id, f"--key={write_key(directory, group_key)}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def a_key():
    return base64.b64encode(os.urandom(32)).decode()


# ---- Microsoft's client ----


class Node:
    def __init__(self, directory, emulator, way):
        self.directory = directory
        self.emulator = emulator
        self.way = way

    def register(self, registration_id, *arguments, id_scope=ID_SCOPE):
        done = run(self.directory, "node", REPOSITORY / "tests/interop/register.js", self.way,
                   f"localhost:{self.emulator.https_port if self.way == 'https' else self.emulator.port}", id_scope, registration_id, *arguments, NODE_PATH=os.environ["DPS_NODE_MODULES"], NODE_EXTRA_CA_CERTS=self.emulator.ca_file)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def register_by_key(self, registration_id, key, *arguments, **options):
        return self.register(registration_id, "key", write_key(self.directory, key), *arguments, **options)


@pytest.fixture(params=["mqtt", "https"])
def node(request, tmp_path, emulator):
    return Node(tmp_path, emulator, request.param)


def assert_assigned(result, device_id, hub):
    assert (result.get("status"), result.get("deviceId"), result.get("assignedHub")) == ("assigned", device_id, hub), result


def test_node_registers_with_a_key(node, emulator):
    key = emulator.enroll("gw-1", deviceId="dev-1", iotHubs=["hub-2.example"])
    assert_assigned(node.register_by_key("gw-1", key), "dev-1", "hub-2.example")


def test_node_registers_with_a_key_that_is_derived(node, emulator):
    group_key = emulator.enroll_group("line-1", iotHubs=["hub-1.example"])
    assert_assigned(node.register_by_key("gw-7", derive_key(node.directory, group_key, "gw-7")), "gw-7", "hub-1.example")


def test_node_registers_with_a_certificate(node, emulator):
    emulator.add({"enrollmentGroups": [{
        "enrollmentGroupId": "factory", "iotHubs": ["hub-1.example"],
        "attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    certificate, key = emulator.certificate("gw-3")
    assert_assigned(node.register("gw-3", "certificate", certificate, key), "gw-3", "hub-1.example")


def test_node_waits_for_an_assignment_as_it_is_told(node, emulator):
    key = emulator.enroll("gw-1", assigningTime=2, retryAfter=1, iotHubs=["hub-1.example"])
    assert_assigned(node.register_by_key("gw-1", key), "gw-1", "hub-1.example")
    assert [entry["status"] for entry in emulator.requests("register")] == [202]
    assert {entry["status"] for entry in emulator.requests("poll")[:-1]} == {202}


def test_node_gets_the_payload_of_the_enrollment_for_its_own(node, emulator):
    key = emulator.enroll("gw-1", payload={"answer": 42})
    assert node.register_by_key("gw-1", key, json.dumps(PAYLOAD))["payload"] == {"answer": 42}


ONLY_MQTT = pytest.mark.parametrize("node", ["mqtt"], indirect=True)
ONLY_HTTPS = pytest.mark.parametrize("node", ["https"], indirect=True)


@ONLY_MQTT
def test_node_continues_after_throttling_and_errors(node, emulator):
    key = emulator.enroll("gw-1", iotHubs=["hub-1.example"])
    emulator.script("gw-1", "register:429,retry-after=1", "poll:500,retry-after=1")
    assert_assigned(node.register_by_key("gw-1", key), "gw-1", "hub-1.example")
    assert [entry["status"] for entry in emulator.requests("register")] == [429, 202]
    assert [entry["status"] for entry in emulator.requests("poll")] == [500, 200]


@ONLY_HTTPS  # where it gives up, although its sources say otherwise
def test_node_understands_that_it_asked_too_often(node, emulator):
    key = emulator.enroll("gw-1")
    emulator.script("gw-1", "register:429,retry-after=1")
    assert node.register_by_key("gw-1", key)["error"] == "ThrottlingError"


def test_node_understands_that_its_key_is_refused(node, emulator):
    emulator.enroll("gw-1")
    result = node.register_by_key("gw-1", a_key())
    assert result["error"] == "UnauthorizedError"
    if node.way == "mqtt":  # over HTTPS it does not hand out the error document
        assert 401000 <= result["response"]["errorCode"] < 402000


def test_node_understands_that_it_is_disabled(node, emulator):
    key = emulator.enroll("gw-1", provisioningStatus="disabled")
    assert node.register_by_key("gw-1", key)["text"] == "status is disabled"


def test_node_understands_that_there_is_no_such_scope(node, emulator):
    key = emulator.enroll("gw-1")
    expected = {"mqtt": "Not authorized", "https": "Not found"}[node.way]
    assert expected in node.register_by_key("gw-1", key, id_scope="0ne00FFFFFF")["text"]


def test_node_asked_by_the_front_that_it_was_told(node, emulator):
    node.register_by_key("gw-1", emulator.enroll("gw-1"))
    assert {entry.get("front", "mqtt") for entry in emulator.requests("register")} == {node.way}


@ONLY_MQTT
def test_node_disconnects_cleanly(node, emulator):
    node.register_by_key("gw-1", emulator.enroll("gw-1"))
    emulator.wait_for_requests(1, "disconnect", "gw-1")
    assert emulator.list()["sessions"] == []


def test_node_and_dpsd_are_told_the_same(node, emulator, gateway):
    key = emulator.enroll("gw-1", deviceId="dev-1")
    gateway.identity("gateway", "gw-1", key=key)
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert_assigned(node.register_by_key("gw-1", key), properties["DeviceId"], properties["AssignedHub"])


# ---- Mosquitto's clients ----


class Mosquitto:
    """Each of its programs either publishes or subscribes in a connection, so the two halves are tested separately."""

    def __init__(self, directory, emulator):
        self.directory = directory
        self.emulator = emulator

    def connect(self, name, client_id, username, credentials, *arguments):
        return run(self.directory, name, "-V", "311", "-h", "localhost", "-p", self.emulator.port, "--cafile", self.emulator.ca_file,
                   "-i", client_id, "-u", username, "-q", "1", *credentials, *arguments)

    def register(self, registration_id, *credentials, id_scope=ID_SCOPE):
        return self.connect("mosquitto_pub", registration_id, f"{id_scope}/registrations/{registration_id}/api-version=2019-03-31",
                            credentials, "-t", "$dps/registrations/PUT/iotdps-register/?$rid=1",
                            "-m", json.dumps({"registrationId": registration_id}))

    def subscribe(self, registration_id, *credentials, topic="$dps/registrations/res/#"):
        return self.connect("mosquitto_sub", registration_id, f"{ID_SCOPE}/registrations/{registration_id}/api-version=2019-03-31",
                            credentials, "-E", "-t", topic)

    def publish_to_hub(self, connection, password):
        return self.connect("mosquitto_pub", connection["clientId"], connection["username"], ["-P", password],
                            "-t", f"devices/{connection['deviceId']}/messages/events/", "-m", "hello")


@pytest.fixture
def mosquitto(tmp_path, emulator):
    return Mosquitto(tmp_path, emulator)


def a_token(directory, key):
    done = run(directory, program("dpsctl"), "sas", f"--id-scope={ID_SCOPE}", "--registration-id=gw-1", f"--key={write_key(directory, key)}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def registered(emulator):
    return [registration["registrationId"] for registration in emulator.list()["registrations"]]


def test_mosquitto_registers_with_a_key(mosquitto, emulator, tmp_path):
    token = a_token(tmp_path, emulator.enroll("gw-1"))
    done = mosquitto.register("gw-1", "-P", token)
    assert done.returncode == 0, done.stderr
    assert registered(emulator) == ["gw-1"]


def test_mosquitto_registers_with_a_certificate(mosquitto, emulator):
    emulator.add({"enrollmentGroups": [{
        "enrollmentGroupId": "factory", "attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    certificate, key = emulator.certificate("gw-3")
    done = mosquitto.register("gw-3", "--cert", certificate, "--key", key)
    assert done.returncode == 0, done.stderr
    assert registered(emulator) == ["gw-3"]


def test_mosquitto_may_listen_to_answers_and_to_nothing_else(mosquitto, emulator, tmp_path):
    token = a_token(tmp_path, emulator.enroll("gw-1"))
    assert "denied" not in mosquitto.subscribe("gw-1", "-P", token).stderr
    assert "denied" in mosquitto.subscribe("gw-1", "-P", token, topic="$SYS/#").stderr
    assert [entry["status"] for entry in emulator.requests("subscribe")] == [1, 128]


def test_mosquitto_is_refused_with_another_scope(mosquitto, emulator, tmp_path):
    token = a_token(tmp_path, emulator.enroll("gw-1"))
    assert mosquitto.register("gw-1", "-P", token, id_scope="0ne00FFFFFF").returncode == 5


def test_the_hub_accepts_mosquitto_with_the_connection_from_dpsd(mosquitto, emulator, gateway):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    connection = gateway.connection()
    assert mosquitto.publish_to_hub(connection, connection["password"]).returncode == 0
    assert mosquitto.publish_to_hub(connection, connection["password"][:-1]).returncode == 5
