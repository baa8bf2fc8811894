# SPDX-License-Identifier: MIT
"""A disk that is full, read-only, slow or broken, and a daemon that is killed while it writes."""
import errno
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from calls import Calls
from namespace import inside, mounted, needs_root, seen_by
from process import DEADLINE, WORLD, eventually

PATIENCE = 15  # seconds after which a failed write is tried again


def fail(gateway, fault):
    """Makes a call fail from the next start on; disk.c explains the text."""
    gateway.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_DISK": fault}


def move(gateway, emulator, hub):
    """Gives the enrollment another hub, and asks DPS."""
    emulator.set("gateway", iotHubs=hub)
    return gateway.dpsctl("reprovision", "gateway", "--wait")


def fill(directory):
    """Fills the file system to the last byte."""
    with open(directory / "filler", "wb", buffering=0) as filler:
        with pytest.raises(OSError):
            while True:
                filler.write(bytes(512))


def make_read_only(gateway):
    """Makes the state directory read-only, from the next start on."""
    gateway.wrapper = mounted(f"mount --bind {gateway.state} {gateway.state} && mount -o remount,bind,ro {gateway.state}")


def remembered_hub(gateway):
    return json.loads((seen_by(gateway, gateway.state) / "gateway.json").read_text())["assignedHub"]


# ---- a full or read-only disk ----


@needs_root
def test_a_full_disk_is_reported_and_the_assignment_served_from_memory(gateway, emulator):
    gateway.wrapper = mounted(f"mount -t tmpfs -o size=64k,mode=0700 none {gateway.state}")
    key = emulator.enroll("gateway", iotHubs=["hub-1.example"])
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(Healthy=True)
    fill(seen_by(gateway, gateway.state))
    assert move(gateway, emulator, "hub-2.example").code == 0
    properties = gateway.wait_for(AssignedHub="hub-2.example")
    assert (properties["State"], properties["Healthy"], properties["LastErrorId"]) == ("assigned", False, "disk")
    assert properties["LastErrorStep"] == "store" and "No space left" in properties["LastError"]
    assert gateway.connection()["hub"] == "hub-2.example"
    assert remembered_hub(gateway) == "hub-1.example"  # the whole old record, and not a part of the new one
    assert "No space left" in gateway.wait_for_log("serving from memory")


@needs_root
def test_a_disk_with_room_again_is_written_and_the_identity_is_healthy(gateway, emulator, clock):
    gateway.wrapper = mounted(f"mount -t tmpfs -o size=64k,mode=0700 none {gateway.state}")
    key = emulator.enroll("gateway", iotHubs=["hub-1.example"])
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(Healthy=True)
    fill(seen_by(gateway, gateway.state))
    move(gateway, emulator, "hub-2.example")
    gateway.wait_for(LastErrorId="disk")
    (seen_by(gateway, gateway.state) / "filler").unlink()
    clock.pass_by(PATIENCE)
    properties = gateway.wait_for(Healthy=True)
    assert properties["LastErrorId"] == "" and properties["AssignedHub"] == "hub-2.example"
    assert remembered_hub(gateway) == "hub-2.example"
    gateway.wait_for_log("its record can be written to disk again")


@needs_root
def test_a_start_from_a_read_only_disk_serves_its_assignment(gateway, emulator):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    gateway.stop()
    make_read_only(gateway)
    gateway.start()
    after = gateway.properties("gateway")
    assert (after["State"], after["Healthy"], after["AssignedHub"]) == ("assigned", True, before["AssignedHub"])
    assert len(emulator.requests("register")) == 1


@needs_root
def test_a_first_start_on_a_read_only_disk_serves_the_assignment_from_memory(gateway, clock):
    make_read_only(gateway)
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned", LastErrorId="disk")
    assert gateway.connection()["hub"] == properties["AssignedHub"] and not list(gateway.state.iterdir())
    inside(gateway, "mount", "-o", "remount,bind,rw", gateway.state)
    clock.pass_by(PATIENCE)
    gateway.wait_for(Healthy=True)
    assert gateway.remembered()["assignedHub"] == properties["AssignedHub"]


@pytest.mark.parametrize("call", ["write 1", "fsync 1", "fsync 2", "renameat 1"])
def test_a_write_that_failed_once_is_tried_again(gateway, clock, call):
    """The calls for the content, the file, the directory and the rename. The clock's floor is there already,
    because another thread would write it, before or after."""
    (gateway.state / ".clock").write_text(f"{int(time.time() - 60) * 1_000_000}\n")
    fail(gateway, f"{call} {errno.EIO}")
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="assigned", LastErrorId="disk")
    assert "Input/output error" in properties["LastError"] and gateway.connection()["hub"] == properties["AssignedHub"]
    clock.pass_by(PATIENCE)
    gateway.wait_for(Healthy=True)
    assert gateway.remembered()["assignedHub"] == properties["AssignedHub"]


def test_a_limit_of_file_sizes_is_an_error_of_the_disk(gateway):
    """LimitFSIZE= in the unit. The kernel would end the daemon by SIGXFSZ."""
    gateway.wrapper = ["prlimit", "--fsize=64"]
    gateway.identity()
    gateway.start()
    assert "File too large" in gateway.wait_for(State="assigned", LastErrorId="disk")["LastError"]


# ---- files of somebody else ----

SOMEBODY = 54321


@needs_root
def test_files_that_root_makes_with_once_belong_to_the_owner_of_the_directories(gateway):
    for directory in (gateway.state, gateway.run):
        os.chown(directory, SOMEBODY, SOMEBODY)
    gateway.identity()
    assert gateway.run_once("--once").code == 0
    made = [path for directory in (gateway.state, gateway.run) for path in directory.rglob("*")]
    assert {"gateway.json", ".lock", "connection.json", ".waits"} <= {path.name for path in made}
    assert [str(path) for path in made if path.stat().st_uid != SOMEBODY] == []


@needs_root
def test_a_record_of_somebody_else_is_not_corrupt_but_waited_for(gateway, emulator, clock):
    """The daemon is root, but without the right to read everything."""
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    gateway.stop()
    record = gateway.state / "gateway.json"
    os.chown(record, SOMEBODY, SOMEBODY)
    gateway.wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    gateway.start()
    properties = gateway.wait_for(State="unprovisioned", LastErrorId="disk", Waiting="retry")
    assert f"user {SOMEBODY} owns it (mode 0600); run: chown 0:0 {record}" in properties["LastError"]
    assert not list(gateway.state.glob("*.corrupt"))
    os.chown(record, 0, 0)
    clock.pass_by(PATIENCE)
    after = gateway.wait_for(State="assigned", Healthy=True)
    assert (after["AssignedHub"], after["Generation"]) == (before["AssignedHub"], before["Generation"])
    gateway.wait_for_log("its record can be read again")
    assert len(emulator.requests("register")) == 1


@needs_root
def test_a_state_directory_that_cannot_be_listed_stops_no_start(gateway, emulator, clock):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    gateway.stop()
    gateway.state.chmod(0)
    gateway.wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    gateway.start()
    gateway.wait_for(State="unprovisioned", LastErrorId="disk", Waiting="retry")
    gateway.state.chmod(0o700)
    clock.pass_by(PATIENCE)
    after = gateway.wait_for(State="assigned", Healthy=True)
    assert (after["AssignedHub"], after["Generation"]) == (before["AssignedHub"], before["Generation"])
    assert len(emulator.requests("register")) == 1


# ---- a disk that becomes read-only while the daemon runs ----


@pytest.fixture
def ext4(gateway):
    """An ext4 image of its own, which is mounted as the state directory from the next start on."""
    if subprocess.run(["losetup", "--find"], check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode != 0:
        pytest.skip("no loop device to mount a file")
    image = gateway.directory / "disk.img"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, stdin=subprocess.DEVNULL)
    gateway.wrapper = mounted(f"mount -o loop {image} {gateway.state}")
    yield image
    gateway.end()
    wait_until_let_go(image)


def wait_until_let_go(image):
    """An image that is mounted twice would be corrupted."""
    def is_free():
        return not subprocess.run(["losetup", "--associated", image], check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout

    eventually(is_free, what=f"{image} that nobody has mounted")


def try_again(gateway, clock):
    """Waits until the daemon has tried to write once more."""
    before = gateway.properties("gateway")
    clock.pass_by(3600)
    gateway.wait_for(LastErrorId="disk", check=lambda p: p["LastErrorAt"] > before["LastErrorAt"])


def assert_served_from_memory(gateway, emulator, hub):
    """Registers with another hub: it is served, and the error of the disk is reported."""
    before = gateway.properties("gateway")
    token = gateway.files()["token"]
    assert move(gateway, emulator, hub).code == 0
    properties = gateway.wait_for(AssignedHub=hub, LastErrorId="disk")
    assert (properties["State"], properties["Healthy"], properties["LastErrorStep"]) == ("assigned", False, "store")
    assert "Read-only file system" in properties["LastError"] and properties["Generation"] == before["Generation"] + 1
    connection = gateway.connection()
    assert (connection["hub"], connection["generation"]) == (hub, properties["Generation"])
    assert gateway.files()["token"] != token and gateway.files()["token"].strip() == connection["password"]
    assert "Read-only file system" in gateway.wait_for_log("serving from memory")


@needs_root
def test_a_disk_can_be_made_read_only_by_hand_and_writable_again(gateway, emulator, clock, ext4):
    """As on images that are only writable during updates: the daemon must hold no file open for writing."""
    gateway.identity(key=emulator.enroll("gateway", iotHubs=["hub-1.example"]))
    gateway.start()
    gateway.wait_for(Healthy=True)
    inside(gateway, "mount", "-o", "remount,ro", gateway.state)
    assert_served_from_memory(gateway, emulator, "hub-2.example")
    assert remembered_hub(gateway) == "hub-1.example"
    inside(gateway, "mount", "-o", "remount,rw", gateway.state)
    clock.pass_by(PATIENCE)
    gateway.wait_for(Healthy=True)
    assert remembered_hub(gateway) == "hub-2.example"


@needs_root
def test_a_broken_disk_is_reported_once_and_tried_again(gateway, emulator, clock, ext4):
    gateway.identity(key=emulator.enroll("gateway", iotHubs=["hub-1.example"]))
    gateway.start()
    gateway.wait_for(Healthy=True)
    inside(gateway, "mount", "-o", "remount,abort", gateway.state)
    assert_served_from_memory(gateway, emulator, "hub-2.example")
    gateway.wait_for_log("has moved")
    n_lines = len(gateway.err.lines)
    for _ in range(3):
        try_again(gateway, clock)
    assert gateway.dpsctl("status", "gateway").code == 0
    assert len(gateway.err.lines) == n_lines, gateway.log


@needs_root
def test_a_restart_after_the_disk_broke_loses_nothing(gateway, emulator, ext4):
    """The disk can be mounted again only when nobody uses it any more."""
    gateway.identity(key=emulator.enroll("gateway", iotHubs=["hub-1.example"]))
    gateway.start()
    gateway.wait_for(Healthy=True)
    inside(gateway, "mount", "-o", "remount,abort", gateway.state)
    assert_served_from_memory(gateway, emulator, "hub-2.example")
    before = gateway.files()
    gateway.stop()
    wait_until_let_go(ext4)

    gateway.start()
    gateway.wait_for_log("its record can be written to disk again")
    properties = gateway.wait_for(AssignedHub="hub-2.example", Healthy=True)
    assert properties["Generation"] == gateway.connection()["generation"] == 2
    assert gateway.files() == before and remembered_hub(gateway) == "hub-2.example"
    assert len(emulator.requests("register")) == 2


@needs_root
def test_a_restart_on_a_read_only_disk_does_not_ask_dps(gateway, emulator):
    make_read_only(gateway)
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned", LastErrorId="disk")
    files = gateway.files()
    gateway.restart()
    after = gateway.wait_for(State="assigned", LastErrorId="disk")
    assert (after["AssignedHub"], after["Generation"]) == (before["AssignedHub"], before["Generation"])
    assert gateway.files() == files and len(emulator.requests("register")) == 1


# ---- a slow disk ----


@pytest.fixture
def slow(tmp_path, gateway):
    """The record is not on the disk before release()."""
    calls = Calls(tmp_path, gateway)
    calls.hold(f"fsync {gateway.state}/.#gateway.json")
    yield calls
    calls.release()


def test_the_bus_answers_while_the_disk_is_slow(gateway, emulator, slow):
    gateway.identity()
    gateway.start()
    emulator.wait_for_requests(1, "poll")
    eventually(lambda: list(gateway.state.glob(".#gateway.json*")), what="a file that is being written")
    # An assignment that is not durable does not count, and is not published.
    result = gateway.dpsctl("status", "--json=short")
    assert result.code == 3 and result.json["identities"][0]["State"] == "provisioning"
    assert gateway.files() == {}
    assert not (gateway.state / "gateway.json").exists()
    slow.release()
    gateway.wait_for(State="assigned", Healthy=True)


def test_an_assignment_saved_too_late_for_another_device_does_not_count(gateway, emulator, slow):
    gateway.identity(registration_id="old")
    gateway.start()
    emulator.wait_for_requests(1, "poll")
    eventually(lambda: list(gateway.state.glob(".#gateway.json*")), what="a file that is being written")
    gateway.identity(registration_id="new")
    gateway.reload()
    slow.release()
    assert gateway.wait_for(State="assigned")["DeviceId"] == "new"
    assert gateway.connection()["deviceId"] == "new" and gateway.remembered()["deviceId"] == "new"


# ---- a daemon that is killed while it writes ----


def run_until_killed(gateway, emulator, hub):
    """Starts the daemon and moves the gateway to the hub. Returns whether the daemon survived."""
    gateway.start(wait=False)
    eventually(lambda: not gateway.is_running() or gateway.notify.lines.count("READY=1") > gateway.n_ready)
    if gateway.is_running() and move(gateway, emulator, hub).code != 0:
        gateway.process.wait(DEADLINE)
    return gateway.end() == 0


def n_requests_at_rest(emulator):
    """The number of requests when it has seen the end of each connection, which may be after that of the daemon."""
    eventually(lambda: len(emulator.requests("connect")) == len(emulator.requests("disconnect")), what="the end of all connections")
    return len(emulator.requests())


@pytest.mark.parametrize("call", ["fchmod", "write", "fsync", "renameat"])
def test_a_kill_at_each_step_of_a_write_leaves_the_old_or_the_new_assignment(gateway, emulator, call):
    """A file is made (fchmod), written (write, fsync) and renamed (renameat). The daemon is killed at the first call, then at the
    second and so on, until it survives."""
    emulator.set("*", quotas={"pollsPerTenSeconds": 1000})
    key = emulator.enroll("gateway", iotHubs=["hub-1.example"])
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(State="assigned")
    gateway.stop()

    n, is_through = 0, False
    while not is_through:
        n += 1
        old = gateway.remembered()["assignedHub"]
        new = "hub-2.example" if old == "hub-1.example" else "hub-1.example"
        fail(gateway, f"{call} {n} kill")
        is_through = run_until_killed(gateway, emulator, new)
        assert gateway.remembered()["assignedHub"] in (old, new), n

        gateway.surroundings = {}
        asked = n_requests_at_rest(emulator)
        gateway.start()
        properties = gateway.properties("gateway")
        assert properties["State"] == "assigned" and properties["AssignedHub"] in (old, new), n
        assert gateway.connection()["hub"] == properties["AssignedHub"], n
        assert gateway.connection()["generation"] == properties["Generation"], n
        assert len(emulator.requests()) == asked, n
        gateway.stop()
        assert not list(gateway.state.glob(".#*")), n
    assert n > 2 and properties["AssignedHub"] == new


# ---- other file systems and versions ----


def test_the_state_is_locked_where_only_writable_files_can_be_locked(gateway):
    """NFS is like that."""
    fail(gateway, f"flock 1 {errno.EBADF}")
    gateway.start()
    second = gateway.run_once("--once")
    assert second.code == 1 and f"process {gateway.pid}" in second.err


def test_the_record_of_an_older_version_is_served(gateway, emulator):
    """The record has only the members that the contract names."""
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    gateway.stop()
    contract = ("version", "idScope", "registrationId", "endpoint", "method", "assignedHub", "deviceId", "substatus", "payload",
                "generation", "assignedAt", "tokenExpiresAt", "renewAt")
    state = {key: value for key, value in gateway.remembered().items() if key in contract}
    (gateway.state / "gateway.json").write_text(json.dumps(state))
    gateway.start()
    after = gateway.wait_for(State="assigned", Waiting="", Healthy=True)
    assert after["AssignedHub"] == before["AssignedHub"] and after["Generation"] >= before["Generation"]
    assert gateway.connection()["hub"] == before["AssignedHub"]


def test_a_removed_run_directory_is_made_again(gateway, emulator):
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    files = gateway.files()
    shutil.rmtree(gateway.run / "gateway")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    eventually(lambda: sorted(gateway.files()) == sorted(files), DEADLINE, "all files")
    assert gateway.wait_for(State="assigned")["AssignedHub"] == gateway.connection()["hub"]


# ---- what others do to our directories ----


def is_watched(gateway, directory):
    """Only root can see it; others have to hope."""
    try:
        found = [path.read_text() for path in pathlib.Path(f"/proc/{gateway.pid}/fdinfo").iterdir()]
    except FileNotFoundError:
        return False  # one was closed meanwhile
    except PermissionError:
        return True
    return any(f" ino:{directory.stat().st_ino:x} " in text for text in found)


def test_files_that_somebody_removes_are_written_again(gateway):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    files = gateway.files()
    eventually(lambda: is_watched(gateway, gateway.run / "gateway"), what="a watch")
    for name in ("hub.env", "connection.json"):
        (gateway.run / "gateway" / name).unlink()
        eventually(lambda: gateway.files() == files, DEADLINE, f"all files, after {name} was removed")
    shutil.rmtree(gateway.run / "gateway")
    eventually(lambda: gateway.files() == files, DEADLINE, "all files, after the directory was removed")
    gateway.wait_for_log("somebody has removed its files for programs")
    assert gateway.properties("gateway") == before


def test_a_directory_that_is_replaced_is_noticed_and_written_anew(gateway, emulator):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    files, record = gateway.files(), gateway.remembered()
    gateway.run.rename(gateway.directory / "gone")  # at once: what is removed file by file is written again meanwhile
    gateway.run.mkdir(0o755)
    gateway.state.rename(gateway.directory / "elsewhere")
    gateway.state.mkdir(0o700)
    eventually(lambda: gateway.files() == files, DEADLINE, "all files in the new directory")
    eventually(lambda: (gateway.state / "gateway.json").exists() and gateway.remembered() == record, DEADLINE, "the record")
    gateway.wait_for_log(f"{gateway.state} is another directory now")
    gateway.wait_for_log(f"{gateway.run} is another directory now")
    assert gateway.run_once("--once").code == 1, "the new state directory is not locked"
    assert gateway.properties("gateway") == before
    move(gateway, emulator, "other.azure-devices.net")
    gateway.wait_for(AssignedHub="other.azure-devices.net", Healthy=True)
    assert gateway.connection()["hub"] == gateway.remembered()["assignedHub"] == "other.azure-devices.net"
    gateway.restart()
    assert gateway.wait_for(State="assigned")["AssignedHub"] == "other.azure-devices.net"


def test_directories_have_their_modes_whatever_the_umask_and_the_first_of_a_list_is_taken(gateway):
    gateway.identity()
    gateway.wrapper = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    gateway.state, gateway.run = gateway.directory / "var" / "lib" / "dps", gateway.directory / "var" / "run" / "dps"
    gateway.start(STATE_DIRECTORY=f"{gateway.state}:/nowhere/else", RUNTIME_DIRECTORY=f"{gateway.run}:/nowhere/else")
    gateway.wait_for(State="assigned")
    modes = {path: path.stat().st_mode & 0o7777 for path in (gateway.state, gateway.run, *gateway.state.parents, *gateway.run.parents)
             if gateway.directory in path.parents}
    assert modes.pop(gateway.state) == 0o700
    assert set(modes.values()) == {0o755} and gateway.run in modes
    assert gateway.remembered()["assignedHub"] == gateway.connection()["hub"]


@needs_root
def test_a_state_that_is_mounted_late_is_found(gateway, emulator):
    """The daemon has asked DPS in vain before; what it would have learned is on the partition."""
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    gateway.stop()
    gateway.state.rename(gateway.directory / "partition")
    gateway.state.mkdir(0o700)
    shutil.rmtree(gateway.run / "gateway")
    shutil.rmtree(gateway.run / ".waits")
    emulator.set("gateway", provisioningStatus="disabled")
    gateway.wrapper = mounted("true")
    gateway.start()
    gateway.wait_for(State="failed")
    inside(gateway, "mount", "--bind", gateway.directory / "partition", gateway.state)
    after = gateway.wait_for(State="assigned")
    assert (after["AssignedHub"], after["Generation"]) == (before["AssignedHub"], before["Generation"])
    eventually(lambda: "connection.json" in gateway.files(), what="its files, for which its key is read")
    assert gateway.connection()["hub"] == before["AssignedHub"]
    gateway.wait_for_log(f"{gateway.state} is another directory now")
