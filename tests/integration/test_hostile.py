# SPDX-License-Identifier: MIT
"""Whatever a peer does, the daemon says what is wrong, stays alive and tries again later."""
import json

import pytest

import peer


@pytest.fixture
def meet(gateway, tmp_path):
    """meet(behaviour, …): starts dpsd against a hostile peer; gives the properties after the first failure."""
    peers = []

    def begin(behaviour, trusted=True, tls=True, **certificate):
        path = peer.make_certificate(tmp_path, **certificate)
        peers.append(peer.Peer(behaviour, path if tls else None))
        ca_file = path if trusted else peer.make_certificate(tmp_path, name="other")
        gateway.identity(provisioning={"MqttPort": peers[0].port, "CaFile": ca_file})
        gateway.start()
        properties = gateway.wait_for(check=lambda p: p["LastErrorId"] != "")
        assert gateway.is_running()
        assert properties["NextAttemptAt"] > 0
        assert gateway.wait_for_log("^<[0-9]>gateway: ")
        return properties

    yield begin
    for one in peers:
        one.close()


def test_a_certificate_for_another_name_is_told(meet):
    assert meet(peer.hang_up, subject="dps.example")["LastErrorId"] == "tls-name"


def test_an_expired_certificate_is_told(meet):
    assert meet(peer.hang_up, begins_in_days=-30, ends_in_days=-1)["LastErrorId"] == "tls-expired"


def test_a_certificate_of_tomorrow_is_told(meet):
    assert meet(peer.hang_up, begins_in_days=2)["LastErrorId"] == "tls-expired"


def test_an_unknown_authority_is_told(meet):
    assert meet(peer.hang_up, trusted=False)["LastErrorId"] == "tls-untrusted"


def test_a_peer_without_tls_is_told(meet):
    properties = meet(lambda stream: stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), tls=False)
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("tls", "tls")


@pytest.mark.parametrize("code, error_id", [(1, "protocol"), (2, "protocol"), (3, "service"), (4, "auth"), (5, "auth")])
def test_a_refused_login_is_told(meet, code, error_id):
    properties = meet(peer.connack(code))
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == (error_id, "login")


@pytest.mark.parametrize("data", [b"", b"\x20", b"\x20\x02\x00", b"\x20\xff\xff\xff\xff\xff", b"HTTP/1.1 400 Bad Request\r\n\r\n"],
                         ids=["nothing", "a byte", "half a CONNACK", "an endless length", "HTTP"])
def test_a_login_that_breaks_off_is_a_failure(meet, data):
    assert meet(peer.send_after_connect(data))["LastErrorStep"] == "login"


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"{}", b'{"status":"wonderful"}',
                                  b'{"status":"assigned"}', b'{"status":"assigned","registrationState":{"assignedHub":7}}',
                                  b"[" * 60000],
                         ids=["empty", "null", "list", "half", "no text", "no status", "unknown status", "no state",
                              "a number as hub", "deep"])
def test_an_answer_that_makes_no_sense_is_a_failed_attempt(meet, body):
    properties = meet(peer.answer_with(200, body))
    assert properties["LastErrorId"] == "protocol"
    assert properties["State"] == "provisioning"


def test_a_hub_that_is_no_host_name_is_not_taken(meet, gateway):
    state = {"assignedHub": "hub\nEVIL=1", "deviceId": "dev", "status": "assigned"}
    body = json.dumps({"operationId": "1", "status": "assigned", "registrationState": state})
    assert meet(peer.answer_with(200, body.encode()))["LastErrorId"] == "protocol"
    assert gateway.files() == {}


def test_a_wait_of_years_is_cut_to_a_day(meet):
    properties = meet(peer.answer_with(429, b"{}", "&retry-after=99999999"))
    assert properties["LastErrorId"] == "throttled"
    assert properties["NextAttemptAt"] - properties["LastErrorAt"] < 1.3 * 86400e6


def test_an_answer_to_another_request_is_ignored(meet):
    def answer(session, topic, rid, _):
        foreign = {"operationId": "1", "status": "assigned",
                   "registrationState": {"assignedHub": "evil.example", "deviceId": "dev", "status": "assigned"}}
        session.publish(f"{peer.RESPONSES}/200/?$rid=x{rid}", json.dumps(foreign).encode())
        session.publish(f"{peer.RESPONSES}/500/?$rid={rid}", b"")

    assert meet(peer.serve(answer))["LastErrorId"] == "service"
