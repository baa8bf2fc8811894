# SPDX-License-Identifier: MIT
"""All parties at once, each at its worst: the way to DPS, local users, polkit, the journal and the disk. Each has its budget and
no more, and the loop comes round: the watchdog, root and SIGTERM are answered."""
import contextlib
import pwd
import time

import pytest
from jeepney import MessageType

from calls import Calls
from fakedpsd import IDENTITY, ROOT
from gateway import NAME
from namespace import mounted, needs_root
from polkit import Polkit
from process import DEADLINE, eventually
from stranger import Stranger
from test_floods import Flood, memory_kb
from test_strangers import AT_POLKIT_MAX, OBJECTS, REFUSALS_MAX, REFUSALS_PER_S

SOMEBODY, ANOTHER = (pwd.getpwnam(name).pw_uid for name in ("nobody", "daemon"))
MANY = 100  # identities: their list takes long to make
POLKIT_TIMEOUT = 25  # seconds, then others get the places
MEMORY_KB = 8 * 1024  # what all of them together may cost


def is_let_in(polkit, stranger, path):
    """Whether polkit's answer came in time: dpsd waits 25 s for it, which a busy machine may need for what is queued on the bus."""
    n_asked = polkit.n_asked_for(stranger.name)
    serial = stranger.send(path, NAME, IDENTITY, "GetConnection")
    polkit.wait_for(lambda asked: polkit.n_asked_for(stranger.name) == n_asked + 1)
    polkit.answer(stranger.name, True)
    return stranger.answer_to(serial).header.message_type is MessageType.method_return


@needs_root
def test_all_parties_at_their_worst_have_their_budgets_and_root_is_answered(gateway, emulator, bus, full_journal, tmp_path):
    with contextlib.ExitStack() as parties:
        calls, flood, polkit = Calls(tmp_path, gateway), Flood(), Polkit(bus.address)
        parties.callback(polkit.close)
        parties.callback(flood.close)
        parties.callback(calls.release)
        gateway.wrapper = mounted(full_journal)
        for k in range(MANY):
            gateway.write_conf(f"device-{k:03}", "[Provisioning]\nIdScope=0ne00AABBCC\n[Attestation]\nKey=/nowhere\n")
        gateway.identity("cached")
        gateway.start()
        gateway.wait_for("cached", State="assigned")
        gateway.stop()

        save = f"fsync {gateway.state}/.#saved.json"
        calls.hold(save)
        gateway.identity("saved")
        gateway.identity("flooded", provisioning={"MqttPort": flood.port, "Transport": "mqtt"})
        gateway.start(WATCHDOG_USEC=200_000)
        calls.wait_for(save)
        before = memory_kb(gateway)
        path = gateway.path("cached")

        crowd = [Stranger(bus.address, SOMEBODY) for _ in range(7)]
        for one in crowd:
            parties.callback(one.close)
        begin = time.monotonic()
        for _ in range(100):
            for one in crowd[1:3]:
                one.send(path, NAME, IDENTITY, "GetConnection")
        polkit.wait_for(lambda asked: len(asked) >= AT_POLKIT_MAX)
        parties.callback(crowd[0].flood(ROOT, NAME, OBJECTS, "GetManagedObjects"))
        for one in crowd[3:]:
            one.send_many(1500, ROOT, NAME, OBJECTS, "GetManagedObjects")

        # While all that goes on:
        for _ in range(5):
            watchdogs = gateway.notify.lines.count("WATCHDOG=1")
            status = gateway.list_in_flood()
            states = {identity["Name"]: identity["State"] for identity in status}
            assert (len(states), states["cached"], states["saved"]) == (MANY + 3, "assigned", "provisioning")
            gateway.notify.wait_for("WATCHDOG=1", watchdogs + 1)
        assert gateway.connection("cached")["deviceId"] == "cached"
        other = Stranger(bus.address, ANOTHER)
        parties.callback(other.close)
        eventually(lambda: is_let_in(polkit, other, path), 3 * DEADLINE, "an answer to another user")

        # What each has had:
        flood.wait_until_cut_off()
        assert gateway.wait_for("flooded", 3 * DEADLINE, check=lambda p: p["LastErrorId"])["LastErrorId"] == "tls"
        n_asked = polkit.n_asked_for(*(one.name for one in crowd))
        assert n_asked <= AT_POLKIT_MAX * (1 + (time.monotonic() - begin) // POLKIT_TIMEOUT), n_asked
        for one in crowd[3:]:
            one.wait_until_over()
        answers = [message.header.message_type for one in crowd[3:] for message in one.received]
        n_lists, n_refusals = (answers.count(kind) for kind in (MessageType.method_return, MessageType.error))
        seconds = time.monotonic() - begin
        assert 0 < n_lists < 1000 and n_refusals <= 2 * (REFUSALS_MAX + 1 + REFUSALS_PER_S * seconds), (n_lists, n_refusals, seconds)
        assert gateway.files("saved") == {} and len(calls.lines(save)) == 1
        assert memory_kb(gateway) < before + MEMORY_KB

        # One write ends, as it must before the daemon does; the rest goes on.
        calls.release()
        eventually(lambda: "connection.json" in gateway.files("saved"), DEADLINE, "the files of the one that was saved")
        assert gateway.end() == 0
