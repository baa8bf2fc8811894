# SPDX-License-Identifier: MIT
"""A silent peer delays nothing else: not the exit, not a new configuration, not other identities."""
import pytest

from hostile import acknowledge, assigning, both, half_flight, silence
from process import DEADLINE

FAILED = "next try in"  # in the log, when an attempt has failed: those that are silent do at a deadline, after ten seconds and more

STAGES = {  # the faults, and the last event before the silence
    "accept": ({"accept": silence}, "open"),
    "tls": ({"flight": both(half_flight, silence)}, "hello"),
    "login": ({"connect": silence}, "connect"),
    "subscribe": ({"subscribe": silence}, "subscribe"),
    "register": ({"register": both(acknowledge, silence)}, "register"),
    "assigning": ({"register": assigning(20)}, "puback"),
    "poll": ({"poll": both(acknowledge, silence)}, "poll"),
}


@pytest.fixture(params=STAGES)
def silent(request, lone_gateway, make_peer):
    """A peer that is silent at this stage, and for which dpsd waits."""
    faults, last = STAGES[request.param]
    peer = make_peer("gateway", faults)
    lone_gateway.start()
    peer.wait_for(last)
    return peer


def test_a_silent_peer_does_not_delay_the_exit(lone_gateway, silent):
    assert lone_gateway.end() == 0
    assert FAILED not in lone_gateway.log


def test_another_endpoint_is_asked_at_once(lone_gateway, silent, make_peer):
    right = make_peer("gateway")
    lone_gateway.reload()
    lone_gateway.wait_for(State="assigned")
    silent.wait_for("end")
    assert len(right.events("register")) == 1 and FAILED not in lone_gateway.log


def test_a_removed_identity_closes_its_connection(lone_gateway, silent):
    (lone_gateway.configuration / "gateway.conf").unlink()
    lone_gateway.reload()
    silent.wait_for("end")
    assert lone_gateway.files() == {} and FAILED not in lone_gateway.log


def test_an_unchanged_configuration_disturbs_no_attempt(lone_gateway, silent):
    lone_gateway.reload()
    lone_gateway.reload()
    assert lone_gateway.properties("gateway")["NextAttemptAt"] == 0
    assert not silent.events("end") and FAILED not in lone_gateway.log


def test_other_identities_are_provisioned_meanwhile(lone_gateway, silent, make_peer):
    make_peer("other")
    lone_gateway.reload()
    lone_gateway.wait_for("other", State="assigned")
    assert lone_gateway.properties("gateway")["State"] == "provisioning" and FAILED not in lone_gateway.log


def test_a_silent_attempt_gives_its_slot_back(lone_gateway, make_peer):
    """The attempt that has the only slot gives it back at its deadline."""
    lone_gateway.write_conf("dpsd", "[Daemon]\nMaxAttempts=1\n")
    first = make_peer("first", {"accept": silence})
    lone_gateway.start()
    first.wait_for("open")
    make_peer("second")
    lone_gateway.reload()
    lone_gateway.wait_for("second", State="assigned", timeout=30 + DEADLINE)
    assert lone_gateway.log.count(FAILED) == 1
