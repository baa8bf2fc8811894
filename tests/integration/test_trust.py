# SPDX-License-Identifier: MIT
"""CA files: whatever they are, only their identity waits for them, and a CA that was withdrawn is believed no longer."""
import os
import shutil
import signal
import subprocess

import pytest

from calls import Calls
from certificates import Pki
from namespace import mounted, needs_root
from process import BUILD
from tpm import modules

needs_https = pytest.mark.skipif(not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl")


@pytest.fixture
def ca_file(tmp_path, emulator):
    """The CA of the emulator, in a file that the test may replace."""
    return shutil.copy(emulator.ca_file, tmp_path / "trusted.pem")


def test_a_ca_that_is_withdrawn_is_not_believed_while_another_identity_is_in_flight(gateway, emulator, ca_file, tmp_path):
    gateway.identity(provisioning={"CaFile": ca_file})
    emulator.enroll("busy")
    emulator.script("busy", "register:silent")
    gateway.identity("busy", key=emulator.enroll("busy"), provisioning={"CaFile": ca_file})
    gateway.start()
    gateway.wait_for(State="assigned")
    emulator.wait_for_requests(1, "register", "busy")

    os.replace(shutil.copy(Pki(tmp_path / "other").ca_file, tmp_path / "new.pem"), ca_file)
    result = gateway.dpsctl("reprovision", "gateway", "--wait")
    assert result.code == 1 and "tls-untrusted" in gateway.properties("gateway")["LastErrorId"], result.out + result.err
    assert gateway.properties("busy")["NextAttemptAt"] == 0  # still in flight
    shutil.copy(emulator.ca_file, ca_file)
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0


def test_a_ca_file_that_hangs_holds_up_only_its_identity(gateway, ca_file, tmp_path):
    calls = Calls(tmp_path, gateway)
    calls.hold(f"open {ca_file}")
    try:
        gateway.identity(provisioning={"CaFile": ca_file})
        gateway.identity("other")
        gateway.start()
        calls.wait_for(f"open {ca_file}")
        gateway.wait_for("other", State="assigned")
        assert gateway.properties("gateway")["State"] == "provisioning"
        assert gateway.dpsctl("reload").code == 0
        assert len(calls.lines(f"open {ca_file}")) == 1
    finally:
        calls.release()
    gateway.wait_for(State="assigned")


def test_the_daemon_ends_while_a_ca_file_hangs(gateway, ca_file, tmp_path):
    calls = Calls(tmp_path, gateway)
    calls.hold(f"open {ca_file}")
    try:
        gateway.identity(provisioning={"CaFile": ca_file})
        gateway.start()
        calls.wait_for(f"open {ca_file}")
        assert gateway.end(signal.SIGTERM, timeout=10) == 0
    finally:
        calls.release()


def test_what_is_no_ca_file_is_named_at_once(gateway, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(600 << 20)
    paths = {name: tmp_path / name for name in ("fifo", "huge")} | {"device": "/dev/zero"}
    for name, path in paths.items():
        gateway.identity(name, provisioning={"CaFile": path})
    gateway.start()
    for name, path in paths.items():
        properties = gateway.wait_for(name, LastErrorId="config")
        assert f"CaFile={path} cannot be used" in properties["LastError"]
        checked = gateway.dpsctl("check", name, "--offline")
        assert checked.code == 1 and f"CaFile={path} cannot be used" in checked.out


def test_a_pipe_in_a_named_store_of_cas_is_passed_over(gateway, emulator, tmp_path):
    """OpenSSL itself would open it in the midst of a handshake, and wait."""
    store = tmp_path / "store"
    store.mkdir()
    shutil.copy(emulator.ca_file, store / "ca.pem")
    subprocess.run(["openssl", "rehash", store], check=True)
    (store / "ca.pem").unlink()
    os.mkfifo(store / "ca.pem")
    gateway.identity(provisioning={"CaFile": None})
    gateway.start(SSL_CERT_DIR=store, SSL_CERT_FILE="/nonexistent")
    gateway.wait_for(LastErrorId="tls-untrusted")
    gateway.identity("other")
    gateway.reload()
    gateway.wait_for("other", State="assigned")


@needs_root
@pytest.mark.parametrize("way", ["mqtt", pytest.param("https", marks=needs_https)])
def test_the_systems_bundle_is_read_by_the_worker_when_its_directory_does_not_suffice(gateway, emulator, tmp_path, way):
    """A bundle that hangs costs its attempt, and where it answers, the attempt ends well."""
    directory = tmp_path / "directory"  # with hashes, and without the CA
    directory.mkdir()
    shutil.copy(Pki(tmp_path / "other").ca_file, directory / "other.pem")
    subprocess.run(["openssl", "rehash", directory], check=True)
    version = subprocess.run(["openssl", "version", "-d"], check=True, capture_output=True, text=True).stdout
    first = version.split('"')[1] + "/cert.pem"  # on Debian, it is a link to the one that is mounted here, or is not there
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    gateway.wrapper = mounted(f"mount --bind {emulator.ca_file} /etc/ssl/certs/ca-certificates.crt")
    calls = Calls(tmp_path, gateway)
    calls.hold(f"open {first}")
    try:
        gateway.identity(provisioning={"CaFile": None, "Transport": way, "HttpsPort": emulator.https_port})
        gateway.identity("other")  # has a CaFile=
        gateway.start(SSL_CERT_DIR=directory)
        calls.wait_for(f"open {first}")
        gateway.wait_for("other", State="assigned")
        assert gateway.dpsctl("reload").code == 0
        assert gateway.properties()["State"] == "provisioning"
    finally:
        calls.release()
    gateway.wait_for(State="assigned")
    assert len(calls.lines(f"open {first}")) == 1
    assert "not trusted" not in gateway.log
