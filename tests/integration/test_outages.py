# SPDX-License-Identifier: MIT
"""Errors on the way to DPS, and that they end when the way is there again."""
import pytest

from emulator import SLOW
from process import DEADLINE

SEC = 1_000_000


def error_of(properties):
    return properties["LastErrorId"], properties["LastErrorStep"]


def assigning(gateway, emulator):
    """Starts the gateway with a registration that takes until emulator.assign(), and waits until DPS has answered 202."""
    key = emulator.enroll("gateway", **SLOW)
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")


# ---- a broken connection ----


def test_a_lost_connection_resumes_the_same_operation(gateway, emulator):
    assigning(gateway, emulator)
    emulator.drop("gateway")
    properties = gateway.wait_for(LastErrorId="lost")
    assert (properties["State"], properties["Waiting"], properties["LastErrorStep"]) == ("provisioning", "retry", "poll")
    assert properties["Attempts"] == 1

    emulator.assign("gateway")
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == 1
    assert len(emulator.requests("connect")) == 2
    operations = {r["operationId"] for r in emulator.requests("register") + emulator.requests("poll")}
    assert len(operations) == 1


def test_a_connection_lost_at_a_poll_resumes_the_same_operation(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "poll:drop")
    gateway.identity(key=key)
    gateway.start()
    assert error_of(gateway.wait_for(Waiting="retry")) == ("lost", "poll")
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == 1
    assert len({r["operationId"] for r in emulator.requests("poll")}) == 1


def test_a_connection_lost_at_register_registers_again(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:drop")
    gateway.identity(key=key)
    gateway.start()
    assert error_of(gateway.wait_for(Waiting="retry")) == ("lost", "register")
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == 2


# ---- silence ----


@pytest.mark.parametrize("request_name", ["register", "poll"])
def test_a_silent_service_is_given_up_after_half_a_minute(gateway, emulator, request_name):
    key = emulator.enroll("gateway")
    emulator.script("gateway", f"{request_name}:silent")
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, request_name)
    properties = gateway.wait_for(timeout=30 + DEADLINE, Waiting="retry", State="provisioning")
    assert error_of(properties) == ("timeout", request_name)
    # The request was sent after the answer to the one before.
    before = emulator.requests({"register": "subscribe", "poll": "register"}[request_name])[0]
    assert properties["LastErrorAt"] >= before["time"] + 30 * SEC

    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert gateway.wait_for(State="assigned")["Healthy"]


def test_the_bus_answers_while_the_service_is_silent(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:silent")
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")
    properties = gateway.properties("gateway")
    assert (properties["State"], properties["Waiting"], properties["NextAttemptAt"]) == ("provisioning", "", 0)


# ---- DPS is not there ----


def test_an_unreachable_dps_is_found_when_it_comes_back(gateway, emulator):
    gateway.identity()
    emulator.stop()
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting="retry")
    assert error_of(properties) == ("refused", "connect")
    assert str(emulator.port) in properties["LastError"]
    assert properties["NextAttemptAt"] > properties["LastErrorAt"]
    emulator.start()
    properties = gateway.wait_for(State="assigned", timeout=2 * DEADLINE)
    assert properties["Healthy"] and properties["LastErrorId"] == "" and properties["Attempts"] == 0


def test_readiness_does_not_wait_for_dps(gateway, emulator):
    gateway.identity()
    emulator.stop()
    gateway.start()
    assert gateway.properties()["State"] in ("provisioning", "degraded")


def test_waits_grow_between_attempts_and_are_reported_once(gateway, emulator):
    gateway.identity()
    emulator.stop()
    gateway.start()
    first = gateway.wait_for(Attempts=1, Waiting="retry")
    second = gateway.wait_for(Attempts=2, Waiting="retry", timeout=2 * DEADLINE)
    for properties, longest in ((first, 5), (second, 10)):
        wait = properties["NextAttemptAt"] - properties["LastErrorAt"]
        assert longest * SEC / 2 - SEC / 10 <= wait <= longest * SEC + SEC / 10
    assert second["FailingSince"] == first["FailingSince"] == first["LastErrorAt"]
    line = gateway.wait_for_log("refused")
    assert gateway.whole_log().count("refused") == line.count("refused")


def test_a_request_while_dps_is_down_keeps_the_assignment(gateway, emulator):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    files = gateway.files()
    emulator.stop()

    result = gateway.dpsctl("reprovision", "gateway", "--wait")
    assert result.code == 1 and "refused" in result.err
    properties = gateway.wait_for(LastErrorId="refused")
    assert (properties["State"], properties["Waiting"], properties["Healthy"]) == ("assigned", "retry", False)
    assert properties["Generation"] == before["Generation"] and properties["TokenExpiresAt"] == before["TokenExpiresAt"]
    assert gateway.files() == files

    # The request is still carried out when DPS comes back.
    emulator.start()
    healthy = gateway.wait_for(Healthy=True, timeout=2 * DEADLINE)
    assert healthy["LastSuccessAt"] > before["LastSuccessAt"] and healthy["AssignedHub"] == before["AssignedHub"]


def test_a_service_that_restarts_during_a_registration_is_asked_again(gateway, emulator):
    assigning(gateway, emulator)
    emulator.stop()
    gateway.wait_for(Waiting="retry")
    emulator.start()
    emulator.assign("gateway")
    gateway.wait_for(State="assigned", timeout=2 * DEADLINE)


def test_a_name_that_does_not_resolve_waits_for_the_network(gateway):
    gateway.identity(provisioning={"Endpoint": "dps.invalid"})
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting="network")
    assert error_of(properties) == ("dns", "resolve")
    assert "dps.invalid" in properties["LastError"]


def test_a_server_of_another_authority_is_not_trusted(gateway, emulator):
    _, _ = emulator.certificate("unused")
    gateway.identity(provisioning={"CaFile": emulator.state / "device-ca.pem"})
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting="retry")
    assert properties["LastErrorId"].startswith("tls") and properties["LastErrorStep"] == "tls"
    assert not emulator.requests("connect")
