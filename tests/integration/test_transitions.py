# SPDX-License-Identifier: MIT
"""Changes that come late or in the middle of something: configuration, keys, twins (two identities with one registration id), time."""
import base64
import grp
import json
import os
import subprocess
import time

import pytest

from clock import Clock
from gateway import can_change_user
from process import DEADLINE, eventually
from test_cache import enroll_x509, renew_certificate

FIRST_RETRY = 10 + DEADLINE  # seconds; the daemon checks local errors again after ten


def assign(gateway, **more):
    gateway.identity(**more)
    gateway.start()
    return gateway.wait_for(State="assigned", Healthy=True)


def cpu_seconds(gateway):
    fields = open(f"/proc/{gateway.process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_idle(gateway, seconds=1.5):
    """A loop that spins uses a whole processor, so a loop that uses far less does not spin, however busy the machine is."""
    before = cpu_seconds(gateway)
    time.sleep(seconds)
    assert cpu_seconds(gateway) - before < seconds / 10, gateway.log


# ---- specifiers ----


def test_a_specifier_that_resolves_late_needs_no_reload(gateway, emulator):
    path = gateway.directory / "id"
    gateway.identity(registration_id=f"%{{file:{path}}}", key=emulator.enroll("device-7"))
    gateway.start()
    gateway.wait_for(State="failed", Waiting="config")
    path.write_text("device-7\n")
    gateway.wait_for(State="assigned", Healthy=True, Waiting="", LastErrorId="", timeout=FIRST_RETRY)


def test_a_new_configuration_is_applied_when_its_specifier_resolves(gateway, emulator):
    path = gateway.directory / "id"
    assign(gateway)
    gateway.identity(registration_id=f"%{{file:{path}}}", key=emulator.enroll("device-7"))
    gateway.reload()
    properties = gateway.wait_for(State="assigned", Waiting="config", Healthy=False)
    assert properties["DeviceId"] == "gateway" and str(path) in properties["LastError"]
    path.write_text("device-7\n")
    gateway.wait_for(DeviceId="device-7", State="assigned", Healthy=True, timeout=FIRST_RETRY)


def test_a_new_configuration_whose_interface_is_missing_says_so(gateway):
    assign(gateway)
    gateway.identity(registration_id="%{mac:nosuch0}", key="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    gateway.reload()
    properties = gateway.wait_for(State="assigned", Waiting="network", Healthy=False)
    assert "nosuch0" in properties["LastError"] and properties["DeviceId"] == "gateway"


# ---- twins ----


def test_a_twin_that_resolves_late_does_not_displace_the_one_that_is_assigned(gateway, emulator):
    path = gateway.directory / "id"
    key = emulator.enroll("device-7")
    gateway.identity("b", registration_id="device-7", key=key)
    gateway.identity("a", registration_id=f"%{{file:{path}}}", key=key)
    gateway.start()
    gateway.wait_for("b", State="assigned", Healthy=True)
    path.write_text("device-7\n")
    gateway.wait_for("a", State="failed", Waiting="config", timeout=FIRST_RETRY,
                     check=lambda p: "a.conf" in p["LastError"] and "b.conf" in p["LastError"])
    assert gateway.properties("b")["Healthy"]


def test_a_twin_that_appears_does_not_disturb_the_planned_registration(gateway, emulator):
    key = emulator.enroll("b")
    gateway.identity("b", key=key)
    gateway.start()
    gateway.wait_for("b", State="assigned")
    gateway.identity("b", key=key, provisioning={"Endpoint": "localhost", "Splay": "1d"})
    gateway.reload()
    planned = gateway.wait_for("b", State="assigned", Endpoint="localhost")["NextAttemptAt"]
    gateway.identity("a", registration_id="b", key=key)
    gateway.reload()
    gateway.wait_for("a", State="failed", Waiting="config")
    assert gateway.dpsctl("reprovision", "a", "--wait").code == 1
    (gateway.configuration / "a.conf").unlink()
    gateway.reload()
    after = gateway.wait_for("b", State="assigned", Waiting="", Healthy=True)["NextAttemptAt"]
    assert abs(after - planned) < 1_000_000  # it is reckoned anew each time


def test_a_new_twin_is_reported_in_the_same_words_everywhere(gateway, emulator):
    key = emulator.enroll("b")
    gateway.identity("b", key=key)
    gateway.start()
    gateway.wait_for("b", State="assigned")
    gateway.identity("a", registration_id="b", key=key)
    words = 'b.conf and a.conf both have registration id "b" and ID scope "0ne00AABBCC": change one'
    for _ in range(2):  # before dpsd has read it, and after
        assert words in gateway.dpsctl("verify-config").out
        assert words in gateway.dpsctl("check", "a", "--offline").out
        assert "both have" not in gateway.dpsctl("check", "b", "--offline").out
        gateway.reload()
    assert gateway.wait_for("a", State="failed", Waiting="config")["LastError"] == words


def test_check_tells_that_a_file_was_changed_since_it_was_read(gateway, emulator):
    for name in ("b", "c"):
        gateway.identity(name)
    gateway.start()
    for name in ("b", "c"):
        gateway.wait_for(name, State="assigned")
    assert "dpsctl reload" not in gateway.dpsctl("check", "c", "--offline").out
    gateway.identity("c", registration_id="b", key=emulator.enroll("b"))
    found = gateway.dpsctl("check", "c", "--offline").out
    assert "c.conf yet: dpsctl reload" in found and "b.conf and c.conf both have" in found


# ---- requests ----


def test_a_reload_during_an_attempt_does_not_lose_its_job(gateway, emulator):
    key = emulator.enroll("gateway")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(State="assigned")
    emulator.script("gateway", "register:silent")
    client = gateway.client()
    client.listen()
    (job,) = gateway.call("gateway", "Reprovision")
    emulator.wait_for_requests(2, "register")
    gateway.identity(key=key, hub={"TokenLifetime": "2d"})
    gateway.reload()
    finished, ok, _ = client.wait_for_signal("ReprovisionFinished")
    client.close()
    assert (finished, ok) == (job, True)


def test_a_reload_does_not_shorten_the_wait_after_a_failed_request(gateway, emulator):
    assign(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    planned = gateway.wait_for(Attempts=1)["NextAttemptAt"]
    gateway.reload()
    assert abs(gateway.properties("gateway")["NextAttemptAt"] - planned) < 1000000
    assert len(emulator.requests("register")) == 2


# ---- the loop ----


def test_a_request_for_an_identity_that_waits_for_a_slot_does_not_spin(gateway, emulator):
    gateway.write_conf("dpsd", "[Daemon]\nMaxAttempts=1\n")
    gateway.identity("b")
    gateway.identity("a")
    emulator.script("b", "register:401,code=401002")  # for a minute they ask only when they are told to
    emulator.script("a", *["register:401,code=401002"] * 2, "register:silent")
    gateway.start()
    for name in "ab":
        gateway.wait_for(name, State="failed", Waiting="retry")
    gateway.call("a", "Reprovision")
    gateway.wait_for("a", check=lambda p: p["Attempts"] == 2)
    gateway.call("a", "Reprovision")
    emulator.wait_for_requests(3, "register", "a")
    gateway.call("b", "Reprovision")
    gateway.wait_for("b", NextAttemptAt=0)
    gateway.call("b", "Reprovision")
    assert_idle(gateway)


def test_a_record_without_a_renewal_time_does_not_spin(gateway):
    assign(gateway)
    gateway.stop()
    state = gateway.remembered()
    del state["renewAt"]
    (gateway.state / "gateway.json").write_text(json.dumps(state))
    gateway.start()
    gateway.wait_for(State="assigned", check=lambda p: p["RenewAt"] > 0)
    assert_idle(gateway)


# ---- generations ----


def test_generations_grow_over_a_restart_with_another_device(gateway, emulator):
    before = assign(gateway)["Generation"]
    emulator.stop()
    gateway.identity(registration_id="other", key="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    gateway.reload()
    gateway.wait_for(State="provisioning")
    gateway.stop()
    emulator.start()
    gateway.identity(registration_id="device-8", key=emulator.enroll("device-8"))
    gateway.start()
    assert gateway.wait_for(State="assigned")["Generation"] > before


# ---- time ----


def test_a_cached_assignment_waits_for_the_clock_and_says_so(gateway):
    assign(gateway)
    gateway.stop()
    (gateway.state / ".clock").write_text(f"{(int(time.time()) + 86400) * 1000000}\n")
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert properties["Waiting"] == "clock"


def test_a_success_clears_an_error_that_is_dated_in_the_future(gateway, emulator):
    assign(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    gateway.stop()
    emulator.set("gateway", provisioningStatus="enabled")
    state = gateway.remembered()
    state["lastErrorAt"] += 365 * 86400 * 1000000
    (gateway.state / "gateway.json").write_text(json.dumps(state))
    gateway.start()
    gateway.wait_for(State="assigned", Healthy=False, LastErrorId="enrollment-disabled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    properties = gateway.wait_for(State="assigned", Healthy=True, LastErrorId="")
    assert properties["LastErrorAt"] == properties["FailingSince"] == 0


# ---- files ----


def test_outputs_that_cannot_be_written_are_reported_once_and_written_later(gateway):
    gateway.identity()
    (gateway.run / "gateway").write_text("in the way")
    gateway.start()
    gateway.wait_for(State="assigned", Healthy=False, LastErrorId="disk", timeout=FIRST_RETRY)
    (gateway.run / "gateway").unlink()
    gateway.wait_for(Healthy=True, LastErrorId="", timeout=FIRST_RETRY)
    assert gateway.connection()["hub"] and gateway.whole_log().count("the files for programs cannot be written") == 1


def test_a_failed_write_is_tried_again_after_a_reload(gateway):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=1", "none", gateway.state],
                      check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot mount")
    try:
        gateway.identity()
        gateway.start()
        gateway.wait_for(State="assigned", LastErrorId="disk")
        gateway.reload()
        subprocess.run(["mount", "-o", "remount,nr_inodes=100", gateway.state], check=True)
        gateway.wait_for(State="assigned", Healthy=True, LastErrorId="", timeout=FIRST_RETRY)
        assert gateway.remembered()["assignedHub"]
        gateway.stop()
    finally:
        subprocess.run(["umount", "-l", gateway.state], check=True)


# ---- waits ----


def test_waiting_is_the_same_after_a_restart(gateway, emulator):
    gateway.identity()
    emulator.script("gateway", "register:503,retry-after=600")
    gateway.start()
    before = gateway.wait_for(State="provisioning", LastErrorId="service", Attempts=1)
    assert before["Waiting"] == "retry"
    gateway.restart()
    assert gateway.wait_for(State="provisioning", LastErrorId="service", Attempts=1)["Waiting"] == "retry"


def test_a_throttled_scope_pauses_even_without_a_retry_after(gateway, emulator):
    gateway.identity("first")
    emulator.script("first", *["register:429"] * 3)
    gateway.start()
    gateway.wait_for("first", Attempts=1)
    gateway.call("first", "Reprovision")
    gateway.wait_for("first", Attempts=2)
    planned = gateway.properties("first")["NextAttemptAt"]
    gateway.identity("second")
    gateway.reload()
    assert gateway.wait_for("second", Waiting="throttled")["NextAttemptAt"] >= planned - 1000000


# ---- keys and certificates ----


def test_a_bad_certificate_is_reported_at_once_and_a_good_one_is_proven(gateway, emulator):
    files = enroll_x509(emulator)
    before = assign(gateway, method="x509", attestation=files)
    published = gateway.files()
    good = files["Certificate"].read_text()
    files["Certificate"].write_text("no certificate")
    gateway.wait_for(State="assigned", Waiting="config", Healthy=False)
    assert gateway.files() == published
    renew_certificate(emulator)
    gateway.wait_for(Healthy=True, check=lambda p: p["Generation"] > before["Generation"])
    assert good not in gateway.files()["cert.pem"] and len(emulator.requests("register")) == 2


def test_keys_that_change_all_the_time_are_proven_three_times_an_hour(gateway, emulator, tmp_path):
    clock = Clock(tmp_path).rule(gateway)
    keys = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    emulator.add({"individualEnrollments": [{"registrationId": "gateway", "attestation": {
        "type": "symmetricKey", "symmetricKey": {"primaryKey": keys[0], "secondaryKey": keys[1]}}}]})
    assign(gateway, key=keys[0])
    for generation in (2, 3, 4):
        gateway.write_key("gateway.key", keys[generation % 2 - 1])
        gateway.wait_for(Generation=generation)
    gateway.write_key("gateway.key", keys[0])
    planned = gateway.wait_for(check=lambda p: 0 < p["NextAttemptAt"] < p["RenewAt"])["NextAttemptAt"]
    assert planned > emulator.requests("register")[1]["time"] + 3599 * 1000000
    assert len(emulator.requests("register")) == 4

    clock.pass_by(3600)
    gateway.properties("gateway")
    gateway.wait_for(Generation=5, Healthy=True)
    clock.close()


def test_a_missing_key_is_reported_and_its_return_does_not_ask_dps(gateway, emulator):
    assign(gateway)
    published = gateway.files()
    key = gateway.credentials / "gateway.key"
    kept = key.read_text().strip()
    key.unlink()
    gateway.wait_for(State="assigned", Waiting="key", Healthy=False)
    assert gateway.files() == published
    gateway.write_key("gateway.key", kept)
    gateway.wait_for(State="assigned", Waiting="", Healthy=True)
    assert gateway.files() == published and len(emulator.requests("register")) == 1


def configure_both_methods(gateway, emulator):
    """Configures a key, and a certificate as the second choice; returns the key and the path of its file."""
    key = emulator.enroll("gateway")
    attestation = enroll_x509(emulator) | {"Key": gateway.write_key("gateway.key", key)}
    gateway.identity(method="symmetric-key x509", attestation=attestation, provisioning={"Splay": "0"})
    return key, gateway.credentials / "gateway.key"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_missing_key_does_not_change_the_method(gateway, emulator, restarted):
    key, path = configure_both_methods(gateway, emulator)
    gateway.start()
    before = gateway.wait_for(State="assigned", AttestationMethod="symmetric-key")
    if restarted:
        gateway.stop()
    path.unlink()
    if restarted:
        gateway.start()
    away = gateway.wait_for(State="assigned", Waiting="key", Healthy=False)
    assert away["AttestationMethod"] == "symmetric-key" and "gateway.key" in away["LastError"]
    gateway.write_key("gateway.key", key)
    after = gateway.wait_for(State="assigned", Waiting="", Healthy=True)
    assert after["AttestationMethod"] == "symmetric-key" and after["Generation"] == before["Generation"]
    assert len(emulator.requests("register")) == 1


def test_a_key_that_disappears_before_the_assignment_is_waited_for(gateway, emulator):
    key, path = configure_both_methods(gateway, emulator)
    emulator.script("gateway", *["register:503"] * 10)
    gateway.start()
    gateway.wait_for(Waiting="retry", Attempts=1)
    path.unlink()
    gateway.wait_for(State="unprovisioned", Waiting="key")
    emulator.clear_script("gateway")
    gateway.write_key("gateway.key", key)
    assert gateway.wait_for(State="assigned", Healthy=True)["AttestationMethod"] == "symmetric-key"


def test_a_method_whose_key_was_removed_from_the_conf_gives_way_to_the_next(gateway, emulator):
    configure_both_methods(gateway, emulator)
    gateway.start()
    gateway.wait_for(State="assigned", AttestationMethod="symmetric-key")
    emulator.ctl("remove", "gateway")  # from now on the device belongs to the group
    gateway.identity(method="symmetric-key x509", attestation=renew_certificate(emulator), provisioning={"Splay": "0"})
    gateway.reload()
    gateway.wait_for(State="assigned", Healthy=True, AttestationMethod="x509", check=lambda p: p["Generation"] > 1)


@pytest.mark.skipif(not can_change_user(), reason="needs a group that is not ours")
def test_a_reload_gives_all_files_to_the_changed_group(gateway):
    assign(gateway)
    key = (gateway.credentials / "gateway.key").read_text().strip()
    gateway.identity(key=key, access={"Group": "daemon"})
    gateway.reload()
    directory = gateway.run / "gateway"
    daemon = grp.getgrnam("daemon").gr_gid

    def groups():
        """A file that is still being written has a name of its own, and may be gone before it is looked at."""
        return {path.stat().st_gid for path in (directory, *directory.iterdir()) if not path.name.startswith(".#")}

    # The system is asked for the group by a thread of its own, which a reload does not wait for.
    eventually(lambda: groups() == {daemon}, what="files of the group")


# ---- output and the rest ----


def test_check_of_an_unknown_identity_exits_4(gateway):
    gateway.identity()
    checked = gateway.dpsctl("check", "--offline", "nope")
    assert checked.code == 4 and "nope.conf" in checked.err and not checked.out


def test_a_card_does_not_blame_the_renewal_for_a_faulty_conf(gateway):
    assign(gateway)
    gateway.identity(key="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", provisioning={"IdScope": "?"})
    gateway.reload()
    gateway.wait_for(State="assigned", Waiting="config")
    assert "but its configuration has errors" in gateway.dpsctl("status", "gateway").out


def test_a_reload_applies_a_larger_max_attempts(gateway, emulator):
    gateway.write_conf("dpsd", "[Daemon]\nMaxAttempts=1\n")
    gateway.identity("a")
    emulator.script("a", "register:silent")
    gateway.start()
    emulator.wait_for_requests(1, "register", "a")
    gateway.identity("b")
    gateway.reload()
    gateway.wait_for("b", State="provisioning")
    assert not emulator.requests("connect", "b")
    gateway.write_conf("dpsd", "[Daemon]\nMaxAttempts=2\n")
    gateway.reload()
    gateway.wait_for("b", State="assigned")
    first = gateway.properties("a")
    assert first["NextAttemptAt"] == 0 and first["LastErrorId"] == ""  # it still has its slot


def test_a_key_that_comes_and_goes_causes_no_flood(gateway, emulator):
    key = emulator.enroll("gateway")
    gateway.identity(key=key)
    emulator.script("gateway", *["register:silent"] * 10)
    gateway.start()
    for attempts in (1, 2):
        emulator.wait_for_requests(attempts, "register")
        (gateway.credentials / "gateway.key").unlink()
        gateway.wait_for(Waiting="key")
        gateway.write_key("gateway.key", key)
        gateway.wait_for(Attempts=attempts, check=lambda p: p["Waiting"] != "key" and p["NextAttemptAt"] > 0)


def test_a_failing_renewal_is_not_healthy_because_a_key_came_back(gateway, emulator):
    assign(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    kept = (gateway.credentials / "gateway.key").read_text().strip()
    (gateway.credentials / "gateway.key").unlink()
    gateway.wait_for(Waiting="key")
    gateway.write_key("gateway.key", kept)
    properties = gateway.wait_for(State="assigned", check=lambda p: p["Waiting"] != "key")
    assert not properties["Healthy"] and properties["NextAttemptAt"] > 0
