# SPDX-License-Identifier: MIT
"""Configuration: a fault is reported with its line, concerns one identity only, and never ends a working assignment."""
import base64
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from jeepney import DBusErrorResponse

from certificates import Issuer, key_pem, name, pem
from clock import Clock
from emulator import ID_SCOPE, SLOW
from gateway import NAME
from namespace import mounted, needs_root
from process import DEADLINE, free_port

SEC = 1_000_000


def a_key():
    return base64.b64encode(os.urandom(32)).decode()


def break_conf(gateway, name="gateway"):
    """Appends an invalid value to the file, and returns its file:line."""
    path = gateway.configuration / f"{name}.conf"
    text = path.read_text() + "[Provisioning]\nMqttPort=lots\n"
    path.write_text(text)
    return f"{path}:{len(text.splitlines())}"


def correct_conf(gateway, name="gateway"):
    path = gateway.configuration / f"{name}.conf"
    path.write_text(path.read_text().replace("MqttPort=lots\n", ""))


def assign(gateway, name="gateway", **options):
    gateway.identity(name, **options)
    gateway.start()
    return gateway.wait_for(name, State="assigned")


# ---- faults ----


def test_a_faulty_conf_without_a_cache_is_failed_with_its_line(gateway, emulator):
    gateway.identity()
    place = break_conf(gateway)
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert properties["LastErrorId"] == "config" and place in properties["LastError"]
    assert properties["NextAttemptAt"] == 0 and not properties["Healthy"]
    assert gateway.properties()["State"] == "degraded"
    log = gateway.whole_log()
    assert "not provisioned until it can be used" in log and log.count(place) == 1
    assert not emulator.requests()


def test_a_conf_that_becomes_faulty_keeps_the_assignment(gateway, emulator):
    before = assign(gateway)
    files, asked = gateway.files(), len(emulator.requests())
    place = break_conf(gateway)
    gateway.reload()
    properties = gateway.wait_for(State="assigned", Waiting="config")
    assert not properties["Healthy"] and place in properties["LastError"] and properties["LastErrorId"] == "config"
    assert properties["AssignedHub"] == before["AssignedHub"] and gateway.files() == files
    assert len(emulator.requests()) == asked


def test_a_start_with_a_faulty_conf_serves_the_cached_assignment(gateway, emulator):
    before = assign(gateway)
    files, asked = gateway.files(), len(emulator.requests())
    place = break_conf(gateway)
    gateway.restart()
    properties = gateway.properties("gateway")
    assert (properties["State"], properties["Waiting"], properties["Healthy"]) == ("assigned", "config", False)
    assert place in properties["LastError"] and properties["Generation"] == before["Generation"]
    assert gateway.files() == files and len(emulator.requests()) == asked


def test_a_fault_in_the_conf_is_told_rather_than_an_older_failure(gateway):
    gateway.identity(provisioning={"Transport": "mqtt", "MqttPort": free_port()})
    gateway.start()
    gateway.wait_for(LastErrorId="refused")
    place = break_conf(gateway)
    gateway.restart()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert properties["LastErrorId"] == "config" and place in properties["LastError"]
    assert place in gateway.dpsctl("history").out


def test_a_corrected_conf_is_provisioned_after_a_reload(gateway):
    gateway.identity()
    break_conf(gateway)
    gateway.start()
    gateway.wait_for(State="failed", Waiting="config")
    correct_conf(gateway)
    gateway.reload()
    properties = gateway.wait_for(State="assigned")
    assert properties["Healthy"] and properties["Waiting"] == "" and properties["LastError"] == ""


def test_a_corrected_conf_is_healthy_after_a_reload(gateway, emulator):
    before = assign(gateway)
    break_conf(gateway)
    gateway.reload()
    gateway.wait_for(Waiting="config")
    correct_conf(gateway)
    gateway.reload()
    after = gateway.wait_for(Healthy=True, Waiting="")
    assert after["Generation"] == before["Generation"] and len(emulator.requests("register")) == 1


def test_a_faulty_conf_does_not_concern_other_identities(gateway):
    gateway.identity("bad")
    break_conf(gateway, "bad")
    gateway.identity("good")
    gateway.start()
    gateway.wait_for("good", State="assigned", Healthy=True)
    gateway.wait_for("bad", State="failed", Waiting="config")
    gateway.notify.wait_for_status("1 of 2 identities assigned; bad:")


def test_reload_reports_file_and_line_of_all_faults(gateway):
    gateway.identity("one")
    gateway.identity("two")
    gateway.identity("three")
    gateway.start()
    places = [break_conf(gateway, "one"), break_conf(gateway, "three")]
    with pytest.raises(DBusErrorResponse) as refused:
        gateway.call(None, "Reload")
    assert refused.value.name == f"{NAME}.Error.Config"
    assert all(place in refused.value.data[0] for place in places) and "two.conf" not in refused.value.data[0]
    # Configurations without faults are applied nevertheless.
    gateway.identity("four")
    with pytest.raises(DBusErrorResponse):
        gateway.call(None, "Reload")
    gateway.wait_for("four", State="assigned")


def test_reload_without_faults_succeeds(gateway):
    assign(gateway)
    gateway.call(None, "Reload")
    assert gateway.dpsctl("reload").code == 0


def test_an_unknown_key_is_only_a_warning(gateway):
    gateway.identity(provisioning={"Colour": "blue"})
    gateway.start()
    assert gateway.wait_for(State="assigned")["Healthy"]
    line = gateway.wait_for_log("Colour")
    assert line.startswith("<4>") and f"{gateway.configuration}/gateway.conf:" in line
    assert gateway.dpsctl("reload").code == 0


def test_of_two_identities_of_one_device_the_first_is_provisioned(gateway, emulator):
    key = emulator.enroll("device-1")
    gateway.identity("alpha", registration_id="device-1", key=key)
    gateway.identity("beta", registration_id="DEVICE-1", key=key)
    gateway.start()
    gateway.wait_for("alpha", State="assigned")
    properties = gateway.wait_for("beta", State="failed", Waiting="config")
    assert properties["LastErrorId"] == "config"
    assert "alpha" in properties["LastError"] and "beta" in properties["LastError"]
    assert len(emulator.requests("register")) == 1


def test_the_second_identity_of_a_device_is_provisioned_when_the_first_is_removed(gateway, emulator):
    key = emulator.enroll("device-1")
    gateway.identity("alpha", registration_id="device-1", key=key)
    gateway.identity("beta", registration_id="device-1", key=key)
    gateway.start()
    gateway.wait_for("beta", State="failed", Waiting="config")
    (gateway.configuration / "alpha.conf").unlink()
    gateway.reload()
    gateway.wait_for("beta", State="assigned", Healthy=True)


# ---- files and directories ----


def test_a_drop_in_replaces_a_value(gateway, emulator):
    key = emulator.enroll("another")
    gateway.identity(key=key)
    directory = gateway.configuration / "gateway.conf.d"
    directory.mkdir()
    (directory / "10-id.conf").write_text("[Provisioning]\nRegistrationId=nobody\n")
    (directory / "20-id.conf").write_text("[Provisioning]\nRegistrationId=another\n")
    gateway.start()
    assert gateway.wait_for(State="assigned")["RegistrationId"] == "another"


def test_a_fault_in_a_drop_in_names_the_drop_in(gateway):
    gateway.identity()
    directory = gateway.configuration / "gateway.conf.d"
    directory.mkdir()
    (directory / "10-port.conf").write_text("[Provisioning]\n\nMqttPort=x\n")
    gateway.start()
    assert "10-port.conf:3" in gateway.wait_for(State="failed")["LastError"]


def test_dpsd_conf_has_defaults_for_all_identities(gateway, emulator):
    gateway.write_conf("dpsd", f"[Provisioning]\nIdScope={ID_SCOPE}\nEndpoint=127.0.0.1\nMqttPort={emulator.port}\n"
                               f"CaFile={emulator.ca_file}\n[Hub]\nTokenLifetime=2h\n")
    for name in ("one", "two"):
        reference = gateway.write_key(f"{name}.key", emulator.enroll(name))
        gateway.write_conf(name, f"[Provisioning]\nRegistrationId={name}\n[Attestation]\nKey={reference}\n")
    gateway.start()
    for name in ("one", "two"):
        properties = gateway.wait_for(name, State="assigned")
        assert abs(properties["TokenExpiresAt"] - properties["AssignedAt"] - 7200 * SEC) < 10 * SEC
    assert gateway.properties()["NIdentities"] == 2


def test_an_earlier_directory_replaces_and_masks(gateway, emulator):
    shipped = gateway.directory / "usr"
    shipped.mkdir()
    for name in ("kept", "replaced", "masked", "emptied"):
        gateway.identity(name)
        os.rename(gateway.configuration / f"{name}.conf", shipped / f"{name}.conf")
    gateway.identity("replaced", registration_id="by-the-admin")
    (gateway.configuration / "masked.conf").symlink_to("/dev/null")
    (gateway.configuration / "emptied.conf").write_text("")
    gateway.start(CONFIGURATION_DIRECTORY=f"{gateway.configuration}:{shipped}")
    gateway.wait_for("kept", State="assigned")
    assert gateway.wait_for("replaced", State="assigned")["RegistrationId"] == "by-the-admin"
    assert gateway.properties()["NIdentities"] == 2
    assert {r["registrationId"] for r in emulator.requests("register")} == {"kept", "by-the-admin"}


def test_masking_an_identity_retires_it(gateway):
    assign(gateway)
    (gateway.configuration / "gateway.conf").unlink()
    (gateway.configuration / "gateway.conf").symlink_to("/dev/null")
    gateway.reload()
    assert gateway.properties()["State"] == "idle" and not (gateway.run / "gateway").exists()


def test_a_file_that_became_empty_does_not_retire_an_assigned_identity(gateway):
    before = assign(gateway)
    (gateway.configuration / "gateway.conf").write_text("")
    gateway.reload()
    gateway.wait_for_log("gateway.conf: the file is empty")
    after = gateway.properties("gateway")
    assert after["State"] == "assigned" and after["Generation"] == before["Generation"]
    assert (gateway.run / "gateway" / "token").exists()
    (gateway.configuration / "gateway.conf").unlink()
    gateway.reload()
    assert gateway.properties()["State"] == "idle"


@pytest.fixture
def clock(tmp_path):
    clock = Clock(tmp_path)
    yield clock
    clock.close()


def mislay(gateway, what):
    """Makes the conf absent as a volume that is not mounted, or a broken disk, does; returns the function that brings it back."""
    moved = gateway.configuration if what == "directory" else gateway.configuration / "gateway.conf"
    kept = gateway.directory / "elsewhere"
    moved.rename(kept)
    if what == "link":
        moved.symlink_to(gateway.directory / "volume" / "gateway.conf")
    elif what == "directory":
        moved.symlink_to(moved)  # cannot be listed, even by root
    elif what == "fifo":
        os.mkfifo(moved)

    def bring_back():
        moved.unlink()
        kept.rename(moved)
    return bring_back


@pytest.mark.parametrize("what", ["link", "directory", "fifo"])
def test_a_conf_out_of_reach_does_not_retire_its_identity(gateway, clock, what):
    clock.rule(gateway)
    before = assign(gateway)
    files = gateway.files()
    bring_back = mislay(gateway, what)
    reloaded = gateway.dpsctl("reload")
    assert reloaded.code == (0 if what == "fifo" else 1), reloaded
    assert {"link": "it is a link to a file that is not there", "directory": "etc: cannot be listed: Too many levels",
            "fifo": "this is not a file, although gateway is assigned"}[what] in reloaded.err
    assert " 0 retired" in reloaded.out and gateway.files() == files
    assert gateway.properties("gateway")["State"] == "assigned"
    gateway.restart()
    after = gateway.wait_for(State="assigned", Waiting="config")
    assert after["Generation"] == before["Generation"] and gateway.files() == files
    bring_back()
    if what == "fifo":
        gateway.reload()
    else:
        clock.pass_by(11)  # it is looked for by itself
    gateway.wait_for(State="assigned", Healthy=True)
    assert gateway.files() == files


def test_a_dpsd_conf_out_of_reach_leaves_every_identity_as_it_is(gateway):
    gateway.write_conf("dpsd", "[Hub]\nTokenLifetime=2h\n")
    before = assign(gateway)
    (gateway.configuration / "dpsd.conf").unlink()
    (gateway.configuration / "dpsd.conf").symlink_to(gateway.directory / "volume" / "dpsd.conf")
    reloaded = gateway.dpsctl("reload")
    assert reloaded.code == 1 and "dpsd.conf: cannot be read" in reloaded.err
    assert "1 changed" not in reloaded.out
    after = gateway.properties("gateway")
    assert after["TokenExpiresAt"] == before["TokenExpiresAt"] and "dpsd.conf" in after["LastError"]


def test_an_empty_file_in_an_earlier_directory_is_a_mask(gateway):
    shipped = gateway.directory / "usr"
    shipped.mkdir()
    gateway.identity()
    os.rename(gateway.configuration / "gateway.conf", shipped / "gateway.conf")
    gateway.start(CONFIGURATION_DIRECTORY=f"{gateway.configuration}:{shipped}")
    gateway.wait_for(State="assigned")
    (gateway.configuration / "gateway.conf").write_text("")
    gateway.reload()
    assert gateway.properties()["State"] == "idle"


def test_reload_prints_warnings_and_what_was_added_and_retired(gateway):
    assign(gateway)
    gateway.identity("north")
    (gateway.configuration / "gateway.conf").unlink()
    with open(gateway.configuration / "north.conf", "a", encoding="utf-8") as file:
        file.write("[Hubb]\nRenew=token\n")
    (gateway.configuration / "a b.conf").write_text("[Hub]\n")
    done = gateway.dpsctl("reload")
    assert done.code == 0
    assert "Hubb" in done.err and "a b.conf" in done.err
    assert "north: added" in done.out and "gateway: retired" in done.out
    assert "Configuration reloaded: 1 added, 0 changed, 1 retired, 0 unchanged." in done.out


def test_reload_counts_what_is_changed_and_what_is_not(gateway, emulator):
    assign(gateway)
    conf = gateway.identity("north")
    gateway.reload()
    conf.write_text(conf.read_text() + "[Hub]\nRenewBefore=20%\n")
    done = gateway.dpsctl("reload")
    assert done.code == 0 and "north: changed" in done.out
    assert "0 added, 1 changed, 0 retired, 1 unchanged." in done.out
    assert "0 added, 0 changed, 0 retired, 2 unchanged." in gateway.dpsctl("reload").out


def test_reload_counts_errors_as_well(gateway):
    """Otherwise the last line would be the same as if the files of these identities were gone."""
    assign(gateway)
    files = [gateway.identity("north"), gateway.identity("south")]
    gateway.reload()
    for path in files:
        path.write_text(path.read_text() + "[Hub]\nRenew=never\n")
    done = gateway.dpsctl("reload")
    assert done.code == 1
    assert done.out == "Configuration reloaded: 0 added, 0 changed, 0 retired, 1 unchanged, 2 errors.\n"
    files[0].unlink()
    assert gateway.dpsctl("reload").out.endswith(" 1 retired, 1 unchanged, 1 error.\n")


def test_reload_prints_warnings_beside_errors(gateway):
    conf = assign(gateway) and gateway.configuration / "gateway.conf"
    conf.write_text(conf.read_text().replace("RegistrationId=", "RegistratonId="))
    done = gateway.dpsctl("reload")
    assert done.code == 1
    assert "RegistrationId= is missing; is RegistratonId= in this line meant to be it?" in done.err
    assert "did you mean RegistrationId=?" in done.err
    assert gateway.properties("gateway")["State"] == "assigned"


def test_reload_fails_on_a_newcomer_that_is_the_device_of_another(gateway):
    assign(gateway)
    conf = gateway.configuration / "gateway.conf"
    (gateway.configuration / "a-newcomer.conf").write_text(conf.read_text())
    done = gateway.dpsctl("reload")
    assert done.code == 1 and "gateway.conf and a-newcomer.conf both have registration id" in done.err
    assert gateway.properties("gateway")["State"] == "assigned"
    assert gateway.properties("a-newcomer")["State"] == "failed"


def test_a_file_that_became_empty_while_no_daemon_ran_does_not_retire_an_assigned_identity(gateway):
    before = assign(gateway)
    conf = gateway.configuration / "gateway.conf"
    text = conf.read_text()
    gateway.stop()
    conf.write_text("")
    gateway.start()
    after = gateway.wait_for(State="assigned", Waiting="config", LastErrorId="config")
    assert after["Generation"] == before["Generation"] and "the file is empty, although gateway is assigned" in after["LastError"]
    assert (gateway.run / "gateway" / "connection.json").exists()
    reloaded = gateway.dpsctl("reload")
    assert reloaded.code == 0 and "0 retired, 1 unchanged" in reloaded.out
    assert gateway.properties("gateway")["State"] == "assigned"
    conf.write_text(text)
    gateway.reload()
    gateway.wait_for(State="assigned", Healthy=True)


def test_what_is_to_be_written_is_named_where_it_is_read(gateway):
    gateway.start()
    assert f"Write {gateway.configuration}/NAME.conf" in gateway.dpsctl("status").out
    gateway.identity(attestation={"Key": "pasted"})
    assert f"{gateway.configuration}/NAME.key" in gateway.dpsctl("reload").err


def test_an_empty_file_of_an_identity_that_was_never_assigned_is_a_mask(gateway):
    (gateway.configuration / "gateway.conf").write_text("")
    gateway.start()
    assert gateway.properties()["State"] == "idle"


# ---- specifiers ----


def test_a_specifier_without_a_value_is_tried_again_at_a_reload(gateway, emulator):
    path = gateway.directory / "id"
    gateway.identity(registration_id=f"%{{file:{path}}}", key=emulator.enroll("device-7"))
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert "RegistrationId=" in properties["LastError"] and properties["LastError"].count(str(path)) == 1
    gateway.wait_for_log("RegistrationId=")
    assert gateway.log.count("RegistrationId=") == 1 and "stays in force" not in gateway.log
    path.write_text("device-7\n")
    gateway.reload()
    assert gateway.wait_for(State="assigned", Healthy=True)["RegistrationId"] == "device-7"


def test_capitals_from_a_specifier_are_warned_of_where_a_key_is_derived(gateway, emulator):
    path = gateway.directory / "cn"
    path.write_text("GW-7")
    group = a_key()
    gateway.identity(registration_id=f"%{{credential:name}}-%{{file:{path}}}", attestation={"Key": None, "GroupKey": gateway.write_key("group", group)})
    (gateway.credentials / "name").write_text("Unit")
    gateway.start()
    gateway.wait_for_log("has capital letters, and the device's key is derived from it")


def test_an_error_in_a_specifier_names_its_current_line(gateway):
    conf = gateway.identity(registration_id="%{file:/nosuch}", key=a_key())
    gateway.start()
    gateway.wait_for(check=lambda p: p["LastError"].startswith(f"{conf}:3: RegistrationId="))
    conf.write_text("# moved\n" + conf.read_text())
    gateway.reload()
    gateway.wait_for(check=lambda p: p["LastError"].startswith(f"{conf}:4: RegistrationId="))


def test_an_error_in_a_key_names_its_current_line(gateway):
    conf = gateway.identity(attestation={"Key": "credential:none"})
    line = conf.read_text().splitlines().index("Key=credential:none") + 1
    gateway.start()
    gateway.wait_for(check=lambda p: p["LastError"].startswith(f"{conf}:{line}: Key="))
    conf.write_text("# moved\n" + conf.read_text())
    gateway.reload()
    gateway.wait_for(check=lambda p: p["LastError"].startswith(f"{conf}:{line + 1}: Key="))


def test_a_specifier_that_loses_its_value_keeps_the_assignment(gateway, emulator):
    path = gateway.directory / "id"
    path.write_text("device-7\n")
    gateway.identity(registration_id=f"%{{file:{path}}}", key=emulator.enroll("device-7"))
    gateway.start()
    gateway.wait_for(State="assigned")
    files = gateway.files()
    path.unlink()
    gateway.restart()
    properties = gateway.wait_for(State="assigned", Waiting="config")
    assert not properties["Healthy"] and gateway.files() == files


@pytest.mark.parametrize("registration_id", ["%{mac:nosuch0}", "%{mac:nosuch0|credential:none}"])
def test_a_missing_interface_is_waited_for(gateway, emulator, registration_id):
    gateway.identity(registration_id=registration_id, key=a_key())
    gateway.start()
    properties = gateway.wait_for(State="unprovisioned", Waiting="network")
    assert "nosuch0" in properties["LastError"] and not emulator.requests()


def test_the_first_alternative_with_a_value_is_used(gateway, emulator, tmp_path):
    (tmp_path / "serial").write_text("SN42\n")
    gateway.identity(registration_id=f"gw-%{{mac:nosuch0|file:{tmp_path}/serial}}", key=emulator.enroll("gw-SN42"))
    gateway.start()
    assert gateway.wait_for(State="assigned")["RegistrationId"] == "gw-SN42"


# ---- secrets ----


@pytest.fixture
def short_directory():
    """Messages are cut, so the long paths of pytest's directories would not fit."""
    with tempfile.TemporaryDirectory(prefix="dps-") as directory:
        yield pathlib.Path(directory)


def test_a_key_that_others_can_read_is_refused_with_the_command_to_run(gateway, short_directory):
    path = short_directory / "open.key"
    path.write_text(a_key())
    path.chmod(0o644)
    gateway.identity(attestation={"Key": path})
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    message = properties["LastError"]
    assert properties["LastErrorId"] == "config" and "gateway.conf:" in message
    assert f"owner {path.owner()}:{path.group()}" in message
    assert "mode 0644" in message and re.search(f"chmod 06[04]0 {path}", message)
    assert "read-only" not in message


@needs_root
def test_a_key_of_a_foreign_user_is_refused_everywhere_in_the_same_words(gateway, short_directory):
    """Its owner could read it, and let others read it."""
    path = short_directory / "gw.key"
    conf = gateway.identity(attestation={"Key": path})
    path.write_text(gateway.emulator.enroll("gateway"))
    path.chmod(0o600)
    shutil.chown(path, "nobody")
    gateway.start()
    message = gateway.wait_for(State="failed", Waiting="config")["LastError"]
    words = re.search(f"{path}: a user other than ours owns it \\(owner nobody:[a-z]+, mode 0600\\): run (chown root:[a-z]+ {path} "
                      f"&& chmod 0640 {path})", message)
    assert words, message
    checked = gateway.dpsctl("check", "gateway", "--offline")
    assert checked.code == 1 and words[0] in re.sub(r"\s+", " ", checked.out), checked.out
    verified = gateway.dpsctl("verify-config", conf)
    assert verified.code == 1 and words[0] in verified.out, verified.out + verified.err

    subprocess.run(words[1], shell=True, check=True)
    gateway.wait_for(State="assigned")


@needs_root
def test_a_secret_that_a_container_mounts_is_not_to_be_changed_here(gateway, short_directory):
    path = short_directory / "secret" / "key"
    path.parent.mkdir()
    gateway.identity(attestation={"Key": path})
    gateway.wrapper = mounted(f"mount -t tmpfs none {path.parent} && echo {a_key()} > {path} && chmod 0444 {path}"
                              f" && mount -o remount,ro {path.parent}")
    gateway.start()
    message = gateway.wait_for(State="failed", Waiting="config")["LastError"]
    assert "mode 0444), on a mount that is read-only here" in message
    assert "mode=0400,uid=0 (Kubernetes: defaultMode: 0400)" in message and "chmod" not in message


@needs_root
def test_a_secret_of_podman_is_not_to_be_changed_here_either(gateway):
    """It is on a mount that is not read-only, but is made anew for each container."""
    gateway.identity(attestation={"Key": "/run/secrets/key"})
    gateway.wrapper = mounted(f"mount -t tmpfs none /run && mkdir /run/secrets && echo {a_key()} > /run/secrets/key && chmod 0444 /run/secrets/key")
    gateway.start()
    message = gateway.wait_for(State="failed", Waiting="config")["LastError"]
    assert "mode 0444), a secret from outside: where it comes from, set mode=0400,uid=0 (Kubernetes: defaultMode: 0400)" in message
    assert "chmod" not in message


def test_an_identity_is_provisioned_after_that_command(gateway, emulator):
    path = gateway.credentials / "open.key"
    path.write_text(emulator.enroll("gateway"))
    path.chmod(0o644)
    gateway.identity(attestation={"Key": path})
    gateway.start()
    gateway.wait_for(State="failed", Waiting="config")
    path.chmod(0o600)
    gateway.wait_for(State="assigned")


def test_a_missing_key_is_waited_for(gateway, emulator):
    path = gateway.credentials / "late.key"
    gateway.identity(attestation={"Key": path}, key=None)
    gateway.start()
    properties = gateway.wait_for(State="unprovisioned", Waiting="key")
    assert properties["LastErrorId"] == "key" and str(path) in properties["LastError"]
    late = gateway.credentials / ".late"
    late.write_text(emulator.enroll("gateway"))
    late.chmod(0o400)
    late.rename(path)
    gateway.wait_for(State="assigned")


def test_a_key_that_is_not_base64_is_refused(gateway):
    gateway.identity(key="!! not a key !!")
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert "base64" in properties["LastError"] and "!!" not in properties["LastError"]


@pytest.mark.parametrize("key_name", ["Key", "GroupKey"])
@pytest.mark.parametrize("first", ["", "/"])  # one key in 64 looks like a path
def test_a_pasted_key_is_never_shown(gateway, key_name, first):
    key = first + a_key()[len(first):]
    gateway.identity(attestation={"Key": None, key_name: key})
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert f"{key_name}=" in properties["LastError"] and "credential:" in properties["LastError"]
    with pytest.raises(DBusErrorResponse) as refused:
        gateway.call(None, "Reload")
    said = [str(properties), str(refused.value.data), str(gateway.notify.lines)]
    for arguments in (("status",), ("status", "gateway"), ("show", "gateway"), ("cat-config", "gateway"), ("history",),
                      ("check", "gateway", "--offline"), ("verify-config", gateway.configuration / "gateway.conf"),
                      ("--json=short", "status")):
        result = gateway.dpsctl(*arguments)
        said += [result.out, result.err]
    said.append(gateway.whole_log())
    part = key.strip("/=")[:12]
    assert not [text for text in said if part in text]
    assert part not in "".join(path.read_text() for path in gateway.state.glob("*.json"))


# ---- files that a configuration names ----


@pytest.mark.parametrize("content, why", [
    (None, "cannot be read: No such file"), ("not JSON", "is not JSON"), ("[1, 2]", "must be a JSON object"), ("{}\0", "zero byte"),
    ("huge", "larger than 96 kB"), ("fifo", "is not a regular file")])
def test_an_invalid_payload_file_is_an_error_until_it_is_corrected(gateway, emulator, short_directory, content, why):
    path = short_directory / "payload.json"
    if content == "fifo":
        os.mkfifo(path)
    elif content is not None:
        path.write_text(content)
    if content == "huge":
        os.truncate(path, 8 << 30)
    gateway.identity(provisioning={"PayloadFile": path})
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert properties["LastErrorId"] == "config"
    for said in (properties["LastError"], gateway.dpsctl("check", "gateway", "--offline").out, gateway.dpsctl("verify-config").out,
                 gateway.dpsctl("verify-config", gateway.configuration / "gateway.conf").out):
        assert str(path) in said and why in said
    assert not emulator.requests("register")
    path.unlink(missing_ok=True)
    path.write_text('{"site": "here"}')
    assert gateway.dpsctl("verify-config").code == 0
    gateway.wait_for(State="assigned")
    assert emulator.requests("register")[0]["payload"] == {"site": "here"}


def test_a_payload_file_may_begin_with_a_byte_order_mark(gateway, emulator, short_directory):
    path = short_directory / "payload.json"
    path.write_bytes(b'\xef\xbb\xbf{"site": "here"}\r\n')
    gateway.identity(provisioning={"PayloadFile": path})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert emulator.requests("register")[0]["payload"] == {"site": "here"}


@pytest.mark.parametrize("spoil, why", [
    (lambda key: f'"{key}"\n'.encode(), "remove the quotes"),
    (lambda key: b"\xff\xfe" + key.encode("utf-16-le"), "UTF-16"),
    (lambda key: f"HostName=h;SharedAccessKey={key}".encode(), "connection string"),
    (lambda key: f"{key}\n{key}\n".encode(), "more than one key"),
    (lambda key: b"", "it is empty"),
])
def test_what_is_no_key_is_reported_in_the_same_words_everywhere(gateway, emulator, short_directory, spoil, why):
    key, path = emulator.enroll("gateway"), short_directory / "gateway.key"
    path.write_bytes(spoil(key))
    path.chmod(0o600)
    gateway.identity(attestation={"Key": path})
    gateway.start()
    assert why in gateway.wait_for(State="failed", Waiting="config")["LastError"]
    assert why in gateway.dpsctl("check", "gateway", "--offline").out
    verified = gateway.dpsctl("verify-config")
    assert verified.code == 1 and f"{path}: " in verified.out and why in verified.out
    derived = gateway.dpsctl("derive-key", "--key", path, "gateway")
    assert derived.code == 1 and why in derived.err


def der(thing):
    if hasattr(thing, "public_bytes"):
        return thing.public_bytes(serialization.Encoding.DER)
    return thing.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def write_pair(gateway, directory, certificate, key, **provisioning):
    """Configures an identity with these files."""
    paths = {"Certificate": directory / "gateway.pem", "PrivateKey": directory / "gateway.key"}
    paths["Certificate"].write_bytes(certificate)
    paths["PrivateKey"].write_bytes(key)
    for path in paths.values():
        path.chmod(0o600)
    gateway.identity(method="x509", attestation=paths, provisioning=provisioning)
    return paths


@pytest.mark.parametrize("spoil, which, why", [
    (lambda c, k: (der(c), key_pem(k)), "Certificate", "it is a certificate in DER: openssl x509 -inform DER"),
    (lambda c, k: (pem(c), der(k)), "PrivateKey", "it is a private key in DER: openssl pkey -inform DER"),
    (lambda c, k: (pkcs12.serialize_key_and_certificates(b"gateway", k, c, None, serialization.NoEncryption()), key_pem(k)),
     "Certificate", "it is a PKCS#12 archive: openssl pkcs12 -in OLD -nokeys"),
    (lambda c, k: (pem(c).decode().encode("utf-16"), key_pem(k)), "Certificate", "it is UTF-16 text"),
    (lambda c, k: (pem(c), key_pem(k).decode().encode("utf-16")), "PrivateKey", "it is UTF-16 text"),
    (lambda c, k: (b"", key_pem(k)), "Certificate", "it is empty"),
    (lambda c, k: (key_pem(k), key_pem(k)), "Certificate", "the file holds no PEM certificate"),
    (lambda c, k: (pem(c), pem(c)), "PrivateKey", "the file holds no PEM private key"),
    (lambda c, k: (pem(c)[:300] + b"\n-----END CERTIFICATE-----\n", key_pem(k)), "Certificate", "a certificate in the file is damaged: copy the file again"),
    (lambda c, k: (pem(c), key_pem(ec.generate_private_key(ec.SECP256R1()))), "PrivateKey", "not the key of the first certificate"),
], ids=["certificate-der", "key-der", "pkcs12", "certificate-utf16", "key-utf16", "empty", "no-certificate", "no-key", "damaged",
        "other-key"])
def test_what_is_no_certificate_or_key_is_reported_in_the_same_words_everywhere(gateway, short_directory, spoil, which, why):
    key = ec.generate_private_key(ec.SECP256R1())
    paths = write_pair(gateway, short_directory, *spoil(Issuer("factory").sign(name("gateway"), key, []), key))
    gateway.start()
    words = f"{which}=: {paths[which]}: {why}"
    assert words in gateway.wait_for(State="failed", Waiting="config")["LastError"]
    assert words in gateway.dpsctl("check", "gateway", "--offline").out
    verified = gateway.dpsctl("verify-config")
    assert verified.code == 1 and words in verified.out


def test_pem_with_a_byte_order_mark_and_trusted_certificates_are_taken(gateway, emulator, short_directory):
    factory, key = Issuer("factory"), ec.generate_private_key(ec.SECP256R1())
    leaf = pem(factory.sign(name("gateway"), key, []))
    emulator.add({"individualEnrollments": [{"registrationId": "gateway", "attestation": {
        "type": "x509", "x509": {"clientCertificates": {"primary": leaf.decode()}}}}]})
    trusted = subprocess.run(["openssl", "x509", "-trustout", "-addtrust", "clientAuth"], input=leaf, capture_output=True,
                             check=True).stdout
    assert b"BEGIN TRUSTED CERTIFICATE" in trusted
    mark, ca_file = b"\xef\xbb\xbf", short_directory / "ca.pem"
    ca_file.write_bytes(mark + pathlib.Path(emulator.ca_file).read_bytes() + pem(factory.certificate))
    write_pair(gateway, short_directory, mark + trusted, mark + key_pem(key), CaFile=ca_file)
    assert gateway.dpsctl("verify-config").code == 0
    gateway.start()
    gateway.wait_for(State="assigned")
    assert "BEGIN CERTIFICATE" in gateway.files()["cert.pem"]


def test_a_key_with_a_byte_order_mark_and_line_breaks_is_taken(gateway, emulator, short_directory):
    key, path = emulator.enroll("gateway"), short_directory / "gateway.key"
    path.write_bytes(b"\xef\xbb\xbf" + f"{key[:20]}\r\n{key[20:].rstrip('=')}\r\n".encode())
    path.chmod(0o600)
    gateway.identity(attestation={"Key": path})
    gateway.start()
    gateway.wait_for(State="assigned")


@pytest.mark.parametrize("what", ["missing", "fifo", "huge", "drop-ins"])
def test_verify_config_opens_what_the_daemon_opens(gateway, short_directory, what):
    conf = gateway.identity()
    assert gateway.dpsctl("verify-config").code == 0
    path = short_directory / "ca.pem"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "huge":
        path.touch()
        os.truncate(path, 8 << 30)
    if what == "drop-ins":
        conf.with_name("gateway.conf.d").touch()
    else:
        conf.write_text(conf.read_text() + f"[Provisioning]\nCaFile={path}\n")
    done = gateway.dpsctl("verify-config")
    assert done.code == 1 and {"missing": "No such file", "fifo": "not a regular file", "huge": "larger than 4 MB",
                               "drop-ins": "gateway.conf.d: cannot be listed: Not a directory"}[what] in done.out


def test_a_missing_ca_file_is_an_error_until_it_appears(gateway, emulator, short_directory):
    path = short_directory / "ca.pem"
    gateway.identity(provisioning={"CaFile": path})
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert properties["LastErrorId"] == "config" and str(path) in properties["LastError"]
    assert not emulator.requests()
    path.write_text(emulator.ca_file.read_text())
    gateway.wait_for(State="assigned")


def test_a_key_of_another_certificate_is_an_error(gateway, emulator):
    certificate, _ = emulator.certificate("gateway")
    _, other_key = emulator.certificate("other")
    other_key.chmod(0o400)
    gateway.identity(method="x509", attestation={"Certificate": certificate, "PrivateKey": other_key})
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert properties["LastErrorId"] == "config" and "gateway.conf:" in properties["LastError"]


def test_a_group_that_does_not_exist_is_replaced_by_the_daemons(gateway):
    gateway.identity(access={"Group": "no-such-group"})
    gateway.start()
    gateway.wait_for(State="assigned")
    assert (gateway.run / "gateway").stat().st_gid == os.getegid()
    assert gateway.wait_for_log("no-such-group").startswith("<4>")


def test_a_missing_group_of_several_identities_is_warned_of_once(gateway):
    key = a_key()
    for name, group in (("a", "no-such-group"), ("b", "no-such-group"), ("c", "none-either")):
        gateway.identity(name, key=key, access={"Group": group})
    gateway.start()
    gateway.wait_for_log("Group=no-such-group")
    gateway.wait_for_log("Group=none-either")
    for group in ("no-such-group", "none-at-all"):
        gateway.identity("d", key=key, access={"Group": group})
        gateway.reload()
    gateway.wait_for_log("Group=none-at-all")
    log = gateway.whole_log()
    for group in ("no-such-group", "none-either", "none-at-all"):
        assert log.count(f"Group={group}") == 1


@pytest.mark.parametrize("name", ["a.b:c-d_e", "_", "7", "x" * 64])
def test_all_valid_characters_can_be_in_a_name(gateway, name):
    reference = gateway.write_key("device.key", gateway.emulator.enroll("device-1"))
    gateway.identity(name, registration_id="device-1", attestation={"Key": reference})
    gateway.start()
    assert gateway.wait_for(name, State="assigned")["Name"] == name
    assert gateway.dpsctl("status", name).code == 0 and gateway.connection(name)["deviceId"] == "device-1"


@pytest.mark.parametrize("name", ["with space", "-dash", ".hidden", "x" * 65, "twice.conf"])
def test_a_file_with_an_invalid_name_is_skipped_with_a_warning(gateway, name):
    gateway.identity(name, registration_id="device-1", key=a_key())
    gateway.start()
    assert gateway.properties()["NIdentities"] == 0
    if not name.startswith("."):
        assert gateway.wait_for_log(re.escape(name[:20])).startswith("<4>")


# ---- reload ----


def test_a_reload_does_not_disturb_an_unchanged_identity(gateway, emulator):
    gateway.identity("same")
    gateway.identity("changed")
    gateway.start()
    before = gateway.wait_for("same", State="assigned")
    gateway.wait_for("changed", State="assigned")
    files = {path.name: path.stat().st_ino for path in (gateway.run / "same").iterdir()}
    gateway.identity("changed", registration_id="changed-too")
    gateway.identity("new")
    gateway.reload()
    gateway.wait_for("new", State="assigned")
    gateway.wait_for("changed", DeviceId="changed-too")
    assert gateway.properties("same") == before
    assert {path.name: path.stat().st_ino for path in (gateway.run / "same").iterdir()} == files
    assert len(emulator.requests("connect", "same")) == 1


@pytest.mark.parametrize("what", ["directory", "token", "connection.json"])
def test_a_reload_brings_back_files_that_were_removed(gateway, what):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    files = gateway.files()
    directory = gateway.run / "gateway"
    if what == "directory":
        shutil.rmtree(directory)
    else:
        (directory / what).unlink()
    gateway.reload()
    end = time.monotonic() + DEADLINE
    while gateway.files() != files:
        assert time.monotonic() < end, f"after the reload there are only {list(gateway.files())}"
        time.sleep(0.02)
    assert gateway.properties("gateway") == before


def test_a_reload_does_not_disturb_a_registration_in_flight(gateway, emulator):
    key = emulator.enroll("gateway", **SLOW)
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")
    gateway.reload()
    emulator.assign("gateway")
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("connect")) == 1


def test_a_changed_conf_ends_the_registration_in_flight(gateway, emulator):
    gateway.identity(registration_id="old", key=emulator.enroll("old", assigningTime=600, retryAfter=20))
    gateway.start()
    emulator.wait_for_requests(1, "register", "old")
    gateway.identity(registration_id="new", key=emulator.enroll("new"))
    gateway.reload()
    assert gateway.wait_for(State="assigned")["RegistrationId"] == "new"
    emulator.wait_for_requests(1, "disconnect", "old")


def test_removing_a_conf_ends_the_registration_in_flight(gateway, emulator):
    gateway.identity(key=emulator.enroll("gateway", assigningTime=600, retryAfter=20))
    gateway.start()
    emulator.wait_for_requests(1, "register")
    (gateway.configuration / "gateway.conf").unlink()
    gateway.reload()
    assert gateway.properties()["State"] == "idle"
    emulator.wait_for_requests(1, "disconnect")


def test_a_changed_lifetime_is_for_the_next_token(gateway, emulator):
    before = assign(gateway)
    key = (gateway.credentials / "gateway.key").read_text().strip()
    gateway.identity(key=key, hub={"TokenLifetime": "2h"})
    gateway.reload()
    _, expires_at = gateway.call("gateway", "GetToken", "t", 0)
    assert expires_at < (time.time() + 7300) * SEC
    assert gateway.properties("gateway")["AssignedHub"] == before["AssignedHub"]


def test_systemd_is_notified_of_a_reload(gateway):
    gateway.start()
    gateway.reload()
    assert "RELOADING=1" in gateway.notify.lines
    assert any(line.startswith("MONOTONIC_USEC=") for line in gateway.notify.lines)


# ---- requests that cannot be carried out ----


@pytest.mark.parametrize("change, error, word", [
    ({"registration_id": "gw-%{mac:nope0}"}, "Config", "nope0"),
    ({"attestation": {"Key": "credential:absent.key"}}, "KeyUnavailable", "absent.key"),
    ({"attestation": {"Key": "/etc/hostname"}}, "Config", "hostname"),
])
def test_a_request_fails_and_says_what_is_missing(gateway, change, error, word):
    gateway.identity(key=a_key(), **change)
    gateway.start()
    gateway.wait_for(check=lambda p: p["LastErrorId"])
    with pytest.raises(DBusErrorResponse) as refusal:
        gateway.call("gateway", "Reprovision")
    assert refusal.value.name == f"{NAME}.Error.{error}"
    assert word in refusal.value.data[0]


@pytest.mark.parametrize("arguments, code, said", [
    (["--help"], 0, "dpsd --once"),
    (["--version"], 0, "dpsd"),
    (["--log-level=loud"], 2, "not a log level: loud"),
    (["--once", "--timeout=soon"], 2, "not a duration: soon"),
    (["gw"], 2, "--once"),
])
def test_command_line_of_dpsd(gateway, arguments, code, said):
    done = gateway.run_once(*arguments)
    assert done.code == code
    assert said in (done.err if code else done.out)


# ---- a key in the wrong place ----


SETTINGS = ["Provisioning.IdScope", "Provisioning.RegistrationId", "Provisioning.Endpoint", "Provisioning.CaFile",
            "Provisioning.Transport", "Provisioning.MqttPort", "Provisioning.Splay", "Provisioning.Address", "Provisioning.Proxy",
            "Provisioning.PayloadFile", "Attestation.Method", "Attestation.Key", "Attestation.Certificate",
            "Attestation.PrivateKey", "Hub.TokenLifetime", "Hub.RenewBefore", "Issuance.Request", "Access.Group"]


@pytest.mark.parametrize("value", ["{}", "credential:{}", "HostName=x;DeviceId=y;SharedAccessKey={}", "/{}", "credential:unpadded {}"])
def test_a_key_in_a_wrong_setting_is_never_shown(lone_gateway, value):
    keys = {}
    for k, setting in enumerate(SETTINGS):
        keys[f"device-{k}"] = base64.b64encode(b"\x00\x10\x83" + os.urandom(61 if k % 2 else 29)).decode()
        if "unpadded" in value:
            keys[f"device-{k}"] = "a7" + keys[f"device-{k}"].rstrip("=")[2:]
        section, name_of = setting.split(".")
        lone_gateway.write_conf(f"device-{k}", "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=device\n"
                                f"[{section}]\n{name_of}={value.replace('unpadded ', '').format(keys[f'device-{k}'])}\n")
    lone_gateway.start()
    shown = lone_gateway.dpsctl("status", "--json=short").out + lone_gateway.dpsctl("verify-config").err
    shown += lone_gateway.dpsctl("reload").err + lone_gateway.whole_log()
    shown = shown.replace("\\/", "/")
    assert [SETTINGS[int(one[7:])] for one, key in keys.items() if key.rstrip("=") in shown] == []
