# SPDX-License-Identifier: MIT
"""The time that DPS tells to wait binds every connection and every run of the daemon."""
import json
import time

import pytest

from hostile import OPERATION, answer, assigning, once
from process import DEADLINE, eventually

ACCEPTED = {"operationId": OPERATION, "status": "assigning"}
TREMOR = 0.2  # seconds; times on the bus are calculated from two clocks

LONG = {
    "throttled": answer(429, retry_after=900),
    "server-error": answer(503, retry_after=900),
    "assigning": answer(202, ACCEPTED, retry_after=900),
}


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("what", LONG)
def test_a_restart_keeps_a_long_wait(lone_gateway, make_peer, what, end):
    peer = make_peer("gateway", {"register": LONG[what]})
    lone_gateway.start()
    lone_gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0)
    eventually(lambda: (lone_gateway.state / "gateway.json").exists())
    getattr(lone_gateway, end)()
    peer.mend()
    lone_gateway.start()
    found = lone_gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0 or p["State"] == "assigned")
    assert found["NextAttemptAt"] / 1e6 >= peer.told[0].realtime + 900 - TREMOR
    lone_gateway.call("gateway", "Reprovision")
    lone_gateway.stop()
    assert len(peer.contacts("open")) == 1


def told_to_wait(gateway):
    note = gateway.run / ".waits" / "gateway.json"
    return note.exists() and json.loads(note.read_text())["notBefore"]


SHORT = {
    "throttled": answer(429, retry_after=7),
    "server-error": answer(503, retry_after=7),
    "assigning": answer(202, ACCEPTED, retry_after=7),
}


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("what", SHORT)
def test_a_restart_keeps_a_short_wait(lone_gateway, make_peer, what, end):
    peer = make_peer("gateway", {"register": SHORT[what]})
    lone_gateway.start()
    peer.wait_for("puback")  # for the answer
    eventually(lambda: told_to_wait(lone_gateway))
    getattr(lone_gateway, end)()
    peer.mend()
    lone_gateway.start()
    lone_gateway.wait_for(State="assigned")
    again = [event for event in peer.contacts() if event.at > peer.told[0].at]
    assert again[0].at - peer.told[0].at >= 7


def test_a_kill_does_not_lose_the_wait_after_a_third_failure(lone_gateway, make_peer):
    """The third failure is not written to the disk; the second was."""
    answers = iter([1, 1, 900])
    peer = make_peer("gateway", {"register": lambda session, request: answer(503, retry_after=next(answers))(session, request)})
    lone_gateway.start()
    lone_gateway.wait_for(Attempts=3)
    lone_gateway.kill()
    assert lone_gateway.remembered()["attempts"] < 3
    peer.mend()
    lone_gateway.start()
    found = lone_gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0 or p["State"] == "assigned")
    assert (found["Attempts"], found["LastErrorId"]) == (3, "service")
    assert found["NextAttemptAt"] / 1e6 >= peer.told[-1].realtime + 900 - TREMOR


def test_after_its_record_is_removed_an_identity_registers_at_once(lone_gateway, make_peer):
    """Removing the record also removes the back-off; only a time that DPS told would still bind."""
    peer = make_peer("gateway", {"register": answer(404)})
    lone_gateway.start()
    lone_gateway.wait_for(State="failed")
    lone_gateway.stop()
    peer.mend()
    (lone_gateway.state / "gateway.json").unlink()
    lone_gateway.start()
    lone_gateway.wait_for(State="assigned")


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_polls_are_counted_over_restarts(lone_gateway, make_peer, end, seconds):
    """There are at most five polls in ten seconds, however often the daemon is started."""
    peer = make_peer("gateway", {"register": answer(202, ACCEPTED, retry_after=seconds), "poll": assigning(seconds)})
    for n in (2, 5, 7):
        lone_gateway.start()
        peer.wait_for("poll", n, timeout=10 + DEADLINE)
        getattr(lone_gateway, end)()
    peer.mend()
    lone_gateway.start()
    lone_gateway.wait_for(State="assigned", timeout=10 + DEADLINE)
    assert len(peer.events("poll")) >= 7 and not peer.dense_polls(), peer.events("poll")


def test_polls_of_a_success_still_count_after_a_restart(lone_gateway, make_peer):
    peer = make_peer("gateway", {"register": answer(202, ACCEPTED, retry_after=0)})
    lone_gateway.start()
    for n in range(1, 7):
        lone_gateway.wait_for(State="assigned", timeout=10 + DEADLINE)
        peer.wait_for("poll", n, timeout=10 + DEADLINE)
        lone_gateway.restart()
        lone_gateway.wait_for(State="assigned")
        lone_gateway.call("gateway", "Reprovision")
    peer.wait_for("poll", 7, timeout=10 + DEADLINE)
    assert not peer.dense_polls(), peer.events("poll")


def test_throttling_one_identity_throttles_its_scope(lone_gateway, make_peer):
    """Other identities of the scope do not register before the time that the throttled one was told."""
    neighbour = make_peer("neighbour", {"register": answer(404)})  # for a minute it asks only when it is told to
    lone_gateway.start()
    lone_gateway.wait_for("neighbour", State="failed", check=lambda p: p["NextAttemptAt"] > 0)
    neighbour.mend()
    throttled = make_peer("throttled", {"register": once(answer(429, retry_after=8))})
    lone_gateway.reload()
    throttled.wait_for("puback")
    since = time.monotonic()
    lone_gateway.call("neighbour", "Reprovision")
    lone_gateway.wait_for("neighbour", State="assigned")
    again = [event for event in neighbour.events("register") if event.at > since]
    assert again[0].at - throttled.told[0].at >= 8


def test_no_event_shortens_a_wait(lone_gateway, make_peer):
    """Neither requests nor reloads shorten the time that DPS told."""
    peer = make_peer("gateway", {"register": answer(429, retry_after=5)})
    lone_gateway.start()
    lone_gateway.wait_for(Waiting="throttled")
    peer.mend()
    for _ in range(2):
        lone_gateway.call("gateway", "Reprovision")
        lone_gateway.reload()
    lone_gateway.wait_for(State="assigned")
    again = [event for event in peer.contacts() if event.at > peer.told[0].at]
    assert again[0].at - peer.told[0].at >= 5
