# SPDX-License-Identifier: MIT
"""Remembered assignments are served at once, after restarts, crashes and changes, and without asking DPS."""
import base64
import json
import os
import subprocess

import pytest

from clock import Clock
from emulator import SLOW
from namespace import needs_root
from process import DEADLINE, eventually

SEC = 1_000_000


def a_key():
    return base64.b64encode(os.urandom(32)).decode()


def assign(gateway, **options):
    gateway.identity(**options)
    gateway.start()
    return gateway.wait_for(State="assigned")


def enroll_x509(emulator, registration_id="gateway"):
    """Enrolls the group `factory`; returns certificate and key of a device of it, as files that the daemon accepts."""
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    return renew_certificate(emulator, registration_id)


def renew_certificate(emulator, registration_id="gateway"):
    certificate, key = emulator.certificate(registration_id)
    key.chmod(0o400)
    return {"Certificate": certificate, "PrivateKey": key}


# ---- start from the cache ----


def test_a_cached_start_serves_the_same_without_asking_dps(gateway, emulator):
    before = assign(gateway)
    files, asked = gateway.files(), len(emulator.requests())
    gateway.restart()
    after = gateway.properties("gateway")
    assert after["State"] == "assigned" and after["Healthy"]
    for same in ("Generation", "AssignedHub", "DeviceId", "AssignedAt", "StateSince", "TokenExpiresAt", "RenewAt",
                 "LastSuccessAt", "NextAttemptAt"):
        assert after[same] == before[same], same
    assert gateway.files() == files
    assert len(emulator.requests()) == asked


@pytest.mark.parametrize("method, shown", [("symmetric-key", "sas"), ("x509", "x509")])
def test_what_the_hub_is_shown_is_stored_with_the_assignment(gateway, emulator, method, shown):
    options = {"method": "x509", "attestation": enroll_x509(emulator)} if method == "x509" else {}
    assert assign(gateway, **options)["HubAuthentication"] == shown
    assert gateway.remembered()["hubAuthentication"] == shown
    assert gateway.connection()["auth"] == shown
    gateway.restart()
    assert gateway.properties("gateway")["HubAuthentication"] == shown


@pytest.mark.parametrize("method", ["symmetric-key", "x509"])
def test_a_record_with_a_credential_id_is_served_without_a_registration(gateway, emulator, method):
    """An older version wrote `credentialId` (of a key: the digest of a token), and not what the hub is shown."""
    options = {"method": "x509", "attestation": enroll_x509(emulator)} if method == "x509" else {}
    before = assign(gateway, **options)
    files, asked = gateway.files(), len(emulator.requests())
    gateway.stop()
    record = gateway.remembered()
    del record["hubAuthentication"]
    fingerprint = record.pop("credentialFingerprint")
    record["credentialId"] = fingerprint if method == "x509" else "5a" * 32
    (gateway.state / "gateway.json").write_text(json.dumps(record, separators=(",", ":")))  # what DPS said is kept as it is written

    gateway.start()
    after = gateway.wait_for(State="assigned", Healthy=True)
    for same in ("HubAuthentication", "Generation", "AssignedHub", "DeviceId", "AssignedAt", "TokenExpiresAt"):
        assert after[same] == before[same], same
    assert gateway.files() == files and len(emulator.requests()) == asked
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert gateway.remembered()["hubAuthentication"] == before["HubAuthentication"]


def test_a_cached_assignment_is_served_before_ready(gateway):
    assign(gateway)
    gateway.restart()  # until READY=1
    assert gateway.properties("gateway")["State"] == "assigned"
    gateway.wait_for_log("ready: 1 of 1 identities assigned")


def test_a_cached_start_needs_no_dps(gateway, emulator):
    before = assign(gateway)
    emulator.stop()
    gateway.restart()
    after = gateway.properties("gateway")
    assert (after["State"], after["AssignedHub"], after["Healthy"]) == ("assigned", before["AssignedHub"], True)


def test_missing_outputs_are_written_at_start(gateway):
    """As after a reboot: /run is empty, and the record is there."""
    assign(gateway)
    files = gateway.files()
    gateway.stop()
    for path in (gateway.run / "gateway").iterdir():
        path.unlink()
    (gateway.run / "gateway").rmdir()
    gateway.start()
    assert gateway.files() == files


def test_the_directory_of_an_identity_is_the_same_over_restarts(gateway):
    assign(gateway)
    inode = (gateway.run / "gateway").stat().st_ino
    gateway.restart()
    gateway.kill()
    gateway.start()
    gateway.reload()
    assert (gateway.run / "gateway").stat().st_ino == inode


def test_the_directory_is_there_before_anything_is_assigned(gateway, emulator):
    gateway.identity()
    emulator.stop()
    gateway.start()
    eventually((gateway.run / "gateway").is_dir, what="the directory of the identity")
    assert not gateway.files() and gateway.properties("gateway")["State"] != "assigned"


def test_a_killed_daemon_serves_the_same_after_its_restart(gateway, emulator):
    before = assign(gateway)
    files, asked = gateway.files(), len(emulator.requests())
    gateway.kill()
    gateway.start()
    after = gateway.properties("gateway")
    assert after["State"] == "assigned" and after["Generation"] == before["Generation"]
    assert gateway.files() == files and len(emulator.requests()) == asked


def test_a_daemon_killed_while_registering_is_assigned_after_its_restart(gateway, emulator):
    key = emulator.enroll("gateway", **SLOW)
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")
    gateway.kill()
    gateway.start()
    emulator.assign("gateway")
    assert gateway.wait_for(State="assigned")["Generation"] == 1


# ---- who we are ----


def test_another_registration_id_drops_the_old_assignment(gateway, emulator):
    assign(gateway)
    emulator.enroll("other", key=(key := a_key()), provisioningStatus="disabled")
    gateway.identity(registration_id="other", key=key)
    gateway.restart()
    properties = gateway.wait_for(State="failed", Waiting="retry")
    assert properties["RegistrationId"] == "other" and properties["AssignedHub"] == ""
    assert not gateway.files()
    eventually(lambda: not gateway.remembered().get("assignedHub"), what="a record without the assignment")


def test_another_registration_id_is_registered_with_a_higher_generation(gateway, emulator):
    before = assign(gateway)
    gateway.identity(registration_id="other", key=emulator.enroll("other"))
    gateway.reload()
    after = gateway.wait_for(DeviceId="other", State="assigned")
    assert after["Generation"] > before["Generation"]
    assert gateway.connection()["registrationId"] == "other"


def test_the_case_of_the_registration_id_does_not_matter(gateway, emulator):
    before = assign(gateway)
    asked = len(emulator.requests())
    gateway.identity(registration_id="GateWay", key=a_key(), attestation={"Key": "credential:gateway.key"})
    gateway.stop()
    conf = gateway.configuration / "gateway.conf"
    assert "RegistrationId=GateWay" in conf.read_text()
    gateway.start()
    assert gateway.properties("gateway")["AssignedHub"] == before["AssignedHub"]
    assert len(emulator.requests()) == asked


@pytest.mark.parametrize("what, value", [("IdScope", "0ne00CCCCCC"), ("Endpoint", "127.0.0.2")])
def test_another_scope_or_endpoint_serves_the_old_assignment_until_it_has_a_new_one(gateway, emulator, what, value):
    before = assign(gateway)
    files = gateway.files()
    key = (gateway.credentials / "gateway.key").read_text().strip()
    gateway.identity(key=key, provisioning={what: value, "Splay": "0"})
    gateway.restart()
    properties = gateway.wait_for(State="assigned", check=lambda p: p["LastErrorId"] != "")
    assert properties[what] == value and properties["AssignedHub"] == before["AssignedHub"]
    assert not properties["Healthy"] and gateway.files() == files

    # With the old configuration it is healthy again, with the same generation.
    gateway.identity(key=key)
    gateway.reload()
    assert gateway.wait_for(Healthy=True)["Generation"] == before["Generation"]


def test_another_endpoint_is_asked_and_its_assignment_served(gateway, emulator):
    before = assign(gateway)
    key = (gateway.credentials / "gateway.key").read_text().strip()
    emulator.set("gateway", iotHubs="hub-2.example" if before["AssignedHub"] == "hub-1.example" else "hub-1.example")
    gateway.identity(key=key, provisioning={"Endpoint": "localhost", "Splay": "0"})
    gateway.reload()
    after = gateway.wait_for(check=lambda p: p["AssignedHub"] != before["AssignedHub"])
    assert after["State"] == "assigned" and after["Generation"] > before["Generation"]
    assert gateway.connection()["hub"] == after["AssignedHub"]
    assert gateway.remembered()["endpoint"] == "localhost"


def test_another_method_serves_the_old_assignment_until_it_has_a_new_one(gateway, emulator):
    before = assign(gateway)
    token = gateway.files()["token"]
    gateway.identity(method="x509", attestation=enroll_x509(emulator), provisioning={"Splay": "0"})
    gateway.reload()
    properties = gateway.wait_for(State="assigned", LastErrorId="auth")
    assert gateway.files()["token"] == token and properties["AssignedHub"] == before["AssignedHub"]

    emulator.ctl("remove", "gateway")  # from now on the device belongs to the group
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    after = gateway.wait_for(State="assigned", AttestationMethod="x509", LastErrorId="")
    eventually(lambda: "cert.pem" in gateway.files() and "token" not in gateway.files(), what="files of the new method")
    assert after["Generation"] > before["Generation"] and gateway.connection()["auth"] == "x509"


# ---- keys and certificates ----


def test_a_changed_key_is_noticed_and_proven_by_a_registration(gateway, emulator):
    before = assign(gateway)
    token = gateway.files()["token"]
    key = a_key()
    emulator.enroll("gateway", key=key)
    gateway.write_key("gateway.key", key)
    after = gateway.wait_for(State="assigned", Generation=2)
    assert gateway.files()["token"] != token and after["AssignedHub"] == before["AssignedHub"]
    assert len(emulator.requests("register")) == 2
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0


@needs_root
def test_without_inotify_a_changed_key_is_noticed_by_time(gateway, emulator, tmp_path):
    """The limit of a user is reached."""
    clock = Clock(tmp_path).rule(gateway)
    gateway.wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c",
                       'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    files = gateway.files()
    gateway.wait_for_log("files and directories can be watched .Too many open files")
    key = a_key()
    emulator.enroll("gateway", key=key)
    gateway.write_key("gateway.key", key)
    (gateway.run / "gateway" / "hub.env").unlink()
    clock.pass_by(61)
    emulator.wait_for_requests(2, "register")
    # If it looks at one clock before that minute and at the other behind it, it makes a new token as well: another generation.
    gateway.wait_for(check=lambda properties: properties["Generation"] >= 2, Healthy=True)
    eventually(lambda: gateway.files().keys() == files.keys(), what="hub.env")
    clock.close()
    assert gateway.whole_log().count("can be watched") == 1


def test_a_key_changed_while_the_daemon_was_down_is_proven_at_start(gateway, emulator):
    assign(gateway)
    gateway.stop()
    key = a_key()
    emulator.enroll("gateway", key=key)
    gateway.write_key("gateway.key", key)
    gateway.start()
    emulator.wait_for_requests(2, "register")
    properties = gateway.wait_for(State="assigned", Healthy=True, Generation=2)
    assert properties["NextAttemptAt"] == properties["RenewAt"]


def test_a_key_file_rewritten_with_the_same_key_is_no_change(gateway, emulator):
    before = assign(gateway)
    key = (gateway.credentials / "gateway.key").read_text().strip()
    gateway.write_key("gateway.key", key)
    gateway.write_key("marker.key", key)
    gateway.identity("marker", key=emulator.enroll("marker"))
    gateway.reload()
    gateway.wait_for("marker", State="assigned")
    assert gateway.properties("gateway")["Generation"] == before["Generation"]
    assert len(emulator.requests("register", "gateway")) == 1


def test_a_changed_certificate_is_noticed_and_proven_by_a_registration(gateway, emulator):
    before = assign(gateway, method="x509", attestation=enroll_x509(emulator))
    old = gateway.files()["cert.pem"]
    new = renew_certificate(emulator)["Certificate"].read_text()
    assert new != old
    gateway.wait_for(State="assigned", Generation=before["Generation"] + 1)
    assert gateway.files()["cert.pem"] == new
    assert len(emulator.requests("register")) == 2


def test_an_old_certificate_is_served_while_the_new_one_is_refused(gateway, emulator):
    before = assign(gateway, method="x509", attestation=enroll_x509(emulator))
    files = gateway.files()
    emulator.script("gateway", "register:401")
    renew_certificate(emulator)
    properties = gateway.wait_for(State="assigned", LastErrorId="auth", Healthy=False)
    assert properties["Generation"] == before["Generation"] and properties["AssignedHub"] == before["AssignedHub"]
    assert gateway.files()["cert.pem"] == files["cert.pem"]


@pytest.mark.parametrize("method", ["x509", "symmetric-key"])
def test_a_credential_changed_during_a_registration_is_proven_by_the_next(gateway, emulator, method):
    before = assign(gateway, **({"method": "x509", "attestation": enroll_x509(emulator)} if method == "x509" else {}))
    files = gateway.files()
    emulator.script("gateway", "register:202,retry-after=2", "register:401")
    gateway.call("gateway", "Reprovision")
    emulator.wait_for_requests(2, "register")
    if method == "x509":
        renew_certificate(emulator)
    else:
        gateway.write_key("gateway.key", a_key())
    properties = gateway.wait_for(State="assigned", LastErrorId="auth", check=lambda p: p["LastSuccessAt"] > before["LastSuccessAt"])
    assert properties["Generation"] == before["Generation"]
    assert properties["TokenExpiresAt"] == before["TokenExpiresAt"] and gateway.files() == files


@pytest.mark.parametrize("where", [{}, {"IdScope": "0ne00CCCCCC", "Splay": "0"}], ids=["here", "elsewhere"])
@pytest.mark.parametrize("how", ["reload", "restart"])
def test_an_old_token_is_served_while_a_new_key_is_refused(gateway, emulator, how, where):
    assign(gateway)
    files = gateway.files()
    gateway.identity(key=a_key(), provisioning=where, attestation={"Key": gateway.write_key("new.key", a_key())})
    getattr(gateway, how)()
    gateway.wait_for(State="assigned", Healthy=False, check=lambda p: p["LastErrorId"] != "")
    assert gateway.call("gateway", "GetConnection")[0] == files["connection.json"]
    gateway.stop()
    assert gateway.files() == files and gateway.remembered()["generation"] == 1


def test_an_old_token_is_served_until_its_renewal_if_the_new_key_is_refused(gateway, emulator):
    gateway.identity(hub={"TokenLifetime": "30s", "RenewBefore": "8s"})
    gateway.start()
    before = gateway.wait_for(State="assigned")
    gateway.stop()
    gateway.write_key("gateway.key", a_key())
    gateway.start()
    assert gateway.wait_for(LastErrorId="auth")["TokenExpiresAt"] == before["TokenExpiresAt"]
    after = gateway.wait_for(Generation=2, timeout=30 + DEADLINE)
    assert after["StateSince"] == before["StateSince"] and after["TokenExpiresAt"] > before["TokenExpiresAt"]


# ---- the state file ----


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', "\0" * 100, '{"version": 1, "assignedHub": 7}'])
def test_a_corrupt_record_is_set_aside(gateway, emulator, content):
    assign(gateway)
    gateway.stop()
    path = gateway.state / "gateway.json"
    path.write_text(content)
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert properties["Healthy"] and gateway.remembered()["assignedHub"] == properties["AssignedHub"]
    if content != '{"version": 1}':  # this is a valid record without an assignment
        assert (gateway.state / "gateway.json.corrupt").read_text() == content
        gateway.wait_for_log(r"gateway\.json\.corrupt")
    assert len(emulator.requests("register")) == 2


def test_the_record_of_a_newer_version_can_be_read(gateway, emulator):
    before = assign(gateway)
    gateway.stop()
    path = gateway.state / "gateway.json"
    state = gateway.remembered() | {"version": 2, "somethingNew": {"of": ["later", 7]}}
    path.write_text(json.dumps(state))
    asked = len(emulator.requests())
    gateway.start()
    after = gateway.properties("gateway")
    assert after["State"] == "assigned" and after["AssignedHub"] == before["AssignedHub"]
    assert after["Generation"] == before["Generation"] and len(emulator.requests()) == asked
    assert not (gateway.state / "gateway.json.corrupt").exists()


def test_a_second_daemon_on_the_same_state_directory_exits_and_names_the_first(gateway):
    assign(gateway)
    result = gateway.run_once()
    assert result.code == 1
    assert str(gateway.pid) in result.err and str(gateway.state) in result.err
    assert gateway.properties("gateway")["State"] == "assigned"


def test_a_state_directory_that_cannot_be_written_is_served_from_memory(gateway, emulator):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=0,nr_inodes=1", "none", gateway.state],
                      check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot mount")
    try:
        properties = assign(gateway)
        assert properties["LastErrorId"] == "disk" and not properties["Healthy"]
        assert gateway.connection()["hub"] == properties["AssignedHub"]
        gateway.stop()
    finally:
        subprocess.run(["umount", "-l", gateway.state], check=True)


# ---- removed configurations ----


def test_removing_a_conf_removes_the_outputs_and_keeps_the_record(gateway):
    assign(gateway)
    gateway.identity("other")
    gateway.reload()
    gateway.wait_for("other", State="assigned")
    (gateway.configuration / "gateway.conf").unlink()
    gateway.reload()
    assert gateway.properties()["NIdentities"] == 1
    assert not (gateway.run / "gateway").exists()
    assert gateway.remembered()["assignedHub"]


def test_a_conf_that_comes_back_gets_its_assignment_back(gateway, emulator):
    before = assign(gateway)
    conf = (gateway.configuration / "gateway.conf").read_text()
    (gateway.configuration / "gateway.conf").unlink()
    gateway.reload()
    gateway.write_conf("gateway", conf)
    gateway.reload()
    after = gateway.wait_for(State="assigned")
    assert after["Generation"] == before["Generation"]
    assert len(emulator.requests("register")) == 1


def test_a_conf_removed_while_the_daemon_was_down_leaves_no_outputs(gateway):
    assign(gateway)
    gateway.stop()
    (gateway.configuration / "gateway.conf").unlink()
    gateway.start()
    assert not (gateway.run / "gateway").exists() and gateway.remembered()


def test_a_conf_removed_before_the_assignment_leaves_no_directory(gateway):
    gateway.identity("gone", attestation={"Key": "credential:none"})
    gateway.identity("stays", attestation={"Key": "credential:none"})
    gateway.start()
    gateway.wait_for("gone", Waiting="key")
    eventually((gateway.run / "gone").exists, what="the directory of gone")
    eventually((gateway.run / "stays").exists, what="the directory of stays")
    inode = (gateway.run / "stays").stat().st_ino
    gateway.stop()
    (gateway.configuration / "gone.conf").unlink()
    (gateway.state / "gone.json").unlink(missing_ok=True)
    gateway.start()
    assert not (gateway.run / "gone").exists() and (gateway.run / "stays").stat().st_ino == inode


def make_foreign(gateway, name, mode=0o750):
    path = gateway.run / name
    path.mkdir()
    path.chmod(mode)
    return path


def test_directories_that_others_put_beside_the_identities_stay(gateway):
    with_file, of_other_mode = make_foreign(gateway, "with-file"), make_foreign(gateway, "of-other-mode", 0o755)
    (with_file / "token").write_text("mine")
    (with_file / "more").write_text("mine")
    (gateway.run / "link").symlink_to(make_foreign(gateway, ".elsewhere"))
    (gateway.run / "file").write_text("mine")
    gateway.start()
    assert {path.name for path in with_file.iterdir()} == {"token", "more"} and of_other_mode.exists()
    assert (gateway.run / "link").exists() and (gateway.run / "file").exists()


def test_forget_removes_everything_of_an_identity_without_a_conf(gateway):
    assign(gateway)
    result = gateway.dpsctl("forget", "gateway")
    assert result.code == 1 and "gateway.conf" in result.err and gateway.files()
    (gateway.configuration / "gateway.conf").unlink()
    gateway.reload()
    assert gateway.dpsctl("forget", "gateway").code == 0
    assert not (gateway.state / "gateway.json").exists() and not (gateway.run / "gateway").exists()
    assert gateway.dpsctl("forget", "gateway").code == 4
