# SPDX-License-Identifier: MIT
"""Memory runs out at the first, the second … call that asks for it. Normally each test tries some of these calls; with
$DPS_MEMORY_SWEEP=1 it tries all. Each time, either nothing is wrong, or the error is reported and the work tried again."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from memory import Memory
from process import BUILD, SLOWER, UNDER, Lines
from proxies import PASSWORD, USER, Microsocks
from tpm import modules

pytestmark = [pytest.mark.skipif(bool(UNDER), reason="the program that dpsd runs under would run out of memory"),
              pytest.mark.timeout(900 * SLOWER)]
STEP = 1 if os.environ.get("DPS_MEMORY_SWEEP") else 11
PATIENCE = 60  # seconds after which the daemon has tried again at the latest
TOLD = ("memory", "allocate")


@pytest.fixture
def memory(tmp_path, gateway, clock):
    memory = Memory(tmp_path)
    yield memory.rule(gateway)
    memory.close()


def is_told(text):
    return any(word in text.lower() for word in TOLD)


def blocks_signals(process):
    """Before it does, a SIGHUP would end it."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16) & 1 << (signal.SIGHUP - 1)


def switches(process):
    """How often its threads have run; None while one of them wants to run, or waits for the disk."""
    n = 0
    for path in pathlib.Path(f"/proc/{process.pid}/task").glob("*/status"):
        try:
            text = path.read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            return None  # it has ended meanwhile
        if not re.search(r"^State:\s+S", text, re.M):
            return None
        n += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", text)))
    return n


def run_once(gateway, clock):
    """Runs dpsd --once to its end and returns the exit status; lets time pass while dpsd waits to try again. On a busy machine it
    may not have come so far: it gets longer each time, or its attempts would never be over before their deadlines."""
    gateway.err = Lines()
    gateway.spawn("--once", **gateway.environment())
    seconds = 0.5
    while True:
        before = switches(gateway.process)
        try:
            gateway.process.wait(seconds)
            return gateway.end()
        except subprocess.TimeoutExpired:
            if before is not None and before == switches(gateway.process) and blocks_signals(gateway.process):
                clock.pass_by(PATIENCE)
                gateway.process.send_signal(signal.SIGHUP)  # makes it look at the time
                seconds *= 1.5


def empty(directory):
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep(memory, start):
    """Yields the number of each call that fails, until the program makes fewer calls."""
    n = start
    while True:
        memory.fail(n)
        yield n
        if memory.heal() == 0:
            return
        n += STEP


def assert_whole(gateway, names, n):
    """All files are complete and agree."""
    files, state = gateway.files(), gateway.remembered()
    assert sorted(files) == names, n
    connection = json.loads(files["connection.json"])
    assert (connection["hub"], connection["generation"]) == (state["assignedHub"], state["generation"]), n
    assert connection["registrationState"]["status"] == "assigned" and state["credentialFingerprint"], n
    assert f"IOTHUB_GENERATION={state['generation']}\n" in files["hub.env"], n


def configure(gateway, emulator, method):
    emulator.set("*", quotas={"pollsPerTenSeconds": 1000000})
    if method == "x509":
        certificate, key = emulator.certificate("gateway")
        primary = {"certificate": certificate.read_text()}
        emulator.add({"individualEnrollments": [{
            "registrationId": "gateway",
            "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": primary}}}}]})
        gateway.identity(method="x509", attestation={"Certificate": certificate, "PrivateKey": key})
        return ["cert.pem", "connection.json", "hub.env"]
    group_key = emulator.enroll_group("line-1")
    attestation = {"GroupKey": gateway.write_key("group.key", group_key), "Key": None} if method == "group-key" else {}
    gateway.identity(attestation=attestation, provisioning={"Payload": '{"site":"north","floors":[1,2]}'})
    return ["connection.json", "hub.env", "token"]


@pytest.mark.parametrize("method", ["symmetric-key", "group-key", "x509"])
def test_a_first_start_without_memory_provisions_or_says_so(gateway, emulator, clock, memory, method):
    names = configure(gateway, emulator, method)
    check_first_start(gateway, clock, memory, names, 1 + ("symmetric-key", "group-key", "x509").index(method))


def test_a_first_start_through_a_proxy_without_memory_provisions_or_says_so(gateway, emulator, clock, memory, proxy):
    url = proxy(Microsocks, USER, PASSWORD).url.replace("//", f"//{USER}@")
    emulator.set("*", quotas={"pollsPerTenSeconds": 1000000})
    gateway.identity(provisioning={"Proxy": url, "ProxyPassword": gateway.write_key("proxy", PASSWORD)})
    check_first_start(gateway, clock, memory, ["connection.json", "hub.env", "token"], 4)


@pytest.mark.skipif(not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl")
def test_a_first_start_over_https_without_memory_provisions_or_says_so(gateway, emulator, clock, memory):
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    emulator.set("*", quotas={"pollsPerTenSeconds": 1000000})
    gateway.identity(provisioning={"Transport": "https", "HttpsPort": emulator.https_port})
    check_first_start(gateway, clock, memory, ["connection.json", "hub.env", "token"], 5)


def check_first_start(gateway, clock, memory, names, start):
    for n in sweep(memory, start):
        empty(gateway.state)
        empty(gateway.run)
        code = run_once(gateway, clock)
        assert code in (0, 1), (n, gateway.log)
        assert not list(gateway.state.glob(".#*")), n
        if code == 0:
            assert_whole(gateway, names, n)
        else:
            assert is_told(gateway.log), (n, gateway.log)
    assert n > 100


def test_a_cached_assignment_survives_a_start_without_memory(gateway, emulator, clock, memory):
    names = configure(gateway, emulator, "symmetric-key")
    assert run_once(gateway, clock) == 0
    before, files = gateway.remembered(), gateway.files()
    for n in sweep(memory, 1):
        empty(gateway.run)
        code = run_once(gateway, clock)
        assert code in (0, 1), (n, gateway.log)
        assert gateway.remembered()["assignedHub"] == before["assignedHub"], n
        assert not list(gateway.state.glob("*.corrupt")), (n, gateway.log)
        if code == 0:
            assert_whole(gateway, names, n)
            assert gateway.files() == files, n
        else:
            assert is_told(gateway.log), (n, gateway.log)
    assert n > 100 and len(emulator.requests("register")) == 1


def is_good_again(gateway, clock):
    """Requests a registration until it succeeds: an earlier failure may have effects for a while."""
    for _ in range(4):
        clock.pass_by(4 * PATIENCE)
        if gateway.dpsctl("reprovision", "gateway", "--wait").code == 0:
            return True
    return False


def test_a_running_daemon_survives_a_shortage_of_memory(gateway, emulator, clock, memory):
    names = configure(gateway, emulator, "symmetric-key")
    gateway.start()
    before = gateway.wait_for(State="assigned", Healthy=True)
    for n in sweep(memory, 1):
        while True:
            clock.pass_by(4 * PATIENCE)  # requests are limited
            result = gateway.dpsctl("reprovision", "gateway", "--wait", "--timeout=3")
            if result.code != 7 or memory.n_failed > 0:
                break  # else it takes longer on a busy machine
        assert gateway.is_running(), (n, gateway.log)
        assert result.code in (0, 1, 7), (n, result)
        assert gateway.remembered()["assignedHub"] == before["AssignedHub"], n
        if result.code != 0:
            memory_was_out = memory.heal()
            assert memory_was_out and is_good_again(gateway, clock), (n, gateway.log)
            memory.words[4] = memory_was_out
    properties = gateway.wait_for(State="assigned", Healthy=True)
    assert n > 50 and properties["AssignedHub"] == before["AssignedHub"]
    assert_whole(gateway, names, n)


@pytest.mark.parametrize("verb", ["status --json=short", "status", "show gateway", "cat-config gateway", "verify-config"])
def test_dpsctl_without_memory_answers_correctly_or_says_so(gateway, emulator, memory, verb):
    configure(gateway, emulator, "symmetric-key")
    gateway.start()
    gateway.wait_for(State="assigned", Healthy=True)
    arguments = verb.split() + ([gateway.configuration / "gateway.conf"] if verb == "verify-config" else [])
    right = gateway.dpsctl(*arguments)
    assert right.code == 0
    for n in sweep(memory, 1):
        result = gateway.dpsctl(*arguments, **memory.environment())
        is_right = result.code == 0 and len(result.out.splitlines()) == len(right.out.splitlines())
        assert is_right or is_told(result.err + result.out), (n, result)
        assert result.code in (0, 1), (n, result)
    assert n > 10


def test_history_without_memory_for_the_mask_of_a_former_hub_says_so(gateway, emulator, memory):
    configure(gateway, emulator, "symmetric-key")
    gateway.start()
    gateway.wait_for(State="assigned", Healthy=True)
    emulator.set("gateway", iotHubs="hub-2.example")
    assert gateway.dpsctl("reprovision", "--wait").code == 0
    arguments = ["history", "--redact", "--json=short"]
    right = gateway.dpsctl(*arguments)
    memory.count()
    gateway.dpsctl(*arguments, **memory.environment())
    for n in range(1, memory.n_calls + 1):  # every one: only one of them is for that mask
        memory.fail(n)
        result = gateway.dpsctl(*arguments, MALLOC_PERTURB_="170", **memory.environment())
        assert result == right or (result.code == 1 and is_told(result.err)), (n, result)
