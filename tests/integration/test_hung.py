# SPDX-License-Identifier: MIT
"""What a configuration names is on a file system that does not answer: only that identity waits."""
import signal
import time

import pytest

from hung import HungFileSystem
from namespace import needs_root
from process import eventually

pytestmark = needs_root


@pytest.fixture
def hung():
    file_system = HungFileSystem()
    yield file_system
    file_system.close()


NAMED = {
    "Key": lambda path: {"attestation": {"Key": path}},
    "Certificate": lambda path: {"method": "x509", "attestation": {"Certificate": path, "PrivateKey": path}},
    "RegistrationId": lambda path: {"provisioning": {"RegistrationId": f"%{{file:{path}}}"}},
    "PayloadFile": lambda path: {"provisioning": {"PayloadFile": path}},
    "CaFile": lambda path: {"provisioning": {"CaFile": path}},
    "ProxyPassword": lambda path: {"provisioning": {"Proxy": "http://user@127.0.0.1:9", "ProxyPassword": path}},
}


def assert_others_are_served(gateway):
    """`neighbour` is provisioned, requests are answered, and the daemon ends when it is told to."""
    gateway.wait_for("neighbour", State="assigned")
    gateway.identity("late")
    assert gateway.dpsctl("reload").code == 0
    gateway.wait_for("late", State="assigned")
    assert gateway.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("what", NAMED)
def test_what_hangs_holds_up_only_its_identity(gateway, hung, what):
    hung.hang()
    gateway.identity("neighbour")
    gateway.identity(**NAMED[what](hung.path / "file"))
    gateway.start()
    assert gateway.properties("gateway")["State"] in ("unprovisioned", "provisioning")
    assert_others_are_served(gateway)


@pytest.mark.parametrize("what", ["Key", "RegistrationId"])
def test_an_assignment_stays_while_what_is_named_hangs(gateway, emulator, hung, what):
    path = hung.path / "file"
    path.write_text(emulator.enroll("gateway") if what == "Key" else "gateway")
    path.chmod(0o600)
    gateway.identity(**NAMED[what](path))
    gateway.start()
    gateway.wait_for(State="assigned")
    gateway.stop()

    hung.hang()
    gateway.identity("neighbour")
    gateway.start()
    assert gateway.properties("gateway")["State"] == "assigned"
    assert "token" in gateway.files()  # of before
    gateway.wait_for("neighbour", State="assigned")
    hung.release()
    gateway.wait_for(State="assigned", Healthy=True, Waiting="")
    assert_others_are_served(gateway)


@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "SSL_CERT_FILE"])
def test_a_store_of_cas_that_hangs_holds_up_only_who_needs_it(gateway, hung, variable):
    hung.hang()
    gateway.identity("neighbour")  # has a CaFile=
    gateway.identity(provisioning={"CaFile": None})
    gateway.start(**{variable: hung.path / "cas"})
    assert gateway.properties("gateway")["State"] in ("unprovisioned", "provisioning")
    assert_others_are_served(gateway)


def test_many_identities_that_hang_take_no_thread_from_others(gateway, hung):
    """There are usually four threads for keys, and one that looks whether files have changed."""
    hung.hang()
    for n in range(6):
        gateway.identity(f"hung-{n}", attestation={"Key": hung.path / f"{n}.key"})
    gateway.start()
    gateway.identity("neighbour")
    assert gateway.dpsctl("reload").code == 0
    gateway.wait_for("neighbour", State="assigned")
    other = gateway.emulator.enroll("other")  # a key that DPS refuses

    def notices_another_key():
        gateway.write_key("neighbour.key", other)  # again and again, as the first look has to wait, too
        time.sleep(1)
        return gateway.properties("neighbour")["LastErrorId"] == "auth"

    eventually(notices_another_key, what="another key")
    assert_others_are_served(gateway)


def test_what_hangs_keeps_one_thread_however_often_it_is_asked_for(gateway, hung):
    """There are sixteen threads at most that read keys and configurations."""
    hung.hang()
    for n in range(20):  # each other configuration has the key read again
        gateway.identity(attestation={"Key": hung.path / "file"}, provisioning={"Splay": f"{n + 1}s"})
        if n == 0:
            gateway.start()
        assert gateway.dpsctl("reload").code == 0
    gateway.identity("neighbour")
    assert gateway.dpsctl("reload").code == 0
    assert_others_are_served(gateway)
