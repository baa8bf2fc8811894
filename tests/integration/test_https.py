# SPDX-License-Identifier: MIT
"""Over HTTPS: the requests, what servers may answer, and which way Transport=auto takes."""
import json
import shutil
import socket
import time

import pytest

from certificates import Pki
from gateway import OWN_MODULES
from https_peer import ASSIGNED, ASSIGNING, OPERATION, HttpsPeer, chunked, message
from process import BUILD, DEADLINE, free_port
from proxies import HostileProxy, Http2Front
from tpm import modules

pytestmark = pytest.mark.skipif(not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl")
DENIED = {"errorCode": 401002, "trackingId": "8ad0463c-6427-4479-9dfa-3e8bb7003e9b", "message": "Unauthorized",
          "timestampUtc": "2999-01-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def module_directory(gateway):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path / "pki")


@pytest.fixture
def peer(pki):
    peer = HttpsPeer(pki)
    yield peer
    peer.close()


def use_https(gateway, port, **provisioning):
    return gateway.identity(provisioning={"Transport": "https", "HttpsPort": port} | provisioning)


def use_peer(gateway, peer, pki, **provisioning):
    return use_https(gateway, peer.port, CaFile=pki.ca_file, **provisioning)


# ---- the emulator ----


def log_in(gateway, emulator):
    connection = gateway.connection()
    return emulator.hub_connack(connection["clientId"], connection["username"], connection["password"])


def test_a_gateway_is_assigned(gateway, emulator):
    use_https(gateway, emulator.https_port)
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert properties["Transport"] == "https" and properties["Healthy"]
    assert len(emulator.requests("register")) == 1
    assert log_in(gateway, emulator) == 0


def test_a_device_of_a_group_is_assigned(gateway, emulator):
    gateway.identity(registration_id="gw.7:b_c", provisioning={"Transport": "https", "HttpsPort": emulator.https_port}, attestation={
        "Key": None, "GroupKey": gateway.write_key("group.key", emulator.enroll_group("line"))})
    gateway.start()
    assert gateway.wait_for(State="assigned")["RegistrationId"] == "gw.7:b_c"
    assert log_in(gateway, emulator) == 0


def test_a_device_with_a_certificate_is_assigned(gateway, emulator):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    certificate, key = emulator.certificate("gw-x509")
    gateway.identity(registration_id="gw-x509", method="x509", attestation={"Certificate": certificate, "PrivateKey": key},
                     provisioning={"Transport": "https", "HttpsPort": emulator.https_port})
    gateway.start()
    assert gateway.wait_for(State="assigned")["HubAuthentication"] == "x509"


def test_a_wrong_key_is_refused(gateway, emulator):
    emulator.enroll("gateway")
    gateway.identity(key="MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", provisioning={
        "Transport": "https", "HttpsPort": emulator.https_port})
    gateway.start()
    properties = gateway.wait_for(State="failed")
    assert (properties["LastErrorId"], properties["LastErrorStep"], properties["LastErrorCode"] // 1000) == ("auth", "register", 401)


def test_without_the_module_it_is_said_what_to_install(gateway, emulator):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = OWN_MODULES
    use_https(gateway, emulator.https_port)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"])
    assert properties["LastErrorId"] == "config" and "dps-https" in properties["LastError"], properties["LastError"]


# ---- the requests ----


def test_the_requests_are_those_of_the_rest_api(gateway, peer, pki):
    use_peer(gateway, peer, pki, RegistrationId="gw.1:a_b", Payload='{"site":"north"}')
    gateway.start()
    gateway.wait_for(State="assigned")
    register, poll = peer.requests
    assert (register.method, register.target) == ("PUT", "/0ne00AABBCC/registrations/gw.1%3Aa_b/register?api-version=2019-03-31")
    assert json.loads(register.body) == {"registrationId": "gw.1:a_b", "payload": {"site": "north"}}
    assert (poll.method, poll.target) == (
        "GET", f"/0ne00AABBCC/registrations/gw.1%3Aa_b/operations/{OPERATION}?api-version=2019-03-31")
    for request in peer.requests:
        assert request.headers["authorization"].startswith(
            "SharedAccessSignature sr=0ne00AABBCC%2Fregistrations%2Fgw.1%3Aa_b&sig=")
        assert request.headers["accept"] == "application/json"
        assert "dpsd" in request.headers["user-agent"] and "expect" not in request.headers
    assert register.headers["content-type"].startswith("application/json")
    assert peer.n_connections == 1


def test_a_connection_that_the_server_closes_between_requests_is_made_again(gateway, peer, pki):
    peer.closes_after_each = True
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert [request.method for request in peer.requests] == ["PUT", "GET"] and properties["Attempts"] == 0


def test_proxies_of_the_environment_are_not_for_libcurl_alone(gateway, peer, pki):
    gateway.surroundings |= {"all_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
    use_peer(gateway, peer, pki)
    gateway.start()
    gateway.wait_for(State="assigned")


# ---- answers that are right ----


def date(seconds):
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))


def says(*parts):
    """Sends the parts and closes."""
    def answer(connection):
        for part in parts:
            connection.sendall(part)
        connection.unwrap()
    return answer


def slowly(data, seconds):
    """Sends byte by byte, and closes."""
    def answer(connection):
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(seconds)
        connection.unwrap()
    return answer


@pytest.mark.parametrize("answer", [
    chunked(202, ASSIGNING, "Retry-After: 0"),
    message(202, ASSIGNING, "retry-after:0  ", "X-Other: " + "x" * 4000),
    b"HTTP/1.1 100 Continue\r\n\r\n" + message(202, ASSIGNING, "Retry-After: 0"),
    message(202, ASSIGNING, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"),
    message(202, ASSIGNING, "Retry-After: 0", version="HTTP/1.0"),
    says(b"HTTP/1.0 202 Accepted\r\nRetry-After: 0\r\n\r\n" + json.dumps(ASSIGNING).encode()),
    3 * b"HTTP/1.1 100 Continue\r\nX-More: y\r\n\r\n" + message(202, ASSIGNING, "Retry-After: 0"),
    message(202, ASSIGNING, "Retry-After: 0") + b"more than it said",
    slowly(message(202, ASSIGNING, "Retry-After: 0"), 0.02),
    message(200, ASSIGNED),
], ids=["chunked", "header-forms", "continue", "date-in-the-past", "http-1.0", "http-1.0-without-length", "continue-thrice", "longer-than-it-said",
        "byte-by-byte", "at-once"])
def test_a_right_answer_of_any_form_is_taken(gateway, peer, pki, answer):
    peer.answers = [answer]
    use_peer(gateway, peer, pki)
    gateway.start()
    assert gateway.wait_for(State="assigned")["Attempts"] == 0


def test_payloads_are_handed_through_byte_for_byte(gateway, peer, pki, tmp_path):
    """Numbers beyond 64 bits, -0, escapes and white space: a JSON library would change them."""
    sent = b'{ "n":98765432109876543210, "z" : -0,\n "s":"\\u0041\\/" }'
    given = '{ "n" : [98765432109876543210,-0,1.50], "s":"\\u0041\\/\\u0001" }'
    (tmp_path / "payload").write_bytes(sent + b"\n")
    state = json.dumps(ASSIGNED["registrationState"])[:-1] + f', "payload": {given}}}'
    peer.answers = [message(200, f'{{"operationId":"{OPERATION}","status":"assigned","registrationState":{state}}}'.encode())]
    use_peer(gateway, peer, pki, PayloadFile=tmp_path / "payload")
    gateway.start()
    gateway.wait_for(State="assigned")
    assert peer.requests[0].body.endswith(b'"payload":' + sent + b"}")
    read = gateway.call("gateway", "GetConnection")[0], gateway.dpsctl("connection", "gateway").out
    gateway.restart()
    gateway.wait_for(State="assigned")
    for text in (*read, gateway.files()["connection.json"], (gateway.state / "gateway.json").read_text()):
        assert text.count(given) == 2, text


def test_a_date_is_counted_from_the_servers_clock(gateway, peer, pki):
    """The server's clock is years ahead; it wants two hours."""
    peer.answers = [message(429, {"errorCode": 429001, "message": "slow down"}, "Retry-After: Fri, 01 Jan 2100 02:00:00 GMT",
                            "Date: Fri, 01 Jan 2100 00:00:00 GMT")]
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(LastErrorId="throttled")
    wait = properties["NextAttemptAt"] / 1e6 - time.time()
    assert 7200 - 60 < wait < 7200 * 1.2 + 60


def test_a_long_wait_is_spent_without_a_connection(gateway, peer, pki):
    peer.answers = [message(202, ASSIGNING, "Retry-After: 3600")]
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0)
    assert properties["State"] == "provisioning" and properties["Attempts"] == 0
    assert properties["NextAttemptAt"] / 1e6 - time.time() > 3600 - 60
    peer.wait_until_alone()


@pytest.mark.skipif(not shutil.which("nghttpx", path="/usr/sbin:/usr/bin"), reason="nghttpx is not installed")
def test_http_2_is_spoken_over_one_connection(gateway, peer, pki):
    peer.answers = [message(202, ASSIGNING, "Retry-After: 0")] * 2
    front = Http2Front(peer.port, pki.directory / "good.pem")
    use_https(gateway, front.port, CaFile=pki.ca_file)
    gateway.start()
    assert gateway.wait_for(State="assigned")["Attempts"] == 0
    asked = front.log
    front.close()
    assert [line.split()[:2] for line in asked.splitlines()] == [["h2", "PUT"], ["h2", "GET"], ["h2", "GET"]]


# ---- answers that are wrong ----


def cuts(*parts):
    """Sends the parts and closes the connection, without an end of TLS."""
    def answer(connection):
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_RDWR)
    return answer


def endless(part):
    def answer(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(part)
    return answer


def endless_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")


WHOLE = json.dumps(ASSIGNED).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

WRONG = {
    "redirect": (message(302, {}, "Location: https://127.0.0.1:1/"), "protocol", "redirect"),
    "redirect-for-ever": (message(308, {}, "Location: /"), "protocol", "redirect"),
    "not-modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n", "protocol", ""),
    "too-short": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"), "lost", "in the middle of the answer"),
    "longer-than-it-says": (HEAD % 20 + WHOLE, "protocol", ""),
    "two-lengths": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nContent-Length: 30\r\n\r\n" + WHOLE), "protocol", ""),
    "negative-length": (says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + WHOLE), "protocol", ""),
    "wrong-chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + WHOLE), "lost", "broken"),
    "cut-in-a-chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n" + WHOLE[:50]), "lost", "in the middle of the answer"),
    "cut-in-the-head": (says(b"HTTP/1.1 200 OK\r\nContent-Le"), "lost protocol", ""),
    "tls-cut-in-the-body": (cuts(HEAD % len(WHOLE) + WHOLE[:50]), "lost", ""),
    "http-1.0-cut": (cuts(b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE[:50]), "lost protocol", ""),
    "too-large": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", "protocol", "more data"),
    "endless-headers": (endless(b"X-More: " + b"y" * 1000 + b"\r\n"), "protocol", "more data"),
    "endless-header": (endless(b"y" * 1000), "protocol", "more data"),
    "endless-continue": (endless(b"\r\nHTTP/1.1 100 Continue\r\n"), "protocol", "more data"),
    "endless-body": (endless_body, "protocol", "more data"),
    "slow-body": (slowly(HEAD % len(WHOLE) + WHOLE, 0.5), "timeout", "does not answer"),
    "nothing": (says(), "lost", "instead of answering"),
    "garbage": (says(b"\x00\x01\x02garbage\r\n\r\n"), "protocol", "HTTP"),
    "mqtt": (says(b"\x20\x02\x00\x00"), "protocol", "HTTP"),
    "http-9": (says(b"HTTP/9.9 200 OK\r\n\r\n"), "protocol", "HTTP"),
    "no-json": (message(200, b"<html>It works!</html>"), "protocol", ""),
    "half-json": (message(200, b'{"operationId":'), "protocol", ""),
    "no-body": (message(200, b""), "protocol", ""),
    "no-content": (b"HTTP/1.1 204 No Content\r\n\r\n", "protocol", ""),
    "proxy-authentication": (message(407, b"", 'Proxy-Authenticate: Basic realm="evil"'), "request protocol proxy", ""),
    "service-error": (message(503, b"busy"), "service", ""),
    "service-error-and-a-wait": (message(503, b"busy", "Retry-After: 2"), "service", ""),
    "service-error-and-a-date": (message(500, b"busy", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"), "service", ""),
    "html-404": (message(404, b"<html>"), "enrollment-unknown", ""),
}


# A server may hang up between two requests: where a poll gets nothing, libcurl asks again on a new connection.
@pytest.mark.parametrize("name, step", [(name, step) for name in WRONG for step in ("register", "poll") if (name, step) != ("nothing", "poll")])
def test_a_wrong_answer_is_named_and_asked_again(gateway, peer, pki, name, step):
    answer, errors, text = WRONG[name]
    if (name, step) == ("html-404", "poll"):
        errors = "operation-lost"  # DPS has forgotten the operation, and is asked anew
    peer.answers = [message(202, ASSIGNING, "Retry-After: 0")] * (step == "poll") + [answer]
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"], timeout=2 * DEADLINE)
    assert properties["LastErrorId"] in errors.split() and properties["LastErrorStep"] == step, properties["LastError"]
    assert text in properties["LastError"] and properties["State"] in ("provisioning", "failed")
    if properties["State"] == "failed":
        return
    gateway.wait_for(State="assigned", timeout=2 * DEADLINE)
    assert len([request for request in peer.requests if request.method == "PUT"]) <= 2


@pytest.mark.parametrize("kind, error", [("expired", "tls-expired"), ("untrusted", "tls-untrusted"), ("wrong-host", "tls-name")])
def test_a_wrong_certificate_is_named(gateway, pki, kind, error):
    peer = HttpsPeer(pki, kind)
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"])
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == (error, "tls"), properties["LastError"]
    assert f":{peer.port}" in properties["LastError"] and not peer.requests
    peer.close()


def test_a_closed_port_is_named(gateway, emulator):
    port = free_port()
    use_https(gateway, port)
    gateway.start()
    properties = gateway.wait_for(LastErrorId="refused")
    assert properties["LastErrorStep"] == "connect" and f"127.0.0.1:{port}" in properties["LastError"]


def test_an_identity_is_retired_while_the_server_is_silent(gateway, emulator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        conf = use_https(gateway, server.getsockname()[1])
        gateway.start()
        connection, _ = server.accept()
        with connection:
            connection.recv(1)
            conf.unlink()
            gateway.reload()
            assert gateway.dpsctl("status").code == 0


def test_a_server_that_hangs_up_in_the_handshake_is_named(gateway, emulator):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        use_https(gateway, listener.getsockname()[1])
        gateway.start()
        connection, _ = listener.accept()
        connection.recv(1)
        connection.close()
        properties = gateway.wait_for(check=lambda p: p["LastErrorId"])
        assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("lost", "tls"), properties["LastError"]


@pytest.mark.parametrize("head", [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 99999999\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\nX-More: "], ids=["body", "head"])
def test_a_flood_of_a_proxy_is_cut_off(gateway, emulator, head):
    def flood(connection):
        try:
            connection.sendall(head)
            for _ in range(1024):
                connection.sendall((b"y" * 998 + b"\r\n") * 64)
        except OSError:
            return
        sent.append(None)

    sent = []
    proxy = HostileProxy(flood)
    use_https(gateway, emulator.https_port, Proxy=proxy.url)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"])
    proxy.close()
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("proxy", "connect"), properties["LastError"]
    assert not sent, properties["LastError"]


def test_many_large_answers_end_the_attempt(gateway, peer, pki):
    """Each is within the limit of an answer, but all together are more than an attempt may cost."""
    large = message(202, ASSIGNING | {"more": "x" * 120000}, "Retry-After: 0")
    peer.answers = [large] * 12
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"], timeout=3 * DEADLINE)
    assert "more data" in properties["LastError"], properties["LastError"]
    assert 6 < len(peer.requests) < 12


def test_no_keys_of_a_session_are_written_to_a_file(gateway, peer, pki, tmp_path):
    log = tmp_path / "keys"
    gateway.surroundings["SSLKEYLOGFILE"] = log
    use_peer(gateway, peer, pki)
    gateway.start()
    gateway.wait_for(State="assigned")
    assert not log.exists() or not log.read_bytes()


def test_a_name_without_an_address_is_named(gateway, emulator):
    use_https(gateway, 443, Endpoint="nowhere.invalid")
    gateway.start()
    properties = gateway.wait_for(LastErrorId="dns")
    assert properties["LastErrorStep"] == "resolve" and "nowhere.invalid" in properties["LastError"]


def test_401_is_final_when_the_clock_is_right(gateway, peer, pki):
    peer.answers = [message(401, DENIED)] * 8
    use_peer(gateway, peer, pki)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"])
    assert properties["LastErrorId"] in ("auth", "clock") and properties["LastErrorCode"] == 401002
    assert properties["LastTrackingId"] == DENIED["trackingId"]


# ---- several addresses ----


@pytest.fixture
def silent_port():
    """silent_port(port): drops what comes to 127.0.0.2, since nobody accepts and the queue is full."""
    sockets = []

    def listen(port):
        listener = socket.socket()
        sockets.append(listener)
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):
            sockets.append(socket.socket())
            sockets[-1].setblocking(False)
            sockets[-1].connect_ex(("127.0.0.2", port))

    yield listen
    for one in sockets:
        one.close()


def test_a_silent_address_is_given_up_for_the_next(gateway, peer, pki, silent_port):
    silent_port(peer.port)
    use_peer(gateway, peer, pki, Endpoint="127.0.0.1", Address=["127.0.0.2", "127.0.0.1"])
    gateway.start()
    assert gateway.wait_for(State="assigned")["Attempts"] == 0


def test_a_refused_address_is_given_up_for_the_next(gateway, peer, pki):
    use_peer(gateway, peer, pki, Endpoint="127.0.0.1", Address=["127.0.0.3", "127.0.0.1"])
    gateway.start()
    assert gateway.wait_for(State="assigned")["Attempts"] == 0


def test_of_several_failures_the_one_that_is_nearest_to_an_answer_is_reported(gateway, peer, silent_port):
    port = free_port()
    silent_port(port)
    use_https(gateway, port, Address=["127.0.0.3", "127.0.0.2", "127.0.0.4"])
    gateway.start()
    assert gateway.wait_for(check=lambda p: p["LastErrorId"])["LastErrorId"] == "refused"


# ---- Transport=auto ----


def use_auto(gateway, emulator, **provisioning):
    gateway.identity(provisioning={"HttpsPort": emulator.https_port} | provisioning)


def test_auto_uses_mqtt_where_it_can(gateway, emulator):
    use_auto(gateway, emulator)
    gateway.start()
    assert gateway.wait_for(State="assigned")["Transport"] == "mqtt"


def test_auto_falls_back_to_https_where_mqtt_is_blocked(gateway, emulator):
    use_auto(gateway, emulator, MqttPort=free_port())
    gateway.start()
    properties = gateway.wait_for(State="assigned", timeout=3 * DEADLINE)
    assert properties["Transport"] == "https"
    assert "trying https" in gateway.log
    assert len(emulator.requests("register")) == 1


def test_what_worked_is_remembered_over_a_restart(gateway, emulator):
    use_auto(gateway, emulator, MqttPort=free_port())
    gateway.start()
    gateway.wait_for(State="assigned", timeout=3 * DEADLINE)
    gateway.stop()
    remembered = gateway.remembered()
    assert remembered["transport"] == "https"
    at = remembered["transportAt"]
    gateway.start()
    assert gateway.wait_for(State="assigned")["Transport"] == "https"
    done = gateway.dpsctl("reprovision", "gateway", "--wait")
    assert done.code == 0, done  # by the first attempt: there was none over MQTT
    assert gateway.properties("gateway")["Transport"] == "https"
    gateway.stop()
    assert gateway.remembered()["transportAt"] == at  # or it would never be forgotten


def test_a_refusal_is_no_reason_to_change_the_way(gateway, emulator):
    emulator.enroll("gateway")
    gateway.identity(key="MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", provisioning={"HttpsPort": emulator.https_port})
    gateway.start()
    gateway.wait_for(State="failed")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    assert "trying https" not in gateway.log


def test_auto_without_the_module_stays_with_mqtt_and_says_so_once(gateway, emulator):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = OWN_MODULES
    port = free_port()
    use_auto(gateway, emulator, MqttPort=port)
    gateway.start()
    gateway.wait_for(check=lambda p: p["Attempts"] >= 2, timeout=2 * DEADLINE)
    gateway.dpsctl("reprovision", "gateway", "--wait")
    properties = gateway.wait_for(check=lambda p: p["Attempts"] >= 3, timeout=2 * DEADLINE)
    assert properties["LastErrorId"] == "refused" and f":{port}" in properties["LastError"]
    gateway.stop()
    assert gateway.whole_log().count("HTTPS is not installed") == 1


def test_a_change_of_the_configuration_is_not_told_as_a_failure(gateway, emulator):
    gateway.identity(provisioning={"Transport": "mqtt", "HttpsPort": emulator.https_port})
    gateway.start()
    gateway.wait_for(State="assigned", Transport="mqtt")
    gateway.identity(key=(gateway.credentials / "gateway.key").read_text().strip(), provisioning={
        "Transport": "https", "HttpsPort": emulator.https_port})
    gateway.reload()
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert gateway.properties("gateway")["Transport"] == "https"
    assert "cannot connect" not in gateway.whole_log()


@pytest.mark.parametrize("transport", ["mqtt", "https"])
def test_the_advice_for_a_closed_port_fits_the_transport(gateway, emulator, transport):
    port = free_port()
    use_https(gateway, port, Transport=transport, MqttPort=port)
    gateway.start()
    gateway.wait_for(LastErrorId="refused")
    advice = gateway.dpsctl("status", "gateway").out + gateway.whole_log()
    assert f":{port}" in advice and "check Endpoint= and its port" in advice
    assert "8883" not in advice and "MqttPort=" not in advice
