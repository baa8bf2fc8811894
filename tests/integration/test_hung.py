# SPDX-License-Identifier: MIT
"""What a configuration names is on a file system that does not answer: only that identity waits."""
import os
import shutil
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


# --- the configuration itself ---

def mislay(path, hung):
    """What was at `path` is on the file system that may hang, and `path` is a link to it."""
    moved = hung.path / path.name
    shutil.move(path, moved)
    path.symlink_to(moved)


def add_drop_in(gateway):
    directory = gateway.configuration / "gateway.conf.d"
    directory.mkdir()
    drop_in = directory / "10.conf"
    drop_in.write_text("[Provisioning]\nSplay=3s\n")
    return drop_in


CONFIGURED = {
    "conf": lambda gateway: gateway.configuration / "gateway.conf",
    "drop-in": add_drop_in,
    "directory-of-drop-ins": lambda gateway: add_drop_in(gateway).parent,
}


@pytest.fixture
def assigned(gateway):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned", Healthy=True)
    return gateway


def assert_it_is_told(gateway, path):
    """A reload ends, with the error, and reads what else is new."""
    gateway.identity("late")
    reloaded = gateway.dpsctl("reload")
    assert reloaded.code == 1 and f"{path}: cannot be " in reloaded.err, reloaded
    assert "its file system does not answer" in reloaded.err


@pytest.mark.parametrize("what", CONFIGURED)
def test_a_start_does_not_wait_for_a_configuration_that_hangs(assigned, hung, what):
    gateway, path = assigned, CONFIGURED[what](assigned)
    gateway.stop()
    files = gateway.files()
    mislay(path, hung)
    hung.hang()
    gateway.identity("neighbour")
    gateway.start()
    found = gateway.wait_for(State="assigned", Waiting="config", LastErrorId="config")
    assert str(path) in found["LastError"] and gateway.files().keys() == files.keys()
    gateway.wait_for("neighbour", State="assigned")
    assert_it_is_told(gateway, path)
    gateway.wait_for("late", State="assigned")
    hung.release()
    gateway.wait_for(State="assigned", Healthy=True, Waiting="")
    assert gateway.dpsctl("reload").code == 0
    assert gateway.end(signal.SIGTERM) == 0


def test_without_a_cache_the_identity_waits_for_its_configuration(gateway, hung):
    gateway.identity()
    mislay(gateway.configuration / "gateway.conf", hung)
    hung.hang()
    gateway.start()
    gateway.wait_for(State="failed", LastErrorId="config")
    hung.release()
    gateway.wait_for(State="assigned", Healthy=True)


@pytest.mark.parametrize("what", CONFIGURED)
def test_a_reload_does_not_wait_for_a_configuration_that_hangs(assigned, hung, what):
    gateway, path = assigned, CONFIGURED[what](assigned)
    assert gateway.dpsctl("reload").code == 0
    before = gateway.connection()
    mislay(path, hung)
    hung.hang()
    assert_it_is_told(gateway, path)
    gateway.wait_for("late", State="assigned")
    found = gateway.properties("gateway")
    assert found["State"] == "assigned" and str(path) in found["LastError"]
    assert gateway.connection() == before
    assert gateway.end(signal.SIGTERM) == 0


def test_dpsd_ends_while_a_configuration_hangs(gateway, hung):
    gateway.identity()
    mislay(gateway.configuration / "gateway.conf", hung)
    hung.hang()
    gateway.start()
    assert gateway.end(signal.SIGTERM) == 0


def test_a_dpsd_conf_that_hangs_leaves_every_identity_as_it_is(assigned, hung):
    gateway, path = assigned, assigned.configuration / "dpsd.conf"
    before = gateway.connection()
    gateway.write_conf("dpsd", "[Hub]\nTokenLifetime=2h\n")
    mislay(path, hung)
    hung.hang()
    assert_it_is_told(gateway, path)
    assert gateway.properties("gateway")["State"] == "assigned" and gateway.connection() == before
    gateway.restart()
    found = gateway.wait_for(State="assigned", Waiting="config")
    assert str(path) in found["LastError"]
    hung.release()
    gateway.wait_for(State="assigned", Healthy=True, Waiting="")
    gateway.wait_for("late", State="assigned")


@pytest.mark.parametrize("what", ["mount", "link"])
def test_a_directory_that_hangs_as_a_whole_leaves_every_identity_as_it_is(assigned, hung, what):
    gateway, path = assigned, hung.path
    gateway.stop()
    if what == "link":
        path = gateway.directory / "elsewhere"
        path.symlink_to(hung.path)
    search = {"CONFIGURATION_DIRECTORY": f"{gateway.configuration}:{path}"}
    shutil.move(gateway.configuration / "gateway.conf", hung.path)
    gateway.start(**search)
    gateway.wait_for(State="assigned", Healthy=True)
    hung.hang()
    reloaded = gateway.dpsctl("reload")
    assert reloaded.code == 1 and f"{path}: cannot be listed: its file system" in reloaded.err, reloaded
    assert " 0 retired" in reloaded.out
    gateway.stop()
    gateway.start(**search)
    gateway.wait_for(State="assigned", Waiting="config")
    hung.release()
    gateway.wait_for(State="assigned", Healthy=True, Waiting="")
    assert gateway.end(signal.SIGTERM) == 0


def test_a_configuration_that_hangs_keeps_one_thread_however_often_it_is_read(assigned, hung):
    def n_threads():
        return len(os.listdir(f"/proc/{gateway.process.pid}/task"))

    gateway, path = assigned, assigned.configuration / "gateway.conf"
    mislay(path, hung)
    hung.hang()
    for _ in range(8):
        assert gateway.dpsctl("reload").code == 1
    eventually(lambda: n_threads() == 2, what="the end of the other threads")


def test_many_configurations_that_hang_hold_up_no_other(assigned, hung):
    gateway = assigned
    for n in range(12):
        gateway.identity(f"hung-{n}")
        mislay(gateway.configuration / f"hung-{n}.conf", hung)
    hung.hang()
    assert_it_is_told(gateway, gateway.configuration / "hung-11.conf")
    gateway.wait_for("late", State="assigned")
    gateway.stop()
    gateway.identity("neighbour")
    gateway.start()
    gateway.wait_for("neighbour", State="assigned")
    assert gateway.end(signal.SIGTERM) == 0


def test_a_link_that_answers_is_read_however_many_others_hang(assigned, hung):
    gateway, elsewhere = assigned, assigned.directory / "elsewhere"
    for n in range(8):
        gateway.identity(f"hung-{n}")
        mislay(gateway.configuration / f"hung-{n}.conf", hung)
    hung.hang()
    assert gateway.dpsctl("reload").code == 1
    elsewhere.mkdir()
    gateway.identity("neighbour")
    shutil.move(gateway.configuration / "neighbour.conf", elsewhere)
    (gateway.configuration / "neighbour.conf").symlink_to(elsewhere / "neighbour.conf")
    reloaded = gateway.dpsctl("reload")
    assert "hung-7.conf" in reloaded.err and "neighbour.conf" not in reloaded.err, reloaded
    gateway.wait_for("neighbour", State="assigned")
    assert gateway.end(signal.SIGTERM) == 0
