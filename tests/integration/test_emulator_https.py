# SPDX-License-Identifier: MIT
"""The emulator's REST API does what that of DPS does, for clients that are not ours, on the same service as its MQTT."""
import json
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from emulator import ID_SCOPE, Emulator
from mqtt import Device, derive_key, token
from process import DEADLINE, clean_environment, eventually, program
from rest import API_VERSION, RestDevice, tls_context
from test_emulator import Authority

FACTORY = {"enrollmentGroupId": "factory",
           "attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}
PROFILES = "2026-11-02-preview"


@pytest.fixture
def key(emulator):
    return emulator.enroll("gw-1")


@pytest.fixture
def device(emulator, key):
    return RestDevice(emulator, "gw-1", key)


def assigned_over_mqtt(emulator, registration_id, key):
    device = Device(emulator, registration_id, key)
    body = device.provision().body
    device.close()
    return body["registrationState"]


# Start


def test_the_ready_line_tells_the_port_that_was_free(emulator):
    assert emulator.ready["httpsPort"] not in (0, emulator.ready["port"])


def test_the_printed_conf_has_the_port(emulator, key):
    emulator.stop()
    emulator.start()
    emulator.wait_for_log(f" HttpsPort={emulator.https_port}$")


def test_a_port_in_use_is_an_error_if_it_was_asked_for(emulator, tmp_path):
    done = subprocess.run([program("dps-emulator"), f"--state={tmp_path / 'other'}", "--port=0",
                           f"--https-port={emulator.https_port}"], env=clean_environment(tmp_path), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert f"HTTPS front: 127.0.0.1 port {emulator.https_port}: Address already in use" in done.stderr


def test_without_port_443_mqtt_goes_on(tmp_path):
    emulator = Emulator(tmp_path)
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 443))
            taken.listen()
        except OSError:
            pass  # then the emulator may not have it either
        emulator.spawn(f"--state={emulator.state}", "--port=0")
        line = emulator.out.wait_for(lambda lines: lines[:1], DEADLINE, "the ready line")[0]
    assert "httpsPort" not in json.loads(line)
    emulator.wait_for_log("no HTTPS front: 127.0.0.1 port 443: .*; --https-port= chooses another port")
    assert "HttpsPort" not in emulator.log
    emulator.stop()


def test_a_wrong_port_is_a_usage_error(tmp_path):
    done = subprocess.run([program("dps-emulator"), "--https-port=65536"], env=clean_environment(tmp_path),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 2
    assert "--https-port=65536: must be a number from 0 to 65535" in done.stderr


# Requests


def test_a_register_is_accepted_with_the_headers_of_dps(device, emulator):
    emulator.set("gw-1", assigningTime=60, retryAfter=7)
    answer = device.register()
    assert answer.status == 202
    assert answer.body["status"] == "assigning" and answer.body["operationId"]
    assert answer.headers["Retry-After"] == "7"
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["Location"] == f"https://127.0.0.1:{emulator.https_port}/{ID_SCOPE}/registrations/gw-1/register"
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.headers["x-ms-request-id"])


def test_a_registration_ends_with_an_assignment(device):
    answer = device.provision()
    assert answer.status == 200
    assert answer.body["registrationState"]["deviceId"] == "gw-1"
    assert answer.headers["Retry-After"] is None


def test_one_connection_serves_all_requests(device):
    device.connection.connect()
    before = device.connection.sock
    device.provision()
    device.lookup()
    assert device.connection.sock is before


def test_a_whole_answer_with_a_length_is_a_switch(device, emulator):
    emulator.set("*", **{"behaviour.chunked": False})
    answer = device.register()
    assert int(answer.headers["Content-Length"]) == len(answer.text)


def test_http_1_0_gets_its_answer(emulator, key):
    device = RestDevice(emulator, "gw-1", key)
    device.connection._http_vsn, device.connection._http_vsn_str = 10, "HTTP/1.0"
    assert device.register().status == 202


def test_a_client_that_waits_for_100_gets_it(emulator, key):
    with tls_context(emulator).wrap_socket(socket.create_connection(("127.0.0.1", emulator.https_port), DEADLINE),
                                           server_hostname="localhost") as s:
        s.sendall((f"PUT /{ID_SCOPE}/registrations/gw-1/register?api-version={API_VERSION} HTTP/1.1\r\nHost: localhost:443\r\n"
                   f"Authorization: {token(key, f'{ID_SCOPE}/registrations/gw-1')}\r\nContent-Type: application/json\r\n"
                   "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n").encode())
        assert s.recv(100).startswith(b"HTTP/1.1 100 ")
        s.sendall(b"{}")
        assert s.recv(100).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("headers", [{"Content-Encoding": "utf-8"}, {"UserAgent": "c"}, {"Host": "dps.example:443"}])
def test_odd_headers_of_clients_are_tolerated(device, headers):
    assert device.request("PUT", "/register", device.body, **headers).status == 202


@pytest.mark.parametrize("query", ["api-version=2019-03-31&forceRegistration=true", "x&forceRegistration=true&api-version=2019-03-31"])
def test_unknown_keys_of_the_query_are_ignored(device, query):
    device.api_version = None
    assert device.request("PUT", f"/register?{query}", device.body).status == 202


@pytest.mark.parametrize("method, path, allowed", [
    ("GET", "/register", "PUT"), ("POST", "/register", "PUT"), ("PUT", "/operations/1", "GET"), ("DELETE", "", "POST")])
def test_another_method_is_not_allowed(device, method, path, allowed):
    answer = device.request(method, path)
    assert (answer.status, answer.headers["Allow"], answer.body["errorCode"]) == (405, allowed, 405000)


@pytest.mark.parametrize("path", ["/registe", "/register/", "/operations", "/operations/", "/operations/1/2", "/"])
def test_other_paths_are_not_found(device, path):
    assert device.request("PUT", path, device.body).status == 404


def test_the_body_must_be_json_by_its_type(device):
    assert device.request("PUT", "/register", device.body, **{"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize("body, code", [('{"registrationId":"gw-2"}', 400000), ('{"payload":"text"}', 400000), ('{"payload":[1]}', 400000),
                                        ("{", 400012), ("[]", 400012), ("a", 400012)])
def test_a_wrong_body_is_a_bad_request(device, body, code):
    answer = device.register(body)
    assert (answer.status, answer.body["errorCode"]) == (400, code)


def test_an_error_has_a_document_and_headers_of_its_own(device):
    answer = device.register("{")
    assert sorted(answer.body) == ["errorCode", "message", "timestampUtc", "trackingId"]
    assert answer.headers["x-ms-request-id"] == answer.body["trackingId"]
    assert answer.headers["x-ms-error-code"] == "400012"


def test_the_api_version_must_be_there(device):
    device.api_version = None
    answer = device.register()
    assert (answer.status, answer.body["errorCode"]) == (400, 400004)


def test_a_refused_api_version_is_reported(device, emulator):
    emulator.set("*", **{"behaviour.refusedApiVersions": [API_VERSION]})
    answer = device.register()
    assert (answer.status, answer.body["errorCode"]) == (400, 400004)


def test_an_unknown_operation_is_not_found(device):
    device.register()
    assert device.poll("5.1.2").status == 404


def test_the_operation_of_another_device_is_not_found(device, emulator):
    operation = device.register().body["operationId"]
    assert RestDevice(emulator, "gw-2", emulator.enroll("gw-2")).poll(operation).status == 404


def test_a_device_without_enrollment_is_not_found(emulator):
    answer = RestDevice(emulator, "gw-9", "bm9ib2R5IGhhcyB0aGlzIGtleQ==").register()
    assert (answer.status, answer.body["errorCode"]) == (404, 404201)


def test_a_disabled_device_gets_200_and_no_operation(emulator):
    device = RestDevice(emulator, "gw-1", emulator.enroll("gw-1", provisioningStatus="disabled"))
    answer = device.register()
    assert (answer.status, answer.body["status"], answer.body["operationId"]) == (200, "disabled", "")


def test_a_csr_is_accepted_and_not_answered(emulator, key):
    device = RestDevice(emulator, "gw-1", key)
    device.body = json.dumps({"registrationId": "gw-1", "csr": "MIIB"})
    assert "issuedCertificateChain" not in device.provision().text


# Who asks


def test_every_request_must_be_authorized(device):
    operation = device.register().body["operationId"]
    del device.headers["Authorization"]
    for answer in device.poll(operation), device.lookup():
        assert (answer.status, answer.body["errorCode"]) == (401, 401000)


@pytest.mark.parametrize("where", ["register", "connect"])
def test_a_wrong_key_is_unauthorized(emulator, key, where):
    emulator.set("*", **{"behaviour.badSignature": where})
    answer = RestDevice(emulator, "gw-1", "bm9ib2R5IGhhcyB0aGlzIGtleQ==").register()
    assert (answer.status, answer.body["errorCode"]) == (401, 401000)


@pytest.mark.parametrize("encode", [lambda text: text, lambda text: text.replace("/", "%2F"), lambda text: text.replace("/", "%2f"),
                                    lambda text: text.upper().replace("/", "%2F")])
def test_the_resource_of_a_token_may_be_encoded_or_not(emulator, key, encode):
    password = token(key, f"{ID_SCOPE}/registrations/gw-1", encode=encode)
    # The signature and `sr` are made of the same text.
    assert RestDevice(emulator, "gw-1", password=password).register().status == 202


def test_the_token_of_another_device_is_refused(emulator, key):
    emulator.enroll("gw-2", key)
    password = token(key, f"{ID_SCOPE}/registrations/gw-2")
    assert RestDevice(emulator, "gw-1", password=password).register().status == 401


def test_another_scope_is_not_found(emulator, key):
    assert RestDevice(emulator, "gw-1", key, id_scope="0ne00FFFFFF").register().status == 404


def test_special_characters_of_an_id_are_decoded_once(emulator):
    group_key = emulator.enroll_group("line-1")
    device = RestDevice(emulator, "a.b_c:d", derive_key(group_key, "a.b_c:d"))
    assert "%3A" in device.path
    assert device.provision().body["registrationState"]["deviceId"] == "a.b_c:d"


@pytest.mark.parametrize("registration_id", ["a b", "gw.", "ä", "x" * 129])
def test_an_invalid_registration_id_is_refused(emulator, registration_id):
    group_key = emulator.enroll_group("line-1")
    assert RestDevice(emulator, registration_id, derive_key(group_key, registration_id)).register().status == 401


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_of_a_group_is_accepted(emulator, tls):
    emulator.add({"enrollmentGroups": [FACTORY]})
    device = RestDevice(emulator, "gw-3", certificate=emulator.certificate("gw-3"), tls=tls)
    state = device.provision().body["registrationState"]
    assert state["x509"] == {"enrollmentGroupId": "factory"}


def test_a_certificate_in_an_enrollment_is_accepted(emulator):
    certificate = emulator.certificate("gw-3")
    emulator.add({"individualEnrollments": [{"registrationId": "gw-3", "deviceId": "dev-3", "attestation": {
        "type": "x509", "x509": {"clientCertificates": {"primary": certificate[0].read_text()}}}}]})
    state = RestDevice(emulator, "gw-3", certificate=certificate).provision().body["registrationState"]
    assert (state["deviceId"], state["x509"]) == ("dev-3", {})


def test_the_intermediate_certificates_come_with_the_clients(emulator, tmp_path):
    root = Authority(tmp_path, "root")
    middle = Authority(tmp_path, "middle", root)
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "root", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": root.pem.read_text()}}}}]})
    whole, short = middle.leaf(tmp_path, "gw-5", middle), middle.leaf(tmp_path, "gw-6")
    assert RestDevice(emulator, "gw-5", certificate=whole).register().status == 202
    answer = RestDevice(emulator, "gw-6", certificate=short).register()
    assert (answer.status, answer.body["errorCode"]) == (401, 401002)


@pytest.mark.parametrize("where", ["connect", "register"])
def test_a_certificate_of_another_name_is_invalid(emulator, where):
    emulator.set("*", **{"behaviour.badCertificate": where})
    emulator.add({"enrollmentGroups": [FACTORY]})
    answer = RestDevice(emulator, "gw-4", certificate=emulator.certificate("gw-3")).register()
    assert (answer.status, answer.body["errorCode"]) == (401, 401002)


def test_tls_1_1_is_refused(emulator):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(emulator.ca_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python warns of old TLS versions
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(socket.create_connection(("127.0.0.1", emulator.https_port), DEADLINE), server_hostname="localhost")


# One service


def test_a_device_that_registered_over_mqtt_is_found_over_https(emulator, device, key):
    expected = assigned_over_mqtt(emulator, "gw-1", key)
    answer = device.lookup()
    assert answer.status == 200
    assert answer.body == expected


def test_an_operation_that_mqtt_began_is_polled_over_https(emulator, device, key):
    mqtt = Device(emulator, "gw-1", key)
    mqtt.subscribe()
    assert device.poll(mqtt.register().body["operationId"]).body["status"] == "assigned"


def test_a_lookup_before_any_registration_finds_nothing(device, emulator):
    answer = device.lookup()
    assert (answer.status, answer.body["errorCode"]) == (404, 404201)
    assert emulator.list()["registrations"] == []


def test_a_lookup_begins_no_registration(device):
    first = device.provision().body["registrationState"]
    assert device.lookup().body == device.lookup().body == first


def test_a_lookup_during_an_assignment_says_so(emulator):
    device = RestDevice(emulator, "gw-1", emulator.enroll("gw-1", assigningTime="forever"))
    device.register()
    answer = device.lookup()
    assert (answer.status, answer.body["status"], "assignedHub" in answer.body) == (200, "assigning", False)


def test_a_lookup_with_a_csr_is_a_bad_request(device):
    device.register()
    assert device.lookup('{"csr":"MIIB"}').status == 400


def test_both_fronts_share_the_quota_of_registrations(emulator, device, key):
    emulator.set("*", **{"quotas.registrationsPerMinute": 1})
    mqtt = Device(emulator, "gw-1", key)
    mqtt.subscribe()
    assert mqtt.register().status == 202
    answer = device.register()
    assert (answer.status, answer.body["errorCode"]) == (429, 429001)
    assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_both_fronts_share_the_quota_of_polls(emulator, device, key):
    emulator.set("*", **{"quotas.pollsPerTenSeconds": 1})
    operation = device.register().body["operationId"]
    mqtt = Device(emulator, "gw-1", key)
    mqtt.subscribe()
    assert mqtt.poll(operation).status == 200
    assert device.poll(operation).status == 429


def test_both_fronts_share_a_script(emulator, device, key):
    emulator.script("gw-1", "register:503", "register:500,retry-after=9")
    mqtt = Device(emulator, "gw-1", key)
    mqtt.subscribe()
    assert mqtt.register().status == 503
    answer = device.register()
    assert (answer.status, answer.headers["Retry-After"]) == (500, "9")


def test_the_log_has_both_fronts(emulator, device, key):
    assigned_over_mqtt(emulator, "gw-1", key)
    answer = device.lookup()
    entry = emulator.requests("lookup", "gw-1")[0]
    assert (entry["front"], entry["status"], entry["trackingId"]) == ("https", 200, answer.headers["x-ms-request-id"])
    assert "front" not in emulator.requests("register", "gw-1")[0]
    emulator.wait_for_log("gw-1 lookup https -> 200 assigned hub-[12].example")


def test_the_log_names_what_is_no_request_of_dps(emulator, device):
    device.request("GET", "/wrong")
    assert emulator.requests("http")[0]["status"] == 404


def test_a_registration_survives_a_change_of_the_hubs(emulator, device, key):
    first = device.provision().body["registrationState"]["assignedHub"]
    emulator.set("gw-1", iotHubs=["hub-9.example"])
    state = device.provision().body["registrationState"]
    assert first != state["assignedHub"] == "hub-9.example"
    assert state["substatus"] == "deviceDataMigrated"
    assert assigned_over_mqtt(emulator, "gw-1", key)["assignedHub"] == "hub-9.example"


# The profile of the hub


@pytest.mark.parametrize("word", ["classic", "mqttV5", "MqttV5", "other", "x" * 64, None])
def test_the_connection_profile_is_reported_as_it_was_enrolled(emulator, word):
    key = emulator.enroll("gw-1", connectionProfile=word)
    state = RestDevice(emulator, "gw-1", key, api_version=PROFILES).provision().body["registrationState"]
    assert state["connectionProfile"] == word


@pytest.mark.parametrize("api_version", ["2019-03-31", "2025-07-01-preview", "2026-11-01"])
def test_older_versions_have_no_connection_profile(emulator, api_version):
    key = emulator.enroll("gw-1", connectionProfile="mqttV5")
    assert "connectionProfile" not in RestDevice(emulator, "gw-1", key, api_version=api_version).provision().text


def test_without_a_setting_there_is_no_connection_profile(emulator, key):
    assert "connectionProfile" not in RestDevice(emulator, "gw-1", key, api_version=PROFILES).provision().text


def test_a_profile_belongs_to_a_hub_and_changes_with_it(emulator):
    emulator.set("*", connectionProfiles={"hub-2.example": "mqttV5"})
    key = emulator.enroll("gw-1", iotHubs=["hub-1.example"])
    device = RestDevice(emulator, "gw-1", key, api_version=PROFILES)
    assert "connectionProfile" not in device.provision().text
    emulator.set("gw-1", iotHubs=["hub-2.example"])
    assert device.provision().body["registrationState"]["connectionProfile"] == "mqttV5"


def test_mqtt_tells_the_connection_profile_too(emulator):
    key = emulator.enroll("gw-1", connectionProfile="mqttV5")
    device = Device(emulator, "gw-1", key, api_version=PROFILES)
    assert device.provision().body["registrationState"]["connectionProfile"] == "mqttV5"


# Misbehaviour on request


def test_a_scripted_answer_has_its_status_and_body(device, emulator):
    emulator.script("gw-1", "register:200,status=weird", "poll:503,body=<html>down, sorry</html>")
    assert device.register().body["status"] == "weird"
    answer = device.poll("5.1.2")
    assert (answer.status, answer.text) == (503, "<html>down, sorry</html>")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_an_empty_body_can_be_scripted(device, emulator):
    emulator.script("gw-1", "register:502,body=")
    answer = device.register()
    assert (answer.status, answer.text) == (502, "")


def test_a_retry_after_can_be_a_date(device, emulator):
    emulator.script("gw-1", "register:429,retry-after-date=90")
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", device.register().headers["Retry-After"])


def test_a_header_can_be_scripted(device, emulator):
    emulator.script("gw-1", "register:307,header=Location:https://elsewhere.example/,header=X-Other:1")
    answer = device.register()
    assert (answer.status, answer.headers["Location"], answer.headers["X-Other"]) == (307, "https://elsewhere.example/", "1")


def test_half_a_body_can_be_scripted(device, emulator):
    emulator.script("gw-1", "register:malformed")
    with pytest.raises(json.JSONDecodeError):
        assert device.register().body


def test_requests_are_lost_at_random(device, emulator):
    emulator.set("*", behaviour={"lostPercent": 100})
    with pytest.raises(OSError):
        device.register()


def test_a_dropped_request_gets_no_answer(device, emulator):
    emulator.script("gw-1", "register:drop")
    with pytest.raises((ConnectionError, ssl.SSLError)):
        device.register()
    assert device.register().status == 202


def test_a_delayed_answer_comes_later_and_holds_up_nobody(device, emulator):
    emulator.enroll("gw-2", "bm9ib2R5IGhhcyB0aGlzIGtleQ==")
    emulator.script("gw-1", "register:normal,delay=3")
    begin = time.monotonic()
    device.connection.request("PUT", f"{device.path}/register?api-version={API_VERSION}", body=device.body, headers=device.headers)
    emulator.wait_for_requests(1, "register", "gw-1")
    assert RestDevice(emulator, "gw-2", "bm9ib2R5IGhhcyB0aGlzIGtleQ==").register().status == 202
    is_answered = bool(select.select([device.connection.sock], [], [], 0)[0])
    assert not is_answered or time.monotonic() - begin >= 3
    assert device.connection.getresponse().status == 202
    assert [entry["registrationId"] for entry in emulator.requests("register")] == ["gw-1", "gw-2"]


def test_a_silent_request_gets_no_answer_and_the_client_may_leave(device, emulator):
    emulator.script("gw-1", "register:silent")
    device.connection.request("PUT", f"{device.path}/register?api-version={API_VERSION}", body=device.body, headers=device.headers)
    emulator.wait_for_requests(1, "register", "gw-1")
    device.connection.close()
    eventually(lambda: not connections(emulator), DEADLINE, "the end of the connection")


def test_a_lookup_can_be_scripted(device, emulator):
    device.provision()
    emulator.script("gw-1", "lookup:200,status=disabled", "lookup:429")
    assert device.lookup().body["status"] == "disabled"
    assert device.lookup().status == 429


def test_an_emulator_ends_while_it_is_silent(device, emulator):
    emulator.script("gw-1", "register:silent")
    device.connection.request("PUT", f"{device.path}/register?api-version={API_VERSION}", body=device.body, headers=device.headers)
    emulator.wait_for_requests(1, "register", "gw-1")
    emulator.stop()


# Limits. Whatever one client does, MQTT goes on.


def connections(emulator):
    """The connections to the HTTPS port that the emulator's side has not closed."""
    port, established = f":{emulator.https_port:04X}", ("01", "08")
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    return [row for row in rows if row[1].endswith(port) and row[3] in established]


def tls_socket(emulator):
    return tls_context(emulator).wrap_socket(socket.create_connection(("127.0.0.1", emulator.https_port), DEADLINE),
                                             server_hostname="localhost")


def ends(s):
    try:
        while s.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


def test_huge_headers_are_refused(emulator, key):
    with tls_socket(emulator) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        try:
            for _ in range(1000):
                s.sendall(b"X: " + 1000 * b"x" + b"\r\n")
            answer = s.recv(100)
        except (ConnectionError, ssl.SSLError):
            pass
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 413 ", b"HTTP/1.1 414 "))
    assert assigned_over_mqtt(emulator, "gw-1", key)


@pytest.mark.parametrize("headers", [{"Content-Length": str(1 << 20)}, {"Content-Length": str(1 << 80)}])
def test_a_huge_body_is_refused_before_it_comes(emulator, device, key, headers):
    device.connection.putrequest("PUT", f"{device.path}/register?api-version={API_VERSION}")
    for name, value in (device.headers | headers).items():
        device.connection.putheader(name, value)
    device.connection.endheaders()
    assert device.connection.getresponse().status in (400, 413)
    assert assigned_over_mqtt(emulator, "gw-1", key)


def test_a_huge_body_in_chunks_is_refused(device):
    device.connection.request("PUT", f"{device.path}/register?api-version={API_VERSION}", headers=device.headers,
                              body=(1000 * b" " for _ in range(400)), encode_chunked=True)
    assert device.connection.getresponse().status == 413


def test_a_slow_client_is_cut_off(emulator, key):
    emulator.set("*", **{"quotas.secondsPerRequest": 1})
    with tls_socket(emulator) as s, socket.create_connection(("127.0.0.1", emulator.https_port), DEADLINE) as mute:
        s.sendall(b"GET / HTTP/1.1\r\nHo")
        assert assigned_over_mqtt(emulator, "gw-1", key)
        assert ends(s)
        assert ends(mute)


def test_a_client_that_asks_while_slow_ones_are_looked_for_is_not_cut_off(emulator, key):
    """The look, each tenth of a second, may have to wait until a request is answered."""

    def ask(_):
        device = RestDevice(emulator, "gw-1", key)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert device.lookup().status == 404

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(8)))


def test_many_connections_leave_mqtt_alive(emulator, key):
    n = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    many = [socket.create_connection(("127.0.0.1", emulator.https_port), DEADLINE) for _ in range(n)]
    assert assigned_over_mqtt(emulator, "gw-1", key)
    for s in many:
        s.close()
    assert RestDevice(emulator, "gw-1", key).register().status == 202


def test_garbage_is_not_answered_and_harms_nobody(emulator, key):
    with tls_socket(emulator) as s:
        s.sendall(bytes(range(256)) + b"\r\n\r\n")
        assert ends(s)
    assert RestDevice(emulator, "gw-1", key).register().status == 202


# The article's recipes, as a reader types them. Only its typographic quotes and dashes are set right, and Python 2 is Python 3.

HOST = "global.azure-devices-provisioning.net"
GENERATE_SAS_TOKEN = """
    from base64 import b64encode, b64decode
    from hashlib import sha256
    from time import time
    from urllib.parse import quote_plus, urlencode
    from hmac import HMAC

    def generate_sas_token(uri, key, policy_name, expiry=3600):
        ttl = time() + expiry
        sign_key = "%s\\n%d" % ((quote_plus(uri)), int(ttl))
        signature = b64encode(HMAC(b64decode(key), sign_key.encode(), sha256).digest())

        rawtoken = {
            'sr' :  uri,
            'sig': signature,
            'se' : str(int(ttl))
        }

        if policy_name is not None:
            rawtoken['skn'] = policy_name

        return 'SharedAccessSignature ' + urlencode(rawtoken)

    uri = '[resource_uri]'
    key = '[device_key]'
    expiry = 3600
    policy='registration'

    print(generate_sas_token(uri, key, policy, expiry))
"""
DERIVE_KEY = """
    keybytes=$(echo $KEY | base64 --decode | xxd -p -u -c 1000)
    echo -n $REG_ID | openssl sha256 -mac HMAC -macopt hexkey:$keybytes -binary | base64
"""
REGISTER = ("""curl -L -i -X PUT -H 'Content-Type: application/json' -H 'Content-Encoding:  utf-8' -H 'Authorization: [sas_token]' """
            """-d '{"registrationId": "[registration_id]"}' """
            f"""https://{HOST}/[dps_scope_id]/registrations/[registration_id]/register?api-version=2019-03-31""")
OPERATION = ("""curl -L -i -X GET -H 'Content-Type: application/json' -H 'Content-Encoding:  utf-8' -H 'Authorization: [sas_token]' """
             f"""https://{HOST}/[dps_scope_id]/registrations/[registration_id]/operations/[operation_id]?api-version=2019-03-31""")


class Reader:
    """Somebody who follows the article. Their ~/.curlrc leads to the emulator."""

    def __init__(self, directory):
        self.directory = directory
        self.emulator = Emulator(directory).start(f"--host={HOST}")
        (directory / ".curlrc").write_text(f"silent\nmax-time = {DEADLINE}\ncacert = \"{self.emulator.ca_file}\"\n"
                                           f"connect-to = \"{HOST}:443:127.0.0.1:{self.emulator.https_port}\"\n")

    def run(self, *command, **variables):
        done = subprocess.run(command, env=clean_environment(self.directory, HOME=self.directory, **variables), text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def derive(self, group_key, registration_id):
        return self.run("bash", "-c", DERIVE_KEY, KEY=group_key, REG_ID=registration_id)

    def fill(self, recipe, **values):
        for name, value in values.items():
            recipe = recipe.replace(f"[{name}]", value)
        return recipe

    def generate(self, key, registration_id):
        return self.run(sys.executable, "-c", textwrap.dedent(self.fill(
            GENERATE_SAS_TOKEN, resource_uri=f"{ID_SCOPE}/registrations/{registration_id}", device_key=key)))

    def curl(self, recipe, **values):
        """Returns the head of the answer and its body."""
        head, body = self.run("bash", "-c", self.fill(recipe, dps_scope_id=ID_SCOPE, **values)).split("\n\n", 1)
        return head, json.loads(body)

    def provision(self, key, registration_id):
        values = {"sas_token": self.generate(key, registration_id), "registration_id": registration_id}
        head, body = self.curl(REGISTER, **values)
        assert head.startswith("HTTP/1.1 202 ") and body["status"] == "assigning"
        head, body = self.curl(OPERATION, operation_id=body["operationId"], **values)
        assert head.startswith("HTTP/1.1 200 ")
        return body["registrationState"]


@pytest.fixture
def reader(tmp_path):
    reader = Reader(tmp_path)
    yield reader
    reader.emulator.stop()


def test_the_article_registers_a_device_with_its_own_key(reader):
    key = reader.emulator.enroll("dps-sym-key-test01", deviceId="other", iotHubs=["hub-1.example"])
    state = reader.provision(key, "dps-sym-key-test01")
    assert (state["status"], state["assignedHub"], state["deviceId"]) == ("assigned", "hub-1.example", "other")


def test_the_article_registers_a_device_of_a_group(reader):
    group_key = reader.emulator.enroll_group("dps-test-sym-group1")
    key = reader.derive(group_key, "dps-test-sym-device01")
    assert key == derive_key(group_key, "dps-test-sym-device01")
    state = reader.provision(key, "dps-test-sym-device01")
    assert (state["status"], state["symmetricKey"]) == ("assigned", {"enrollmentGroupId": "dps-test-sym-group1"})


def test_curl_registers_with_a_certificate(reader):
    reader.emulator.add({"enrollmentGroups": [FACTORY]})
    certificate, key = reader.emulator.certificate("gw-3")
    without_token = REGISTER.replace("-H 'Authorization: [sas_token]'", f"--cert {certificate} --key {key}")
    head, body = reader.curl(without_token, registration_id="gw-3")
    assert head.startswith("HTTP/1.1 202 ") and body["status"] == "assigning"
